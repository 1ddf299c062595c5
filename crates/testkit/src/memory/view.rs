//! The tables of a memory database as they were at one moment.

use super::row::{pack, schema};
use super::{BTreeMap, Content, MemoryDatabase};
use async_trait::async_trait;
use rowcast_core::{
    Checkpoint, Computed, CopyView, EntityName, Foresight, LogId, Pending, Point, Position,
    RouteId, RowSet, Schema, Shape, SinkError, SourceError, SourceSpec, SourceView,
};
use std::sync::Arc;
use std::time::Duration;

fn set(rows: &Content) -> RowSet {
    let mut set = RowSet::new();
    rows.iter().for_each(|(key, value)| set.push(|into| pack(*key, Some(value), into)));
    set
}

pub(super) struct MemoryView {
    point: u64,
    epoch: u64,
    entities: Vec<(Arc<Schema>, Content)>,
    left: Option<RowSet>,
}

impl MemoryView {
    pub(super) fn new(database: &MemoryDatabase, spec: &SourceSpec) -> Self {
        let inner = database.lock();
        let rows = |table: &str| inner.tables.get(table).cloned().unwrap_or_default();
        let entities = spec.entities.iter().map(|e| (schema(&e.entity), rows(&e.table))).collect();
        Self { point: inner.history.len() as u64, epoch: inner.epoch, entities, left: None }
    }
}

#[async_trait]
impl SourceView for MemoryView {
    fn point(&self) -> Point {
        Point::Sequence(self.point)
    }

    fn has_history_of(&self, logged: &Position) -> bool {
        logged.epoch.identity == self.epoch
    }

    fn schema(&self, entity: &EntityName) -> Option<&Arc<Schema>> {
        self.entities.iter().map(|(schema, _)| schema).find(|s| s.entity == *entity)
    }

    async fn begin(&mut self, entity: &EntityName) -> Result<(), SourceError> {
        let rows = self.entities.iter().find(|(s, _)| s.entity == *entity);
        self.left = rows.map(|(_, rows)| set(rows));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RowSet>, SourceError> {
        Ok(self.left.take().filter(|set| !set.is_empty()))
    }

    async fn has_unlogged(&mut self, logged: &Position) -> Result<bool, SourceError> {
        Ok(!logged.covers(self.point()))
    }
}

pub(super) struct MemoryCopies {
    database: MemoryDatabase,
    route: RouteId,
    tables: BTreeMap<String, Content>,
    left: Option<RowSet>,
}

impl MemoryCopies {
    pub(super) fn new(database: MemoryDatabase, route: RouteId) -> Self {
        Self { database, route, tables: BTreeMap::new(), left: None }
    }
}

#[async_trait]
impl CopyView for MemoryCopies {
    async fn look(&mut self) -> Result<Option<(LogId, Checkpoint)>, SinkError> {
        // Lanes that are ahead are level again after the route's next step.
        loop {
            let seen = {
                let inner = self.database.lock();
                self.tables = inner.tables.clone();
                let route = inner.checkpoints.get(&self.route.to_string()).copied();
                let prefix = format!("{} (lane ", self.route);
                let mut lanes = inner.checkpoints.iter().filter(|(n, _)| n.starts_with(&prefix));
                let mut ahead = |at: Checkpoint| lanes.any(|(_, (_, lane))| lane.next > at.next);
                (!route.is_some_and(|(_, at)| ahead(at))).then_some(route)
            };
            match seen {
                Some(route) => return Ok(route),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    async fn columns(&mut self, shape: &Shape) -> Result<Vec<bool>, SinkError> {
        Ok(vec![true; shape.columns.len()])
    }

    async fn computed(&mut self, shape: &Shape) -> Result<Vec<Computed>, SinkError> {
        Ok(vec![Computed::Missing; shape.generated.len()])
    }

    async fn begin(&mut self, shape: &Arc<Shape>) -> Result<(), SinkError> {
        self.left = Some(set(&self.tables.get(&shape.into).cloned().unwrap_or_default()));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RowSet>, SinkError> {
        Ok(self.left.take().filter(|set| !set.is_empty()))
    }

    async fn parked(&mut self, into: &str) -> Result<Vec<Pending>, SinkError> {
        let (inner, route) = (self.database.lock(), self.route.to_string());
        let ours = inner.parked.iter().filter(|((r, t, _), _)| *r == route && t == into);
        Ok(ours.map(|(_, parked)| parked.pending.clone()).collect())
    }

    async fn foresight(&mut self, _: &Arc<Shape>) -> Result<Box<dyn Foresight>, SinkError> {
        Ok(Box::new(AsItIs))
    }
}

struct AsItIs;

#[async_trait]
impl Foresight for AsItIs {
    async fn rows(&mut self, source: &RowSet) -> Result<RowSet, SinkError> {
        Ok(source.clone())
    }
}
