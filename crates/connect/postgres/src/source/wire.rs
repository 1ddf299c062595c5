//! A thin client of PostgreSQL's wire protocol: start-up, simple queries, `COPY TO STDOUT` and
//! streaming replication. Values stay in the receive buffer; who reads them takes slices of it.
//!
//! It exists because tokio-postgres has no replication mode. It takes the same address, so both
//! kinds of connection mean the same server, user and TLS.

mod login;
mod socket;

use crate::connect::{ConnectError, Fault, fault_of_state};
use crate::need::is_pooler;
use bytes::{Buf, BytesMut};
use futures::FutureExt;
pub(crate) use login::Purpose;
use postgres_protocol::message::{backend, frontend};
use socket::Stream;
use std::fmt;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Free room made before each read. What a read returns is mostly bounded by the socket's own
/// buffer, which the kernel tunes by itself as long as nobody sets its size.
const READ_BYTES: usize = 256 << 10;
/// A buffer that one giant message blew up beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// What the server said no with.
#[derive(Debug)]
pub(crate) struct ServerError {
    /// SQLSTATE.
    pub(crate) state: String,
    /// Its words, without the detail that could hold a row's values.
    pub(crate) message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.state)
    }
}

impl std::error::Error for ServerError {}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The connection broke or never came to be.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The server refused.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No TLS as it was asked for.
    #[error(transparent)]
    Tls(#[from] ConnectError),
    /// The way in is not one we know.
    #[error("{0}")]
    Login(&'static str),
    /// What came is not the protocol.
    #[error("the server sent {0}")]
    Protocol(&'static str),
}

impl WireError {
    /// What kind of trouble it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Io(e) => match e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(_)) => Fault::Setup,
                _ => Fault::Outage,
            },
            Self::Server(_) if self.is_pooled() => Fault::Setup,
            Self::Server(e) => fault_of_state(&e.state),
            Self::Tls(e) => e.fault(),
            Self::Login(_) => Fault::Setup,
            Self::Protocol(_) => Fault::Data,
        }
    }

    /// A pooler answered, and not the server itself.
    pub(crate) fn is_pooled(&self) -> bool {
        matches!(self, Self::Server(e) if is_pooler(&e.state, &e.message))
    }

    /// The SQLSTATE, when the server gave one.
    pub(crate) fn state(&self) -> Option<&str> {
        match self {
            Self::Server(e) => Some(&e.state),
            _ => None,
        }
    }
}

/// The rows of a simple query, as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;
/// A row as the server sent it.
pub(crate) type RawRow = Vec<Option<Vec<u8>>>;

/// A connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: BytesMut,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({} bytes buffered)", self.input.len())
    }
}

/// A whole message at the front of the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// What it is.
    pub(crate) tag: u8,
    /// What it says.
    pub(crate) body: &'a [u8],
    /// Bytes it takes.
    pub(crate) size: usize,
}

/// Cuts the first message from `bytes`; `None` when it is not all there.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, WireError> {
    let Some((head, _)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length < 4 || length > i32::MAX as usize {
        return Err(WireError::Protocol("a message with an impossible length"));
    }
    let size = length + 1;
    Ok(bytes.get(5..size).map(|body| Frame { tag: head[0], body, size }))
}

impl Wire {
    fn new(stream: Box<dyn Stream>) -> Self {
        let input = BytesMut::with_capacity(READ_BYTES);
        Self { stream, input, output: BytesMut::new() }
    }

    /// What was received and not consumed yet.
    pub(crate) fn received(&self) -> &[u8] {
        &self.input
    }

