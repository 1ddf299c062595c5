//! Partitions while capture runs: those of which the stream speaks, and what the catalog says of all.

use super::{Capture, HEARTBEAT_WITHIN, Stop};
use crate::source::catalog::Table;
use crate::source::cursor::Cursor;
use crate::source::leaves::{doubt, is_empty, refuses, relation_carries};
use crate::source::pgoutput::Relation;
use crate::source::reshape::until_visible;
use crate::source::shape::Shape;
use crate::source::trouble::Trouble;
use rowcast_core::{EntityName, Snapshot, quote_path};
use std::time::Instant;
use tracing::info;

impl Capture<'_> {
    /// Whether the log knows the rows of an entity's partitions. `false` when the server did not
    /// answer.
    pub(super) async fn knows_leaves(
        &mut self,
        entity: usize,
        table: &Table,
    ) -> Result<bool, Stop> {
        let Some(note) = self.note(entity).cloned() else { return Ok(true) };
        let sql = self.task.sql(&mut self.sql).await?;
        match doubt(sql, table, &note, self.horizon).await {
            Ok(None) => Ok(true),
            Ok(Some(why)) => Err(self.outdated(entity, &why)),
            Err(_) => {
                self.sql = None;
                Ok(false)
            }
        }
    }

    /// Has the tables looked at as soon as the server refuses updates or deletes of them because they
    /// are published.
    pub(super) async fn guard(&mut self) {
        let question = refuses(&self.tables);
        let asked = async {
            let sql = self.task.sql(&mut self.sql).await.ok()?;
            sql.query(&question).await.ok()
        };
        match tokio::time::timeout(HEARTBEAT_WITHIN, asked).await.ok().flatten() {
            Some(rows) if rows.first().and_then(|r| r.first()?.as_deref()) == Some("t") => {
                self.heartbeat_at = Instant::now();
            }
            Some(_) => {}
            // The stream tells when the server is gone.
            None => self.sql = None,
        }
    }

    /// Sees to it that the stream tells of tables that were attached while it ran, with servers that do
    /// not by themselves: the stream has to begin anew behind the place where they were seen first. What
    /// came before it may be missing; of a table without rows that is nothing. `false` when the server
    /// did not answer.
    pub(super) async fn hears_of_leaves(&mut self, tables: &[Table]) -> Result<bool, Stop> {
        self.waits = false;
        let handed = self.flow.assembler.handed().point.value();
        for (entity, table) in tables.iter().enumerate().filter(|(_, t)| t.leaves.deaf) {
            for leaf in &table.leaves.list {
                let heard = self.flow.relations.contains_key(&leaf.oid);
                if leaf.born || leaf.seen <= self.since || heard {
                    continue;
                }
                if handed < leaf.seen {
                    self.waits = true;
                    continue;
                }
                let sql = self.task.sql(&mut self.sql).await?;
                match is_empty(sql, leaf).await {
                    Ok(true) => return Err(Stop::Again),
                    Ok(false) => {
                        let why = format!("partition {} was attached", leaf.sql());
                        return Err(self.outdated(entity, &why));
                    }
                    Err(_) => {
                        self.sql = None;
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The stream speaks of a partition of the table of `root`, before its first row.
    pub(super) async fn partition(&mut self, root: usize, relation: &Relation) -> Result<(), Stop> {
        let commit = self.flow.assembler.commit().unwrap_or_default();
        let snapshot = self.flow.snapshot.as_ref();
        let promised = snapshot.is_some_and(|s| s.replaced.iter().any(|(e, _)| *e == root));
        if promised || self.flow.skips(root, commit) {
            return Ok(());
        }
        let key = key(self.flow.assembler.shape(root));
        if !relation_carries(relation, &key) {
            let why = format!(
                "updates and deletes of partition {} came without the key",
                quote_path(&[&relation.namespace, &relation.name])
            );
            return Err(self.outdated(root, &why));
        }
        // Its second time: something about it, or about the table, changed.
        let again = self.flow.relations.contains_key(&relation.oid);
        if self.tables[root].leaves.has(relation.oid) && !again {
            return Ok(());
        }
        let trouble = Trouble(self.task.spec.service.clone());
        let xid = self.flow.xid;
        until_visible(self.task.sql(&mut self.sql).await?, xid, &trouble).await?;
        if !self.look().await? {
            return Err(trouble.lost("what a new partition is cannot be seen").into());
        }
        if self.tables[root].leaves.has(relation.oid) {
            return Ok(());
        }
        let name = quote_path(&[&relation.namespace, &relation.name]);
        Err(self.outdated(root, &format!("partition {name} came and went")))
    }

    /// What the log has of an entity's table cannot be believed any more. It is read again, now or, if
    /// something is in the way, whenever that is possible.
    fn outdated(&mut self, entity: usize, why: &str) -> Stop {
        let table = self.tables[entity].oid;
        info!(
            service = %self.task.spec.service,
            entity = %self.task.spec.entities[entity].entity,
            table = %self.tables[entity].sql(),
            "{why}: the table is read again"
        );
        let known = |entity: &EntityName| {
            let known = self.progress.iter().find(|s| s.entity == *entity)?;
            Cursor::read(&known.cursor)
        };
        let entities = self.task.spec.entities.iter().zip(&self.tables);
        let outdated = entities.filter(|(_, t)| t.oid == table).map(|(publish, _)| Snapshot {
            entity: publish.entity.clone(),
            cursor: Cursor::outdated(known(&publish.entity)).write(),
            rows: 0,
            rows_estimate: None,
            done: false,
        });
        let outdated: Vec<_> = outdated.collect();
        self.progress.retain(|known| outdated.iter().all(|s| s.entity != known.entity));
        self.progress.extend(outdated);
        Stop::Again
    }
}

fn key(shape: &Shape) -> Vec<String> {
    let columns = &shape.schema.columns;
    shape.schema.key().into_iter().map(|k| columns[k].name.clone()).collect()
}
