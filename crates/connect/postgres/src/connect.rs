//! One way to a PostgreSQL server for everybody here: address, TLS, a session whose settings make
//! text mean the same at both ends, and what an error of the server means.

mod address;
mod fault;
mod tls;

pub(crate) use address::Address;
pub use address::AddressError;
pub(crate) use fault::{Fault, by_state as fault_of_state, fault, is_pooled};

use std::future::Future;
use std::ops::Deref;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};

/// Longest for a server to let us in, beside the time a connection itself may take.
const LOGIN_WITHIN: Duration = Duration::from_secs(30);

/// Settings that a value's text depends on, and the time limits that would cut long work. Every
/// session of ours has them: the one that prints a value and the one that reads it.
pub(crate) const PINNED: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("timezone_abbreviations", "Default"),
    ("extra_float_digits", "3"),
    ("lc_monetary", "C"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    ("array_nulls", "on"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("search_path", ""),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
];

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// A certificate or key file is missing or is not one.
    #[error("{path} cannot be used for TLS: {why}")]
    Certificate {
        /// Which file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server answered too late.
    #[error("the server did not let us in within {} s", LOGIN_WITHIN.as_secs())]
    Late,
    /// The server or the way to it said no.
    #[error("no session")]
    Refused(#[source] tokio_postgres::Error),
}

impl ConnectError {
    /// What kind of trouble it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Certificate { .. } => Fault::Setup,
            Self::Late => Fault::Outage,
            Self::Refused(e) => fault(e),
        }
    }
}

/// A session and the task that moves its bytes. Dropping it closes the connection, and the server
/// rolls back what was open.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Address {
    /// A session called `name` at the server, with every setting of [`PINNED`] and of `more`.
    pub(crate) async fn connect(
        &self,
        name: &str,
        more: &[(&str, &str)],
    ) -> Result<Session, ConnectError> {
        let mut config = self.config().clone();
        if config.get_application_name().is_none() {
            config.application_name(name);
        }
        match tokio::time::timeout(LOGIN_WITHIN, self.login(&config, more)).await {
            Ok(session) => session,
            Err(_) => Err(ConnectError::Late),
        }
    }

    async fn login(&self, config: &Config, more: &[(&str, &str)]) -> Result<Session, ConnectError> {
        let session = if config.get_ssl_mode() == SslMode::Disable {
            match open(config, NoTls).await {
                // `sslmode=allow`: in clear when the server lets us, else by TLS.
                Err(e) if self.tls_if_refused() && fault(&e) == Fault::Setup => {
                    let mut config = config.clone();
                    config.ssl_mode(SslMode::Require);
                    open(&config, self.tls()?).await
                }
                other => other,
            }
        } else {
            open(config, self.tls()?).await
        };
        let session = session.map_err(ConnectError::Refused)?;
        session.batch_execute(&pins(more)).await.map_err(ConnectError::Refused)?;
        Ok(session)
    }
}

async fn open<T>(config: &Config, tls: T) -> Result<Session, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    // Its error is no news: every request of the client that it broke says so itself.
    let task = spawn(async move { drop(connection.await) });
    Ok(Session { client, task })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the session owns the task and aborts it when dropped"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

/// The statements that pin a session, for one round trip.
fn pins(more: &[(&str, &str)]) -> String {
    let mut sql = String::new();
    for (name, value) in PINNED.iter().chain(more) {
        let value = value.replace('\'', "''");
        // An empty search_path is an empty list, not a schema without a name.
        sql.push_str(&format!("SELECT pg_catalog.set_config('{name}', '{value}', false);"));
    }
    // A database without an encoding takes any bytes, unless they are said to be UTF-8.
    sql.push_str(
        "SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) \
         WHERE pg_catalog.current_setting('server_encoding') = 'SQL_ASCII';",
    );
    sql
}
