//! What is measured, and what we want to see.

use super::Peer;
use super::backlog::{Backlog, arrived, arrived_at, fill, mark};
use super::contender::{Contender, Setup};
use super::lab::{Lab, SOURCE};
use super::latency;
use super::parked;
use super::report::{Metric, Sample, Target};
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::time::{Duration, Instant};

/// A measurement's name on the command line and in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// Catch up a backlog of transactions that insert one row
    Ins1,
    /// Catch up a backlog of transactions that insert 1,000 rows
    Ins1000,
    /// Catch up a backlog of transactions that update one row
    Upd1,
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
    durable: u64,
    copy: u64,
    fanout_4: u64,
    fanout_16: u64,
    transaction: u64,
    latency: Duration,
    idle: Duration,
}

impl Sizes {
    pub(super) const FULL: Self = Self {
        ins1: 500_000,
        ins1000: 2_000_000,
        upd1: 500_000,
        keys: 100_000,
        durable: 200_000,
        copy: 2_000_000,
        fanout_4: 200_000,
        fanout_16: 100_000,
        transaction: 5_000_000,
        latency: Duration::from_secs(10),
        idle: Duration::from_secs(20),
    };
    pub(super) const QUICK: Self = Self {
        ins1: 100_000,
        ins1000: 400_000,
        upd1: 100_000,
        keys: 100_000,
        durable: 20_000,
        copy: 400_000,
        fanout_4: 50_000,
        fanout_16: 20_000,
        transaction: 500_000,
        latency: Duration::from_secs(4),
        idle: Duration::from_secs(5),
    };
}

impl Workload {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What we want: first, and then.
    pub(super) fn target(self, metric: Metric) -> Option<Target> {
        use Metric::{CpuPercent, EventsPerSecond, MebiBytes, OfClean, P50, P99, RowsPerSecond};
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
            (Self::Parked, OfClean) => AtLeast(0.5, 0.8),
            (Self::Idle, MebiBytes) => AtMost(64.0, 24.0),
            (Self::Idle, CpuPercent) => AtMost(1.0, 0.2),
            (_, MebiBytes) => AtMost(256.0, 128.0),
            _ => return None,
        })
    }

    /// Measures it once for each peer, in this order.
    pub(super) async fn run(self, lab: &Lab, sizes: &Sizes, peers: &[Peer]) -> Result<Vec<Sample>> {
        let upd1 = |events| Backlog::Upd1 { events, keys: sizes.keys };
        let durable = Setup { durable: true, ..Setup::ONE };
        let many = |subscribers| Setup { subscribers, ..Setup::ONE };
        let ours: Vec<Peer> = peers.iter().copied().filter(|p| *p == Peer::Rowcast).collect();
        lab.fresh().await?;
        match self {
            Self::Ins1 => catch_up(lab, peers, Setup::ONE, Backlog::Ins1(sizes.ins1)).await,
            Self::Ins1000 => {
                catch_up(lab, peers, Setup::ONE, Backlog::Ins1000(sizes.ins1000)).await
            }
            Self::Upd1 => catch_up(lab, peers, Setup::ONE, upd1(sizes.upd1)).await,
            Self::Ins1Durable => catch_up(lab, peers, durable, Backlog::Ins1(sizes.durable)).await,
            Self::Upd1Durable => catch_up(lab, peers, durable, upd1(sizes.durable)).await,
            Self::Copy => copy(lab, peers, sizes.copy).await,
            Self::Latency200 => follow(lab, peers, 200, sizes.latency).await,
            Self::Latency1000 => follow(lab, peers, 1_000, sizes.latency).await,
            Self::Fanout4 => catch_up(lab, peers, many(4), Backlog::Ins1(sizes.fanout_4)).await,
            Self::Fanout16 => catch_up(lab, peers, many(16), Backlog::Ins1(sizes.fanout_16)).await,
            Self::CaptureIns1 => capture(lab, &ours, Backlog::Ins1(sizes.ins1)).await,
            Self::CaptureIns1000 => capture(lab, &ours, Backlog::Ins1000(sizes.ins1000)).await,
            Self::Memory => memory(lab, &ours, sizes.transaction).await,
            Self::Idle => idle(lab, &ours, sizes.idle).await,
            Self::Parked => parked::measure(lab, &ours, 2 * sizes.ins1).await,
        }
    }
}

