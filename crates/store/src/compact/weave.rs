//! Puts what stays into batches that stand for all offsets there were.

use super::record::{Fault, Record};
use super::sorted::Survivors;
use rowcast_core::{BatchBuilder, Offset, Point, Position, Snapshot, Sparse, Stored};
use std::sync::Arc;

/// A batch as it was, of which something may stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Original {
    /// The offset after it.
    pub(crate) end: u64,
    /// The position after it.
    pub(crate) until: Position,
    pub(crate) fresh: bool,
    /// As it was counted when the sieve took it.
    pub(crate) number: u64,
}

/// Bytes of rows from which on a batch ends with the original batch, and at once.
const BYTES: usize = 512 << 10;
const BYTES_MAX: usize = 4 << 20;
/// Offsets that a batch stands for at most, unless an original one stands for more.
const SPAN: u64 = 1 << 30;
/// Bytes that an event costs beside its rows.
const EVENT: usize = 32;

/// Makes compacted batches. They end where original ones did, so that the position after each is
/// known; only one that grows too large ends earlier, and carries the position after its original.
pub(crate) struct Weaver {
    survivors: Survivors,
    note: Option<(u64, Snapshot)>,
    builder: BatchBuilder,
    places: Vec<u32>,
    transaction: Option<(Point, i64)>,
    /// Where the batch under way begins, and up to where it goes.
    base: u64,
    next: u64,
    until: Option<Position>,
    /// The last finished batch that stands for offsets, and those behind it that stand for none:
    /// only the very last are whole, and the others are read by nobody.
    held: Vec<Stored>,
}

/// Takes a finished batch.
pub(crate) type Out<'a> = dyn FnMut(Stored) -> Result<(), Fault> + 'a;

impl Weaver {
    /// A weaver of what stays from `first` on.
    pub(crate) fn new(mut survivors: Survivors, first: Offset) -> Self {
        Self {
            note: survivors.notes.next(),
            survivors,
            builder: BatchBuilder::new(),
            places: Vec::new(),
            transaction: None,
            base: first.0,
            next: first.0,
            until: None,
            held: Vec::new(),
        }
    }

    /// Goes over the next original batch.
    pub(crate) fn over(&mut self, original: &Original, out: &mut Out<'_>) -> Result<(), Fault> {
        let far = original.end - self.base > SPAN && self.next > self.base;
        if original.fresh || far {
            self.cut(out)?;
        }
        if original.fresh {
            self.builder.fresh();
        }
        self.until = Some(original.until);
        while let Some(event) = self.survivors.next_before(original.end)? {
            self.add(event)?;
            if self.builder.bytes() + self.builder.events() * EVENT >= BYTES_MAX {
                self.cut(out)?;
            }
        }
        self.next = original.end;
        let mut noted = false;
        while let Some((_, word)) = self.note.take_if(|(frame, _)| *frame == original.number) {
            self.builder.snapshot(word);
            self.note = self.survivors.notes.next();
            noted = true;
        }
        let bytes = self.builder.bytes() + self.builder.events() * EVENT;
        // A word on a snapshot says the offset after it, which has to stay the same.
        if noted || bytes >= BYTES {
            self.cut(out)?;
        }
        Ok(())
    }

    fn add(&mut self, event: Record) -> Result<(), Fault> {
        let place = event.offset.checked_sub(self.base).and_then(|p| u32::try_from(p).ok());
        let place = place.filter(|_| event.offset >= self.next);
        let out_of_turn = || Fault::Defect(format!("offset {} is out of turn", event.offset));
        self.places.push(place.ok_or_else(out_of_turn)?);
        if self.transaction != Some((event.at, event.committed)) {
            self.transaction = Some((event.at, event.committed));
            self.builder.begin(event.at, event.committed);
        }
        let schema = &self.survivors.names.get(event.schema).schema;
        let schema = self.builder.schema(schema.id(), schema);
        let write = |row: Box<[u8]>| move |to: &mut Vec<u8>| to.extend_from_slice(&row);
        self.builder.push(event.op, schema, write(event.before), write(event.after));
        self.next = event.offset + 1;
        Ok(())
    }

    /// Ends the batch under way, when there is one.
    fn cut(&mut self, out: &mut Out<'_>) -> Result<(), Fault> {
        let Some(until) = self.until else { return Ok(()) };
        let moved = self.held.last().is_none_or(|h| h.batch.until != until);
        if self.next == self.base && self.builder.is_empty() && !moved {
            return Ok(());
        }
        let span = u32::try_from(self.next - self.base)
            .map_err(|_| Fault::Defect("a batch stands for too many offsets".into()))?;
        let mut batch = std::mem::take(&mut self.builder).finish(until, false);
        batch.sparse = Some(Box::new(Sparse { places: std::mem::take(&mut self.places), span }));
        self.transaction = None;
        let stored = Stored { base: Offset(self.base), batch: Arc::new(batch) };
        self.base = self.next;
        if span > 0 {
            self.held.drain(..).try_for_each(&mut *out)?;
        }
        self.held.push(stored);
        Ok(())
    }

    /// Ends the last batch, which is whole again. Returns the offset after the last delete that was
    /// left out.
    pub(crate) fn finish(mut self, out: &mut Out<'_>) -> Result<u64, Fault> {
        self.cut(out)?;
        for mut last in std::mem::take(&mut self.held) {
            Arc::make_mut(&mut last.batch).whole = true;
            out(last)?;
        }
        if self.survivors.next_before(u64::MAX)?.is_some() || self.note.is_some() {
            return Err(Fault::Defect("something is left over".into()));
        }
        Ok(self.survivors.forgotten)
    }
}
