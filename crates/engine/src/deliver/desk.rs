//! Where people and a route meet over parked keys: what is parked can be read at any time, what is to
//! be done about it is done by the route itself, between two chunks.

use super::shelf::Shelf;
use rowcast_core::{Parked, PendingOp, RouteId};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio::time::Instant;

/// Requests that may wait for a route.
const REQUESTS_MAX: usize = 16;
/// Longest to wait for a route that is not at work.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Which parked keys are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkWhich {
    /// Of this table only.
    pub table: Option<String>,
    /// With this key only, written as `list` shows it.
    pub key: Option<String>,
}

impl ParkWhich {
    pub(crate) fn takes(&self, parked: &Parked) -> bool {
        self.table.as_ref().is_none_or(|t| *t == parked.table)
            && self.key.as_ref().is_none_or(|k| *k == parked.shown)
    }

    pub(crate) fn takes_all(&self) -> bool {
        self.table.is_none() && self.key.is_none()
    }
}

/// A parked key as it is shown. Its values are for the people who may read the target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParkedEntry {
    /// The route, `FROM:TO`.
    pub route: String,
    /// The subscription's table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The code of the error's page.
    pub code: String,
    /// Which rule the row breaks.
    pub message: String,
    /// When it was parked, in milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// The first event that did not fit.
    pub first: u64,
    /// The newest one that is merged into it.
    pub last: u64,
    /// How many events are.
    pub events: u64,
    /// What is left to do: `write`, `change`, `move` or `delete`.
    pub pending: &'static str,
    /// The database's own words; only where one key is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// The pending row, field by field; only where one key is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Vec<(String, Option<String>)>>,
}

impl ParkedEntry {
    pub(crate) fn new(route: &RouteId, parked: &Parked, with_row: bool) -> Self {
        Self {
            route: route.to_string(),
            table: parked.table.clone(),
            key: parked.shown.clone(),
            code: parked.code.clone(),
            message: parked.message.clone(),
            since_ms: parked.since / 1000,
            first: parked.first.0,
            last: parked.last.0,
            events: parked.events,
            pending: match parked.pending.op {
                PendingOp::Whole => "write",
                PendingOp::Patch => "change",
                PendingOp::Rekey => "move",
                PendingOp::Delete => "delete",
            },
            words: with_row.then(|| parked.words.clone()),
            row: with_row.then(|| parked.pending.shown()),
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ParkOutcome {
    /// Keys that fit now.
    pub healed: u64,
    /// Keys that were tried and still do not fit.
    pub parked: u64,
    /// Keys that the route tries next, because there are many.
    pub later: u64,
    /// Keys whose pending rows were given up.
    pub dropped: u64,
}

impl ParkOutcome {
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            healed: self.healed + other.healed,
            parked: self.parked + other.parked,
            later: self.later + other.later,
            dropped: self.dropped + other.dropped,
        }
    }
}

/// Why a request about parked keys was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParkError {
    /// No such route.
    #[error("there is no route {0}")]
    NoRoute(RouteId),
    /// Nothing like that is parked.
    #[error("nothing like that is parked on {0}")]
    NoKey(RouteId),
    /// The route has not been at its target since the start.
    #[error("what is parked on {0} is not known yet; `rowcast status` says what it waits for")]
    Unknown(RouteId),
    /// The route does not work at the moment.
    #[error("{0} is not at work, so nothing was done; `rowcast status` says why it waits")]
    NotAtWork(RouteId),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Retry,
    Drop,
}

/// A request to a route.
pub(super) struct Ask {
    pub(super) job: Job,
    pub(super) which: ParkWhich,
    pub(super) reply: oneshot::Sender<ParkOutcome>,
}

/// One route's parked keys, and the requests about them.
pub(crate) struct Desk {
    shelf: Shelf,
    ask: mpsc::Sender<Ask>,
    asked: Mutex<mpsc::Receiver<Ask>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (ask, asked) = mpsc::channel(REQUESTS_MAX);
        Self { shelf: Shelf::default(), ask, asked: Mutex::new(asked) }
    }
}

impl Desk {
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    pub(super) fn load(&self, all: Vec<Parked>) {
        self.shelf.lock().load(all, Instant::now());
    }

    /// The requests; for the route's task.
    pub(super) async fn open(&self) -> MutexGuard<'_, mpsc::Receiver<Ask>> {
        self.asked.lock().await
    }

    /// Asks the route to do something about parked keys, and waits for it. Cancel safe: a request
    /// nobody waits for is not begun.
    pub(crate) async fn ask(
        &self,
        route: &RouteId,
        job: Job,
        which: ParkWhich,
    ) -> Result<ParkOutcome, ParkError> {
        let (reply, answer) = oneshot::channel();
        let done = async {
            self.ask.send(Ask { job, which, reply }).await.ok()?;
            answer.await.ok()
        };
        let done = tokio::time::timeout(ANSWER_WITHIN, done).await.ok().flatten();
        done.ok_or_else(|| ParkError::NotAtWork(route.clone()))
    }
}
