//! The seam to a database whose changes we capture.

use crate::{
    Batch, BoxError, ByteSize, Code, Diagnose, EntityName, Masks, Position, Remedy, ServiceName,
    Snapshot,
};
use async_trait::async_trait;

/// One published entity, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Publish {
    /// The public name.
    pub entity: EntityName,
    /// The table, as written: `public.customers`.
    pub table: String,
    /// The public fields; all columns when absent.
    pub fields: Option<Vec<String>>,
    /// Which fields leave masked. What is masked now and was not before, or otherwise, is read again.
    pub masks: Masks,
}

/// What a source is to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// The publishing service; names slots, publications and the like.
    pub service: ServiceName,
    /// What it publishes.
    pub entities: Vec<Publish>,
    /// Row bytes after which a batch is handed on, even inside a transaction.
    pub batch_bytes_max: ByteSize,
}

/// What the log knows of a source: where to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Resume {
    /// Everything up to here is in the log.
    pub position: Position,
    /// The newest word on every entity's snapshot. An entity without one has none of its rows in
    /// the log yet.
    pub snapshots: Vec<Snapshot>,
}

/// Where a source begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// The log is empty: begin a history, with a snapshot of every entity.
    Beginning,
    /// Go on after this. A history that is not the same is refused as [`SourceError::Epoch`], one
    /// that was released as [`SourceError::Released`].
    After(Resume),
    /// The old history is given up: begin a new one. Its first batch is marked
    /// [`fresh`](Batch::fresh) and truncates every entity, then come new snapshots.
    Afresh,
}

/// Reads one database's committed changes, in commit order. Stays connected while we are slow.
///
/// Laws, proved by the conformance suite:
/// - Batches of one transaction follow each other; the last one is [`whole`](Batch::whole). No
///   snapshot rows stand between them.
/// - The last batch of a transaction holds at least one event. When nothing is left but its end (a
///   restart after its last event), that event is an [`End`](crate::Op::End).
/// - An entity's first event is its [`Schema`](crate::Op::Schema); another one precedes the first
///   event of another shape.
/// - After a restart `After(position of any batch handed out)`, every later event comes again, in
///   the same order, and none from before.
/// - Rows of a snapshot never undo a change: when a `Read` event stands after a change of its key,
///   it is as new as that change. After [`Complete`](crate::Op::Complete) the log alone builds an
///   identical copy.
/// - A key change is an `Update` whose `before` holds the old key.
/// - A masked field's values are masked wherever they stand: in rows, keys, fillings and cursors.
#[async_trait]
pub trait Source: Send {
    /// Connects and positions. May be called again after an error, or with another start.
    ///
    /// # Errors
    /// [`SourceError::Epoch`] when the history is not the one `from` speaks of.
    async fn start(&mut self, from: Start) -> Result<(), SourceError>;

    /// Waits for changes. Now and then a batch without events says that the source went on.
    /// Cancel safe.
    async fn next(&mut self) -> Result<Batch, SourceError>;

    /// The log holds everything up to `upto`; the database may let go of it. Cheap: may be called
    /// after every batch.
    async fn confirm(&mut self, upto: &Position) -> Result<(), SourceError>;
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection, or it broke, or the server is starting or stopping.
    #[error("{service}'s database cannot be reached")]
    Unreachable {
        /// Which service.
        service: ServiceName,
        /// What happened.
        source: BoxError,
    },
    /// A setting, a privilege or an object is missing.
    #[error("{service}'s database is not ready to be captured: {what}")]
    Setup {
        /// Which service.
        service: ServiceName,
        /// What is missing.
        what: String,
        /// What to do.
        help: String,
        /// The database's own words.
        source: Option<BoxError>,
    },
    /// A published table does not fit what is published.
    #[error("{service}.{entity} cannot be published: {what}")]
    Schema {
        /// Which service.
        service: ServiceName,
        /// Which entity.
        entity: EntityName,
        /// What does not fit.
        what: String,
        /// What to do.
        help: String,
    },
    /// The history went on without us, or is another one. Going on would skip changes.
    #[error("{service}'s history is not the one the event log follows: {what}")]
    Epoch {
        /// Which service.
        service: ServiceName,
        /// How it shows.
        what: String,
        /// What to do.
        help: String,
    },
    /// The history ended because the source was [released](crate::Database::release) and let go of
    /// changes that nobody had captured. Beginning [afresh](Start::Afresh) is all that is left, and
    /// whether it may happen by itself is for whoever asked for the release to say.
    #[error("{service}'s history has a gap: {what}")]
    Released {
        /// Which service.
        service: ServiceName,
        /// How it came about.
        what: String,
        /// What to do.
        help: String,
    },
    /// Somebody else captures this source right now. It may be ourselves a moment ago.
    #[error("{service}'s database is captured by somebody else: {what}")]
    Busy {
        /// Which service.
        service: ServiceName,
        /// Who, if it shows.
        what: String,
        /// What to do.
        help: String,
    },
    /// The source sent what we cannot carry.
    #[error("{service}'s database sent something unexpected: {what}")]
    Data {
        /// Which service.
        service: ServiceName,
        /// What came.
        what: String,
    },
    /// Our own law is broken.
    #[error("a defect in capturing {service}: {what}")]
    Bug {
        /// Which service.
        service: ServiceName,
        /// What happened.
        what: String,
    },
}

impl Diagnose for SourceError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => Remedy::Retry,
            Self::Setup { .. } => Remedy::Operator(Code::SourceSetup),
            Self::Schema { .. } => Remedy::Operator(Code::SourceSchema),
            Self::Epoch { .. } | Self::Released { .. } => Remedy::Operator(Code::SourceEpoch),
            Self::Data { .. } => Remedy::Operator(Code::SourceData),
            Self::Bug { .. } => Remedy::Bug,
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "",
            Self::Setup { help, .. }
            | Self::Schema { help, .. }
            | Self::Epoch { help, .. }
            | Self::Released { help, .. }
            | Self::Busy { help, .. } => help,
            Self::Data { .. } => "nothing was skipped; please report this with the log's lines",
            Self::Bug { .. } => "please report this with the log's lines",
        }
    }
}
