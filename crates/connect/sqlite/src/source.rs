//! Capture of one SQLite file, on a thread of its own: SQLite's calls block.

mod changes;
mod install;
mod ledger;
mod lock;
mod masked;
mod reader;
mod retained;
mod session;
mod snapshot;
mod trigger;
mod wake;

pub(crate) use install::published_table;
pub(crate) use masked::{maskers, withheld};
pub(crate) use retained::{left_behind, release, waiting};

use async_trait::async_trait;
use lock::CaptureLock;
use rowcast_core::{Batch, Point, Position, ServiceName, Source, SourceError, SourceSpec, Start};
use rusqlite::{Connection, Error};
use session::Session;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use wake::Wake;

/// How long a quiet file goes without a look, when no notification comes.
const LAZY: Duration = Duration::from_millis(100);

/// A notification comes with the write, the commit can be seen once it is synced: how soon to look
/// again, in microseconds. A look costs a few of them.
const BURST: [u64; 15] =
    [300, 300, 300, 500, 500, 500, 500, 1_000, 1_000, 1_000, 1_000, 2_000, 2_000, 3_000, 5_000];

/// Confirmed changes rest this long before a quiet source takes them out: one write for many.
const PURGE_AFTER: Duration = Duration::from_secs(2);

/// A point that covers everything committed before.
pub(crate) fn mark(c: &Connection) -> Result<Point, Error> {
    // One look: what changes between two would ask for too much.
    let look = c.unchecked_transaction()?;
    Ok(Point::Sequence(ledger::mark(&look)?))
}

/// Which history the file has, and the point that a read transaction sees it at; `None` before the
/// first capture.
pub(crate) fn place(c: &Connection) -> Result<Option<(u64, Point)>, Error> {
    let Some(identity) = ledger::identity(c)? else { return Ok(None) };
    Ok(Some((identity.epoch.identity, Point::Sequence(ledger::mark(c)?))))
}

type Reply<T> = oneshot::Sender<Result<T, SourceError>>;

/// What the thread is asked for. Every order has one place, so the desk never fills.
#[derive(Default)]
struct Orders {
    start: Option<(Start, Reply<()>)>,
    next: Option<Reply<Batch>>,
    confirmed: Option<Position>,
    woken: bool,
    stop: bool,
}

impl Orders {
    fn is_empty(&self) -> bool {
        let asked = self.start.is_some() || self.next.is_some() || self.confirmed.is_some();
        !(asked || self.woken || self.stop)
    }
}

/// Where orders lie until the thread takes them.
#[derive(Default)]
struct Desk {
    orders: Mutex<Orders>,
    bell: Condvar,
}

impl Desk {
    fn order(&self, write: impl FnOnce(&mut Orders)) {
        write(&mut self.lock());
        self.bell.notify_one();
    }

    fn take(&self, patience: Duration) -> Orders {
        let orders = self.lock();
        let waited = self.bell.wait_timeout_while(orders, patience, |o| o.is_empty());
        let (mut orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *orders)
    }

    /// Orders are whole at any time; whoever panicked while holding them left no half one.
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one file's changes.
pub(crate) struct SqliteSource {
    path: PathBuf,
    spec: SourceSpec,
    thread: Option<Thread>,
    pending: Option<oneshot::Receiver<Result<Batch, SourceError>>>,
}

struct Thread {
    desk: Arc<Desk>,
    handle: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.desk.order(|o| o.stop = true);
        // The capture is over when this returns: another one may begin.
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

impl SqliteSource {
    pub(crate) fn new(path: PathBuf, spec: SourceSpec) -> Self {
        Self { path, spec, thread: None, pending: None }
    }

    fn desk(&mut self) -> Result<&Arc<Desk>, SourceError> {
        if self.thread.is_none() {
            self.thread = Some(self.spawn()?);
        }
        let thread = self.thread.as_ref();
        Ok(&thread.expect("it was just spawned").desk)
    }

    fn spawn(&self) -> Result<Thread, SourceError> {
        let desk = Arc::new(Desk::default());
        let worker = Worker {
            path: self.path.clone(),
            spec: self.spec.clone(),
            desk: desk.clone(),
            running: None,
            asked: None,
            due: true,
            burst: BURST.len(),
            rested: Instant::now(),
        };
        let name = format!("capture {}", self.spec.service);
        let spawned = std::thread::Builder::new().name(name).spawn(move || worker.run());
        let handle = spawned.map_err(|e| SourceError::Unreachable {
            service: self.spec.service.clone(),
            source: e.into(),
        })?;
        Ok(Thread { desk, handle: Some(handle) })
    }
}

fn ended(service: &ServiceName) -> SourceError {
    SourceError::Bug { service: service.clone(), what: "its thread ended".into() }
}

#[async_trait]
impl Source for SqliteSource {
    async fn start(&mut self, from: Start) -> Result<(), SourceError> {
        let service = self.spec.service.clone();
        self.pending = None;
        let (reply, answer) = oneshot::channel();
        self.desk()?.order(|o| o.start = Some((from, reply)));
        answer.await.unwrap_or_else(|_| Err(ended(&service)))
    }

