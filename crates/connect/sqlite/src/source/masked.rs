//! Masks of captured entities. The change table and its triggers hold clear values, as the file they
//! lie in does; they are masked on their way out.

use super::ledger::Capture;
use crate::table::Table;
use crate::types;
use rowcast_core::{EntityName, MaskKey, Masker, Masks, Publish, RowWriter, Schema, Value};

/// What is masked of one published entity, as its table is now.
#[derive(Debug)]
pub(super) struct Masked {
    entity: EntityName,
    notes: String,
    key: Option<MaskKey>,
    /// By field.
    maskers: Vec<(String, Masker)>,
}

impl Masked {
    pub(super) fn of(table: &Table, publish: &Publish) -> Self {
        let masker = |(field, _): (&str, _)| {
            let kind = types::kind(&table.column(field)?.declared);
            Some((field.to_string(), publish.masks.masker(field, kind)?))
        };
        let maskers = publish.masks.fields().filter_map(masker).collect();
        let (entity, notes) = (publish.entity.clone(), publish.masks.notes());
        Self { entity, notes, key: publish.masks.key().cloned(), maskers }
    }
}

/// What masks the fields of a published table, in the order of its schema.
pub(crate) fn maskers(table: &Table, publish: &Publish, schema: &Schema) -> Vec<Option<Masker>> {
    let Masked { maskers, .. } = Masked::of(table, publish);
    let masker = |name: &str| maskers.iter().find(|(field, _)| field == name);
    schema.columns.iter().map(|c| masker(&c.name).map(|(_, m)| m.clone())).collect()
}

/// Gives each capture its maskers. One that was made for other masks is outdated: its changes cannot
/// be told as they are, and its entity is read again anyway or no longer published.
pub(super) fn prepare(captures: &mut [Capture], masked: &[Masked]) {
    for capture in captures {
        let now = masked.iter().find(|m| m.entity == capture.schema.entity);
        capture.outdated = capture.masks != now.map_or("", |m| m.notes.as_str());
        let masker = |name: &str| {
            let found = now?.maskers.iter().find(|(field, _)| field == name);
            found.map(|(_, masker)| masker.clone())
        };
        let columns = capture.schema.columns.iter();
        capture.maskers = columns.map(|c| masker(&c.name)).collect();
        let sealed = capture.key.iter().any(|k| capture.maskers[*k].is_some());
        capture.seal = now.and_then(|m| m.key.clone()).filter(|_| sealed);
    }
}

/// Writes a row of a capture, value by value.
pub(super) struct Writer<'a> {
    row: RowWriter<'a>,
    capture: &'a Capture,
    column: usize,
    scratch: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(into: &'a mut Vec<u8>, capture: &'a Capture) -> Self {
        Self { row: RowWriter::new(into), capture, column: 0, scratch: Vec::new() }
    }

    /// The next column's value.
    pub(super) fn push(&mut self, value: Value<'_>) {
        match self.capture.maskers.get(self.column) {
            Some(Some(masker)) => masker.push(value, &mut self.scratch, &mut self.row),
            Some(None) | None => self.row.push(value),
        }
        self.column += 1;
    }
}

/// Generated columns that cannot leave: SQLite sends their values, and does not say which columns
/// they are computed from, so any of them may tell a masked one.
pub(crate) fn withheld<'a>(table: &'a Table, masks: &Masks) -> Vec<&'a str> {
    let generated = table.columns.iter().filter(|c| c.generated && !masks.is_empty());
    generated.map(|c| c.name.as_str()).filter(|name| masks.of(name).is_none()).collect()
}
