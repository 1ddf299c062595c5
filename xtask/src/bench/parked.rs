//! A backlog of rows that fit, and the same one where 1 in 1,000 does not: what parking costs, and
//! that everything arrives once the cause is gone.

use super::Peer;
use super::backlog::{Backlog, arrived};
use super::contender::Setup;
use super::lab::{Lab, SOURCE};
use super::processes::Meter;
use super::report::{Metric, Sample};
use super::rowcast::Rowcast;
use anyhow::{Result, ensure};

/// The rule that some rows break.
const RULE: &str = "ALTER TABLE customers ADD CONSTRAINT positive CHECK (credit_limit >= 0)";
const NO_RULE: &str = "ALTER TABLE customers DROP CONSTRAINT positive";
/// Rows that fit, at the source and at the copy.
const FITTING: &str = "SELECT count(*), sum(hashtextextended(customers::text, 0)) FROM customers \
                       WHERE credit_limit >= 0 OR credit_limit IS NULL";
/// Keys that the bad rows belong to, whatever the size of the backlog.
pub(super) const BAD_KEYS: u64 = 50;

/// Catches up with the backlog twice, once with a rule at the copy that its bad rows break; that goes
/// first in every other turn.
pub(super) async fn measure(
    lab: &Lab,
    peers: &[Peer],
    events: u64,
    turn: u32,
) -> Result<Vec<Sample>> {
    if !peers.contains(&Peer::Rowcast) {
        return Ok(Vec::new());
    }
    let rule_first = turn % 2 == 1;
    let first = catch_up(lab, events, rule_first).await?;
    lab.fresh().await?;
    let second = catch_up(lab, events, !rule_first).await?;
    let ((clean, _), (parked, mut samples)) =
        if rule_first { (second, first) } else { (first, second) };
    eprintln!("    without bad rows {clean:.0}, with them {parked:.0} events/s");
    samples.push(Sample::new(Peer::Rowcast, Metric::EventsPerSecond, parked));
    samples.push(Sample::new(Peer::Rowcast, Metric::OfClean, parked / clean));
    Ok(samples)
}

async fn catch_up(lab: &Lab, events: u64, rule: bool) -> Result<(f64, Vec<Sample>)> {
    let backlog = Backlog::scattered(events, BAD_KEYS);
    let databases = vec!["bench_parked_0".to_owned()];
    lab.subscriber(&databases[0], backlog.table).await;
    if rule {
        lab.target.sql(&databases[0], RULE).await;
    }
    let mut rowcast = Rowcast::new(lab, databases.clone(), Setup::ONE);
    rowcast.copy().await?;
    backlog.write(lab).await;
    lab.settle(&databases).await;
    let watch = lab.watch(&databases).await;
    let meter = Meter::start(lab)?;
    rowcast.resume();
    arrived(lab, &watch).await?;
    let rate = events as f64 / meter.elapsed().as_secs_f64();
    let samples = meter.stop(Peer::Rowcast, events)?;
    if rule {
        let expected = lab.source.sql(SOURCE, FITTING).await;
        let copied = lab.target.sql(&databases[0], FITTING).await;
        ensure!(copied == expected, "{copied:?} fitting rows instead of {expected:?}");
        let parked = lab.target.sql(&databases[0], "SELECT count(*) FROM rowcast.parked").await;
        let parked = parked[0][0].clone().unwrap_or_default();
        ensure!(parked == BAD_KEYS.to_string(), "{parked} keys are parked");
        lab.target.sql(&databases[0], NO_RULE).await;
        rowcast.retry_parked().await?;
    }
    lab.compare(&databases).await?;
    rowcast.pause().await?;
    Ok((rate, samples))
}
