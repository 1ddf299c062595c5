//! Rows of a query as a server copies them out, packed in sets.

use super::copy;
use super::wire::{Rows, Wire, WireError, server_error};
use postgres_protocol::message::backend;
use rowcast_core::{RowSet, RowWriter, Value};

/// Bytes of rows in a set.
const SET_BYTES: usize = 256 << 10;

/// A connection that reads rows, one query after another.
#[derive(Debug)]
pub(crate) struct CopyOut {
    wire: Wire,
    width: usize,
    reading: bool,
    unescaped: Vec<u8>,
}

impl CopyOut {
    /// Reads over a connection.
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, width: 0, reading: false, unescaped: Vec::new() }
    }

    /// Asks beside the reading; what was left to read is skipped.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Rows, WireError> {
        self.skip().await?;
        self.wire.query(sql).await
    }

    /// Begins to read `select`, whose rows have `width` columns.
    pub(crate) async fn begin(&mut self, select: &str, width: usize) -> Result<(), WireError> {
        self.skip().await?;
        self.wire.stream(&format!("COPY ({select}) TO STDOUT")).await?;
        (self.width, self.reading) = (width, true);
        Ok(())
    }

    async fn skip(&mut self) -> Result<(), WireError> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// The next rows; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RowSet>, WireError> {
        let mut set = RowSet::new();
        while self.reading && set.bytes() < SET_BYTES {
            let frame = self.wire.message().await?;
            let size = frame.size;
            match frame.tag {
                backend::COPY_DATA_TAG => {
                    line(frame.body, self.width, &mut self.unescaped, &mut set)?;
                }
                backend::ERROR_RESPONSE_TAG => return Err(server_error(frame.body).into()),
                backend::READY_FOR_QUERY_TAG => self.reading = false,
                _ => {}
            }
            self.wire.consume(size);
        }
        Ok((!set.is_empty()).then_some(set))
    }
}

fn line(
    line: &[u8],
    width: usize,
    unescaped: &mut Vec<u8>,
    set: &mut RowSet,
) -> Result<(), WireError> {
    const BAD: WireError = WireError::Protocol("a malformed row");
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut count = Ok(0);
    set.push(|into| {
        let mut writer = RowWriter::new(into);
        count = copy::values(line, unescaped, |v| writer.push(v.map_or(Value::Null, Value::Text)));
    });
    if count.ok() == Some(width) { Ok(()) } else { Err(BAD) }
}
