//! Finding what does not fit: whole transactions before it are applied for good, and what is tried at
//! once grows again with every success, so that a bad row costs about as much as it is far from the
//! one before it.

use super::park::Blame;
use crate::trouble::Trouble;
use rowcast_core::{Offset, RouteId, SinkError, Stored};
use std::time::Duration;
use tokio::time::Instant;

/// How often the search for rows that do not fit says how far it is.
const TELL: Duration = Duration::from_secs(5);

/// Transactions from which on a window is as good as none.
const WIDE: usize = 1 << 16;

/// How a part of a chunk went.
pub(super) enum Part {
    /// It is applied.
    Applied,
    /// Some lanes have applied their part of it: the rest is left.
    Torn,
    /// A change does not fit; its offset, when it is known and can be set aside.
    Unfit { offset: Option<Offset>, error: SinkError },
}

/// How many transactions to try at once.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// No limit when nothing went wrong lately.
    transactions: Option<usize>,
    /// Rules are looked at with each change, because the commit did not say which breaks one.
    at_once: bool,
    /// Rows that did not fit since something was applied, and when that was last told.
    found: (usize, Option<Instant>),
}

impl Window {
    pub(super) fn at_once(&self) -> bool {
        self.at_once
    }

    /// Whether nothing went wrong lately.
    pub(super) fn is_wide(&self) -> bool {
        self.transactions.is_none() && !self.at_once
    }

    /// Where to stop, and whether a transaction ends there.
    pub(super) fn goal(
        &self,
        batches: &[Stored],
        at: Offset,
        (end, commit): (Offset, bool),
    ) -> (Offset, bool) {
        let Some(transactions) = self.transactions else { return (end, commit) };
        let goal = ends(batches, at, end).nth(transactions.max(1) - 1);
        goal.map_or((end, commit), |goal| (goal, true))
    }

    /// It went well.
    pub(super) fn widen(&mut self) {
        self.transactions = self.transactions.map(|n| n * 2).filter(|n| *n < WIDE);
        self.at_once = false;
        self.found = (0, None);
    }

    /// Another row does not fit. Says so now and then: where many do not, and each may depend on the
    /// others, finding them takes long, and meanwhile nothing is applied.
    pub(super) fn found(&mut self, route: &RouteId, error: &SinkError) {
        let (count, told) = &mut self.found;
        *count += 1;
        if told.get_or_insert_with(Instant::now).elapsed() < TELL {
            return;
        }
        *told = Some(Instant::now());
        tracing::warn!(
            "route {route}: {count} rows that belong together do not fit so far; it looks for more of \
             them before it goes on. The last one: {}",
            Blame::of(error).what()
        );
    }

    /// A change at `offset`, or one that is not known, does not fit. Tells whether there is another
    /// way to try; the error comes back when there is none.
    pub(super) fn narrow(
        &mut self,
        batches: &[Stored],
        (at, goal, commit): (Offset, Offset, bool),
        (offset, was_open): (Option<Offset>, bool),
        error: SinkError,
    ) -> Result<(), Trouble> {
        let before = |o: Offset| ends(batches, at, goal).take_while(|end| *end <= o).count();
        if let Some(offset) = offset {
            self.transactions = Some(before(offset).max(1));
            return Ok(());
        }
        let count = before(goal) + usize::from(!commit);
        if count > 1 {
            self.transactions = Some(count / 2);
            return Ok(());
        }
        if self.at_once || named(&error) {
            return Err(error.into());
        }
        tracing::debug!(was_open, "{}; looking for the row", Blame::of(&error).what());
        self.at_once = true;
        Ok(())
    }
}

fn named(error: &SinkError) -> bool {
    matches!(error, SinkError::Data { change: Some(_), .. })
}

/// The ends of transactions after `at` and up to `end`.
fn ends(batches: &[Stored], at: Offset, end: Offset) -> impl Iterator<Item = Offset> {
    let ends = batches.iter().flat_map(|stored| {
        // What compaction left of transactions says nothing about where they ended.
        let dense = stored.batch.sparse.is_none();
        let mut offset = stored.base.0;
        let inside = stored.batch.transactions.iter().filter(move |_| dense).map(move |t| {
            offset += u64::from(t.events);
            Offset(offset)
        });
        let inside = inside.filter(|end| *end < stored.end());
        inside.chain(stored.batch.whole.then(|| stored.end()))
    });
    ends.filter(move |o| *o > at && *o <= end)
}
