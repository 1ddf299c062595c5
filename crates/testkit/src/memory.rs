//! A database in memory with a source and a sink, and scripted faults at both seams: what tests of
//! the engine run on, with simulated time where they like.
//!
//! Its tables have a number as key and a text as value. Its history is a list of transactions;
//! nothing is ever lost, so it is also the judge of what a copy must hold.

mod keeps;
mod row;
mod sink;
mod view;

use async_trait::async_trait;
use row::{pack, schema};
use rowcast_core::{
    Batch, BatchBuilder, Checkpoint, Claim, CopyView, Database, DatabaseError, EntityName, Epoch,
    Finding, Listed, LogId, Member, Offer, Op, Parked, Point, Position, Retained, RouteId, Schema,
    ServiceName, Shape, Sink, SinkSpec, Snapshot, Source, SourceError, SourceSpec, SourceView,
    Start, Table,
};
use sink::MemorySink;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use view::{MemoryCopies, MemoryView};

/// One row written or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which table, named as its entity.
    pub table: String,
    /// The key.
    pub key: i64,
    /// The value; `None` removes the row.
    pub value: Option<String>,
}

impl Write {
    /// Writes a row.
    pub fn put(table: &str, key: i64, value: &str) -> Self {
        Self { table: table.into(), key, value: Some(value.into()) }
    }

    /// Removes a row.
    pub fn delete(table: &str, key: i64) -> Self {
        Self { table: table.into(), key, value: None }
    }
}

/// What goes wrong at one call of a seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The call fails before it does anything.
    Refuse,
    /// The call does its work, and then the answer is lost.
    LoseAnswer,
    /// The call does nothing, and never returns.
    NeverAnswer,
    /// The call fails as an operator's problem.
    NeedOperator,
}

/// A table's rows.
pub type Content = BTreeMap<i64, String>;

#[derive(Debug, Default)]
struct Inner {
    tables: BTreeMap<String, Content>,
    history: Vec<Vec<Write>>,
    checkpoints: HashMap<String, (LogId, Checkpoint)>,
    /// Who claimed a route's lanes last, by route; and how many claims there were.
    claims: HashMap<String, Claim>,
    claimed: u64,
    /// By route and table.
    members: BTreeMap<(String, String), Member>,
    source_faults: VecDeque<Fault>,
    sink_faults: VecDeque<Fault>,
    /// Nobody gets to the sinks.
    sinks_away: bool,
    /// By route and track, table and key.
    parked: BTreeMap<(String, String, Vec<u8>), Parked>,
    /// Rows whose value begins with this do not fit.
    refused: Option<String>,
    confirmed: u64,
    epoch: u64,
    /// The history that was let go of.
    released: Option<Epoch>,
    kept: Option<Retained>,
    /// States that a reader polling the tables could have seen.
    seen: Vec<BTreeMap<String, Content>>,
}

impl Inner {
    /// A reader looks at the tables now.
    fn look(&mut self) {
        self.seen.push(self.tables.clone());
    }
}

/// A service's database in memory. Clones are the same database.
#[derive(Debug, Clone, Default)]
pub struct MemoryDatabase {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
}

impl MemoryDatabase {
    /// An empty database.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the database")
    }

    /// Commits a transaction.
    pub fn commit(&self, writes: &[Write]) {
        let mut inner = self.lock();
        for w in writes {
            let table = inner.tables.entry(w.table.clone()).or_default();
            match &w.value {
                Some(value) => table.insert(w.key, value.clone()),
                None => table.remove(&w.key),
            };
        }
        inner.history.push(writes.to_vec());
        inner.look();
        drop(inner);
        self.wake.notify_waiters();
    }

    /// A table's rows.
    pub fn table(&self, name: &str) -> Content {
        self.lock().tables.get(name).cloned().unwrap_or_default()
    }

    /// Every state of the tables that was ever visible, after each commit.
    pub fn seen(&self) -> Vec<BTreeMap<String, Content>> {
        self.lock().seen.clone()
    }

    /// Everything that the targets' routes remember of their subscriptions.
    pub fn members(&self) -> Vec<Member> {
        self.lock().members.values().cloned().collect()
    }

    /// Forgets all members, as a target that an earlier Rowcast has filled.
    pub fn forget_members(&self) {
        self.lock().members.clear();
    }

    /// Number of transactions that the source was told to let go of.
    pub fn confirmed(&self) -> u64 {
        self.lock().confirmed
    }

    /// Scripts what goes wrong at the source's next calls of `next`.
    pub fn source_faults(&self, faults: &[Fault]) {
        self.lock().source_faults.extend(faults);
    }

    /// Scripts what goes wrong at the sinks' next calls that write.
    pub fn sink_faults(&self, faults: &[Fault]) {
        self.lock().sink_faults.extend(faults);
    }

    /// Lets sinks that connect from now on find nobody, or again somebody.
    pub fn sinks_away(&self, away: bool) {
        self.lock().sinks_away = away;
    }

    /// Makes rows unfit whose value begins with `prefix`; `None` takes everything.
    pub fn refuse_values(&self, prefix: Option<&str>) {
        self.lock().refused = prefix.map(str::to_string);
    }

    /// The parked keys of all routes, as (table, key as it is shown).
    pub fn parked_keys(&self) -> Vec<(String, String)> {
        self.lock().parked.values().map(|p| (p.table.clone(), p.shown.clone())).collect()
    }

    /// Takes back the faults that were scripted and have not come.
    pub fn forget_faults(&self) {
        let mut inner = self.lock();
        inner.source_faults.clear();
        inner.sink_faults.clear();
    }

    /// Makes every checkpoint here one that another history left: same offset, other position.
    pub fn misplace_checkpoints(&self) {
        for (_, checkpoint) in self.lock().checkpoints.values_mut() {
            if let Some(position) = &mut checkpoint.position {
                position.point = Point::Sequence(position.point.value() + 1);
            }
        }
    }

    /// Makes the history another one, as when a database is replaced by an older backup.
    pub fn replace_history(&self) {
        self.lock().epoch += 1;
    }
}

