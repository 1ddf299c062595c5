//! The words and laws of Rowcast: what an event, a batch, a position and a projection are, and the
//! seams behind which everything with a product name lives.
//!
//! This room must never learn a product's name, do I/O, start a task or read a clock: the same
//! input gives the same output, so its tests are plain functions.

mod batch;
mod check;
mod database;
mod ident;
mod log;
mod name;
mod position;
mod project;
mod remedy;
mod row;
mod schema;
mod sink;
mod size;
mod source;

pub use batch::{Batch, BatchBuilder, Event, Op, Snapshot, Span, Transaction};
pub use check::{Finding, Fix, Severity};
pub use database::{Database, DatabaseError, Table, TableColumn};
pub use ident::{IdentError, parse_path, quote, quote_path};
pub use log::{Chunk, Commit, EventLog, LogError, LogId, Stored, Tail};
pub use name::{EntityName, EntityRef, NameError, RouteId, ServiceName};
pub use position::{Epoch, Offset, Point, Position, PositionError};
pub use project::{
    Change, ChangeOp, Fields, ProjectError, Projection, Rows, Shape, ShapeColumn, ShapeUse,
    Subscription,
};
pub use remedy::{BoxError, Code, Diagnose, Remedy};
pub use row::{Malformed, Row, RowWriter, Value};
pub use schema::{Column, Generated, Kind, Schema, SchemaId};
pub use sink::{Checkpoint, Progress, Sink, SinkError, SinkSpec};
pub use size::{ByteSize, ByteSizeError};
pub use source::{Publish, Resume, Source, SourceError, SourceSpec, Start};
