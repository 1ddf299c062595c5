//! What is measured, and what we want to see.
//!
//! A new workload is a variant with a line of help, its size, and an arm of [`Workload::run`]; what it
//! does beyond catching up with a backlog lies in a file of its own.

use super::Peer;
use super::backlog::Backlog;
use super::contender::Setup;
use super::lab::Lab;
use super::lanes;
use super::measure::{catch_up, copy, follow, idle, memory};
use super::newcomer;
use super::parked;
use super::report::{Metric, Sample, Target};
use super::stages::{capture, replay};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::time::Duration;

/// A measurement's name on the command line and in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// Catch up a backlog of transactions that insert one row
    Ins1,
    /// Catch up a backlog of transactions that insert 1,000 rows
    Ins1000,
    /// Catch up a backlog of transactions that update one row
    Upd1,
    /// upd1 over 1,000 keys
    #[value(name = "upd1-hot")]
    Upd1Hot,
    /// Catch up a backlog of transactions that delete one row
    Del1,
    /// Catch up inserts, updates and deletes in transactions of 1 to 200 changes
    Mix,
    /// upd1 of rows with two large values that stay as they are
    Wide,
    /// ins1 of rows of which three columns in eight are copied
    Project,
    /// ins1 with commits that are durable at the subscriber
    Ins1Durable,
    /// upd1 with commits that are durable at the subscriber
    Upd1Durable,
    /// Copy what was there before
    Copy,
    /// Commit to visible copy, at 200 transactions a second
    #[value(name = "latency-200")]
    Latency200,
    /// Commit to visible copy, at 1,000 transactions a second
    #[value(name = "latency-1000")]
    Latency1000,
    /// ins1 to 1 subscriber, as many events as for 4
    #[value(name = "fanout-1")]
    Fanout1,
    /// ins1 to 4 subscribers
    #[value(name = "fanout-4")]
    Fanout4,
    /// ins1 to 16 subscribers
    #[value(name = "fanout-16")]
    Fanout16,
    /// ins1 into the event log, without a subscriber
    CaptureIns1,
    /// ins1000 into the event log, without a subscriber
    CaptureIns1000,
    /// upd1 into the event log, without a subscriber
    CaptureUpd1,
    /// ins1 from the event log to a subscriber who takes another entity
    RouteIns1,
    /// ins1000 from the event log to a subscriber who takes another entity
    RouteIns1000,
    /// Updates of one single row from the event log: they merge, and next to nothing is applied
    ProjectUpd1,
    /// ins1 from the event log to a subscriber
    ApplyIns1,
    /// ins1000 from the event log to a subscriber
    ApplyIns1000,
    /// upd1 from the event log to a subscriber
    ApplyUpd1,
    /// ins1 with 1, 2 and 4 lanes
    LanesIns1,
    /// upd1 with 1, 2 and 4 lanes
    LanesUpd1,
    /// upd1 from the event log to a subscriber, with 1, 2 and 4 lanes
    #[value(name = "lanes-apply-upd1")]
    LanesApplyUpd1,
    /// A fourth subscriber comes while three are live at 1,000 transactions a second
    Newcomer,
    /// Memory while one huge transaction passes
    Memory,
    /// Memory and processor time while nothing happens
    Idle,
    /// Catch up a backlog where 1 row in 1,000 does not fit, and the same one where all do
    Parked,
}

/// How much of each.
pub(super) struct Sizes {
    ins1: u64,
    ins1000: u64,
    upd1: u64,
    keys: u64,
    hot_keys: u64,
    del1: u64,
    mix: u64,
    wide: u64,
    wide_keys: u64,
    durable: u64,
    copy: u64,
    fanout_4: u64,
    fanout_16: u64,
    transaction: u64,
    latency: Duration,
    idle: Duration,
    newcomer: newcomer::Size,
}

