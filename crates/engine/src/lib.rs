//! What moves: capture reads a source into the log, deliver takes a route's changes from the log
//! into a sink, the node supervises them all.
//!
//! This room sees only the seams; it must never learn a product's name.

mod backoff;
mod begin;
mod board;
mod browse;
mod capture;
mod caught_up;
mod deliver;
mod desired;
mod fleet;
mod jobs;
mod latency;
mod live;
mod node;
mod pace;
mod parked;
mod refusal;
mod replay;
mod retain;
mod share;
mod status;
mod subscriptions;
mod tasks;
mod throttle;
mod trouble;
mod verify;
mod wanted;

pub use begin::begin_now;
pub use board::{Board, WaitError};
pub use deliver::{ParkError, ParkOutcome, ParkWhich, ParkedEntry};
pub use desired::Desired;
pub use latency::Latency;
pub use node::{Node, NodeError, NodeSpec, Publisher, RouteSpec};
pub use parked::ParkedList;
pub use refusal::Refusal;
pub use replay::Replayed;
pub use retain::{OverLimit, Retain};
pub use status::{
    BuildStatus, LogStatus, RouteStatus, ServiceStatus, SnapshotStatus, Status, SubscriptionStatus,
};
pub use subscriptions::{Subscribed, Subscriptions};
pub use trouble::{Trouble, TroubleReport};
pub use verify::{
    CopyReport, Difference, DifferentValue, History, Kind, Progress, Reading, Verified, Verify,
    VerifyError,
};
pub use wanted::{Service, Services};
