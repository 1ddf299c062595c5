//! How much at once: nothing that a client does, or leaves undone, takes more than its share.

use crate::api::Api;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How much at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. When all are taken, one that does nothing makes room for the next; when none
    /// does nothing, the next is refused.
    pub connections: usize,
    /// Clients that wait at once.
    pub waits: usize,
    /// Clients that follow events at once. Each holds some 2 MiB at most.
    pub streams: usize,
    /// Longest for a request's head to arrive, and for a connection to do nothing between requests.
    pub head_within: Duration,
    /// Bytes of a request's head. At least 8192.
    pub head_bytes: usize,
    /// Bytes of a path with its query.
    pub path_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Longest for an answer, where the request does not ask to wait.
    pub answer_within: Duration,
    /// Longest for a client to take some of what it is sent.
    pub taken_within: Duration,
    /// Longest to wait for connections to end when we stop.
    pub ended_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            waits: 512,
            streams: 64,
            head_within: Duration::from_secs(30),
            head_bytes: 32 << 10,
            path_bytes: 8 << 10,
            body_bytes: 256 << 10,
            answer_within: Duration::from_secs(30),
            taken_within: Duration::from_secs(30),
            ended_within: Duration::from_secs(5),
        }
    }
}

/// Ends a request that takes too long.
pub(crate) async fn in_time(State(api): State<Api>, request: Request, next: Next) -> Response {
    let within = api.limits.answer_within;
    tokio::time::timeout(within, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("there was no answer within {within:?}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
    })
}

/// Refuses a path that no honest request has.
pub(crate) async fn short_enough(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    if path > api.limits.path_bytes {
        let detail = format!("a path has at most {} bytes", api.limits.path_bytes);
        return Problem::new(StatusCode::URI_TOO_LONG, detail).into_response();
    }
    next.run(request).await
}

/// A connection whose other end has to take what it is sent: one that does not is broken off, with
/// all that was buffered for it.
pub(crate) struct Taken<S> {
    inner: S,
    within: Duration,
    /// Runs while the other end takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Taken<S> {
    pub(crate) fn new(inner: S, within: Duration) -> Self {
        Self { inner, within, stuck: None }
    }

    /// Lets a write's result pass, and turns waiting too long into an error.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stuck = None;
            return result;
        }
        let deadline = Instant::now() + self.within;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.judge(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.judge(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
