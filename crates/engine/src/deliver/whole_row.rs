//! Whole rows for filters: an update may leave out values that did not change, but a row that begins
//! to pass a filter has to be written whole, and whether it passes may hang on what was left out.
//! The log has said every value once, so it is read backwards from the update until they are found.
//!
//! Law: nothing is remembered from one call to the next, so nothing can be out of date.

use crate::trouble::Trouble;
use rowcast_core::{
    Batch, ByteSize, EntityName, Event, EventLog, LogError, Malformed, Offset, Op, ProjectError,
    Projection, Row, RowWriter, Schema, ServiceName, Shape, Stored, Value,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Events read at first, further back; more each time.
const BLOCK_EVENTS_MIN: u64 = 1_000;
/// Events read at once, at most.
const BLOCK_EVENTS_MAX: u64 = 256_000;

/// Where to look for what is missing.
pub(super) struct History<'a> {
    pub(super) log: &'a dyn EventLog,
    pub(super) stream: &'a ServiceName,
    /// Bytes of rows held at once: of those that are completed, and as many of history.
    pub(super) bytes_max: ByteSize,
    /// Which subscriptions want every row whole.
    pub(super) completes: Vec<bool>,
}

/// Batches whose updates say all that the filters need.
pub(super) struct Whole {
    pub(super) batches: Vec<Stored>,
    /// Up to where they do. Before the end that was asked for when the rows would not have fitted.
    pub(super) end: Offset,
}

/// An update that says too little.
struct Want {
    /// Which batch of the chunk, and which event of it.
    place: (usize, usize),
    offset: Offset,
    schema: Arc<Schema>,
    /// The key under which the row stood at the place in history that was reached.
    key: Vec<u8>,
    /// The packed values that are known.
    values: Vec<Option<Vec<u8>>>,
    bytes: usize,
    /// Nothing more is looked for.
    settled: bool,
    /// A filter cannot do without.
    must: bool,
}

impl History<'_> {
    /// Completes the updates from `at` on and before `end` as the route's filters need. A row that
    /// history does not hold stays as it is.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] when the values were forgotten by retention.
    pub(super) async fn whole(
        &self,
        projection: &mut Projection,
        batches: &[Stored],
        at: Offset,
        end: Offset,
    ) -> Result<Whole, Trouble> {
        let wants = wants(projection, &self.completes, batches, (at, end))?;
        if wants.is_empty() {
            return Ok(Whole { batches: batches.to_vec(), end });
        }
        let mut search = Search::new(wants, end, self.bytes_max);
        for stored in batches.iter().rev() {
            search.batch(stored).map_err(|e| self.malformed(e))?;
        }
        let mut until = batches.first().map_or(at, |b| b.base);
        let mut events = BLOCK_EVENTS_MIN;
        let mut first = None;
        while search.open > 0 {
            let first = match first {
                Some(first) => first,
                None => *first.insert(self.log.tail(self.stream).await?.first),
            };
            if until <= first {
                if first > Offset(0) && search.wants.iter().any(|w| w.must && !w.settled) {
                    let at = Offset(first.0 - 1);
                    return Err(LogError::Trimmed { stream: self.stream.clone(), at, first }.into());
                }
                break;
            }
            let from = Offset(until.0.saturating_sub(events).max(first.0));
            let block = self.block(from, until).await?;
            for stored in block.iter().rev() {
                search.batch(stored).map_err(|e| self.malformed(e))?;
            }
            let reached = block.front().map_or(from, |b| b.base).max(first);
            let held = until.0.saturating_sub(reached.0);
            // A block that was cut for its bytes says how many events go into one.
            events = if reached > from { held } else { events * 2 };
            events = events.clamp(1, BLOCK_EVENTS_MAX);
            until = reached.min(Offset(until.0 - 1));
        }
        Ok(search.finish(batches))
    }

    /// The batches from `from` to before `until`; only the last ones where all have too many bytes.
    async fn block(&self, from: Offset, until: Offset) -> Result<VecDeque<Stored>, LogError> {
        let mut block = VecDeque::new();
        let (mut bytes, mut at) = (0, from);
        while at < until {
            let chunk = self.log.read(self.stream, at, self.bytes_max).await?;
            for stored in chunk.batches.into_iter().filter(|b| b.base < until) {
                bytes += stored.batch.size();
                block.push_back(stored);
                while bytes as u64 > self.bytes_max.0 && block.len() > 1 {
                    bytes -= block.pop_front().map_or(0, |b: Stored| b.batch.size());
                }
            }
            at = chunk.next;
        }
        Ok(block)
    }

    fn malformed(&self, error: Malformed) -> LogError {
        LogError::Damaged { stream: self.stream.clone(), what: error.to_string() }
    }
}

