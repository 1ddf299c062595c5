//! A server of one's own: replication slots belong to a server, not to a database, and every check
//! captures a service of the same name.

use async_trait::async_trait;
use rowcast_core::Database;
use rowcast_postgres::PostgresDatabase;
use rowcast_testkit::postgres::{Server, Session, TextRows};
use rowcast_testkit::source_suite::{Cell, SourceHarness};
use rowcast_testkit::wait::LONG;
use std::sync::Arc;

/// The database's name; awkward, as names may be.
pub(crate) const NAME: &str = "Shop \"1\"";

/// An empty database.
pub(crate) struct Harness {
    pub(crate) server: Server,
    database: Arc<PostgresDatabase>,
}

impl Harness {
    pub(crate) async fn fresh() -> Self {
        Self::on(Server::start().await).await
    }

    pub(crate) async fn on(server: Server) -> Self {
        let url = server.create_database(NAME).await;
        let database = PostgresDatabase::from_url(&url).expect("a server's address is one");
        Self { server, database: Arc::new(database) }
    }

    /// Drops all slots, as soon as nobody holds them.
    pub(crate) async fn drop_slots(&self) {
        const DROP: &str = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
        let dropped = async { while self.server.try_sql(NAME, DROP).await.is_err() {} };
        tokio::time::timeout(LONG, dropped).await.expect("nobody holds a slot");
    }

    pub(crate) async fn session(&self) -> Session {
        self.server.session(NAME).await
    }

    pub(crate) async fn sql(&self, sql: &str) -> TextRows {
        self.server.sql(NAME, sql).await
    }
}

#[async_trait]
impl SourceHarness for Harness {
    fn database(&self) -> Arc<dyn Database> {
        self.database.clone()
    }

    async fn transaction(&self, statements: &[String]) {
        self.sql(&format!("BEGIN; {}; COMMIT", statements.join(";"))).await;
        // Who drops the tables begins all over, and a used slot is in the way of a beginning.
        if statements.iter().any(|s| s.starts_with("DROP TABLE")) {
            self.drop_slots().await;
        }
    }

    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>> {
        let texts: Vec<_> = columns.iter().map(|c| format!("\"{c}\"::text")).collect();
        let order: Vec<_> = texts.iter().map(|t| format!("{t} COLLATE \"C\"")).collect();
        let sql = format!("SELECT {} FROM {table} ORDER BY {}", texts.join(","), order.join(","));
        self.sql(&sql).await
    }
}
