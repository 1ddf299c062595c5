//! The seam to what remembers: an ordered, durable record of what sources said.

use crate::{
    Batch, Begin, ByteSize, Code, Diagnose, EntityName, Offset, Point, Position, Remedy, Schema,
    ServiceName, Snapshot, Transaction,
};
use async_trait::async_trait;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Identity of one stream, made when the stream is made. A checkpoint remembers it, so that a target
/// never follows the offsets of another log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub u64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A batch as the log holds it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Offset of its first event.
    pub base: Offset,
    /// What was appended.
    pub batch: Arc<Batch>,
}

impl Stored {
    /// The offset after the last one that the batch stands for: where the next batch begins.
    pub fn end(&self) -> Offset {
        Offset(self.base.0 + self.batch.span())
    }

    /// The offset of an event, by its index in the batch. In a compacted batch offsets have gaps.
    pub fn offset(&self, event: usize) -> Offset {
        let place = self.batch.sparse.as_ref().map_or(event as u64, |s| u64::from(s.places[event]));
        Offset(self.base.0 + place)
    }

    /// Index of the first event at or after an offset; the number of events when there is none.
    pub fn index_at(&self, offset: Offset) -> usize {
        let place = offset.0.saturating_sub(self.base.0);
        match &self.batch.sparse {
            None => usize::try_from(place).unwrap_or(usize::MAX).min(self.batch.events.len()),
            Some(sparse) => sparse.places.partition_point(|p| u64::from(*p) < place),
        }
    }

    /// The transaction that an event belongs to, by the event's index.
    pub fn transaction(&self, event: usize) -> Option<&Transaction> {
        let mut end = 0;
        self.batch.transactions.iter().find(|t| {
            end += t.events as usize;
            event < end
        })
    }
}

/// What a read returns.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// At least one, in order, without gaps. The first may begin before the offset asked for; the
    /// reader skips what it has. Batches that stand for no offset are left out; a compacted one may
    /// stand for offsets and hold no event.
    pub batches: Vec<Stored>,
    /// Where to read on.
    pub next: Offset,
    /// [`Tail::complete_history`] of the log that these batches were read from. When it moves beyond
    /// a reader's place, the reader may have missed deletes.
    pub complete_history: Offset,
}

/// The end of a stream, and what it says about going on.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Which log.
    pub log: LogId,
    /// The oldest offset that can still be read.
    pub first: Offset,
    /// The next free offset. Everything before it is durable.
    pub next: Offset,
    /// Position of the last durable batch; `None` while the stream is empty.
    pub position: Option<Position>,
    /// Newest word on every entity's snapshot in this history, with the offset after it. A
    /// [`fresh`](Batch::fresh) batch takes the older ones away.
    pub snapshots: Vec<(Snapshot, Offset)>,
    /// Newest schema of every entity.
    pub schemas: Vec<Arc<Schema>>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Before this offset only every key's latest state is left; `first` when nothing was compacted.
    pub compacted: Offset,
    /// From this offset on every delete is still there. A reader that begins with nothing needs none
    /// of the earlier ones; one that stands before it would keep rows that are gone.
    pub complete_history: Offset,
}

impl Tail {
    /// Offset from which on `entity` is complete: everybody who applied everything before it has
    /// the whole entity. `None` while a snapshot is missing or under way.
    pub fn complete_from(&self, entity: &EntityName) -> Option<Offset> {
        self.snapshots.iter().find(|(s, _)| s.entity == *entity && s.done).map(|(_, at)| *at)
    }
}

/// Resolves once an appended batch is durable, to the offset after it. Commits of one stream resolve
/// in order. Dropping it forgets nothing.
pub struct Commit(Pin<Box<dyn Future<Output = Result<Offset, LogError>> + Send>>);

