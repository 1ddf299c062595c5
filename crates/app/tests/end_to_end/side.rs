//! One service's database in a test, of either kind, and the file that joins two of them.

use rowcast_testkit::postgres::{Server, shared};
use rowcast_testkit::process::Rowcast;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Long enough for anything that ends by itself.
pub(crate) const LONG: Duration = Duration::from_secs(120);

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
                let (path, sql) = (path.clone(), sql.to_string());
                tokio::task::spawn_blocking(move || sqlite(&path, &sql)).await.unwrap()
            }
        }
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

fn sqlite(path: &std::path::Path, sql: &str) -> TextRows {
    let db = rusqlite::Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    db.pragma_update(None, "synchronous", "OFF").unwrap();
    let is_query = sql.trim_start().to_ascii_lowercase().starts_with("select");
    if !is_query {
        let plain = sql.trim_start().to_ascii_uppercase().starts_with("PRAGMA");
        let text = if plain { sql.into() } else { format!("BEGIN IMMEDIATE; {sql}; COMMIT") };
        db.execute_batch(&text).unwrap_or_else(|e| panic!("{sql}: {e}"));
        return Vec::new();
    }
    let mut statement = db.prepare(sql).unwrap();
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
    let rows = statement.query_map([], |row| (0..width).map(|i| text(row, i)).collect());
    rows.unwrap().collect::<Result<_, _>>().unwrap()
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
