//! One open stream: its writer's thread, and what callers ask of it.

use crate::config::LogConfig;
use crate::files::compactor::{Compactor, Orders};
use crate::files::disk::Disk;
use crate::files::queue::{Queue, Work};
use crate::files::reader::{self, ReadError};
use crate::files::recover::{RecoverError, Recovered, recover};
use crate::files::view::{End, Found, Shared};
use crate::files::walk::Flaw;
use crate::files::writer::{Writer, begin};
use crate::private;
use crate::track::Track;
use rowcast_core::{
    Batch, ByteSize, Chunk, Commit, LogError, LogId, Offset, Position, ServiceName, Stored, Tail,
};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

#[derive(Debug)]
pub(crate) struct Stream {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    orders: Arc<Orders>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Stream {
    /// Recovers a stream, or makes it. Blocks.
    pub(crate) fn open(
        name: ServiceName,
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        config: LogConfig,
    ) -> Result<Self, LogError> {
        let refused = |e| LogError::Refused { stream: name.clone(), source: Arc::new(e) };
        if !dir.exists() {
            let parent = dir.parent().expect("a stream's directory lies below the root");
            private::create_dir_all(&dir).and_then(|()| disk.sync_dir(parent)).map_err(refused)?;
        }
        let shared = match recover(&dir) {
            Ok(Some(found)) => mend(&name, dir, disk.as_ref(), &config, found).map_err(refused)?,
            Ok(None) => create(&name, dir, disk.as_ref(), &config).map_err(refused)?,
            Err(RecoverError::Damaged(what)) => {
                return Err(LogError::Damaged { stream: name, what });
            }
            Err(RecoverError::Io(e)) => {
                return Err(LogError::Unreadable { stream: name, source: Arc::new(e) });
            }
        };
        let shared = Arc::new(shared);
        let last = shared.track().position;
        let queue = Arc::new(Queue::new(name.clone(), config.queue.0, last));
        let orders = Arc::new(Orders::default());
        let compactor = Compactor {
            shared: shared.clone(),
            queue: queue.clone(),
            orders: orders.clone(),
            disk: disk.clone(),
            config: config.clone(),
        };
        let writer = Writer::new(shared.clone(), queue.clone(), disk, config).map_err(refused)?;
        let gone = Gone(shared.clone(), queue.clone());
        let write = move || {
            let _gone = gone;
            writer.run();
        };
        // Made first, so that whatever fails below closes what was begun.
        let stream = Self { shared, queue, orders, threads: Mutex::default() };
        let spawn = |what: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(format!("{what} {name}")).spawn(work)
        };
        for (what, work) in [
            ("log", Box::new(write) as Box<dyn FnOnce() + Send>),
            ("compact", Box::new(move || compactor.run())),
        ] {
            let thread = spawn(what, work).map_err(refused)?;
            stream.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(stream)
    }

    fn closed(&self) -> LogError {
        LogError::Closed { stream: self.shared.name.clone() }
    }

    pub(crate) async fn append(&self, batch: Batch) -> Result<Commit, LogError> {
        let outcome = self.queue.append(batch).await?;
        let closed = self.closed();
        Ok(Commit::new(async move {
            match outcome.await {
                Ok(Ok(next)) => Ok(next),
                Ok(Err(refusal)) => Err(refusal.error),
                Err(_) => Err(closed),
            }
        }))
    }

    pub(crate) async fn read(&self, at: Offset, max: ByteSize) -> Result<Chunk, LogError> {
        let mut end = self.shared.end.subscribe();
        loop {
            let closed = end.borrow_and_update().closed;
            let (found, complete_history) = self.shared.find(at, max)?;
            let batches = match found {
                Found::Cached(batches) => batches,
                Found::OnDisk(segments) => {
                    let read = move || reader::read(&segments, at, max);
                    match tokio::task::spawn_blocking(read).await {
                        Ok(Ok(batches)) => batches,
                        Ok(Err(e)) if self.was_replaced(&e) => continue,
                        Ok(Err(e)) => return Err(self.read_error(e)),
                        Err(_) => return Err(self.closed()),
                    }
                }
                Found::End if closed => return Err(self.closed()),
                Found::End => {
                    end.changed().await.map_err(|_| self.closed())?;
                    continue;
                }
            };
            return match batches.last().map(Stored::end) {
                Some(next) => Ok(Chunk { batches, next, complete_history }),
                None => {
                    let what = format!("no frame holds offset {at}");
                    Err(LogError::Damaged { stream: self.shared.name.clone(), what })
                }
            };
        }
    }

