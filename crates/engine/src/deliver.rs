//! Deliver: one route, from the log into a sink, whole transactions at a time. It takes whatever is
//! waiting, so batches are one transaction when idle and thousands under load.

use crate::backoff::Backoff;
use crate::pace::{Condition, HasCondition, Next, after_error, at_work};
use crate::trouble::Trouble;
use rowcast_core::{
    ByteSize, Checkpoint, Chunk, Database, EntityName, EventLog, LogError, Offset, Position,
    Progress, Projection, RouteId, Rows, SchemaId, Sink, SinkError, SinkSpec, Stored, Tail,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Offsets the stored checkpoint may stay behind while nothing concerns this route.
const UNSTORED_MAX: u64 = 100_000;

/// Events of a chunk from which on it pays to let more gather before the next.
const GATHER_EVENTS_MIN: u64 = 500;
/// Longest to let changes gather.
const GATHER_MAX: Duration = Duration::from_millis(250);

/// What others may see of a route.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteState {
    pub(crate) condition: Condition,
    /// The next offset the target lacks; unknown before it was reached once.
    pub(crate) applied: Option<Offset>,
}

impl HasCondition for RouteState {
    fn condition(&mut self) -> &mut Condition {
        &mut self.condition
    }
}

/// The delivery of one route.
pub(crate) struct Deliver {
    pub(crate) route: RouteId,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) spec: SinkSpec,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) state: Arc<watch::Sender<RouteState>>,
    /// Row bytes taken from the log at once.
    pub(crate) read_bytes_max: ByteSize,
}

impl Deliver {
    /// Delivers until told to stop. Returns an error only for a defect of ours.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Trouble> {
        let name = format!("route {}", self.route);
        let mut sink = self.database.sink(self.spec.clone());
        let mut backoff = Backoff::default();
        loop {
            let Err(trouble) = self.once(&name, sink.as_mut(), &mut backoff, &stop).await else {
                return Ok(());
            };
            match after_error(&name, trouble, &self.state, &mut backoff, &stop).await {
                Next::Again => {}
                Next::Stop => return Ok(()),
                Next::Bug(trouble) => return Err(trouble),
            }
        }
    }

    async fn once(
        &self,
        name: &str,
        sink: &mut dyn Sink,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Result<(), Trouble> {
        let tail = self.log.tail(&self.route.from).await?;
        let Some(checkpoint) = stop.run_until_cancelled(sink.wants(tail.log)).await else {
            return Ok(());
        };
        let checkpoint = checkpoint?;
        self.compare(&checkpoint).await?;
        let mut lane = Lane::new(self, sink, checkpoint.next, &tail);
        lane.publish();
        at_work(name, &self.state, backoff);
        loop {
            if let Some(rest) = lane.rest_until.take() {
                stop.run_until_cancelled(tokio::time::sleep_until(rest)).await;
            }
            let read = self.log.read(&self.route.from, lane.at, self.read_bytes_max);
            let Some(chunk) = stop.run_until_cancelled(read).await else {
                return lane.store().await;
            };
            lane.deliver(&chunk?).await?;
        }
    }
}

impl Deliver {
    /// Refuses a target that this log has not filled: an old copy of a data directory may have
    /// captured other events under the offsets that the target knows.
    async fn compare(&self, checkpoint: &Checkpoint) -> Result<(), Trouble> {
        let (Some(position), Some(last)) = (checkpoint.position, checkpoint.next.0.checked_sub(1))
        else {
            return Ok(());
        };
        let tail = self.log.tail(&self.route.from).await?;
        if checkpoint.next <= tail.first {
            // Retention has removed what could be compared.
            return Ok(());
        }
        if checkpoint.next > tail.next {
            let (at, next) = (checkpoint.next, tail.next);
            return Err(LogError::Ahead { stream: self.route.from.clone(), at, next }.into());
        }
        let chunk = self.log.read(&self.route.from, Offset(last), ByteSize(1)).await?;
        let here = position_at(&chunk.batches, checkpoint.next);
        if here == position {
            return Ok(());
        }
        let what = format!(
            "it stands at offset {} and the source's position {position}, where this log has {here}",
            checkpoint.next
        );
        let help = "this data directory is an old copy, or two were used in turn: start `rowcast \
                    run` on the one that wrote the copy; or empty the copy's tables and delete \
                    its row in the checkpoint table, to build it anew from this log";
        let route = self.route.clone();
        Err(SinkError::Checkpoint { route, what, help: help.into() }.into())
    }
}

/// A route's place: what is read, what is stored at the target, and what lies between.
struct Lane<'a> {
    deliver: &'a Deliver,
    sink: &'a mut dyn Sink,
    projection: Projection,
    /// Where to read on.
    at: Offset,
    /// The checkpoint as the target has it.
    stored: Offset,
    /// Let changes gather until then.
    rest_until: Option<Instant>,
    /// The target holds an open transaction with rows of an unfinished one of the source.
    open: bool,
    /// The position that belongs to `at`, once something was read.
    position: Option<Position>,
    /// From which offset on an entity is complete; absent while its snapshot arrives.
    complete: HashMap<EntityName, Offset>,
    /// Schemas whose tables the sink has seen.
    prepared: HashSet<SchemaId>,
}

