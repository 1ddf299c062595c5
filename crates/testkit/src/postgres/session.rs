//! A connection to a server under test.

use crate::wait::{LONG, becomes};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// What a statement returned: every row's columns as text, NULL as `None`.
pub type TextRows = Vec<Vec<Option<String>>>;

/// An open connection, for transactions that stay open across a test's steps. Closed on drop.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Session {
    pub(super) async fn open(
        socket_dir: &Path,
        port: u16,
        db: &str,
    ) -> Result<Self, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(socket_dir).port(port).user("postgres").dbname(db);
        config.application_name("rowcast testkit").connect_timeout(LONG);
        let (client, connection) = config.connect(NoTls).await?;
        Ok(Self { client, driver: drive(connection) })
    }

    /// Runs statements and returns all their rows.
    ///
    /// # Errors
    /// The server's.
    pub async fn try_sql(&self, sql: &str) -> Result<TextRows, tokio_postgres::Error> {
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(self.client.simple_query(sql).await?.iter().filter_map(row).collect())
    }

    /// [`try_sql`](Self::try_sql) that has to succeed.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn sql(&self, sql: &str) -> TextRows {
        self.try_sql(sql).await.unwrap_or_else(|e| panic!("{}\nfrom: {sql}", explain(&e)))
    }

    /// The driver's own client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Process id of the backend, as `pg_stat_activity` and `pg_terminate_backend` know it.
    pub async fn backend(&self) -> i32 {
        let rows = self.sql("SELECT pg_backend_pid()").await;
        rows[0][0].as_deref().and_then(|pid| pid.parse().ok()).expect("a process id")
    }

    /// The answer to a question that is asked again and again: the error is that of what is not there
    /// yet, or not to be had at the moment.
    ///
    /// # Errors
    /// The server's words.
    ///
    /// # Panics
    /// When asking again would not help.
    pub async fn look(&self, query: &str) -> Result<TextRows, String> {
        self.try_sql(query).await.map_err(|e| not_yet(&e, query))
    }

    /// Waits until a query's only value reads `value`. What it asks about need not be there yet.
    ///
    /// # Panics
    /// After `within`, with the query and its last answer.
    pub async fn until(&self, within: Duration, query: &str, value: &str) {
        let wanted = Ok(vec![vec![Some(value.to_owned())]]);
        becomes(within, query, wanted, async || self.look(query).await).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The server's own words, where it has some.
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} {}: {}", db.severity(), db.code().code(), db.message()),
        None => format!("{error}: {:?}", std::error::Error::source(error)),
    }
}

/// An error's words, when it goes away by itself: a table or column that is made later, a deadlock, a
/// server that is full or starting.
///
/// # Panics
/// When it does not.
pub(super) fn not_yet(error: &tokio_postgres::Error, query: &str) -> String {
    let state = error.code().map_or("", |code| code.code());
    let absent = ["42P01", "42703", "42883", "42704", "3F000"].contains(&state);
    let passing = ["40", "53", "57P"].iter().any(|class| state.starts_with(class));
    assert!(absent || passing, "{}\nfrom: {query}", explain(error));
    explain(error)
}

#[expect(clippy::disallowed_methods, reason = "the session owns the task and aborts it on drop")]
fn drive(
    connection: tokio_postgres::Connection<
        tokio_postgres::Socket,
        tokio_postgres::tls::NoTlsStream,
    >,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Its end shows in the client's next call.
        let _ = connection.await;
    })
}
