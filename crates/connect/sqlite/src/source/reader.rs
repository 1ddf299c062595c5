//! Reads the change table and the tables' chunks into batches.
//!
//! The unit is everything that was committed between two looks: SQLite tells triggers nothing about
//! transactions, but a look sees only whole ones, so no unit ends inside one. A unit larger than the
//! budget leaves in several batches. Rows of the change table never change, so nothing is held open
//! between them; what depends on the moment of looking (which "maybe gone" rows are gone) is looked
//! up for the whole unit at once. After a restart inside a unit it may have grown; it goes on where
//! it was and ends later, at the end of a commit again.

use super::changes::{self, Changes};
use super::install::Installed;
use super::ledger::{self, Capture};
use super::snapshot::Reading;
use super::trigger::op;
use rowcast_core::{
    Batch, BatchBuilder, EntityName, Epoch, Op, Point, Position, SchemaId, SourceSpec, Start,
};
use rusqlite::{Connection, Error, Row};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A unit that was begun and not handed out to its end.
#[derive(Debug)]
struct Unit {
    /// Its last change.
    end: u64,
    /// When it was made, in microseconds since 1970.
    committed: i64,
    /// Numbers of its "maybe gone" changes whose rows are gone.
    gone: HashSet<u64>,
}

/// What a look found.
pub(super) enum Looked {
    /// A batch, or nothing new.
    Batch(Option<Batch>),
    /// Some table changed: everything has to be looked at again first.
    TablesChanged,
}

/// Where a capture stands.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) epoch: Epoch,
    /// The first change that was not handed out.
    pub(super) next: u64,
    schema_version: i64,
    captures: HashMap<i64, Arc<Capture>>,
    changes: Changes,
    budget: usize,
    /// Snapshots, in the order of the spec.
    readings: Vec<Reading>,
    /// Schemas told since the start.
    told: HashMap<EntityName, SchemaId>,
    unit: Option<Unit>,
    /// Events handed out of a unit that is not whole yet.
    index: u64,
    /// A new history begins: the log does not know where yet.
    begins: bool,
    /// It follows another one.
    fresh: bool,
}

impl Reader {
    pub(super) fn new(installed: Installed, spec: &SourceSpec, start: Start) -> Self {
        let (begins, fresh) = (!matches!(start, Start::After(_)), start == Start::Afresh);
        let (index, words) = match start {
            Start::After(resume) => (resume.position.index, resume.snapshots),
            Start::Beginning | Start::Afresh => (0, Vec::new()),
        };
        let reading = |p: &rowcast_core::Publish| {
            Reading::resume(&p.entity, words.iter().find(|w| w.entity == p.entity))
        };
        let readings = spec.entities.iter().map(reading).collect();
        let mut reader = Self {
            epoch: installed.epoch,
            next: installed.next,
            schema_version: 0,
            captures: HashMap::new(),
            changes: Changes::default(),
            budget: spec.batch_bytes_max.as_usize().max(1),
            readings,
            told: HashMap::new(),
            unit: None,
            index,
            begins,
            fresh,
        };
        reader.reinstalled(installed);
        reader
    }

    /// Takes note of changed tables.
    pub(super) fn reinstalled(&mut self, installed: Installed) {
        self.schema_version = installed.schema_version;
        self.changes = Changes::of(&installed.captures);
        self.captures = installed.captures.into_iter().map(|c| (c.id, Arc::new(c))).collect();
    }

    /// One look, inside a read transaction.
    pub(super) fn look(&mut self, c: &Connection) -> Result<Looked, Error> {
        if ledger::schema_version(c)? != self.schema_version {
            return Ok(Looked::TablesChanged);
        }
        let newest: Option<i64> =
            c.query_row("SELECT max(seq) FROM _rowcast_changes", [], |row| row.get(0))?;
        let newest = newest.map_or(0, |n| n as u64).max(self.next - 1);
        let mut b = BatchBuilder::new();
        let from = self.next;
        if self.fresh {
            self.tell_fresh(&mut b);
        }
        let mut whole = true;
        let pending = |r: &Self| r.next <= newest || r.index > 0;
        while whole && pending(self) && b.bytes() < self.budget {
            whole = self.read_unit(c, &mut b, newest)?;
        }
        if whole && !pending(self) {
            self.read_tables(c, &mut b)?;
        }
        let quiet = b.is_empty() && self.next == from && !self.begins;
        self.begins = false;
        self.fresh = false;
        let point = Point::Sequence(self.next);
        let until = Position { epoch: self.epoch, point, index: self.index };
        Ok(Looked::Batch((!quiet).then(|| b.finish(until, whole))))
    }

