//! One event on its way through compaction, and why compaction stops.

use rowcast_core::{EntityName, Malformed, Op, Point};
use std::io;

/// One event that may stay.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) offset: u64,
    /// Where and when its transaction committed.
    pub(crate) at: Point,
    pub(crate) committed: i64,
    /// [`Op::End`] is a mark that is never written: the row went to another key, by an event that
    /// stays and needs the row.
    pub(crate) op: Op,
    /// As [`Names`](super::names::Names) counts.
    pub(crate) schema: u32,
    /// It stays, whatever comes after it: an event of another key is built on it, or it on another
    /// key's.
    pub(crate) pinned: bool,
    /// Some value of `after` is "unchanged".
    pub(crate) partial: bool,
    pub(crate) before: Box<[u8]>,
    pub(crate) after: Box<[u8]>,
}

impl Record {
    pub(crate) fn is_row(&self) -> bool {
        matches!(self.op, Op::Create | Op::Update | Op::Read)
    }

    /// A row to which patches may be laid.
    pub(crate) fn may_be_filled_from(&self) -> bool {
        self.is_row() && !self.pinned && self.before.is_empty()
    }

    /// Bytes in memory, near enough for a budget.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.before.len() + self.after.len()
    }
}

/// Why a compaction ended without a result. The log stays as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the disk refuses")]
    Io(#[from] io::Error),
    /// What a checksum says is good cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Rows of this entity do not say their key: nothing of it can be left out.
    #[error("an event of {0} does not say its key")]
    NoKey(EntityName),
    /// The log is being closed.
    #[error("it was told to stop")]
    Stopped,
    /// What would be left is not what was there.
    #[error("a defect in compaction: {0}")]
    Defect(String),
}

impl From<Malformed> for Fault {
    fn from(e: Malformed) -> Self {
        Self::Unreadable(e.to_string())
    }
}