    /// Forgets the first `bytes` received.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.input.advance(bytes);
    }

    fn make_room(&mut self) {
        if self.input.is_empty() && self.input.capacity() > BUFFER_BYTES_KEPT {
            self.input = BytesMut::new();
        }
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
    }

    /// Waits for bytes; says how many came. Cancel safe.
    pub(crate) async fn fill(&mut self) -> Result<usize, WireError> {
        self.make_room();
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(closed()),
            n => Ok(n),
        }
    }

    /// Takes the bytes that are there already; 0 when there are none.
    pub(crate) async fn fill_now(&mut self) -> Result<usize, WireError> {
        self.make_room();
        match self.stream.read_buf(&mut self.input).now_or_never() {
            None => Ok(0),
            Some(Ok(0)) => Err(closed()),
            Some(read) => Ok(read?),
        }
    }

    /// Waits until a whole message stands at the front of the buffer. Cancel safe.
    pub(crate) async fn message(&mut self) -> Result<Frame<'_>, WireError> {
        while frame(&self.input)?.is_none() {
            self.fill().await?;
        }
        frame(&self.input)?.ok_or(WireError::Protocol("nothing"))
    }

    /// Sends what `write` puts into the buffer.
    pub(crate) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), WireError> {
        self.output.clear();
        write(&mut self.output)?;
        self.stream.write_all(&self.output).await?;
        Ok(self.stream.flush().await?)
    }

    /// Asks and gathers the rows of the answer; several statements give all their rows. After an
    /// error of the server the connection can be used on.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Rows, WireError> {
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        let texts = |row: RawRow| row.into_iter().map(|value| value.map(text)).collect();
        Ok(self.query_raw(sql).await?.into_iter().map(texts).collect())
    }

    /// As [`query`](Self::query), with the bytes of the values.
    pub(crate) async fn query_raw(&mut self, sql: &str) -> Result<Vec<RawRow>, WireError> {
        self.send(|out| frontend::query(sql, out)).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let frame = self.message().await?;
            let size = frame.size;
            match frame.tag {
                backend::DATA_ROW_TAG => rows.push(data_row(frame.body)?),
                backend::ERROR_RESPONSE_TAG => failed = Some(server_error(frame.body)),
                backend::READY_FOR_QUERY_TAG => {
                    self.consume(size);
                    return failed.map_or(Ok(rows), |e| Err(e.into()));
                }
                _ => {}
            }
            self.consume(size);
        }
    }

    /// Sends `sql` and waits until the server begins to stream (`COPY` of either kind).
    pub(crate) async fn stream(&mut self, sql: &str) -> Result<(), WireError> {
        const COPY_BOTH_TAG: u8 = b'W';
        self.send(|out| frontend::query(sql, out)).await?;
        let mut failed: Option<ServerError> = None;
        loop {
            let frame = self.message().await?;
            let size = frame.size;
            match frame.tag {
                backend::ERROR_RESPONSE_TAG => failed = Some(server_error(frame.body)),
                COPY_BOTH_TAG | backend::COPY_OUT_RESPONSE_TAG => {
                    self.consume(size);
                    return Ok(());
                }
                backend::READY_FOR_QUERY_TAG => {
                    self.consume(size);
                    let nothing = WireError::Protocol("nothing where a stream should begin");
                    return Err(failed.map_or(nothing, Into::into));
                }
                _ => {}
            }
            self.consume(size);
        }
    }
}

fn closed() -> WireError {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into()
}

fn data_row(body: &[u8]) -> Result<RawRow, WireError> {
    const BAD: WireError = WireError::Protocol("a malformed row");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(BAD)?;
    let mut row = Vec::with_capacity(usize::from(u16::from_be_bytes(*count)));
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(BAD)?;
        rest = after;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            continue;
        };
        let (value, after) = rest.split_at_checked(length).ok_or(BAD)?;
        row.push(Some(value.to_vec()));
        rest = after;
    }
    Ok(row)
}

/// Reads an error message of the server.
pub(crate) fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError { state: String::new(), message: String::new() };
    for field in body.split(|b| *b == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        match kind {
            b'C' => error.state = String::from_utf8_lossy(text).into_owned(),
            b'M' => error.message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_from_a_server_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = frame(&bytes);
            let _ = data_row(&bytes);
            let _ = server_error(&bytes);
        }
    }

    #[test]
    fn a_message_is_cut_only_when_it_is_whole() {
        let bytes = [b'Z', 0, 0, 0, 5, b'I', b'X'];
        assert!(frame(&bytes[..5]).unwrap().is_none());
        let whole = frame(&bytes).unwrap().unwrap();
        assert_eq!((whole.tag, whole.body, whole.size), (b'Z', &b"I"[..], 6));
    }
}