/// The source of a memory database: transactions by number, snapshots between transactions.
struct MemorySource {
    database: MemoryDatabase,
    spec: SourceSpec,
    /// Transactions handed out, and events of the next one.
    at: u64,
    index: u64,
    fresh: bool,
    begun: Vec<EntityName>,
    snapshots: Vec<Snapshot>,
}

impl MemorySource {
    fn epoch(&self) -> Epoch {
        Epoch { identity: self.database.lock().epoch, birth: 0 }
    }

    fn position(&self) -> Position {
        Position { epoch: self.epoch(), point: Point::Sequence(self.at), index: self.index }
    }

    fn begin(&mut self, batch: &mut BatchBuilder, entity: &EntityName) -> u32 {
        let schema = schema(entity);
        let index = batch.schema(schema.id(), &schema);
        if !self.begun.contains(entity) {
            self.begun.push(entity.clone());
            batch.push(Op::Schema, index, |_| {}, |_| {});
        }
        index
    }

    fn entity(&self, table: &str) -> Option<EntityName> {
        self.spec.entities.iter().find(|e| e.table == table).map(|e| e.entity.clone())
    }

    /// The next transaction, or a part of it.
    fn transaction(&mut self) -> Option<Batch> {
        let writes = self.database.lock().history.get(self.at as usize).cloned()?;
        let mut batch = BatchBuilder::new();
        batch.begin(Point::Sequence(self.at), 0);
        let events: Vec<_> =
            writes.iter().filter_map(|w| Some((self.entity(&w.table)?, w))).collect();
        let mut whole = true;
        for (entity, write) in events.iter().skip(self.index as usize) {
            if batch.bytes() as u64 >= self.spec.batch_bytes_max.0 {
                whole = false;
                break;
            }
            let schema = self.begin(&mut batch, entity);
            match &write.value {
                Some(v) => {
                    batch.push(Op::Update, schema, |_| {}, |b| pack(write.key, Some(v), b));
                }
                None => batch.push(Op::Delete, schema, |b| pack(write.key, None, b), |_| {}),
            }
            self.index += 1;
        }
        if whole {
            if batch.events() == 0 && self.index > 0 {
                let entity = events[0].0.clone();
                let schema = self.begin(&mut batch, &entity);
                batch.push(Op::End, schema, |_| {}, |_| {});
            }
            (self.at, self.index) = (self.at + 1, 0);
        }
        Some(batch.finish(self.position(), whole))
    }

    /// A few rows of an entity that is not complete. The rows are as new as the whole history, so
    /// this comes only when all transactions are handed out.
    fn chunk(&mut self) -> Option<Batch> {
        let missing = self
            .spec
            .entities
            .iter()
            .find(|e| !self.snapshots.iter().any(|s| s.entity == e.entity && s.done))?;
        let (entity, table) = (missing.entity.clone(), missing.table.clone());
        let old = self.snapshots.iter().find(|s| s.entity == entity);
        let after = old.and_then(|s| Some(i64::from_le_bytes(s.cursor[..].try_into().ok()?)));
        let mut rows = old.map_or(0, |s| s.rows);
        let content = self.database.table(&table);
        let left = content.iter().filter(|(k, _)| after.is_none_or(|a| **k > a));
        let chunk: Vec<_> = left.take(3).collect();
        let mut batch = BatchBuilder::new();
        batch.begin(Point::Sequence(self.at), 0);
        let schema = self.begin(&mut batch, &entity);
        for (key, value) in &chunk {
            batch.push(Op::Read, schema, |_| {}, |b| pack(**key, Some(value), b));
        }
        rows += chunk.len() as u64;
        let done = chunk.len() < 3;
        if done {
            batch.push(Op::Complete, schema, |_| {}, |_| {});
        }
        let last = chunk.last().map(|(k, _)| **k).or(after).unwrap_or(i64::MIN);
        let cursor = last.to_le_bytes().to_vec().into();
        let rows_estimate = Some(content.len() as u64);
        let snapshot = Snapshot { entity: entity.clone(), cursor, rows, rows_estimate, done };
        self.snapshots.retain(|s| s.entity != entity);
        self.snapshots.push(snapshot.clone());
        batch.snapshot(snapshot);
        Some(batch.finish(self.position(), true))
    }

