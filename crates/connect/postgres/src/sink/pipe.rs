//! Statements sent without waiting for the answers of those before them.

use super::merge::Unmerged;
use crate::connect::Session;
use rowcast_core::{Malformed, SinkError};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use tokio_postgres::Error;

/// Statements on their way at most; bounds what a slow server makes us hold.
const ON_THE_WAY_MAX: usize = 64;
/// The same in bytes of parameters.
const BYTES_MAX: usize = 2 << 20;

/// Which statement it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The beginning, with the checkpoint's step.
    Begin,
    /// One change, by its index.
    Change(u32),
    /// A set for a target.
    Set(usize),
    /// The commit, where constraints that waited are looked at.
    Commit,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Fail {
    /// The server said no.
    Server { at: At, error: Error },
    /// A value has no text that the column would take.
    Unfit { change: u32, what: &'static str },
    /// Merged changes contradict each other.
    Unmerged(Unmerged),
    /// `COPY` into a target failed in a way after which the session cannot be trusted.
    Copy { target: usize, error: Error },
    /// Anything else, in the seam's words.
    Sink(Box<SinkError>),
}

impl From<SinkError> for Fail {
    fn from(error: SinkError) -> Self {
        Self::Sink(Box::new(error))
    }
}

impl From<Unmerged> for Fail {
    fn from(unmerged: Unmerged) -> Self {
        Self::Unmerged(unmerged)
    }
}

impl From<Malformed> for Fail {
    fn from(_: Malformed) -> Self {
        Self::Unmerged(Unmerged::Malformed)
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// What was sent and not answered yet, in order.
pub(super) struct Pipe<'a> {
    pub(super) session: &'a Session,
    pending: VecDeque<(At, usize, Result<Answer<'a>, Error>)>,
    bytes: usize,
}

impl<'a> Pipe<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        Self { session, pending: VecDeque::new(), bytes: 0 }
    }

    /// Sends plain SQL.
    pub(super) async fn simple(&mut self, at: At, sql: String) -> Result<(), Fail> {
        let session = self.session;
        let bytes = sql.len();
        let answer = async move { session.batch_execute(&sql).await.map(|()| 0) };
        self.send(at, bytes, answer).await
    }

    /// Sends one statement; its first poll writes it, the answer comes later. Waits only when too
    /// much is on its way, and then for the oldest.
    pub(super) async fn send(
        &mut self,
        at: At,
        bytes: usize,
        answer: impl Future<Output = Result<u64, Error>> + Send + 'a,
    ) -> Result<(), Fail> {
        let mut answer: Answer<'a> = Box::pin(answer);
        let polled = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
        match polled {
            Poll::Ready(Ok(_)) => {}
            // Errors of statements before this one come first.
            Poll::Ready(Err(error)) => self.pending.push_back((at, 0, Err(error))),
            Poll::Pending => {
                self.bytes += bytes;
                self.pending.push_back((at, bytes, Ok(answer)));
            }
        }
        while self.pending.len() > ON_THE_WAY_MAX || self.bytes > BYTES_MAX {
            self.oldest().await?;
        }
        Ok(())
    }

    /// Waits for every answer; the first error in order counts.
    pub(super) async fn drain(&mut self) -> Result<(), Fail> {
        while !self.pending.is_empty() {
            self.oldest().await?;
        }
        Ok(())
    }

    /// The cause of a statement's failure: an earlier one's, if one is still on its way.
    pub(super) async fn blame(&mut self, at: At, error: Error) -> Fail {
        match self.drain().await {
            Err(earlier) => earlier,
            Ok(()) => Fail::Server { at, error },
        }
    }

    /// The failure that came first: an earlier statement's, if one is still on its way, or this one.
    pub(super) async fn earlier(&mut self, fail: Fail) -> Fail {
        self.drain().await.err().unwrap_or(fail)
    }

    async fn oldest(&mut self) -> Result<(), Fail> {
        let Some((at, bytes, answer)) = self.pending.pop_front() else { return Ok(()) };
        self.bytes -= bytes;
        let answer = match answer {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        answer.map(|_| ()).map_err(|error| Fail::Server { at, error })
    }
}
