//! For tests only: one conformance suite per seam, implementations in memory with scripted faults,
//! real servers in private directories, and a harness for real processes.
//!
//! This room needs only `core` of ours, so every other room may use it in tests.

pub mod history;
mod leftovers;
pub mod log_suite;
pub mod memory;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod registry_suite;
pub mod sink_suite;
pub mod source_suite;
pub mod wait;
