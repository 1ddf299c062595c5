//! Folds what a source says into copies, the way any subscriber would, and checks the laws of
//! `Source` on the way.

use rowcast_core::{
    Batch, EntityName, Event, Op, Position, Resume, Row, Schema, SchemaId, Snapshot, Value,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A value as text; `None` for NULL.
pub type Cell = Option<String>;

/// One entity's rows by key.
pub type Copy = BTreeMap<Vec<Cell>, Vec<Cell>>;

/// Copies of all entities of one source, and where its log would stand.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    schemas: HashMap<EntityName, Arc<Schema>>,
    rows: HashMap<EntityName, Copy>,
    visible: HashMap<EntityName, Copy>,
    snapshots: HashMap<EntityName, Snapshot>,
    position: Option<Position>,
    open: bool,
}

/// What one event did, for comparing histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whose row.
    pub entity: String,
    /// What happened.
    pub op: Op,
    /// Old key, where the event has one.
    pub before: Vec<Cell>,
    /// The row after, with `unchanged` for what the source did not say.
    pub after: Vec<Cell>,
}

impl Copies {
    /// Folds one batch.
    ///
    /// # Panics
    /// When the batch breaks a law.
    pub fn fold(&mut self, batch: &Batch) {
        assert!(batch.is_sound(), "indexes and spans of a batch lie inside");
        self.follow(batch);
        let reads = batch.events.iter().any(|e| e.op == Op::Read);
        assert!(!(self.open && reads), "snapshot rows stand inside an unfinished transaction");
        let ends = self.open && batch.whole;
        assert!(!ends || !batch.events.is_empty(), "the end of a transaction holds no event");
        for event in &batch.events {
            self.event(batch, event);
        }
        for snapshot in &batch.snapshots {
            self.snapshots.insert(snapshot.entity.clone(), snapshot.clone());
        }
        self.open = !batch.whole;
        if batch.whole {
            self.visible = self.rows.clone();
        }
    }

    fn follow(&mut self, batch: &Batch) {
        if batch.fresh {
            // As a log does: what was complete belongs to the history that was given up.
            self.snapshots.clear();
            self.open = false;
        } else if let Some(position) = self.position {
            let ordered = batch.until.is_at_or_after(&position);
            assert_eq!(ordered, Some(true), "positions of one epoch never go back");
        }
        self.position = Some(batch.until);
    }

    fn event(&mut self, batch: &Batch, event: &Event) {
        let schema = batch.schema(event);
        let entity = schema.entity.clone();
        if event.op == Op::Schema {
            self.schema(schema);
            return;
        }
        let known: Option<SchemaId> = self.schemas.get(&entity).map(|s| s.id());
        assert_eq!(known, Some(schema.id()), "an event of {entity} before its schema");
        let rows = self.rows.entry(entity.clone()).or_default();
        let settled = self.snapshots.get(&entity).is_some_and(|s| s.done);
        let after = cells(batch.after(event));
        match event.op {
            Op::Create | Op::Read => {
                assert!(!batch.after(event).has_unchanged(), "a new row of {entity} is not whole");
                rows.insert(key(schema, &after), after);
            }
            Op::Update => update(rows, schema, &cells(batch.before(event)), after, settled),
            Op::Delete => {
                rows.remove(&key(schema, &cells(batch.before(event))));
            }
            Op::Truncate => rows.clear(),
            Op::Schema | Op::Complete | Op::End => {}
        }
    }

    /// A new shape keeps the values of the columns that stay, and fills those that came.
    fn schema(&mut self, schema: &Arc<Schema>) {
        let old = self.schemas.insert(schema.entity.clone(), schema.clone());
        let Some(old) = old.filter(|old| old.id() != schema.id()) else { return };
        let rows = self.rows.entry(schema.entity.clone()).or_default();
        for row in rows.values_mut() {
            let column = |c: &rowcast_core::Column| match old.column(&c.name) {
                Some(i) => row[i].clone(),
                None => c.fill.clone(),
            };
            *row = schema.columns.iter().map(column).collect();
        }
    }

    /// The rows of an entity that a subscriber's readers may see.
    pub fn visible(&self, entity: &str) -> Vec<Vec<Cell>> {
        let name = entity.parse().expect("a suite's own name is a name");
        self.visible.get(&name).map(|c| c.values().cloned().collect()).unwrap_or_default()
    }

    /// The newest schema of an entity.
    pub fn newest_schema(&self, entity: &str) -> Option<&Arc<Schema>> {
        self.schemas.iter().find(|(name, _)| name.as_str() == entity).map(|(_, s)| s)
    }

    /// Whether the entity's snapshot is in.
    pub fn is_complete(&self, entity: &str) -> bool {
        self.snapshots.values().any(|s| s.entity.as_str() == entity && s.done)
    }

    /// Where the source's log would stand.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether a transaction is unfinished.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What a log that holds all this would tell the source on restart.
    pub fn resume(&self) -> Resume {
        let position = self.position.expect("something was folded");
        Resume { position, snapshots: self.snapshots.values().cloned().collect() }
    }
}

fn update(rows: &mut Copy, schema: &Schema, before: &[Cell], after: Vec<Cell>, settled: bool) {
    let new_key = key(schema, &after);
    let old_key = if before.is_empty() { new_key.clone() } else { key(schema, before) };
    let old = rows.remove(&old_key);
    let partial = after.iter().any(|c| c.as_deref() == Some(UNCHANGED));
    let Some(old) = old else {
        assert!(!(partial && settled), "a change of a row that was never told");
        if !partial {
            rows.insert(new_key, after);
        }
        return;
    };
    let merged = after.into_iter().zip(old);
    let merged = merged.map(|(new, old)| if new.as_deref() == Some(UNCHANGED) { old } else { new });
    rows.insert(new_key, merged.collect());
}

const UNCHANGED: &str = "\0unchanged";

/// The key's cells of a row.
fn key(schema: &Schema, row: &[Cell]) -> Vec<Cell> {
    let key = schema.key();
    assert!(!key.is_empty(), "an entity without a key");
    key.into_iter().map(|i| row[i].clone()).collect()
}

fn cells(row: Row<'_>) -> Vec<Cell> {
    row.values().map(|v| cell(v.expect("a source packs rows well"))).collect()
}

fn cell(value: Value<'_>) -> Cell {
    match value {
        Value::Null => None,
        Value::Unchanged => Some(UNCHANGED.into()),
        Value::Text(t) => Some(String::from_utf8_lossy(t).into_owned()),
        Value::Integer(i) => Some(i.to_string()),
        Value::Real(r) => Some(r.to_string()),
        Value::Blob(b) => Some(b.iter().map(|b| format!("{b:02x}")).collect()),
    }
}

/// The changes in a batch, without what only describes them.
pub fn told(batch: &Batch) -> Vec<Told> {
    let change = |e: &&Event| !matches!(e.op, Op::Schema | Op::Complete | Op::Read | Op::End);
    let told = |e: &Event| Told {
        entity: batch.schema(e).entity.to_string(),
        op: e.op,
        before: cells(batch.before(e)),
        after: cells(batch.after(e)),
    };
    batch.events.iter().filter(change).map(told).collect()
}
