//! Several changes to one key become its last state. Changes stay where they are, packed in their
//! batches; a merged row is a base change and the patches laid over it.

use super::target::{Mask, Target};
use rowcast_core::{Change, ChangeOp, Malformed, Row, Rows, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The whole row is known; `fresh` when nothing of this key came before it.
    Whole { fresh: bool },
    /// Some columns are known; the row is at the target.
    Patch,
    /// The row is gone.
    Deleted,
}

/// What becomes of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    state: State,
    /// The change that gave the whole row or removed it; none for a patch.
    base: u32,
    /// The newest patch, as an index into `patches`.
    newest: u32,
}

impl Entry {
    /// A change to name when the row does not fit: the one that gave the whole row, else the last.
    pub(super) fn change(&self, merged: &Merged<'_>) -> u32 {
        if self.base == NONE { merged.patches[self.newest as usize].0 } else { self.base }
    }
}

/// Why changes do not merge: one of them contradicts those before it, so they have to be applied one
/// by one, in order, to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmerged {
    Tangled,
    Malformed,
}

impl From<Malformed> for Unmerged {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The merged changes of one table.
#[derive(Debug, Default)]
pub(super) struct Merged<'a> {
    /// The entry of each key; nothing while all changes are new rows, whose keys hardly ever recur.
    keys: Option<Keys<'a>>,
    entries: Vec<Entry>,
    /// A patch and the one before it.
    patches: Vec<(u32, u32)>,
}

type Keys<'a> = HashMap<Cow<'a, [u8]>, u32, BuildHasherDefault<KeyHasher>>;

/// Hashes a key at once, where a general hasher would first set up a state larger than any key.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, length: usize) {
        self.0 = self.0.rotate_left(32) ^ length as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The rows of a table, by what has to be done with them.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// Changes whose key has to go.
    pub(super) deletes: Vec<u32>,
    /// Whole rows whose key is new.
    pub(super) fresh: Vec<Entry>,
    /// Whole rows.
    pub(super) upserts: Vec<Entry>,
    /// Partial rows, by the columns they have.
    pub(super) patches: Vec<(Mask, Vec<Entry>)>,
}

impl<'a> Merged<'a> {
    /// Takes the next change in order. Key changes and truncates do not merge.
    pub(super) fn push(
        &mut self,
        rows: &'a Rows,
        index: u32,
        target: &Target,
    ) -> Result<(), Unmerged> {
        let change = &rows.changes[index as usize];
        if self.keys.is_none() {
            if matches!(change.op, ChangeOp::Create | ChangeOp::Read) {
                let state = State::Whole { fresh: true };
                self.entries.push(Entry { state, base: index, newest: NONE });
                return Ok(());
            }
            self.by_key(rows, target)?;
        }
        self.merge(rows, index, target)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether each key has one entry only. Otherwise all of them are new rows, as they came.
    pub(super) fn is_by_key(&self) -> bool {
        self.keys.is_some()
    }

    /// Merges new rows that stand as they came.
    pub(super) fn by_key(&mut self, rows: &'a Rows, target: &Target) -> Result<(), Unmerged> {
        if self.keys.is_some() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.entries);
        self.entries.reserve(entries.len());
        self.keys = Some(Keys::with_capacity_and_hasher(entries.len(), Default::default()));
        entries.into_iter().try_for_each(|entry| self.merge(rows, entry.base, target))
    }

    fn merge(&mut self, rows: &'a Rows, index: u32, target: &Target) -> Result<(), Unmerged> {
        let change = &rows.changes[index as usize];
        let row = match change.op {
            ChangeOp::Delete => rows.before(change),
            _ => rows.after(change),
        };
        let key = key(row, &target.key_sources)?;
        let slot = self.keys.get_or_insert_default().entry(key).or_insert(NONE);
        let known = (*slot != NONE).then(|| self.entries[*slot as usize]);
        if known.is_none() {
            *slot = self.entries.len() as u32;
            self.entries.push(Entry { state: State::Deleted, base: NONE, newest: NONE });
        }
        let entry = &mut self.entries[*slot as usize];
        let state = known.map(|e| e.state);
        match change.op {
            ChangeOp::Create | ChangeOp::Read | ChangeOp::Update => {
                let fresh = match state {
                    None => change.op != ChangeOp::Update,
                    Some(State::Whole { fresh }) => fresh,
                    Some(State::Patch | State::Deleted) => false,
                };
                *entry = Entry { state: State::Whole { fresh }, base: index, newest: NONE };
            }
            ChangeOp::Patch => {
                match state {
                    Some(State::Deleted) => return Err(Unmerged::Tangled),
                    None => entry.state = State::Patch,
                    Some(State::Whole { .. } | State::Patch) => {}
                }
                self.patches.push((index, entry.newest));
                entry.newest = (self.patches.len() - 1) as u32;
            }
            ChangeOp::Delete | ChangeOp::Leave => {
                *entry = Entry { state: State::Deleted, base: index, newest: NONE };
            }
            ChangeOp::Rekey | ChangeOp::Truncate => return Err(Unmerged::Tangled),
        }
        Ok(())
    }

    /// Sorts the merged rows by what has to be done.
    pub(super) fn sets(&self, rows: &'a Rows, target: &Target) -> Result<Sets, Unmerged> {
        let mut sets = Sets::default();
        let mut image = Image::default();
        for entry in &self.entries {
            match entry.state {
                State::Deleted => sets.deletes.push(entry.base),
                State::Whole { fresh: true } => sets.fresh.push(*entry),
                State::Whole { fresh: false } => sets.upserts.push(*entry),
                State::Patch => {
                    image.load(rows, self, entry)?;
                    let mask = patch_mask(target, &image.values, false);
                    if mask.is_empty() {
                        continue;
                    }
                    match sets.patches.iter_mut().find(|(m, _)| *m == mask) {
                        Some((_, entries)) => entries.push(*entry),
                        None => sets.patches.push((mask, vec![*entry])),
                    }
                }
            }
        }
        Ok(sets)
    }
}

