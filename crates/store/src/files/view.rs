//! What readers see of a stream: its segments, its durable end, and its newest batches.

use crate::files::cache::Cache;
use crate::files::segment::Segment;
use crate::track::Track;
use rowcast_core::{Batch, ByteSize, LogError, LogId, Offset, Position, ServiceName, Stored, Tail};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The end of a stream, for those who wait for it to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) next: Offset,
    pub(crate) position: Option<Position>,
    pub(crate) closed: bool,
}

/// A stream as its writer publishes it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: ServiceName,
    pub(crate) dir: PathBuf,
    pub(crate) id: LogId,
    pub(crate) end: watch::Sender<End>,
    view: Mutex<View>,
}

#[derive(Debug)]
struct View {
    /// In order; the last one grows. Empty only before a new stream's first one is made.
    segments: Vec<Arc<Segment>>,
    /// The durable end.
    track: Track,
    cache: Cache,
}

/// Where a read finds its events.
pub(crate) enum Found {
    /// Nothing is there yet.
    End,
    Cached(Vec<Stored>),
    /// In these segments, the first of which holds the offset.
    OnDisk(Vec<Arc<Segment>>),
}

/// Segments that one read looks into; each has at least one event.
const SEGMENTS_A_READ: usize = 8;

impl Shared {
    pub(crate) fn new(
        name: ServiceName,
        dir: PathBuf,
        id: LogId,
        segments: Vec<Arc<Segment>>,
        track: Track,
        cache: ByteSize,
    ) -> Self {
        let end = End { next: track.next, position: track.position, closed: false };
        let view = View { segments, track, cache: Cache::new(cache) };
        Self { name, dir, id, end: watch::Sender::new(end), view: Mutex::new(view) }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn track(&self) -> Track {
        self.view().track.clone()
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.view().segments.clone()
    }

    pub(crate) fn last_segment(&self) -> Arc<Segment> {
        self.view().segments.last().expect("an open stream has a segment").clone()
    }

    /// A new last segment. It replaces one of the same name, which had no events.
    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        let mut view = self.view();
        view.segments.retain(|s| s.base != segment.base);
        view.segments.push(segment);
    }

    /// Shows durable batches to readers. Returns the offset after each.
    pub(crate) fn publish(&self, batches: Vec<Arc<Batch>>) -> Vec<Offset> {
        let mut view = self.view();
        let mut ends = Vec::with_capacity(batches.len());
        for batch in batches {
            let base = view.track.next;
            view.track.advance(&batch);
            ends.push(view.track.next);
            view.cache.push(Stored { base, batch });
        }
        let (next, position) = (view.track.next, view.track.position);
        drop(view);
        self.end.send_modify(|end| (end.next, end.position) = (next, position));
        ends
    }

    /// Puts what compaction made of the oldest segments in their place. `false` when they are no
    /// longer the ones it was made of.
    pub(crate) fn replace(&self, inputs: &[Arc<Segment>], compacted: &Arc<Segment>) -> bool {
        let mut view = self.view();
        if !view.begins_with(inputs) {
            return false;
        }
        view.segments.splice(..inputs.len(), [compacted.clone()]);
        let until = view.history().compacted;
        view.cache.forget_before(until);
        true
    }

    /// Whether these are the oldest segments, and not all of them.
    pub(crate) fn begins_with(&self, segments: &[Arc<Segment>]) -> bool {
        self.view().begins_with(segments)
    }

    /// Takes the segments that end at or before `keep` out of view; the last one stays.
    pub(crate) fn forget_before(&self, keep: Offset) -> Vec<Arc<Segment>> {
        let mut view = self.view();
        let later = view.segments.iter().skip(1);
        let gone = later.take_while(|s| s.base <= keep.0).count();
        view.segments.drain(..gone).collect()
    }

    pub(crate) fn tail(&self) -> Tail {
        let view = self.view();
        let history = view.history();
        Tail {
            log: self.id,
            first: view.first(),
            next: view.track.next,
            position: view.track.position,
            snapshots: view.track.snapshots(),
            schemas: view.track.schemas(),
            bytes: view.segments.iter().map(|s| s.len()).sum(),
            compacted: history.compacted,
            complete_history: history.complete,
        }
    }

    /// Where to read, and from which offset on every delete is there.
    pub(crate) fn find(&self, at: Offset, max: ByteSize) -> Result<(Found, Offset), LogError> {
        let view = self.view();
        let complete = view.history().complete;
        let stream = || self.name.clone();
        let (first, next) = (view.first(), view.track.next);
        if at < first {
            return Err(LogError::Trimmed { stream: stream(), at, first });
        }
        if at > next {
            return Err(LogError::Ahead { stream: stream(), at, next });
        }
        if at == next {
            return Ok((Found::End, complete));
        }
        let cached = view.cache.read(at, max);
        if !cached.is_empty() {
            return Ok((Found::Cached(cached), complete));
        }
        let after = view.segments.partition_point(|s| s.base <= at.0);
        let from = view.segments.iter().skip(after.saturating_sub(1));
        Ok((Found::OnDisk(from.take(SEGMENTS_A_READ).cloned().collect()), complete))
    }

    pub(crate) fn close(&self) {
        self.end.send_modify(|end| end.closed = true);
    }
}

/// What compaction did to a stream.
#[derive(Debug, Clone, Copy)]
struct History {
    compacted: Offset,
    complete: Offset,
}

impl View {
    fn history(&self) -> History {
        let first = self.first();
        let by = self.segments.first().and_then(|s| s.compacted);
        History {
            compacted: by.map_or(first, |c| Offset(c.until)),
            complete: by.map_or(first, |c| Offset(c.complete_history)),
        }
    }

    fn begins_with(&self, segments: &[Arc<Segment>]) -> bool {
        segments.len() < self.segments.len()
            && segments.iter().zip(&self.segments).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    fn first(&self) -> Offset {
        Offset(self.segments.first().map_or(self.track.next.0, |s| s.base))
    }
}
