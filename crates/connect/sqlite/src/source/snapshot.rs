//! Reads a table in key order, chunk by chunk, each as new as the last change told before it.

use super::changes::value;
use super::ledger::Capture;
use super::masked::Writer;
use crate::table::Table;
use bytes::Bytes;
use rowcast_core::{BatchBuilder, EntityName, Op, RowWriter, Snapshot, Value, quote};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error, Row, params_from_iter};

/// Rows of a chunk, however small they are: changes wait no longer than that.
const ROWS_AT_ONCE: usize = 20_000;

/// How far the reading of one entity came.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) entity: EntityName,
    pub(super) done: bool,
    /// The key read last, packed, and sealed when it is masked; empty before the first.
    cursor: Bytes,
    rows: u64,
    estimate: Option<u64>,
}

impl Reading {
    /// Goes on where the log says.
    pub(super) fn resume(entity: &EntityName, word: Option<&Snapshot>) -> Self {
        let entity = entity.clone();
        match word {
            Some(word) => Self {
                entity,
                done: word.done,
                cursor: word.cursor.clone(),
                rows: word.rows,
                estimate: word.rows_estimate,
            },
            None => Self { entity, done: false, cursor: Bytes::new(), rows: 0, estimate: None },
        }
    }

    /// What the log is to remember.
    pub(super) fn word(&self) -> Snapshot {
        Snapshot {
            entity: self.entity.clone(),
            cursor: self.cursor.clone(),
            rows: self.rows,
            rows_estimate: self.estimate.map(|e| e.max(self.rows)),
            done: self.done,
        }
    }

    /// Reads one chunk into the batch, which may grow to `budget`.
    pub(super) fn read(
        &mut self,
        c: &Connection,
        b: &mut BatchBuilder,
        capture: &Capture,
        (schema, budget): (u32, usize),
    ) -> Result<(), Error> {
        let Some(table) = Table::find(c, &capture.table)? else { return Ok(()) };
        if self.estimate.is_none() {
            self.estimate = Some(table.rows_estimate(c)?);
        }
        let cursor = match &capture.seal {
            Some(seal) => seal.open(&self.cursor).unwrap_or_default().into(),
            None => self.cursor.clone(),
        };
        let mut after = Vec::new();
        // A damaged cursor reads from the start again: repeating rows is harmless.
        let known = rowcast_core::Row(&cursor).unpack(&mut after).is_ok()
            && after.len() == capture.key.len();
        if !known {
            after.clear();
        }
        let select = select(capture, &table, !after.is_empty());
        let mut select = c.prepare_cached(&select)?;
        let key = after.into_iter().map(stored).map(ToSqlOutput::Borrowed);
        let mut rows = select.query(params_from_iter(key))?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            b.push(Op::Read, schema, |_| {}, |into| write(capture, row, into));
            self.rows += 1;
            count += 1;
            if b.bytes() >= budget || count == ROWS_AT_ONCE {
                self.cursor = cursor_at(capture, row);
                return Ok(());
            }
        }
        self.done = true;
        self.cursor = Bytes::new();
        self.estimate = Some(self.rows);
        b.push(Op::Complete, schema, |_| {}, |_| {});
        Ok(())
    }
}

fn select(capture: &Capture, table: &Table, goes_on: bool) -> String {
    let columns: Vec<_> = capture.columns().iter().map(|c| quote(c)).collect();
    let names: Vec<_> = capture.key_columns().iter().map(|k| quote(k)).collect();
    // In the order of the index that keeps keys apart: no two rows are equal there.
    let collations = table.key_collations();
    let key = names.iter().zip(&collations);
    let key: Vec<_> = match table.key_is_rowid() {
        true => names.clone(),
        false => key.map(|(k, c)| format!("{k} COLLATE {}", quote(c))).collect(),
    };
    let mut conditions: Vec<_> = names.iter().map(|k| format!("{k} IS NOT NULL")).collect();
    if goes_on {
        let marks = vec!["?"; key.len()].join(", ");
        conditions.push(format!("({}) > ({marks})", key.join(", ")));
    }
    format!(
        "SELECT {} FROM {} WHERE {} ORDER BY {}",
        columns.join(", "),
        quote(&table.name),
        conditions.join(" AND "),
        key.join(", ")
    )
}

fn write(capture: &Capture, row: &Row<'_>, into: &mut Vec<u8>) {
    let mut writer = Writer::new(into, capture);
    for i in 0..capture.schema.columns.len() {
        writer.push(row.get_ref(i).map_or(Value::Null, value));
    }
}

fn cursor_at(capture: &Capture, row: &Row<'_>) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = RowWriter::new(&mut bytes);
    for &k in &capture.key {
        writer.push(row.get_ref(k).map_or(Value::Null, value));
    }
    if let Some(seal) = &capture.seal {
        bytes = seal.seal(&bytes, rand::random());
    }
    bytes.into()
}

fn stored(value: Value<'_>) -> ValueRef<'_> {
    match value {
        Value::Null | Value::Unchanged => ValueRef::Null,
        Value::Integer(i) => ValueRef::Integer(i),
        Value::Real(r) => ValueRef::Real(r),
        Value::Text(t) => ValueRef::Text(t),
        Value::Blob(b) => ValueRef::Blob(b),
    }
}
