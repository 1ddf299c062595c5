//! Random histories of a publisher, and the copies that a subscriber builds of them: the judge of
//! what a log may leave out.
#![expect(clippy::unwrap_used, reason = "a check is a test, wherever it stands")]

use crate::log_suite::{snapshot, snapshot_batch};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use rowcast_core::{
    Batch, BatchBuilder, Column, EntityName, Epoch, Kind, Offset, Op, Point, Position, Row,
    RowWriter, Schema, Stored, Value,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

type Values = Vec<Option<Vec<u8>>>;

/// A publisher that does anything a source may say: rows that come, change in part, change their key
/// and go, truncates, rows of snapshots, new columns, transactions over several batches, heartbeats,
/// words on snapshots, and new histories. One seed is one history.
#[derive(Debug)]
pub struct History {
    random: StdRng,
    epoch: u64,
    at: u64,
    tables: Vec<Table>,
    waiting: VecDeque<Batch>,
    /// Commit time of the next transaction, in microseconds since 1970.
    pub now: i64,
}

#[derive(Debug)]
struct Table {
    schema: Arc<Schema>,
    said: bool,
    rows: BTreeMap<u64, Values>,
}

/// Few keys, so that they change often.
const KEYS: u64 = 12;

fn schema(entity: &str, columns: usize) -> Arc<Schema> {
    let column = |i: usize| Column {
        name: if i == 0 { "id".into() } else { format!("c{i}") },
        native: "text".into(),
        kind: Kind::Text,
        key: (i == 0).then_some(0),
        not_null: i == 0,
        fill: None,
    };
    Arc::new(Schema {
        entity: entity.parse().unwrap(),
        dialect: "test".into(),
        columns: (0..columns).map(column).collect(),
        generated: vec![],
    })
}

impl History {
    /// The history of a seed, whose commits begin at `now`.
    pub fn new(seed: u64, now: i64) -> Self {
        let table = |name| Table { schema: schema(name, 3), said: false, rows: BTreeMap::new() };
        Self {
            random: StdRng::seed_from_u64(seed),
            epoch: 1,
            at: 0,
            tables: vec![table("apple"), table("pear")],
            waiting: VecDeque::new(),
            now,
        }
    }

    fn position(&self, index: u64) -> Position {
        let epoch = Epoch { identity: self.epoch, birth: 0 };
        Position { epoch, point: Point::Sequence(self.at), index }
    }

    /// The next batch.
    pub fn batch(&mut self) -> Batch {
        if self.waiting.is_empty() {
            self.at += 1;
            self.now += 1_000_000;
            match self.random.random_range(0..40) {
                0 => self.waiting.push_back(Batch::empty(self.position(0))),
                1 => self.note(),
                2 => self.fresh(),
                3 => self.long(),
                _ => {
                    let mut b = self.begin();
                    let events = self.random.random_range(1..6);
                    self.events(&mut b, events);
                    self.waiting.push_back(b.finish(self.position(0), true));
                }
            }
        }
        self.waiting.pop_front().unwrap()
    }

    fn begin(&self) -> BatchBuilder {
        let mut b = BatchBuilder::new();
        b.begin(Point::Sequence(self.at), self.now);
        b
    }

    fn note(&mut self) {
        let (done, rows) = (self.random.random(), self.random.random_range(0..99));
        let entity = if self.random.random() { "apple" } else { "pear" };
        let mut batch = snapshot_batch(self.epoch, self.at, snapshot(entity, rows, done));
        if self.random.random() {
            let mut b = self.begin();
            self.events(&mut b, 3);
            b.snapshot(snapshot(entity, rows, done));
            batch = b.finish(self.position(0), true);
        }
        self.waiting.push_back(batch);
    }

    /// A new history begins by emptying everything.
    fn fresh(&mut self) {
        self.epoch += 1;
        let mut b = self.begin();
        b.fresh();
        for table in 0..self.tables.len() {
            self.say(&mut b, table);
            self.truncate(&mut b, table);
        }
        self.waiting.push_back(b.finish(self.position(0), true));
    }

    /// A transaction over several batches.
    fn long(&mut self) {
        let batches = self.random.random_range(2..6);
        let mut seen = 0;
        for n in 0..batches {
            let mut b = self.begin();
            self.events(&mut b, 8);
            let last = n + 1 == batches;
            if last && self.random.random() {
                let id = self.tables[0].schema.clone();
                let index = b.schema(id.id(), &id);
                b.push(Op::End, index, |_| {}, |_| {});
            }
            seen += b.events() as u64;
            self.at += u64::from(last);
            let until = self.position(if last { 0 } else { seen });
            self.waiting.push_back(b.finish(until, last));
        }
    }

    fn events(&mut self, b: &mut BatchBuilder, count: usize) {
        for _ in 0..count {
            let table = self.random.random_range(0..self.tables.len());
            if !self.tables[table].said || self.random.random_range(0..60) == 0 {
                self.say(b, table);
            }
            let key = self.random.random_range(0..KEYS);
            match self.random.random_range(0..100) {
                0 => self.truncate(b, table),
                1 => self.widen(b, table),
                2 => self.plain(b, table, Op::Complete),
                3..15 => self.delete(b, table, key),
                15..30 => self.move_key(b, table, key),
                30..40 => self.read(b, table, key),
                _ => self.put(b, table, key),
            }
        }
    }

    fn plain(&mut self, b: &mut BatchBuilder, table: usize, op: Op) {
        let schema = &self.tables[table].schema;
        let index = b.schema(schema.id(), schema);
        b.push(op, index, |_| {}, |_| {});
    }

    fn say(&mut self, b: &mut BatchBuilder, table: usize) {
        self.tables[table].said = true;
        self.plain(b, table, Op::Schema);
    }

    fn truncate(&mut self, b: &mut BatchBuilder, table: usize) {
        self.tables[table].rows.clear();
        self.plain(b, table, Op::Truncate);
    }

    fn widen(&mut self, b: &mut BatchBuilder, table: usize) {
        let table_of = &mut self.tables[table];
        let columns = table_of.schema.columns.len();
        if columns < 6 {
            table_of.schema = schema(table_of.schema.entity.as_str(), columns + 1);
            table_of.rows.values_mut().for_each(|row| row.push(None));
            self.say(b, table);
        }
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let long = self.random.random_range(0..4) == 0;
        let len = if long { self.random.random_range(0..300) } else { 4 };
        let mut bytes = vec![0; len];
        self.random.fill_bytes(&mut bytes);
        (self.random.random_range(0..8) != 0).then_some(bytes)
    }

    fn delete(&mut self, b: &mut BatchBuilder, table: usize, key: u64) {
        if self.tables[table].rows.remove(&key).is_some() {
            let before = self.key_row(table, key);
            self.push(b, table, Op::Delete, before, Vec::new());
        }
    }

    /// A row of a snapshot, which is as new as what the stream said.
    fn read(&mut self, b: &mut BatchBuilder, table: usize, key: u64) {
        if let Some(row) = self.tables[table].rows.get(&key).cloned() {
            let after = packed(key, &row, &[]);
            self.push(b, table, Op::Read, Vec::new(), after);
        }
    }

    fn put(&mut self, b: &mut BatchBuilder, table: usize, key: u64) {
        let columns = self.tables[table].schema.columns.len() - 1;
        let values: Values = (0..columns).map(|_| self.value()).collect();
        let unchanged = self.some_columns(columns);
        match self.tables[table].rows.get_mut(&key) {
            Some(row) => {
                for (i, value) in values.into_iter().enumerate() {
                    if !unchanged.contains(&i) {
                        row[i] = value;
                    }
                }
                let after = packed(key, &row.clone(), &unchanged);
                self.push(b, table, Op::Update, Vec::new(), after);
            }
            None => {
                let after = packed(key, &values, &[]);
                self.tables[table].rows.insert(key, values);
                self.push(b, table, Op::Create, Vec::new(), after);
            }
        }
    }

    fn move_key(&mut self, b: &mut BatchBuilder, table: usize, key: u64) {
        let to = self.random.random_range(0..KEYS);
        let rows = &mut self.tables[table].rows;
        if key == to || rows.contains_key(&to) || !rows.contains_key(&key) {
            return;
        }
        let row = rows.remove(&key).unwrap();
        rows.insert(to, row.clone());
        let unchanged = self.some_columns(row.len());
        let before = self.key_row(table, key);
        self.push(b, table, Op::Update, before, packed(to, &row, &unchanged));
    }

    fn some_columns(&mut self, columns: usize) -> Vec<usize> {
        if self.random.random() {
            return Vec::new();
        }
        (0..columns).filter(|_| self.random.random()).collect()
    }

    fn key_row(&self, table: usize, key: u64) -> Vec<u8> {
        let columns = self.tables[table].schema.columns.len() - 1;
        packed(key, &vec![None; columns], &(0..columns).collect::<Vec<_>>())
    }

    fn push(&self, b: &mut BatchBuilder, table: usize, op: Op, before: Vec<u8>, after: Vec<u8>) {
        let schema = &self.tables[table].schema;
        let index = b.schema(schema.id(), schema);
        b.push(op, index, |to| to.extend(before), |to| to.extend(after));
    }
}

fn packed(key: u64, values: &Values, unchanged: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut row = RowWriter::new(&mut bytes);
    row.push(Value::Text(key.to_string().as_bytes()));
    for (i, value) in values.iter().enumerate() {
        row.push(match value {
            _ if unchanged.contains(&i) => Value::Unchanged,
            Some(bytes) => Value::Text(bytes),
            None => Value::Null,
        });
    }
    bytes
}

/// What a subscriber to everything has built so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Copies {
    rows: BTreeMap<Key, Columns>,
}

