//! What moves: capture reads a source into the log, deliver takes a route's changes from the log
//! into a sink, the node supervises them all.
//!
//! This room sees only the seams; it must never learn a product's name.

mod backoff;
mod board;
mod capture;
mod caught_up;
mod deliver;
mod node;
mod pace;
mod status;
mod tasks;
mod trouble;

pub use board::{Board, WaitError};
pub use node::{Node, NodeError, NodeSpec, Publisher, RouteSpec};
pub use status::{LogStatus, RouteStatus, ServiceStatus, SnapshotStatus, Status};
pub use trouble::{Trouble, TroubleReport};