/// All contenders, with a copy of what is there, paused.
async fn ready<'a>(lab: &'a Lab, peers: &[Peer], setup: Setup) -> Result<Vec<Contender<'a>>> {
    let mut contenders = Vec::new();
    for peer in peers {
        let mut contender = Contender::new(*peer, lab, setup).await?;
        contender.copy().await?;
        contenders.push(contender);
    }
    Ok(contenders)
}

/// One backlog, written while everybody is paused; then each in turn catches up with it.
async fn catch_up(
    lab: &Lab,
    peers: &[Peer],
    setup: Setup,
    backlog: Backlog,
) -> Result<Vec<Sample>> {
    fill(&lab.source.session(SOURCE).await, backlog.rows_before()).await;
    let mut contenders = ready(lab, peers, setup).await?;
    if setup.durable {
        for mut contender in std::mem::take(&mut contenders) {
            if is_durable(lab, &mut contender).await? {
                contenders.push(contender);
            } else {
                let name = contender.peer().name();
                eprintln!("    ({name} does not wait for the disk when it commits: left out)");
                contender.end().await?;
            }
        }
    }
    backlog.write(lab).await;
    let mut samples = Vec::new();
    for contender in &mut contenders {
        let peer = contender.peer();
        lab.settle(contender.databases()).await;
        let watch = lab.watch(contender.databases()).await;
        let began = Instant::now();
        contender.resume().await;
        arrived(lab, &watch).await?;
        let rate = backlog.events() as f64 / began.elapsed().as_secs_f64();
        samples.push(Sample::new(peer, Metric::EventsPerSecond, rate));
        if let Some(usage) = contender.usage()? {
            let micros = usage.cpu.as_secs_f64() * 1e6 / backlog.events() as f64;
            samples.push(Sample::new(peer, Metric::CpuMicros, micros));
            samples.push(Sample::new(peer, Metric::MebiBytes, usage.peak));
        }
        contender.pause().await?;
        lab.compare(contender.databases()).await?;
    }
    finish(contenders).await?;
    Ok(samples)
}

/// Lets rows pass while the target waits for a standby that does not exist: a commit that is to be
/// durable waits with it, any other shows.
async fn is_durable(lab: &Lab, contender: &mut Contender<'_>) -> Result<bool> {
    const WAITS: &str = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    /// The first of them may still meet a process that has not read the setting.
    const PROBES: i64 = 20;
    let peer = contender.peer();
    contender.resume().await;
    lab.target.set("synchronous_standby_names", "nobody").await;
    let watch = lab.watch(contender.databases()).await;
    let mut key = -2 - PROBES * peer as i64;
    let last = key - PROBES;
    let mut durable = false;
    while !durable && key > last {
        key -= 1;
        lab.source.sql(SOURCE, &mark(key)).await;
        let shown = format!("SELECT FROM customers WHERE id = {key}");
        lab.until("a commit waits, or shows", async || {
            durable = !watch[0].try_sql(WAITS).await?.is_empty();
            Ok(durable || !watch[0].try_sql(&shown).await?.is_empty())
        })
        .await?;
    }
    lab.target.set("synchronous_standby_names", "").await;
    arrived_at(lab, &watch, key).await?;
    contender.pause().await?;
    Ok(durable)
}

async fn copy(lab: &Lab, peers: &[Peer], rows: u64) -> Result<Vec<Sample>> {
    fill(&lab.source.session(SOURCE).await, rows).await;
    let mut contenders = Vec::new();
    let mut samples = Vec::new();
    for peer in peers {
        let mut contender = Contender::new(*peer, lab, Setup::ONE).await?;
        lab.settle(contender.databases()).await;
        let began = Instant::now();
        contender.copy().await?;
        let rate = rows as f64 / began.elapsed().as_secs_f64();
        samples.push(Sample::new(*peer, Metric::RowsPerSecond, rate));
        lab.compare(contender.databases()).await?;
        contenders.push(contender);
    }
    finish(contenders).await?;
    Ok(samples)
}