impl Sizes {
    pub(super) const FULL: Self = Self {
        ins1: 500_000,
        ins1000: 2_000_000,
        upd1: 500_000,
        keys: 100_000,
        hot_keys: 1_000,
        del1: 500_000,
        mix: 500_000,
        wide: 200_000,
        wide_keys: 20_000,
        durable: 500_000,
        copy: 2_000_000,
        fanout_4: 200_000,
        fanout_16: 100_000,
        transaction: 5_000_000,
        latency: Duration::from_secs(10),
        idle: Duration::from_secs(20),
        newcomer: newcomer::Size { rows: 1_000_000, window: Duration::from_secs(10) },
    };
    pub(super) const QUICK: Self = Self {
        ins1: 100_000,
        ins1000: 400_000,
        upd1: 100_000,
        keys: 100_000,
        hot_keys: 1_000,
        del1: 100_000,
        mix: 100_000,
        wide: 40_000,
        wide_keys: 5_000,
        durable: 20_000,
        copy: 400_000,
        fanout_4: 50_000,
        fanout_16: 20_000,
        transaction: 500_000,
        latency: Duration::from_secs(4),
        idle: Duration::from_secs(5),
        newcomer: newcomer::Size { rows: 100_000, window: Duration::from_secs(3) },
    };
}

