//! Parking: what does not fit is set aside by key, and what comes later for a parked key merges into
//! its pending state instead of going to the target.
//!
//! Law: a key's changes reach the target in order. While a key is parked nothing of it passes but a
//! delete or a truncate, which end what was pending.

use super::shelf::{Id, Keys, Shelf};
use rowcast_core::{
    Change, ChangeOp, Code, Malformed, Narrow, Offset, ParkEdit, Parked, Pending, PendingOp,
    RouteId, Row, Rows, SchemaId, SinkError, Stored, key_shown,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Keys that one route may park. More than that is no single bad row.
const KEYS_MAX: usize = 100_000;
/// Bytes of pending rows that one route may park; they are held in memory.
const BYTES_MAX: usize = 64 << 20;

/// Why a change does not fit.
#[derive(Debug, Clone)]
pub(super) struct Blame {
    code: String,
    message: String,
    words: String,
}

impl Blame {
    pub(super) fn of(error: &SinkError) -> Self {
        let (what, source) = match error {
            SinkError::Data { what, source, .. } => (what.clone(), source.as_deref()),
            other => (other.to_string(), None),
        };
        let mut words = Vec::new();
        let mut cause = source.map(|e| e as &dyn std::error::Error);
        while let Some(e) = cause {
            let text = e.to_string();
            if words.last() != Some(&text) {
                words.push(text);
            }
            cause = e.source();
        }
        Self { code: Code::SinkData.as_str().into(), message: what, words: words.join(": ") }
    }

    /// For a reason that no database gave.
    pub(super) fn because(message: &str) -> Self {
        let code = Code::SinkData.as_str().into();
        Self { code, message: message.into(), words: String::new() }
    }

    /// Which rule is broken, without values.
    pub(super) fn what(&self) -> &str {
        &self.message
    }

    /// The same key with another reason.
    pub(super) fn put_on(&self, parked: &Parked) -> Parked {
        let Self { code, message, words } = self.clone();
        Parked { code, message, words, ..parked.clone() }
    }
}

/// A route's view of its parked keys while it writes.
pub(super) struct Parking<'a> {
    pub(super) shelf: &'a Shelf,
    route: RouteId,
    /// Changes known not to fit, by key and offset.
    suspects: HashMap<Id, Vec<(Offset, Blame)>>,
    /// What the target's open transaction has noted; `None` for removed.
    staged: HashMap<Id, Option<Arc<Parked>>>,
    /// What the attempt at hand notes.
    attempt: HashMap<Id, Option<Arc<Parked>>>,
    /// Some state that is not committed yet has its row at another key.
    carrying: bool,
    /// Keys for which a newer whole row came.
    renewed: Vec<Id>,
    narrow: HashMap<(SchemaId, usize), Arc<Narrow>>,
    /// When keys may be tried together again.
    pub(super) together_at: Instant,
}

impl<'a> Parking<'a> {
    pub(super) fn new(shelf: &'a Shelf, route: RouteId) -> Self {
        Self {
            shelf,
            route,
            suspects: HashMap::new(),
            staged: HashMap::new(),
            attempt: HashMap::new(),
            carrying: false,
            renewed: Vec::new(),
            narrow: HashMap::new(),
            together_at: Instant::now(),
        }
    }

    /// Takes the changes of parked keys out of `rows`, and adds what is to be noted of them.
    pub(super) fn set_aside(&mut self, rows: Rows, batches: &[Stored]) -> Result<Rows, SinkError> {
        self.attempt.clear();
        let shelf = self.shelf;
        let keys = shelf.lock();
        if self.staged.is_empty() && keys.count() == 0 && self.suspects.is_empty() {
            return Ok(rows);
        }
        let mut walk = Walk { parking: self, keys: &keys, rows, batches, key: Vec::new() };
        let kept = walk.changes().map_err(|e| SinkError::Bug {
            service: walk.parking.route.to.clone(),
            what: e.to_string(),
        })?;
        let mut rows = walk.rows;
        rows.changes = kept;
        self.bounded(&keys)?;
        rows.parks = self.attempt.iter().map(|(id, state)| edit(id, state.as_ref())).collect();
        Ok(rows)
    }

