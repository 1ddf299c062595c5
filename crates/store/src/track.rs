//! What a log remembers about its end, and the one law of placement: a batch follows the last one.

use rowcast_core::{Batch, EntityName, Offset, Position, Schema, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The end of a stream, carried forward batch by batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Track {
    pub(crate) next: Offset,
    pub(crate) position: Option<Position>,
    snapshots: BTreeMap<EntityName, (Snapshot, Offset)>,
    schemas: BTreeMap<EntityName, Arc<Schema>>,
}

impl Track {
    /// Takes over what the head of a segment repeats.
    pub(crate) fn restore(
        next: Offset,
        position: Option<Position>,
        snapshots: Vec<(Snapshot, Offset)>,
        schemas: Vec<Arc<Schema>>,
    ) -> Self {
        Self {
            next,
            position,
            snapshots: snapshots.into_iter().map(|s| (s.0.entity.clone(), s)).collect(),
            schemas: schemas.into_iter().map(|s| (s.entity.clone(), s)).collect(),
        }
    }

    /// Moves the end behind `batch`. Says whether the newest schemas or snapshots changed.
    ///
    /// A new history takes the words about old snapshots with it: its source begins by emptying
    /// every entity, so none is complete until the new snapshots say so.
    pub(crate) fn advance(&mut self, batch: &Batch) -> bool {
        let mut noted = false;
        if batch.fresh {
            noted = !self.snapshots.is_empty();
            self.snapshots.clear();
        }
        self.next.0 += batch.span();
        self.position = Some(batch.until);
        for snapshot in &batch.snapshots {
            self.snapshots.insert(snapshot.entity.clone(), (snapshot.clone(), self.next));
            noted = true;
        }
        self.note_schemas(batch) || noted
    }

    fn note_schemas(&mut self, batch: &Batch) -> bool {
        let news = |known: Option<&Arc<Schema>>, new: &Arc<Schema>| match known {
            Some(known) => !Arc::ptr_eq(known, new) && known != new,
            None => true,
        };
        if !batch.schemas.iter().any(|s| news(self.schemas.get(&s.entity), s)) {
            return false;
        }
        // Only events say which of two schemas of one entity came last.
        let mut in_order: Vec<u32> = batch.events.iter().map(|e| e.schema).collect();
        in_order.dedup();
        let mut noted = false;
        for index in in_order {
            let schema = &batch.schemas[index as usize];
            if news(self.schemas.get(&schema.entity), schema) {
                self.schemas.insert(schema.entity.clone(), schema.clone());
                noted = true;
            }
        }
        noted
    }

    pub(crate) fn snapshots(&self) -> Vec<(Snapshot, Offset)> {
        self.snapshots.values().cloned().collect()
    }

    pub(crate) fn schemas(&self) -> Vec<Arc<Schema>> {
        self.schemas.values().cloned().collect()
    }
}

/// Whether `batch` may follow a batch that ended at `last`; if not, why.
pub(crate) fn follows(last: Option<Position>, batch: &Batch) -> Result<(), String> {
    if !batch.is_sound() {
        return Err("its events point outside of it".into());
    }
    let Some(last) = last else { return Ok(()) };
    match batch.until.is_at_or_after(&last) {
        Some(true) => Ok(()),
        Some(false) => Err(format!("it ends at {}, before {last}", batch.until)),
        None if batch.fresh => Ok(()),
        None => Err(format!("its epoch is {}, not {}", batch.until.epoch, last.epoch)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_core::{BatchBuilder, Epoch, Op, Point};

    fn schema(entity: &str, native: &str) -> Arc<Schema> {
        let column = rowcast_core::Column {
            name: "id".into(),
            native: native.into(),
            kind: rowcast_core::Kind::Int64,
            key: Some(0),
            not_null: true,
            fill: None,
        };
        Arc::new(Schema {
            entity: entity.parse().unwrap(),
            dialect: "test".into(),
            columns: vec![column],
            generated: vec![],
        })
    }

    fn batch_using(schemas: &[&Arc<Schema>]) -> Batch {
        let mut b = BatchBuilder::new();
        b.begin(Point::Sequence(1), 0);
        for schema in schemas {
            let index = b.schema(schema.id(), schema);
            b.push(Op::Schema, index, |_| {}, |_| {});
        }
        b.finish(Position::new(Epoch::default(), Point::Sequence(1)), true)
    }

    #[test]
    fn the_newest_schema_is_the_one_used_last_even_when_it_is_an_old_one_again() {
        let (old, new) = (schema("a", "int"), schema("a", "bigint"));
        let mut track = Track::default();
        assert!(track.advance(&batch_using(&[&old])));
        assert!(track.advance(&batch_using(&[&old, &new, &old, &new])));
        assert_eq!(track.schemas(), std::slice::from_ref(&new));
        assert!(!track.advance(&batch_using(&[&new])));
        assert!(track.advance(&batch_using(&[&old])));
        assert_eq!(track.schemas(), [old]);
    }

    #[test]
    fn a_new_history_forgets_the_words_about_old_snapshots() {
        let word = Snapshot {
            entity: "a".parse().unwrap(),
            cursor: vec![1].into(),
            rows: 1,
            rows_estimate: None,
            done: true,
        };
        let position = Position::new(Epoch::default(), Point::Sequence(1));
        let mut track = Track::default();
        let mut b = BatchBuilder::new();
        b.snapshot(word.clone());
        assert!(track.advance(&b.finish(position, true)));
        assert_eq!(track.snapshots(), [(word, Offset(0))]);
        let mut b = BatchBuilder::new();
        b.fresh();
        assert!(track.advance(&b.finish(position, true)));
        assert!(track.snapshots().is_empty());
    }
}
