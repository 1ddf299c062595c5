//! What waits for a stream's writer, and who may add to it.
//!
//! One law makes capture safe to run ahead of the disk: once a batch was refused, so is every later
//! one, until nobody holds an unread refusal and somebody has asked for the tail. So a batch that
//! was under way when the one before it failed can never take its place.

use crate::files::segment::Segment;
use crate::track::follows;
use rowcast_core::{Batch, LogError, Offset, Position, ServiceName};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// A refusal on its way to whoever appended; it counts as unread until it is dropped.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: LogError,
    _unread: Option<Arc<()>>,
}

pub(crate) type Outcome = Result<Offset, Refusal>;

/// A batch on its way to the disk. Its room in the queue is free again once it is settled.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) batch: Batch,
    pub(crate) done: oneshot::Sender<Outcome>,
    pub(crate) room: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(crate) enum Work {
    Append(Append),
    /// Answers once everything before it is settled.
    Settle(oneshot::Sender<()>),
    Trim(Offset, oneshot::Sender<Result<(), LogError>>),
    Switch(Switch),
    /// Begins a new segment, unless the last one has no events.
    Roll(oneshot::Sender<Result<(), LogError>>),
}

/// A compacted segment that takes the place of those it was made of.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) inputs: Vec<Arc<Segment>>,
    /// The file as it was written, under the name of one that is not there yet.
    pub(crate) unborn: PathBuf,
    pub(crate) segment: Arc<Segment>,
    /// Says whether it took their place; `false` when they are not there any more.
    pub(crate) done: oneshot::Sender<io::Result<bool>>,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum Next {
    Group(Vec<Append>),
    Settle(oneshot::Sender<()>),
    Trim(Offset, oneshot::Sender<Result<(), LogError>>),
    Switch(Switch),
    Roll(oneshot::Sender<Result<(), LogError>>),
    /// Nothing came in time.
    Idle,
    /// The queue is closed, and empty.
    End,
}

#[derive(Debug)]
pub(crate) struct Queue {
    stream: ServiceName,
    room: Arc<Semaphore>,
    room_kib: u32,
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Debug)]
struct State {
    work: VecDeque<Work>,
    /// Where the last batch that was taken ends.
    last: Option<Position>,
    refused: Option<(LogError, Arc<()>)>,
    failed: Option<LogError>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(stream: ServiceName, room_bytes: u64, last: Option<Position>) -> Self {
        let room_kib = u32::try_from(room_bytes >> 10).unwrap_or(u32::MAX).clamp(1, 1 << 22);
        let state =
            State { work: VecDeque::new(), last, refused: None, failed: None, closed: false };
        let room = Arc::new(Semaphore::new(room_kib as usize));
        Self { stream, room, room_kib, state: Mutex::new(state), came: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> LogError {
        LogError::Closed { stream: self.stream.clone() }
    }

    /// Waits for room, then takes the batch.
    pub(crate) async fn append(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Outcome>, LogError> {
        // A batch larger than the whole queue waits for all of it.
        let kib = u32::try_from(batch.size() >> 10).unwrap_or(u32::MAX).saturating_add(1);
        let room = self.room.clone().acquire_many_owned(kib.min(self.room_kib)).await;
        let room = room.map_err(|_| self.closed())?;
        let mut state = self.state();
        state.admit().ok_or_else(|| self.closed())??;
        follows(state.last, &batch)
            .map_err(|what| LogError::Misplaced { stream: self.stream.clone(), what })?;
        state.last = Some(batch.until);
        let (done, outcome) = oneshot::channel();
        state.work.push_back(Work::Append(Append { batch, done, room }));
        drop(state);
        self.came.notify_one();
        Ok(outcome)
    }

    /// Adds something other than a batch.
    pub(crate) fn push(&self, work: Work) -> Result<(), LogError> {
        let mut state = self.state();
        if state.closed {
            return Err(self.closed());
        }
        state.work.push_back(work);
        drop(state);
        self.came.notify_one();
        Ok(())
    }

    /// Lets appends begin again after a refusal, unless one of its errors is still unread.
    pub(crate) fn forgive(&self) {
        let mut state = self.state();
        if state.refused.as_ref().is_some_and(|(_, unread)| Arc::strong_count(unread) == 1) {
            state.refused = None;
        }
    }

    /// What is next: everything that waits, up to about `bytes_max`, or the one thing that is no
    /// batch.
    pub(crate) fn next(&self, bytes_max: usize, patience: Duration) -> Next {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            match state.work.pop_front() {
                Some(Work::Settle(done)) => return Next::Settle(done),
                Some(Work::Trim(keep, done)) => return Next::Trim(keep, done),
                Some(Work::Switch(switch)) => return Next::Switch(switch),
                Some(Work::Roll(done)) => return Next::Roll(done),
                Some(Work::Append(first)) => return Next::Group(state.group(first, bytes_max)),
                None if state.closed => return Next::End,
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Idle;
            }
            let woken = self.came.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The disk refused `group`: everything queued behind it is refused with it. `last` is where
    /// the durable part of the stream ends.
    pub(crate) fn refuse(&self, group: Vec<Append>, error: LogError, last: Option<Position>) {
        let unread = Arc::new(());
        let mut state = self.state();
        state.last = last;
        state.refused = Some((error.clone(), unread.clone()));
        let behind = state.take_appends();
        drop(state);
        turn_away(group.into_iter().chain(behind), &error, Some(&unread));
    }

    /// A sync failed: nothing is taken any more.
    pub(crate) fn fail(&self, group: Vec<Append>, error: LogError) {
        let mut state = self.state();
        state.failed = Some(error.clone());
        let behind = state.take_appends();
        drop(state);
        turn_away(group.into_iter().chain(behind), &error, None);
    }

    /// Takes no more; what waits is still worked off.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.room.close();
        self.came.notify_all();
    }

    /// The writer is gone, and nobody answers what waits.
    pub(crate) fn abandon(&self) {
        self.close();
        self.state().work.clear();
    }
}

fn turn_away(group: impl Iterator<Item = Append>, error: &LogError, unread: Option<&Arc<()>>) {
    for Append { done, room, .. } in group {
        // Nobody listens any more: the refusal is dropped, and so counts as read.
        let _ = done.send(Err(Refusal { error: error.clone(), _unread: unread.cloned() }));
        drop(room);
    }
}

impl State {
    /// `None` when closed.
    fn admit(&self) -> Option<Result<(), LogError>> {
        if self.closed {
            return None;
        }
        let refused = self.refused.as_ref().map(|(error, _)| error);
        Some(match self.failed.as_ref().or(refused) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        })
    }

    fn group(&mut self, first: Append, bytes_max: usize) -> Vec<Append> {
        let mut bytes = first.batch.size();
        let mut group = vec![first];
        while let Some(Work::Append(next)) = self.work.front() {
            bytes += next.batch.size();
            if bytes > bytes_max {
                break;
            }
            if let Some(Work::Append(next)) = self.work.pop_front() {
                group.push(next);
            }
        }
        group
    }

    fn take_appends(&mut self) -> Vec<Append> {
        let mut appends = Vec::new();
        for work in std::mem::take(&mut self.work) {
            match work {
                Work::Append(append) => appends.push(append),
                other => self.work.push_back(other),
            }
        }
        appends
    }
}