    fn bounded(&self, keys: &Keys) -> Result<(), SinkError> {
        let (mut count, mut bytes) = (keys.count(), keys.bytes());
        let staged = self.staged.iter().filter(|(id, _)| !self.attempt.contains_key(*id));
        for ((table, key), state) in self.attempt.iter().chain(staged) {
            let old = keys.get(table, key);
            count = count + usize::from(state.is_some()) - usize::from(old.is_some());
            bytes += state.as_ref().map_or(0, |p| p.pending.size());
            bytes -= old.map_or(0, |p| p.pending.size());
        }
        if count <= KEYS_MAX && bytes <= BYTES_MAX {
            return Ok(());
        }
        Err(SinkError::TooManyParked { route: self.route.clone(), keys: count, bytes })
    }

    /// The target has taken what the attempt noted.
    pub(super) fn applied(&mut self, until: Offset, commit: bool) {
        self.staged.extend(self.attempt.drain());
        if !commit {
            return;
        }
        self.suspects.retain(|_, found| found.iter().any(|(offset, _)| *offset >= until));
        self.carrying = false;
        if self.staged.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut keys = self.shelf.lock();
        for (id, state) in self.staged.drain() {
            if let Some(parked) = &state
                && keys.get(&id.0, &id.1).is_none()
            {
                tell(&self.route, parked);
            }
            keys.edit(&edit(&id, state.as_ref()), now);
        }
        for id in self.renewed.drain(..) {
            keys.renewed(&id, now);
        }
    }

    /// The target has taken back everything that was not committed.
    pub(super) fn taken_back(&mut self) {
        self.attempt.clear();
        self.staged.clear();
        self.carrying = false;
        self.renewed.clear();
    }

    fn note(&mut self, (table, key): Id, state: Option<Arc<Parked>>) {
        self.carrying |= state.as_ref().is_some_and(|p| !p.pending.before.is_empty());
        self.attempt.insert((table, key), state);
    }

    /// Remembers that a change of `rows` does not fit; its offset. `None` when it cannot be set
    /// aside: it has no key, or that was tried already.
    pub(super) fn suspect(
        &mut self,
        rows: &Rows,
        batches: &[Stored],
        error: &SinkError,
    ) -> Option<Offset> {
        let SinkError::Data { change: Some(index), .. } = error else { return None };
        let change = rows.changes.get(*index as usize)?;
        if change.op == ChangeOp::Truncate {
            return None;
        }
        let offset = offset(batches, change);
        let mut key = Vec::new();
        rows.key(change, &mut key).ok()?;
        let found = self.suspects.entry((rows.shape(change).into.clone(), key)).or_default();
        if found.iter().any(|(known, _)| *known == offset) {
            return None;
        }
        found.push((offset, Blame::of(error)));
        Some(offset)
    }
}

/// Once for each key that is parked.
fn tell(route: &RouteId, parked: &Parked) {
    let Parked { code, table, shown, message, .. } = parked;
    tracing::warn!("route {route}: parked [{code}] key {shown} of {table}: {message}");
}

fn edit((table, key): &Id, state: Option<&Arc<Parked>>) -> ParkEdit {
    match state {
        Some(parked) => ParkEdit::Put(parked.clone()),
        None => ParkEdit::Remove { table: table.clone(), key: key.clone() },
    }
}

fn offset(batches: &[Stored], change: &Change) -> Offset {
    let stored = batches.get(change.batch as usize);
    stored.map_or_else(Offset::default, |s| s.offset(change.event as usize))
}

/// One walk over the changes of an attempt.
struct Walk<'w, 'a> {
    parking: &'w mut Parking<'a>,
    keys: &'w Keys,
    rows: Rows,
    batches: &'w [Stored],
    key: Vec<u8>,
}

impl Walk<'_, '_> {
    fn changes(&mut self) -> Result<Vec<Change>, Malformed> {
        let concerned: HashSet<String> = {
            let noted = self.parking.suspects.keys().chain(self.parking.staged.keys());
            noted.map(|(table, _)| table.clone()).collect()
        };
        let concerns: Vec<bool> = self
            .rows
            .shapes
            .iter()
            .map(|s| concerned.contains(&s.shape.into) || self.keys.has_table(&s.shape.into))
            .collect();
        let changes = std::mem::take(&mut self.rows.changes);
        let mut kept = Vec::with_capacity(changes.len());
        for change in changes {
            if !concerns[change.shape as usize] {
                kept.push(change);
                continue;
            }
            match change.op {
                ChangeOp::Truncate => {
                    self.truncated(&change);
                    kept.push(change);
                }
                ChangeOp::Rekey => self.rekey(change, &mut kept)?,
                ChangeOp::Delete | ChangeOp::Leave => self.delete(change, &mut kept)?,
                ChangeOp::Create | ChangeOp::Read | ChangeOp::Update | ChangeOp::Patch => {
                    self.row(change, &mut kept)?;
                }
            }
        }
        Ok(kept)
    }

