use crate::client::exchange;
use crate::shop::{LONG, Setup};
use rowcast_server::{Limits, Tls, TlsError};
use rowcast_testkit::postgres::Authority;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

struct Files {
    authority: Authority,
    _dir: tempfile::TempDir,
    cert: PathBuf,
    key: PathBuf,
}

fn files() -> Files {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = authority.server(true);
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, server.certificate).unwrap();
    std::fs::write(&key, server.key).unwrap();
    Files { authority, _dir: dir, cert, key }
}

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_answered_over_tls_and_nobody_in_clear() {
    let files = files();
    let limits = Limits { head_within: Duration::from_secs(2), ..Limits::default() };
    let tls = Some(Tls::load(&files.cert, &files.key).unwrap());
    let shop = Setup { tls, limits, ..Setup::default() }.open().await;
    // One that never says hello holds nobody up.
    let _silent = TcpStream::connect(shop.address).await.unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.authority.root()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let answer = exchange(stream, REQUEST).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    let clear = TcpStream::connect(shop.address).await.unwrap();
    let answer = tokio::time::timeout(LONG, exchange(clear, REQUEST));
    // What comes back, if anything, is a TLS alert, which is no text.
    assert!(answer.await.unwrap().is_none());
    shop.close().await;
}

#[test]
fn files_that_are_no_identity_are_refused_with_their_names() {
    let (one, other) = (files(), files());
    let missing = one.cert.with_file_name("missing.pem");
    let empty = one.cert.with_file_name("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (cert, key, shown) in [
        (&missing, &one.key, "missing.pem"),
        (&empty, &one.key, "empty.pem"),
        (&one.cert, &missing, "missing.pem"),
        (&one.cert, &one.cert, "private key"),
        (&one.cert, &other.key, "do not belong together"),
    ] {
        let refused: TlsError = Tls::load(cert, key).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains(shown), "{shown}: {refused}");
    }
}
