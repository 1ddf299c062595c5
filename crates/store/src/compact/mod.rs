//! What compaction keeps of a run of events, and how it finds that within a budget of memory.
//!
//! The one law: whoever reads what is left, from the beginning to its end or beyond, builds the same
//! copy as from all of it; and so does whoever read a part before, as long as the deletes behind its
//! place are there. So of each key the newest event stays, whole, at its own offset.
//!
//! Events are folded by key in memory. When that grows beyond the budget, what is folded so far goes
//! to scratch files by a hash of the key, and each file is folded alone later: everything is read and
//! written in order, and a key that changes often shrinks before it reaches a file.

mod controls;
mod fill;
mod names;
mod record;
mod sieve;
mod sorted;
mod spill;
mod state;
#[cfg(test)]
mod tests;
mod weave;

pub(crate) use record::Fault;
pub(crate) use sieve::{Limits, Scratch, Sieve};
pub(crate) use sorted::Survivors;
pub(crate) use weave::{Original, Weaver};
