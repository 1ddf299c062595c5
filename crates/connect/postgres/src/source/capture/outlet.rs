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
    /// Who waits, waits for this place.
    awaited: AtomicU64,
    news: Notify,
}

impl Confirmed {
    /// The log holds everything up to `lsn`.
    pub(crate) fn set(&self, lsn: u64) {
        // Both sides write, then look at what the other one wrote: one of them sees it.
        let before = self.lsn.fetch_max(lsn, Ordering::SeqCst);
        let awaited = self.awaited.load(Ordering::SeqCst);
        if before < awaited && awaited <= lsn {
            self.news.notify_one();
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.lsn.load(Ordering::SeqCst)
    }

    /// Waits until the log holds everything up to `lsn`; words before that wake nobody. One at a time
    /// may wait. Cancel safe.
    pub(crate) async fn reached(&self, lsn: u64) {
        self.awaited.store(lsn, Ordering::SeqCst);
        while self.get() < lsn {
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn whoever_waits_for_a_place_hears_of_it_and_of_nothing_before() {
        let confirmed = Confirmed::default();
        let woken = || confirmed.news.notified().now_or_never().is_some();
        confirmed.set(3);
        assert!(confirmed.reached(3).now_or_never().is_some(), "it is there");
        assert!(confirmed.reached(10).now_or_never().is_none());
        confirmed.set(9);
        assert!(!woken(), "9 is not 10");
        confirmed.set(12);
        assert!(woken());
        assert!(confirmed.reached(10).now_or_never().is_some());
        confirmed.set(13);
        assert!(!woken(), "nobody waits");
    }

    #[tokio::test]
    async fn a_word_from_another_thread_is_never_missed() {
        let confirmed = Arc::new(Confirmed::default());
        let says = confirmed.clone();
        let thread = std::thread::spawn(move || (1..=20_000).for_each(|lsn| says.set(lsn)));
        for lsn in 1..=20_000 {
            confirmed.reached(lsn).await;
        }
        assert_eq!(confirmed.get(), 20_000);
        thread.join().unwrap();
    }
}
