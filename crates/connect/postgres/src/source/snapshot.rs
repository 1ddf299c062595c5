//! Snapshots beside a stream that never stops.
//!
//! All readers see the database as it was at one place L of the log: commits before L are in the
//! rows they read, commits from L on are in the stream. Whoever hands out rows keeps these rules,
//! and so no stale row ever wins:
//!
//! - No row is handed out before the stream was handed out up to L.
//! - Keys that commits from L on touched are remembered, and their rows are dropped. TRUNCATE drops
//!   all that is left of the entity.
//! - A change that leaves out a big value it did not touch is completed from the snapshot when it is
//!   the first one of its key; otherwise dropping the row would lose that value.
//! - When more keys change than there is room for, the readers begin again where they stopped, under
//!   a new L, which lies after all those changes.

mod reader;

use super::catalog::{Table, literal, literal_of_bytes};
use super::cursor::{Cursor, seal};
use super::prepare::Prepare;
use super::shape::{Part, Shape};
use super::slot::Exported;
use super::wire::{Purpose, RawRow, Wire, WireError};
use bytes::Bytes;
use reader::Reader;
pub(crate) use reader::{Chunk, Failure};
use rowcast_core::{MaskKey, Publish, Snapshot, SourceError, quote};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_128;

/// Tables read at once.
const READERS_MAX: usize = 3;
/// Changed keys remembered at most: 16 bytes each in a table that is never more than half empty.
const KEYS_MAX: usize = 1_800_000;

/// A column of the key, as queries need it.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumn {
    name: String,
    native: String,
    /// The schema its comparisons live in.
    operators: String,
}

/// An entity whose rows are still to be copied.
#[derive(Debug, Clone)]
pub(crate) struct Todo {
    /// Its place among the entities.
    pub(crate) entity: usize,
    pub(crate) shape: Shape,
    pub(crate) table: String,
    /// The note to begin with.
    pub(crate) begin: Cursor,
    /// The log holds rows of an earlier table of this name, or without some of the fields; they
    /// have to go first.
    pub(crate) replaces: bool,
    pub(crate) key: Vec<KeyColumn>,
    /// Seals notes of the key, when it is masked.
    pub(crate) seal: Option<MaskKey>,
    /// Values of the key's columns of the last row that is in the log.
    pub(crate) after: Option<Vec<Vec<u8>>>,
    pub(crate) rows: u64,
    pub(crate) estimate: Option<u64>,
}

/// What the log lacks.
pub(crate) fn todo(
    entities: &[Publish],
    (tables, shapes): (&[Table], &[Shape]),
    snapshots: &[Snapshot],
    unseen: &[u32],
) -> Vec<Todo> {
    let mut todo = Vec::new();
    for (entity, publish) in entities.iter().enumerate() {
        let known = snapshots.iter().find(|s| s.entity == publish.entity);
        let (table, shape) = (&tables[entity], &shapes[entity]);
        let cursor = known.and_then(|s| Cursor::read(&s.cursor));
        let serves = |c: &Cursor| c.serves(table, shape, publish) && !unseen.contains(&table.oid);
        let replaces = cursor.as_ref().is_some_and(|c| !serves(c));
        if !replaces && known.is_some_and(|s| s.done) {
            continue;
        }
        let key = key_columns(table, shape);
        let seal = seal(shape, publish);
        let after = cursor.filter(|_| !replaces).and_then(|c| go_on(&c, &key, seal.as_ref()));
        todo.push(Todo {
            entity,
            rows: if after.is_some() { known.map_or(0, |s| s.rows) } else { 0 },
            after,
            table: table.sql_only(),
            begin: Cursor::begin(table, publish),
            replaces,
            shape: shape.clone(),
            key,
            seal,
            estimate: table.rows_estimate,
        });
    }
    todo
}

fn key_columns(table: &Table, shape: &Shape) -> Vec<KeyColumn> {
    let schema = &shape.schema;
    let operators = |name: &str| {
        let index = table.key()?;
        Some(index.columns.iter().find(|(n, _)| n == name)?.1.clone())
    };
    let column = |i: usize| {
        let column = &schema.columns[i];
        // A masked column is text to others; here it is compared as what it is.
        let native = table.column(&column.name).map_or(&column.native, |c| &c.native);
        KeyColumn {
            name: column.name.clone(),
            native: native.clone(),
            operators: operators(&column.name).unwrap_or_else(|| "pg_catalog".into()),
        }
    };
    schema.key().into_iter().map(column).collect()
}

/// The values after which to go on, when the table still has the key they belong to.
fn go_on(cursor: &Cursor, key: &[KeyColumn], seal: Option<&MaskKey>) -> Option<Vec<Vec<u8>>> {
    let same = cursor.key.iter().eq(key.iter().map(|k| &k.name));
    let after = cursor.after(seal);
    (same && after.len() == key.len()).then_some(after)
}