fn wants(
    projection: &mut Projection,
    completes: &[bool],
    batches: &[Stored],
    (at, end): (Offset, Offset),
) -> Result<Vec<Want>, ProjectError> {
    let mut wants = Vec::new();
    let completes = |s: &Shape| completes.get(s.subscription).is_some_and(|c| *c);
    for (number, stored) in batches.iter().enumerate() {
        let mut filtered: Vec<Option<Vec<Arc<Shape>>>> = vec![None; stored.batch.schemas.len()];
        for (i, event) in stored.batch.events.iter().enumerate() {
            let offset = stored.offset(i);
            if event.op != Op::Update || offset < at || offset >= end {
                continue;
            }
            let schema = stored.batch.schema(event);
            let slot = &mut filtered[event.schema as usize];
            if slot.is_none() {
                let mut shapes = projection.shapes(schema)?;
                shapes.retain(|s| s.filter.is_some() || completes(s));
                *slot = Some(shapes);
            }
            let after = stored.batch.after(event);
            let shapes = || slot.iter().flatten();
            let must = shapes().any(|s| s.filter.is_some() && s.needs_whole(after));
            let wanted = shapes().any(|s| completes(s)) && after.has_unchanged();
            if !must && !wanted {
                continue;
            }
            let before = if event.before.len > 0 { stored.batch.before(event) } else { after };
            let (Ok(values), Ok(Some(key))) = (packed(after), key(schema, before)) else {
                continue;
            };
            let bytes = values.iter().flatten().map(Vec::len).sum();
            let (schema, place) = (schema.clone(), (number, i));
            wants.push(Want { place, offset, schema, key, values, bytes, settled: false, must });
        }
    }
    Ok(wants)
}

/// The values of a row, each packed by itself; none where it is unchanged.
fn packed(row: Row<'_>) -> Result<Vec<Option<Vec<u8>>>, Malformed> {
    row.values().map(|value| value.map(one)).collect()
}

fn one(value: Value<'_>) -> Option<Vec<u8>> {
    if value == Value::Unchanged {
        return None;
    }
    let mut bytes = Vec::new();
    RowWriter::new(&mut bytes).push(value);
    Some(bytes)
}

/// The packed key of a row; none where the row does not say it.
fn key(schema: &Schema, row: Row<'_>) -> Result<Option<Vec<u8>>, Malformed> {
    let mut values = Vec::new();
    row.unpack(&mut values)?;
    let mut key = Vec::new();
    let mut writer = RowWriter::new(&mut key);
    for source in schema.key() {
        match values.get(source) {
            None | Some(Value::Unchanged) => return Ok(None),
            Some(value) => writer.push(*value),
        }
    }
    Ok(Some(key))
}

/// The wants by the keys they look for.
struct Search {
    /// In the order of their offsets.
    wants: Vec<Want>,
    by_key: HashMap<(EntityName, Vec<u8>), Vec<usize>>,
    entities: HashSet<EntityName>,
    /// How many are not settled.
    open: usize,
    bytes: usize,
    bytes_max: usize,
    end: Offset,
}

impl Search {
    fn new(wants: Vec<Want>, end: Offset, bytes_max: ByteSize) -> Self {
        let mut by_key: HashMap<_, Vec<usize>> = HashMap::new();
        for (i, want) in wants.iter().enumerate() {
            by_key.entry((want.schema.entity.clone(), want.key.clone())).or_default().push(i);
        }
        let (open, bytes) = (wants.len(), wants.iter().map(|w| w.bytes).sum());
        let entities = wants.iter().map(|w| w.schema.entity.clone()).collect();
        Self { wants, by_key, entities, open, bytes, bytes_max: bytes_max.0 as usize, end }
    }

    /// Looks through one batch, newest event first.
    fn batch(&mut self, stored: &Stored) -> Result<(), Malformed> {
        if self.open == 0 {
            return Ok(());
        }
        let batch = &stored.batch;
        let schemas = batch.schemas.iter();
        let wanted: Vec<bool> = schemas.map(|s| self.entities.contains(&s.entity)).collect();
        for (i, event) in batch.events.iter().enumerate().rev() {
            if wanted[event.schema as usize] {
                self.event(batch, event, stored.offset(i))?;
            }
        }
        Ok(())
    }

