//! What every supervised loop shares: run, look at the error's remedy, wait, run again.

use crate::backoff::Backoff;
use crate::trouble::{Trouble, TroubleReport, heals};
use rowcast_core::{Diagnose, Remedy};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often something that waits for a person looks whether the person has acted.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a supervised loop is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Connecting for the first time, or again after an error.
    #[default]
    Starting,
    /// At work.
    Running,
    /// Waiting after an outage.
    Retrying,
    /// Waiting for a person.
    Paused,
}

/// The part of a loop's state that supervision owns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    pub(crate) phase: Phase,
    pub(crate) trouble: Option<TroubleReport>,
    pub(crate) tally: Tally,
}

/// What went wrong since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Errors, each try counted.
    pub(crate) errors: u64,
    /// Times that it went on after an error.
    pub(crate) reconnects: u64,
}

/// State that carries a condition.
pub(crate) trait HasCondition {
    fn condition(&mut self) -> &mut Condition;
}

/// Marks a loop as at work; says so once when it was in trouble before.
pub(crate) fn at_work<S: HasCondition>(
    name: &str,
    state: &watch::Sender<S>,
    backoff: &mut Backoff,
) {
    backoff.reset();
    state.send_if_modified(|s| {
        let condition = s.condition();
        if condition.phase == Phase::Running {
            return false;
        }
        let mut tally = condition.tally;
        if condition.trouble.is_some() {
            tally.reconnects += 1;
            tracing::info!("{name}: goes on");
        } else {
            tracing::debug!("{name}: at work");
        }
        *condition = Condition { phase: Phase::Running, trouble: None, tally };
        true
    });
}

/// Whether a loop told of trouble that is not known to be over.
pub(crate) fn in_trouble<S: HasCondition>(state: &watch::Sender<S>) -> bool {
    let mut trouble = false;
    state.send_if_modified(|s| {
        trouble = s.condition().trouble.is_some();
        false
    });
    trouble
}

/// What a loop does after an error.
pub(crate) enum Next {
    Again,
    Stop,
    Bug(Trouble),
}

/// Shows an error, waits as its remedy says, and tells whether to go on.
pub(crate) async fn after_error<S: HasCondition>(
    name: &str,
    trouble: Trouble,
    state: &watch::Sender<S>,
    backoff: &mut Backoff,
    stop: &CancellationToken,
) -> Next {
    let report = TroubleReport::of(&trouble);
    let (phase, wait) = match trouble.remedy() {
        Remedy::Retry => (Phase::Retrying, Some(backoff.next(&mut rand::rng()))),
        Remedy::Operator(code) | Remedy::Park(code) => {
            (Phase::Paused, heals(code).then_some(LOOK_AGAIN))
        }
        Remedy::Bug => return Next::Bug(trouble),
    };
    if replace(state, phase, &report) {
        announce(name, phase, &report);
    }
    tracing::debug!("{name}: {}; looks again in {wait:?}", report.line());
    let pause = async {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    };
    match stop.run_until_cancelled(pause).await {
        Some(()) => Next::Again,
        None => Next::Stop,
    }
}

fn announce(name: &str, phase: Phase, report: &TroubleReport) {
    let code = report.code.map(|c| format!(" [{c}]")).unwrap_or_default();
    let help =
        if report.help.is_empty() { String::new() } else { format!("\n  help: {}", report.help) };
    if phase == Phase::Retrying {
        tracing::warn!("{name}: {}; trying again until it works{help}", report.line());
    } else {
        tracing::error!("{name}: paused{code}: {}{help}", report.line());
    }
}

/// Replaces a condition; tells whether it says something that was not said before.
fn replace<S: HasCondition>(
    state: &watch::Sender<S>,
    phase: Phase,
    report: &TroubleReport,
) -> bool {
    let mut news = false;
    state.send_modify(|s| {
        let old = s.condition();
        let tally = Tally { errors: old.tally.errors + 1, ..old.tally };
        news = old.phase != phase || old.trouble.as_ref() != Some(report);
        *old = Condition { phase, trouble: Some(report.clone()), tally };
    });
    news
}
