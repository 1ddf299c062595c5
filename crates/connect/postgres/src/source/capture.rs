//! The loop between the server and whoever takes the batches. One thread of its own runs it: it may
//! pause for a fraction of a millisecond, which no timer of a shared runtime can do, and nobody
//! else's work delays what keeps the connection alive.

pub(crate) mod backlog;
mod outlet;
mod partitions;
mod pulse;
mod starts;
mod tables;

use super::assemble::{Assembler, Filled};
use super::flow::{Flow, LookUp, PREFIX, Step, Stop};
use super::prepare::Prepared;
use super::snapshot::{Chunk, Failure};
use super::trouble::Trouble;
use super::wire::{Wire, frame};
use crate::connect::Address;
pub(crate) use outlet::{Confirmed, Outlet, Package};
pub(crate) use pulse::emit;
use rowcast_core::{Batch, Epoch, Resume, Snapshot, SourceError, SourceSpec, Start};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A server that sends this far behind its commits has a backlog; microseconds.
const BACKLOG_BEHIND: i64 = 50_000;
/// While there is a backlog, let the kernel gather this long before reading on. The server sends
/// every message by itself, and waking a reader for each costs it half its speed.
const GATHER: Duration = Duration::from_micros(600);
/// A read of less than this found the socket nearly empty.
const SHORT_READ: usize = 64 << 10;
/// Longest a finished transaction waits for company while there is a backlog.
const COMPANY: Duration = Duration::from_millis(20);
/// Least time between two chunks of a snapshot while the stream is busy.
const CHUNK_EVERY: Duration = Duration::from_millis(10);
/// Longest for which a confirmation waits to be sent, so that one answers for many.
const CONFIRM_WITHIN: Duration = Duration::from_millis(100);
/// How often the server hears from us at least.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// A server that is silent for so long, though asked, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a position without events is handed out at most.
const POSITION_EVERY: Duration = Duration::from_millis(300);
/// A stream that the server refuses again so soon, although it began anew, is refused for another reason.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);
/// How often an idle database is looked at.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked at whether the publication is in the way of its owner's own writes.
const GUARD_EVERY: Duration = Duration::from_secs(1);
/// A heartbeat follows when the server wrote this much: more than what our last one caused.
const HEARTBEAT_BYTES: u64 = 8 << 10;
/// Longest for a heartbeat's statement.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(5);
/// Longest that the last word to the server may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// Longest for the server to notice that our own last connection is gone.
const OWN_GHOST_MAX: Duration = Duration::from_secs(30);

/// What a thread is to capture.
pub(crate) struct Task {
    pub(crate) address: Address,
    pub(crate) spec: SourceSpec,
    pub(crate) outlet: Outlet,
    pub(crate) confirmed: Arc<Confirmed>,
    /// Ends it all.
    pub(crate) stop: CancellationToken,
    /// A deep backlog may be asked for instead of being streamed; no longer once that failed.
    pub(crate) peeks: bool,
    /// Something was handed out.
    pub(crate) handed: bool,
}

impl Task {
    /// Captures until it fails, nobody listens, or it is told to stop.
    pub(crate) async fn run(self, start: Start, started: oneshot::Sender<Result<(), SourceError>>) {
        let stop = self.stop.clone();
        let farewell = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL_MAX).await;
        };
        tokio::select! {
            () = self.stream(start, started) => {}
            () = farewell => {}
        }
    }

    /// Starts, says how that went, and streams.
    async fn stream(mut self, start: Start, started: oneshot::Sender<Result<(), SourceError>>) {
        let told = self.stop.clone();
        let mut progress = match &start {
            Start::After(resume) => resume.snapshots.clone(),
            Start::Beginning | Start::Afresh => vec![],
        };
        let mut prepared = match told.run_until_cancelled(self.prepare(&start, false)).await {
            Some(Ok(prepared)) => prepared,
            // Nobody waits for it when the start was given up.
            Some(Err(error)) => return drop(started.send(Err(error))),
            None => return,
        };
        if started.send(Ok(())).is_err() {
            return;
        }
        let mut refused: Option<Instant> = None;
        let begun = prepared.begun;
        loop {
            let mut capture = Capture::new(&mut self, prepared, std::mem::take(&mut progress));
            let Some(stop) = told.run_until_cancelled(capture.run()).await else {
                return capture.farewell().await;
            };
            let resume = Resume {
                position: capture.flow.assembler.handed(),
                snapshots: std::mem::take(&mut capture.progress),
            };
            drop(capture);
            let unpublished = matches!(stop, Stop::Unpublished(_));
            match stop {
                Stop::Gone => return,
                Stop::Failed(error) => {
                    if begun && !self.handed {
                        self.give_back().await;
                    }
                    return self.fail(error).await;
                }
                // It was read again for that very reason: something else is wrong.
                Stop::Unpublished(why)
                    if refused.is_some_and(|at| at.elapsed() < REFUSED_AGAIN) =>
                {
                    return self.fail(Trouble(self.spec.service.clone()).epoch(why)).await;
                }
                Stop::Again => {}
                Stop::Unpublished(_) => refused = Some(Instant::now()),
            }
            progress.clone_from(&resume.snapshots);
            let again = Start::After(resume);
            prepared = match told.run_until_cancelled(self.again(&again, unpublished)).await {
                Some(Ok(prepared)) => prepared,
                Some(Err(error)) => return self.fail(error).await,
                None => return,
            };
        }
    }

    async fn fail(&mut self, error: SourceError) {
        let told = self.stop.clone();
        let _ = told.run_until_cancelled(self.outlet.fail(error)).await;
    }
}

