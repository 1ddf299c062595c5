//! The sink on real servers, one module for each capability.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "sink/apply.rs"]
mod apply;
#[path = "sink/check.rs"]
mod check;
#[path = "sink/checkpoint.rs"]
mod checkpoint;
#[path = "sink/fidelity.rs"]
mod fidelity;
#[path = "sink/foreign.rs"]
mod foreign;
#[path = "sink/random.rs"]
mod random;
#[path = "sink/suite.rs"]
mod suite;
#[path = "sink/support.rs"]
mod support;
#[path = "sink/tables.rs"]
mod tables;
