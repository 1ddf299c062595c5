//! Everything that stays, merged by offset.

use super::names::Names;
use super::record::{Fault, Record};
use super::spill::SpillReader;
use rowcast_core::{Op, Snapshot};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::vec::IntoIter;

/// Records in order.
pub(crate) enum Run {
    Memory(IntoIter<Record>),
    File(SpillReader),
}

impl Run {
    fn next(&mut self) -> Result<Option<Record>, Fault> {
        match self {
            Self::Memory(records) => Ok(records.next()),
            Self::File(records) => Ok(records.next()?.map(|(_, record)| record)),
        }
    }
}

/// What a [`Sieve`](super::Sieve) kept, in order.
pub(crate) struct Survivors {
    runs: Vec<Run>,
    /// The next record of each run.
    heads: Vec<Option<Record>>,
    /// Offset, deletes first, and run of each of them.
    order: BinaryHeap<Reverse<(u64, bool, usize)>>,
    pub(crate) names: Names,
    /// Words on snapshots, with the number of the frame that brings each; in order.
    pub(crate) notes: IntoIter<(u64, Snapshot)>,
    /// The offset after the last delete that was left out.
    pub(crate) forgotten: u64,
}

impl Survivors {
    pub(crate) fn new(
        runs: Vec<Run>,
        names: Names,
        notes: Vec<(u64, Snapshot)>,
        forgotten: u64,
    ) -> Result<Self, Fault> {
        let (heads, order) = (runs.iter().map(|_| None).collect(), BinaryHeap::new());
        let notes = notes.into_iter();
        let mut survivors = Self { runs, heads, order, names, notes, forgotten };
        for run in 0..survivors.runs.len() {
            survivors.advance(run)?;
        }
        Ok(survivors)
    }

    fn advance(&mut self, run: usize) -> Result<(), Fault> {
        let next = self.runs[run].next()?;
        if let Some(next) = &next {
            self.order.push(Reverse((next.offset, next.op != Op::Delete, run)));
        }
        self.heads[run] = next;
        Ok(())
    }

    fn offset(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((offset, ..))| *offset)
    }

    fn take(&mut self) -> Result<Option<Record>, Fault> {
        let Some(Reverse((_, _, run))) = self.order.pop() else { return Ok(None) };
        let taken = self.heads[run].take();
        self.advance(run)?;
        Ok(taken)
    }

    /// The next event, when it lies before `end`. The two halves of a changed key are one again.
    pub(crate) fn next_before(&mut self, end: u64) -> Result<Option<Record>, Fault> {
        if self.offset().is_none_or(|offset| offset >= end) {
            return Ok(None);
        }
        let Some(first) = self.take()? else { return Ok(None) };
        if self.offset() != Some(first.offset) {
            return Ok(Some(first));
        }
        match self.take()? {
            Some(second) if first.op == Op::Delete && second.is_row() => {
                Ok(Some(Record { op: Op::Update, before: first.before, ..second }))
            }
            _ => Err(Fault::Defect(format!("two events have the offset {}", first.offset))),
        }
    }
}
