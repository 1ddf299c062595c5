//! One service's database in a test, of either kind, and the file that joins two of them.

use rowcast_testkit::postgres::{Server, shared};
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::{becomes, eventually};
use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

pub(crate) use rowcast_testkit::wait::LONG;

pub(crate) type TextRows = Vec<Vec<Option<String>>>;

pub(crate) enum Side {
    Postgres { server: &'static Server, name: String },
    Sqlite { path: PathBuf, _dir: TempDir },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Sqlite,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Side {
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Postgres => {
                let name = format!("db{}", NUMBER.fetch_add(1, Ordering::Relaxed));
                let server = shared().await;
                server.create_database(&name).await;
                Self::Postgres { server, name }
            }
            Kind::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                let side = Self::Sqlite { path: dir.path().join("service.db"), _dir: dir };
                side.sql("PRAGMA journal_mode = WAL").await;
                side
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgres { server, name } => server.url(name),
            Self::Sqlite { path, .. } => format!("sqlite:{}", path.display()),
        }
    }

    /// Runs statements, as one transaction unless they say otherwise.
    pub(crate) async fn sql(&self, sql: &str) -> TextRows {
        match self {
            Self::Postgres { server, name } => server.sql(name, sql).await,
            Self::Sqlite { path, .. } => {
                let done = in_file(path, sql).await;
                done.unwrap_or_else(|e| panic!("{sql}: {e}"))
            }
        }
    }

    /// Asks about a copy that Rowcast may not have made yet, or is about to change: the error is that
    /// of what is not there. Whoever asks again and again asks so.
    pub(crate) async fn look(&self, query: &str) -> Result<TextRows, String> {
        match self {
            Self::Postgres { server, name } => server.look(name, query).await,
            Self::Sqlite { path, .. } => {
                let passing = |e: &rusqlite::Error| {
                    let busy = [
                        ErrorCode::DatabaseBusy,
                        ErrorCode::DatabaseLocked,
                        ErrorCode::SchemaChanged,
                    ];
                    let absent = ["no such table", "no such column"];
                    e.sqlite_error_code().is_some_and(|code| busy.contains(&code))
                        || absent.iter().any(|words| e.to_string().starts_with(words))
                };
                let looked = in_file(path, query).await;
                looked.map_err(|e| if passing(&e) { e.to_string() } else { panic!("{query}: {e}") })
            }
        }
    }

    /// Waits until a query's only value reads `value`; the copy it asks about need not be there yet.
    pub(crate) async fn until(&self, query: &str, value: &str) {
        let wanted = Ok(vec![vec![Some(value.to_string())]]);
        becomes(LONG, query, wanted, async || self.look(query).await).await;
    }

    /// Changes many rows of a copy while others write to it, without waiting for any of them with rows in
    /// hand: whoever does has to expect a deadlock.
    pub(crate) async fn by_hand(&self, table: &str, sql: &str) {
        match self {
            Self::Postgres { .. } => {
                let lock = format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE");
                self.sql(&format!("BEGIN; {lock}; {sql}; COMMIT")).await;
            }
            Self::Sqlite { .. } => {
                self.sql(sql).await;
            }
        }
    }

    /// The only value of a query.
    pub(crate) async fn value(&self, query: &str) -> String {
        let rows = self.sql(query).await;
        rows[0][0].clone().unwrap_or_else(|| "NULL".into())
    }
}

async fn in_file(path: &Path, sql: &str) -> rusqlite::Result<TextRows> {
    let (path, sql) = (path.to_owned(), sql.to_string());
    tokio::task::spawn_blocking(move || sqlite(&path, &sql)).await.unwrap()
}

fn sqlite(path: &Path, sql: &str) -> rusqlite::Result<TextRows> {
    let db = rusqlite::Connection::open(path)?;
    db.busy_timeout(LONG)?;
    db.pragma_update(None, "synchronous", "OFF")?;
    let is_query = sql.trim_start().to_ascii_lowercase().starts_with("select");
    if !is_query {
        let plain = sql.trim_start().to_ascii_uppercase().starts_with("PRAGMA");
        let text = if plain { sql.into() } else { format!("BEGIN IMMEDIATE; {sql}; COMMIT") };
        db.execute_batch(&text)?;
        return Ok(Vec::new());
    }
    let mut statement = db.prepare(sql)?;
    let width = statement.column_count();
    let text = |row: &rusqlite::Row<'_>, i| {
        Ok(match row.get_ref(i)? {
            rusqlite::types::ValueRef::Null => None,
            rusqlite::types::ValueRef::Integer(v) => Some(v.to_string()),
            rusqlite::types::ValueRef::Real(v) => Some(v.to_string()),
            rusqlite::types::ValueRef::Text(v) => Some(String::from_utf8_lossy(v).into_owned()),
            rusqlite::types::ValueRef::Blob(v) => Some(format!("{v:02x?}")),
        })
    };
    statement.query_map([], |row| (0..width).map(|i| text(row, i)).collect())?.collect()
}

/// A publisher and a subscriber joined by a file.
pub(crate) struct Pair {
    pub(crate) from: Side,
    pub(crate) to: Side,
    pub(crate) rowcast: Rowcast,
    /// The publisher's name; its own in each test, because slots belong to a whole server.
    pub(crate) service: String,
}

impl Pair {
    /// `publish` and `subscribe` are the bodies of the two services' tables, after the service's
    /// name: `publish = ".publish.a]\ntable = \"a\""`, and so on.
    pub(crate) async fn new(from: Kind, to: Kind, publish: &str, subscribe: &str) -> Self {
        let (from, to) = (Side::new(from).await, Side::new(to).await);
        let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), "");
        let service = format!("shop{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let pair = Self { from, to, rowcast, service };
        pair.configure(publish, subscribe);
        pair
    }

    /// Writes the file. In the texts the publisher is called `shop`.
    pub(crate) fn configure(&self, publish: &str, subscribe: &str) {
        let (from, to) = (self.from.url(), self.to.url());
        let named = |text: &str| {
            let table = format!("[service.{}.", self.service);
            let entity = format!("\"{}.", self.service);
            text.replace("[service.shop.", &table).replace("\"shop.", &entity)
        };
        self.rowcast.configure(&format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\n[service.{}]\ndatabase = '{from}'\n\n{}\n\n\
             [service.order]\ndatabase = '{to}'\n\n{}\n",
            self.service,
            named(publish),
            named(subscribe)
        ));
    }

    /// Brings the copies up to now.
    pub(crate) async fn catch_up(&self) {
        self.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    }

    /// Waits until a query over the copy gives what one over the publisher's table gives, which nobody
    /// changes meanwhile.
    pub(crate) async fn until_same(&self, from: &str, to: &str) {
        let wanted = Ok(self.from.sql(from).await);
        becomes(LONG, to, wanted, async || self.to.look(to).await).await;
    }

    /// Waits until a running instance says that its route is live.
    pub(crate) async fn live(&self) {
        eventually(LONG, "a live route", async || {
            let status = self.rowcast.run(LONG, &["status", "--json"]).await;
            status.stdout.contains("\"live\"")
        })
        .await;
    }

    /// Asserts that a query over the publisher's table gives what it gives over the copy.
    #[track_caller]
    pub(crate) fn same<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
    ) -> impl Future<Output = ()> + use<'a> {
        let place = std::panic::Location::caller();
        async move {
            let (theirs, ours) = (self.from.sql(from).await, self.to.sql(to).await);
            assert!(!theirs.is_empty(), "{place}: nothing to compare");
            assert_eq!(theirs, ours, "{place}: the copy differs");
        }
    }
}
