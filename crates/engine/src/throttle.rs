//! Holds what is being built back for the sake of the routes that are live: it goes on in short
//! pieces, and rests in between for as long as the others need not to notice it.
//!
//! What they need is measured on them: how long a delivery takes that a piece was under way beside,
//! and how long any other. Where there is room for both, no rest is longer than it takes to see that.

use rowcast_core::ByteSize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How much longer deliveries may take on average, as a share of what they take alone.
const TOLERATED: f64 = 0.05;
/// The share of the time that a build has at most. The rest shows how deliveries fare without it.
const MOST: f64 = 0.9;
/// The share it has as long as not enough is known.
const UNKNOWN: f64 = 0.25;
/// The share of the time that it always has.
pub(crate) const LEAST: f64 = 1.0 / 16.0;
/// Row bytes of a piece while others are to be spared: less than a millisecond's work at the target,
/// so that nobody waits for a core for longer.
const PIECE: ByteSize = ByteSize(32 << 10);
/// Events from which on a delivery is a backlog's: nobody waits for one of them.
const BACKLOG_EVENTS: u64 = 500;
/// Deliveries of either kind before their mean says anything.
const SAMPLES_MIN: u32 = 20;
/// How many of the last ones the mean is about.
const SAMPLES: f64 = 200.0;
/// A delivery that takes more than so many times the mean counts as that: something else held it up.
const OUTLIER: f64 = 10.0;
/// Without a delivery for this long nobody is there to be spared.
const STALE: Duration = Duration::from_secs(1);

/// Longest rest. A piece that took long for another reason, a lock at the target, says nothing about
/// what the others need.
const REST_MAX: Duration = Duration::from_secs(1);

/// One for all routes of an instance: they share a machine, and often a server.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Tracks of live subscriptions, and of what is being built.
    live: AtomicU64,
    builders: AtomicU64,
    /// Pieces that were begun, and that ended.
    begun: AtomicU64,
    ended: AtomicU64,
    seen: Mutex<Seen>,
}

/// Live deliveries while something is being built.
#[derive(Debug, Default)]
struct Seen {
    alone: Mean,
    beside: Mean,
    last: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    seconds: f64,
    samples: u32,
}

impl Mean {
    fn add(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        let enough = self.samples >= SAMPLES_MIN;
        let took = if enough { took.min(self.seconds * OUTLIER) } else { took };
        self.samples = self.samples.saturating_add(1);
        self.seconds += (took - self.seconds) / f64::from(self.samples).min(SAMPLES);
    }

    fn get(&self) -> Option<f64> {
        (self.samples >= SAMPLES_MIN).then_some(self.seconds)
    }
}

impl Seen {
    /// The share of the time that a build may have; `None` when there is nobody to be spared.
    fn share(&self, now: Instant) -> Option<f64> {
        self.last.filter(|last| now.duration_since(*last) < STALE)?;
        let (Some(alone), Some(beside)) = (self.alone.get(), self.beside.get()) else {
            return Some(UNKNOWN);
        };
        let slower = beside - alone;
        let share = if slower > 0.0 { TOLERATED * alone / slower } else { MOST };
        Some(share.clamp(LEAST, MOST))
    }
}

/// A live delivery under way.
pub(crate) struct Delivery {
    began: Instant,
    /// Pieces that had begun before, when none of them was under way.
    alone_since: Option<u64>,
}

impl Throttle {
    /// What was seen are numbers, whole whoever panicked meanwhile.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A live route begins to deliver; `None` when nothing is being built.
    pub(crate) fn deliver(&self) -> Option<Delivery> {
        (self.builders.load(Ordering::Relaxed) > 0).then(|| {
            let begun = self.begun.load(Ordering::Relaxed);
            let alone = self.ended.load(Ordering::Relaxed) >= begun;
            Delivery { began: Instant::now(), alone_since: alone.then_some(begun) }
        })
    }

    /// It has delivered so many events.
    pub(crate) fn delivered(&self, delivery: Option<Delivery>, events: u64) {
        let Some(Delivery { began, alone_since }) = delivery else { return };
        if events == 0 || events >= BACKLOG_EVENTS {
            return;
        }
        let now = Instant::now();
        let mut seen = self.seen();
        seen.last = Some(now);
        let alone = alone_since == Some(self.begun.load(Ordering::Relaxed));
        let mean = if alone { &mut seen.alone } else { &mut seen.beside };
        mean.add(now - began);
    }

    /// Live subscriptions move from here on.
    pub(crate) fn live(&self) -> Live<'_> {
        self.live.fetch_add(1, Ordering::Relaxed);
        Live { throttle: self }
    }

    /// Something is being built from here on.
    pub(crate) fn builder(&self) -> Builder<'_> {
        if self.builders.fetch_add(1, Ordering::Relaxed) == 0 {
            // Whether any of those who are there has to be spared shows within a moment.
            let last = (self.live.load(Ordering::Relaxed) > 0).then(Instant::now);
            *self.seen() = Seen { last, ..Seen::default() };
        }
        Builder { throttle: self }
    }
}

/// Live subscriptions that may have to be spared.
pub(crate) struct Live<'a> {
    throttle: &'a Throttle,
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.throttle.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something that is being built.
pub(crate) struct Builder<'a> {
    throttle: &'a Throttle,
}

/// A piece of its work.
pub(crate) struct Piece<'a> {
    builder: &'a Builder<'a>,
    began: Instant,
}

impl Builder<'_> {
    /// How much the next piece may be; `None` while nobody has to be spared.
    pub(crate) fn bytes(&self) -> Option<ByteSize> {
        let share = self.throttle.seen().share(Instant::now());
        share.filter(|share| *share < MOST).map(|_| PIECE)
    }

    /// A piece of work begins.
    pub(crate) fn piece(&self) -> Piece<'_> {
        self.throttle.begun.fetch_add(1, Ordering::Relaxed);
        Piece { builder: self, began: Instant::now() }
    }
}

impl Piece<'_> {
    /// It is done. Returns until when to rest, for a build that is to have `least` of the time.
    pub(crate) fn done(self, least: f64) -> Option<Instant> {
        let now = Instant::now();
        let share = self.builder.throttle.seen().share(now)?.max(least);
        Some(now + rest(now - self.began, share))
    }
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        self.builder.throttle.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Builder<'_> {
    fn drop(&mut self) {
        self.throttle.builders.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long to rest after work, to have worked for `share` of the time.
fn rest(worked: Duration, share: f64) -> Duration {
    worked.mul_f64(1.0 / share.clamp(LEAST, 1.0) - 1.0).min(REST_MAX)
}

#[cfg(test)]
mod tests;
