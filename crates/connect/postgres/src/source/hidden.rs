//! What a publication that somebody else altered may have hidden, and how it is made good: the tables are
//! read again, and where there was no publication at all the stream goes on behind that place.

use super::catalog::{Published, Table};
use super::column_list::{self, Wanted};
use super::cursor::Cursor;
use super::prepare::Prepare;
use super::publication::{Publication, slot_name};
use super::shape::Shape;
use super::wire::Wire;
use rowcast_core::{Position, Snapshot, SourceError};
use std::collections::BTreeSet;

impl Prepare<'_> {
    /// How the tables are to be published.
    pub(super) async fn wanted(
        &self,
        sql: &mut Wire,
        tables: &[Table],
        shapes: &[Shape],
    ) -> Result<Vec<Wanted>, SourceError> {
        let entities = self.spec.entities.iter().zip(tables).zip(shapes);
        let wanted = column_list::wanted(sql, entities.map(|((e, t), s)| (e, t, s))).await;
        wanted.map_err(|e| self.trouble.wire("its tables cannot be read", e))
    }

    /// Takes away column lists that are in the publisher's way, before anything else can fail.
    pub(super) async fn relieve(&self, sql: &mut Wire) -> Result<bool, SourceError> {
        column_list::relieve(sql, &slot_name(&self.spec.service), self.trouble).await
    }

    /// Entities of which the log may lack changes: what published them is not what it was when the log
    /// had all of them. One that an earlier Rowcast made has no mark to compare; what it is has to do.
    pub(super) fn hidden(
        &self,
        tables: &[Table],
        wanted: &[Wanted],
        found: Option<&Publication>,
        (snapshots, unpublished): (&[Snapshot], bool),
    ) -> BTreeSet<usize> {
        let mut hidden = BTreeSet::new();
        for (entity, (publish, table)) in self.spec.entities.iter().zip(tables).enumerate() {
            let known = snapshots.iter().find(|s| s.entity == publish.entity);
            let Some(cursor) = known.and_then(|s| Cursor::read(&s.cursor)) else { continue };
            let of = |w: &&Wanted| w.table.oid == table.oid;
            let trusted = found.is_some_and(|found| match &cursor.published {
                Some(mark) => *mark == found.mark(table),
                None => wanted.iter().filter(of).all(|w| found.holds(w)),
            });
            // A table made anew is read again anyway.
            if unpublished || !trusted && cursor.oid == table.oid {
                hidden.insert(entity);
            }
        }
        self.tell(&hidden, tables, wanted, found);
        hidden
    }

    fn tell(
        &self,
        hidden: &BTreeSet<usize>,
        tables: &[Table],
        wanted: &[Wanted],
        found: Option<&Publication>,
    ) {
        let publication = slot_name(&self.spec.service);
        for entity in hidden {
            let of = |w: &&Wanted| w.table.oid == tables[*entity].oid;
            let why = match found {
                None => "there is none of this name".into(),
                Some(found) => {
                    let all = found.hides_everywhere().map(String::from);
                    let one = || wanted.iter().find(of).and_then(|w| found.hides(w));
                    all.or_else(one).unwrap_or_else(|| "it has been put back since".into())
                }
            };
            tracing::warn!(
                service = %self.spec.service,
                entity = %self.spec.entities[*entity].entity,
                publication,
                why,
                "somebody else altered the publication, so changes may be missing: it is as it has to \
                 be again, and the table is read again"
            );
        }
    }

    /// Whether nothing that the stream would bring before the snapshot is wanted any more, so that it
    /// may begin there: where there was no publication the server could not stream it.
    pub(super) fn passes(
        &self,
        hidden: &BTreeSet<usize>,
        snapshots: &[Snapshot],
        from: Position,
        unpublished: bool,
    ) -> Result<bool, SourceError> {
        let known = |entity: &usize| {
            let name = &self.spec.entities[*entity].entity;
            snapshots.iter().any(|s| s.entity == *name)
        };
        let mut all = 0..self.spec.entities.len();
        let unwanted = all.all(|entity| hidden.contains(&entity) || !known(&entity));
        let passes = unwanted && !hidden.is_empty() && from.index == 0;
        if unpublished && !passes {
            return Err(self.trouble.epoch(format!(
                "publication {} was dropped or renamed while half of a transaction was in the log",
                slot_name(&self.spec.service)
            )));
        }
        Ok(passes)
    }
}

/// Notes at the tables what publishes them.
pub(super) fn mark(tables: &mut [Table], publication: &Publication) {
    for table in tables {
        let columns = publication.columns(table).cloned();
        table.published = Some(Published { mark: publication.mark(table), columns });
    }
}
