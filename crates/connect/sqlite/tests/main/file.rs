//! A database file in a folder of its own.

use rowcast_core::Database;
use rowcast_sqlite::SqliteDatabase;
use rowcast_testkit::sink_suite::SinkHarness;
use rowcast_testkit::source_suite::{Cell, SourceHarness};
use rowcast_testkit::wait::LONG;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;

/// A file, and a writer of it that is not ours.
pub(crate) struct File {
    folder: tempfile::TempDir,
}

impl File {
    /// An empty database with a write-ahead log.
    pub(crate) fn new() -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.connect().pragma_update(None, "journal_mode", "wal").unwrap();
        file
    }

    /// An empty database with a rollback journal.
    pub(crate) fn without_wal() -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.connect().execute_batch("CREATE TABLE first (x)").unwrap();
        file
    }

    /// A path that has to be quoted everywhere.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("it's a \"shop\".db")
    }

    /// The database as we see it.
    pub(crate) fn database(&self) -> SqliteDatabase {
        SqliteDatabase::new("shop".parse().unwrap(), self.path())
    }

    /// A connection that is not ours.
    pub(crate) fn connect(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(LONG).unwrap();
        connection
    }

    /// All rows of a query as text.
    pub(crate) fn select(&self, query: &str) -> Vec<Vec<Cell>> {
        let connection = self.connect();
        let mut query = connection.prepare(query).unwrap();
        let width = query.column_count();
        let rows = query.query_map([], |row| {
            (0..width).map(|i| row.get_ref(i).map(text)).collect::<Result<Vec<_>, _>>()
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

fn text(value: rusqlite::types::ValueRef<'_>) -> Cell {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(i) => Some(i.to_string()),
        ValueRef::Real(r) => Some(r.to_string()),
        ValueRef::Text(t) => Some(String::from_utf8_lossy(t).into_owned()),
        ValueRef::Blob(b) => Some(b.iter().map(|b| format!("{b:02x}")).collect()),
    }
}

#[async_trait::async_trait]
impl SourceHarness for File {
    fn database(&self) -> Arc<dyn Database> {
        Arc::new(self.database())
    }

    async fn transaction(&self, statements: &[String]) {
        let mut connection = self.connect();
        let transaction = connection.transaction().unwrap();
        for statement in statements {
            let run = transaction.execute_batch(statement);
            run.unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
        transaction.commit().unwrap();
    }

    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>> {
        let columns: Vec<_> = columns.iter().map(|c| rowcast_core::quote(c)).collect();
        self.select(&format!("SELECT {} FROM {table}", columns.join(", ")))
    }
}

#[async_trait::async_trait]
impl SinkHarness for File {
    fn database(&self) -> Arc<dyn Database> {
        Arc::new(self.database())
    }

    async fn execute(&self, statements: &[&str]) {
        let connection = self.connect();
        for statement in statements {
            let run = connection.execute_batch(statement);
            run.unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
    }

    async fn drop_builds(&self) {
        let list = "SELECT name FROM sqlite_schema WHERE name LIKE '\\_rowcast\\_build%' ESCAPE '\\' \
                    AND type = 'table'";
        let builds = self.select(list);
        assert!(!builds.is_empty());
        for build in builds {
            let build = rowcast_core::quote(build[0].as_deref().unwrap());
            self.execute(&[&format!("DROP TABLE {build}")]).await;
        }
    }

    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>> {
        let there = format!("SELECT 1 FROM sqlite_schema WHERE name = '{table}'");
        if self.select(&there).is_empty() {
            return Vec::new();
        }
        SourceHarness::rows(self, table, columns).await
    }
}