    fn state(&self, table: &str, key: &[u8]) -> Option<Arc<Parked>> {
        // Most keys are not parked: look where nothing has to be copied first.
        let on_shelf = self.keys.get(table, key);
        if self.parking.attempt.is_empty() && self.parking.staged.is_empty() {
            return on_shelf.cloned();
        }
        let id = (table.to_string(), key.to_vec());
        let noted = self.parking.attempt.get(&id).or_else(|| self.parking.staged.get(&id));
        noted.map_or_else(|| on_shelf.cloned(), Option::clone)
    }

    fn blame(&self, table: &str, key: &[u8], change: &Change) -> Option<Blame> {
        if self.parking.suspects.is_empty() {
            return None;
        }
        let found = self.parking.suspects.get(&(table.to_string(), key.to_vec()))?;
        let offset = offset(self.batches, change);
        found.iter().find(|(at, _)| *at == offset).map(|(_, blame)| blame.clone())
    }

    fn row(&mut self, change: Change, kept: &mut Vec<Change>) -> Result<(), Malformed> {
        let mut key = std::mem::take(&mut self.key);
        self.rows.key(&change, &mut key)?;
        let table = self.rows.shape(&change).into.clone();
        let whole = change.op != ChangeOp::Patch;
        if whole {
            self.retaken(&table, &key)?;
        }
        if let Some(parked) = self.state(&table, &key) {
            let pending = parked.pending.then(self.pending(&change)?)?;
            self.merge(&parked, pending, &change);
            if whole {
                self.parking.renewed.push((table, key.clone()));
            }
        } else if let Some(blame) = self.blame(&table, &key, &change) {
            let pending = self.pending(&change)?;
            self.park(&change, table, key.clone(), blame, pending)?;
        } else {
            kept.push(change);
        }
        self.key = key;
        Ok(())
    }

    fn delete(&mut self, change: Change, kept: &mut Vec<Change>) -> Result<(), Malformed> {
        let mut key = Vec::new();
        self.rows.key(&change, &mut key)?;
        let table = self.rows.shape(&change).into.clone();
        let parked = self.state(&table, &key);
        if let Some(blame) = self.blame(&table, &key, &change) {
            let pending = self.pending(&change)?;
            match parked {
                Some(parked) => {
                    let pending = parked.pending.then(pending)?;
                    self.merge(&blame.put_on(&parked).into(), pending, &change);
                }
                None => self.park(&change, table, key, blame, pending)?,
            }
            return Ok(());
        }
        if let Some(parked) = parked {
            let left = parked.pending.then(self.pending(&change)?)?;
            // The row may stand at an older key still: that one has to go as well.
            if left.carries(&key)?.is_some() {
                self.merge(&parked, left, &change);
                self.parking.renewed.push((table, key));
            } else {
                self.parking.note((table, key), None);
            }
        }
        kept.push(change);
        Ok(())
    }

    fn rekey(&mut self, change: Change, kept: &mut Vec<Change>) -> Result<(), Malformed> {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        self.rows.key(&change, &mut new)?;
        let gone = Change { op: ChangeOp::Delete, ..change };
        self.rows.key(&gone, &mut old)?;
        let table = self.rows.shape(&change).into.clone();
        self.retaken(&table, &new)?;
        if let Some(parked) = self.state(&table, &old) {
            let pending = parked.pending.then(self.pending(&change)?)?;
            let carried = pending.op != PendingOp::Whole;
            let shown = self.shown(&change)?;
            let moved = Parked { key: new.clone(), shown, ..Parked::clone(&parked) };
            self.merge(&moved.into(), pending, &change);
            self.parking.renewed.push((table.clone(), new));
            // A whole row needs nothing of the old one, which goes now.
            match self.blame(&table, &old, &gone) {
                Some(blame) if !carried => {
                    let pending = self.pending(&gone)?;
                    self.merge(&blame.put_on(&parked).into(), pending, &change);
                }
                _ => {
                    self.parking.note((table, old), None);
                    if !carried {
                        kept.push(gone);
                    }
                }
            }
        } else if let Some(blame) = self.blame(&table, &new, &change) {
            let pending = self.pending(&change)?;
            self.park(&change, table, new, blame, pending)?;
        } else {
            if self.state(&table, &new).is_some() {
                self.parking.note((table, new), None);
            }
            kept.push(change);
        }
        Ok(())
    }

