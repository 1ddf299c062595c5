//! Clients as plain as can be, so that nothing of theirs hides what is sent.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Asserts that it is a problem as it should be.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], status, "{json}");
        for member in ["type", "title", "detail"] {
            assert!(!json[member].as_str().unwrap_or_default().is_empty(), "{member} of {json}");
        }
        json
    }
}

/// Sends a request line and headers, each with its line end.
pub(crate) async fn ask(address: SocketAddr, request: &str, headers: &str) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let text =
        format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    exchange(stream, text.as_bytes()).await.expect("an answer")
}

/// Sends bytes as they are; `None` when the connection ends without an answer in text.
pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> Option<Answer> {
    // A server that has heard enough may close before it has heard all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head[9..12].parse().unwrap();
    Some(Answer { status, head: head.to_string(), body: body.to_string() })
}

/// One who follows a stream of events.
pub(crate) struct Follower(BufReader<TcpStream>);

/// An event as it was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) id: Option<u64>,
    pub(crate) name: Option<String>,
    pub(crate) data: Value,
}

impl Follower {
    /// Begins to follow; HTTP/1.0, so that the answer comes as one piece.
    pub(crate) async fn new(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut this = Self(BufReader::new(stream));
        let head = this.block().await.expect("an answer");
        assert!(head[0].contains(" 200 "), "{head:?}");
        assert!(head.iter().any(|l| l == "content-type: text/event-stream"), "{head:?}");
        this
    }

    /// The lines up to the next empty one; `None` at the end.
    async fn block(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).await;
            if !read.is_ok_and(|n| n > 0) {
                return None;
            }
            match line.trim_end() {
                "" => return Some(lines),
                line => lines.push(line.to_string()),
            }
        }
    }

    /// The next event with data; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        loop {
            let lines = self.block().await?;
            let field =
                |name: &str| lines.iter().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
            if let Some(data) = field("data") {
                let data = serde_json::from_str(data).unwrap();
                let id = field("id").map(|id| id.parse().unwrap());
                return Some(Sent { id, name: field("event").map(str::to_string), data });
            }
        }
    }

    /// The next `count` events as (offset, what happened, subject, value).
    pub(crate) async fn told(&mut self, count: usize) -> Vec<(u64, String, String, String)> {
        let mut told = Vec::new();
        for _ in 0..count {
            let sent = self.next().await.expect("another event");
            let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
            let (kind, subject) = (text(&sent.data["type"]), text(&sent.data["subject"]));
            told.push((sent.id.unwrap(), kind, subject, text(&sent.data["data"]["value"])));
        }
        told
    }
}
