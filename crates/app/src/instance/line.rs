//! The way to an instance: plain, or TLS. On this machine the certificate is known by its digest,
//! which the instance left in its data directory; elsewhere by the machine's roots and its name.

use crate::report::Failure;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection, whatever its kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where to connect, and how to know who is there.
#[derive(Debug)]
pub(super) struct Line {
    /// `host:port`.
    authority: String,
    trust: Trust,
}

#[derive(Debug)]
enum Trust {
    /// Plain.
    Anybody,
    /// The certificate with this digest.
    Digest([u8; 32]),
    /// A certificate with this name, signed by a root of this machine.
    Name(ServerName<'static>),
}

impl Line {
    /// To an instance on this machine.
    pub(super) fn local(address: SocketAddr, certificate: Option<[u8; 32]>) -> Self {
        let trust = certificate.map_or(Trust::Anybody, Trust::Digest);
        Self { authority: address.to_string(), trust }
    }

    /// To `http://host:port` or `https://host:port`.
    pub(super) fn to(url: &str) -> Result<Self, Failure> {
        let wrong = || {
            let message = format!("{url:?} is no address of an instance");
            Failure::usage(message, "write `https://host:7117`, without a path")
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ', '\r', '\n']) {
            return Err(wrong());
        }
        let encrypted = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let port = |a: &str| a.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        let bare = authority.ends_with(']') || !port(authority);
        let default = if encrypted { 443 } else { 80 };
        let authority = if bare { format!("{authority}:{default}") } else { authority.to_string() };
        let (host, _) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let trust = match encrypted {
            true => Trust::Name(ServerName::try_from(host).map_err(|_| wrong())?),
            false => Trust::Anybody,
        };
        Ok(Self { authority, trust })
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.authority).await?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let (config, name) = match &self.trust {
            Trust::Anybody => return Ok(Box::new(stream)),
            Trust::Digest(digest) => {
                let known = Arc::new(Known { digest: *digest, provider });
                let config = builder.dangerous().with_custom_certificate_verifier(known);
                (config.with_no_client_auth(), ServerName::from(stream.peer_addr()?.ip()))
            }
            Trust::Name(name) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                let config = builder.with_root_certificates(roots);
                (config.with_no_client_auth(), name.clone())
            }
        };
        Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// Why a certificate was refused, when that is what failed.
pub(super) fn distrusted(error: &io::Error) -> Option<&Error> {
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    matches!(inner, Error::InvalidCertificate(_)).then_some(inner)
}

/// Knows one certificate by its digest; its name and its roots do not matter.
#[derive(Debug)]
struct Known {
    digest: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if <[u8; 32]>::from(Sha256::digest(certificate)) == self.digest {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_perhaps_a_port() {
        for (url, authority) in [
            ("http://127.0.0.1:7117", "127.0.0.1:7117"),
            ("https://rowcast.example/", "rowcast.example:443"),
            ("http://[::1]", "[::1]:80"),
            ("https://[::1]:7117", "[::1]:7117"),
        ] {
            assert_eq!(Line::to(url).unwrap().to_string(), authority);
        }
        for wrong in
            ["", "localhost:7117", "ftp://x", "http://", "http://a/b", "https://a b", "http://u@h"]
        {
            assert!(Line::to(wrong).is_err(), "{wrong}");
        }
    }
}
