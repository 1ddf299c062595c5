//! Deliver: one route, from the log into a sink, whole transactions at a time. It takes whatever is
//! waiting, so batches are one transaction when idle and thousands under load.
//!
//! A route's live subscriptions move in its main track, in several lanes when that is asked for. One that is new, or has to be built anew,
//! moves in a side track until it has come as far, and then joins the others.

mod anew;
mod aside;
mod compare;
mod desk;
mod ends;
mod enroll;
mod heal;
mod junction;
mod lanes;
mod look;
mod narrow;
mod park;
mod piece;
mod shelf;
mod side;
mod state;
mod whole_row;

pub(crate) use desk::{Desk, Job};
pub use desk::{ParkError, ParkOutcome, ParkWhich, ParkedEntry};

use crate::backoff::Backoff;
use crate::capture::CaptureState;
use crate::pace::{Next, after_error, at_work, in_trouble};
use crate::share::Share;
use crate::trouble::Trouble;
pub(crate) use aside::SideState;
pub(crate) use ends::position_at;
use ends::whole_until;
pub(crate) use enroll::{Rebuild, Rebuilding, ends_at};
use junction::Junction;
use lanes::Split;
use narrow::Window;
use park::Parking;
use rowcast_core::{
    Chunk, Database, EntityName, EventLog, LogError, LogId, Offset, Position, Progress, Projection,
    RouteId, Rows, SchemaId, Sink, SinkSpec, Stored, Subscription, Tail,
};
pub(crate) use state::RouteState;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whole_row::History;

/// Offsets the stored checkpoint may stay behind while nothing concerns this route.
const UNSTORED_MAX: u64 = 100_000;

/// Events of a chunk from which on it pays to let more gather before the next.
const GATHER_EVENTS_MIN: u64 = 500;
/// Longest to let changes gather.
const GATHER_MAX: Duration = Duration::from_millis(250);

/// The delivery of one route.
pub(crate) struct Deliver {
    pub(crate) route: RouteId,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) spec: SinkSpec,
    /// How many transactions of the target may share a piece of the log.
    pub(crate) lanes: u16,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) state: Arc<watch::Sender<RouteState>>,
    /// How the publisher's capture is; `None` when nobody captures it here.
    pub(crate) capture: Option<Arc<watch::Sender<CaptureState>>>,
    /// What is being built beside the live subscriptions.
    pub(crate) side: Arc<watch::Sender<SideState>>,
    /// Copies that somebody wants built anew.
    pub(crate) rebuilds: Arc<Mutex<mpsc::Receiver<Rebuild>>>,
    /// Row bytes taken from the log at once.
    pub(crate) share: Arc<Share>,
    /// What is parked, and what people ask to be done about it.
    pub(crate) desk: Arc<Desk>,
    /// The same of what is being built.
    pub(crate) side_desk: Arc<Desk>,
}

