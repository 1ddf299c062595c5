//! Reads tables under the snapshot, in the order of their keys, and cuts them into chunks.

use super::{Todo, Wire, WireError, key_hash};
use crate::source::assemble::Writer;
use crate::source::catalog::file_now;
use crate::source::copy;
use crate::source::shape::Shape;
use crate::source::wire::server_error;
use bytes::Bytes;
use postgres_protocol::message::backend;
use rowcast_core::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Rows of one entity, in key order.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Whose.
    pub(crate) entity: usize,
    /// What they look like.
    pub(crate) shape: Arc<Shape>,
    /// Packed, one after another.
    pub(crate) bytes: Vec<u8>,
    /// Of each row: where it ends in `bytes`, and the hash of its key.
    pub(crate) rows: Vec<(u32, u128)>,
    /// Where to go on after the last one.
    pub(crate) cursor: Bytes,
    /// Rows read so far, earlier chunks included.
    pub(crate) total: u64,
    pub(crate) estimate: Option<u64>,
    /// The last one.
    pub(crate) done: bool,
}

/// Why a reader stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The table is no longer the one that was to be read: look again, and begin again.
    Changed,
    /// The connection or the server.
    Wire(WireError),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        let changed = matches!(error.state(), Some(s) if s.starts_with("42") && s != "42501");
        if changed { Self::Changed } else { Self::Wire(error) }
    }
}

type Sender = mpsc::Sender<Result<Chunk, Failure>>;

/// One connection that reads one table after another.
pub(super) struct Reader {
    wire: Wire,
    queue: Arc<Mutex<VecDeque<Todo>>>,
    send: Sender,
    bytes_max: usize,
}

impl Reader {
    pub(super) fn new(
        wire: Wire,
        queue: Arc<Mutex<VecDeque<Todo>>>,
        send: Sender,
        bytes_max: usize,
    ) -> Self {
        Self { wire, queue, send, bytes_max }
    }

    /// Reads until nothing is left. A receiver that is gone ends it too.
    pub(super) async fn run(mut self) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(todo) = next else { return };
            match self.table(todo).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => {
                    // The receiver ends the snapshot on it; one that is gone has ended already.
                    let _ = self.send.send(Err(failure)).await;
                    return;
                }
            }
        }
    }

    /// One table; `false` when nobody listens any more.
    async fn table(&mut self, todo: Todo) -> Result<bool, Failure> {
        self.wire.stream(&todo.copy()).await?;
        let mut making = Making::new(todo);
        loop {
            let frame = self.wire.message().await?;
            let size = frame.size;
            let ended = match frame.tag {
                backend::COPY_DATA_TAG => {
                    making.line(frame.body)?;
                    false
                }
                backend::ERROR_RESPONSE_TAG => {
                    return Err(WireError::from(server_error(frame.body)).into());
                }
                tag => tag == backend::READY_FOR_QUERY_TAG,
            };
            self.wire.consume(size);
            if ended && !self.is_as_seen(&making.todo).await? {
                return Err(Failure::Changed);
            }
            if making.chunk.bytes.len() >= self.bytes_max || ended {
                let chunk = making.take(ended);
                if self.send.send(Ok(chunk)).await.is_err() {
                    return Ok(false);
                }
            }
            if ended {
                return Ok(true);
            }
        }
    }

    /// Whether the files that were read are those that the snapshot speaks of. To a snapshot from
    /// before it, a table that was written anew looks empty. From here on it cannot be: reading
    /// locked it.
    async fn is_as_seen(&mut self, todo: &Todo) -> Result<bool, WireError> {
        let now = file_now(&mut self.wire, todo.begin.oid).await?;
        Ok(todo.begin.made.as_ref().is_none_or(|made| made.file() == now))
    }
}

/// The chunk in the making.
struct Making {
    todo: Todo,
    chunk: Chunk,
    /// The last row's key, in key order.
    last: Vec<Vec<u8>>,
    unescaped: Vec<u8>,
    hashed: Vec<u8>,
}

impl Making {
    fn new(todo: Todo) -> Self {
        let cursor = match &todo.after {
            Some(values) => todo.cursor(values.clone()),
            None => todo.begin.write(),
        };
        let chunk = Chunk {
            entity: todo.entity,
            shape: Arc::new(todo.shape.clone()),
            bytes: Vec::new(),
            rows: Vec::new(),
            cursor,
            total: todo.rows,
            estimate: todo.estimate,
            done: false,
        };
        let last = vec![Vec::new(); todo.key.len()];
        Self { todo, chunk, last, unescaped: Vec::new(), hashed: Vec::new() }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        const BAD: Failure = Failure::Wire(WireError::Protocol("a malformed row of COPY"));
        let line = line.strip_suffix(b"\n").ok_or(BAD)?;
        let columns = &self.chunk.shape.schema.columns;
        let mut writer = Writer::new(&mut self.chunk.bytes, &self.chunk.shape);
        let (mut i, last) = (0, &mut self.last);
        let count = copy::values(line, &mut self.unescaped, |value| {
            if let (Some(place), Some(value)) = (columns.get(i).and_then(|c| c.key), value) {
                let place = &mut last[usize::from(place)];
                place.clear();
                place.extend_from_slice(value);
            }
            i += 1;
            writer.push(value.map_or(Value::Null, Value::Text));
        });
        if count.ok() != Some(columns.len()) {
            return Err(BAD);
        }
        let in_row_order = columns.iter().filter_map(|c| c.key);
        let key = in_row_order.map(|place| self.last[usize::from(place)].as_slice());
        let hash = key_hash(self.chunk.entity, key, &mut self.hashed);
        self.chunk.rows.push((self.chunk.bytes.len() as u32, hash));
        self.chunk.total += 1;
        Ok(())
    }

    fn take(&mut self, done: bool) -> Chunk {
        if !self.chunk.rows.is_empty() {
            self.chunk.cursor = self.todo.cursor(self.last.clone());
        }
        let next = Chunk {
            entity: self.chunk.entity,
            shape: self.chunk.shape.clone(),
            bytes: Vec::with_capacity(self.chunk.bytes.len()),
            rows: Vec::with_capacity(self.chunk.rows.len()),
            cursor: self.chunk.cursor.clone(),
            total: self.chunk.total,
            estimate: self.chunk.estimate,
            done: false,
        };
        let mut chunk = std::mem::replace(&mut self.chunk, next);
        chunk.done = done;
        chunk
    }
}
