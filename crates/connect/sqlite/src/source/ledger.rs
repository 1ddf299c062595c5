//! What capture keeps in the captured file: who follows its history, which columns the triggers
//! were made for, and the changes themselves.
//!
//! Law: triggers, the records about them and the changes they imply move in one transaction.

use super::trigger::{self, NOW, op, slots, triggers};
use crate::table::Table;
use crate::turn::Turn;
use rowcast_core::{Column, EntityName, Epoch, MaskKey, Masker, Schema, SchemaId, quote};
use rusqlite::{Connection, Error, OptionalExtension, params};
use std::sync::Arc;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rowcast_source (
  one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, service TEXT NOT NULL,
  identity INTEGER NOT NULL, birth INTEGER NOT NULL, purged INTEGER NOT NULL,
  looked INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS _rowcast_captures (
  id INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT NOT NULL, source TEXT NOT NULL,
  active INTEGER NOT NULL, complete INTEGER NOT NULL, masks TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS _rowcast_columns (
  capture INTEGER NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL, native TEXT NOT NULL,
  key INTEGER, not_null INTEGER NOT NULL, fill TEXT, PRIMARY KEY (capture, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _rowcast_changes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, capture, op, at, k0, v0);
CREATE INDEX IF NOT EXISTS _rowcast_maybe_gone ON _rowcast_changes (seq) WHERE op = 'G';
";

/// The history that ended because too much waited, for as long as no log holds a later one.
const RELEASED: &str = "
CREATE TABLE IF NOT EXISTS _rowcast_released (identity INTEGER NOT NULL, birth INTEGER NOT NULL)";

/// Number of this layout; a newer Rowcast reads it, an older one refuses.
pub(super) const FORMAT: i64 = 1;

/// Who follows the file's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) format: i64,
    pub(super) epoch: Epoch,
    /// Changes before this number are gone.
    pub(super) purged: u64,
}

/// What the triggers of one table were made for.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    pub(super) id: i64,
    pub(super) table: String,
    pub(super) schema: Arc<Schema>,
    pub(super) schema_id: SchemaId,
    /// Indexes of the key's columns, in key order.
    pub(super) key: Vec<usize>,
    pub(super) active: bool,
    /// Every column of the table is published, so one that comes later is new to the table too.
    pub(super) complete: bool,
    /// Notes of the masks it was made for; empty without masks.
    pub(super) masks: String,
    /// The entity is masked otherwise now, so its changes must not be told.
    pub(super) outdated: bool,
    /// What masks each column's values.
    pub(super) maskers: Arc<[Option<Masker>]>,
    /// Seals notes of the key, when it is masked.
    pub(super) seal: Option<MaskKey>,
}

impl Capture {
    fn new(id: i64, table: String, schema: Schema, (active, complete): (bool, bool)) -> Self {
        let (key, schema_id) = (schema.key(), schema.id());
        Self {
            id,
            table,
            schema: Arc::new(schema),
            schema_id,
            key,
            active,
            complete,
            masks: String::new(),
            outdated: false,
            maskers: Arc::default(),
            seal: None,
        }
    }

    /// Names of its columns.
    pub(super) fn columns(&self) -> Vec<String> {
        self.schema.columns.iter().map(|c| c.name.clone()).collect()
    }

    /// Names of its key's columns.
    pub(super) fn key_columns(&self) -> Vec<String> {
        self.key.iter().map(|k| self.schema.columns[*k].name.clone()).collect()
    }

    fn triggers(&self, table: &Table) -> Vec<trigger::Trigger> {
        triggers(self.id, table, &self.columns(), &self.key_columns())
    }

    /// Whether its triggers are on `table` as we would make them now. When they are not, changes
    /// may have passed unseen.
    pub(super) fn is_intact(&self, c: &Connection, table: &Table) -> Result<bool, Error> {
        if self.table != table.name {
            return Ok(false);
        }
        let find = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1";
        let mut find = c.prepare_cached(find)?;
        for trigger in self.triggers(table) {
            let found: Option<String> =
                find.query_row([&trigger.name], |row| row.get(0)).optional()?;
            if found.as_ref() != Some(&trigger.sql) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes our tables where they are missing.
pub(super) fn make_tables(c: &Connection) -> Result<(), Error> {
    c.execute_batch(TABLES)?;
    // Files that were captured before there were masks.
    let captures = Table::find(c, "_rowcast_captures")?;
    if captures.is_some_and(|t| t.column("masks").is_none()) {
        c.execute_batch("ALTER TABLE _rowcast_captures ADD COLUMN masks TEXT NOT NULL DEFAULT ''")?;
    }
    Ok(())
}

/// Whether our tables are there.
pub(super) fn is_there(c: &Connection) -> Result<bool, Error> {
    let find = "SELECT count(*) FROM sqlite_schema \
                WHERE name IN ('_rowcast_source', '_rowcast_changes')";
    c.query_row(find, [], |row| Ok(row.get::<_, i64>(0)? == 2))
}

pub(super) fn identity(c: &Connection) -> Result<Option<Identity>, Error> {
    if !is_there(c)? {
        return Ok(None);
    }
    let find = "SELECT format, identity, birth, purged FROM _rowcast_source";
    c.query_row(find, [], |row| {
        let epoch =
            Epoch { identity: row.get::<_, i64>(1)? as u64, birth: row.get::<_, i64>(2)? as u64 };
        Ok(Identity { format: row.get(0)?, epoch, purged: row.get::<_, i64>(3)? as u64 })
    })
    .optional()
}

/// Notes that this history ended because the file was told to let go of what waited.
pub(super) fn note_released(c: &Connection, epoch: Epoch) -> Result<(), Error> {
    c.execute_batch(RELEASED)?;
    c.execute("DELETE FROM _rowcast_released", [])?;
    c.execute(
        "INSERT INTO _rowcast_released VALUES (?1, ?2)",
        params![epoch.identity as i64, epoch.birth as i64],
    )?;
    Ok(())
}

/// Whether it was this history that ended so.
pub(super) fn was_released(c: &Connection, epoch: Epoch) -> Result<bool, Error> {
    if !has_released(c)? {
        return Ok(false);
    }
    let find = "SELECT count(*) FROM _rowcast_released WHERE identity = ?1 AND birth = ?2";
    let known = params![epoch.identity as i64, epoch.birth as i64];
    c.query_row(find, known, |row| Ok(row.get::<_, i64>(0)? > 0))
}

/// Forgets it: the log holds a later history.
pub(super) fn forget_released(c: &Connection) -> Result<(), Error> {
    if has_released(c)? {
        c.execute_batch("DROP TABLE _rowcast_released")?;
    }
    Ok(())
}

fn has_released(c: &Connection) -> Result<bool, Error> {
    let find = "SELECT count(*) FROM sqlite_schema WHERE name = '_rowcast_released'";
    c.query_row(find, [], |row| Ok(row.get::<_, i64>(0)? > 0))
}

pub(super) fn set_identity(c: &Connection, service: &str, epoch: Epoch) -> Result<(), Error> {
    c.execute("DELETE FROM _rowcast_source", [])?;
    c.execute(
        "INSERT INTO _rowcast_source VALUES (1, ?1, ?2, ?3, ?4, ?4, -1)",
        params![FORMAT, service, epoch.identity as i64, epoch.birth as i64],
    )?;
    Ok(())
}

/// The number that the next change gets, at least.
pub(super) fn next_number(c: &Connection) -> Result<u64, Error> {
    // A statement that ends with OR FAIL leaves rows whose number SQLite has not noted.
    let find = "SELECT max(ifnull((SELECT max(seq) FROM _rowcast_changes), 0), \
                ifnull((SELECT seq FROM sqlite_sequence WHERE name = '_rowcast_changes'), 0))";
    let newest: i64 = c.query_row(find, [], |row| row.get(0))?;
    Ok(newest as u64 + 1)
}

/// Sees to it that numbers before `next` are never given again, though their changes go.
fn keep_numbers(c: &Connection, next: u64) -> Result<(), Error> {
    let noted = c.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = '_rowcast_changes'",
        [next as i64 - 1],
    )?;
    if noted == 0 {
        c.execute(
            "INSERT INTO sqlite_sequence VALUES ('_rowcast_changes', ?1)",
            [next as i64 - 1],
        )?;
    }
    Ok(())
}

/// Forgets all changes. Returns the number of the next one.
pub(super) fn forget_changes(c: &Connection) -> Result<u64, Error> {
    // One more than was there, so that it covers every mark given before.
    let next = next_number(c)? + 1;
    keep_numbers(c, next)?;
    c.execute("DELETE FROM _rowcast_changes", [])?;
    Ok(next)
}

/// The version of the tables that capture looked at last.
fn looked(c: &Connection) -> Result<i64, Error> {
    c.query_row("SELECT looked FROM _rowcast_source", [], |row| row.get(0))
}

/// The version of the tables now.
pub(super) fn schema_version(c: &Connection) -> Result<i64, Error> {
    c.query_row("PRAGMA schema_version", [], |row| row.get(0))
}

/// Notes that capture has looked at the tables as they are. When they had changed, that is a change
/// of its own, so that a mark can wait for it.
pub(super) fn note_look(c: &Connection) -> Result<i64, Error> {
    let version = schema_version(c)?;
    if looked(c)? != version {
        note(c, None, op::LOOKED)?;
        c.execute("UPDATE _rowcast_source SET looked = ?1", [version])?;
    }
    Ok(version)
}

/// The number that capture has to reach to have everything that is committed now.
pub(super) fn mark(c: &Connection) -> Result<u64, Error> {
    // Before the first capture there is no change to wait for: the snapshot sees it all.
    if identity(c)?.is_none() {
        return Ok(if is_there(c)? { next_number(c)? } else { 1 });
    }
    // Tables that changed may have shed their triggers: what capture makes of it is still to come.
    let unseen = looked(c)? != schema_version(c)?;
    Ok(next_number(c)? + u64::from(unseen))
}

/// All captures, old ones too: their changes may still wait to be read.
pub(super) fn captures(c: &Connection) -> Result<Vec<Capture>, Error> {
    let mut list =
        c.prepare("SELECT id, entity, source, active, complete, masks FROM _rowcast_captures")?;
    let found = list.query_map([], |row| {
        let id: i64 = row.get(0)?;
        let complete = (row.get(3)?, row.get(4)?);
        Ok((id, row.get::<_, String>(1)?, row.get(2)?, complete, row.get(5)?))
    })?;
    let mut captures = Vec::new();
    for found in found {
        let (id, entity, table, state, masks) = found?;
        // A name that is none was not written by us.
        let Ok(entity) = entity.parse::<EntityName>() else { continue };
        let columns = columns(c, id)?;
        let schema = Schema {
            entity,
            dialect: crate::types::DIALECT.into(),
            columns,
            generated: Vec::new(),
        };
        captures.push(Capture { masks, ..Capture::new(id, table, schema, state) });
    }
    Ok(captures)
}

fn columns(c: &Connection, capture: i64) -> Result<Vec<Column>, Error> {
    let list = "SELECT name, native, key, not_null, fill FROM _rowcast_columns \
                WHERE capture = ?1 ORDER BY place";
    let mut list = c.prepare_cached(list)?;
    let columns = list.query_map([capture], |row| {
        let native: String = row.get(1)?;
        Ok(Column {
            name: row.get(0)?,
            kind: crate::types::kind(&native),
            native,
            key: row.get(2)?,
            not_null: row.get(3)?,
            fill: row.get(4)?,
        })
    })?;
    columns.collect()
}

/// Makes triggers on `table` for `schema`, and the record of it with the notes of its masks.
pub(super) fn add(
    c: &Connection,
    table: &Table,
    schema: &Schema,
    masks: &str,
) -> Result<Capture, Error> {
    let complete = covers(table, schema);
    c.execute(
        "INSERT INTO _rowcast_captures (entity, source, active, complete, masks) \
         VALUES (?1, ?2, 1, ?3, ?4)",
        params![schema.entity.as_str(), table.name, complete, masks],
    )?;
    let id = c.last_insert_rowid();
    for (place, column) in schema.columns.iter().enumerate() {
        c.execute(
            "INSERT INTO _rowcast_columns VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id,
                place as i64,
                column.name,
                column.native,
                column.key,
                column.not_null,
                column.fill
            ],
        )?;
    }
    let capture = Capture::new(id, table.name.clone(), schema.clone(), (true, complete));
    widen(c, capture.key.len(), schema.columns.len())?;
    for trigger in capture.triggers(table) {
        c.execute(&trigger.sql, [])?;
    }
    Ok(capture)
}

/// Whether every column of the table is published.
pub(super) fn covers(table: &Table, schema: &Schema) -> bool {
    table.columns.iter().all(|c| schema.column(&c.name).is_some())
}

/// Remembers that the table has columns whose changes are not captured.
pub(super) fn is_incomplete(c: &Connection, id: i64) -> Result<(), Error> {
    c.execute("UPDATE _rowcast_captures SET complete = 0 WHERE id = ?1", [id]).map(|_| ())
}

/// Takes a capture's triggers away; its changes stay until they are read.
pub(super) fn retire(c: &Connection, id: i64) -> Result<(), Error> {
    let list = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name GLOB ?1";
    let mut list = c.prepare_cached(list)?;
    let names: Vec<String> = list
        .query_map([format!("_rowcast_{id}_*")], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for name in names {
        c.execute(&format!("DROP TRIGGER {}", quote(&name)), [])?;
    }
    c.execute("UPDATE _rowcast_captures SET active = 0 WHERE id = ?1", [id])?;
    Ok(())
}

/// Forgets old captures none of whose changes is left.
pub(super) fn forget_read_captures(c: &Connection) -> Result<(), Error> {
    c.execute_batch(
        "DELETE FROM _rowcast_captures WHERE active = 0 \
         AND id NOT IN (SELECT capture FROM _rowcast_changes); \
         DELETE FROM _rowcast_columns WHERE capture NOT IN (SELECT id FROM _rowcast_captures);",
    )
}

fn widen(c: &Connection, keys: usize, values: usize) -> Result<(), Error> {
    let changes = Table::find(c, "_rowcast_changes")?;
    let has = |slot: &String| changes.as_ref().is_some_and(|t| t.column(slot).is_some());
    let wanted = [slots('k', keys), slots('v', values)].concat();
    for slot in wanted.iter().filter(|slot| !has(slot)) {
        c.execute(&format!("ALTER TABLE _rowcast_changes ADD COLUMN {slot}"), [])?;
    }
    Ok(())
}

/// A change without a row: a schema, or that the entity is read again.
pub(super) fn note(c: &Connection, capture: Option<i64>, op: &str) -> Result<(), Error> {
    let insert = format!("INSERT INTO _rowcast_changes (capture, op, at) VALUES (?1, ?2, {NOW})");
    c.execute(&insert, params![capture, op])?;
    Ok(())
}

/// Rows that changed from number `from` on while the triggers did not know all columns yet, once
/// more, as they are now.
pub(super) fn repeat(c: &Connection, old: &Capture, new: &Capture, from: u64) -> Result<(), Error> {
    let table = quote(&new.table);
    let keys = new.key_columns();
    let new_slots =
        [slots('k', keys.len()), slots('v', new.schema.columns.len())].concat().join(", ");
    let row = |names: Vec<String>| {
        names.iter().map(|n| format!("{table}.{}", quote(n))).collect::<Vec<_>>()
    };
    let values = [row(new.key_columns()), row(new.columns())].concat().join(", ");
    let changed: Vec<_> = old.key.iter().map(|k| format!("v{k}")).collect();
    let join: Vec<_> =
        changed.iter().zip(&keys).map(|(v, k)| format!("{table}.{} IS p.{v}", quote(k))).collect();
    let repeat = format!(
        "INSERT INTO _rowcast_changes (capture, op, at, {new_slots}) \
         SELECT {}, '{}', {NOW}, {values} FROM (SELECT DISTINCT {} FROM _rowcast_changes \
         WHERE capture = {} AND seq >= {from} AND op IN ('{}', '{}')) p CROSS JOIN {table} \
         ON {}",
        new.id,
        op::UPDATE,
        changed.join(", "),
        old.id,
        op::INSERT,
        op::UPDATE,
        join.join(" AND ")
    );
    c.execute(&repeat, [])?;
    Ok(())
}

/// Deletes at most `count` numbers of changes before `upto`. Returns whether more are left.
pub(super) fn purge(c: &Connection, upto: u64, count: u64) -> Result<bool, Error> {
    let first: Option<i64> =
        c.query_row("SELECT min(seq) FROM _rowcast_changes", [], |row| row.get(0))?;
    let Some(first) = first.map(|n| n as u64).filter(|first| *first < upto) else {
        return Ok(false);
    };
    let end = upto.min(first + count);
    let _turn = Turn::of(c)?;
    c.execute_batch("BEGIN IMMEDIATE")?;
    let purged = c
        .execute("DELETE FROM _rowcast_changes WHERE seq < ?1", [end as i64])
        .and_then(|_| keep_numbers(c, end))
        .and_then(|_| {
            c.execute("UPDATE _rowcast_source SET purged = max(purged, ?1)", [end as i64])
        })
        .and_then(|_| c.execute_batch("COMMIT"));
    if purged.is_err() && !c.is_autocommit() {
        c.execute_batch("ROLLBACK")?;
    }
    purged.map(|()| end < upto)
}
