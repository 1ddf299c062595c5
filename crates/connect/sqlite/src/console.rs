//! A connection for statements that a person could have typed: what torture and examples use.

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long to wait for another writer.
const BUSY: Duration = Duration::from_secs(20);

/// A connection of its own to a file, which is made when it is missing.
#[derive(Debug, Clone)]
pub struct Console {
    connection: Arc<Mutex<Connection>>,
}

impl Console {
    /// Opens the file.
    ///
    /// # Errors
    /// SQLite's words.
    pub async fn open(path: &Path) -> Result<Self, String> {
        let path: PathBuf = path.into();
        let opened = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            Ok::<_, rusqlite::Error>(connection)
        });
        let connection = opened.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs statements and gives the rows of all their queries, as text.
    ///
    /// # Errors
    /// SQLite's words.
    pub async fn run(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let (connection, sql) = (self.connection.clone(), sql.to_string());
        let ran = tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(|held| held.into_inner());
            run(&connection, &sql)
        });
        ran.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<Vec<Option<String>>>> {
    let mut found = Vec::new();
    let mut batch = Batch::new(connection, sql);
    while let Some(mut statement) = batch.next()? {
        let width = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..width).map(|i| Ok(text(row.get_ref(i)?)));
            found.push(values.collect::<rusqlite::Result<_>>()?);
        }
    }
    Ok(found)
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Some(bytes.iter().map(|b| format!("{b:02x}")).collect()),
    }
}
