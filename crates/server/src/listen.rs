//! Connections: accepted, bounded in number, and ended in order.

mod guests;

use crate::api::{Api, Serving};
use crate::limits::{Limits, Taken};
use crate::router::router;
use crate::tls::Tls;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use guests::{Guest, Guests};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// How long accepting rests after the system refused, as it does without free descriptors.
const REST: Duration = Duration::from_millis(500);
/// Said to a connection for which there is no room.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 5\r\nconnection: close\r\ncontent-length: 111\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
    \"detail\":\"all connections are taken and busy\"}";

/// Answers on `listener` until `stop`; then lets requests end that can, and breaks off the rest.
pub async fn serve(listener: TcpListener, serving: Serving, stop: CancellationToken) {
    let limits = serving.limits;
    let door = Door {
        router: router(Api::new(&serving, stop.clone())),
        tls: serving.tls,
        limits,
        stop: stop.clone(),
    };
    let guests = Guests::new(limits.connections);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match guests.admit() {
                    Some(guest) => drop(connections.spawn(door.clone().attend(stream, guest))),
                    None => turn_away(stream, door.tls.is_some()),
                },
                Err(e) if is_the_clients(&e) => {}
                Err(e) => {
                    tracing::warn!("no connections can be accepted for a moment: {e}");
                    stop.run_until_cancelled(tokio::time::sleep(REST)).await;
                }
            },
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.ended_within, ended).await.is_err() {
        tracing::debug!("{} connections are broken off", connections.len());
    }
}

/// Errors of one connection that died before we took it.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Says that there is no room, if that can be said without waiting.
fn turn_away(stream: TcpStream, encrypted: bool) {
    if !encrypted {
        let _ = stream.try_write(FULL);
    }
}

/// What every connection gets a copy of.
#[derive(Clone)]
struct Door {
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    stop: CancellationToken,
}

impl Door {
    async fn attend(self, stream: TcpStream, guest: Guest) {
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.converse(stream, guest).await };
        let greeting = tokio::time::timeout(self.limits.head_within, tls.accept(stream));
        let greeted = tokio::select! {
            greeted = greeting => greeted,
            () = guest.told_to_leave() => return,
            () = self.stop.cancelled() => return,
        };
        match greeted {
            Ok(Ok(stream)) => self.converse(stream, guest).await,
            Ok(Err(e)) => tracing::debug!("a TLS handshake failed: {e}"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, guest: Guest) {
        let io = TokioIo::new(Taken::new(stream, self.limits.taken_within));
        let answer = service_fn(|request: Request<Incoming>| {
            let busy = guest.busy();
            let answer = self.router.clone().call(request.map(Body::new));
            async move { answer.await.map(|response| response.map(|body| busy.until_sent(body))) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_within)
            .max_buf_size(self.limits.head_bytes)
            .serve_connection(io, answer);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = guest.told_to_leave() => return,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(e) = ended {
            tracing::debug!("a connection broke: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 503);
    }
}