/// `WHERE` for the rows after `values` in the key's own order.
fn after(key: &[KeyColumn], values: &[Vec<u8>]) -> String {
    let left = |k: &KeyColumn| quote(&k.name);
    let right = |(k, v): (&KeyColumn, &Vec<u8>)| format!("{}::{}", literal_of_bytes(v), k.native);
    if key.iter().all(|k| k.operators == "pg_catalog") {
        let names: Vec<_> = key.iter().map(left).collect();
        let values: Vec<_> = key.iter().zip(values).map(right).collect();
        return format!("({}) > ({})", names.join(", "), values.join(", "));
    }
    // The search path is empty, so operators of extensions have to be named in full, one by one.
    let Some((first, rest)) = key.split_first() else { return "true".into() };
    let (name, operators) = (left(first), quote(&first.operators));
    let value = values.first().map(|v| right((first, v))).unwrap_or_default();
    if rest.is_empty() {
        return format!("{name} OPERATOR({operators}.>) {value}");
    }
    format!(
        "{name} OPERATOR({operators}.>=) {value} AND ({name} OPERATOR({operators}.>) {value} OR ({}))",
        after(rest, values.get(1..).unwrap_or_default())
    )
}

impl Todo {
    /// The note after the row with this key.
    fn cursor(&self, after: Vec<Vec<u8>>) -> Bytes {
        let key = self.key.iter().map(|k| k.name.clone()).collect();
        let mut cursor = Cursor { key, ..self.begin.clone() };
        cursor.set_after(after, self.seal.as_ref());
        cursor.write()
    }

    fn copy(&self) -> String {
        let columns: Vec<_> = self.shape.schema.columns.iter().map(|c| quote(&c.name)).collect();
        let order: Vec<_> = self.key.iter().map(|k| quote(&k.name)).collect();
        let rest = self.after.as_ref().map(|values| format!("WHERE {} ", after(&self.key, values)));
        format!(
            "COPY (SELECT {} FROM {} {}ORDER BY {}) TO STDOUT",
            columns.join(", "),
            self.table,
            rest.unwrap_or_default(),
            order.join(", ")
        )
    }
}

/// A hash that tells keys of all entities apart.
pub(crate) fn key_hash<'a>(
    entity: usize,
    key: impl Iterator<Item = &'a [u8]>,
    scratch: &mut Vec<u8>,
) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&(entity as u32).to_le_bytes());
    for value in key {
        scratch.extend_from_slice(&(value.len() as u32).to_le_bytes());
        scratch.extend_from_slice(value);
    }
    xxh3_128(scratch)
}

/// What is known of one entity while it is copied.
#[derive(Debug, Clone, Default)]
struct Copying {
    /// Not through yet.
    active: bool,
    /// It is read again.
    replaces: bool,
    /// All rows that are still to come are gone by now.
    truncated: bool,
    table: String,
    key: Vec<KeyColumn>,
}

/// A snapshot under way.
pub(crate) struct Snapshotting {
    /// L.
    pub(crate) at: u64,
    /// When it was taken, in microseconds since 1970.
    pub(crate) taken: i64,
    /// Entities of which the log holds an earlier table's rows, with the word that they are read
    /// again: what is whole of them at a reader is so only until this word.
    pub(crate) replaced: Vec<(usize, Snapshot)>,
    /// What readers have read.
    pub(crate) chunks: mpsc::Receiver<Result<Chunk, Failure>>,
    entities: Vec<Copying>,
    changed: HashSet<u128>,
    lookup: Wire,
    /// Ends the readers with the snapshot.
    _readers: JoinSet<()>,
}

/// A connection that sees the database as it was at L.
pub(crate) struct View {
    pub(crate) wire: Wire,
    taken: i64,
}

impl View {
    /// Connects and imports the snapshot.
    pub(crate) async fn open(prepare: &Prepare<'_>, made: &Exported) -> Result<Self, SourceError> {
        // A policy that hides rows from us has to be an error, not a copy with holes.
        let import = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
             SET LOCAL row_security = off; \
             SELECT (extract(epoch FROM now()) * 1000000)::bigint",
            literal(&made.snapshot)
        );
        let mut wire = prepare.connect(Purpose::Sql).await?;
        let taken = wire.query(&import).await;
        let taken = taken.map_err(|e| prepare.trouble.wire("the snapshot cannot be read", e))?;
        let taken = taken.first().and_then(|r| r.first()?.as_ref()?.parse().ok()).unwrap_or(0);
        Ok(Self { wire, taken })
    }
}

