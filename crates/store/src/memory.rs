//! A log in memory, for tests. It keeps the seam's laws and forgets everything with the process.

use crate::track::{Track, follows};
use async_trait::async_trait;
use rowcast_core::{
    Batch, ByteSize, Chunk, Commit, EventLog, LogError, LogId, Offset, Position, ServiceName,
    Stored, Tail,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Streams in memory. What is appended is as durable as the process.
#[derive(Debug, Default)]
pub struct MemoryLog {
    streams: Mutex<HashMap<ServiceName, Stream>>,
}

#[derive(Debug)]
struct Stream {
    id: LogId,
    first: Offset,
    batches: Vec<Stored>,
    track: Track,
    end: watch::Sender<(Offset, Option<Position>)>,
}

impl Stream {
    fn new() -> Self {
        let end = watch::Sender::new((Offset(0), None));
        let id = LogId(rand::random());
        Self { id, first: Offset(0), batches: Vec::new(), track: Track::default(), end }
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
        Chunk { batches, next }
    }
}

impl MemoryLog {
    /// A log without streams.
    pub fn new() -> Self {
        Self::default()
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
