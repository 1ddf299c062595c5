//! One backlog by one lane, by two and by four: what it gains a route to give up whole transactions.

use super::Peer;
use super::backlog::Backlog;
use super::contender::Setup;
use super::lab::Lab;
use super::measure::catch_up;
use super::report::{Metric, Sample};
use super::stages::replay;
use anyhow::{Context, Result};

/// How many lanes, and what their rate over one lane's and their cost are called.
const WAYS: [(u16, Metric, Metric); 3] = [
    (1, Metric::EventsPerSecond, Metric::OneLaneMicros),
    (2, Metric::TwoLanes, Metric::TwoLanesMicros),
    (4, Metric::FourLanes, Metric::FourLanesMicros),
];

/// Catches up once with each number of lanes, with another one first in every turn; from the source
/// on or, `from_log`, of what the event log holds already.
pub(super) async fn compare(
    lab: &Lab,
    peers: &[Peer],
    turn: u32,
    from_log: bool,
    backlog: impl Fn() -> Result<Backlog>,
) -> Result<Vec<Sample>> {
    if !peers.contains(&Peer::Rowcast) {
        return Ok(Vec::new());
    }
    let mut ways = WAYS;
    ways.rotate_left(turn as usize % WAYS.len());
    let mut rates = Vec::new();
    let mut samples = Vec::new();
    for (lanes, shown_as, cost) in ways {
        lab.fresh().await?;
        let setup = Setup { lanes, ..Setup::ONE };
        let measured = match from_log {
            true => replay(lab, &[Peer::Rowcast], setup, backlog()?).await?,
            false => catch_up(lab, &[Peer::Rowcast], setup, backlog()?).await?,
        };
        let figure = |metric| {
            let sample = measured.iter().find(|sample| sample.metric == metric);
            sample.map(|sample| sample.value).context("a catch-up has a rate and a cost")
        };
        let rate = figure(Metric::EventsPerSecond)?;
        eprintln!("    {lanes} lanes: {rate:.0} events/s");
        rates.push((lanes, shown_as, rate));
        samples.push(Sample::new(Peer::Rowcast, cost, figure(Metric::AllMicros)?));
    }
    let one = rates.iter().find(|(lanes, ..)| *lanes == 1).context("one lane was measured")?.2;
    samples.extend(rates.into_iter().map(|(lanes, shown_as, rate)| {
        let shown = if lanes == 1 { rate } else { rate / one };
        Sample::new(Peer::Rowcast, shown_as, shown)
    }));
    Ok(samples)
}
