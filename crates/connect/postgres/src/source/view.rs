//! The published rows at one consistent point, beside whoever captures.
//!
//! A temporary slot exports a snapshot and says where it lies in the log: commits before that place
//! are in the rows, commits from it on are in the stream.

use super::catalog::{Table, literal};
use super::holders::told_when_slow;
use super::prepare::Prepare;
use super::publication::slot_name;
use super::retained::{ACTIVE_MAX, ASK_EVERY};
use super::rows::CopyOut;
use super::shape::Shape;
use super::slot::{self, Life, Slot};
use super::snapshot::View;
use super::timeline::{Descent, Server};
use super::trouble::Trouble;
use super::wire::{Purpose, Wire};
use crate::connect::Address;
use async_trait::async_trait;
use rowcast_core::{
    EntityName, Masker, Point, Position, RowSet, Schema, SourceError, SourceSpec, SourceView, quote,
};
use std::sync::Arc;
use std::time::Instant;

/// Rows under an exported snapshot.
#[derive(Debug)]
pub(crate) struct PostgresView {
    trouble: Trouble,
    slot: String,
    point: Point,
    server: Server,
    entities: Vec<(EntityName, Table, Shape)>,
    rows: CopyOut,
    /// What masks the rows that are read.
    masks: Arc<[Option<Masker>]>,
    /// For questions outside of the snapshot.
    sql: Wire,
}

impl PostgresView {
    /// Takes the snapshot. Waits for the transactions that write at this moment.
    pub(crate) async fn open(address: &Address, spec: &SourceSpec) -> Result<Self, SourceError> {
        let trouble = Trouble(spec.service.clone());
        let prepare = Prepare { address, spec, trouble: &trouble, peeks: false };
        let mut sql = prepare.connect(Purpose::Sql).await?;
        let mut beside = prepare.connect(Purpose::Replication).await?;
        let server = prepare.server(&mut sql, &mut beside).await?;
        let slot = slot_name(&spec.service);
        let name = format!("{slot}_{:08x}", rand::random::<u32>());
        let made = slot::create(&mut beside, &name, Life::Temporary, server.version);
        let made = told_when_slow(&name, &mut sql, made).await;
        let made = made.map_err(|e| trouble.wire("no slot for a snapshot can be made", e))?;
        let mut view = View::open(&prepare, &made).await?;
        let (tables, shapes) = prepare.tables(&mut view.wire).await?;
        let names = spec.entities.iter().map(|e| e.entity.clone());
        let entities = names.zip(tables).zip(shapes).map(|((n, t), s)| (n, t, s)).collect();
        let (point, rows) = (made.consistent, CopyOut::new(view.wire));
        let masks = Arc::default();
        Ok(Self { trouble, slot, point, server, entities, rows, masks, sql })
    }

    fn find(&self, entity: &EntityName) -> Option<&(EntityName, Table, Shape)> {
        self.entities.iter().find(|(name, ..)| name == entity)
    }
}

#[async_trait]
impl SourceView for PostgresView {
    fn point(&self) -> Point {
        self.point
    }

    fn has_history_of(&self, logged: &Position) -> bool {
        matches!(self.server.descent(&self.slot, logged), Descent::Same | Descent::GoesOn)
    }

    fn schema(&self, entity: &EntityName) -> Option<&Arc<Schema>> {
        self.find(entity).map(|(.., shape)| &shape.schema)
    }

    async fn begin(&mut self, entity: &EntityName) -> Result<(), SourceError> {
        let Some((_, table, shape)) = self.find(entity) else {
            return Err(self.trouble.bug(format!("a view without {entity}")));
        };
        let columns: Vec<_> = shape.schema.columns.iter().map(|c| quote(&c.name)).collect();
        let select = format!("SELECT {} FROM {}", columns.join(", "), table.sql_only());
        let (masks, width) = (shape.masks.clone(), columns.len());
        let begun = self.rows.begin(&select, width).await;
        self.masks = masks;
        begun.map_err(|e| self.trouble.wire("its rows cannot be read", e))
    }

    async fn next(&mut self) -> Result<Option<RowSet>, SourceError> {
        let next = self.rows.next().await;
        let next = next.map_err(|e| self.trouble.wire("its rows cannot be read", e))?;
        let masked = next.map(|rows| rows.masked(&self.masks)).transpose();
        masked.map_err(|_| self.trouble.bug("a packed row is malformed"))
    }

    async fn has_unlogged(&mut self, logged: &Position) -> Result<bool, SourceError> {
        if logged.covers(self.point) {
            return Ok(false);
        }
        let began = Instant::now();
        loop {
            if let Some(answer) = self.peek(logged).await? {
                return Ok(answer);
            }
            // Who captured has ended, and the server is about to notice; or somebody captures still.
            if began.elapsed() > ACTIVE_MAX {
                return Ok(true);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

impl PostgresView {
    /// Whether the slot holds changes beyond what is logged; `None` while somebody reads from it.
    async fn peek(&mut self, logged: &Position) -> Result<Option<bool>, SourceError> {
        let refused = |e| self.trouble.wire("its slot cannot be looked into", e);
        let slot = Slot::find(&mut self.sql, &self.slot).await.map_err(refused)?;
        let Some(slot) = slot.filter(|s| s.here && s.lost.is_none()) else {
            return Ok(Some(true));
        };
        if slot.active_pid.is_some() {
            return Ok(None);
        }
        // A look takes nothing out. A commit message stands at the end of its transaction, and the
        // letters are those of insert, update, delete and truncate.
        let sql = format!(
            "WITH m AS MATERIALIZED (SELECT lsn, xid, get_byte(data, 0) AS tag \
               FROM pg_logical_slot_peek_binary_changes({}, '{}', NULL, 'proto_version', '1', \
                    'publication_names', {})) \
             SELECT EXISTS (SELECT FROM m WHERE tag IN (73, 85, 68, 84) AND xid::text IN \
               (SELECT xid::text FROM m WHERE tag = 67 AND lsn > '{}'))",
            literal(&self.slot),
            self.point,
            literal(&quote(&self.slot)),
            logged.point
        );
        match self.sql.query(&sql).await {
            Ok(rows) => Ok(Some(rows.first().and_then(|r| r.first()?.as_deref()) != Some("f"))),
            Err(e) if e.state() == Some("55006") => Ok(None),
            Err(e) => Err(refused(e)),
        }
    }
}
