//! Batches: what a source hands on and a log keeps. Rows lie in one buffer; events are heads with
//! spans into it, so that a batch costs two allocations, not one per value.

use crate::{EntityName, Epoch, Point, Position, Row, RowWriter, Schema, SchemaId, Value};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// What happened. The numbers are part of the log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// A row came to be. `after` is whole.
    Create = 1,
    /// A row changed. `after` may hold unchanged values; `before` holds the old key when the key
    /// changed, and is empty otherwise.
    Update = 2,
    /// A row went. `before` holds its key.
    Delete = 3,
    /// A row was there when a snapshot looked. `after` is whole.
    Read = 4,
    /// All rows of the entity went, or give way to a new reading of all of them: see
    /// [`Batch::is_anew`].
    Truncate = 5,
    /// From here on the entity has the event's schema.
    Schema = 6,
    /// Every row of the entity that existed before we listened is in the log now.
    Complete = 7,
    /// The unfinished transaction before it ends here and has no more events; changes nothing.
    End = 8,
}

impl Op {
    /// The operation with this number, as stored in logs.
    pub fn from_number(n: u8) -> Option<Self> {
        use Op::{Complete, Create, Delete, End, Read, Schema, Truncate, Update};
        [Create, Update, Delete, Read, Truncate, Schema, Complete, End]
            .into_iter()
            .find(|op| *op as u8 == n)
    }

    /// The operation's name in output for people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Truncate => "truncate",
            Self::Schema => "schema",
            Self::Complete => "complete",
            Self::End => "end",
        }
    }
}

/// A piece of a batch's row buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes; 0 for no row.
    pub len: u32,
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// Immutable record of one change to one entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub op: Op,
    /// Index into [`Batch::schemas`].
    pub schema: u32,
    /// Key of the row before, as wide as the schema with [`Value::Unchanged`](crate::Value) in all
    /// other columns.
    pub before: Span,
    /// The row after.
    pub after: Span,
}

/// A run of events in a batch that its publisher committed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// How many events of this batch belong to it.
    pub events: u32,
    /// Where it committed.
    pub at: Point,
    /// When it committed, in microseconds since 1970 UTC by the source's clock.
    pub committed: i64,
}

/// How far the snapshot of one entity came. The newest one per entity is kept by the log, so a crash
/// resumes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose rows.
    pub entity: EntityName,
    /// The source's own note of where to go on; only the source reads it.
    pub cursor: Bytes,
    /// Rows in the log so far.
    pub rows: u64,
    /// The source's estimate of all rows.
    pub rows_estimate: Option<u64>,
    /// Nothing is left to read.
    pub done: bool,
}

/// Where the events of a compacted batch lie among the offsets that the batch stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    /// The offset of each event, counted from the batch's first offset; ascending.
    pub places: Vec<u32>,
    /// How many offsets the batch stands for, with those whose events compaction took.
    pub span: u32,
}

/// Changes in commit order, as a source gives them and a log keeps them.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Schemas that the events use, by index; each stands here once.
    pub schemas: Vec<Arc<Schema>>,
    /// The runs in which the events were committed; their `events` add up to `events.len()`.
    pub transactions: Vec<Transaction>,
    /// The events, in order.
    pub events: Vec<Event>,
    /// What the events' spans point into.
    pub rows: Bytes,
    /// Where capture goes on after this batch; says the epoch.
    pub until: Position,
    /// The last transaction ends here. Nobody shows an unfinished one to a reader.
    pub whole: bool,
    /// A new history begins: the epoch may differ from the log's last one.
    pub fresh: bool,
    /// Snapshots that this batch brings forward.
    pub snapshots: Vec<Snapshot>,
    /// Only in a compacted batch: which offsets its events have. Its transactions are no longer
    /// whole ones, so nobody shows a reader the state between two of them.
    pub sparse: Option<Box<Sparse>>,
}

impl Batch {
    /// A batch that only says how far the source came.
    pub fn empty(until: Position) -> Self {
        BatchBuilder::new().finish(until, true)
    }

    /// The row before an event; empty when it has none.
    pub fn before(&self, event: &Event) -> Row<'_> {
        Row(&self.rows[event.before.range()])
    }

    /// The row after an event; empty when it has none.
    pub fn after(&self, event: &Event) -> Row<'_> {
        Row(&self.rows[event.after.range()])
    }

    /// The schema of an event.
    pub fn schema(&self, event: &Event) -> &Arc<Schema> {
        &self.schemas[event.schema as usize]
    }

    /// The epoch this batch belongs to.
    pub fn epoch(&self) -> Epoch {
        self.until.epoch
    }

    /// How many offsets this batch stands for: one for each event, and more when it is compacted.
    pub fn span(&self) -> u64 {
        self.sparse.as_ref().map_or(self.events.len() as u64, |s| u64::from(s.span))
    }

    /// Whether an event empties its entity because every row is read again: what copies hold is not
    /// wrong, and gives way to what follows once that is whole. A user's own truncate says that the
    /// rows are gone now.
    pub fn is_anew(&self, event: &Event) -> bool {
        event.op == Op::Truncate && (self.fresh || event.after.len > 0)
    }

    /// Bytes this batch holds in memory, near enough for budgets.
    pub fn size(&self) -> usize {
        self.rows.len()
            + self.sparse.as_ref().map_or(0, |s| s.places.len() * size_of::<u32>())
            + self.events.len() * size_of::<Event>()
            + self.transactions.len() * size_of::<Transaction>()
            + 256
    }

    /// Whether all indexes and spans lie inside. A log checks this once on what it reads back, so
    /// that everybody behind may index.
    pub fn is_sound(&self) -> bool {
        let rows = self.rows.len();
        let sound = |s: Span| s.range().end <= rows;
        let events: u64 = self.transactions.iter().map(|t| u64::from(t.events)).sum();
        let placed = self.sparse.as_ref().is_none_or(|s| {
            s.places.len() == self.events.len()
                && s.places.is_sorted_by(|a, b| a < b)
                && s.places.last().is_none_or(|last| *last < s.span)
        });
        placed
            && events == self.events.len() as u64
            && self.events.iter().all(|e| {
                (e.schema as usize) < self.schemas.len() && sound(e.before) && sound(e.after)
            })
    }
}