impl Commit {
    /// A commit that resolves with `future`.
    pub fn new(future: impl Future<Output = Result<Offset, LogError>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for Commit {
    type Output = Result<Offset, LogError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commit")
    }
}

/// An ordered, durable record of what sources said: one stream per publishing service, whose only
/// writer is that service's capture.
///
/// Laws, proved by the conformance suite:
/// - Offsets are dense, one per event. What was durable stays, byte for byte, across any crash, until
///   it is [trimmed](Self::trim) or [compacted](Self::compact).
/// - A reader sees only durable batches, in order, without gaps, each exactly once.
/// - An append whose epoch differs from the tail's is refused unless the batch is
///   [`fresh`](Batch::fresh); so is one whose position lies before the tail's. A batch without
///   events moves the position only.
/// - After a failed sync every append is refused until restart.
/// - After a refused append so is every later one, until its error was read (or dropped) and
///   somebody asked for the [`tail`](Self::tail): what was on its way behind a missing batch never
///   takes its place.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Returns once there is room: this wait is the back-pressure. The commit resolves once the
    /// batch is durable. Not cancel safe: a dropped append may or may not have been taken.
    async fn append(&self, stream: &ServiceName, batch: Batch) -> Result<Commit, LogError>;

    /// Waits at the tail for something to return. About `max` bytes of rows, at least one batch.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] when `at` was forgotten, [`LogError::Ahead`] when it lies after the
    /// tail.
    async fn read(
        &self,
        stream: &ServiceName,
        at: Offset,
        max: ByteSize,
    ) -> Result<Chunk, LogError>;

    /// The end of the stream, once everything appended before this call is settled. Making a stream
    /// that is not there yet is this call's doing.
    async fn tail(&self, stream: &ServiceName) -> Result<Tail, LogError>;

    /// Waits until the tail's position is no longer `seen`. Cancel safe.
    async fn moved(
        &self,
        stream: &ServiceName,
        seen: Option<Position>,
    ) -> Result<(Offset, Option<Position>), LogError>;

    /// Forgets what lies before `keep`, as far as whole segments allow. Repeating it changes
    /// nothing.
    async fn trim(&self, stream: &ServiceName, keep: Offset) -> Result<(), LogError>;

    /// Keeps, of what lies before `upto`, every key's latest state and what is needed to read it, as
    /// far as whole transactions allow; returns the offset up to which that is done. Rows that say
    /// "unchanged" are filled from the rows before them. Whoever reads from the beginning to that
    /// offset or beyond builds the same copy as before; offsets and the tail's words stay. Deletes
    /// stay for as long as the log is set to keep them, and
    /// [`complete_history`](Tail::complete_history) moves when one goes.
    ///
    /// The batches before the returned offset are [`sparse`](Batch::sparse), and only the last of
    /// them is [`whole`](Batch::whole): what lies between no longer is a state the source was in.
    async fn compact(&self, stream: &ServiceName, upto: Offset) -> Result<Offset, LogError>;
}