    fn afresh(&mut self) -> Batch {
        self.fresh = false;
        let mut batch = BatchBuilder::new();
        batch.fresh();
        batch.begin(Point::Sequence(self.at), 0);
        for entity in self.spec.entities.clone() {
            let schema = self.begin(&mut batch, &entity.entity);
            batch.push_anew(schema);
        }
        batch.finish(self.position(), true)
    }

    fn refused(&self) -> SourceError {
        SourceError::Unreachable { service: self.spec.service.clone(), source: "scripted".into() }
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn start(&mut self, from: Start) -> Result<(), SourceError> {
        self.begun.clear();
        self.fresh = false;
        let end = self.database.lock().history.len() as u64;
        (self.at, self.index, self.snapshots) = match from {
            Start::Beginning => (end, 0, Vec::new()),
            Start::Afresh => {
                self.fresh = true;
                (end, 0, Vec::new())
            }
            Start::After(resume) if self.database.was_released(resume.position.epoch) => {
                return Err(SourceError::Released {
                    service: self.spec.service.clone(),
                    what: "it was let go of".into(),
                    help: "begin afresh".into(),
                });
            }
            Start::After(resume) if resume.position.epoch != self.epoch() => {
                return Err(SourceError::Epoch {
                    service: self.spec.service.clone(),
                    what: "another history".into(),
                    help: "begin afresh".into(),
                });
            }
            Start::After(r) => (r.position.point.value(), r.position.index, r.snapshots),
        };
        Ok(())
    }

    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            let wake = self.database.wake.clone();
            let woken = wake.notified();
            let fault = self.database.lock().source_faults.pop_front().unwrap_or(Fault::None);
            if fault == Fault::Refuse {
                return Err(self.refused());
            }
            if self.fresh {
                return Ok(self.afresh());
            }
            if let Some(batch) = self.transaction().or_else(|| self.chunk()) {
                if fault == Fault::LoseAnswer {
                    return Err(self.refused());
                }
                return Ok(batch);
            }
            woken.await;
        }
    }

    async fn confirm(&mut self, upto: &Position) -> Result<(), SourceError> {
        self.database.lock().confirmed = upto.point.value();
        Ok(())
    }
}

#[async_trait]
impl Database for MemoryDatabase {
    fn address(&self) -> String {
        format!("memory:{:p}", Arc::as_ptr(&self.inner))
    }

    async fn tables(&self) -> Result<Vec<Table>, DatabaseError> {
        let inner = self.lock();
        let table = |(name, rows): (&String, &Content)| Table {
            name: name.clone(),
            columns: Vec::new(),
            rows_estimate: Some(rows.len() as u64),
            left_out: None,
        };
        Ok(inner.tables.iter().map(table).collect())
    }

    async fn check_source(&self, _: &SourceSpec) -> Vec<Finding> {
        Vec::new()
    }

    async fn offer(&self, spec: &SourceSpec) -> Result<Offer, DatabaseError> {
        let schema = |e: &EntityName| (e.clone(), Schema::clone(&schema(e)));
        let schemas = spec.entities.iter().map(|e| schema(&e.entity)).collect();
        Ok(Offer { schemas, listed: Vec::new() })
    }

    async fn check_sink(&self, _: &SinkSpec, _: &[Arc<Shape>], _: &[Listed]) -> Vec<Finding> {
        Vec::new()
    }

    async fn fix(&self, _: &[String]) -> Result<(), DatabaseError> {
        Ok(())
    }

    async fn mark(&self, _: &ServiceName) -> Result<Point, SourceError> {
        Ok(Point::Sequence(self.lock().history.len() as u64))
    }

    async fn retained(&self, _: &ServiceName) -> Result<Option<Retained>, DatabaseError> {
        Ok(self.lock().kept)
    }

    async fn waits_for(&self, _: &ServiceName) -> Option<String> {
        None
    }

    async fn release(&self, _: &ServiceName, of: Option<Epoch>) -> Result<(), DatabaseError> {
        self.let_go(of);
        Ok(())
    }

    async fn left_behind(&self, _: &ServiceName) -> Vec<Finding> {
        Vec::new()
    }

    fn source(&self, spec: SourceSpec) -> Box<dyn Source> {
        let database = self.clone();
        let (begun, snapshots) = (Vec::new(), Vec::new());
        Box::new(MemorySource { database, spec, at: 0, index: 0, fresh: false, begun, snapshots })
    }

    fn sink(&self, spec: SinkSpec) -> Box<dyn Sink> {
        Box::new(MemorySink::new(self.clone(), spec))
    }

    async fn source_view(&self, spec: &SourceSpec) -> Result<Box<dyn SourceView>, SourceError> {
        Ok(Box::new(MemoryView::new(self, spec)))
    }

    fn copy_view(&self, route: &RouteId) -> Box<dyn CopyView> {
        Box::new(MemoryCopies::new(self.clone(), route.clone()))
    }
}
