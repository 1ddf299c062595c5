//! How long a certificate is good: asked of the library that clients ask.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate that ends sooner is worth a warning.
const SOON: Duration = Duration::from_hours(14 * 24);

/// How long clients will take a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Long enough.
    Good,
    /// It begins later than now.
    NotYet,
    /// It ends within two weeks.
    Soon,
    /// It has ended.
    Over,
}

impl Lasting {
    /// Of a chain whose first certificate is the server's.
    pub(super) fn at(chain: &[CertificateDer<'_>], now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        match out_of_time(chain, since) {
            Some(Self::Over) => Self::Over,
            Some(other) => other,
            None if out_of_time(chain, since + SOON) == Some(Self::Over) => Self::Soon,
            None => Self::Good,
        }
    }
}

/// What is wrong with the time, and nothing else: whom clients trust is not known here, but time is
/// looked at first.
fn out_of_time(chain: &[CertificateDer<'_>], at: Duration) -> Option<Lasting> {
    let (server, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add(server.clone().into_owned()).ok()?;
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let at = UnixTime::since_unix_epoch(at);
    match verifier.verify_server_cert(server, rest, &name, &[], at) {
        Err(Error::InvalidCertificate(e)) => match e {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some(Lasting::Over)
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Some(Lasting::NotYet)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_testkit::postgres::Authority;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn a_certificate_begins_lasts_and_ends() {
        let made = Authority::new().server(true).certificate;
        let chain = [CertificateDer::from_pem_slice(made.as_bytes()).unwrap()];
        let day = Duration::from_hours(24);
        let now = SystemTime::now();
        assert_eq!(Lasting::at(&chain, UNIX_EPOCH), Lasting::NotYet);
        let states = (0..60).step_by(7).map(|days| Lasting::at(&chain, now + day * days));
        let mut states: Vec<Lasting> = states.take_while(|s| *s != Lasting::Over).collect();
        states.dedup();
        assert_eq!(states, [Lasting::Good, Lasting::Soon], "and then it is over");
    }
}
