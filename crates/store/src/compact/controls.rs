//! What is no row: schemas, truncates, completions, and the words about snapshots.

use super::record::Record;
use rowcast_core::{Batch, EntityName, Offset, Op, Snapshot};
use std::collections::BTreeMap;

/// Of one entity.
#[derive(Debug, Default)]
struct Entity {
    /// Every schema event, and whether a row that stays needs it.
    schemas: Vec<(Record, bool)>,
    truncate: Option<Record>,
    complete: Option<Record>,
    /// The last event of all, whether it stays or not; of its schema the log knew.
    last: Option<Record>,
    /// Offset and schema of the last event that stays.
    last_to_stay: Option<(u64, u32)>,
}

/// Control events that may stay. Few, whatever the log's size.
#[derive(Debug, Default)]
pub(crate) struct Controls {
    entities: Vec<Entity>,
    notes: BTreeMap<EntityName, Note>,
}

/// The newest word on a snapshot, the offset after it, and the number of the frame that brought it;
/// 0 when it was known before.
#[derive(Debug)]
struct Note {
    word: Snapshot,
    at: Offset,
    frame: u64,
}

impl Controls {
    fn entity(&mut self, entity: u32) -> &mut Entity {
        if self.entities.len() <= entity as usize {
            self.entities.resize_with(entity as usize + 1, Entity::default);
        }
        &mut self.entities[entity as usize]
    }

    pub(crate) fn schema(&mut self, entity: u32, event: Record) {
        self.entity(entity).schemas.push((event, false));
    }

    pub(crate) fn truncate(&mut self, entity: u32, event: Record) {
        self.entity(entity).truncate = Some(event);
    }

    pub(crate) fn complete(&mut self, entity: u32, event: Record) {
        self.entity(entity).complete = Some(event);
    }

    /// Every event passes here, in order.
    pub(crate) fn seen(&mut self, entity: u32, event: &Record) {
        let (before, after) = (Box::default(), Box::default());
        self.entity(entity).last =
            Some(Record { op: Op::Schema, pinned: false, partial: false, before, after, ..*event });
    }

    /// Takes the words that a frame brings.
    pub(crate) fn note(&mut self, batch: &Batch, at: Offset, frame: u64) {
        if batch.fresh {
            self.notes.clear();
        }
        for word in &batch.snapshots {
            let note = Note { word: word.clone(), at, frame };
            self.notes.insert(word.entity.clone(), note);
        }
    }

    /// Takes the words that the head of a segment repeats. It alone has those that came without an
    /// event after the segment before.
    pub(crate) fn repeat(&mut self, words: &[(Snapshot, Offset)], frame: u64) {
        self.notes.retain(|entity, _| words.iter().any(|(word, _)| word.entity == *entity));
        for (word, at) in words {
            let known = self.notes.get(&word.entity);
            if known.is_none_or(|known| known.word != *word || known.at != *at) {
                let note = Note { word: word.clone(), at: *at, frame };
                self.notes.insert(word.entity.clone(), note);
            }
        }
    }

    /// Whether the entity was emptied after this offset.
    pub(crate) fn emptied_after(&self, entity: u32, offset: u64) -> bool {
        let entity = self.entities.get(entity as usize);
        entity.and_then(|e| e.truncate.as_ref()).is_some_and(|t| t.offset > offset)
    }

    /// An event of the entity stays: so does the schema in force there.
    pub(crate) fn stays(&mut self, entity: u32, event: &Record) {
        let offset = event.offset;
        let last = &mut self.entity(entity).last_to_stay;
        *last = (*last).max(Some((offset, event.schema)));
        let schemas = &mut self.entity(entity).schemas;
        let after = schemas.partition_point(|(s, _)| s.offset <= offset);
        if let Some((_, used)) = after.checked_sub(1).and_then(|i| schemas.get_mut(i)) {
            *used = true;
        }
    }

    /// Everything that stays, by offset; the words on snapshots by frame; and the offset after the
    /// last truncate that is older than `horizon` and goes.
    pub(crate) fn finish(mut self, horizon: i64) -> (Vec<Record>, Vec<(u64, Snapshot)>, u64) {
        let (mut events, mut forgotten) = (Vec::new(), 0);
        for number in 0..self.entities.len() as u32 {
            let entity = self.entity(number);
            let old = entity.truncate.take_if(|t| t.committed < horizon);
            forgotten = forgotten.max(old.map_or(0, |t| t.offset + 1));
            let words: Vec<_> =
                [entity.truncate.take(), entity.complete.take()].into_iter().flatten().collect();
            for word in words {
                self.stays(number, &word);
                events.push(word);
            }
            if let Some((newest, used)) = self.entity(number).schemas.last_mut() {
                *used = true;
                let newest = newest.clone();
                self.stays(number, &newest);
            }
            let entity = self.entity(number);
            // What went last had another schema, and the tail goes on to know it.
            let known = entity.last_to_stay.map(|(_, schema)| schema);
            events.extend(entity.last.take().filter(|last| Some(last.schema) != known));
            let schemas = std::mem::take(&mut entity.schemas);
            events.extend(schemas.into_iter().filter_map(|(s, used)| used.then_some(s)));
        }
        events.sort_unstable_by_key(|e| e.offset);
        let notes = self.notes.into_values().filter(|note| note.frame > 0);
        let mut notes: Vec<_> = notes.map(|note| (note.frame, note.word)).collect();
        notes.sort_by_key(|(frame, _)| *frame);
        (events, notes, forgotten)
    }
}
