//! What `rowcast status` shows. The JSON is a contract: extend it, do not rename.

use crate::latency::Latency;
use crate::trouble::TroubleReport;
use rowcast_core::{Blocker, Wait};
use serde::Serialize;

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The publishers, in the configuration's order.
    pub services: Vec<ServiceStatus>,
    /// The routes, in the configuration's order.
    pub routes: Vec<RouteStatus>,
}

/// One publisher.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// `starting`, `snapshotting`, `capturing`, `retrying` or `paused`.
    pub state: &'static str,
    /// The source's position up to which the log is durable.
    pub position: Option<String>,
    /// Its stream.
    pub log: LogStatus,
    /// Milliseconds since its database was last heard; until it was, since it was first tried.
    pub heard_ms: u64,
    /// What its database keeps on its own disk because the log does not have it; unknown before it
    /// was asked, and when it keeps nothing for us.
    pub retained_bytes: Option<u64>,
    /// What somebody should know although nothing waits.
    pub warning: Option<String>,
    /// How far the snapshots of its entities are.
    pub snapshots: Vec<SnapshotStatus>,
    /// Events made durable since the process began.
    pub captured_events: u64,
    /// Errors since the process began, each try counted.
    pub errors: u64,
    /// Times since then that capture went on after an error.
    pub reconnects: u64,
    /// Why it waits, on one line.
    pub error: Option<String>,
    /// The same, in parts.
    pub trouble: Option<TroubleReport>,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LogStatus {
    /// Oldest offset that can be read.
    pub first: u64,
    /// Next free offset.
    pub next: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Before this offset only every key's latest state is left.
    pub compacted: u64,
}

/// The snapshot of one entity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotStatus {
    /// Which entity.
    pub entity: String,
    /// Rows in the log.
    pub rows: u64,
    /// Rows there are, as far as the source can tell.
    pub rows_estimate: Option<u64>,
    /// All are in the log.
    pub done: bool,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteStatus {
    /// The publisher.
    pub from: String,
    /// The subscriber.
    pub to: String,
    /// `bootstrapping`, `live`, `retrying` or `paused`.
    pub state: &'static str,
    /// The next offset the target lacks; unknown before it was reached once.
    pub checkpoint: Option<u64>,
    /// Events in the log that the target lacks.
    pub lag_events: Option<u64>,
    /// Age of the oldest of them, by the publisher's clock; 0 when there are none. Unknown when there
    /// are none and the publisher's database does not answer: it may have more.
    pub lag_ms: Option<u64>,
    /// Changes applied and committed since the process began.
    pub applied_events: u64,
    /// Errors since the process began, each try counted.
    pub errors: u64,
    /// Times since then that the route went on after an error.
    pub reconnects: u64,
    /// From the publisher's commits to ours.
    #[serde(skip)]
    pub latency: Latency,
    /// Parked keys; unknown before the target was reached once, because it holds them.
    pub parked: Option<u64>,
    /// Transactions of the subscriber's database that may share a piece of the log, by key.
    pub lanes: u16,
    /// Whether the subscriber sees every transaction of the publisher whole; not so with several
    /// lanes.
    pub whole: bool,
    /// What is copied, and who asked for it.
    pub subscriptions: Vec<SubscriptionStatus>,
    /// Why it waits, on one line.
    pub error: Option<String>,
    /// The same, in parts.
    pub trouble: Option<TroubleReport>,
    /// Copies that are being built and are not live yet. Those that were there before can be read,
    /// as they were when their building began.
    pub building: Vec<BuildStatus>,
    /// What the subscriber's database makes it wait for, when a call takes long.
    pub waiting: Vec<WaitStatus>,
}

/// What a route waits for in a call of the subscriber's database that takes long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitStatus {
    /// A lock, or what the database works on.
    pub what: String,
    /// Since when, in milliseconds since 1970 UTC, by that database's clock.
    pub since_ms: i64,
    /// Who stands in the way.
    pub blockers: Vec<BlockerStatus>,
    /// What to do; empty when waiting is all.
    pub help: String,
}

/// A session that others wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockerStatus {
    /// How its database calls it.
    pub id: String,
    /// The program, as it names itself.
    pub program: String,
    /// The user it is logged in as.
    pub user: String,
    /// What it does; empty when that is not known.
    pub state: String,
    /// When its transaction began, in milliseconds since 1970 UTC.
    pub since_ms: Option<i64>,
}

impl From<Wait> for WaitStatus {
    fn from(Wait { what, since_ms, blockers, help }: Wait) -> Self {
        let blockers = blockers.into_iter().map(BlockerStatus::from).collect();
        Self { what, since_ms, blockers, help }
    }
}

impl From<Blocker> for BlockerStatus {
    fn from(Blocker { id, program, user, state, since_ms }: Blocker) -> Self {
        Self { id, program, user, state, since_ms }
    }
}

/// One copy that is being built.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuildStatus {
    /// Of which entity.
    pub entity: String,
    /// The copy's table.
    pub into: String,
    /// The next offset it lacks; unknown before the building has begun.
    pub offset: Option<u64>,
    /// The end of the log.
    pub of: Option<u64>,
}

/// One subscription of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubscriptionStatus {
    /// Of which entity.
    pub entity: String,
    /// The copy's table.
    pub into: String,
    /// `file` or `run-time`.
    pub origin: &'static str,
}