impl Workload {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it is, in one line.
    pub(super) fn about(self) -> String {
        let value = self.to_possible_value();
        let help = value.and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// What we want: first, and then.
    pub(super) fn target(self, metric: Metric) -> Option<Target> {
        use Metric::{
            CpuMicros, CpuPercent, EventsPerSecond, MebiBytes, OfClean, P50, P99, RowsPerSecond,
        };
        use Target::{AtLeast, AtMost, Ratio};
        Some(match (self, metric) {
            (Self::Ins1, EventsPerSecond) => Ratio(1.1, 1.5),
            (Self::Ins1000, EventsPerSecond) => Ratio(0.9, 1.25),
            (Self::Upd1, EventsPerSecond) => Ratio(1.5, 3.0),
            (Self::Ins1Durable | Self::Upd1Durable, EventsPerSecond) => Ratio(10.0, 20.0),
            (Self::Copy, RowsPerSecond) => Ratio(0.8, 1.3),
            (Self::Fanout4, EventsPerSecond) => Ratio(1.5, 2.5),
            (Self::Fanout16, EventsPerSecond) => Ratio(2.0, 5.0),
            (Self::Latency1000, P50) => AtMost(2.0, 0.8),
            (Self::Latency1000, P99) => AtMost(8.0, 2.5),
            (Self::CaptureIns1, EventsPerSecond) => AtLeast(120_000.0, 160_000.0),
            (Self::CaptureIns1000, EventsPerSecond) => AtLeast(200_000.0, 240_000.0),
            (Self::Ins1 | Self::Ins1000 | Self::Upd1, CpuMicros) => AtMost(2.5, 1.2),
            (Self::Newcomer, metric) if metric.counts_more() => AtMost(0.0, 0.0),
            (Self::Parked, OfClean) => AtLeast(0.5, 0.8),
            (Self::Idle, MebiBytes) => AtMost(64.0, 24.0),
            (Self::Idle, CpuPercent) => AtMost(1.0, 0.2),
            (_, MebiBytes) => AtMost(256.0, 128.0),
            _ => return None,
        })
    }

    /// Measures it once for each peer, in this order. What compares Rowcast with itself goes by the
    /// `turn`: nobody is always the first.
    pub(super) async fn run(
        self,
        lab: &Lab,
        sizes: &Sizes,
        peers: &[Peer],
        turn: u32,
    ) -> Result<Vec<Sample>> {
        let durable = Setup { durable: true, ..Setup::ONE };
        let discards = Setup { discards: true, ..Setup::ONE };
        let many = |subscribers| Setup { subscribers, ..Setup::ONE };
        let ours: Vec<Peer> = peers.iter().copied().filter(|p| *p == Peer::Rowcast).collect();
        lab.fresh().await?;
        let backlog = || self.backlog(sizes);
        match self {
            Self::Copy => copy(lab, peers, sizes.copy).await,
            Self::Latency200 => follow(lab, peers, 200, sizes.latency).await,
            Self::Latency1000 => follow(lab, peers, 1_000, sizes.latency).await,
            Self::Newcomer => newcomer::run(lab, peers, &sizes.newcomer).await,
            Self::Memory => memory(lab, peers, sizes.transaction).await,
            Self::Idle => idle(lab, &ours, sizes.idle).await,
            Self::Parked => parked::measure(lab, &ours, 2 * sizes.ins1, turn).await,
            Self::LanesIns1 | Self::LanesUpd1 | Self::LanesApplyUpd1 => {
                let from_log = self == Self::LanesApplyUpd1;
                lanes::compare(lab, &ours, turn, from_log, backlog).await
            }
            Self::CaptureIns1 | Self::CaptureIns1000 | Self::CaptureUpd1 => {
                capture(lab, &ours, backlog()?).await
            }
            Self::RouteIns1 | Self::RouteIns1000 => replay(lab, &ours, discards, backlog()?).await,
            Self::ProjectUpd1 | Self::ApplyIns1 | Self::ApplyIns1000 | Self::ApplyUpd1 => {
                replay(lab, &ours, Setup::ONE, backlog()?).await
            }
            Self::Ins1Durable | Self::Upd1Durable => {
                catch_up(lab, peers, durable, backlog()?).await
            }
            Self::Fanout4 => catch_up(lab, peers, many(4), backlog()?).await,
            Self::Fanout16 => catch_up(lab, peers, many(16), backlog()?).await,
            Self::Ins1
            | Self::Ins1000
            | Self::Upd1
            | Self::Upd1Hot
            | Self::Del1
            | Self::Mix
            | Self::Wide
            | Self::Project
            | Self::Fanout1 => catch_up(lab, peers, Setup::ONE, backlog()?).await,
        }
    }

    /// What waits at the source when the measurement begins.
    fn backlog(self, sizes: &Sizes) -> Result<Backlog> {
        Ok(match self {
            Self::Ins1
            | Self::CaptureIns1
            | Self::RouteIns1
            | Self::ApplyIns1
            | Self::LanesIns1 => Backlog::ins1(sizes.ins1),
            Self::Ins1000 | Self::CaptureIns1000 | Self::RouteIns1000 | Self::ApplyIns1000 => {
                Backlog::ins1000(sizes.ins1000)
            }
            Self::Upd1
            | Self::CaptureUpd1
            | Self::ApplyUpd1
            | Self::LanesUpd1
            | Self::LanesApplyUpd1 => Backlog::upd1(sizes.upd1, sizes.keys),
            Self::ProjectUpd1 => Backlog::upd1(sizes.upd1, 1),
            Self::Upd1Hot => Backlog::upd1(sizes.upd1, sizes.hot_keys),
            Self::Del1 => Backlog::del1(sizes.del1),
            Self::Mix => Backlog::mix(sizes.mix, sizes.keys),
            Self::Wide => Backlog::wide(sizes.wide, sizes.wide_keys),
            Self::Project => Backlog::project(sizes.ins1),
            Self::Ins1Durable => Backlog::ins1(sizes.durable),
            Self::Upd1Durable => Backlog::upd1(sizes.durable, sizes.keys),
            Self::Fanout1 | Self::Fanout4 => Backlog::ins1(sizes.fanout_4),
            Self::Fanout16 => Backlog::ins1(sizes.fanout_16),
            Self::Copy
            | Self::Latency200
            | Self::Latency1000
            | Self::Newcomer
            | Self::Memory
            | Self::Idle
            | Self::Parked => bail!("{} has no backlog", self.name()),
        })
    }
}
