//! Whether the published tables are still those that were read: the same ones under their names, in
//! the stream, and without rows that got other values unseen. What is not is read again; what cannot
//! be published any more is told.

use super::{Capture, HEARTBEAT_WITHIN, Stop};
use crate::source::catalog::Table;
use crate::source::cursor::Cursor;
use crate::source::flow::Known;
use crate::source::hidden::mark;
use crate::source::leaves::remember;
use crate::source::pgoutput::Relation;
use crate::source::prepare::{Prepare, words};
use crate::source::publication::{Publication, slot_name};
use crate::source::reshape;
use crate::source::shape::{self, Shape};
use crate::source::trouble::Trouble;
use crate::source::{column_list, withdraw};
use rowcast_core::{Diagnose, Remedy, Snapshot, SourceError};

impl Capture<'_> {
    /// The stream speaks of a relation.
    pub(super) async fn relation(&mut self, relation: Relation) -> Result<(), Stop> {
        let entities: Vec<usize> =
            (0..self.tables.len()).filter(|i| self.tables[*i].oid == relation.oid).collect();
        if let Some(root) = self.spoken.take()
            && entities.is_empty()
        {
            self.partition(root, &relation).await?;
        }
        if let Some(&first) = entities.first() {
            let table = &self.tables[first];
            self.spoken = (table.kind == 'p').then_some(first);
            let moved = (&relation.namespace, &relation.name) != (&table.schema, &table.name);
            let known = reshape::Question {
                trouble: &self.flow.trouble,
                relation: &relation,
                table,
                // A partitioned table is spoken of before each of its partitions.
                again: moved
                    || table.kind != 'p' && self.flow.relations.contains_key(&relation.oid),
                xid: self.flow.xid,
            };
            let asks = known.asks();
            let commit = self.flow.assembler.commit().unwrap_or_default();
            let sql = self.task.sql(&mut self.sql).await?;
            let (table, strangers) = known.ask(sql).await?;
            if asks {
                // Before a row of it is told: it may belong to another table by now. What the
                // catalog lacks since the stream may still have.
                let looked = self.look().await;
                if moved || !matches!(looked, Err(Stop::Failed(_))) {
                    looked?;
                }
            }
            for &entity in &entities {
                if self.flow.skips(entity, commit) {
                    continue;
                }
                let publish = &self.task.spec.entities[entity];
                match shape::of_relation(&relation, &table, &strangers, publish) {
                    Ok(shape) => self.flow.assembler.reshape(entity, shape, commit),
                    Err(unfit) => {
                        let error = self.flow.trouble.unfit(publish, &unfit);
                        return self.end_with(error).await;
                    }
                }
                self.tables[entity] = table.clone();
            }
        }
        let columns = relation.columns.into_iter().map(|c| c.name).collect();
        self.flow.relations.insert(relation.oid, Known { columns, entities: entities.into() });
        Ok(())
    }

    /// Compares all tables with what was read of them. `false` when the server did not answer in
    /// time: look again, later.
    pub(super) async fn look(&mut self) -> Result<bool, Stop> {
        let trouble = Trouble(self.task.spec.service.clone());
        let (known, task, sql) = (&self.tables, &self.task, &mut self.sql);
        let found = async {
            let sql = task.sql(sql).await?;
            let (address, spec) = (&task.address, &task.spec);
            let publication = Publication::find(sql, &slot_name(&spec.service)).await;
            let publication = publication.map_err(|e| trouble.wire("no look at its tables", e))?;
            let prepare = Prepare { address, spec, trouble: &trouble, peeks: false };
            // Before all else: what it hides may look as if the tables were other ones.
            let found = match publication.filter(|found| publishes(known, found)) {
                Some(publication) => Some((publication, prepare.tables(sql).await?)),
                None => None,
            };
            Ok::<_, SourceError>(found)
        };
        let (mut tables, shapes) = match tokio::time::timeout(HEARTBEAT_WITHIN, found).await {
            Ok(Ok(None)) => return Err(Stop::Again),
            Ok(Ok(Some((publication, (mut tables, shapes))))) => {
                mark(&mut tables, &publication);
                (tables, shapes)
            }
            Ok(Err(error)) if error.remedy() != Remedy::Retry => {
                let sql = self.task.sql(&mut self.sql).await?;
                let name = slot_name(&self.task.spec.service);
                // Before anybody has to wait for a person.
                column_list::relieve(sql, &name, &trouble).await?;
                return Err(withdraw::harmful(sql, &self.task.spec, error).await.into());
            }
            // The stream tells when the server is gone.
            Ok(Err(_)) | Err(_) => {
                self.sql = None;
                return Ok(false);
            }
        };
        for (i, table) in tables.iter_mut().enumerate() {
            remember(table, self.note(i));
            if table.oid != self.tables[i].oid || !self.knows(i, table, &shapes[i]) {
                tracing::info!(
                    service = %self.task.spec.service,
                    entity = %self.task.spec.entities[i].entity,
                    table = %table.sql(),
                    "the table is another one, its rows were written anew with other values, or a \
                     label of an enum in it was renamed: it is read again"
                );
                return Err(Stop::Again);
            }
            if !self.knows_leaves(i, table).await? {
                return Ok(false);
            }
        }
        let entities = &self.task.spec.entities;
        if self.words.is_empty() {
            self.words = words(entities, (&tables, &shapes), &self.progress, &[]);
        }
        if !self.hears_of_leaves(&tables).await? {
            return Ok(false);
        }
        for (known, table) in self.tables.iter_mut().zip(tables) {
            known.leaves = table.leaves;
        }
        Ok(true)
    }

    /// Whether the rows of an entity that the log has, or is about to get, do for its table.
    fn knows(&self, entity: usize, table: &Table, shape: &Shape) -> bool {
        let publish = &self.task.spec.entities[entity];
        let cursor = self.note(entity).and_then(|s| Cursor::read(&s.cursor));
        cursor.is_none_or(|c| c.serves(table, shape, publish))
    }

    /// What the log says of an entity, or is about to say.
    pub(super) fn note(&self, entity: usize) -> Option<&Snapshot> {
        let publish = &self.task.spec.entities[entity];
        let snapshot = self.flow.snapshot.as_ref();
        let promised = snapshot.into_iter().flat_map(|s| s.replaced.iter().map(|(_, word)| word));
        let mut notes = promised.chain(&self.words).chain(&self.progress);
        notes.find(|s| s.entity == publish.entity)
    }

    /// Ends with an error. What came before it is good, and the next start may not pass this place.
    pub(super) async fn end_with(&mut self, error: SourceError) -> Result<(), Stop> {
        if !self.flow.assembler.is_empty() {
            self.hand_out().await?;
        }
        Err(error.into())
    }
}

/// Whether nobody altered what publishes the tables, since that was asked when capture began.
pub(super) fn publishes(tables: &[Table], found: &Publication) -> bool {
    let known = |t: &Table| t.published.as_ref().is_some_and(|p| p.mark == found.mark(t));
    tables.iter().all(known)
}
