//! Takes events in order and keeps of each key what stays.

use super::controls::Controls;
use super::fill::fill;
use super::names::Names;
use super::record::{Fault, Record};
use super::sorted::{Run, Survivors};
use super::spill::{Spill, SpillReader};
use super::state::State;
use crate::files::disk::Disk;
use rowcast_core::{Batch, EntityName, Event, Offset, Op, Row, Snapshot, Stored, Transaction};
use std::collections::BTreeSet;
use std::collections::hash_map::{Entry, HashMap, RandomState};
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;

/// Where records go that do not fit in memory.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// Bytes of records to hold in memory.
    pub(crate) memory: usize,
    /// Files to spread them over.
    pub(crate) parts: usize,
}

/// What a compaction may use, and what it may forget.
pub(crate) struct Limits<'a> {
    /// Deletes that were committed before go, in microseconds since 1970.
    pub(crate) horizon: i64,
    /// `None` holds everything in memory.
    pub(crate) scratch: Option<Scratch>,
    /// Called with the bytes that were read or written; waits, or ends the compaction.
    pub(crate) spend: &'a (dyn Fn(u64) -> Result<(), Fault> + Send + Sync),
}

pub(crate) struct Sieve<'a> {
    names: Names,
    controls: Controls,
    keys: HashMap<Box<[u8]>, State>,
    bytes: usize,
    limits: Limits<'a>,
    parts: Vec<Spill>,
    hasher: RandomState,
    /// Entities of which every event stays.
    untouched: BTreeSet<EntityName>,
}

/// Bytes that a key costs beside its records.
const KEY_COST: usize = 96;

impl<'a> Sieve<'a> {
    /// A sieve that leaves the events of `untouched` as they are.
    pub(crate) fn new(limits: Limits<'a>, untouched: BTreeSet<EntityName>) -> Self {
        Self {
            names: Names::default(),
            controls: Controls::default(),
            keys: HashMap::new(),
            bytes: 0,
            limits,
            parts: Vec::new(),
            hasher: RandomState::new(),
            untouched,
        }
    }

    /// Takes what the head of a segment repeats; `frame` is 0 for what was known from the beginning.
    pub(crate) fn repeat(&mut self, words: &[(Snapshot, Offset)], frame: u64) {
        self.controls.repeat(words, frame);
    }