impl<'a> Lane<'a> {
    fn new(deliver: &'a Deliver, sink: &'a mut dyn Sink, next: Offset, tail: &Tail) -> Self {
        let complete = tail.snapshots.iter().filter(|(s, _)| s.done);
        Self {
            projection: Projection::new(
                deliver.route.from.clone(),
                deliver.route.to.clone(),
                deliver.spec.subscriptions.clone(),
            ),
            deliver,
            sink,
            at: next,
            stored: next,
            rest_until: None,
            open: false,
            position: None,
            complete: complete.map(|(s, at)| (s.entity.clone(), *at)).collect(),
            prepared: HashSet::new(),
        }
    }

    /// Applies a chunk. A target that is busy more than half of its time is then left alone for as
    /// long as the apply took: what gathers meanwhile merges, and costs it less than it would have
    /// one by one. When as much again waits already, nothing more has to gather.
    async fn deliver(&mut self, chunk: &Chunk) -> Result<(), Trouble> {
        let began = Instant::now();
        self.pieces(chunk).await?;
        let events: u64 = chunk.batches.iter().map(|b| b.batch.events.len() as u64).sum();
        if events < GATHER_EVENTS_MIN || self.open {
            return Ok(());
        }
        let (end, _) = self.deliver.log.moved(&self.deliver.route.from, None).await?;
        if end.0.saturating_sub(chunk.next.0) < events {
            let now = Instant::now();
            self.rest_until = Some(now + (now - began).min(GATHER_MAX));
        }
        Ok(())
    }

    async fn pieces(&mut self, chunk: &Chunk) -> Result<(), Trouble> {
        for stored in &chunk.batches {
            self.notice_snapshots(stored);
        }
        let cut = whole_until(&chunk.batches);
        if cut > self.at {
            self.piece(&chunk.batches, cut, true).await?;
        }
        if chunk.next > self.at {
            self.piece(&chunk.batches, chunk.next, false).await?;
        }
        Ok(())
    }

    fn notice_snapshots(&mut self, stored: &Stored) {
        for snapshot in &stored.batch.snapshots {
            if snapshot.done {
                self.complete.insert(snapshot.entity.clone(), stored.end());
            } else {
                self.complete.remove(&snapshot.entity);
            }
        }
    }

    /// Applies the events from `at` to `end`. Without `commit` they stay invisible at the target
    /// until a later piece commits.
    async fn piece(
        &mut self,
        batches: &[Stored],
        end: Offset,
        commit: bool,
    ) -> Result<(), Trouble> {
        let complete = &self.complete;
        let settling = |entity: &EntityName, offset: Offset| {
            complete.get(entity).is_none_or(|complete_from| offset < *complete_from)
        };
        let rows = self.projection.rows(batches, self.at, end, settling)?;
        let news = rows.shapes.iter().any(|s| !self.prepared.contains(&s.shape.schema));
        let position = position_at(batches, end);
        let quiet = rows.changes.is_empty() && !news && !(commit && self.open);
        self.position = Some(position);
        if quiet && (!commit || end.0 - self.stored.0 < UNSTORED_MAX) {
            self.at = end;
        } else {
            self.apply(&rows, end, position, commit).await?;
        }
        if commit {
            self.publish();
        }
        Ok(())
    }

    async fn apply(
        &mut self,
        rows: &Rows,
        end: Offset,
        position: Position,
        commit: bool,
    ) -> Result<(), Trouble> {
        let progress = Progress { from: self.stored, next: end, position, commit };
        self.sink.apply(rows, progress).await?;
        self.prepared.extend(rows.shapes.iter().map(|s| s.shape.schema));
        self.at = end;
        self.open = !commit;
        if commit {
            self.stored = end;
        }
        Ok(())
    }

    /// Writes a checkpoint that so far only we know.
    async fn store(&mut self) -> Result<(), Trouble> {
        let applied = self.deliver.state.borrow().applied;
        match (self.position, applied) {
            (Some(position), Some(end)) if end > self.stored && end == self.at => {
                self.apply(&Rows::default(), end, position, true).await
            }
            _ => Ok(()),
        }
    }

    fn publish(&self) {
        let at = self.at;
        self.deliver.state.send_if_modified(|s| s.applied.replace(at) != Some(at));
    }
}

/// The offset after the last event whose transaction ends in `batches`. An unfinished transaction
/// may reach back over several batches.
fn whole_until(batches: &[Stored]) -> Offset {
    let mut end = batches.last().map_or(Offset(0), Stored::end);
    for stored in batches.iter().rev() {
        if stored.batch.whole {
            return end;
        }
        let open = stored.batch.transactions.last().map_or(0, |t| u64::from(t.events));
        end = Offset(stored.end().0 - open);
        if stored.batch.transactions.len() > 1 {
            return end;
        }
    }
    end
}

/// The source's position at `end`, as exact as a batch says.
fn position_at(batches: &[Stored], end: Offset) -> Position {
    let stored = batches.iter().find(|s| s.end() >= end).or(batches.last());
    let stored = stored.expect("a chunk holds at least one batch");
    if stored.end() == end {
        return stored.batch.until;
    }
    // Inside a batch: the transaction that begins at `end` is not applied yet.
    let mut at = stored.base.0;
    let begins = stored.batch.transactions.iter().find(|t| {
        let here = at >= end.0;
        at += u64::from(t.events);
        here
    });
    begins.map_or(stored.batch.until, |t| Position::new(stored.batch.epoch(), t.at))
}

#[cfg(test)]
mod tests;
