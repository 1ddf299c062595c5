//! The seam to a database we write copies into.

use crate::{
    BoxError, Code, Diagnose, Epoch, Join, Lanes, LogId, Mark, Offset, Parked, Position, Remedy,
    Roll, RouteId, Rows, ServiceName, Shape, Subscription, Track, Waiting,
};
use async_trait::async_trait;
use std::sync::Arc;

/// What a sink is to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSpec {
    /// The route; names the checkpoint.
    pub route: RouteId,
    /// All subscriptions of the route.
    pub subscriptions: Vec<Subscription>,
    /// Which checkpoint it moves.
    pub track: Track,
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
/// - A [`Side`](Track::Side) track has a checkpoint of its own. Rows of a subscription that
///   [has a build table](crate::Membership::has_build_table) go there; its copy stays as it is until
///   the join, which is one transaction: a reader sees the old copy or the new one.
/// - Rows of a live copy go on into the table that took the rows before them. When that was dropped,
///   replaced, renamed, moved or emptied by somebody, nothing is written and no table is made: the
///   answer is [`SinkError::Unreachable`], and the main track's next [`wants`](Self::wants) makes the
///   copy's member [`Stale`](crate::Membership::Stale). So it is with a copy that is being filled in
///   its own table: then the side track has nothing any more.
/// - Each track has parked keys of its own. A mark forgets those of every member that it does not call
///   live; the join makes the side track's the main track's.
/// - A [`Lane`](crate::Lane) has a checkpoint of its own. Its [`Progress::from`] is the route's, and
///   the rows are refused when the route stands elsewhere, when the lane is ahead of it, or when
///   somebody else has claimed the lanes since. After [`lanes`](Self::lanes) the main track's sink
///   is refused as well once somebody else has claimed them.
/// - [`Rows::parks`] is noted with the rows: visible together or not at all.
/// - [`SinkError::Data`] names its change. Only when a rule is looked at by the commit alone it may
///   not; asked again with [`Rows::at_once`], it does. It takes back the whole open transaction, and
///   the sink goes on from the stored checkpoint without another [`wants`](Self::wants).
/// - With [`Rows::leave_out`], an apply may answer [`SinkError::LeftOut`] instead: what it named and
///   the later changes of the same keys are not written, all others are, and nothing is committed.
#[async_trait]
pub trait Sink: Send {
    /// Connects and tells the next offset this target lacks. The target is the truth, not our
    /// memory of it. Forgets a half-applied transaction. May be called again after an error.
    async fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError>;

    /// Every key that this track has set aside in the target. Asked after [`wants`](Self::wants).
    async fn parked(&mut self) -> Result<Vec<Parked>, SinkError>;
    /// As [`wants`](Self::wants), and holds the checkpoint: until the next apply committed, or the
    /// sink was asked again or dropped, nobody else moves it. For mending a copy beside the route
    /// that writes it: an apply whose `next` is its `from` leaves the checkpoint where it is.
    async fn hold(&mut self, log: LogId) -> Result<Checkpoint, SinkError>;

    /// Writes the rows and the progress together. Not cancel safe: let it finish.
    async fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError>;

    /// What this target remembers of the route's subscriptions. Between applies that commit only, as
    /// everything below; not before [`wants`](Self::wants).
    async fn roll(&mut self) -> Result<Roll, SinkError>;

    /// Looks whether every live copy's table is the one that took its rows, and answers as an apply
    /// would. For times in which nothing is applied.
    async fn look(&mut self) -> Result<(), SinkError>;

    /// Whether a subscription's table is missing or has no rows.
    async fn is_empty(&mut self, into: &str) -> Result<bool, SinkError>;

    /// Remembers what became of members, and of the side track's checkpoint, in one transaction. For
    /// the main track; refused as [`SinkError::Checkpoint`] when its checkpoint is not where the mark
    /// says. Not cancel safe.
    async fn mark(&mut self, mark: &Mark) -> Result<(), SinkError>;

    /// Makes the build tables of copies that are built [`Again`](crate::Membership::Again), with the
    /// rows that the copies have, each as a whole or not at all; those that are there stay as they
    /// are. For the side track, before its first apply. Not cancel safe.
    async fn seed(&mut self, shapes: &[Arc<Shape>]) -> Result<(), SinkError>;