/// The columns that a patch sets: those with a value; the key only when it may change.
pub(super) fn patch_mask(target: &Target, values: &[Value<'_>], with_key: bool) -> Mask {
    let mut mask = Mask::default();
    for (i, column) in target.columns.iter().enumerate() {
        let present = values.get(column.source).is_some_and(|v| *v != Value::Unchanged);
        if present && (with_key || !target.key.contains(&i)) {
            mask.set(i);
        }
    }
    mask
}

/// A merged row's values; reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Image<'a> {
    pub(super) values: Vec<Value<'a>>,
    patch: Vec<Value<'a>>,
}

impl<'a> Image<'a> {
    /// Loads the last state of a key.
    pub(super) fn load(
        &mut self,
        rows: &'a Rows,
        merged: &Merged<'_>,
        entry: &Entry,
    ) -> Result<(), Malformed> {
        if entry.base == NONE {
            self.values.clear();
        } else {
            let change = &rows.changes[entry.base as usize];
            let row = match entry.state {
                State::Deleted => rows.found_by(change),
                State::Whole { .. } | State::Patch => rows.after(change),
            };
            row.unpack(&mut self.values)?;
        }
        if entry.newest != NONE { self.lay_over(rows, merged, entry.newest) } else { Ok(()) }
    }

    fn lay_over(
        &mut self,
        rows: &'a Rows,
        merged: &Merged<'_>,
        newest: u32,
    ) -> Result<(), Malformed> {
        let mut order = Vec::new();
        let mut at = newest;
        while at != NONE {
            let (change, before) = merged.patches[at as usize];
            order.push(change);
            at = before;
        }
        for change in order.into_iter().rev() {
            rows.after(&rows.changes[change as usize]).unpack(&mut self.patch)?;
            self.values.resize(self.patch.len(), Value::Unchanged);
            for (value, patch) in self.values.iter_mut().zip(&self.patch) {
                if *patch != Value::Unchanged {
                    *value = *patch;
                }
            }
        }
        Ok(())
    }

    /// Loads one row as it is.
    pub(super) fn load_row(&mut self, row: Row<'a>) -> Result<(), Malformed> {
        row.unpack(&mut self.values)
    }
}

/// The bytes that tell a key: the text itself where the key is one text, as nearly always.
pub(super) fn key<'a>(row: Row<'a>, sources: &[usize]) -> Result<Cow<'a, [u8]>, Unmerged> {
    if let [source] = sources {
        let value = row.values().nth(*source).ok_or(Unmerged::Malformed)??;
        return match value {
            Value::Text(text) => Ok(text.into()),
            Value::Unchanged => Err(Unmerged::Tangled),
            other => {
                let mut key = Vec::new();
                tagged(&mut key, other);
                Ok(key.into())
            }
        };
    }
    let mut values = Vec::with_capacity(16);
    row.unpack(&mut values)?;
    let mut key = Vec::with_capacity(32);
    for source in sources {
        match *values.get(*source).ok_or(Unmerged::Malformed)? {
            Value::Unchanged => return Err(Unmerged::Tangled),
            value => tagged(&mut key, value),
        }
    }
    Ok(key.into())
}

/// A value with its kind and length, so that two different keys never give the same bytes. 0xff
/// begins no text.
fn tagged(key: &mut Vec<u8>, value: Value<'_>) {
    let mut put = |tag: u8, bytes: &[u8]| {
        key.extend_from_slice(&[0xff, tag]);
        key.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        key.extend_from_slice(bytes);
    };
    match value {
        Value::Null | Value::Unchanged => put(0, &[]),
        Value::Text(text) => put(1, text),
        Value::Integer(i) => put(2, &i.to_le_bytes()),
        Value::Real(r) => put(3, &r.to_bits().to_le_bytes()),
        Value::Blob(blob) => put(4, blob),
    }
}

/// How the changes of an apply fall into parts: runs that merge, and changes that stand alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Changes from the first to before the second index.
    Run(u32, u32),
    /// A key change or a truncate.
    Alone(u32),
}

/// Cuts changes into parts. A run has one shape for each subscription.
pub(super) fn parts(rows: &Rows) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut begin = 0;
    let mut shapes: Vec<Option<u32>> = Vec::new();
    let end_run = |parts: &mut Vec<Part>, begin: u32, end: u32| {
        if begin < end {
            parts.push(Part::Run(begin, end));
        }
    };
    for (i, change) in rows.changes.iter().enumerate() {
        let i = i as u32;
        if let Change { op: ChangeOp::Rekey | ChangeOp::Truncate, .. } = change {
            end_run(&mut parts, begin, i);
            parts.push(Part::Alone(i));
            begin = i + 1;
            shapes.clear();
            continue;
        }
        let subscription = rows.shapes[change.shape as usize].shape.subscription;
        if shapes.len() <= subscription {
            shapes.resize(subscription + 1, None);
        }
        if shapes[subscription].is_some_and(|s| s != change.shape) {
            end_run(&mut parts, begin, i);
            begin = i;
            shapes.fill(None);
        }
        shapes[subscription] = Some(change.shape);
    }
    end_run(&mut parts, begin, rows.changes.len() as u32);
    parts
}
