//! What a route has set aside, as its target holds it, and when to try it again.

use rowcast_core::{ParkEdit, Parked};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// First wait before a parked key is tried again by itself; doubles from try to try.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait.
const WAIT_LONGEST: Duration = Duration::from_secs(900);
/// Tries after which the wait, and the number of whole rows to wait for, no longer grow.
const TRIES_COUNTED_MAX: u32 = 10;

/// Names a parked key: its table and its identity.
pub(super) type Id = (String, Vec<u8>);

/// A parked key and how its tries went.
#[derive(Debug)]
struct Kept {
    parked: Arc<Parked>,
    tries: u32,
    /// Whole rows that came since the last try.
    whole: u32,
    due: Instant,
}

/// All parked keys of a route.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Keys>);

/// The keys, for as long as the lock is held.
#[derive(Debug, Default)]
pub(super) struct Keys {
    tables: HashMap<String, HashMap<Vec<u8>, Kept>>,
    count: usize,
    bytes: usize,
    /// How many carry a row that stands at another key.
    carriers: usize,
}

impl Shelf {
    pub(super) fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing in here is left half done by a panic that matters to a reader.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().count
    }

    /// All entries, the oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Parked>> {
        let keys = self.lock();
        let mut all: Vec<_> =
            keys.tables.values().flat_map(|t| t.values()).map(|k| k.parked.clone()).collect();
        drop(keys);
        all.sort_by(|a, b| (a.first, &a.table, &a.key).cmp(&(b.first, &b.table, &b.key)));
        all
    }
}

impl Keys {
    /// What the target says it has.
    pub(super) fn load(&mut self, all: Vec<Parked>, now: Instant) {
        *self = Self::default();
        all.into_iter().for_each(|parked| self.put(Arc::new(parked), now));
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_carriers(&self) -> bool {
        self.carriers > 0
    }

    pub(super) fn has_table(&self, table: &str) -> bool {
        self.tables.get(table).is_some_and(|t| !t.is_empty())
    }

    pub(super) fn get(&self, table: &str, key: &[u8]) -> Option<&Arc<Parked>> {
        Some(&self.tables.get(table)?.get(key)?.parked)
    }

    pub(super) fn of_table(&self, table: &str) -> impl Iterator<Item = &Arc<Parked>> {
        self.tables.get(table).into_iter().flat_map(|t| t.values()).map(|k| &k.parked)
    }

    pub(super) fn edit(&mut self, edit: &ParkEdit, now: Instant) {
        match edit {
            ParkEdit::Put(parked) => self.put(parked.clone(), now),
            ParkEdit::Remove { table, key } => self.remove(table, key),
        }
    }

    fn put(&mut self, parked: Arc<Parked>, now: Instant) {
        let old = self.get(&parked.table, &parked.key).cloned();
        if let Some(old) = &old {
            self.uncount(old);
        }
        self.count += 1;
        self.bytes += parked.pending.size();
        self.carriers += usize::from(carries(&parked));
        let table = self.tables.entry(parked.table.clone()).or_default();
        match table.get_mut(&parked.key) {
            Some(kept) => kept.parked = parked,
            None => {
                let kept =
                    Kept { parked: parked.clone(), tries: 0, whole: 0, due: now + WAIT_FIRST };
                table.insert(parked.key.clone(), kept);
            }
        }
    }

    fn remove(&mut self, table: &str, key: &[u8]) {
        let gone = self.tables.get_mut(table).and_then(|t| t.remove(key));
        if let Some(kept) = gone {
            self.uncount(&kept.parked);
        }
    }

    fn uncount(&mut self, old: &Parked) {
        self.count -= 1;
        self.bytes -= old.pending.size();
        self.carriers -= usize::from(carries(old));
    }

    /// A newer whole row came: it is worth a try, unless several like it were in vain.
    pub(super) fn renewed(&mut self, (table, key): &Id, now: Instant) {
        let Some(kept) = self.tables.get_mut(table).and_then(|t| t.get_mut(key)) else { return };
        kept.whole = kept.whole.saturating_add(1);
        let enough = if kept.tries == 0 { 1 } else { 1 << kept.tries.min(TRIES_COUNTED_MAX) };
        if kept.whole >= enough {
            kept.due = now;
        }
    }

    /// A try did not help.
    pub(super) fn failed(&mut self, (table, key): &Id, parked: Arc<Parked>, now: Instant) {
        let Some(kept) = self.tables.get_mut(table).and_then(|t| t.get_mut(key)) else { return };
        let wait = WAIT_FIRST.saturating_mul(1 << kept.tries.min(TRIES_COUNTED_MAX));
        kept.parked = parked;
        kept.tries = kept.tries.saturating_add(1);
        kept.whole = 0;
        kept.due = now + wait.min(WAIT_LONGEST);
    }

    /// The next time that something is to be tried.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.tables.values().flat_map(|t| t.values()).map(|k| k.due).min()
    }

    /// At most `max` keys whose time has come, the oldest first.
    pub(super) fn due(&self, now: Instant, max: usize) -> Vec<Arc<Parked>> {
        if self.count == 0 {
            return Vec::new();
        }
        let all = self.tables.values().flat_map(|t| t.values());
        let mut due: Vec<_> = all.filter(|k| k.due <= now).collect();
        due.sort_by_key(|k| (k.tries, k.parked.first));
        due.into_iter().take(max).map(|k| k.parked.clone()).collect()
    }

    /// Tries these as soon as there is time.
    pub(super) fn hurry(&mut self, parked: &Parked, now: Instant) {
        let kept = self.tables.get_mut(&parked.table).and_then(|t| t.get_mut(&parked.key));
        if let Some(kept) = kept {
            kept.due = now;
        }
    }
}

fn carries(parked: &Parked) -> bool {
    matches!(parked.pending.carries(&parked.key), Ok(Some(_)))
}
