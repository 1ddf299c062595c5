//! Puts events together to batches, and keeps count of where in the server's log they end.
//!
//! The index of a position counts the row messages of a transaction, not the events made of them:
//! the server sends the same messages for the same transaction whatever is published when we come
//! back, so a half-logged transaction goes on at the right one.

use super::pgoutput::{Cell, Tuple};
use super::shape::{Part, Shape};
use super::snapshot::{Chunk, Snapshotting, key_hash};
use rowcast_core::{
    Batch, BatchBuilder, EntityName, Epoch, Op, Point, Position, RowWriter, Snapshot, Value,
};

/// Microseconds from 1970 to 2000, where the server's clock begins.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// A transaction of which more is to come.
#[derive(Debug, Clone, Copy)]
struct Open {
    commit: u64,
    committed: i64,
    /// Row messages seen.
    seen: u64,
    /// Row messages that the log has already.
    skip: u64,
    /// Some of it was handed out, now or before the restart.
    handed: bool,
    /// Events of it in the batch in the making.
    events: usize,
}

/// The schema that an entity's events have.
#[derive(Debug, Clone)]
struct Announced {
    shape: Shape,
    /// It was told to whoever gets the batches.
    told: bool,
    /// The commit that used it first; 0 for what the catalog said.
    since: u64,
    /// Where it is in the batch in the making, if it is: the batch's number and the index.
    place: (u64, u32),
}

/// What a row message does, for one entity.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    Create(Tuple<'a>),
    Update(Option<Tuple<'a>>, Tuple<'a>),
    Delete(Tuple<'a>),
    Truncate,
}

/// A batch in the making.
pub(crate) struct Assembler {
    builder: BatchBuilder,
    number: u64,
    bytes_max: usize,
    open: Option<Open>,
    entities: Vec<Announced>,
    /// Where the stream is: everything committed before it is in a batch, made or in the making.
    reached: Position,
    /// Where the last batch handed out ends.
    handed: Position,
    /// Skip what the log has of the transaction that commits here.
    resume: Position,
    scratch: Vec<u8>,
}

impl Assembler {
    pub(crate) fn new(shapes: Vec<Shape>, from: Position, bytes_max: usize) -> Self {
        let entity = |shape| Announced { shape, told: false, since: 0, place: (u64::MAX, 0) };
        Self {
            builder: BatchBuilder::new(),
            number: 0,
            bytes_max,
            open: None,
            entities: shapes.into_iter().map(entity).collect(),
            reached: from,
            handed: from,
            resume: from,
            scratch: Vec::new(),
        }
    }

    /// No transaction is open.
    pub(crate) fn at_boundary(&self) -> bool {
        self.open.is_none()
    }

    /// Nothing is in the making.
    pub(crate) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// The batch has its size.
    pub(crate) fn is_full(&self) -> bool {
        self.builder.bytes() >= self.bytes_max || self.builder.events() >= self.bytes_max / 16
    }

    /// Where the last batch handed out ends.
    pub(crate) fn handed(&self) -> Position {
        self.handed
    }

    /// The stream went on without anything for us.
    pub(crate) fn has_silently_moved(&self) -> bool {
        self.open.is_none() && self.builder.is_empty() && self.reached != self.handed
    }

    /// Where the open transaction commits.
    pub(crate) fn commit(&self) -> Option<u64> {
        self.open.map(|o| o.commit)
    }

    /// A transaction begins; `at` in microseconds since 2000.
    pub(crate) fn begin(&mut self, commit: u64, at: i64) {
        let half = self.resume.index > 0 && self.resume.point.value() == commit;
        let committed = at.saturating_add(EPOCH_2000);
        let skip = match (half, commit < self.resume.point.value()) {
            (true, _) => self.resume.index,
            (false, true) => u64::MAX,
            (false, false) => 0,
        };
        self.open = Some(Open { commit, committed, seen: 0, skip, handed: half, events: 0 });
        self.builder.begin(Point::Lsn(commit), committed);
    }

    /// Whether the next row message is new.
    pub(crate) fn is_new(&self) -> bool {
        self.open.is_some_and(|open| open.seen >= open.skip)
    }

    /// Where the stream is.
    pub(crate) fn reached(&self) -> Position {
        self.reached
    }

    /// Counts a row message; says whether it is new.
    pub(crate) fn count(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.seen += 1;
        open.seen > open.skip
    }

    /// It ends; `end` is the place after it.
    pub(crate) fn end(&mut self, end: u64) {
        let Some(open) = self.open.take() else { return };
        if open.handed && open.events == 0 && open.skip != u64::MAX {
            // All of it is in the log but its end, and somebody has to say so.
            if !self.entities.is_empty() {
                let schema = self.schema(0);
                self.builder.push(Op::End, schema, |_| {}, |_| {});
            }
        }
        self.reach(end);
    }

