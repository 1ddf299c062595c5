//! One file's rows as they were at one moment, for comparing a copy with its source.
//!
//! A read transaction stays open from the look on. Where there is no write-ahead log, writers wait
//! for it.

use crate::database::blocking;
use rowcast_core::{RowSet, RowWriter, Value};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

mod copies;
mod source;

pub(crate) use copies::SqliteCopies;
pub(crate) use source::SqliteView;

/// Bytes of rows in a set.
const SET_BYTES: usize = 256 << 10;
/// Sets that may wait to be taken.
const WAITING: usize = 2;

/// A connection whose rows are read beside its owner.
#[derive(Debug, Clone)]
struct Reading {
    connection: Arc<Mutex<Connection>>,
}

/// The rows of one query. An empty set ends them.
type Sets = mpsc::Receiver<Result<RowSet, Error>>;

impl Reading {
    fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: Arc::new(Mutex::new(crate::file::open(path)?)) })
    }

    /// A panic between two statements leaves a connection as good as before.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something; waits until an earlier query has noticed that nobody takes its rows.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> T {
        let reading = self.clone();
        blocking(move || ask(&reading.lock())).await
    }

    /// Begins to read a query's rows.
    fn select(&self, sql: String) -> Sets {
        let (send, sets) = mpsc::channel(WAITING);
        let reading = self.clone();
        // It ends with the rows, or once nobody takes them.
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&reading.lock(), &sql, &send) {
                let _ = send.blocking_send(Err(error));
            }
        }));
        sets
    }
}

fn read(
    c: &Connection,
    sql: &str,
    send: &mpsc::Sender<Result<RowSet, Error>>,
) -> Result<(), Error> {
    let mut select = c.prepare(sql)?;
    let width = select.column_count();
    let mut rows = select.query([])?;
    let mut set = RowSet::new();
    while let Some(row) = rows.next()? {
        set.push(|into| {
            let mut writer = RowWriter::new(into);
            (0..width).for_each(|i| writer.push(row.get_ref(i).map_or(Value::Null, value)));
        });
        if set.bytes() >= SET_BYTES && send.blocking_send(Ok(std::mem::take(&mut set))).is_err() {
            return Ok(());
        }
    }
    if !set.is_empty() && send.blocking_send(Ok(set)).is_err() {
        return Ok(());
    }
    let _ = send.blocking_send(Ok(RowSet::new()));
    Ok(())
}

/// The next rows of a query; `None` at its end.
async fn next(sets: &mut Option<Sets>) -> Result<Option<RowSet>, Error> {
    let Some(open) = sets else { return Ok(None) };
    // A channel that closes without the last word stands for a thread that panicked.
    let set = open.recv().await.unwrap_or(Err(Error::InvalidQuery))?;
    if set.is_empty() {
        *sets = None;
        return Ok(None);
    }
    Ok(Some(set))
}

fn value(stored: ValueRef<'_>) -> Value<'_> {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Integer(i),
        ValueRef::Real(r) => Value::Real(r),
        ValueRef::Text(t) => Value::Text(t),
        ValueRef::Blob(b) => Value::Blob(b),
    }
}
