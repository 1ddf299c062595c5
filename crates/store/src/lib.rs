//! What remembers: event logs and the registry of subscriptions, in memory for tests and in files
//! for keeps.
//!
//! This room knows how batches are kept, and must never learn what their values mean or which
//! product they come from.

mod compact;
mod config;
mod files;
mod memory;
pub mod private;
mod registry;
mod track;

pub use config::{Keep, LogConfig};
pub use files::inspect;
pub use files::{FileLog, Follower, OpenError};
pub use memory::MemoryLog;
pub use registry::{MemoryRegistry, SqliteRegistry};
