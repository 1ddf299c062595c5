//! Conformance of event logs.
