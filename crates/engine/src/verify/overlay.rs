//! What the log says of the keys that changed between the moment at which the source's rows were seen
//! and the copy's checkpoint.
//!
//! Replaying from a little before that moment does no harm: the last word on every value counts, and
//! a value without a word is as the source's rows have it.

use rowcast_core::{Malformed, Op, Row, RowWriter, Schema, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Memory for the rows of one entity that changed meanwhile, near enough.
const BYTES_MAX: usize = 64 << 20;

/// A key's packed values, in key order, as the source writes them.
pub(crate) type Key = Vec<u8>;

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It has no row.
    Gone,
    /// Its row. Unchanged values are those that the source's rows have at `base`.
    Row { packed: Vec<u8>, base: Option<Key> },
}

/// Why rows cannot be foretold from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// All rows went.
    Truncated,
    /// Too many keys changed.
    TooMuch,
    /// The log holds what is no row.
    Malformed,
}

impl From<Malformed> for Lost {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The changed keys of one entity.
#[derive(Debug, Clone)]
pub(crate) struct Overlay {
    schema: Arc<Schema>,
    key: Vec<usize>,
    states: HashMap<Key, State>,
    /// The source's rows that unchanged values come from, once they were read.
    bases: HashMap<Key, Option<Vec<u8>>>,
    bytes: usize,
}

impl Overlay {
    /// No changes; rows have the view's schema.
    pub(crate) fn new(schema: &Arc<Schema>) -> Self {
        Self {
            key: schema.key(),
            schema: schema.clone(),
            states: HashMap::new(),
            bases: HashMap::new(),
            bytes: 0,
        }
    }

    /// Replays one event of the entity.
    pub(crate) fn replay(
        &mut self,
        op: Op,
        schema: &Schema,
        before: Row<'_>,
        after: Row<'_>,
    ) -> Result<(), Lost> {
        match op {
            Op::Schema | Op::Complete | Op::End => return Ok(()),
            Op::Truncate => return Err(Lost::Truncated),
            Op::Delete => {
                let old = self.translate(schema, before)?;
                let old = self.key_of(&old);
                self.set(old, State::Gone)?;
            }
            Op::Create | Op::Read | Op::Update => self.write(schema, before, after)?,
        }
        Ok(())
    }

    fn write(&mut self, schema: &Schema, before: Row<'_>, after: Row<'_>) -> Result<(), Lost> {
        let after = self.translate(schema, after)?;
        let key = self.key_of(&after);
        let old = match before.0.is_empty() {
            true => key.clone(),
            false => self.key_of(&self.translate(schema, before)?),
        };
        let state = if after.contains(&Value::Unchanged) {
            self.merged(&after, &old)?
        } else {
            State::Row { packed: pack(&after), base: None }
        };
        if let State::Row { base: Some(base), .. } = &state {
            self.bases.entry(base.clone()).or_insert(None);
            // After a replay from before the view, the row is there under its new key already.
            self.bases.entry(key.clone()).or_insert(None);
        }
        if old != key {
            self.set(old, State::Gone)?;
        }
        self.set(key, state)
    }

    /// A row whose unchanged values are those of the row at `old`, as far as that was told.
    fn merged(&self, after: &[Value<'_>], old: &Key) -> Result<State, Lost> {
        let Some(State::Row { packed, base }) = self.states.get(old) else {
            return Ok(State::Row { packed: pack(after), base: Some(old.clone()) });
        };
        let mut known = Vec::new();
        Row(packed).unpack(&mut known)?;
        let values: Vec<_> = after.iter().zip(known).map(|(a, k)| said(*a, k)).collect();
        Ok(State::Row { packed: pack(&values), base: base.clone() })
    }

    fn set(&mut self, key: Key, state: State) -> Result<(), Lost> {
        let size = |s: &State| match s {
            State::Gone => 0,
            State::Row { packed, .. } => packed.len(),
        };
        // A key costs more than its bytes: the table it stands in.
        let (new, own) = (size(&state), key.len() + 128);
        match self.states.insert(key, state) {
            Some(old) => self.bytes = self.bytes + new - size(&old),
            None => self.bytes += new + own,
        }
        if self.bytes > BYTES_MAX { Err(Lost::TooMuch) } else { Ok(()) }
    }

    /// An event's row in the columns of the view. What the event's schema lacks is unchanged.
    fn translate<'r>(&self, schema: &Schema, row: Row<'r>) -> Result<Vec<Value<'r>>, Lost> {
        let mut values = Vec::new();
        row.unpack(&mut values)?;
        let names = schema.columns.iter().map(|c| &c.name);
        if names.eq(self.schema.columns.iter().map(|c| &c.name)) {
            return Ok(values);
        }
        let of = |name: &str| schema.column(name).and_then(|at| values.get(at).copied());
        let columns = self.schema.columns.iter();
        Ok(columns.map(|c| of(&c.name).unwrap_or(Value::Unchanged)).collect())
    }

    fn key_of(&self, values: &[Value<'_>]) -> Key {
        let value = |&k: &usize| values.get(k).copied().unwrap_or(Value::Null);
        pack(&self.key.iter().map(value).collect::<Vec<_>>())
    }

    /// Whether nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Whether the log has a word on a key.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.states.contains_key(key)
    }

    /// Takes note of a row of the source, if some unchanged value comes from it.
    pub(crate) fn see(&mut self, key: &[u8], row: Row<'_>) {
        if let Some(base) = self.bases.get_mut(key) {
            *base = Some(row.0.to_vec());
        }
    }

    /// The changed keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.states.keys()
    }

    /// A row as wide as the schema that holds a key and nothing else.
    pub(crate) fn key_row(&self, key: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut values = vec![Value::Unchanged; self.schema.columns.len()];
        for (place, value) in self.key.iter().zip(Row(key).values()) {
            values[*place] = value?;
        }
        Ok(pack(&values))
    }

    /// The row that a changed key has at the checkpoint: `Some(None)` when it has none, `None` when
    /// it cannot be told, because a row it builds on was not seen.
    pub(crate) fn row(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let (packed, base) = match self.states.get(key)? {
            State::Gone => return Some(None),
            State::Row { packed, base } => (packed, base),
        };
        let Some(base) = base else { return Some(Some(packed.clone())) };
        let seen = |key: &[u8]| self.bases.get(key).and_then(Option::as_ref);
        let base = seen(base).or_else(|| seen(key))?;
        let (mut values, mut known) = (Vec::new(), Vec::new());
        Row(packed).unpack(&mut values).ok()?;
        Row(base).unpack(&mut known).ok()?;
        let values: Vec<_> = values.iter().zip(known).map(|(v, k)| said(*v, k)).collect();
        Some(Some(pack(&values)))
    }
}

fn said<'v>(value: Value<'v>, known: Value<'v>) -> Value<'v> {
    if value == Value::Unchanged { known } else { value }
}

fn pack(values: &[Value<'_>]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut writer = RowWriter::new(&mut packed);
    values.iter().for_each(|v| writer.push(*v));
    packed
}

#[cfg(test)]
mod tests;
