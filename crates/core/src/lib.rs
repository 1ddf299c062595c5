//! The words and laws of Rowcast: what an event, a batch, a position and a projection are, and the
//! seams behind which everything with a product name lives.
//!
//! This room must never learn a product's name, do I/O, start a task or read a clock: the same
//! input gives the same output, so its tests are plain functions.

mod batch;
mod begin;
mod catalog;
mod check;
mod compare;
mod database;
mod filter;
mod ident;
mod lane;
mod leave;
mod log;
mod mask;
mod member;
mod name;
mod park;
mod position;
mod project;
mod registry;
mod remedy;
mod row;
mod schema;
mod sink;
mod size;
mod source;
mod suggest;
mod wait;

pub use batch::{Batch, BatchBuilder, Event, Op, Snapshot, Span, Sparse, Transaction};
pub use begin::{Begin, BeginError};
pub use catalog::{Catalog, Edit, EditError, Entry, Origin, Pause};
pub use check::{Finding, Fix, Severity};
pub use compare::{Computed, CopyView, Foresight, RowSet, SourceView};
pub use database::{Database, DatabaseError, Listed, Offer, Retained, Table, TableColumn};
pub use filter::{Bound, Filter, FilterError, Verdict};
pub use ident::{IdentError, parse_path, plain_path, quote, quote_path};
pub use lane::{Claim, LANES_MAX, Lane, Lanes, lane_of};
pub use leave::LeftOut;
pub use log::{Chunk, Commit, EventLog, LogError, LogId, Stored, Tail};
pub use mask::{Mask, MaskError, MaskKey, Masker, Masks};
pub use member::{Definition, Join, Mark, Member, Membership, Roll, SideMark, Track};
pub use name::{EntityName, EntityRef, NameError, RouteId, ServiceName};
pub use park::{Narrow, ParkEdit, Parked, Pending, PendingOp, REFERENCE, key_of, key_shown};
pub use position::{Epoch, Offset, Point, Position, PositionError};
pub use project::{
    Change, ChangeOp, Fields, ProjectError, Projection, Rows, Shape, ShapeColumn, ShapeUse,
    Subscription,
};
pub use registry::{Registry, RegistryError, Version};
pub use remedy::{BoxError, Code, Diagnose, Remedy};
pub use row::{Malformed, Row, RowWriter, Value};
pub use schema::{Column, Generated, Kind, Schema, SchemaId};
pub use sink::{Checkpoint, Progress, Sink, SinkError, SinkSpec};
pub use size::{ByteSize, ByteSizeError};
pub use source::{Publish, Resume, Source, SourceError, SourceSpec, Start};
pub use suggest::{advice, listed, nearest};
pub use wait::{Blocker, Wait, Waiting};
