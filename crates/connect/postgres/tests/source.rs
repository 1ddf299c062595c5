//! The source on real servers, one module for each capability.

#[path = "source/conformance.rs"]
mod conformance;
#[path = "source/support.rs"]
mod support;