    /// Everything before `end` has come.
    pub(crate) fn reach(&mut self, end: u64) {
        if self.open.is_none() && end > self.reached.point.value() {
            self.reached = Position::new(self.reached.epoch, Point::Lsn(end));
        }
    }

    /// What was made so far. After a batch that was full another one is likely.
    fn made(&mut self) -> BatchBuilder {
        let full = self.is_full();
        let next = if full { self.builder.another() } else { BatchBuilder::new() };
        std::mem::replace(&mut self.builder, next)
    }

    /// The batch made so far. Inside a transaction it is not whole and needs an event to follow.
    pub(crate) fn take(&mut self) -> Batch {
        let builder = self.made();
        self.number += 1;
        let (until, whole) = match &mut self.open {
            None => (self.reached, true),
            Some(open) => {
                self.builder.begin(Point::Lsn(open.commit), open.committed);
                open.handed |= std::mem::take(&mut open.events) > 0;
                let (point, index) = (Point::Lsn(open.commit), open.seen);
                // Nothing of the open one is in it: it ends with the transaction before.
                if open.handed {
                    (Position { epoch: self.reached.epoch, point, index }, false)
                } else {
                    (self.reached, true)
                }
            }
        };
        self.handed = until;
        builder.finish(until, whole)
    }

    /// From `commit` on the entity's rows have this shape.
    pub(crate) fn reshape(&mut self, entity: usize, shape: Shape, commit: u64) {
        let known = &mut self.entities[entity];
        if known.shape.id == shape.id {
            known.shape.parts = shape.parts;
            known.shape.masks = shape.masks;
            return;
        }
        *known = Announced { shape, told: false, since: commit, place: (u64::MAX, 0) };
    }

    /// The shape of the entity's rows.
    pub(crate) fn shape(&self, entity: usize) -> &Shape {
        &self.entities[entity].shape
    }

    /// The index of the entity's schema in the batch.
    fn schema(&mut self, entity: usize) -> u32 {
        let known = &mut self.entities[entity];
        if known.place.0 != self.number {
            known.place = (self.number, self.builder.schema(known.shape.id, &known.shape.schema));
        }
        known.place.1
    }

    /// Tells the entity's schema unless it was told; the index of it.
    fn announce(&mut self, entity: usize) -> u32 {
        let schema = self.schema(entity);
        if !self.entities[entity].told {
            self.entities[entity].told = true;
            self.builder.push(Op::Schema, schema, |_| {}, |_| {});
        }
        schema
    }

    /// Adds a change. `filled` stands in for unchanged values, in the order in which they occur.
    pub(crate) fn change(&mut self, entity: usize, change: Change<'_>, filled: Option<&Filled>) {
        let schema = self.announce(entity);
        if let Some(open) = &mut self.open {
            open.events += 1;
        }
        let shape = &self.entities[entity].shape;
        match change {
            Change::Create(new) => {
                self.builder.push(Op::Create, schema, |_| {}, |to| row(to, shape, new, None, None));
            }
            Change::Update(old, new) => {
                let moved = old.filter(|old| key_differs(&shape.parts, *old, new));
                self.builder.push(
                    Op::Update,
                    schema,
                    |to| moved.into_iter().for_each(|old| key_row(to, shape, old)),
                    |to| row(to, shape, new, old, filled),
                );
            }
            Change::Delete(old) => {
                self.builder.push(Op::Delete, schema, |to| key_row(to, shape, old), |_| {});
            }
            Change::Truncate => self.builder.push(Op::Truncate, schema, |_| {}, |_| {}),
        }
    }

    /// The hash of the key in a tuple; the old tuple has it where the new one leaves it out.
    pub(crate) fn hash(&mut self, entity: usize, tuple: Tuple<'_>, old: Option<Tuple<'_>>) -> u128 {
        let parts = &self.entities[entity].shape.parts;
        let mut old = old.map(Tuple::cells);
        let key = tuple.cells().zip(parts).filter_map(|(cell, part)| {
            let before = old.as_mut().and_then(Iterator::next);
            if *part != Part::Key {
                return None;
            }
            Some(match (cell, before) {
                (Cell::Text(text), _) | (Cell::Unchanged, Some(Cell::Text(text))) => text,
                _ => &[][..],
            })
        });
        key_hash(entity, key, &mut self.scratch)
    }

    /// Adds words on snapshots to the batch in the making.
    pub(crate) fn say(&mut self, words: Vec<Snapshot>) {
        words.into_iter().for_each(|w| self.builder.snapshot(w));
    }

    /// Marks the batch in the making as the beginning of a new history.
    pub(crate) fn fresh(&mut self) {
        self.builder.fresh();
    }

    /// Marks the batch in the making as the first of another epoch, in which the same history goes
    /// on. Only between transactions; what is known of snapshots has to be said again with it.
    pub(crate) fn go_on_in(&mut self, epoch: Epoch) {
        self.reached.epoch = epoch;
        self.builder.fresh();
    }