    fn truncated(&mut self, change: &Change) {
        let table = self.rows.shape(change).into.clone();
        let on_shelf = self.keys.of_table(&table).map(|p| p.key.clone());
        let noted = self.parking.staged.keys().chain(self.parking.attempt.keys());
        let noted = noted.filter(|(t, _)| *t == table).map(|(_, key)| key.clone());
        let all: Vec<_> = on_shelf.chain(noted).collect();
        for key in all {
            self.parking.note((table.clone(), key), None);
        }
    }

    /// A key comes anew where the row of a parked one still stands: that row is gone.
    fn retaken(&mut self, table: &str, key: &[u8]) -> Result<(), Malformed> {
        if !self.keys.has_carriers() && !self.parking.carrying {
            return Ok(());
        }
        let noted = self.parking.staged.iter().chain(&self.parking.attempt);
        let noted: HashMap<_, _> = noted.filter(|((t, _), _)| t == table).collect();
        let on_shelf = self.keys.has_carriers().then(|| self.keys.of_table(table));
        let on_shelf = on_shelf.into_iter().flatten();
        let on_shelf = on_shelf.filter(|p| !noted.contains_key(&(p.table.clone(), p.key.clone())));
        let all: Vec<_> =
            noted.values().filter_map(|s| s.as_ref()).chain(on_shelf).cloned().collect();
        for parked in all {
            if parked.pending.carries(&parked.key)?.as_deref() == Some(key) {
                let left = parked.pending.without_carried();
                let left = left.map(|pending| Parked { pending, ..Parked::clone(&parked) });
                let id = (parked.table.clone(), parked.key.clone());
                self.parking.note(id, left.map(Arc::new));
            }
        }
        Ok(())
    }

    fn merge(&mut self, parked: &Arc<Parked>, pending: Pending, change: &Change) {
        let last = offset(self.batches, change);
        let merged = Parked { pending, last, events: parked.events + 1, ..Parked::clone(parked) };
        let id = (merged.table.clone(), merged.key.clone());
        self.parking.note(id, Some(merged.into()));
    }

    fn park(
        &mut self,
        change: &Change,
        table: String,
        key: Vec<u8>,
        blame: Blame,
        pending: Pending,
    ) -> Result<(), Malformed> {
        let first = offset(self.batches, change);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let parked = Parked {
            table: table.clone(),
            key: key.clone(),
            shown: self.shown(change)?,
            code: blame.code,
            message: blame.message,
            words: blame.words,
            since: since.as_micros() as i64,
            first,
            last: first,
            events: 1,
            pending,
        };
        self.parking.note((table, key), Some(parked.into()));
        Ok(())
    }

    fn shown(&self, change: &Change) -> Result<String, Malformed> {
        let (row, or) = self.rows.keyed(change);
        key_shown(row, or, &self.rows.key_sources(change))
    }

    /// What is left to do when this change does not go to the target.
    fn pending(&mut self, change: &Change) -> Result<Pending, Malformed> {
        let shape = self.rows.shape(change).clone();
        let batch = &self.rows.batches[change.batch as usize];
        let schema = batch.schema(self.rows.event(change));
        let narrow = self.parking.narrow.entry((shape.schema, shape.subscription));
        let narrow = narrow.or_insert_with(|| Arc::new(Narrow::new(&shape, schema))).clone();
        let (before, after) = (self.rows.before(change), self.rows.after(change));
        let (op, before, after) = match change.op {
            ChangeOp::Delete | ChangeOp::Leave | ChangeOp::Truncate => {
                let key = if before.0.is_empty() { after } else { before };
                (PendingOp::Delete, key, Row(&[]))
            }
            ChangeOp::Rekey => (PendingOp::Rekey, before, after),
            ChangeOp::Patch => (PendingOp::Patch, Row(&[]), after),
            ChangeOp::Create | ChangeOp::Read | ChangeOp::Update => {
                (PendingOp::Whole, Row(&[]), after)
            }
        };
        let (before, after) = (narrow.pack(before)?, narrow.pack(after)?);
        Ok(Pending { op, schema: narrow.schema.clone(), before, after })
    }
}
