//! The sink on real servers, one module for each capability.

#[path = "sink/apply.rs"]
mod apply;
#[path = "sink/checkpoint.rs"]
mod checkpoint;
#[path = "sink/fidelity.rs"]
mod fidelity;
#[path = "sink/foreign.rs"]
mod foreign;
#[path = "sink/support.rs"]
mod support;
#[path = "sink/tables.rs"]
mod tables;
