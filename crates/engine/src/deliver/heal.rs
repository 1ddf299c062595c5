//! Trying parked keys again: each in a transaction of its own, between the chunks, with the
//! checkpoint where it is.

use super::Track;
use super::desk::{Ask, Job, ParkOutcome};
use super::park::Blame;
use super::shelf::Id;
use crate::trouble::Trouble;
use rowcast_core::{
    Change, ChangeOp, ParkEdit, Parked, PendingOp, Progress, REFERENCE, Rows, ShapeUse, SinkError,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Keys that are tried between two chunks.
const TRIES_MAX: usize = 100;
/// Longest that a person's request holds up the route; what is left is done soon after.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Keys that are tried together.
const TOGETHER_MAX: usize = 50_000;
/// Shortest wait between two tries of keys together; a try that took long is followed by a longer one.
const TOGETHER_EVERY: Duration = Duration::from_secs(1);
/// Keys that are dropped in one transaction.
const DROPS_MAX: usize = 1_000;

impl Track<'_> {
    /// Waits until something parked is to be tried; for ever when nothing is.
    pub(super) fn next_due(&self) -> impl Future<Output = ()> + use<> {
        let due = if self.is_between() { self.parking.shelf.lock().next_due() } else { None };
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Tries what is due, unless something is under way.
    pub(super) async fn heal_due(&mut self) -> Result<(), Trouble> {
        if !self.is_between() {
            return Ok(());
        }
        let due = self.parking.shelf.lock().due(Instant::now(), TRIES_MAX);
        let mut waits = false;
        for parked in due {
            waits |= !self.heal(&parked).await? && refers(&parked);
        }
        if waits && self.parking.together_at <= Instant::now() {
            let began = Instant::now();
            self.heal_together().await?;
            self.parking.together_at = Instant::now() + TOGETHER_EVERY.max(10 * began.elapsed());
        }
        Ok(())
    }

    /// Does what a person asked for.
    pub(super) async fn answer(&mut self, ask: Ask) -> Result<(), Trouble> {
        let Ask { job, which, reply } = ask;
        if reply.is_closed() {
            // Nobody waits any more, and they were told that nothing was done.
            return Ok(());
        }
        let found: Vec<_> =
            self.parking.shelf.list().into_iter().filter(|p| which.takes(p)).collect();
        let done = match job {
            Job::Retry => self.retry(found).await,
            Job::Drop => self.drop_all(&found).await,
        };
        if let Ok(outcome) = &done {
            let _ = reply.send(outcome.clone());
        }
        done.map(|_| ())
    }

    /// Tries all of them, and those that failed once more for as long as others heal: a parent may
    /// come after its child.
    async fn retry(&mut self, mut left: Vec<Arc<Parked>>) -> Result<ParkOutcome, Trouble> {
        let began = Instant::now();
        let mut outcome = ParkOutcome::default();
        loop {
            let mut failed = Vec::new();
            let healed = outcome.healed;
            for (i, parked) in left.iter().enumerate() {
                if began.elapsed() > ANSWER_WITHIN {
                    let now = Instant::now();
                    let mut keys = self.parking.shelf.lock();
                    left[i..].iter().for_each(|p| keys.hurry(p, now));
                    outcome.later = (left.len() - i) as u64;
                    outcome.parked = failed.len() as u64;
                    return Ok(outcome);
                }
                if self.heal(parked).await? {
                    outcome.healed += 1;
                } else {
                    failed.push(parked.clone());
                }
            }
            if outcome.healed == healed && failed.iter().any(|p| refers(p)) {
                let before = failed.len();
                self.heal_together().await?;
                let keys = self.parking.shelf.lock();
                failed.retain(|p| keys.get(&p.table, &p.key).is_some());
                outcome.healed += (before - failed.len()) as u64;
            }
            if failed.is_empty() || outcome.healed == healed {
                outcome.parked = failed.len() as u64;
                return Ok(outcome);
            }
            left = failed;
        }
    }

    /// Tries everything, for as long as somebody may be kept waiting.
    pub(super) async fn heal_all(&mut self) -> Result<(), Trouble> {
        let began = Instant::now();
        self.heal_together().await?;
        for parked in self.parking.shelf.list() {
            if began.elapsed() > ANSWER_WITHIN {
                break;
            }
            self.heal(&parked).await?;
        }
        Ok(())
    }

    /// Tries all keys together that wait for another row: some may wait for each other.
    pub(super) async fn heal_together(&mut self) -> Result<(), Trouble> {
        let Some(position) = self.stored_position else { return Ok(()) };
        let mut rows = Rows { together: true, leave_out: true, ..Rows::default() };
        let all = self.parking.shelf.list();
        for parked in all.iter().filter(|p| refers(p) && is_whole(p)).take(TOGETHER_MAX) {
            if let Ok(one) = self.rows_of(parked) {
                append(&mut rows, one);
            }
        }
        if rows.changes.len() < 2 {
            return Ok(());
        }
        let progress = Progress { from: self.stored, next: self.stored, position, commit: true };
        let applied = match self.sink.apply(&rows, progress).await {
            Err(SinkError::LeftOut { changes, .. }) if changes.len() < rows.changes.len() => {
                let left: HashSet<u32> = changes.into_iter().collect();
                let mut index = 0..;
                rows.parks.retain(|_| index.next().is_some_and(|i| !left.contains(&i)));
                rows.changes.clear();
                (rows.together, rows.leave_out) = (false, false);
                self.sink.apply(&rows, progress).await
            }
            applied => applied,
        };
        match applied {
            Ok(()) => {
                let now = Instant::now();
                let mut keys = self.parking.shelf.lock();
                rows.parks.iter().for_each(|edit| keys.edit(edit, now));
            }
            // Each of them was tried by itself and says why.
            Err(SinkError::Data { .. }) => {}
            Err(SinkError::LeftOut { .. } | SinkError::Schema { .. }) => {
                self.sink.wants(self.log).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn drop_all(&mut self, found: &[Arc<Parked>]) -> Result<ParkOutcome, Trouble> {
        let mut outcome = ParkOutcome::default();
        for some in found.chunks(DROPS_MAX) {
            let parks: Vec<_> = some.iter().map(|p| removal(p)).collect();
            if self.settle(Rows { parks, ..Rows::default() }).await? {
                outcome.dropped += some.len() as u64;
            }
        }
        Ok(outcome)
    }

    /// Tries one key. Says whether it fits now.
    async fn heal(&mut self, parked: &Arc<Parked>) -> Result<bool, Trouble> {
        let error = match self.rows_of(parked) {
            Ok(rows) => match self.settle(rows).await {
                Ok(healed) => return Ok(healed),
                Err(Trouble::Sink(error)) => error,
                Err(other) => return Err(other),
            },
            Err(blame) => {
                self.still(parked, &blame);
                return Ok(false);
            }
        };
        match &error {
            SinkError::Data { .. } => {}
            // What the row was packed for is not what the table is now.
            SinkError::Schema { .. } => {
                self.still(parked, &Blame::of(&error));
                self.sink.wants(self.log).await?;
                return Ok(false);
            }
            _ => return Err(error.into()),
        }
        self.still(parked, &Blame::of(&error));
        Ok(false)
    }

    fn still(&mut self, parked: &Arc<Parked>, blame: &Blame) {
        let id: Id = (parked.table.clone(), parked.key.clone());
        let again = Arc::new(blame.put_on(parked));
        self.parking.shelf.lock().failed(&id, again, Instant::now());
    }

    /// Writes rows without moving the checkpoint.
    async fn settle(&mut self, rows: Rows) -> Result<bool, Trouble> {
        let Some(position) = self.stored_position else { return Ok(false) };
        let progress = Progress { from: self.stored, next: self.stored, position, commit: true };
        self.sink.apply(&rows, progress).await?;
        let now = Instant::now();
        let mut keys = self.parking.shelf.lock();
        rows.parks.iter().for_each(|edit| keys.edit(edit, now));
        Ok(true)
    }

    fn rows_of(&self, parked: &Parked) -> Result<Rows, Blame> {
        let pending = &parked.pending;
        let shape = self.projection.shape_for(&parked.table, &pending.schema);
        let shape = shape.map_err(|e| Blame::because(&e.to_string()))?;
        let Some(shape) = shape else {
            return Err(Blame::because("no subscription writes to this table any more"));
        };
        let complete = self.complete.get(&shape.entity);
        let settling = complete.is_none_or(|from| self.at < *from);
        let change = |op| Change { op, shape: 0, batch: 0, event: 0 };
        let changes = match pending.op {
            PendingOp::Whole if pending.before.is_empty() => vec![change(ChangeOp::Update)],
            PendingOp::Whole => vec![change(ChangeOp::Delete), change(ChangeOp::Update)],
            PendingOp::Patch => vec![change(ChangeOp::Patch)],
            PendingOp::Rekey => vec![change(ChangeOp::Rekey)],
            PendingOp::Delete => vec![change(ChangeOp::Delete)],
        };
        Ok(Rows {
            shapes: vec![ShapeUse { shape, settling }],
            changes,
            batches: vec![Arc::new(pending.batch())],
            parks: vec![removal(parked)],
            ..Rows::default()
        })
    }
}

/// Whether a key waits for another row, which it refers to or which refers to it.
fn refers(parked: &Parked) -> bool {
    parked.message.starts_with(REFERENCE)
}

/// Whether one change is all that is left to do.
fn is_whole(parked: &Parked) -> bool {
    match parked.pending.op {
        PendingOp::Whole => parked.pending.before.is_empty(),
        PendingOp::Delete => true,
        PendingOp::Patch | PendingOp::Rekey => false,
    }
}

/// Puts the rows of one more key behind those of others.
fn append(rows: &mut Rows, mut one: Rows) {
    let id = |s: &ShapeUse| (s.shape.schema, s.shape.subscription);
    let new = one.shapes.first().map(id);
    let known = rows.shapes.iter().position(|s| Some(id(s)) == new);
    let (shape, batch) = (known.unwrap_or(rows.shapes.len()) as u32, rows.batches.len() as u32);
    if known.is_none() {
        rows.shapes.append(&mut one.shapes);
    }
    rows.changes.extend(one.changes.iter().map(|c| Change { shape, batch, ..*c }));
    rows.batches.append(&mut one.batches);
    rows.parks.append(&mut one.parks);
}

fn removal(parked: &Parked) -> ParkEdit {
    ParkEdit::Remove { table: parked.table.clone(), key: parked.key.clone() }
}