impl Deliver {
    /// Delivers until told to stop. Returns an error only for a defect of ours.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Trouble> {
        let name = format!("route {}", self.route);
        if self.lanes > 1 {
            let (from, lanes) = (&self.route.from, self.lanes);
            tracing::info!("{name}: {lanes} lanes: a transaction of {from} may be seen in parts");
        }
        let mut sink = self.database.sink(self.spec.clone());
        self.state.send_modify(|s| s.waiting = sink.waiting());
        let mut backoff = Backoff::default();
        let (mut asked, mut patience) = (Vec::new(), Backoff::default());
        loop {
            while let Ok(rebuild) = self.rebuilds.lock().await.try_recv() {
                asked.push(rebuild);
            }
            let waits = (&mut backoff, &mut patience);
            let ended = self.once(&name, sink.as_mut(), waits, &mut asked, &stop).await;
            let trouble = match ended {
                Ok(()) if stop.is_cancelled() => return Ok(()),
                Ok(()) => continue,
                Err(trouble) => trouble,
            };
            match after_error(&name, trouble, &self.state, &mut backoff, &stop).await {
                Next::Again => {}
                Next::Stop => return Ok(()),
                Next::Bug(trouble) => return Err(trouble),
            }
        }
    }

    /// Both tracks, from what the target says of them until one of them ends: then everything is
    /// looked at anew.
    async fn once(
        &self,
        name: &str,
        sink: &mut dyn Sink,
        (backoff, patience): (&mut Backoff, &mut Backoff),
        asked: &mut Vec<Rebuild>,
        stop: &CancellationToken,
    ) -> Result<(), Trouble> {
        let tail = self.log.tail(&self.route.from).await?;
        let Some(checkpoint) = stop.run_until_cancelled(sink.wants(tail.log)).await else {
            return Ok(());
        };
        let checkpoint = checkpoint?;
        self.compare(&checkpoint).await?;
        // What this log has not filled yet may be another environment's copy.
        if checkpoint.position.is_none() && !self.source_is_compared(stop).await {
            return Ok(());
        }
        let mut enrolled = self.enroll(sink, &checkpoint, &tail, asked).await?;
        self.side_desk.load(Vec::new());
        self.desk.load(sink.parked().await?);
        self.side.send_modify(|s| s.begin(&enrolled));
        for (done, answer) in enrolled.answers.drain(..) {
            // Whoever asked may have gone.
            let _ = done.send(answer);
        }
        let here = stop.child_token();
        let junction = Junction::new(checkpoint.next, enrolled.live.is_empty());
        let live = std::mem::take(&mut enrolled.live);
        let ended = {
            let main = async {
                let (log, at) = (tail.log, checkpoint.next);
                let position = checkpoint.position;
                let start = Start { log, at, position, tail: &tail, has_rows: true };
                let ended = self.main(name, sink, backoff, (start, &live), &junction, &here).await;
                here.cancel();
                ended
            };
            let side = async {
                let ended = self.side_track(&mut enrolled, patience, &junction, &here).await;
                here.cancel();
                ended
            };
            let wish = async {
                let wish = async { self.rebuilds.lock().await.recv().await };
                if let Some(Some(rebuild)) = here.run_until_cancelled(wish).await {
                    asked.push(rebuild);
                    here.cancel();
                }
            };
            let (main, side, ()) = tokio::join!(main, side, wish);
            main.and(side)
        };
        match ended {
            // The log went past this target: the enrolling builds its copies anew.
            Err(Trouble::Log(LogError::Trimmed { .. } | LogError::Forgotten { .. })) => Ok(()),
            ended => ended,
        }
    }

    /// The track of the live subscriptions. Without any, the side track has the route for itself.
    async fn main(
        &self,
        name: &str,
        sink: &mut dyn Sink,
        backoff: &mut Backoff,
        (start, live): (Start<'_>, &[Subscription]),
        junction: &Junction,
        here: &CancellationToken,
    ) -> Result<(), Trouble> {
        let log = start.log;
        // To reach the target does not end the trouble with what waits there to be applied.
        let mut untold = start.at < start.tail.next && in_trouble(&self.state);
        let mut asks = self.desk.open().await;
        let mut track = Track::new((self, &self.desk), sink, start, live.to_vec());
        track.split = Split::new(self.lanes);
        track.publish();
        if !untold || live.is_empty() {
            at_work(name, &self.state, backoff);
        }
        if live.is_empty() {
            here.cancelled().await;
            return Ok(());
        }
        let _live = self.share.throttle.live();
        let mut look_at = look::next();
        loop {
            track.claim_lanes().await?;
            if let Some(rest) = track.rest_until.take() {
                here.run_until_cancelled(tokio::time::sleep_until(rest)).await;
            }
            if junction.is_asked() && track.is_whole() {
                track.store().await?;
                if !junction.hold(track.at, here).await {
                    return Ok(());
                }
            }
            track.heal_due().await?;
            let due = track.next_due();
            let idle = track.is_between();
            let read = self.log.read(&self.route.from, track.at, self.share.get());
            let chunk = tokio::select! {
                () = here.cancelled() => return track.store().await,
                () = junction.asked(), if track.is_whole() => continue,
                () = due => continue,
                Some(ask) = asks.recv(), if idle => {
                    track.answer(ask).await?;
                    continue;
                }
                () = tokio::time::sleep_until(look_at) => {
                    look_at = track.look().await?;
                    continue;
                }
                chunk = read => chunk?,
            };
            match anew::first(&chunk, track.at, live) {
                None => {
                    let delivery = self.share.throttle.deliver();
                    let before = track.at;
                    track.deliver(&chunk).await?;
                    self.share.throttle.delivered(delivery, track.at.0.saturating_sub(before.0));
                }
                Some(anew) => return track.give_way(&chunk, anew, live, log).await,
            }
            if std::mem::take(&mut untold) {
                at_work(name, &self.state, backoff);
            }
            junction.moved(track.whole());
        }
    }
}

/// Where a track begins.
struct Start<'a> {
    log: LogId,
    at: Offset,
    /// The source's position there, as the target has it.
    position: Option<Position>,
    tail: &'a Tail,
    /// Something of what the track moves is at the target, so that it needs every delete.
    has_rows: bool,
}