/// A stream that runs.
struct Capture<'a> {
    task: &'a mut Task,
    wire: Wire,
    /// The server streams; before, it answers.
    streams: bool,
    sql: Option<Wire>,
    tables: Vec<super::catalog::Table>,
    flow: Flow,
    fresh: bool,
    /// The epoch under which the history goes on, until it is said.
    onto: Option<Epoch>,
    words: Vec<Snapshot>,
    progress: Vec<Snapshot>,
    /// What the catalog said of all tables when they were looked at last.
    looked: Option<String>,
    /// Every transaction with a lower number had ended when the catalog last said the same.
    horizon: u64,
    /// Where the stream began.
    since: u64,
    /// Partitions of which the stream may not tell: look again.
    waits: bool,
    /// The partitioned table that the stream spoke of just now: a partition of it comes next.
    spoken: Option<usize>,
    last_read: usize,
    gathering: Option<Instant>,
    moved: Option<Instant>,
    chunk_at: Instant,
    confirmed_sent: u64,
    status_at: Instant,
    heard: Instant,
    heartbeat_at: Instant,
    guard_at: Instant,
    wal: u64,
}

impl<'a> Capture<'a> {
    fn new(task: &'a mut Task, prepared: Prepared, progress: Vec<Snapshot>) -> Self {
        let bytes_max = task.spec.batch_bytes_max.as_usize();
        let assembler = Assembler::new(prepared.read.shapes, prepared.position, bytes_max);
        let trouble = Trouble(task.spec.service.clone());
        let now = Instant::now();
        Self {
            task,
            wire: prepared.stream,
            streams: !prepared.backlog,
            sql: Some(prepared.sql),
            tables: prepared.read.tables,
            flow: Flow::new(trouble, assembler, prepared.read.snapshot),
            fresh: prepared.fresh,
            onto: prepared.onto,
            words: prepared.read.words,
            progress,
            looked: None,
            horizon: 0,
            since: prepared.position.point.value(),
            waits: false,
            spoken: None,
            last_read: 0,
            gathering: None,
            moved: None,
            chunk_at: now,
            confirmed_sent: 0,
            status_at: now,
            heard: now,
            heartbeat_at: now,
            guard_at: now,
            wal: 0,
        }
    }

