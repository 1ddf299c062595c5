//! Standbys: servers that follow another one's log, until they are promoted.

use super::install::succeed;
use super::{PORTS_TRIED, Server, options::free_port};
use crate::leftovers::remove_at_end;
use crate::wait::{LONG, eventually};
use std::os::unix::fs::PermissionsExt;

impl Server {
    /// A standby of this server: a copy of its data, which follows it through the physical slot
    /// `standby` and, from PostgreSQL 17 on, brings its failover slots along. This server is stopped
    /// for the copy and started again; make logical slots only afterwards.
    ///
    /// # Panics
    /// When one of the two does not start, with its log.
    pub async fn standby(&mut self) -> Self {
        self.stop().await;
        let mut standby = self.copy();
        self.start_again().await;
        self.sql("postgres", "SELECT pg_create_physical_replication_slot('standby', true)").await;
        let follow = format!(
            "primary_conninfo = 'host={} port={} user=postgres dbname=postgres'\n\
             primary_slot_name = 'standby'\nhot_standby_feedback = on\n",
            self.base.display(),
            self.port
        );
        let synchronise = if self.version() >= 17 { "sync_replication_slots = on\n" } else { "" };
        standby.append("postgresql.conf", &format!("{follow}{synchronise}"));
        standby.append("standby.signal", "");
        for _ in 1..PORTS_TRIED {
            match standby.launch().await {
                Ok(()) => return standby,
                Err(log) if log.contains("Address already in use") => {
                    standby.port = free_port();
                    standby.append("postgresql.conf", &format!("port = {}\n", standby.port));
                }
                Err(log) => panic!("the standby does not start:\n{log}"),
            }
        }
        panic!("{PORTS_TRIED} ports in a row were taken by others");
    }

    /// A stopped server with a copy of this one's data, on a port of its own.
    fn copy(&self) -> Self {
        let base = tempfile::Builder::new().prefix("rowcast-pg-").tempdir();
        let base = base.expect("a temporary directory").keep();
        remove_at_end(&base);
        std::fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).expect("open it");
        self.install.hand_over(&base);
        let (from, to) = (self.base.join("data"), base.join("data"));
        succeed(self.install.command("cp", &base).arg("-R").arg(from).arg(&to));
        let (port, password) = (free_port(), self.password.clone());
        let copy = Self { install: self.install, base, port, password, running: None };
        let socket = copy.base.display().to_string();
        copy.append(
            "postgresql.conf",
            &format!("\nport = {port}\nunix_socket_directories = '{socket}'\n"),
        );
        copy
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.base.join("data").join(name);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, before + text).expect("write the configuration");
        self.install.hand_over(&path);
    }

    /// Waits until this standby has applied everything that `primary` has written so far.
    pub async fn follows(&self, primary: &Self) {
        let written = primary.sql("postgres", "SELECT pg_current_wal_flush_lsn()").await;
        let written = written[0][0].clone().expect("a place in the log");
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
        eventually(LONG, "the standby has come as far", async || {
            self.look("postgres", &has).await.is_ok_and(|r| r[0][0].as_deref() == Some("t"))
        })
        .await;
    }

    /// Makes this standby a primary, in a timeline of its own.
    pub async fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote()").await;
        eventually(LONG, "the standby is promoted", async || {
            let recovering = self.sql("postgres", "SELECT pg_is_in_recovery()").await;
            recovering[0][0].as_deref() == Some("f")
        })
        .await;
    }
}
