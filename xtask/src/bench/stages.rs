//! What each stage costs by itself, with the released program as it is: capture into the log while
//! nobody subscribes, and what comes after it from a log that is full already.

use super::Peer;
use super::backlog::{Backlog, arrived, passed};
use super::contender::{Contender, Setup};
use super::lab::Lab;
use super::measure::finish;
use super::processes::Meter;
use super::report::{Metric, Sample};
use super::rowcast::Rowcast;
use anyhow::{Result, bail};

/// The one route there is.
const ROUTE: &str = "shop:copy0";

/// Source to durable log, and no further.
pub(super) async fn capture(lab: &Lab, peers: &[Peer], backlog: Backlog) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for peer in peers {
        backlog.prepare(lab).await;
        let setup = Setup { subscribers: 0, table: backlog.table, ..Setup::ONE };
        let mut contender = Contender::new(*peer, lab, setup).await?;
        contender.copy().await?;
        let end = backlog.write(lab).await;
        lab.settle(&[]).await;
        let meter = Meter::start(lab)?;
        contender.resume().await;
        program(&contender)?.captured(&end).await?;
        let rate = backlog.events as f64 / meter.elapsed().as_secs_f64();
        samples.push(Sample::new(*peer, Metric::EventsPerSecond, rate));
        samples.extend(meter.stop(*peer, backlog.events)?);
        finish(vec![contender]).await?;
    }
    Ok(samples)
}

/// Log to subscriber, of a backlog that was captured while the route was paused. A subscriber that
/// discards takes another entity: everything is read and routed, and nothing applied.
pub(super) async fn replay(
    lab: &Lab,
    peers: &[Peer],
    setup: Setup,
    backlog: Backlog,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for peer in peers {
        backlog.prepare(lab).await;
        let setup = Setup { table: backlog.table, ..setup };
        let mut contender = Contender::new(*peer, lab, setup).await?;
        contender.copy().await?;
        contender.resume().await;
        program(&contender)?.ask_soon(&["pause", ROUTE]).await?;
        let end = backlog.write(lab).await;
        program(&contender)?.captured(&end).await?;
        lab.settle(contender.databases()).await;
        let watch = lab.watch(contender.databases()).await;
        let meter = Meter::start(lab)?;
        program(&contender)?.ask(&["resume", ROUTE]).await?;
        match setup.discards {
            true => passed(lab, &watch).await?,
            false => arrived(lab, &watch).await?,
        }
        let rate = backlog.events as f64 / meter.elapsed().as_secs_f64();
        samples.push(Sample::new(*peer, Metric::EventsPerSecond, rate));
        samples.extend(meter.stop(*peer, backlog.events)?);
        contender.pause().await?;
        if !setup.discards {
            lab.compare(contender.databases()).await?;
        }
        finish(vec![contender]).await?;
    }
    Ok(samples)
}

fn program<'a, 'b>(contender: &'b Contender<'a>) -> Result<&'b Rowcast<'a>> {
    match contender {
        Contender::Rowcast(rowcast) => Ok(rowcast),
        Contender::Native(_) => bail!("the native one has no stages to measure apart"),
    }
}
