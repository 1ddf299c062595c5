//! The conformance suite of sinks, on a real server.

use async_trait::async_trait;
use rowcast_core::{Database, quote};
use rowcast_postgres::PostgresDatabase;
use rowcast_testkit::postgres::{Server, shared};
use rowcast_testkit::sink_suite::{Cell, SinkHarness};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Harness {
    server: &'static Server,
    name: String,
    database: Arc<PostgresDatabase>,
}

async fn fresh() -> Harness {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let server = shared().await;
    let name = format!("suite {}", COUNT.fetch_add(1, Ordering::Relaxed));
    let url = server.create_database(&name).await;
    Harness { server, name, database: Arc::new(PostgresDatabase::from_url(&url).unwrap()) }
}

#[async_trait]
impl SinkHarness for Harness {
    fn database(&self) -> Arc<dyn Database> {
        self.database.clone()
    }

    async fn execute(&self, statements: &[&str]) {
        // The suite's INTEGER is 64 bits wide.
        let sql = statements.join(";").replace("INTEGER", "BIGINT");
        self.server.sql(&self.name, &sql).await;
    }

    async fn drop_builds(&self) {
        let list = "SELECT format('DROP TABLE %I.%I', schemaname, tablename) FROM pg_tables \
                    WHERE schemaname = 'rowcast' AND tablename LIKE 'build%'";
        let builds = self.server.sql(&self.name, list).await;
        assert!(!builds.is_empty());
        for drop in builds {
            self.server.sql(&self.name, drop[0].as_deref().unwrap()).await;
        }
    }

    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>> {
        let found = format!("SELECT to_regclass('\"{table}\"') IS NOT NULL");
        if self.server.sql(&self.name, &found).await[0][0].as_deref() != Some("t") {
            return vec![];
        }
        let columns: Vec<_> = columns.iter().map(|c| format!("{}::text", quote(c))).collect();
        let select = format!("SELECT {} FROM \"{table}\"", columns.join(", "));
        self.server.sql(&self.name, &select).await
    }
}

rowcast_testkit::sink_suite!(fresh());
rowcast_testkit::lane_suite!(fresh());
