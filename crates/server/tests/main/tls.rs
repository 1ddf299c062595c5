use crate::client::exchange;
use crate::shop::{LONG, Setup, Shop};
use rowcast_server::{Limits, Tls, TlsError, TlsPart};
use rowcast_testkit::postgres::Authority;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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

/// Connects as somebody who trusts an authority.
async fn greet(shop: &Shop, authority: &Authority) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.root()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_whoever_comes_and_who_is_there_goes_on() {
    let (old, new) = (files(), files());
    let tls = Tls::load(&old.cert, &old.key).unwrap();
    let shop = Setup { tls: Some(tls.clone()), ..Setup::default() }.open().await;
    let before = greet(&shop, &old.authority).await.unwrap();
    let fingerprint = tls.fingerprint();
    tls.replace(&Tls::load(&new.cert, &new.key).unwrap());
    assert_ne!(tls.fingerprint(), fingerprint);
    for (stream, who) in [(before, "old"), (greet(&shop, &new.authority).await.unwrap(), "new")] {
        assert_eq!(exchange(stream, REQUEST).await.unwrap().status, 200, "{who}");
    }
    assert!(greet(&shop, &old.authority).await.is_err());
    shop.close().await;
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_answered_over_tls_and_nobody_in_clear() {
    let files = files();
    let limits = Limits { head_within: Duration::from_secs(20), ..Limits::default() };
    let tls = Some(Tls::load(&files.cert, &files.key).unwrap());
    let shop = Setup { tls, limits, ..Setup::default() }.open().await;
    // One that never says hello holds nobody up.
    let _silent = TcpStream::connect(shop.address).await.unwrap();
    let stream = greet(&shop, &files.authority).await.unwrap();
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
    let beside = |name: &str, text: &str| {
        let path = one.cert.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let missing = one.cert.with_file_name("missing.pem");
    let (empty, prose) = (beside("empty.pem", ""), beside("prose.pem", "hello"));
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = beside("locked.pem", locked);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = beside("broken.pem", broken);
    let garbled = beside("garbled.pem", &broken_base64());
    for (cert, key, part, shown) in [
        (&missing, &one.key, TlsPart::Certificate, "missing.pem cannot be read"),
        (&empty, &one.key, TlsPart::Certificate, "empty.pem holds nothing, and no certificate"),
        (&prose, &one.key, TlsPart::Certificate, "prose.pem holds no PEM, and no certificate"),
        (&one.key, &one.key, TlsPart::Certificate, "holds a private key, and no certificate"),
        (&broken, &one.key, TlsPart::Certificate, "a damaged certificate"),
        (&garbled, &one.key, TlsPart::Certificate, "a damaged certificate"),
        (&one.cert, &missing, TlsPart::Key, "missing.pem cannot be read"),
        (&one.cert, &one.cert, TlsPart::Key, "holds a certificate, and no private key"),
        (&one.cert, &locked, TlsPart::Key, "holds an encrypted key, and no private key"),
        (&one.cert, &other.key, TlsPart::Key, "is not that of the certificate"),
    ] {
        let refused: TlsError = Tls::load(cert, key).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains(shown), "{shown}: {refused}");
        assert_eq!(refused.part(), part, "{refused}");
        assert!(!refused.help().is_empty());
    }
}

fn broken_base64() -> String {
    "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n".into()
}
