//! How torture speaks to a database: as a person at a console would.

use async_trait::async_trait;

/// The rows of a query, as text.
pub type TextRows = Vec<Vec<Option<String>>>;

/// Which SQL a database understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL's.
    Postgres,
    /// SQLite's.
    Sqlite,
}

/// A database that torture may fill, change and empty.
#[async_trait]
pub trait Scratch: Send + Sync {
    /// Its SQL.
    fn dialect(&self) -> Dialect;

    /// Its address, as `rowcast.toml` has it.
    fn address(&self) -> &str;

    /// A session of its own.
    async fn open(&self) -> Result<Box<dyn Console>, String>;
}

/// One session.
#[async_trait]
pub trait Console: Send {
    /// Runs statements. The error is the database's own words.
    async fn run(&mut self, sql: &str) -> Result<TextRows, String>;
}
