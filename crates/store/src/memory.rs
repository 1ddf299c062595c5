//! A log in memory, for tests. It keeps the seam's laws and forgets everything with the process.

use crate::compact::{Fault, Limits, Original, Sieve, Weaver};
use crate::track::{Track, follows};
use async_trait::async_trait;
use rowcast_core::{
    Batch, ByteSize, Chunk, Commit, EventLog, LogError, LogId, Offset, Position, ServiceName,
    Stored, Tail,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Streams in memory. What is appended is as durable as the process.
#[derive(Debug, Default)]
pub struct MemoryLog {
    streams: Mutex<HashMap<ServiceName, Stream>>,
    /// Compaction forgets deletes.
    forgetful: bool,
}

#[derive(Debug)]
struct Stream {
    id: LogId,
    first: Offset,
    compacted: Offset,
    complete_history: Offset,
    batches: Vec<Stored>,
    track: Track,
    end: watch::Sender<(Offset, Option<Position>)>,
}

impl Stream {
    fn new() -> Self {
        let end = watch::Sender::new((Offset(0), None));
        let id = LogId(rand::random());
        Self {
            id,
            first: Offset(0),
            compacted: Offset(0),
            complete_history: Offset(0),
            batches: Vec::new(),
            track: Track::default(),
            end,
        }
    }

    fn append(&mut self, batch: Batch) -> Offset {
        let base = self.track.next;
        self.track.advance(&batch);
        if !batch.events.is_empty() {
            self.batches.push(Stored { base, batch: Arc::new(batch) });
        }
        self.end.send_replace((self.track.next, self.track.position));
        self.track.next
    }

    fn chunk(&self, at: Offset, max: ByteSize) -> Chunk {
        let from = self.batches.partition_point(|s| s.end() <= at);
        let mut bytes = 0;
        let batches: Vec<_> = self.batches[from..]
            .iter()
            .take_while(|s| {
                let first = bytes == 0;
                bytes += s.batch.size();
                first || bytes <= max.as_usize()
            })
            .cloned()
            .collect();
        let next = batches.last().map_or(at, Stored::end);
        Chunk { batches, next, complete_history: self.complete_history }
    }

    fn compact(&mut self, upto: Offset, horizon: i64) -> Result<(), Fault> {
        let ends = |s: &Stored| s.batch.whole && s.end() <= upto;
        let Some(last) = self.batches.iter().rposition(ends) else { return Ok(()) };
        let (old, rest) = self.batches.split_at(last + 1);
        if rest.first().map_or(self.track.next, |s| s.base) <= self.compacted {
            return Ok(());
        }
        let limits = Limits { horizon, scratch: None, spend: &|_| Ok(()) };
        let mut sieve = Sieve::new(limits, BTreeSet::new());
        for (number, stored) in old.iter().enumerate() {
            sieve.push(stored, number as u64)?;
        }
        let mut made = Vec::new();
        let mut out = |stored: Stored| {
            // One that stands for no offset only brings words that the tail has.
            if stored.batch.span() > 0 {
                made.push(stored);
            }
            Ok(())
        };
        let mut weaver = Weaver::new(sieve.finish()?, self.first);
        for (number, stored) in old.iter().enumerate() {
            let original = Original {
                end: stored.end().0,
                until: stored.batch.until,
                fresh: stored.batch.fresh,
                number: number as u64,
            };
            weaver.over(&original, &mut out)?;
        }
        let forgotten = weaver.finish(&mut out)?;
        self.compacted = made.last().map_or(self.compacted, Stored::end);
        self.complete_history = self.complete_history.max(Offset(forgotten));
        made.extend_from_slice(rest);
        self.batches = made;
        Ok(())
    }
}

impl MemoryLog {
    /// A log without streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// A log without streams, whose compaction forgets every delete.
    pub fn forgetful() -> Self {
        Self { forgetful: true, ..Self::default() }
    }

    fn with<T>(&self, stream: &ServiceName, f: impl FnOnce(&mut Stream) -> T) -> T {
        let mut streams: MutexGuard<'_, _> =
            self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        f(streams.entry(stream.clone()).or_insert_with(Stream::new))
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, stream: &ServiceName, batch: Batch) -> Result<Commit, LogError> {
        self.with(stream, |s| {
            follows(s.track.position, &batch)
                .map_err(|what| LogError::Misplaced { stream: stream.clone(), what })?;
            let next = s.append(batch);
            Ok(Commit::new(async move { Ok(next) }))
        })
    }

    async fn read(
        &self,
        stream: &ServiceName,
        at: Offset,
        max: ByteSize,
    ) -> Result<Chunk, LogError> {
        let mut end = self.with(stream, |s| s.end.subscribe());
        loop {
            end.borrow_and_update();
            let found = self.with(stream, |s| {
                let (first, next) = (s.first, s.track.next);
                if at < first {
                    Err(LogError::Trimmed { stream: stream.clone(), at, first })
                } else if at > next {
                    Err(LogError::Ahead { stream: stream.clone(), at, next })
                } else {
                    Ok((at < next).then(|| s.chunk(at, max)))
                }
            });
            if let Some(chunk) = found? {
                return Ok(chunk);
            }
            if end.changed().await.is_err() {
                return Err(LogError::Closed { stream: stream.clone() });
            }
        }
    }

    async fn tail(&self, stream: &ServiceName) -> Result<Tail, LogError> {
        Ok(self.with(stream, |s| Tail {
            log: s.id,
            first: s.first,
            next: s.track.next,
            position: s.track.position,
            snapshots: s.track.snapshots(),
            schemas: s.track.schemas(),
            bytes: s.batches.iter().map(|b| b.batch.rows.len() as u64).sum(),
            compacted: s.compacted.max(s.first),
            complete_history: s.complete_history.max(s.first),
        }))
    }

    async fn moved(
        &self,
        stream: &ServiceName,
        seen: Option<Position>,
    ) -> Result<(Offset, Option<Position>), LogError> {
        let mut end = self.with(stream, |s| s.end.subscribe());
        match end.wait_for(|(_, position)| *position != seen).await {
            Ok(now) => Ok(*now),
            Err(_) => Err(LogError::Closed { stream: stream.clone() }),
        }
    }

    async fn trim(&self, stream: &ServiceName, keep: Offset) -> Result<(), LogError> {
        self.with(stream, |s| {
            s.batches.retain(|b| b.end() > keep);
            s.first = s.batches.first().map_or(s.track.next, |b| b.base).max(s.first);
        });
        Ok(())
    }

    async fn compact(&self, stream: &ServiceName, upto: Offset) -> Result<Offset, LogError> {
        let horizon = if self.forgetful { i64::MAX } else { i64::MIN };
        self.with(stream, |s| match s.compact(upto, horizon) {
            Ok(()) => Ok(s.compacted.max(s.first)),
            Err(fault) => {
                Err(LogError::Damaged { stream: stream.clone(), what: fault.to_string() })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_testkit::log_suite::Logs;

    struct InMemory;

    #[async_trait]
    impl Logs for InMemory {
        async fn open(&self) -> Box<dyn EventLog> {
            Box::new(MemoryLog::new())
        }
        async fn reopen(&self, _: Box<dyn EventLog>) -> Option<Box<dyn EventLog>> {
            None
        }
    }

    rowcast_testkit::log_suite!(InMemory);
}