async fn follow(lab: &Lab, peers: &[Peer], rate: u32, time: Duration) -> Result<Vec<Sample>> {
    let mut contenders = ready(lab, peers, Setup::ONE).await?;
    let mut samples = Vec::new();
    let mut key = 1;
    for contender in &mut contenders {
        let peer = contender.peer();
        let database = contender.databases()[0].clone();
        lab.settle(contender.databases()).await;
        contender.resume().await;
        // The other one's traffic arrives before the measured one begins.
        let watch = lab.watch(contender.databases()).await;
        lab.source.sql(SOURCE, &mark(-key)).await;
        arrived_at(lab, &watch, -key).await?;
        let times = latency::measure(lab, &database, key, rate, time)?;
        key += times.written;
        samples.push(Sample::new(peer, Metric::P50, times.percentile(0.5)));
        samples.push(Sample::new(peer, Metric::P99, times.percentile(0.99)));
        samples.push(Sample::new(peer, Metric::P999, times.percentile(0.999)));
        contender.pause().await?;
    }
    finish(contenders).await?;
    Ok(samples)
}

async fn capture(lab: &Lab, peers: &[Peer], backlog: Backlog) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for peer in peers {
        let setup = Setup { subscribers: 0, durable: false };
        let mut contender = Contender::new(*peer, lab, setup).await?;
        contender.copy().await?;
        let end = backlog.write(lab).await;
        lab.settle(&[]).await;
        let began = Instant::now();
        contender.resume().await;
        if let Contender::Rowcast(rowcast) = &contender {
            rowcast.captured(&end).await?;
        }
        let rate = backlog.events() as f64 / began.elapsed().as_secs_f64();
        samples.push(Sample::new(*peer, Metric::EventsPerSecond, rate));
        let usage = contender.usage()?.context("rowcast runs")?;
        let micros = usage.cpu.as_secs_f64() * 1e6 / backlog.events() as f64;
        samples.push(Sample::new(*peer, Metric::CpuMicros, micros));
        contender.end().await?;
    }
    Ok(samples)
}

async fn memory(lab: &Lab, peers: &[Peer], rows: u64) -> Result<Vec<Sample>> {
    let mut contenders = ready(lab, peers, Setup::ONE).await?;
    let mut samples = Vec::new();
    for contender in &mut contenders {
        let watch = lab.watch(contender.databases()).await;
        contender.resume().await;
        let source = lab.source.session(SOURCE).await;
        fill(&source, rows).await;
        let began = Instant::now();
        source.sql(&mark(-1)).await;
        arrived(lab, &watch).await?;
        let rate = rows as f64 / began.elapsed().as_secs_f64();
        let usage = contender.usage()?.context("rowcast runs")?;
        samples.push(Sample::new(contender.peer(), Metric::RowsPerSecond, rate));
        samples.push(Sample::new(contender.peer(), Metric::MebiBytes, usage.peak));
        contender.pause().await?;
        lab.compare(contender.databases()).await?;
    }
    finish(contenders).await?;
    Ok(samples)
}

async fn idle(lab: &Lab, peers: &[Peer], time: Duration) -> Result<Vec<Sample>> {
    let mut contenders = ready(lab, peers, Setup::ONE).await?;
    let mut samples = Vec::new();
    for contender in &mut contenders {
        let watch = lab.watch(contender.databases()).await;
        contender.resume().await;
        lab.source.sql(SOURCE, &mark(-1)).await;
        arrived(lab, &watch).await?;
        tokio::time::sleep(time / 4).await;
        let before = contender.usage()?.context("rowcast runs")?;
        tokio::time::sleep(time).await;
        let after = contender.usage()?.context("rowcast runs")?;
        let share = (after.cpu - before.cpu).as_secs_f64() / time.as_secs_f64() * 100.0;
        samples.push(Sample::new(contender.peer(), Metric::CpuPercent, share));
        samples.push(Sample::new(contender.peer(), Metric::MebiBytes, after.resident));
    }
    finish(contenders).await?;
    Ok(samples)
}

async fn finish(contenders: Vec<Contender<'_>>) -> Result<()> {
    for contender in contenders {
        contender.end().await?;
    }
    Ok(())
}
