//! One client that follows a stream. Its place is all that is kept of it between two reads; the log
//! is read when the client has taken what was read before.

use super::cloud_event::write_event;
use super::walk::Walk;
use crate::api::Api;
use crate::auth::{Caller, Grant};
use crate::problem::Problem;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use rowcast_core::{ByteSize, Chunk, EntityName, LogError, Offset, Op, ServiceName, Stored};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// Rows taken from the log at once; one batch at least, which is about 1 MiB.
const READ_MAX: ByteSize = ByteSize(256 << 10);
/// Text handed on at once, when no single event is longer.
const TEXT_MAX: usize = 64 << 10;
/// How often a quiet stream says that it is there.
const STILL_HERE: Duration = Duration::from_secs(15);
/// What a stream begins with: how long to wait before connecting again.
const HELLO: &str = "retry: 2000\n\n";

/// Which part of a stream to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Where to begin.
    pub(crate) at: Offset,
    /// Where to end; never when absent.
    pub(crate) until: Option<Offset>,
    /// How many events at most.
    pub(crate) left: Option<u64>,
}

pub(crate) struct Follow {
    api: Api,
    caller: Caller,
    /// Tells when tokens change.
    grants: watch::Receiver<Arc<[Grant]>>,
    service: ServiceName,
    entity: Option<EntityName>,
    /// What is read and not told yet.
    read: VecDeque<Stored>,
    walk: Option<Walk>,
    /// Where to read on.
    at: Offset,
    /// The end of what was read: a compacted log may hold no event just before it.
    read_to: Offset,
    /// Where to end; never when absent.
    until: Option<Offset>,
    /// How many more events to tell; all when absent.
    left: Option<u64>,
    /// What the caller may read; all when absent.
    readable: Option<Vec<EntityName>>,
    _seat: OwnedSemaphorePermit,
}

impl Follow {
    pub(crate) fn new(
        api: Api,
        caller: Caller,
        service: ServiceName,
        entity: Option<EntityName>,
        part: Part,
        seat: OwnedSemaphorePermit,
    ) -> Self {
        let Part { at, until, left } = part;
        let (read, walk, readable, read_to) = (VecDeque::new(), None, None, at);
        let mut grants = api.access.changes();
        // They may have changed since the caller showed its token.
        grants.mark_changed();
        Self {
            api,
            caller,
            grants,
            service,
            entity,
            read,
            walk,
            at,
            read_to,
            until,
            left,
            readable,
            _seat: seat,
        }
    }

    /// The text, in pieces, until the client goes or we stop.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        let hello = stream::once(async { Ok(Bytes::from_static(HELLO.as_bytes())) });
        let told = stream::unfold(Some(self), |follow| async {
            let mut follow = follow?;
            let (piece, goes_on) = match follow.piece().await {
                Piece::Text(text) => (text, true),
                Piece::Last(problem) => (farewell(&problem), false),
                Piece::Stopped => return None,
            };
            Some((Ok(piece.into()), goes_on.then_some(follow)))
        });
        hello.chain(told)
    }

    async fn piece(&mut self) -> Piece {
        let quiet_until = Instant::now() + STILL_HERE;
        loop {
            // What is all filtered out must not keep others from running.
            tokio::task::consume_budget().await;
            if let Err(problem) = self.still_may() {
                return Piece::Last(problem);
            }
            let mut text = Vec::new();
            self.tell(&mut text);
            if !text.is_empty() {
                return Piece::Text(text);
            }
            if self.is_over() {
                return Piece::Stopped;
            }
            if Instant::now() >= quiet_until {
                return Piece::Text(self.still_here());
            }
            let read = self.api.board.read(&self.service, self.at, READ_MAX);
            let read = tokio::time::timeout_at(quiet_until, read);
            let read = tokio::select! {
                read = self.api.stop.run_until_cancelled(read) => read,
                Ok(()) = self.grants.changed() => {
                    self.grants.mark_changed();
                    continue;
                }
            };
            match read {
                None => return Piece::Stopped,
                Some(Err(_)) => return Piece::Text(self.still_here()),
                Some(Ok(Err(LogError::Closed { .. }))) => return Piece::Stopped,
                Some(Ok(Err(e))) => return Piece::Last(Problem::of(&e)),
                Some(Ok(Ok(chunk))) => {
                    if let Err(problem) = self.take(chunk) {
                        return Piece::Last(problem);
                    }
                }
            }
        }
    }

    /// Asks again who follows, when tokens have changed: one that was taken back ends its streams.
    fn still_may(&mut self) -> Result<(), Problem> {
        if self.grants.has_changed().unwrap_or(false) {
            self.grants.mark_unchanged();
            self.caller = self.api.access.again(&self.caller)?;
            self.readable = self.caller.readable(&self.api.board, &self.service)?;
        }
        Ok(())
    }

    /// Looks again at what the caller may read: subscriptions change while a stream is followed.
    fn take(&mut self, chunk: Chunk) -> Result<(), Problem> {
        self.readable = self.caller.readable(&self.api.board, &self.service)?;
        self.walk = None;
        self.read_to = chunk.next;
        self.read = chunk.batches.into();
        Ok(())
    }

    /// Writes as much as fits of what was read.
    fn tell(&mut self, text: &mut Vec<u8>) {
        while text.len() < TEXT_MAX && !self.is_over() {
            let Some(walk) = &mut self.walk else {
                let Some(stored) = self.read.pop_front() else {
                    self.at = self.at.max(self.read_to);
                    return;
                };
                self.walk = Some(Walk::new(stored, self.at));
                continue;
            };
            let Some((offset, batch, event, at)) = walk.next() else {
                self.walk = None;
                continue;
            };
            self.at = Offset(offset + 1);
            let entity = &batch.schema(event).entity;
            let wanted = self.entity.as_ref().is_none_or(|e| e == entity)
                && self.readable.as_ref().is_none_or(|r| r.contains(entity))
                && is_change(event.op);
            if wanted {
                self.left = self.left.map(|left| left - 1);
                text.extend_from_slice(format!("id: {offset}\ndata: ").as_bytes());
                write_event(text, &self.service, offset, batch, event, at);
                text.extend_from_slice(b"\n\n");
            }
        }
    }

    fn is_over(&self) -> bool {
        self.left == Some(0) || self.until.is_some_and(|until| self.at >= until)
    }

    /// A comment, and the offset up to which there was nothing to tell: a client that connects again
    /// does not make us look at all of that once more.
    fn still_here(&self) -> Vec<u8> {
        match self.at.0.checked_sub(1) {
            Some(last) => format!(": still here\nid: {last}\n\n").into(),
            None => b": still here\n\n".into(),
        }
    }
}

enum Piece {
    Text(Vec<u8>),
    /// It cannot go on.
    Last(Problem),
    /// We end.
    Stopped,
}

/// Whether an event changes rows; the others are between capture and routes.
fn is_change(op: Op) -> bool {
    match op {
        Op::Create | Op::Update | Op::Delete | Op::Read | Op::Truncate => true,
        Op::Schema | Op::Complete | Op::End => false,
    }
}

/// Why a stream ends, as an event of another name.
fn farewell(problem: &Problem) -> Vec<u8> {
    let json = serde_json::to_string(problem).unwrap_or_default();
    format!("event: problem\ndata: {json}\n\n").into()
}
