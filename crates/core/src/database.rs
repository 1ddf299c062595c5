//! The seam to a service's database as a whole: what it holds, whether it is ready, and how to get
//! its source and its sinks.

use crate::{
    BoxError, Code, CopyView, Diagnose, EntityName, Epoch, Finding, Point, Remedy, RouteId, Schema,
    ServiceName, Shape, Sink, SinkSpec, Source, SourceError, SourceSpec, SourceView,
};
use async_trait::async_trait;
use std::sync::Arc;

/// A column as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// The database's name of its type.
    pub native: String,
    /// Part of the key that changes are told by.
    pub key: bool,
}

/// A table as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// How to write it in the configuration: `public.customers`, quoted where needed.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<TableColumn>,
    /// About how many rows it holds; unknown before the database has looked.
    pub rows_estimate: Option<u64>,
    /// Why it cannot be published, such as `a view`; then it has no columns here.
    pub left_out: Option<String>,
}

/// A column's type that lists its values, at its source: an enum, also one within arrays or domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The column's type, as [`Column::native`](crate::Column::native) says it.
    pub native: String,
    /// The type with the values, in the same spelling.
    pub name: String,
    /// Its values, in its order; none when the type lists none.
    pub values: Vec<String>,
    /// The types that somebody made at the source for the column's type, what others need first: each
    /// with the statement that makes it.
    pub create: Vec<(String, String)>,
}

/// What capture would give now.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Each entity that can be published, with its schema.
    pub schemas: Vec<(EntityName, Schema)>,
    /// The types of its columns that list their values.
    pub listed: Vec<Listed>,
}

/// What a database keeps on its own disk because the log does not have it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// All of it, in bytes.
    pub bytes: u64,
    /// The part of it that was not confirmed. The rest is kept for another reason, such as a
    /// transaction that is still open.
    pub behind: u64,
}

/// One service's private database.
#[async_trait]
pub trait Database: Send + Sync {
    /// Where it is, without secrets.
    fn address(&self) -> String;

    /// The tables a service could publish; none of ours, none of the system's.
    async fn tables(&self) -> Result<Vec<Table>, DatabaseError>;

    /// Everything that capture needs, looked at: one finding each, good ones too. Unreachable is a
    /// finding as well.
    async fn check_source(&self, spec: &SourceSpec) -> Vec<Finding>;

    /// What capture would give now; what cannot be published is left out (it is one of
    /// `check_source`'s findings).
    async fn offer(&self, spec: &SourceSpec) -> Result<Offer, DatabaseError>;

    /// Everything that applying needs, looked at, for the shapes that capture would give now; values
    /// of types that their source lists as far as it is known what it lists.
    async fn check_sink(
        &self,
        spec: &SinkSpec,
        shapes: &[Arc<Shape>],
        listed: &[Listed],
    ) -> Vec<Finding>;

    /// Runs a finding's statements, in order, in one transaction where the database can.
    async fn fix(&self, statements: &[String]) -> Result<(), DatabaseError>;

    /// A point that covers everything committed before this call, and that capture will reach even
    /// when nothing else is written.
    async fn mark(&self, service: &ServiceName) -> Result<Point, SourceError>;

    /// What it keeps for the capture of `service`; `None` when it keeps nothing for it.
    async fn retained(&self, service: &ServiceName) -> Result<Option<Retained>, DatabaseError>;

    /// What a capture of `service` that begins waits for in the database, and what ends that, as a
    /// sentence; `None` when it does not wait or nothing can be told.
    async fn waits_for(&self, service: &ServiceName) -> Option<String>;

    /// Lets go of everything it keeps for the capture of `service`, for ever, and notes that the
    /// history `of` has ended so: a source that starts after it is refused with
    /// [`SourceError::Released`] until one has begun afresh. Without the right to make notes it is
    /// refused with [`SourceError::Epoch`] instead. Nobody may capture meanwhile.
    async fn release(&self, service: &ServiceName, of: Option<Epoch>) -> Result<(), DatabaseError>;

    /// What an earlier capture left behind that goes on costing the database something, of a service
    /// that publishes nothing any more. Nothing when it cannot be asked.
    async fn left_behind(&self, service: &ServiceName) -> Vec<Finding>;

    /// A reader of its changes; connects in [`Source::start`].
    fn source(&self, spec: SourceSpec) -> Box<dyn Source>;

    /// A writer of copies; connects in [`Sink::wants`].
    fn sink(&self, spec: SinkSpec) -> Box<dyn Sink>;

    /// The published rows as they are at one point of the history, from now until it is dropped.
    /// The point may lie a little after this call.
    async fn source_view(&self, spec: &SourceSpec) -> Result<Box<dyn SourceView>, SourceError>;

    /// A reader of a route's copies; connects in [`CopyView::look`].
    fn copy_view(&self, route: &RouteId) -> Box<dyn CopyView>;
}

/// Why a question to a database has no answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// Which database.
        address: String,
        /// What to look at.
        help: &'static str,
        /// What happened.
        source: BoxError,
    },
    /// The database answered with an error.
    #[error("{address} refused: {what}")]
    Refused {
        /// Which database.
        address: String,
        /// What was asked.
        what: String,
        /// What to look at.
        help: &'static str,
        /// The database's own words.
        source: BoxError,
    },
}

impl Diagnose for DatabaseError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } => Remedy::Retry,
            Self::Refused { .. } => Remedy::Operator(Code::SourceSetup),
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Unreachable { help, .. } | Self::Refused { help, .. } => help,
        }
    }
}
