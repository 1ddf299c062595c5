//! The seam to a database we write copies into.

use crate::{
    BoxError, Code, Diagnose, Epoch, LogId, Offset, Position, Remedy, RouteId, Rows, ServiceName,
    Subscription,
};
use async_trait::async_trait;

/// What a sink is to write.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// The route; names the checkpoint.
    pub route: RouteId,
    /// All subscriptions of the route.
    pub subscriptions: Vec<Subscription>,
}

/// What a target says it has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The next offset the target lacks.
    pub next: Offset,
    /// The source's position at `next`, as the last apply said it; `None` when nothing was applied
    /// yet. A log that has another position there is not the one that filled this target.
    pub position: Option<Position>,
}

impl Checkpoint {
    /// Epoch of what was applied last.
    pub fn epoch(&self) -> Option<Epoch> {
        self.position.map(|p| p.epoch)
    }
}

/// How an apply moves the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The checkpoint before; compared before it is set.
    pub from: Offset,
    /// The checkpoint after.
    pub next: Offset,
    /// The source's position after, with its epoch.
    pub position: Position,
    /// The rows end at the end of a transaction: commit. Otherwise nothing of it may be seen yet,
    /// and the next apply goes on in the same transaction of the target; its `from` is the
    /// checkpoint before the transaction began.
    pub commit: bool,
}

/// Writes projected rows into one target database.
///
/// Laws, proved by the conformance suite:
/// - Rows and checkpoint are visible together or not at all. A crash, an error or a dropped sink
///   between two applies of one transaction leaves nothing of it.
/// - The checkpoint is compared and set: when it is not `from`, nothing is written and the answer
///   is [`SinkError::Checkpoint`].
/// - Unchanged values never overwrite. Columns that the subscription does not name stay untouched.
/// - Rows arrive in order per key; of several changes to one key in a batch the last state counts.
/// - A shape's target table is made when it is missing and may be made, and compared otherwise,
///   before the first row; also when `rows` has no change for it.
#[async_trait]
pub trait Sink: Send {
    /// Connects and tells the next offset this target lacks. The target is the truth, not our
    /// memory of it. Forgets a half-applied transaction. May be called again after an error.
    async fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError>;

    /// Writes the rows and the progress together. Not cancel safe: let it finish.
    async fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError>;
}

/// Why a sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// No connection, or it broke, or the server is starting or stopping, or a deadlock or timeout
    /// that a second try may not meet.
    #[error("{service}'s database cannot take changes right now")]
    Unreachable {
        /// The subscriber.
        service: ServiceName,
        /// What happened.
        source: BoxError,
    },
    /// A privilege, a setting or an object is missing.
    #[error("{service}'s database is not ready to take changes: {what}")]
    Setup {
        /// The subscriber.
        service: ServiceName,
        /// What is missing.
        what: String,
        /// What to do.
        help: String,
        /// The database's own words.
        source: Option<BoxError>,
    },
    /// The target table and the subscription do not fit.
    #[error("{service}'s table {table} does not fit: {what}")]
    Schema {
        /// The subscriber.
        service: ServiceName,
        /// Its table.
        table: String,
        /// What does not fit.
        what: String,
        /// What to do.
        help: String,
    },
    /// A row's data does not fit the target: a constraint, a range, a cast.
    #[error(
        "a row{} does not fit {service}'s table {table}: {what}",
        key.as_ref().map(|key| format!(" with key {key}")).unwrap_or_default()
    )]
    Data {
        /// The subscriber.
        service: ServiceName,
        /// Its table.
        table: String,
        /// The key of the row as the target would show it, when it is known.
        key: Option<String>,
        /// Which rule it breaks, without the row's values.
        what: String,
        /// What to do.
        help: String,
        /// The database's own words, which may hold values: for `parked show`, never for logs.
        source: Option<BoxError>,
    },
    /// Somebody else moved the checkpoint, or it belongs to another log.
    #[error("the checkpoint of {route} is not the one this log wrote: {what}")]
    Checkpoint {
        /// Which route.
        route: RouteId,
        /// How it shows.
        what: String,
        /// What to do.
        help: String,
    },
    /// Our own law is broken.
    #[error("a defect in applying to {service}: {what}")]
    Bug {
        /// The subscriber.
        service: ServiceName,
        /// What happened.
        what: String,
    },
}

impl Diagnose for SinkError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } => Remedy::Retry,
            Self::Setup { .. } => Remedy::Operator(Code::SinkSetup),
            Self::Schema { .. } => Remedy::Operator(Code::SinkSchema),
            Self::Data { .. } => Remedy::Park(Code::SinkData),
            Self::Checkpoint { .. } => Remedy::Operator(Code::SinkCheckpoint),
            Self::Bug { .. } => Remedy::Bug,
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "",
            Self::Setup { help, .. }
            | Self::Schema { help, .. }
            | Self::Data { help, .. }
            | Self::Checkpoint { help, .. } => help,
            Self::Bug { .. } => "please report this with the log's lines",
        }
    }
}
