//! The seams' laws over real files, with writers that know nothing of us.

#![expect(clippy::unwrap_used, reason = "a test's own helper fails with its test")]

mod copies;
mod file;
mod history;
mod masks;
mod retained;
mod sink_laws;
mod source_laws;
mod writers;
