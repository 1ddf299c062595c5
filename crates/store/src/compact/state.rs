//! What is left of one key, event by event.

use super::fill::fill;
use super::names::Names;
use super::record::{Fault, Record};
use rowcast_core::Op;

/// The events of one key that stay, in order.
#[derive(Debug)]
pub(crate) struct State {
    /// Nearly always empty: what the last one is built on and could not be merged with, and what
    /// another key's events are built on.
    pub(crate) earlier: Vec<Record>,
    pub(crate) last: Record,
}

impl State {
    pub(crate) fn new(last: Record) -> Self {
        Self { earlier: Vec::new(), last }
    }

    /// Takes the next event of this key.
    pub(crate) fn push(&mut self, mut next: Record, names: &Names) -> Result<(), Fault> {
        let builds_on_last = next.is_row() && next.partial && next.before.is_empty();
        if next.op == Op::End {
            self.last.pinned = true;
            self.earlier.iter_mut().for_each(|r| r.pinned = true);
        } else if builds_on_last {
            if self.last.may_be_filled_from()
                && !next.pinned
                && let Some((after, partial)) = fill(&self.last, &next, names)?
            {
                (next.after, next.partial) = (after, partial);
                self.last = next;
                return Ok(());
            }
        } else {
            // A reader in between may have the key.
            if next.op == Op::Create {
                next.op = Op::Update;
            }
            self.earlier.retain(|r| r.pinned);
            if !self.last.pinned {
                self.last = next;
                return Ok(());
            }
        }
        self.earlier.push(std::mem::replace(&mut self.last, next));
        Ok(())
    }

    /// The row, when all of it is known.
    pub(crate) fn whole_row(&self) -> Option<&Record> {
        (self.last.may_be_filled_from() && !self.last.partial).then_some(&self.last)
    }

    /// Bytes in memory, near enough for a budget.
    pub(crate) fn size(&self) -> usize {
        self.last.size() + self.earlier.iter().map(Record::size).sum::<usize>()
    }
}
