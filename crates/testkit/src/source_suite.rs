//! Conformance of sources.