    /// Claims the route's lanes for sinks with the claim in the answer, and tells where they stand,
    /// after every lane's transaction that was about to commit. Where none is ahead of the route's
    /// checkpoint there are `count` lanes afterwards, and with one there are none. Where one is, they
    /// are those that there were: somebody has to bring the route as far and ask again. For the main
    /// track. Not cancel safe.
    async fn lanes(&mut self, count: u16) -> Result<Lanes, SinkError>;

    /// Ends a side track in one transaction: every build table's rows become its copy's rows, the
    /// building members are live, the side track's checkpoint goes, so do lanes, and the route's is
    /// set. For the side track; refused as [`SinkError::Checkpoint`] when one of the two is not where it should
    /// be. Rows and columns that are the same already are not touched, so grants, views, references
    /// and the subscriber's own columns stay. Not cancel safe.
    async fn join(&mut self, join: &Join) -> Result<(), SinkError>;

    /// Where this sink shows what the target makes a call wait for, as far as it can tell. A call waits for
    /// as long as the target works on it or makes it wait; it ends as
    /// [`Unreachable`](SinkError::Unreachable) when the target will not answer any more.
    fn waiting(&self) -> Waiting {
        Waiting::default()
    }
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
    /// The table in which a copy is being built was made for an earlier shape of its entity, and its
    /// rows do not go over into the present one. It is given up, and the copy begins where its entity
    /// was last read.
    #[error(
        "{service}'s new copy for {into} was begun in a shape that its publisher has left since"
    )]
    Outdated {
        /// The subscriber.
        service: ServiceName,
        /// The copy, as its subscription names it.
        into: String,
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
        /// The change, as an index into [`Rows::changes`], when it is certain.
        change: Option<u32>,
        /// Which rule it breaks, without the row's values.
        what: String,
        /// What to do.
        help: String,
        /// The database's own words, which may hold values: for `parked show`, never for logs.
        source: Option<BoxError>,
    },
    /// Rows that do not fit were left out, as [`Rows::leave_out`] allows, and everything else is
    /// written. Nothing is committed, whatever the progress said: the next apply goes on in the same
    /// transaction, from the same checkpoint to the same next one.
    #[error("{} rows do not fit", errors.len())]
    LeftOut {
        /// What was not written, as indexes into [`Rows::changes`]: changes that do not fit, and later
        /// ones of the same keys.
        changes: Vec<u32>,
        /// Why, once for each key: [`Data`](Self::Data), each naming the key's first such change.
        errors: Vec<SinkError>,
    },
    /// More keys are set aside than one bad row here and there explains.
    #[error("{route} has {keys} parked keys in {bytes} bytes: that is no single bad row any more")]
    TooManyParked {
        /// Which route.
        route: RouteId,
        /// How many keys there would be.
        keys: usize,
        /// How large their pending rows are together.
        bytes: usize,
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

impl SinkError {
    /// The checkpoint of `route` counts in the log `found`, and this is `here`.
    pub fn other_log(route: RouteId, found: LogId, here: LogId, help: impl Into<String>) -> Self {
        let what = format!("it counts in log {found}, and this is log {here}");
        Self::Checkpoint { route, what, help: help.into() }
    }
}

impl Diagnose for SinkError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } | Self::Outdated { .. } => Remedy::Retry,
            Self::Setup { .. } => Remedy::Operator(Code::SinkSetup),
            Self::Schema { .. } => Remedy::Operator(Code::SinkSchema),
            Self::Data { .. } | Self::LeftOut { .. } => Remedy::Park(Code::SinkData),
            Self::TooManyParked { .. } => Remedy::Operator(Code::SinkParked),
            Self::Checkpoint { .. } => Remedy::Operator(Code::SinkCheckpoint),
            Self::Bug { .. } => Remedy::Bug,
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Unreachable { .. } | Self::Outdated { .. } | Self::LeftOut { .. } => "",
            Self::Setup { help, .. }
            | Self::Schema { help, .. }
            | Self::Data { help, .. }
            | Self::Checkpoint { help, .. } => help,
            Self::TooManyParked { .. } => {
                "`rowcast parked list` shows what the rows have in common; mend the table or the \
                 source, and the route goes on; or give up rows with `rowcast parked drop`"
            }
            Self::Bug { .. } => "please report this with the log's lines",
        }
    }
}
