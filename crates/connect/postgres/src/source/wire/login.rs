//! From an open socket to a session.

use super::socket::{self, Stream, Tls};
use super::{Wire, WireError, server_error};
use crate::connect::{Address, Fault, PINNED};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::{backend, frontend};
use std::io;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{self, TargetSessionAttrs};

/// Longest for a server to let us in.
const LOGIN_WITHIN: Duration = Duration::from_secs(30);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// SQL only.
    Sql,
    /// Replication commands, and simple SQL as well.
    Replication,
}

/// The authentication requests by number.
mod request {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// Whether a list of zero-terminated names holds SCRAM-SHA-256.
fn scram_offered(names: &[u8]) -> bool {
    names.split(|b| *b == 0).any(|n| n == SCRAM_SHA_256.as_bytes())
}

impl Wire {
    /// A session called `name` with the pinned settings.
    pub(crate) async fn connect(
        address: &Address,
        name: &str,
        purpose: Purpose,
    ) -> Result<Self, WireError> {
        let first = attempt(address, name, purpose, address.config().get_ssl_mode().into()).await;
        match first {
            // `sslmode=allow`: in clear when the server lets us, else by TLS.
            Err(e) if address.tls_if_refused() && e.fault() == Fault::Setup => {
                attempt(address, name, purpose, Tls::Always).await
            }
            other => other,
        }
    }
}

/// The first of the address' hosts that lets us in and is what the address asks for.
async fn attempt(
    address: &Address,
    name: &str,
    purpose: Purpose,
    tls: Tls,
) -> Result<Wire, WireError> {
    if address.config().get_channel_binding() == config::ChannelBinding::Require {
        return Err(WireError::Login(
            "the address asks for channel_binding=require, which capturing does not support; use \
             sslmode=verify-full",
        ));
    }
    let mut last = WireError::Login("the address names no host");
    for host in 0..socket::hosts(address) {
        let login = async {
            let stream = socket::open(address, host, tls).await?;
            let mut wire = log_in(stream, address.config(), name, purpose).await?;
            wanted(&mut wire, address.config()).await?;
            Ok(wire)
        };
        match tokio::time::timeout(LOGIN_WITHIN, login).await {
            Ok(Ok(wire)) => return Ok(wire),
            Ok(Err(e)) => last = e,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut).into(),
        }
    }
    Err(last)
}

/// Refuses a server that is not what `target_session_attrs` asks for.
async fn wanted(wire: &mut Wire, config: &Config) -> Result<(), WireError> {
    let read_only = match config.get_target_session_attrs() {
        TargetSessionAttrs::ReadWrite => false,
        TargetSessionAttrs::ReadOnly => true,
        _ => return Ok(()),
    };
    let rows = wire.query("SHOW transaction_read_only").await?;
    let is = rows.first().and_then(|row| row.first()?.as_deref()) == Some("on");
    if is == read_only {
        return Ok(());
    }
    // Another try may find that the roles have changed.
    let what = "the server is not what the address' target_session_attrs asks for";
    Err(io::Error::new(io::ErrorKind::NotConnected, what).into())
}

async fn log_in(
    stream: Box<dyn Stream>,
    config: &Config,
    name: &str,
    purpose: Purpose,
) -> Result<Wire, WireError> {
    let mut wire = Wire::new(stream);
    let user = match config.get_user() {
        Some(user) => user.to_owned(),
        None => std::env::var("USER").unwrap_or_else(|_| "postgres".into()),
    };
    let mut parameters = vec![
        ("user", user.as_str()),
        ("database", config.get_dbname().unwrap_or(&user)),
        ("application_name", config.get_application_name().unwrap_or(name)),
    ];
    if let Some(options) = config.get_options() {
        parameters.push(("options", options));
    }
    if purpose == Purpose::Replication {
        // Long enough to outlive a busy machine; we report every few seconds anyway.
        parameters.extend([("replication", "database"), ("wal_sender_timeout", "60s")]);
    }
    parameters.extend(PINNED);
    wire.send(|out| frontend::startup_message(parameters.iter().copied(), out)).await?;
    if authenticate(&mut wire, config, &user).await? {
        // The server does not know what its bytes mean, and would refuse those that are not UTF-8.
        wire.query("SET client_encoding = 'SQL_ASCII'").await?;
    }
    Ok(wire)
}

/// Whether the database has no encoding.
async fn authenticate(wire: &mut Wire, config: &Config, user: &str) -> Result<bool, WireError> {
    let mut scram: Option<ScramSha256> = None;
    let mut bytes = false;
    loop {
        let frame = wire.message().await?;
        let (tag, size, body) = (frame.tag, frame.size, frame.body.to_vec());
        wire.consume(size);
        match tag {
            backend::READY_FOR_QUERY_TAG => return Ok(bytes),
            backend::PARAMETER_STATUS_TAG => bytes |= body == b"server_encoding\0SQL_ASCII\0",
            backend::ERROR_RESPONSE_TAG => return Err(server_error(&body).into()),
            backend::AUTHENTICATION_TAG => {
                answer(wire, config, user, &mut scram, &body).await?;
            }
            _ => {}
        }
    }
}

async fn answer(
    wire: &mut Wire,
    config: &Config,
    user: &str,
    scram: &mut Option<ScramSha256>,
    body: &[u8],
) -> Result<(), WireError> {
    const BAD: WireError = WireError::Protocol("a malformed request for a password");
    const NO_PASSWORD: WireError =
        WireError::Login("the server asks for a password and the address has none");
    let (number, rest) = body.split_first_chunk::<4>().ok_or(BAD)?;
    let password = || config.get_password().ok_or(NO_PASSWORD);
    match u32::from_be_bytes(*number) {
        request::OK => Ok(()),
        request::CLEARTEXT => {
            let password = password()?;
            wire.send(|out| frontend::password_message(password, out)).await
        }
        request::MD5 => {
            let salt: [u8; 4] = rest.try_into().map_err(|_| BAD)?;
            let hash = md5_hash(user.as_bytes(), password()?, salt);
            wire.send(|out| frontend::password_message(hash.as_bytes(), out)).await
        }
        request::SASL if scram_offered(rest) => {
            let state = ScramSha256::new(password()?, ChannelBinding::unsupported());
            let first = state.message().to_vec();
            *scram = Some(state);
            wire.send(|out| frontend::sasl_initial_response(SCRAM_SHA_256, &first, out)).await
        }
        request::SASL_CONTINUE => {
            let state = scram.as_mut().ok_or(BAD)?;
            state.update(rest)?;
            let proof = state.message().to_vec();
            wire.send(|out| frontend::sasl_response(&proof, out)).await
        }
        request::SASL_FINAL => Ok(scram.as_mut().ok_or(BAD)?.finish(rest)?),
        _ => Err(WireError::Login(
            "the server asks for a way of logging in that is not supported; use scram-sha-256",
        )),
    }
}