    /// Whether retention or compaction took the file away while it was read.
    fn was_replaced(&self, e: &ReadError) -> bool {
        let missing = matches!(&e.flaw, Flaw::Io(e) if e.kind() == io::ErrorKind::NotFound);
        missing && !self.shared.segments().iter().any(|s| s.path == e.path)
    }

    fn read_error(&self, e: ReadError) -> LogError {
        let stream = self.shared.name.clone();
        let file = e.path.display();
        match e.flaw {
            Flaw::Bad { at, what, .. } => {
                LogError::Damaged { stream, what: format!("{file} at byte {at}: {what}") }
            }
            Flaw::Io(e) if e.kind() == io::ErrorKind::NotFound => {
                LogError::Damaged { stream, what: format!("{file} is missing") }
            }
            Flaw::Io(e) => LogError::Unreadable { stream, source: Arc::new(e) },
        }
    }

    /// The end, once everything appended before this call is settled: nobody goes on from a tail
    /// that is about to move.
    pub(crate) async fn tail(&self) -> Result<Tail, LogError> {
        let (done, settled) = oneshot::channel();
        self.queue.push(Work::Settle(done))?;
        settled.await.map_err(|_| self.closed())?;
        self.queue.forgive();
        Ok(self.shared.tail())
    }

    pub(crate) async fn moved(
        &self,
        seen: Option<Position>,
    ) -> Result<(Offset, Option<Position>), LogError> {
        let mut end: watch::Receiver<End> = self.shared.end.subscribe();
        let now = end.wait_for(|end| end.closed || end.position != seen).await;
        match now {
            Ok(now) if now.position != seen => Ok((now.next, now.position)),
            _ => Err(self.closed()),
        }
    }

    pub(crate) async fn trim(&self, keep: Offset) -> Result<(), LogError> {
        let (done, trimmed) = oneshot::channel();
        self.queue.push(Work::Trim(keep, done))?;
        trimmed.await.unwrap_or_else(|_| Err(self.closed()))
    }

    pub(crate) async fn compact(&self, upto: Offset) -> Result<Offset, LogError> {
        let (done, compacted) = oneshot::channel();
        self.orders.give(upto, done).ok_or_else(|| self.closed())?;
        compacted.await.unwrap_or_else(|_| Err(self.closed()))
    }

    #[cfg(test)]
    pub(crate) fn segments(&self) -> Vec<Arc<crate::files::segment::Segment>> {
        self.shared.segments()
    }

    /// Takes no more; the writer ends once it has written what waits.
    pub(crate) fn close(&self) {
        self.orders.close();
        self.queue.close();
    }

    /// Waits for the threads' end. Blocks.
    pub(crate) fn join(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(stream = %self.shared.name, "a thread of the log panicked");
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
        self.join();
    }
}

/// Lets everybody who waits know that the writer is gone, also when it panicked.
struct Gone(Arc<Shared>, Arc<Queue>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.1.abandon();
        self.0.close();
    }
}

/// Cuts off what a crash left.
fn mend(
    name: &ServiceName,
    dir: PathBuf,
    disk: &dyn Disk,
    config: &LogConfig,
    found: Recovered,
) -> io::Result<Shared> {
    let last = found.segments.last().expect("what was recovered has a segment");
    let mut file = disk.open(&last.path)?;
    if let Some(len) = found.cut {
        tracing::warn!(
            stream = %name,
            file = %last.path.display(),
            from_byte = len,
            offset = %found.track.next,
            "cut off a write that a crash left unfinished; it was never acknowledged"
        );
        file.truncate(len)?;
    }
    // A killed process leaves whole frames behind that no sync covered yet.
    file.sync()?;
    for leftover in &found.leftovers {
        disk.remove(leftover)?;
    }
    // A name that a crash left behind is durable only from here on.
    disk.sync_dir(&dir)?;
    Ok(Shared::new(name.clone(), dir, found.id, found.segments, found.track, config.cache))
}

fn create(
    name: &ServiceName,
    dir: PathBuf,
    disk: &dyn Disk,
    config: &LogConfig,
) -> io::Result<Shared> {
    let id = LogId(rand::random());
    let track = Track::default();
    let shared = Shared::new(name.clone(), dir, id, Vec::new(), track.clone(), config.cache);
    let first = begin(disk, &shared, &track)?;
    shared.add_segment(Arc::new(first));
    Ok(shared)
}
