//! TLS by rustls, with the provider passed by hand: two in one process would make it panic.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or holds no PEM of what it should.
    #[error("{} holds no {what} that can be read", .file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not make an identity.
    #[error("{} and {} do not belong together, or are of a kind that is not supported", .cert.display(), .key.display())]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// In the library's words.
        source: rustls::Error,
    },
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
}

impl Tls {
    /// Reads a certificate, with the chain to its root, and its key, both PEM.
    ///
    /// # Errors
    /// When a file cannot be read, or they do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let unread = |file: &Path, what| {
            let file = file.to_path_buf();
            move |source| TlsError::File { file, what, source }
        };
        let no_certificate = unread(cert, "certificate");
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(no_certificate)?;
        let first = chain.first().ok_or_else(|| {
            unread(cert, "certificate")(rustls_pki_types::pem::Error::NoItemsFound)
        })?;
        let fingerprint = Sha256::digest(first).into();
        let secret = PrivateKeyDer::from_pem_file(key).map_err(unread(key, "private key"))?;
        let unfit = |source| TlsError::Identity {
            cert: cert.to_path_buf(),
            key: key.to_path_buf(),
            source,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), fingerprint })
    }

    /// The SHA-256 digest of the certificate, by which somebody who was told it knows us.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config.clone()).accept(stream).await
    }
}
