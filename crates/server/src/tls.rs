//! TLS by rustls, with the provider passed by hand: two in one process would make it panic.

mod lasting;
mod pem;

pub use lasting::Lasting;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPart {
    /// The certificate with its chain.
    Certificate,
    /// Its key.
    Key,
}

impl TlsPart {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
        }
    }
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or may not be read.
    #[error("{} cannot be read", .file.display())]
    Unreadable {
        /// Which of the two.
        part: TlsPart,
        /// Which file.
        file: PathBuf,
        /// In the system's words.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds {found}, and no {}", .file.display(), .part.name())]
    Other {
        /// Which of the two.
        part: TlsPart,
        /// Which file.
        file: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// A file looks right, but cannot be understood.
    #[error("{} holds a damaged {}, or one of a kind that is not supported", .file.display(), .part.name())]
    Damaged {
        /// Which of the two.
        part: TlsPart,
        /// Which file.
        file: PathBuf,
        /// In the library's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not make an identity.
    #[error("the key in {} is not that of the certificate in {}", .key.display(), .cert.display())]
    Strangers {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

impl TlsError {
    /// The file to look at.
    pub fn part(&self) -> TlsPart {
        match self {
            Self::Unreadable { part, .. }
            | Self::Other { part, .. }
            | Self::Damaged { part, .. } => *part,
            Self::Strangers { .. } => TlsPart::Key,
        }
    }

    /// What to do next.
    pub fn help(&self) -> &'static str {
        match (self, self.part()) {
            (Self::Unreadable { .. }, _) => {
                "name a PEM file that the user who runs `rowcast` may read"
            }
            (Self::Other { found, .. }, _) if found == pem::ENCRYPTED => {
                "nobody is there to type a pass phrase: `openssl pkey -in KEY -out PLAIN` writes it \
                 without one"
            }
            (Self::Other { .. } | Self::Damaged { .. }, TlsPart::Certificate) => {
                "`cert` is a PEM file with the server's certificate first, then its chain"
            }
            (Self::Other { .. } | Self::Damaged { .. }, TlsPart::Key) => {
                "`key` is a PEM file with the certificate's private key (RSA, ECDSA or Ed25519)"
            }
            (Self::Strangers { .. }, _) => {
                "name the key that the certificate was made with; after a renewal both files change"
            }
        }
    }
}

/// A certificate with its key. Clones are one: what [`replace`](Self::replace) changes, it changes
/// for all.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Identity>>);

#[derive(Clone)]
struct Identity {
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
    lasting: Lasting,
}

impl Tls {
    /// Reads a certificate, with the chain to its root, and its key, both PEM.
    ///
    /// # Errors
    /// When a file cannot be read, or they do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(Identity::load(cert, key)?))))
    }

    /// From now on `other` is shown to whoever connects; who is connected goes on.
    pub fn replace(&self, other: &Self) {
        let new = other.current();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// The SHA-256 digest of the certificate, by which somebody who was told it knows us.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.current().fingerprint
    }

    /// How long clients will take the certificate, seen from when it was loaded.
    pub fn lasting(&self) -> Lasting {
        self.current().lasting
    }

    fn current(&self) -> Identity {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current().config).accept(stream).await
    }
}

impl Identity {
    fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = pem::read(cert, TlsPart::Certificate)?;
        let secret: PrivateKeyDer<'static> = pem::read_key(key)?;
        let fingerprint = Sha256::digest(&chain[0]).into();
        let lasting = Lasting::at(&chain, SystemTime::now());
        let unfit = |e: rustls::Error| match e {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Strangers { cert: cert.to_path_buf(), key: key.to_path_buf() }
            }
            rustls::Error::InvalidCertificate(_) => damaged(TlsPart::Certificate, cert, e),
            e => damaged(TlsPart::Key, key, e),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), fingerprint, lasting })
    }
}

fn damaged(
    part: TlsPart,
    file: &Path,
    source: impl std::error::Error + Send + Sync + 'static,
) -> TlsError {
    TlsError::Damaged { part, file: file.to_path_buf(), source: Box::new(source) }
}