/// A route's place: what is read, what is stored at the target, and what lies between.
struct Track<'a> {
    deliver: &'a Deliver,
    sink: &'a mut dyn Sink,
    projection: Projection,
    /// Where to read on.
    at: Offset,
    /// The checkpoint as the target has it, and since when.
    stored: Offset,
    stored_at: Instant,
    /// From which offset on the log had every delete when this track last read; `None` before a new
    /// copy has read anything.
    history: Option<Offset>,
    /// Let changes gather until then.
    rest_until: Option<Instant>,
    /// The target holds an open transaction with rows of an unfinished one of the source.
    open: bool,
    /// The position that belongs to `at`, once something was read.
    position: Option<Position>,
    /// Changes applied since the last [`publish`](Self::publish).
    changes: u64,
    /// From which offset on an entity is complete; absent while its snapshot arrives.
    complete: HashMap<EntityName, Offset>,
    /// Schemas whose tables the sink has seen.
    prepared: HashSet<SchemaId>,
    /// Some subscription takes only some rows.
    filters: bool,
    /// Which subscriptions begin at some moment: rows that were there before are none of theirs.
    now: Vec<bool>,
    /// Which subscriptions may lack a row that a change leaves values out of.
    completes: Vec<bool>,
    /// In a side track, from which offset on each subscription takes events.
    starts: Option<Vec<Offset>>,
    /// The position that belongs to `stored`.
    stored_position: Option<Position>,
    log: LogId,
    parking: Parking<'a>,
    window: Window,
    split: Split,
}

impl<'a> Track<'a> {
    fn new(
        (deliver, desk): (&'a Deliver, &'a Desk),
        sink: &'a mut dyn Sink,
        start: Start<'_>,
        subscriptions: Vec<Subscription>,
    ) -> Self {
        let complete = start.tail.snapshots.iter().filter(|(s, _)| s.done);
        let RouteId { from, to } = deliver.route.clone();
        let filters = subscriptions.iter().any(|s| s.filter.is_some());
        let now: Vec<_> = subscriptions.iter().map(|s| s.from.is_now()).collect();
        Self {
            projection: Projection::new(from, to, subscriptions),
            deliver,
            sink,
            at: start.at,
            stored: start.at,
            stored_at: Instant::now(),
            history: start.has_rows.then_some(start.tail.complete_history),
            rest_until: None,
            open: false,
            position: None,
            changes: 0,
            complete: complete.map(|(s, at)| (s.entity.clone(), *at)).collect(),
            prepared: HashSet::new(),
            filters,
            starts: None,
            completes: now.clone(),
            now,
            stored_position: start.position,
            log: start.log,
            parking: Parking::new(desk.shelf(), deliver.route.clone()),
            window: Window::default(),
            split: Split::default(),
        }
    }

    /// Applies a chunk. A target that is busy more than half of its time is then left alone for as
    /// long as the apply took: what gathers meanwhile merges, and costs it less than it would have
    /// one by one. When as much again waits already, nothing more has to gather.
    async fn deliver(&mut self, chunk: &Chunk) -> Result<(), Trouble> {
        let began = Instant::now();
        self.follow_history(chunk)?;
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

    /// Compaction went on meanwhile: deletes of rows that we have may be gone from what lies ahead.
    fn follow_history(&mut self, chunk: &Chunk) -> Result<(), LogError> {
        let (at, complete) = (self.at, chunk.complete_history);
        if self.history.is_some_and(|known| known != complete) && at < complete {
            let stream = self.deliver.route.from.clone();
            return Err(LogError::Forgotten { stream, at, complete });
        }
        self.history = Some(complete);
        Ok(())
    }

    async fn pieces(&mut self, chunk: &Chunk) -> Result<(), Trouble> {
        for stored in &chunk.batches {
            self.notice_snapshots(stored);
        }
        let cut = whole_until(&chunk.batches);
        if cut > self.at {
            self.whole_rows(&chunk.batches, cut, true).await?;
        }
        if chunk.next > self.at && self.at >= cut {
            self.whole_rows(&chunk.batches, chunk.next, false).await?;
        }
        Ok(())
    }

    /// As [`piece`](Self::piece), after completing the rows that filters have to see whole; in
    /// several pieces where those rows are too many to hold at once.
    async fn whole_rows(
        &mut self,
        batches: &[Stored],
        end: Offset,
        commit: bool,
    ) -> Result<(), Trouble> {
        if !self.filters && !self.completes.contains(&true) {
            return self.piece(batches, end, commit).await;
        }
        let deliver = self.deliver;
        let history = History {
            log: &*deliver.log,
            stream: &deliver.route.from,
            bytes_max: deliver.share.get(),
            completes: self.completes.clone(),
        };
        loop {
            let whole = history.whole(&mut self.projection, batches, self.at, end).await?;
            let last = whole.end == end;
            self.piece(&whole.batches, whole.end, commit && last).await?;
            // What a bad row took back is read again.
            if last || self.at < whole.end {
                return Ok(());
            }
        }
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

    async fn apply(
        &mut self,
        rows: &Rows,
        end: Offset,
        position: Position,
        commit: bool,
    ) -> Result<(), Trouble> {
        let progress = Progress { from: self.stored, next: end, position, commit };
        self.sink.apply(rows, progress).await?;
        self.changes += rows.changes.len() as u64;
        self.prepared.extend(rows.shapes.iter().map(|s| s.shape.schema));
        self.at = end;
        self.open = !commit;
        self.parking.applied(end, commit);
        if commit {
            (self.stored, self.stored_at) = (end, Instant::now());
            self.stored_position = Some(position);
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
}

#[cfg(test)]
mod tests;
