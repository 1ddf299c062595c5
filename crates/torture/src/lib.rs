//! Random trouble between two scratch databases: tables that change while rows are written, copies
//! that somebody drops, processes that are killed and frozen. At the end the copies are what their
//! source is, or a code says why not; everything else is a defect.
//!
//! This room knows databases only through [`Scratch`] and the `rowcast` program only through its
//! command line, so that it judges from outside.

mod console;
mod instance;
mod journal;
mod judge;
mod moves;
mod run;
mod table;
mod value;

pub use console::{Console, Dialect, Scratch, TextRows};
pub use run::{Options, TortureError, Verdict, torture};
