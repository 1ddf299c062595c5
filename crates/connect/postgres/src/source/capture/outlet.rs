//! The way out: a queue bounded in bytes, and the way back for what the log has made durable.

use rowcast_core::{Batch, SourceError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// More batches than this never wait, however small they are.
const BATCHES_MAX: usize = 1024;

/// A batch and the room it takes.
pub(crate) type Package = Result<(Batch, OwnedSemaphorePermit), SourceError>;

/// Where batches go.
pub(crate) struct Outlet {
    send: mpsc::Sender<Package>,
    room: Arc<Semaphore>,
    kib_max: u32,
}

impl Outlet {
    /// A queue for about so many bytes.
    pub(crate) fn new(bytes: u64) -> (Self, mpsc::Receiver<Package>) {
        let (send, receive) = mpsc::channel(BATCHES_MAX);
        let kib_max = u32::try_from(bytes >> 10).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        let room = Arc::new(Semaphore::new(kib_max as usize));
        (Self { send, room, kib_max }, receive)
    }

    /// Waits for room; `None` when nobody listens. Cancel safe.
    pub(crate) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1);
        // A batch larger than the whole queue takes all of it.
        let wanted = self.room.clone().acquire_many_owned(kib.min(self.kib_max));
        tokio::select! {
            () = self.send.closed() => None,
            room = wanted => room.ok(),
        }
    }

    /// Sends into the room taken before.
    pub(crate) async fn send(&self, batch: Batch, room: OwnedSemaphorePermit) -> Option<()> {
        self.send.send(Ok((batch, room))).await.ok()
    }

    /// The last word.
    pub(crate) async fn fail(&self, error: SourceError) {
        // Who does not listen any more does not need it.
        let _ = self.send.send(Err(error)).await;
    }
}

/// Up to where the log holds everything. Zero until somebody says so, which the server takes for no
/// word at all: a start alone confirms nothing.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    lsn: AtomicU64,
    news: Notify,
}

impl Confirmed {
    /// The log holds everything up to `lsn`.
    pub(crate) fn set(&self, lsn: u64) {
        if self.lsn.fetch_max(lsn, Ordering::AcqRel) < lsn {
            self.news.notify_one();
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.lsn.load(Ordering::Acquire)
    }

    /// Waits for the next word. Cancel safe.
    pub(crate) async fn moved(&self) {
        self.news.notified().await;
    }
}
