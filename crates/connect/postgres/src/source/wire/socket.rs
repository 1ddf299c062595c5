//! The way to the server: TCP, a unix socket, and TLS over either kind of trust.

use super::WireError;
use crate::connect::Address;
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{Host, SslMode};
use tokio_rustls::TlsConnector;

/// Something that bytes go through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How to use TLS in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    Never,
    IfOffered,
    Always,
}

impl From<SslMode> for Tls {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Never,
            SslMode::Prefer => Self::IfOffered,
            _ => Self::Always,
        }
    }
}

/// How many hosts an address names.
pub(super) fn hosts(address: &Address) -> usize {
    let config = address.config();
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

/// Opens the way to one of the address' hosts.
pub(super) async fn open(
    address: &Address,
    host: usize,
    tls: Tls,
) -> Result<Box<dyn Stream>, WireError> {
    let config = address.config();
    let (name, addr) = (config.get_hosts().get(host), config.get_hostaddrs().get(host).copied());
    let ports = config.get_ports();
    let port = ports.get(host).or(ports.first()).copied().unwrap_or(5432);
    let within = config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10));
    let attempt = open_one(address, name, addr, port, tls);
    let Ok(opened) = tokio::time::timeout(within, attempt).await else {
        return Err(io::Error::from(io::ErrorKind::TimedOut).into());
    };
    opened
}

async fn open_one(
    address: &Address,
    host: Option<&Host>,
    addr: Option<std::net::IpAddr>,
    port: u16,
    tls: Tls,
) -> Result<Box<dyn Stream>, WireError> {
    let (name, tcp) = match (host, addr) {
        (Some(Host::Unix(dir)), None) => {
            let stream = UnixStream::connect(dir.join(format!(".s.PGSQL.{port}"))).await?;
            return Ok(Box::new(stream));
        }
        (Some(Host::Tcp(name)), None) => {
            (name.clone(), TcpStream::connect((name.as_str(), port)).await?)
        }
        (Some(Host::Tcp(name)), Some(addr)) => {
            (name.clone(), TcpStream::connect((addr, port)).await?)
        }
        (_, Some(addr)) => (addr.to_string(), TcpStream::connect((addr, port)).await?),
        (None, None) => return Err(WireError::Login("the address names no host")),
    };
    tcp.set_nodelay(true)?;
    // A server that works on a long answer says nothing; one that went without a word is told from it
    // by the system.
    let config = address.config();
    let mut alive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        alive = alive.with_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        alive = alive.with_retries(retries);
    }
    SockRef::from(&tcp).set_tcp_keepalive(&alive)?;
    if tls == Tls::Never {
        return Ok(Box::new(tcp));
    }
    negotiate(address, name, tcp, tls).await
}

async fn negotiate(
    address: &Address,
    name: String,
    mut tcp: TcpStream,
    tls: Tls,
) -> Result<Box<dyn Stream>, WireError> {
    let mut ask = BytesMut::new();
    frontend::ssl_request(&mut ask);
    tcp.write_all(&ask).await?;
    match (tcp.read_u8().await?, tls) {
        (b'S', _) => {}
        (_, Tls::IfOffered) => return Ok(Box::new(tcp)),
        _ => return Err(WireError::Login("the server does not offer TLS, and sslmode demands it")),
    }
    let name = ServerName::try_from(name)
        .map_err(|_| WireError::Login("the host's name cannot stand in a certificate"))?;
    let connector = TlsConnector::from(Arc::new(address.tls_config()?));
    Ok(Box::new(connector.connect(name, tcp).await?))
}