    /// Empties entities whose rows come anew, and tells their schemas.
    pub(crate) fn empty(&mut self, at: u64, taken: i64, entities: impl Iterator<Item = usize>) {
        self.builder.begin(Point::Lsn(at), taken);
        for entity in entities {
            let schema = self.announce(entity);
            self.builder.push_anew(schema);
        }
    }

    /// Whether the stream knows a newer shape of the entity than the chunk has.
    pub(crate) fn has_outgrown(&self, chunk: &Chunk, snapshot: &Snapshotting) -> bool {
        let known = &self.entities[chunk.entity];
        known.shape.id != chunk.shape.id && known.since >= snapshot.at
    }

    /// A batch of a chunk's rows, without those that the stream has newer. Only between transactions
    /// and when nothing is in the making; never moves the position.
    pub(crate) fn chunk(
        &mut self,
        chunk: &Chunk,
        name: EntityName,
        snapshot: &Snapshotting,
    ) -> Batch {
        if self.entities[chunk.entity].shape.id != chunk.shape.id {
            self.reshape(chunk.entity, (*chunk.shape).clone(), 0);
        }
        self.builder.begin(Point::Lsn(snapshot.at), snapshot.taken);
        let schema = self.announce(chunk.entity);
        let mut start = 0;
        for (end, key) in &chunk.rows {
            let row = &chunk.bytes[start..*end as usize];
            start = *end as usize;
            if snapshot.holds(chunk.entity, *key) {
                self.builder.push(Op::Read, schema, |_| {}, |to| to.extend_from_slice(row));
            }
        }
        if chunk.done {
            self.builder.push(Op::Complete, schema, |_| {}, |_| {});
        }
        self.builder.snapshot(Snapshot {
            entity: name,
            cursor: chunk.cursor.clone(),
            rows: chunk.total,
            rows_estimate: chunk.estimate,
            done: chunk.done,
        });
        let builder = self.made();
        self.number += 1;
        self.handed = self.reached;
        builder.finish(self.handed, true)
    }
}

/// Values looked up for the unchanged columns of a tuple: the columns' places in it and their texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filled(pub(crate) Vec<(usize, Option<Vec<u8>>)>);

fn value(cell: Cell<'_>) -> Value<'_> {
    match cell {
        Cell::Null => Value::Null,
        Cell::Unchanged => Value::Unchanged,
        Cell::Text(text) => Value::Text(text),
    }
}

/// Writes a row field by field, masked where the entity is.
pub(crate) struct Writer<'a> {
    row: RowWriter<'a>,
    shape: &'a Shape,
    field: usize,
    scratch: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Begins a row of this shape at the end of `to`.
    pub(crate) fn new(to: &'a mut Vec<u8>, shape: &'a Shape) -> Self {
        Self { row: RowWriter::new(to), shape, field: 0, scratch: Vec::new() }
    }

    /// The next field.
    pub(crate) fn push(&mut self, value: Value<'_>) {
        match self.shape.mask(self.field) {
            Some(masker) => masker.push(value, &mut self.scratch, &mut self.row),
            None => self.row.push(value),
        }
        self.field += 1;
    }
}

fn row(
    to: &mut Vec<u8>,
    shape: &Shape,
    new: Tuple<'_>,
    old: Option<Tuple<'_>>,
    filled: Option<&Filled>,
) {
    let mut writer = Writer::new(to, shape);
    let mut old = old.map(Tuple::cells);
    for (i, (cell, part)) in new.cells().zip(&shape.parts).enumerate() {
        let before = old.as_mut().and_then(Iterator::next);
        if *part == Part::Skip {
            continue;
        }
        let looked_up = || filled.and_then(|f| f.0.iter().find(|(at, _)| *at == i));
        writer.push(match (cell, before) {
            // An old key is NULL where it says nothing, so only its texts count.
            (Cell::Unchanged, Some(Cell::Text(text))) => Value::Text(text),
            (Cell::Unchanged, _) => match looked_up() {
                Some((_, Some(text))) => Value::Text(text),
                Some((_, None)) => Value::Null,
                None => Value::Unchanged,
            },
            (cell, _) => value(cell),
        });
    }
}

fn key_row(to: &mut Vec<u8>, shape: &Shape, old: Tuple<'_>) {
    let mut writer = Writer::new(to, shape);
    for (cell, part) in old.cells().zip(&shape.parts) {
        match part {
            Part::Skip => {}
            Part::Field => writer.push(Value::Unchanged),
            Part::Key => writer.push(value(cell)),
        }
    }
}

/// Whether the key of a row changed.
pub(crate) fn key_differs(parts: &[Part], old: Tuple<'_>, new: Tuple<'_>) -> bool {
    let mut pairs = old.cells().zip(new.cells()).zip(parts);
    pairs.any(|((old, new), part)| *part == Part::Key && new != Cell::Unchanged && old != new)
}
