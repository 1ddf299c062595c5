//! What a row of the change table says.

use super::ledger::Capture;
use super::masked::Writer;
use super::trigger::{op, slots};
use rowcast_core::{Op, Value, quote};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, OptionalExtension, Row, params_from_iter};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How the change table is read: as wide as the widest capture.
#[derive(Debug, Default)]
pub(super) struct Changes {
    select: String,
    /// Where the new values begin.
    values: usize,
}

const KEYS: usize = 4;

impl Changes {
    pub(super) fn of(captures: &[Capture]) -> Self {
        let keys = captures.iter().map(|c| c.key.len()).max().unwrap_or(0);
        let values = captures.iter().map(|c| c.schema.columns.len()).max().unwrap_or(0);
        let columns: Vec<_> = slots('k', keys).into_iter().chain(slots('v', values)).collect();
        let columns: String = columns.iter().flat_map(|c| [", ", c]).collect();
        let select = format!(
            "SELECT seq, capture, op, at{columns} FROM _rowcast_changes \
             WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq"
        );
        Self { select, values: KEYS + keys }
    }

    /// Reads changes from one number to another.
    pub(super) fn select(&self) -> &str {
        &self.select
    }

    /// What happened to the published rows; nothing, when only rows without a key are concerned: a
    /// key that holds NULL names no row.
    pub(super) fn decode<'r>(
        &self,
        capture: &'r Capture,
        row: &'r Row<'_>,
        op: &str,
    ) -> Result<Option<Change<'r>>, Error> {
        let mut change =
            Change { op: Op::Delete, capture, row, values: self.values, before: false };
        let old = op != op::INSERT && change.has_old_key()?;
        let new = matches!(op, op::INSERT | op::UPDATE) && change.has_new_key()?;
        (change.op, change.before) = match (old, new) {
            (false, false) => return Ok(None),
            (false, true) => (Op::Create, false),
            (true, false) => (Op::Delete, true),
            (true, true) => (Op::Update, change.key_differs()?),
        };
        Ok(Some(change))
    }
}

/// A change of one published row.
pub(super) struct Change<'r> {
    pub(super) op: Op,
    capture: &'r Capture,
    row: &'r Row<'r>,
    values: usize,
    /// The old key is said.
    before: bool,
}

impl Change<'_> {
    fn old_key(&self, place: usize) -> Result<ValueRef<'_>, Error> {
        self.row.get_ref(KEYS + place)
    }

    fn value(&self, column: usize) -> Result<ValueRef<'_>, Error> {
        self.row.get_ref(self.values + column)
    }

    fn has_old_key(&self) -> Result<bool, Error> {
        for place in 0..self.capture.key.len() {
            if self.old_key(place)? == ValueRef::Null {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_new_key(&self) -> Result<bool, Error> {
        for &column in &self.capture.key {
            if self.value(column)? == ValueRef::Null {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn key_differs(&self) -> Result<bool, Error> {
        for (place, &column) in self.capture.key.iter().enumerate() {
            if self.old_key(place)? != self.value(column)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn write_before(&self, into: &mut Vec<u8>) {
        if !self.before {
            return;
        }
        let mut writer = Writer::new(into, self.capture);
        for column in 0..self.capture.schema.columns.len() {
            let place = self.capture.key.iter().position(|k| *k == column);
            let old = place.map(|p| self.old_key(p).map_or(Value::Null, value));
            writer.push(old.unwrap_or(Value::Unchanged));
        }
    }

    pub(super) fn write_after(&self, into: &mut Vec<u8>) {
        if self.op == Op::Delete {
            return;
        }
        let mut writer = Writer::new(into, self.capture);
        for column in 0..self.capture.schema.columns.len() {
            writer.push(self.value(column).map_or(Value::Null, value));
        }
    }
}

/// A stored value, in its storage class.
pub(super) fn value(stored: ValueRef<'_>) -> Value<'_> {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Integer(i),
        ValueRef::Real(r) => Value::Real(r),
        ValueRef::Text(t) => Value::Text(t),
        ValueRef::Blob(b) => Value::Blob(b),
    }
}

/// When a change was made, in microseconds since 1970.
pub(super) fn committed(c: &Connection, number: u64) -> Result<i64, Error> {
    let find = "SELECT CAST(round((at - 2440587.5) * 86400000) AS INTEGER) * 1000 \
                FROM _rowcast_changes WHERE seq = ?1";
    let found: Option<Option<i64>> =
        c.prepare_cached(find)?.query_row([number as i64], |row| row.get(0)).optional()?;
    Ok(found.flatten().unwrap_or(0))
}

/// The database's clock, in microseconds since 1970.
pub(super) fn now(c: &Connection) -> Result<i64, Error> {
    let ask = "SELECT CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000";
    c.prepare_cached(ask)?.query_row([], |row| row.get(0))
}

/// Which of the "maybe gone" rows of a range of changes are gone now.
pub(super) fn gone(
    c: &Connection,
    changes: &Changes,
    captures: &HashMap<i64, Arc<Capture>>,
    (first, last): (u64, u64),
) -> Result<HashSet<u64>, Error> {
    let mut gone = HashSet::new();
    // Few changes are of this kind: without its own index the whole unit would be read twice.
    let find = changes.select.replace("WHERE", "INDEXED BY _rowcast_maybe_gone WHERE op = 'G' AND");
    let mut find = c.prepare_cached(&find)?;
    let mut rows = find.query([first as i64, last as i64])?;
    while let Some(row) = rows.next()? {
        let Some(capture) = captures.get(&row.get(1)?) else { continue };
        if is_gone(c, capture, row)? {
            gone.insert(row.get::<_, i64>(0)? as u64);
        }
    }
    Ok(gone)
}

fn is_gone(c: &Connection, capture: &Capture, row: &Row<'_>) -> Result<bool, Error> {
    let names: Vec<_> = capture.key_columns().iter().map(|k| quote(k)).collect();
    let equal: Vec<_> = names.iter().map(|k| format!("{k} = ?")).collect();
    let select = format!(
        "SELECT {} FROM {} WHERE {}",
        names.join(", "),
        quote(&capture.table),
        equal.join(" AND ")
    );
    // A capture whose table took another shape since is followed by a reading of the whole table.
    let Ok(mut select) = c.prepare_cached(&select) else { return Ok(false) };
    let key: Vec<ValueRef<'_>> =
        (0..names.len()).map(|i| row.get_ref(KEYS + i)).collect::<Result<_, _>>()?;
    let key = |i: usize| rusqlite::types::ToSqlOutput::Borrowed(key[i]);
    let mut found = select.query(params_from_iter((0..names.len()).map(key)))?;
    while let Some(here) = found.next()? {
        // Equal to the column may still be another key: `a` and `A`.
        let mut same = true;
        for i in 0..names.len() {
            same &= here.get_ref(i)? == row.get_ref(KEYS + i)?;
        }
        if same {
            return Ok(false);
        }
    }
    Ok(true)
}
