//! How a private server is set up.

use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

/// How a server is set up. The default suits most tests: logical replication on, no fsync, little
/// memory, everybody trusted.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Settings that win over the defaults, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// When set, TCP connections need it (SCRAM); the user is `postgres`.
    pub password: Option<String>,
    /// When set, TCP connections may use TLS.
    pub tls: Option<ServerTls>,
    /// Major version; the one under test when absent. For what only some versions can.
    pub major: Option<u32>,
    /// The directory with `postgres` and `initdb`; wins over `major`.
    pub programs: Option<PathBuf>,
}

/// A server's certificate.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// Refuse TCP connections without TLS.
    pub required: bool,
}

const DEFAULTS: &[(&str, &str)] = &[
    ("wal_level", "logical"),
    ("max_wal_senders", "100"),
    ("max_replication_slots", "300"),
    ("max_connections", "300"),
    ("max_prepared_transactions", "10"),
    // As a server should be set up: `check` warns without it.
    ("max_slot_wal_keep_size", "20GB"),
    ("fsync", "off"),
    ("shared_buffers", "32MB"),
    ("log_line_prefix", "%m [%p] %d "),
    // Logical decoding waits for the next one of these when a slot is created.
    ("log_checkpoints", "off"),
];

impl ServerOptions {
    /// Defaults with these settings on top.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { settings: settings.iter().map(owned).collect(), ..Self::default() }
    }

    /// Defaults on this major version.
    pub fn of_major(major: u32) -> Self {
        Self { major: Some(major), ..Self::default() }
    }

    /// What goes at the end of `postgresql.conf`: there the last word on a setting wins.
    pub(super) fn configuration(&self, socket_dir: &str, port: u16) -> String {
        let mut text = String::from("\n");
        let port = port.to_string();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", socket_dir),
        ];
        let tls: &[(&str, &str)] = if self.tls.is_some() { &[("ssl", "on")] } else { &[] };
        let given = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in ours.iter().chain(DEFAULTS).chain(tls).copied().chain(given) {
            let value = value.replace('\'', "''");
            writeln!(text, "{name} = '{value}'").expect("writing to a string");
        }
        text
    }

    /// `pg_hba.conf`: our own errands go over the socket and are always let in.
    pub(super) fn admission(&self) -> String {
        let kind = if self.tls.as_ref().is_some_and(|t| t.required) { "hostssl" } else { "host" };
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        let mut text = String::from("local all all trust\nlocal replication all trust\n");
        for database in ["all", "replication"] {
            writeln!(text, "{kind} {database} all 127.0.0.1/32 {method}")
                .expect("writing to a string");
        }
        text
    }
}

/// A port nobody listens on, outside the range from which systems hand out ports to clients, so
/// that a server which is down for a while finds its port free again.
pub(crate) fn free_port() -> u16 {
    use rand::Rng;
    loop {
        let port = rand::rng().random_range(12_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