    fn tell_fresh(&mut self, b: &mut BatchBuilder) {
        b.fresh();
        b.begin(Point::Sequence(self.next), 0);
        let active: Vec<_> = self.captures.values().filter(|c| c.active).cloned().collect();
        for capture in active {
            let schema = self.tell(b, &capture);
            b.push_anew(schema);
        }
        self.readings.iter().for_each(|r| b.snapshot(r.word()));
    }

    /// The index of a capture's schema, which is told first if it was not.
    fn tell(&mut self, b: &mut BatchBuilder, capture: &Capture) -> u32 {
        let id = capture.schema_id;
        let schema = b.schema(id, &capture.schema);
        let entity = &capture.schema.entity;
        if self.told.get(entity) != Some(&id) {
            self.told.insert(entity.clone(), id);
            b.push(Op::Schema, schema, |_| {}, |_| {});
        }
        schema
    }

    /// Reads on in the unit, or begins one that ends at `newest`. Returns whether it came to its
    /// end.
    fn read_unit(
        &mut self,
        c: &Connection,
        b: &mut BatchBuilder,
        newest: u64,
    ) -> Result<bool, Error> {
        let unit = match self.unit.take() {
            Some(unit) => unit,
            None => self.begin_unit(c, newest)?,
        };
        b.begin(Point::Sequence(unit.end), unit.committed);
        let before = b.events();
        let mut last = None;
        let mut statement = c.prepare_cached(self.changes.select())?;
        let mut rows = statement.query([self.next as i64, unit.end as i64])?;
        while let Some(row) = rows.next()? {
            if b.bytes() >= self.budget {
                // Never zero: it says that the unit goes on.
                self.index = (self.index + (b.events() - before) as u64).max(1);
                self.unit = Some(unit);
                return Ok(false);
            }
            let number = row.get::<_, i64>(0)? as u64;
            let capture = row.get::<_, Option<i64>>(1)?;
            if let Some(capture) = capture.and_then(|id| self.captures.get(&id)).cloned() {
                self.change(b, &capture, row, unit.gone.contains(&number))?;
                last = Some(capture);
            }
            self.next = number + 1;
        }
        if self.index > 0 && b.events() == before {
            self.tell_end(b, last);
        }
        self.next = unit.end + 1;
        self.index = 0;
        Ok(true)
    }

    /// Nothing was left of a unit but its end.
    fn tell_end(&mut self, b: &mut BatchBuilder, last: Option<Arc<Capture>>) {
        let any = || self.captures.values().find(|c| c.active).cloned();
        if let Some(capture) = last.or_else(any) {
            let schema = self.tell(b, &capture);
            b.push(Op::End, schema, |_| {}, |_| {});
        }
    }

    fn begin_unit(&self, c: &Connection, end: u64) -> Result<Unit, Error> {
        let committed = changes::committed(c, end)?;
        let gone = changes::gone(c, &self.changes, &self.captures, (self.next, end))?;
        Ok(Unit { end, committed, gone })
    }

    fn change(
        &mut self,
        b: &mut BatchBuilder,
        capture: &Arc<Capture>,
        row: &Row<'_>,
        gone: bool,
    ) -> Result<(), Error> {
        if capture.outdated {
            return Ok(());
        }
        let op: String = row.get(2)?;
        match op.as_str() {
            op::SCHEMA => {
                self.tell(b, capture);
            }
            op::AGAIN => {
                let schema = self.tell(b, capture);
                b.push_anew(schema);
                let entity = &capture.schema.entity;
                for reading in self.readings.iter_mut().filter(|r| r.entity == *entity) {
                    *reading = Reading::resume(entity, None);
                    b.snapshot(reading.word());
                }
            }
            op::MAYBE_GONE if !gone => {}
            _ => {
                let Some(change) = self.changes.decode(capture, row, &op)? else { return Ok(()) };
                let schema = self.tell(b, capture);
                let before = |into: &mut Vec<u8>| change.write_before(into);
                b.push(change.op, schema, before, |into| change.write_after(into));
            }
        }
        Ok(())
    }

    /// Reads on in the tables that are not complete, as long as the budget lasts. The rows are as
    /// new as the last change that was told.
    fn read_tables(&mut self, c: &Connection, b: &mut BatchBuilder) -> Result<(), Error> {
        for i in 0..self.readings.len() {
            if self.readings[i].done {
                continue;
            }
            if b.bytes() >= self.budget {
                break;
            }
            let mut reading = self.readings[i].clone();
            let active = |c: &&Arc<Capture>| c.active && c.schema.entity == reading.entity;
            let Some(capture) = self.captures.values().find(active).cloned() else { continue };
            b.begin(Point::Sequence(self.next), changes::now(c)?);
            let schema = self.tell(b, &capture);
            reading.read(c, b, &capture, (schema, self.budget))?;
            b.snapshot(reading.word());
            self.readings[i] = reading;
        }
        Ok(())
    }
}
