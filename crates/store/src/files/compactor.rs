//! The thread that compacts a stream, when it is due or when it is told to.

use crate::compact::Fault;
use crate::config::{Keep, LogConfig};
use crate::files::compact::{Job, ends_whole};
use crate::files::disk::Disk;
use crate::files::queue::{Queue, Switch, Work};
use crate::files::segment::Segment;
use crate::files::view::Shared;
use rowcast_core::{LogError, Offset};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Longest between two looks at what is due, and longest to wait after compactions that failed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

type Answer = oneshot::Sender<Result<Offset, LogError>>;

/// What a compactor is told.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    state: Mutex<Told>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    compact: VecDeque<(Offset, Answer)>,
    closed: bool,
}

enum Order {
    Compact(Offset, Answer),
    /// Nothing came in time.
    Look,
    End,
}

impl Orders {
    fn state(&self) -> MutexGuard<'_, Told> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders a compaction; `None` when nobody works on orders any more.
    pub(crate) fn give(&self, upto: Offset, answer: Answer) -> Option<()> {
        let mut told = self.state();
        if told.closed {
            return None;
        }
        told.compact.push_back((upto, answer));
        drop(told);
        self.came.notify_all();
        Some(())
    }

    /// Ends the compactor, also in the middle of its work.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.came.notify_all();
    }

    fn next(&self, patience: Duration) -> Order {
        let idle = |told: &mut Told| !told.closed && told.compact.is_empty();
        let woken = self.came.wait_timeout_while(self.state(), patience, idle);
        let mut told = woken.unwrap_or_else(PoisonError::into_inner).0;
        if told.closed {
            return Order::End;
        }
        told.compact.pop_front().map_or(Order::Look, |(upto, answer)| Order::Compact(upto, answer))
    }

    /// Waits; fails as soon as the compactor is to end.
    fn rest(&self, time: Duration) -> Result<(), Fault> {
        let woken = self.came.wait_timeout_while(self.state(), time, |told| !told.closed);
        let told = woken.unwrap_or_else(PoisonError::into_inner).0;
        if told.closed { Err(Fault::Stopped) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(crate) struct Compactor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: LogConfig,
}

impl Compactor {
    /// Works until told to end.
    pub(crate) fn run(self) {
        let look = LOOK_EVERY.min(self.config.compact_after);
        let mut wait = look;
        loop {
            match self.orders.next(wait) {
                Order::Compact(upto, answer) => {
                    // Nobody may be listening any more.
                    let _ = answer.send(self.obey(upto));
                }
                Order::Look if self.config.keep == Keep::Compact => {
                    wait = match self.look() {
                        Ok(()) => look,
                        Err(Fault::Stopped) => return,
                        Err(fault) => {
                            self.warn(&fault);
                            wait.saturating_mul(2).min(WAIT_MAX)
                        }
                    };
                }
                Order::Look => {}
                Order::End => return,
            }
        }
    }

    fn warn(&self, fault: &Fault) {
        let cause = std::error::Error::source(fault).map(ToString::to_string);
        let stream = &self.shared.name;
        tracing::warn!(%stream, cause, "compaction failed, and changed nothing: {fault}");
    }

    /// Compacts whatever whole segments allow before `upto`.
    fn obey(&self, upto: Offset) -> Result<Offset, LogError> {
        let segments = self.shared.segments();
        if segments.last().is_some_and(|last| upto.0 > last.base) {
            self.roll()?;
        }
        let segments = self.shared.segments();
        let inputs = segments.iter().zip(segments.iter().skip(1));
        let count = inputs.take_while(|(_, next)| next.base <= upto.0).count();
        self.compact(&segments, count, true).map_err(|fault| self.error(fault))?;
        Ok(self.shared.tail().compacted)
    }

    fn error(&self, fault: Fault) -> LogError {
        let stream = self.shared.name.clone();
        match fault {
            Fault::Io(e) => LogError::Refused { stream, source: Arc::new(e) },
            Fault::Stopped => LogError::Closed { stream },
            fault @ (Fault::Unreadable(_) | Fault::NoKey(_) | Fault::Defect(_)) => {
                LogError::Damaged { stream, what: fault.to_string() }
            }
        }
    }

    fn roll(&self) -> Result<(), LogError> {
        let (done, rolled) = oneshot::channel();
        self.queue.push(Work::Roll(done))?;
        let closed = || LogError::Closed { stream: self.shared.name.clone() };
        rolled.blocking_recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Compacts what is due.
    fn look(&self) -> Result<(), Fault> {
        let half = self.config.compact_within / 2;
        let segments = self.shared.segments();
        if let Some(last) = segments.last()
            && last.base < self.shared.tail().next.0
            && age(last, Stamp::Begun).is_some_and(|age| age > half)
        {
            self.roll().map_err(|e| Fault::Io(io::Error::other(e)))?;
        }
        let segments = self.shared.segments();
        let count = self.due(&segments);
        self.compact(&segments, count, false)
    }

    /// How many of the oldest segments are to be compacted now. Each compaction writes what is left
    /// anew, so it waits until as much has come again, or until the time for old values is up.
    fn due(&self, segments: &[Arc<Segment>]) -> usize {
        let closed = segments.len().saturating_sub(1);
        let done = segments.iter().take_while(|s| s.compacted.is_some()).count();
        let written = |segment: &Arc<Segment>| age(segment, Stamp::Written).unwrap_or_default();
        let fresh = segments[done.min(closed)..closed].iter();
        let fresh: Vec<_> = fresh.take_while(|s| written(s) >= self.config.compact_after).collect();
        let bytes: u64 = fresh.iter().map(|s| s.len()).sum();
        let left: u64 = segments[..done].iter().map(|s| s.len()).sum();
        let late = fresh.first().is_some_and(|s| written(s) >= self.config.compact_within / 2);
        if !fresh.is_empty() && (bytes >= left || late) { done + fresh.len() } else { 0 }
    }

    /// Makes one segment of the `count` oldest ones, or of fewer that end with a transaction. Without
    /// anything new among them there is nothing to do.
    fn compact(&self, segments: &[Arc<Segment>], count: usize, now: bool) -> Result<(), Fault> {
        let mut count = count;
        while count > 0 && !ends_whole(&segments[count - 1])? {
            count -= 1;
        }
        let inputs = &segments[..count];
        if inputs.iter().all(|s| s.compacted.is_some()) {
            return Ok(());
        }
        let pace =
            Pace { began: Instant::now(), spent: Mutex::new(0), rate: self.config.compact_rate.0 };
        let spend = |bytes| {
            let rest = if now { Duration::ZERO } else { pace.rest(bytes) };
            self.orders.rest(rest)
        };
        let job = Job {
            dir: &self.shared.dir,
            disk: &self.disk,
            inputs,
            next: &segments[count],
            horizon: horizon(self.config.tombstones),
            memory: self.config.compact_memory.as_usize(),
            compress: self.config.compress,
            spend: &spend,
        };
        let product = job.run()?;
        let (before, after) = (inputs.iter().map(|s| s.len()).sum::<u64>(), product.segment.len());
        let (done, switched) = oneshot::channel();
        let switch = Switch {
            inputs: inputs.to_vec(),
            unborn: product.unborn.clone(),
            segment: Arc::new(product.segment),
            done,
        };
        let sent = self.queue.push(Work::Switch(switch));
        let switched = sent.ok().and_then(|()| switched.blocking_recv().ok());
        match switched.ok_or(Fault::Stopped)? {
            Ok(true) => self.remove(inputs)?,
            Ok(false) => self.disk.remove(&product.unborn)?,
            Err(e) => {
                let _ = self.disk.remove(&product.unborn);
                return Err(Fault::Io(e));
            }
        }
        let (stream, until) = (&self.shared.name, segments[count].base);
        tracing::info!(%stream, until, before, after, "compacted");
        Ok(())
    }

    /// Removes files that a compacted segment stands for. What stays goes when the stream is opened.
    fn remove(&self, inputs: &[Arc<Segment>]) -> io::Result<()> {
        for segment in inputs {
            match self.disk.remove(&segment.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.disk.sync_dir(&self.shared.dir)
    }
}

/// Deletes committed before this moment go, in microseconds since 1970.
fn horizon(tombstones: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.saturating_sub(tombstones).as_micros()).unwrap_or(0)
}

enum Stamp {
    Begun,
    Written,
}

/// How long ago a segment was begun, or last written to; `None` when the system does not say.
fn age(segment: &Segment, stamp: Stamp) -> Option<Duration> {
    let file = std::fs::metadata(&segment.path).ok()?;
    let then = match stamp {
        Stamp::Begun => file.created().or_else(|_| file.modified()).ok()?,
        Stamp::Written => file.modified().ok()?,
    };
    SystemTime::now().duration_since(then).ok()
}

/// Keeps to so many bytes a second.
struct Pace {
    began: Instant,
    spent: Mutex<u64>,
    rate: u64,
}

/// Shorter rests than this are saved up.
const REST_MIN: Duration = Duration::from_millis(5);

impl Pace {
    /// How long to rest after so many bytes more.
    fn rest(&self, bytes: u64) -> Duration {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent += bytes;
        let due = Duration::from_secs_f64(*spent as f64 / self.rate.max(1) as f64);
        let ahead = due.saturating_sub(self.began.elapsed());
        if ahead < REST_MIN { Duration::ZERO } else { ahead }
    }
}
