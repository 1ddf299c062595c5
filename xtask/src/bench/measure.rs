//! How each kind of workload is measured.

use super::Peer;
use super::backlog::{Backlog, arrived, arrived_at, fill, mark};
use super::contender::{Contender, Setup};
use super::lab::{Lab, SOURCE};
use super::latency;
use super::processes::Meter;
use super::report::{Metric, Sample};
use anyhow::{Context, Result};
use std::time::Duration;

/// All contenders, with a copy of what is there, paused.
pub(super) async fn ready<'a>(
    lab: &'a Lab,
    peers: &[Peer],
    setup: Setup,
) -> Result<Vec<Contender<'a>>> {
    let mut contenders = Vec::new();
    for peer in peers {
        let mut contender = Contender::new(*peer, lab, setup).await?;
        contender.copy().await?;
        contenders.push(contender);
    }
    Ok(contenders)
}

/// One backlog, written while everybody is paused; then each in turn catches up with it.
pub(super) async fn catch_up(
    lab: &Lab,
    peers: &[Peer],
    setup: Setup,
    backlog: Backlog,
) -> Result<Vec<Sample>> {
    backlog.prepare(lab).await;
    let mut contenders = ready(lab, peers, Setup { table: backlog.table, ..setup }).await?;
    if setup.durable {
        contenders = durable_ones(lab, contenders).await?;
    }
    backlog.write(lab).await;
    let mut samples = Vec::new();
    for contender in &mut contenders {
        let peer = contender.peer();
        lab.settle(contender.databases()).await;
        let watch = lab.watch(contender.databases()).await;
        let meter = Meter::start(lab)?;
        contender.resume().await;
        arrived(lab, &watch).await?;
        let rate = backlog.events as f64 / meter.elapsed().as_secs_f64();
        samples.push(Sample::new(peer, Metric::EventsPerSecond, rate));
        samples.extend(meter.stop(peer, backlog.events)?);
        contender.pause().await?;
        lab.compare(contender.databases()).await?;
    }
    finish(contenders).await?;
    Ok(samples)
}

/// Those of them whose commits wait for the disk. The others would not do the same work.
async fn durable_ones<'a>(lab: &Lab, contenders: Vec<Contender<'a>>) -> Result<Vec<Contender<'a>>> {
    let mut durable = Vec::new();
    for mut contender in contenders {
        if is_durable(lab, &mut contender).await? {
            durable.push(contender);
        } else {
            let name = contender.peer().name();
            eprintln!("    ({name} does not wait for the disk when it commits: left out)");
            contender.end().await?;
        }
    }
    Ok(durable)
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

pub(super) async fn copy(lab: &Lab, peers: &[Peer], rows: u64) -> Result<Vec<Sample>> {
    fill(&lab.source.session(SOURCE).await, rows).await;
    let mut contenders = Vec::new();
    let mut samples = Vec::new();
    for peer in peers {
        let mut contender = Contender::new(*peer, lab, Setup::ONE).await?;
        lab.settle(contender.databases()).await;
        let meter = Meter::start(lab)?;
        contender.copy().await?;
        let rate = rows as f64 / meter.elapsed().as_secs_f64();
        samples.push(Sample::new(*peer, Metric::RowsPerSecond, rate));
        samples.extend(meter.stop(*peer, rows)?);
        lab.compare(contender.databases()).await?;
        contenders.push(contender);
    }
    finish(contenders).await?;
    Ok(samples)
}

pub(super) async fn follow(
    lab: &Lab,
    peers: &[Peer],
    rate: u32,
    time: Duration,
) -> Result<Vec<Sample>> {
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
        let meter = Meter::start(lab)?;
        let times = latency::measure(lab, &database, key, rate, time)?;
        samples.extend(meter.stop(peer, times.written.unsigned_abs())?);
        key += times.written;
        samples.push(Sample::new(peer, Metric::P50, times.percentile(0.5)));
        samples.push(Sample::new(peer, Metric::P99, times.percentile(0.99)));
        samples.push(Sample::new(peer, Metric::P999, times.percentile(0.999)));
        contender.pause().await?;
    }
    finish(contenders).await?;
    Ok(samples)
}

pub(super) async fn memory(lab: &Lab, peers: &[Peer], rows: u64) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for peer in peers {
        // Nobody shall have the other one's transaction before them.
        lab.fresh().await?;
        let mut contenders = ready(lab, &[*peer], Setup::ONE).await?;
        let contender = &mut contenders[0];
        let watch = lab.watch(contender.databases()).await;
        let meter = Meter::start(lab)?;
        contender.resume().await;
        let source = lab.source.session(SOURCE).await;
        fill(&source, rows).await;
        let began = meter.elapsed();
        source.sql(&mark(-1)).await;
        arrived(lab, &watch).await?;
        let rate = rows as f64 / (meter.elapsed() - began).as_secs_f64();
        samples.push(Sample::new(*peer, Metric::RowsPerSecond, rate));
        samples.extend(meter.stop(*peer, rows)?);
        contender.pause().await?;
        lab.compare(contender.databases()).await?;
        drop((watch, source));
        finish(contenders).await?;
    }
    Ok(samples)
}

pub(super) async fn idle(lab: &Lab, peers: &[Peer], time: Duration) -> Result<Vec<Sample>> {
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

pub(super) async fn finish(contenders: Vec<Contender<'_>>) -> Result<()> {
    for contender in contenders {
        contender.end().await?;
    }
    Ok(())
}