    async fn run(&mut self) -> Stop {
        if !self.streams
            && let Err(stop) = self.work_off().await
        {
            return stop;
        }
        loop {
            if let Err(stop) = self.turn().await {
                return stop;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Stop> {
        self.open_history().await?;
        self.drain().await?;
        self.timers().await?;
        let backlog = self.flow.behind > BACKLOG_BEHIND;
        if backlog && self.last_read < SHORT_READ {
            std::thread::sleep(GATHER);
        }
        let read = self.wire.fill_now().await.map_err(|e| self.lost(e))?;
        self.last_read = read;
        if read > 0 {
            self.heard = Instant::now();
            self.gathering.get_or_insert(self.heard);
        }
        let alone = self.gathering.is_some_and(|since| since.elapsed() < COMPANY);
        if backlog && alone {
            // Nothing came for a moment, but more will: larger batches cost everybody less.
            return Ok(());
        }
        let whole = self.flow.assembler.at_boundary() && !self.flow.assembler.is_empty();
        if whole && (read == 0 || backlog) {
            self.hand_out().await?;
        }
        if read > 0 { Ok(()) } else { self.wait().await }
    }

    /// The first batch of a history that replaces another, or of a table that replaces one.
    async fn open_history(&mut self) -> Result<(), Stop> {
        // Nothing stands between the halves of a half-logged transaction.
        if self.flow.assembler.reached().index > 0 {
            return Ok(());
        }
        if let Some(epoch) = self.onto.take() {
            self.flow.assembler.go_on_in(epoch);
            self.flow.assembler.say(self.progress.clone());
            self.hand_out().await?;
        }
        if !self.words.is_empty() {
            let words = std::mem::take(&mut self.words);
            self.progress.retain(|s| words.iter().all(|new| new.entity != s.entity));
            self.progress.extend(words.iter().cloned());
            self.flow.assembler.say(words);
            self.hand_out().await?;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let Some(snapshot) = &mut self.flow.snapshot else {
            if fresh {
                self.flow.assembler.fresh();
                self.hand_out().await?;
            }
            return Ok(());
        };
        let (mut replaced, words): (Vec<_>, Vec<_>) =
            std::mem::take(&mut snapshot.replaced).into_iter().unzip();
        let (at, taken) = (snapshot.at, snapshot.taken);
        if fresh {
            self.flow.assembler.fresh();
            replaced = (0..self.tables.len()).collect();
        }
        if fresh || !replaced.is_empty() {
            let reached = self.flow.assembler.reached().point.value();
            self.flow.assembler.empty(at.min(reached), taken, replaced.into_iter());
            if !fresh {
                self.progress.retain(|s| words.iter().all(|new| new.entity != s.entity));
                self.progress.extend(words.iter().cloned());
                self.flow.assembler.say(words);
            }
            self.hand_out().await?;
        }
        Ok(())
    }

    /// Works off all whole messages that were received.
    async fn drain(&mut self) -> Result<(), Stop> {
        let mut filled: Vec<(usize, Filled)> = Vec::new();
        loop {
            let (used, step) = self.messages(&mut filled)?;
            self.wire.consume(used);
            match step {
                None => return Ok(()),
                Some(Step::Full) => self.hand_out().await?,
                Some(Step::Relation(relation)) => self.relation(relation).await?,
                Some(Step::LookUp(wanted)) => {
                    let entity = wanted.entity;
                    let values = self.look_up(wanted).await?;
                    filled.push((entity, values));
                }
                Some(Step::Committed) => {
                    if self.flow.assembler.is_full() || self.onto.is_some() {
                        self.hand_out().await?;
                    }
                    // What was half logged is whole now; the next one belongs to the new epoch.
                    if self.onto.is_some() {
                        self.open_history().await?;
                    }
                    if self.chunk_at.elapsed() > CHUNK_EVERY {
                        self.waiting_chunk().await?;
                    }
                }
                Some(Step::Next) => {}
            }
        }
    }

    /// Messages up to the first that asks for something; how many bytes they took.
    fn messages(
        &mut self,
        filled: &mut Vec<(usize, Filled)>,
    ) -> Result<(usize, Option<Step>), Stop> {
        let busy = self.flow.snapshot.is_some();
        let received = self.wire.received();
        let mut used = 0;
        loop {
            let next = frame(&received[used..]).map_err(|e| self.flow.trouble.wire("stream", e))?;
            let Some(next) = next else { return Ok((used, None)) };
            let step = self.flow.frame(next, filled)?;
            if matches!(step, Step::Full | Step::LookUp(_)) {
                return Ok((used, Some(step)));
            }
            used += next.size;
            filled.clear();
            match step {
                Step::Next => {}
                Step::Committed
                    if !busy && self.onto.is_none() && !self.flow.assembler.is_full() => {}
                other => return Ok((used, Some(other))),
            }
        }
    }

    async fn look_up(&mut self, wanted: LookUp) -> Result<Filled, Stop> {
        let names: Vec<String> = wanted.columns.iter().map(|(_, n)| n.clone()).collect();
        let shape = self.flow.assembler.shape(wanted.entity).clone();
        let Some(snapshot) = &mut self.flow.snapshot else { return Ok(Filled::default()) };
        let found = snapshot.look_up(wanted.entity, &shape, &wanted.key, &names).await;
        let found = found.map_err(|e| self.flow.trouble.wire("the snapshot cannot be read", e))?;
        let Some(values) = found else { return Ok(Filled::default()) };
        Ok(Filled(wanted.columns.into_iter().map(|(i, _)| i).zip(values).collect()))
    }

    fn lost(&self, error: super::wire::WireError) -> Stop {
        self.flow.trouble.wire("the stream broke off", error).into()
    }

    /// Waits for the server, for a chunk, or for the time to do something.
    async fn wait(&mut self) -> Result<(), Stop> {
        self.flow.behind = 0;
        if self.flow.assembler.at_boundary() && self.chunks_may_go() {
            self.waiting_chunk().await?;
        }
        let chunks = self.chunks_may_go();
        // Before a word is due because of it: what comes after this look wakes us.
        let told = self.task.confirmed.get() == self.confirmed_sent;
        let due = self.due();
        tokio::select! {
            read = self.wire.fill() => {
                self.last_read = read.map_err(|e| self.flow.trouble.wire("the stream broke off", e))?;
                self.heard = Instant::now();
                self.gathering = Some(self.heard);
            }
            chunk = next_chunk(&mut self.flow.snapshot), if chunks => self.chunk(chunk).await?,
            () = tokio::time::sleep_until(due.into()) => {}
            () = self.task.confirmed.reached(self.confirmed_sent + 1), if told => {}
        }
        Ok(())
    }

    /// Chunks wait until the stream was handed out up to L, and for the end of a transaction.
    fn chunks_may_go(&self) -> bool {
        let assembler = &self.flow.assembler;
        self.flow
            .snapshot
            .as_ref()
            .is_some_and(|s| assembler.at_boundary() && assembler.reached().point.value() >= s.at)
    }

    async fn waiting_chunk(&mut self) -> Result<(), Stop> {
        if !self.chunks_may_go() {
            return Ok(());
        }
        let waiting = self.flow.snapshot.as_mut().and_then(|s| s.chunks.try_recv().ok());
        match waiting {
            Some(chunk) => self.chunk(Some(chunk)).await,
            None => Ok(()),
        }
    }

    async fn chunk(&mut self, chunk: Option<Result<Chunk, Failure>>) -> Result<(), Stop> {
        let chunk = match chunk {
            Some(Ok(chunk)) => chunk,
            Some(Err(Failure::Changed)) => return Err(Stop::Again),
            Some(Err(Failure::Wire(e))) => {
                return Err(self.flow.trouble.wire("the snapshot broke off", e).into());
            }
            None => return Err(self.flow.trouble.bug("readers ended before their tables").into()),
        };
        if !self.flow.assembler.is_empty() {
            self.hand_out().await?;
        }
        let Some(snapshot) = &mut self.flow.snapshot else { return Ok(()) };
        if self.flow.assembler.has_outgrown(&chunk, snapshot) {
            return Err(Stop::Again);
        }
        let name = self.task.spec.entities[chunk.entity].entity.clone();
        let batch = self.flow.assembler.chunk(&chunk, name, snapshot);
        if chunk.done && snapshot.finish(chunk.entity) {
            self.flow.snapshot = None;
        }
        self.progress.retain(|s| batch.snapshots.iter().all(|new| new.entity != s.entity));
        self.progress.extend(batch.snapshots.iter().cloned());
        self.deliver(batch).await?;
        self.chunk_at = Instant::now();
        Ok(())
    }

    async fn hand_out(&mut self) -> Result<(), Stop> {
        let batch = self.flow.assembler.take();
        self.gathering = None;
        self.moved = None;
        self.deliver(batch).await
    }

    /// Waits for room, and keeps the server from giving us up meanwhile.
    async fn deliver(&mut self, batch: Batch) -> Result<(), Stop> {
        let room = loop {
            tokio::select! {
                biased;
                room = self.task.outlet.room(batch.size()) => break room.ok_or(Stop::Gone)?,
                () = tokio::time::sleep_until(self.status_due().into()) => {
                    self.status().await?;
                    // We do not listen while we wait, so silence means nothing.
                    self.heard = Instant::now();
                }
            }
        };
        self.task.handed = true;
        self.task.outlet.send(batch, room).await.ok_or(Stop::Gone)
    }
}

async fn next_chunk(
    snapshot: &mut Option<super::snapshot::Snapshotting>,
) -> Option<Result<Chunk, Failure>> {
    match snapshot {
        Some(snapshot) => snapshot.chunks.recv().await,
        None => None,
    }
}
