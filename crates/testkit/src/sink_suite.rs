//! Conformance of sinks.