/// Puts a batch together, event by event.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    schemas: Vec<Arc<Schema>>,
    schema_index: HashMap<SchemaId, u32>,
    transactions: Vec<Transaction>,
    events: Vec<Event>,
    rows: Vec<u8>,
    snapshots: Vec<Snapshot>,
    fresh: bool,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for as much as this one holds.
    pub fn another(&self) -> Self {
        let mut rows = Vec::new();
        // The row that makes it full passes the mark by a little.
        rows.reserve_exact(self.rows.len() + self.rows.len() / 32);
        Self {
            transactions: Vec::with_capacity(self.transactions.len()),
            events: Vec::with_capacity(self.events.len()),
            rows,
            ..Self::default()
        }
    }

    /// The index of a schema in this batch; the same schema has the same index.
    pub fn schema(&mut self, id: SchemaId, schema: &Arc<Schema>) -> u32 {
        let next = self.schemas.len() as u32;
        *self.schema_index.entry(id).or_insert_with(|| {
            self.schemas.push(schema.clone());
            next
        })
    }

    /// Begins a transaction; the events that follow belong to it. One without events is dropped.
    pub fn begin(&mut self, at: Point, committed: i64) {
        self.drop_empty_transaction();
        self.transactions.push(Transaction { events: 0, at, committed });
    }

    fn drop_empty_transaction(&mut self) {
        if self.transactions.last().is_some_and(|t| t.events == 0) {
            self.transactions.pop();
        }
    }

    /// Adds an event to the transaction begun last. `before` and `after` write one packed row each,
    /// or nothing.
    ///
    /// # Panics
    /// When no transaction was begun: that is a law of ours, not of the data.
    pub fn push(
        &mut self,
        op: Op,
        schema: u32,
        before: impl FnOnce(&mut Vec<u8>),
        after: impl FnOnce(&mut Vec<u8>),
    ) {
        let before = self.span(before);
        let after = self.span(after);
        self.events.push(Event { op, schema, before, after });
        let transaction = self.transactions.last_mut();
        transaction.expect("an event belongs to a transaction").events += 1;
    }

    /// Adds the mark that every row of an entity is read again: a truncate whose row after, which no
    /// truncate has otherwise, is one unchanged value. To a reader that does not know the mark it is
    /// a truncate.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    pub fn push_anew(&mut self, schema: u32) {
        let mark = |into: &mut Vec<u8>| RowWriter::new(into).push(Value::Unchanged);
        self.push(Op::Truncate, schema, |_| {}, mark);
    }

    fn span(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.rows.len();
        write(&mut self.rows);
        Span { start: start as u32, len: (self.rows.len() - start) as u32 }
    }

    /// Says how far a snapshot came; a later word about the same entity replaces an earlier one.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        self.snapshots.retain(|s| s.entity != snapshot.entity);
        self.snapshots.push(snapshot);
    }

    /// Marks the batch as the beginning of a new history.
    pub fn fresh(&mut self) {
        self.fresh = true;
    }

    /// Bytes of rows so far. A builder must be finished before they pass 1 GiB.
    pub fn bytes(&self) -> usize {
        self.rows.len()
    }

    /// Number of events so far.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.snapshots.is_empty() && !self.fresh
    }

    /// The finished batch.
    pub fn finish(mut self, until: Position, whole: bool) -> Batch {
        self.drop_empty_transaction();
        // Room that was not needed would stay taken for as long as anybody holds the batch.
        if self.rows.len() < self.rows.capacity() / 2 {
            self.rows.shrink_to_fit();
            self.events.shrink_to_fit();
            self.transactions.shrink_to_fit();
        }
        Batch {
            schemas: self.schemas,
            transactions: self.transactions,
            events: self.events,
            rows: self.rows.into(),
            until,
            whole,
            fresh: self.fresh,
            snapshots: self.snapshots,
            sparse: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_from_the_batch_before_is_kept_only_where_it_was_needed() {
        let position = Position::new(Epoch { identity: 1, birth: 1 }, Point::Sequence(1));
        let fill = |builder: &mut BatchBuilder, events: usize| {
            builder.begin(Point::Sequence(1), 0);
            for _ in 0..events {
                builder.push(Op::Create, 0, |_| {}, |to| to.extend_from_slice(&[0; 100]));
            }
        };
        let mut full = BatchBuilder::new();
        fill(&mut full, 1_000);
        let (mut large, mut small) = (full.another(), full.another());
        assert!(large.events.capacity() >= 1_000 && large.rows.capacity() >= 100_000, "no room");
        fill(&mut large, 1_000);
        fill(&mut small, 10);
        assert_eq!(large.finish(position, true).events.len(), 1_000);
        assert!(small.finish(position, true).events.capacity() < 100, "it holds room for nothing");
    }
}
