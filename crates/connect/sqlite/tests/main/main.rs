//! The seams' laws over real files, with writers that know nothing of us.

mod file;
mod source_laws;