/// Why the log cannot do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk refused for now: full, or out of descriptors. What is durable stays; nothing of the
    /// refused batch remains.
    #[error("the event log of {stream} cannot be written")]
    Refused {
        /// Which stream.
        stream: ServiceName,
        /// The system's own words.
        source: Arc<std::io::Error>,
    },
    /// A sync failed: what the disk holds is unknown, so the log refuses writes until restart.
    #[error("the event log of {stream} could not be made durable and takes no more writes")]
    Failed {
        /// Which stream.
        stream: ServiceName,
        /// The system's own words.
        source: Arc<std::io::Error>,
    },
    /// Bytes that were durable are no longer what was written.
    #[error("the event log of {stream} is damaged: {what}")]
    Damaged {
        /// Which stream.
        stream: ServiceName,
        /// File, byte and how it shows.
        what: String,
    },
    /// A read of the disk failed.
    #[error("the event log of {stream} cannot be read")]
    Unreadable {
        /// Which stream.
        stream: ServiceName,
        /// The system's own words.
        source: Arc<std::io::Error>,
    },
    /// The offset was forgotten by retention.
    #[error("the event log of {stream} begins at offset {first}; {at} was forgotten by retention")]
    Trimmed {
        /// Which stream.
        stream: ServiceName,
        /// What was asked for.
        at: Offset,
        /// What is there.
        first: Offset,
    },
    /// Deletes that a reader at this offset still needs were forgotten by compaction.
    #[error(
        "the event log of {stream} keeps deletes from offset {complete} on only; a copy that stands \
         at {at} would keep rows that are gone"
    )]
    Forgotten {
        /// Which stream.
        stream: ServiceName,
        /// Where the reader stands.
        at: Offset,
        /// From where on every delete is there.
        complete: Offset,
    },
    /// Somebody wants to begin where the log does not hold everything any more, or did not yet.
    #[error(
        "the event log of {stream} does not hold all of {entity} from {wanted} on: it does from \
         offset {available}{} on",
        position.map(|p| format!(", position {p},")).unwrap_or_default()
    )]
    Older {
        /// Which stream.
        stream: ServiceName,
        /// Of what.
        entity: EntityName,
        /// Where it was to begin.
        wanted: Begin,
        /// From where on everything is there.
        available: Offset,
        /// The source's position there, when it is known.
        position: Option<Position>,
    },
    /// Somebody wants to begin where the log has not come to yet.
    #[error("the event log of {stream} has not come to {wanted} yet: {reached}")]
    NotYet {
        /// Which stream.
        stream: ServiceName,
        /// Where it is to begin.
        wanted: Begin,
        /// Where it is.
        reached: String,
    },
    /// A position of another kind of source.
    #[error("{wanted} is no position of {stream}, whose positions look like {example}")]
    Foreign {
        /// Which stream.
        stream: ServiceName,
        /// Where it is to begin.
        wanted: Begin,
        /// One of its own.
        example: Point,
    },
    /// The offset lies after the end.
    #[error("the event log of {stream} ends at offset {next}, before {at}")]
    Ahead {
        /// Which stream.
        stream: ServiceName,
        /// What was asked for.
        at: Offset,
        /// Where it ends.
        next: Offset,
    },
    /// A batch that does not follow the last one.
    #[error("a batch does not follow the end of {stream}'s event log: {what}")]
    Misplaced {
        /// Which stream.
        stream: ServiceName,
        /// How it shows.
        what: String,
    },
    /// The log was closed; the process is stopping.
    #[error("the event log of {stream} is closed")]
    Closed {
        /// Which stream.
        stream: ServiceName,
    },
}

impl Diagnose for LogError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Refused { .. }
            | Self::Unreadable { .. }
            | Self::NotYet { .. }
            | Self::Closed { .. } => Remedy::Retry,
            Self::Failed { .. } => Remedy::Operator(Code::LogFailed),
            Self::Damaged { .. } => Remedy::Operator(Code::LogDamaged),
            Self::Trimmed { .. } | Self::Forgotten { .. } | Self::Older { .. } => {
                Remedy::Operator(Code::LogTrimmed)
            }
            Self::Foreign { .. } => Remedy::Operator(Code::Subscription),
            Self::Ahead { .. } => Remedy::Operator(Code::SinkCheckpoint),
            Self::Misplaced { .. } => Remedy::Bug,
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Refused { .. } => {
                "free some space on the data directory's disk; capture goes on by itself, and the \
                 source keeps what it has until then"
            }
            Self::Failed { .. } => {
                "look at the disk, then restart `rowcast run`; the source keeps what the log has \
                 not made durable"
            }
            Self::Damaged { .. } => "run `rowcast log check` to see what is damaged",
            Self::Unreadable { .. } => "look at the disk that holds the data directory",
            Self::Trimmed { .. } => {
                "the copy needs what retention removed: `rowcast run --resnapshot SERVICE`, with the \
                 publisher's name, reads every row again, and the copy is built anew beside the old \
                 one; `[log] keep = \"compact\"` keeps it from happening again"
            }
            Self::Forgotten { .. } => {
                "the copy slept longer than deletes are kept, and is built anew beside the old one; \
                 let the log keep them for longer: `[log] tombstones`"
            }
            Self::Older { .. } => {
                "take a newer backup and its position; or leave `from` out: then the copy is built from \
                 the log, beside the rows that are there"
            }
            Self::Foreign { .. } => "`rowcast status` shows where the publisher is",
            Self::NotYet { .. } => {
                "it goes on by itself once the log has come that far; `rowcast status` shows how far it is"
            }
            Self::Ahead { .. } => {
                "the target has applied more than this log holds: this data directory is an old \
                 copy; start `rowcast run` on the newest one"
            }
            Self::Misplaced { .. } => "please report this with the log's lines",
            Self::Closed { .. } => "",
        }
    }
}
