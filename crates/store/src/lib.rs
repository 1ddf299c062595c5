//! What remembers: event logs, in memory for tests and in files for keeps.
//!
//! This room knows how batches are kept, and must never learn what their values mean or which
//! product they come from.

mod config;
mod files;
mod memory;
mod track;

pub use config::{Keep, LogConfig};
pub use files::inspect;
pub use files::{FileLog, Follower, OpenError};
pub use memory::MemoryLog;