type Key = (EntityName, Vec<u8>);
type Columns = BTreeMap<String, Option<Vec<u8>>>;

impl Copies {
    /// Applies the events of a batch at `from` and after.
    pub fn apply(&mut self, stored: &Stored, from: Offset) {
        for (i, event) in stored.batch.events.iter().enumerate() {
            if stored.offset(i) < from {
                continue;
            }
            let schema = stored.batch.schema(event);
            let (before, after) = (stored.batch.before(event), stored.batch.after(event));
            match event.op {
                Op::Schema | Op::Complete | Op::End => {}
                Op::Truncate => self.rows.retain(|(entity, _), _| *entity != schema.entity),
                Op::Delete => _ = self.rows.remove(&key(schema, before)),
                Op::Create | Op::Read | Op::Update => {
                    let partial = after.has_unchanged();
                    let place = if event.before.len > 0 { before } else { after };
                    let old = self.rows.remove(&key(schema, place));
                    let mut row = if partial { old.unwrap_or_default() } else { BTreeMap::new() };
                    for (column, value) in schema.columns.iter().zip(after.values()) {
                        match value.unwrap() {
                            Value::Unchanged => {}
                            Value::Text(text) => {
                                _ = row.insert(column.name.clone(), Some(text.to_vec()));
                            }
                            _ => _ = row.insert(column.name.clone(), None),
                        }
                    }
                    self.rows.insert(key(schema, after), row);
                }
            }
        }
    }

    /// Which rows are not the same in another one's copies.
    pub fn differs(&self, other: &Self) -> String {
        let keys = self.rows.keys().chain(other.rows.keys());
        let differ = keys.filter(|key| self.rows.get(*key) != other.rows.get(*key));
        let columns = |copies: &Self, key: &(EntityName, Vec<u8>)| -> Vec<String> {
            let row = copies.rows.get(key).into_iter().flatten();
            row.map(|(c, v)| format!("{c}: {:?} bytes", v.as_ref().map(Vec::len))).collect()
        };
        let name = |key: &(EntityName, Vec<u8>)| {
            let (here, there) = (columns(self, key), columns(other, key));
            format!("{} {}: {here:?} and {there:?}", key.0, String::from_utf8_lossy(&key.1))
        };
        differ.map(name).collect::<Vec<_>>().join("; ")
    }

    /// Number of rows in all copies.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn key(schema: &Schema, row: Row<'_>) -> (EntityName, Vec<u8>) {
    match row.values().next() {
        Some(Ok(Value::Text(key))) => (schema.entity.clone(), key.to_vec()),
        other => panic!("a row without its key: {other:?}"),
    }
}
