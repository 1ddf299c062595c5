//! `postgres://` addresses. What is read here may hold a password, so nothing here prints its input.

use super::ConnectError;
use super::tls::{self, Trust};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Why a text is no address. Says nothing of what the text holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not begin like one.
    #[error("a PostgreSQL address begins with postgres:// or postgresql://")]
    Scheme,
    /// It cannot be taken apart.
    #[error(
        "this is no PostgreSQL address; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with \
         '@', '/', '?', '#' and '%' in user and password written as %40, %2F, %3F, %23 and %25"
    )]
    Syntax,
    /// A setting after the `?` is none, or has a value that is none.
    #[error("{0} is no setting of a PostgreSQL address, or its value is none")]
    Setting(String),
}

/// Where a server is and how to get in.
#[derive(Clone)]
pub(crate) struct Address {
    config: Config,
    trust: Trust,
    tls_if_refused: bool,
    root: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?SETTING=VALUE`, as libpq does.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(AddressError::Scheme);
        }
        let (place, settings) = url.split_once('?').unwrap_or((url, ""));
        // An '@' behind the '?' means that the '?' belongs to a password.
        if settings.contains('@') && !place.contains('@') {
            return Err(AddressError::Syntax);
        }
        let mut ssl = Ssl::default();
        let mut rest = Vec::new();
        for setting in settings.split('&').filter(|s| !s.is_empty()) {
            let (name, value) = setting.split_once('=').ok_or(AddressError::Syntax)?;
            if !ssl.take(name, value)? {
                let probe: Result<Config, _> = format!("postgres://h/?{setting}").parse();
                probe.map_err(|_| AddressError::Setting(name.to_string()))?;
                rest.push(setting);
            }
        }
        let config = format!("{place}?{}", rest.join("&"));
        let config: Config = config.parse().map_err(|_| AddressError::Syntax)?;
        Ok(Self::new(config, ssl))
    }

    fn new(mut config: Config, ssl: Ssl) -> Self {
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            let sockets = Path::new("/var/run/postgresql");
            if sockets.is_dir() {
                config.host_path(sockets);
            } else {
                config.host("localhost");
            }
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        // Notice within a minute that the other end went without a word.
        config.keepalives_idle(Duration::from_secs(30));
        config.keepalives_interval(Duration::from_secs(10));
        config.keepalives_retries(3);
        if config.get_password().is_none()
            && let Some(password) = std::env::var_os("PGPASSWORD")
        {
            config.password(password.into_encoded_bytes());
        }
        // Nobody listens in on a socket of this machine, and servers have no TLS there.
        let local = config.get_hosts().iter().all(|h| matches!(h, Host::Unix(_)))
            && config.get_hostaddrs().is_empty();
        config.ssl_mode(if local { SslMode::Disable } else { ssl.mode.ssl_mode() });
        Self {
            trust: ssl.mode.trust(ssl.root.is_some()),
            tls_if_refused: ssl.mode == Mode::Allow && !local,
            root: ssl.root,
            client: ssl.certificate.zip(ssl.key),
            config,
        }
    }

    /// Hosts, ports, user, password, database, TCP settings and whether to use TLS.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// `sslmode=allow`: TLS only when the server refuses us without.
    pub(crate) fn tls_if_refused(&self) -> bool {
        self.tls_if_refused
    }

    /// How to speak TLS with this server. Reads the certificate files now.
    pub(crate) fn tls(&self) -> Result<MakeRustlsConnect, ConnectError> {
        self.tls_config().map(MakeRustlsConnect::new)
    }

    /// As [`tls`](Self::tls), for who brings a transport of their own.
    pub(crate) fn tls_config(&self) -> Result<rustls::ClientConfig, ConnectError> {
        let client = self.client.as_ref().map(|(c, k)| (c.as_path(), k.as_path()));
        tls::config(self.trust, self.root.as_deref(), client)
    }
}

impl fmt::Display for Address {
    /// Without user and password: `postgres://host:5432/database`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        let ports = self.config.get_ports();
        let port = |i: usize| ports.get(i).or(ports.first()).copied().unwrap_or(5432);
        for (i, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match host {
                Host::Tcp(h) => write!(f, "{comma}{h}:{}", port(i))?,
                Host::Unix(p) => write!(f, "{comma}{}:{}", p.display(), port(i))?,
            }
        }
        if self.config.get_hosts().is_empty() {
            for (i, addr) in self.config.get_hostaddrs().iter().enumerate() {
                write!(f, "{}{addr}:{}", if i == 0 { "" } else { "," }, port(i))?;
            }
        }
        let database = self.config.get_dbname().or(self.config.get_user());
        write!(f, "/{}", database.unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    Disable,
    Allow,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn ssl_mode(self) -> SslMode {
        match self {
            Self::Disable | Self::Allow => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }

    /// As in libpq: a root certificate makes `require` look at the chain.
    fn trust(self, has_root: bool) -> Trust {
        match self {
            Self::VerifyFull => Trust::ChainAndName,
            Self::VerifyCa => Trust::Chain,
            Self::Require if has_root => Trust::Chain,
            Self::Require | Self::Prefer | Self::Allow | Self::Disable => Trust::Anybody,
        }
    }
}

/// The settings of an address that tokio-postgres does not know.
#[derive(Debug, Default)]
struct Ssl {
    mode: Mode,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Ssl {
    /// Takes a setting that is ours; says whether it was.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, AddressError> {
        let bad = || AddressError::Setting(name.to_string());
        let path = || decode(value).map(PathBuf::from).ok_or_else(bad);
        match name {
            "sslmode" => {
                self.mode = match value {
                    "disable" => Mode::Disable,
                    "allow" => Mode::Allow,
                    "prefer" => Mode::Prefer,
                    "require" => Mode::Require,
                    "verify-ca" => Mode::VerifyCa,
                    "verify-full" => Mode::VerifyFull,
                    _ => return Err(bad()),
                }
            }
            // "system" is libpq's name for the certificates that the machine trusts.
            "sslrootcert" if value == "system" => self.mode = Mode::VerifyFull,
            "sslrootcert" => self.root = Some(path()?),
            "sslcert" => self.certificate = Some(path()?),
            "sslkey" => self.key = Some(path()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Undoes `%2F`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_where_but_not_who() {
        let a =
            Address::parse("postgres://me:s3cret@db.example:6432,other/shop?sslmode=verify-full")
                .unwrap();
        assert_eq!(a.to_string(), "postgres://db.example:6432,other:5432/shop");
        assert!(!format!("{a:?}").contains("s3cret"));
        assert_eq!(a.trust, Trust::ChainAndName);
        assert_eq!(a.config().get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn a_socket_needs_no_tls() {
        let a = Address::parse("postgres://u@%2Frun%2Fpg:5433/shop?sslmode=require").unwrap();
        assert_eq!(a.config().get_ssl_mode(), SslMode::Disable);
        assert_eq!(a.to_string(), "postgres:///run/pg:5433/shop");
    }

    #[test]
    fn a_root_certificate_makes_require_look_at_the_chain() {
        let trust = |url: &str| Address::parse(url).unwrap().trust;
        assert_eq!(trust("postgres://h/d?sslmode=require"), Trust::Anybody);
        assert_eq!(trust("postgres://h/d?sslmode=require&sslrootcert=%2Fca.pem"), Trust::Chain);
        assert_eq!(trust("postgres://h/d?sslrootcert=system"), Trust::ChainAndName);
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong_but_not_the_password() {
        assert_eq!(Address::parse("mysql://h").unwrap_err(), AddressError::Scheme);
        for (url, said) in [
            ("postgres://u:pa?ss=x@h/d", "%3F"),
            ("postgres://u:pa%zz@h/d?sslcert=%zz&colour=ss=x", "sslcert"),
            ("postgres://h/d?sslmode=never", "sslmode"),
            ("postgres://h/d?colour=blue", "colour"),
        ] {
            let message = Address::parse(url).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
            assert!(!message.contains("ss=x"), "{message}");
        }
    }
}