    /// Takes the next batch, which stands in the frame of this number.
    pub(crate) fn push(&mut self, stored: &Stored, frame: u64) -> Result<(), Fault> {
        let batch = &*stored.batch;
        self.controls.note(batch, stored.end(), frame);
        let schemas: Vec<u32> = batch.schemas.iter().map(|s| self.names.number(s)).collect();
        let mut index = 0;
        for transaction in &batch.transactions {
            for _ in 0..transaction.events {
                let event = &batch.events[index];
                let schema = schemas[event.schema as usize];
                let offset = stored.offset(index).0;
                index += 1;
                self.event(record(batch, event, transaction, schema, offset))?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Record) -> Result<(), Fault> {
        let entity = self.names.get(event.schema).entity;
        self.controls.seen(entity, &event);
        match event.op {
            Op::Schema => self.controls.schema(entity, event),
            Op::Truncate => self.controls.truncate(entity, event),
            Op::Complete => self.controls.complete(entity, event),
            // The transaction it ends is no longer there as one.
            Op::End => {}
            Op::Create | Op::Update | Op::Delete | Op::Read => return self.row(event),
        }
        Ok(())
    }

    fn row(&mut self, mut event: Record) -> Result<(), Fault> {
        let schema = event.schema;
        if self.untouched.contains(&self.names.get(schema).schema.entity) {
            event.pinned = true;
            return self.put(self.names.unlike_any(schema, event.offset), event);
        }
        if event.op == Op::Delete {
            return self.put(self.names.key(schema, Row(&event.before))?, event);
        }
        event.partial = Row(&event.after).has_unchanged();
        let key = self.names.key(schema, Row(&event.after))?;
        if !event.before.is_empty() {
            let old = self.names.key(schema, Row(&event.before))?;
            if old != key {
                return self.moved(old, key, event);
            }
            event.before = Box::default();
        }
        self.put(key, event)
    }

    /// A row whose key changed: a delete of the old key and the state of the new one. When values are
    /// missing that only the old key's row has, and that row is not at hand, both events stay.
    fn moved(&mut self, old: Box<[u8]>, new: Box<[u8]>, mut event: Record) -> Result<(), Fault> {
        if event.partial
            && let Some(state) = self.keys.get(&old)
            && !self.is_gone(&state.last)
            && let Some(base) = state.whole_row()
            && let Some((after, false)) = fill(base, &event, &self.names)?
        {
            (event.after, event.partial) = (after, false);
        }
        let mut left = Record { op: Op::End, after: Box::default(), ..event.clone() };
        if event.partial {
            left.before = Box::default();
            (left.pinned, event.pinned) = (true, true);
        } else {
            left.op = Op::Delete;
            event.before = Box::default();
        }
        left.partial = false;
        self.put(old, left)?;
        self.put(new, event)
    }

    /// Whether a truncate took it.
    fn is_gone(&self, event: &Record) -> bool {
        self.controls.emptied_after(self.names.get(event.schema).entity, event.offset)
    }

    fn put(&mut self, key: Box<[u8]>, event: Record) -> Result<(), Fault> {
        let cost = key.len() + KEY_COST;
        let gone = self.keys.get(&key).is_some_and(|state| self.is_gone(&state.last));
        match self.keys.entry(key) {
            Entry::Vacant(entry) => self.bytes += cost + entry.insert(State::new(event)).size(),
            Entry::Occupied(mut entry) => {
                self.bytes -= entry.get().size();
                if gone {
                    entry.insert(State::new(event));
                } else {
                    entry.get_mut().push(event, &self.names)?;
                }
                self.bytes += entry.get().size();
            }
        }
        match &self.limits.scratch {
            Some(scratch) if self.bytes > scratch.memory => self.spill(),
            _ => Ok(()),
        }
    }

    /// Writes what is in memory to the scratch files. Later events of the same keys follow there.
    fn spill(&mut self) -> Result<(), Fault> {
        let scratch = self.limits.scratch.clone().expect("only what has scratch files spills");
        let buffer = (scratch.memory / scratch.parts / 8).clamp(4 << 10, 64 << 10);
        for part in self.parts.len()..scratch.parts {
            let path = scratch.dir.join(format!("part-{part:03}.new"));
            self.parts.push(Spill::create(&scratch.disk, path, buffer)?);
        }
        for (key, State { earlier, last }) in std::mem::take(&mut self.keys) {
            let part = self.hasher.hash_one(&key) as usize % scratch.parts;
            for event in earlier.iter().chain([&last]) {
                if !self.is_gone(event) {
                    let bytes = self.parts[part].push(&key, event)?;
                    (self.limits.spend)(bytes)?;
                }
            }
        }
        self.bytes = 0;
        Ok(())
    }

    /// What stays, by offset.
    pub(crate) fn finish(mut self) -> Result<Survivors, Fault> {
        let mut runs = Vec::new();
        let mut forgotten = 0;
        if self.parts.is_empty() {
            let keys = std::mem::take(&mut self.keys);
            runs.push(Run::Memory(self.settle(keys, &mut forgotten).into_iter()));
        } else {
            self.spill()?;
            let scratch = self.limits.scratch.clone().expect("it spilled");
            for (number, part) in std::mem::take(&mut self.parts).into_iter().enumerate() {
                let keys = self.fold(part.read(256 << 10)?)?;
                let events = self.settle(keys, &mut forgotten);
                let path = scratch.dir.join(format!("run-{number:03}.new"));
                let mut run = Spill::create(&scratch.disk, path, 256 << 10)?;
                for event in events {
                    let bytes = run.push(&[], &event)?;
                    (self.limits.spend)(bytes)?;
                }
                runs.push(Run::File(run.read(64 << 10)?));
            }
        }
        let (controls, notes, emptied) = self.controls.finish(self.limits.horizon);
        runs.push(Run::Memory(controls.into_iter()));
        Survivors::new(runs, self.names, notes, forgotten.max(emptied))
    }

    /// Folds one scratch file.
    fn fold(&mut self, mut part: SpillReader) -> Result<HashMap<Box<[u8]>, State>, Fault> {
        let mut keys: HashMap<Box<[u8]>, State> = HashMap::new();
        while let Some((key, event)) = part.next()? {
            (self.limits.spend)(event.size() as u64)?;
            if self.is_gone(&event) {
                continue;
            }
            match keys.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(State::new(event)),
                Entry::Occupied(mut entry) => entry.get_mut().push(event, &self.names)?,
            }
        }
        Ok(keys)
    }

    /// What stays of folded keys, in order. Deletes that are old enough go, and `forgotten` becomes
    /// the offset after the last of them.
    fn settle(&mut self, keys: HashMap<Box<[u8]>, State>, forgotten: &mut u64) -> Vec<Record> {
        let mut stay = Vec::with_capacity(keys.len());
        for State { earlier, last } in keys.into_values() {
            let old = last.op == Op::Delete && last.committed < self.limits.horizon;
            // A delete that others are built on ends what they began.
            if old && earlier.is_empty() && !last.pinned {
                if !self.is_gone(&last) {
                    *forgotten = (*forgotten).max(last.offset + 1);
                }
                continue;
            }
            for event in earlier.into_iter().chain([last]) {
                if event.op != Op::End && !self.is_gone(&event) {
                    stay.push(event);
                }
            }
        }
        for event in &stay {
            self.controls.stays(self.names.get(event.schema).entity, event);
        }
        stay.sort_unstable_by_key(|e| (e.offset, e.op != Op::Delete));
        stay
    }
}

fn record(
    batch: &Batch,
    event: &Event,
    transaction: &Transaction,
    schema: u32,
    offset: u64,
) -> Record {
    Record {
        offset,
        at: transaction.at,
        committed: transaction.committed,
        op: event.op,
        schema,
        pinned: false,
        partial: false,
        before: batch.before(event).0.into(),
        after: batch.after(event).0.into(),
    }
}
