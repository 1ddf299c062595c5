//! Two servers, and the databases that a measurement needs.

use super::table::{self, CUSTOMERS, Table};
use anyhow::{Result, bail, ensure};
use rowcast_testkit::postgres::{Server, ServerOptions, Session};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The publisher's database.
pub(super) const SOURCE: &str = "bench_source";

/// A table beside the others in which nothing happens but at the end.
pub(super) const BEACONS: &str = "beacons";
const BEACON: &str = "CREATE TABLE beacons (id bigint PRIMARY KEY)";

const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("max_connections", "200"),
    ("max_wal_senders", "60"),
    ("max_replication_slots", "60"),
    ("max_worker_processes", "80"),
    ("max_logical_replication_workers", "60"),
    // Native's launcher waits so long between two starts of workers: nothing to measure.
    ("wal_retrieve_retry_interval", "10ms"),
    // Vacuumed between measurements instead, so that none pays for the one before it.
    ("autovacuum", "off"),
];

/// Longest anything measured may take before the run gives up.
const PATIENCE: Duration = Duration::from_secs(1_200);
const POLL_EVERY: Duration = Duration::from_millis(4);

/// The servers.
pub(super) struct Lab {
    pub(super) source: Server,
    pub(super) target: Server,
    /// The `rowcast` to measure.
    pub(super) binary: PathBuf,
}

impl Lab {
    pub(super) async fn start(binary: PathBuf) -> Result<Self> {
        Self::start_with(binary, &[]).await
    }

    /// [`start`](Self::start) with further settings.
    pub(super) async fn start_with(binary: PathBuf, more: &[(&str, &str)]) -> Result<Self> {
        let settings = [SETTINGS, more].concat();
        let start = || Server::start_options(ServerOptions::with(&settings));
        Ok(Self { source: start().await, target: start().await, binary })
    }

    /// Makes the source database anew, and drops what the last measurement left, also one that
    /// failed half way.
    pub(super) async fn fresh(&self) -> Result<()> {
        self.target.set("synchronous_standby_names", "").await;
        let left = "SELECT datname FROM pg_database WHERE datname LIKE 'bench\\_%'";
        for database in names(&self.target, "postgres", left).await {
            for subscription in names(&self.target, &database, SUBSCRIPTIONS).await {
                let alter = format!("ALTER SUBSCRIPTION {subscription}");
                for statement in [
                    format!("{alter} DISABLE"),
                    format!("{alter} SET (slot_name = NONE)"),
                    format!("DROP SUBSCRIPTION {subscription}"),
                ] {
                    self.target.sql(&database, &statement).await;
                }
            }
        }
        let orphans = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
        let released = async || Ok(self.source.try_sql("postgres", orphans).await.is_ok());
        self.until("every slot is released", released).await?;
        for server in [&self.source, &self.target] {
            for name in names(server, "postgres", left).await {
                server.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            }
        }
        self.source.create_database(SOURCE).await;
        CUSTOMERS.create(&self.source.session(SOURCE).await, CUSTOMERS.source).await;
        self.source.sql(SOURCE, BEACON).await;
        Ok(())
    }

    /// Makes a subscriber's database.
    pub(super) async fn subscriber(&self, name: &str, table: Table) {
        self.target.create_database(name).await;
        table.create(&self.target.session(name).await, table.target).await;
    }

    /// Puts both servers on an equal footing: nothing dirty, nothing to clean up.
    pub(super) async fn settle(&self, subscribers: &[String]) {
        self.source.sql(SOURCE, "VACUUM ANALYZE").await;
        for name in subscribers {
            self.target.sql(name, "VACUUM ANALYZE").await;
        }
        self.source.sql("postgres", "CHECKPOINT").await;
        self.target.sql("postgres", "CHECKPOINT").await;
    }

    /// Waits until `done` says so, often.
    pub(super) async fn until(
        &self,
        what: &str,
        mut done: impl AsyncFnMut() -> Result<bool>,
    ) -> Result<()> {
        let began = Instant::now();
        while !done().await? {
            ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
            tokio::time::sleep(POLL_EVERY).await;
        }
        Ok(())
    }

    /// Asserts that the copies are the source's rows, all of them and nothing else.
    pub(super) async fn compare(&self, subscribers: &[String]) -> Result<()> {
        for name in subscribers {
            let copy = self.target.session(name).await;
            let columns = table::columns(&copy).await?;
            let sum = format!(
                "SELECT count(*), sum(hashtextextended(ROW({columns})::text, 0)) FROM customers"
            );
            let expected = self.source.sql(SOURCE, &sum).await;
            let copied = copy.try_sql(&sum).await?;
            if copied != expected {
                bail!("{name} is no copy of the source: {copied:?} instead of {expected:?}");
            }
        }
        Ok(())
    }

    /// Connections to the subscribers' databases.
    pub(super) async fn watch(&self, subscribers: &[String]) -> Vec<Session> {
        let mut sessions = Vec::new();
        for name in subscribers {
            sessions.push(self.target.session(name).await);
        }
        sessions
    }
}

const SUBSCRIPTIONS: &str = "SELECT subname FROM pg_subscription s JOIN pg_database d \
                             ON d.oid = s.subdbid WHERE d.datname = current_database()";

async fn names(server: &Server, database: &str, query: &str) -> Vec<String> {
    let rows = server.sql(database, query).await;
    rows.into_iter().filter_map(|mut row| row.swap_remove(0)).collect()
}
