//! The seams' laws over real files, with writers that know nothing of us.

mod file;
mod history;
mod sink_laws;
mod source_laws;
mod writers;
