//! The published rows of a file at one change number.

use super::{Reading, Sets, next};
use crate::file::source_error;
use crate::source::{maskers, place, published_table};
use async_trait::async_trait;
use rowcast_core::{
    EntityName, Masker, Point, Position, RowSet, Schema, ServiceName, SourceError, SourceSpec,
    SourceView, quote,
};
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;

/// A published table.
#[derive(Debug)]
struct Seen {
    schema: Arc<Schema>,
    /// The query that reads its rows.
    select: String,
    masks: Arc<[Option<Masker>]>,
}

/// Rows in one read transaction.
#[derive(Debug)]
pub(crate) struct SqliteView {
    service: ServiceName,
    reading: Reading,
    point: Point,
    identity: u64,
    entities: Vec<Seen>,
    sets: Option<Sets>,
    /// What masks the rows that are read.
    masks: Arc<[Option<Masker>]>,
}

impl SqliteView {
    /// Looks, and keeps what was seen.
    pub(crate) async fn open(path: PathBuf, spec: SourceSpec) -> Result<Self, SourceError> {
        let service = spec.service.clone();
        let refused = |e| source_error(&service, "opening the database", e);
        let reading = crate::database::blocking(move || Reading::open(&path)).await;
        let reading = reading.map_err(refused)?;
        let (point, identity, entities) = reading.ask(move |c| look(c, &spec)).await?;
        Ok(Self { service, reading, point, identity, entities, sets: None, masks: Arc::default() })
    }

    fn find(&self, entity: &EntityName) -> Option<&Seen> {
        self.entities.iter().find(|seen| seen.schema.entity == *entity)
    }
}

type Look = (Point, u64, Vec<Seen>);

fn look(c: &Connection, spec: &SourceSpec) -> Result<Look, SourceError> {
    let refused = |e| source_error(&spec.service, "reading the tables", e);
    c.execute_batch("BEGIN").map_err(refused)?;
    let Some((identity, point)) = place(c).map_err(refused)? else {
        return Err(SourceError::Setup {
            service: spec.service.clone(),
            what: "nothing has captured this file yet".into(),
            help: "start `rowcast run`; it copies what is there, and then there is something to \
                   compare"
                .into(),
            source: None,
        });
    };
    let mut entities = Vec::new();
    for publish in &spec.entities {
        let (table, schema) = published_table(c, &spec.service, publish)?;
        let columns: Vec<_> = schema.columns.iter().map(|c| quote(&c.name)).collect();
        // A NULL names no row: such rows are not published.
        let key = schema.key().into_iter();
        let key: Vec<_> = key.map(|k| format!("{} IS NOT NULL", columns[k])).collect();
        let masks = maskers(&table, publish, &schema).into();
        let (names, table) = (columns.join(", "), quote(&table.name));
        let select = format!("SELECT {names} FROM {table} WHERE {}", key.join(" AND "));
        entities.push(Seen { schema: Arc::new(schema), select, masks });
    }
    Ok((point, identity, entities))
}

#[async_trait]
impl SourceView for SqliteView {
    fn point(&self) -> Point {
        self.point
    }

    fn has_history_of(&self, logged: &Position) -> bool {
        logged.epoch.identity == self.identity
    }

    fn schema(&self, entity: &EntityName) -> Option<&Arc<Schema>> {
        self.find(entity).map(|seen| &seen.schema)
    }

    async fn begin(&mut self, entity: &EntityName) -> Result<(), SourceError> {
        let Some(Seen { select, masks, .. }) = self.find(entity) else {
            let (service, what) = (self.service.clone(), format!("a view without {entity}"));
            return Err(SourceError::Bug { service, what });
        };
        let (select, masks) = (select.clone(), masks.clone());
        (self.sets, self.masks) = (Some(self.reading.select(select)), masks);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RowSet>, SourceError> {
        let next = next(&mut self.sets).await;
        let next = next.map_err(|e| source_error(&self.service, "reading its rows", e))?;
        let masked = next.map(|rows| rows.masked(&self.masks)).transpose();
        masked.map_err(|e| SourceError::Bug { service: self.service.clone(), what: e.to_string() })
    }

    async fn has_unlogged(&mut self, logged: &Position) -> Result<bool, SourceError> {
        Ok(!logged.covers(self.point))
    }
}
