//! Where transactions end, and what the source calls that place.

use rowcast_core::{Offset, Position, Stored};

/// The offset after the last event whose transaction ends in `batches`. An unfinished transaction
/// may reach back over several batches, and so does what compaction left.
pub(super) fn whole_until(batches: &[Stored]) -> Offset {
    let mut end = batches.last().map_or(Offset(0), Stored::end);
    for stored in batches.iter().rev() {
        if stored.batch.whole {
            return end;
        }
        if stored.batch.sparse.is_some() {
            end = stored.base;
            continue;
        }
        let open = stored.batch.transactions.last().map_or(0, |t| u64::from(t.events));
        end = Offset(stored.end().0 - open);
        if stored.batch.transactions.len() > 1 {
            return end;
        }
    }
    end
}

/// The source's position at `end`, as exact as a batch says.
pub(crate) fn position_at(batches: &[Stored], end: Offset) -> Position {
    let stored = batches.iter().find(|s| s.end() >= end).or(batches.last());
    let stored = stored.expect("a chunk holds at least one batch");
    if stored.end() == end || stored.batch.sparse.is_some() {
        return stored.batch.until;
    }
    // Inside a batch: the transaction that begins at `end` is not applied yet, or not all of it.
    let mut at = stored.base.0;
    let next = stored.batch.transactions.iter().find(|t| {
        at += u64::from(t.events);
        at > end.0
    });
    next.map_or(stored.batch.until, |t| Position::new(stored.batch.epoch(), t.at))
}
