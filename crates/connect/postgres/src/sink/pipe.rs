//! Statements sent without waiting for the answers of those before them.
//!
//! Law: whoever waits for the session while answers are due reads those too. The connection hands on at
//! most two pieces of an answer that nobody takes, and then reads nothing more for anybody: an answer
//! that comes in three pieces, as an error's may, would end all progress without an error.

use super::merge::Unmerged;
use super::target::{Job, Target};
use crate::connect::Session;
use rowcast_core::{Malformed, SinkError};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio_postgres::{Error, Statement};

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
    /// The check that the tables which were written to are the copies.
    Held,
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

type Coming<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

enum Answer<'a> {
    Coming(Coming<'a>),
    Here(Result<u64, Error>),
}

/// A statement on its way.
struct Sent<'a> {
    at: At,
    bytes: usize,
    answer: Answer<'a>,
}

/// What was sent and not answered yet, in order.
pub(super) struct Pipe<'a> {
    pub(super) session: &'a Session,
    pending: VecDeque<Sent<'a>>,
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
        let mut coming: Coming<'a> = Box::pin(answer);
        let polled = poll_fn(|cx| Poll::Ready(coming.as_mut().poll(cx))).await;
        match polled {
            Poll::Ready(Ok(_)) => {}
            // Errors of statements before this one come first.
            Poll::Ready(Err(error)) => {
                self.pending.push_back(Sent { at, bytes: 0, answer: Answer::Here(Err(error)) });
            }
            Poll::Pending => {
                self.bytes += bytes;
                self.pending.push_back(Sent { at, bytes, answer: Answer::Coming(coming) });
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

    /// A prepared statement of a target, after what is on its way.
    pub(super) async fn statement(
        &mut self,
        target: &mut Target,
        job: &Job,
        at: At,
    ) -> Result<Statement, Fail> {
        let prepared = target.statement(self.session, job);
        match self.during(prepared).await {
            Ok(statement) => Ok(statement),
            Err(error) => Err(self.blame(at, error).await),
        }
    }

    /// Waits for the session's answer to something else, and takes those that come before it.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let done = work.as_mut().poll(cx);
            if done.is_pending() {
                self.take_answers(cx);
            }
            done
        })
        .await
    }

    /// Takes the answers that are here, oldest first.
    fn take_answers(&mut self, cx: &mut Context<'_>) {
        for sent in &mut self.pending {
            let Answer::Coming(coming) = &mut sent.answer else { continue };
            match coming.as_mut().poll(cx) {
                Poll::Ready(answer) => sent.answer = Answer::Here(answer),
                Poll::Pending => return,
            }
        }
    }

    async fn oldest(&mut self) -> Result<(), Fail> {
        let Some(Sent { at, bytes, answer }) = self.pending.pop_front() else { return Ok(()) };
        self.bytes -= bytes;
        let answer = match answer {
            Answer::Coming(coming) => coming.await,
            Answer::Here(answer) => answer,
        };
        answer.map(|_| ()).map_err(|error| Fail::Server { at, error })
    }
}