    fn event(&mut self, batch: &Batch, event: &Event, offset: Offset) -> Result<(), Malformed> {
        let schema = batch.schema(event);
        let after = match event.op {
            Op::Create | Op::Read | Op::Update => key(schema, batch.after(event))?,
            Op::Delete | Op::Truncate | Op::Schema | Op::Complete | Op::End => None,
        };
        let moved = event.op == Op::Update && event.before.len > 0;
        let before = match event.op {
            Op::Delete => key(schema, batch.before(event))?,
            Op::Update if moved => key(schema, batch.before(event))?,
            _ => None,
        };
        if event.op == Op::Truncate {
            let of_entity = |w: &Want| w.schema.entity == schema.entity && w.offset > offset;
            let gone: Vec<_> =
                (0..self.wants.len()).filter(|i| of_entity(&self.wants[*i])).collect();
            gone.into_iter().for_each(|i| self.settle(i));
            return Ok(());
        }
        // Under the key that the row had before, nothing stood behind this event any more.
        if let Some(before) = &before
            && after.as_ref() != Some(before)
        {
            for i in self.waiting(schema, before, offset) {
                self.settle(i);
            }
        }
        let Some(after) = after else { return Ok(()) };
        for i in self.waiting(schema, &after, offset) {
            self.lay_under(i, schema, batch.after(event))?;
            let Some(want) = self.wants.get_mut(i) else { continue };
            if event.op != Op::Update || want.values.iter().all(Option::is_some) {
                self.settle(i);
            } else if let Some(before) = before.as_ref().filter(|_| moved) {
                want.key.clone_from(before);
                let by = (schema.entity.clone(), before.clone());
                self.by_key.entry(by).or_default().push(i);
            }
            self.keep_small();
        }
        Ok(())
    }

    /// The wants that look for a key and are newer than an event.
    fn waiting(&self, schema: &Schema, key: &[u8], offset: Offset) -> Vec<usize> {
        let by = (schema.entity.clone(), key.to_vec());
        let found = self.by_key.get(&by).into_iter().flatten().copied();
        let waits = |i: &usize| {
            self.wants.get(*i).is_some_and(|w| !w.settled && w.offset > offset && w.key == key)
        };
        found.filter(waits).collect()
    }

    /// Puts an older row's values where none are known.
    fn lay_under(&mut self, i: usize, schema: &Schema, row: Row<'_>) -> Result<(), Malformed> {
        let Some(want) = self.wants.get_mut(i) else { return Ok(()) };
        let mut older = Vec::new();
        row.unpack(&mut older)?;
        let same = *schema == *want.schema;
        for (at, value) in want.values.iter_mut().enumerate().filter(|(_, v)| v.is_none()) {
            let Some(column) = want.schema.columns.get(at) else { continue };
            let place = if same { Some(at) } else { schema.column(&column.name) };
            *value = match (place, &column.fill) {
                (Some(place), _) => older.get(place).copied().and_then(one),
                // The column came later: this is what rows got that were there.
                (None, Some(fill)) => one(Value::Text(fill.as_bytes())),
                (None, None) => one(Value::Null),
            };
            let bytes = value.as_ref().map_or(0, Vec::len);
            want.bytes += bytes;
            self.bytes += bytes;
        }
        Ok(())
    }

    fn settle(&mut self, i: usize) {
        if let Some(want) = self.wants.get_mut(i).filter(|w| !w.settled) {
            want.settled = true;
            self.open -= 1;
        }
    }

    /// Lets the newest wants go while all of them have too many bytes: their turn comes later.
    fn keep_small(&mut self) {
        while self.bytes > self.bytes_max && self.wants.len() > 1 {
            let Some(last) = self.wants.pop() else { return };
            self.bytes -= last.bytes;
            self.end = last.offset;
            if !last.settled {
                self.open -= 1;
            }
        }
    }

    /// The chunk's batches with the completed rows in them.
    fn finish(self, batches: &[Stored]) -> Whole {
        let mut whole = batches.to_vec();
        let mut wants = self.wants.into_iter().peekable();
        for (number, stored) in whole.iter_mut().enumerate() {
            if wants.peek().is_none_or(|w| w.place.0 != number) {
                continue;
            }
            let mut batch = Batch::clone(&stored.batch);
            let mut rows = batch.rows.to_vec();
            while let Some(want) = wants.next_if(|w| w.place.0 == number) {
                let start = rows.len();
                for value in &want.values {
                    match value {
                        Some(packed) => rows.extend_from_slice(packed),
                        None => RowWriter::new(&mut rows).push(Value::Unchanged),
                    }
                }
                let after = &mut batch.events[want.place.1].after;
                (after.start, after.len) = (start as u32, (rows.len() - start) as u32);
            }
            batch.rows = rows.into();
            stored.batch = Arc::new(batch);
        }
        Whole { batches: whole, end: self.end }
    }
}

#[cfg(test)]
mod tests;
