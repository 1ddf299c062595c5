//! What lies in a PEM file, told apart so that a mistake can be named.

use super::{TlsError, TlsPart, damaged};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;

/// Said of a key that needs a pass phrase.
pub(super) const ENCRYPTED: &str = "an encrypted key";

/// All certificates of a file, at least one.
pub(super) fn read(file: &Path, part: TlsPart) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = bytes(file, part)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|e| damaged(part, file, e))?;
    if chain.is_empty() { Err(other(file, part, &bytes)) } else { Ok(chain) }
}

/// The first private key of a file.
pub(super) fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = bytes(file, TlsPart::Key)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(other(file, TlsPart::Key, &bytes)),
        Err(e) => Err(damaged(TlsPart::Key, file, e)),
    }
}

fn bytes(file: &Path, part: TlsPart) -> Result<Vec<u8>, TlsError> {
    let file = file.to_path_buf();
    std::fs::read(&file).map_err(|source| TlsError::Unreadable { part, file, source })
}

/// Names what is there instead, by the labels in the file; never its content.
fn other(file: &Path, part: TlsPart, bytes: &[u8]) -> TlsError {
    let text = String::from_utf8_lossy(bytes);
    let mut labels = text.lines().filter_map(|line| {
        line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----").map(str::to_string)
    });
    let found = match labels.next_back().as_deref() {
        Some("ENCRYPTED PRIVATE KEY") => ENCRYPTED.into(),
        Some("CERTIFICATE") => "a certificate".into(),
        Some("CERTIFICATE REQUEST") => "a request for a certificate".into(),
        Some("PUBLIC KEY") => "a public key".into(),
        Some(label) if label.ends_with("PRIVATE KEY") => "a private key".into(),
        Some("EC PARAMETERS" | "DH PARAMETERS") => "parameters".into(),
        Some(_) => "something else".into(),
        None if bytes.is_empty() => "nothing".into(),
        None => "no PEM".into(),
    };
    TlsError::Other { part, file: file.to_path_buf(), found }
}