    async fn next(&mut self) -> Result<Batch, SourceError> {
        let service = self.spec.service.clone();
        if self.pending.is_none() {
            let (reply, answer) = oneshot::channel();
            self.desk()?.order(|o| o.next = Some(reply));
            self.pending = Some(answer);
        }
        // Kept here until it comes, so that a dropped wait loses nothing.
        let answer = self.pending.as_mut().expect("it was just asked for").await;
        self.pending = None;
        answer.unwrap_or_else(|_| Err(ended(&service)))
    }

    async fn confirm(&mut self, upto: &Position) -> Result<(), SourceError> {
        let upto = *upto;
        self.desk()?.order(|o| o.confirmed = Some(upto));
        Ok(())
    }
}

/// A session with what keeps it alone and awake.
struct Running {
    session: Session,
    _lock: CaptureLock,
    _watched: Option<Wake>,
}

/// The thread's side.
struct Worker {
    path: PathBuf,
    spec: SourceSpec,
    desk: Arc<Desk>,
    running: Option<Running>,
    /// Somebody waits for a batch.
    asked: Option<Reply<Batch>>,
    /// A look is due, whatever `data_version` says.
    due: bool,
    /// How many short waits since the last notification.
    burst: usize,
    /// When changes were last taken out.
    rested: Instant,
}

impl Worker {
    fn run(mut self) {
        loop {
            let orders = self.desk.take(self.patience());
            if orders.stop {
                return;
            }
            if orders.woken {
                self.burst = 0;
            }
            if let Some((start, reply)) = orders.start {
                self.asked = None;
                let _ = reply.send(self.start(start));
            }
            if let Some(reply) = orders.next {
                self.asked = Some(reply);
            }
            self.confirm(orders.confirmed);
            self.answer();
            self.rest();
        }
    }

    fn patience(&self) -> Duration {
        let Some(running) = &self.running else { return Duration::from_secs(3600) };
        match (&self.asked, running.session.can_purge()) {
            (Some(_), _) => BURST.get(self.burst).map_or(LAZY, |us| Duration::from_micros(*us)),
            (None, true) => PURGE_AFTER,
            (None, false) => Duration::from_secs(3600),
        }
    }

    fn start(&mut self, start: Start) -> Result<(), SourceError> {
        // A lock that we hold already stays ours through a restart.
        let held = self.running.take();
        let _lock = match held {
            Some(running) => running._lock,
            None => CaptureLock::take(&self.path, &self.spec.service)?,
        };
        let session = Session::begin(&self.path, self.spec.clone(), start)?;
        let desk = self.desk.clone();
        let watched = Wake::start(&self.path, move || desk.order(|o| o.woken = true));
        if watched.is_none() {
            tracing::info!(service = %self.spec.service, "no file notifications; polling");
        }
        self.running = Some(Running { session, _lock, _watched: watched });
        (self.due, self.rested) = (true, Instant::now());
        Ok(())
    }

    fn confirm(&mut self, upto: Option<Position>) {
        if let (Some(upto), Some(running)) = (upto, &mut self.running)
            && let Err(error) = running.session.confirm(&upto)
        {
            self.fail(error);
        }
    }

    /// Tells the error to whoever waits, or to the next who asks.
    fn fail(&mut self, error: SourceError) {
        self.running = None;
        match self.asked.take() {
            Some(reply) => drop(reply.send(Err(error))),
            None => tracing::warn!(service = %self.spec.service, %error, "capture ended"),
        }
    }

    fn answer(&mut self) {
        if self.asked.as_ref().is_none_or(Reply::is_closed) {
            return;
        }
        let Some(running) = &mut self.running else {
            let service = self.spec.service.clone();
            let source = "capture has to be started again".into();
            return self.fail(SourceError::Unreachable { service, source });
        };
        let looked = match running.session.has_news() {
            Ok(news) if news || self.due => running.session.look(),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match looked {
            Ok(Some(batch)) => {
                (self.due, self.burst) = (true, BURST.len());
                let reply = self.asked.take().expect("somebody waits");
                // Nobody took it: the source is gone, or will be started again.
                let _ = reply.send(Ok(batch));
            }
            Ok(None) => {
                self.due = false;
                self.burst = (self.burst + 1).min(BURST.len());
            }
            Err(error) => self.fail(error),
        }
    }

    /// Takes confirmed changes out while nothing else is to be done.
    fn rest(&mut self) {
        let Some(running) = &mut self.running else { return };
        let quiet = !self.due && self.burst == BURST.len();
        if !running.session.can_purge() {
            self.rested = Instant::now();
        } else if quiet && self.rested.elapsed() >= PURGE_AFTER {
            match running.session.purge() {
                Ok(()) if running.session.can_purge() => {}
                Ok(()) => self.rested = Instant::now(),
                Err(error) => self.fail(error),
            }
        }
    }
}