impl Snapshotting {
    /// Begins to read. `view` is kept for questions on the way.
    pub(crate) async fn open(
        prepare: &Prepare<'_>,
        view: View,
        todo: Vec<Todo>,
        made: &Exported,
    ) -> Result<Self, SourceError> {
        let count = prepare.spec.entities.len();
        let mut entities = vec![Copying::default(); count];
        for t in &todo {
            entities[t.entity] = Copying {
                active: true,
                replaces: t.replaces,
                truncated: false,
                table: t.table.clone(),
                key: t.key.clone(),
            };
        }
        let word = |t: &Todo| Snapshot {
            entity: t.shape.schema.entity.clone(),
            cursor: t.cursor(Vec::new()),
            rows: 0,
            rows_estimate: t.estimate,
            done: false,
        };
        let replaced = todo.iter().filter(|t| t.replaces).map(|t| (t.entity, word(t))).collect();
        let (send, chunks) = mpsc::channel(READERS_MAX);
        let mut readers = JoinSet::new();
        let tasks = todo.len().min(READERS_MAX);
        let queue = Arc::new(Mutex::new(VecDeque::from(todo)));
        for _ in 0..tasks {
            let wire = View::open(prepare, made).await?.wire;
            let bytes_max = prepare.spec.batch_bytes_max.as_usize();
            let reader = Reader::new(wire, queue.clone(), send.clone(), bytes_max);
            readers.spawn(reader.run());
        }
        Ok(Self {
            at: made.consistent.value(),
            taken: view.taken,
            replaced,
            chunks,
            entities,
            changed: HashSet::new(),
            lookup: view.wire,
            _readers: readers,
        })
    }

    /// Whether rows of `entity` are still to come.
    pub(crate) fn copies(&self, entity: usize) -> bool {
        self.entities.get(entity).is_some_and(|e| e.active)
    }

    /// Whether the log was told that `entity` is read again: what it has of it is history.
    pub(crate) fn replaces(&self, entity: usize) -> bool {
        self.replaced.is_empty() && self.entities.get(entity).is_some_and(|e| e.replaces)
    }

    /// Remembers that a commit from L on touched a key. `false` when there is no more room.
    pub(crate) fn remember(&mut self, key: u128) -> bool {
        self.changed.insert(key);
        self.changed.len() <= KEYS_MAX
    }

    /// Whether the key was touched from L on.
    pub(crate) fn remembers(&self, key: u128) -> bool {
        self.changed.contains(&key)
    }

    /// Remembers that the entity was emptied after L.
    pub(crate) fn truncate(&mut self, entity: usize) {
        if let Some(entity) = self.entities.get_mut(entity) {
            entity.truncated = true;
        }
    }

    /// Whether a row that a reader read is still what the stream left.
    pub(crate) fn holds(&self, entity: usize, key: u128) -> bool {
        !self.entities[entity].truncated && !self.changed.contains(&key)
    }

    /// All of an entity was handed out; says whether that was the last one.
    pub(crate) fn finish(&mut self, entity: usize) -> bool {
        self.entities[entity].active = false;
        self.entities.iter().all(|e| !e.active)
    }

    /// Values as the snapshot has them of the row with this key; `None` when it has no such row.
    /// `key` in the order of the shape's columns.
    pub(crate) async fn look_up(
        &mut self,
        entity: usize,
        shape: &Shape,
        key: &[Vec<u8>],
        columns: &[String],
    ) -> Result<Option<RawRow>, WireError> {
        let copying = &self.entities[entity];
        let fields = shape.parts.iter().filter(|p| **p != Part::Skip);
        let names = shape.schema.columns.iter().zip(fields).filter(|(_, p)| **p == Part::Key);
        let conditions = names.zip(key).map(|((column, _), value)| {
            let known = copying.key.iter().find(|k| k.name == column.name);
            let operators = known.map_or("pg_catalog", |k| k.operators.as_str());
            let native = known.map_or(&column.native, |k| &k.native);
            format!(
                "{} OPERATOR({}.=) {}::{native}",
                quote(&column.name),
                quote(operators),
                literal_of_bytes(value),
            )
        });
        let columns: Vec<_> = columns.iter().map(|c| quote(c)).collect();
        let sql = format!(
            "SAVEPOINT look; SELECT {} FROM {} WHERE {}; RELEASE look",
            columns.join(", "),
            copying.table,
            conditions.collect::<Vec<_>>().join(" AND ")
        );
        match self.lookup.query_raw(&sql).await {
            Ok(rows) => Ok(rows.into_iter().next()),
            // The column went meanwhile, and with it the question.
            Err(WireError::Server(e)) if e.state.starts_with("42") => {
                self.lookup.query("ROLLBACK TO look; RELEASE look").await?;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests;
