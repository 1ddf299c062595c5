//! The running binary over HTTP: who is let in, and how commands get there.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use rowcast_testkit::postgres::Authority;
use rowcast_testkit::process::{Finished, Rowcast};
use rowcast_testkit::wait::{LONG, eventually};
use rusqlite::Connection;
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIVE: [&str; 6] = ["wait", "--route", "customer:order", "--live", "--timeout", "5m"];
const SERVICES: &str = r#"
[service.customer]
database = "sqlite:customers.db"
[service.customer.publish.customer]
[service.order]
database = "sqlite:orders.db"
[service.order.subscribe."customer.customer"]
"#;
const TOKENS: &str = r#"tokens = [
  { name = "ops", role = "admin", token = "${OPS_TOKEN}" },
  { name = "prometheus", role = "reader", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
]"#;
const OPS: &str = "the-token-of-the-operators-0123456789";

fn services(server: &str) -> Rowcast {
    let config = format!("{SERVICES}\n[server]\n{server}\n");
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config).variable("OPS_TOKEN", OPS);
    let table = "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT);
                 INSERT INTO customer VALUES (1, 'Ada'), (2, 'Grace')";
    Connection::open(rowcast.path("customers.db")).unwrap().execute_batch(table).unwrap();
    Connection::open(rowcast.path("orders.db"))
        .unwrap()
        .execute_batch("CREATE TABLE o (x)")
        .unwrap();
    rowcast
}

async fn run(rowcast: &Rowcast, args: &[&str]) -> Finished {
    rowcast.run(LONG, args).await
}

fn address(rowcast: &Rowcast) -> SocketAddr {
    let note = std::fs::read_to_string(rowcast.path("rowcast-data/run.json")).unwrap();
    let note: Value = serde_json::from_str(&note).unwrap();
    note["address"].as_str().unwrap().parse().unwrap()
}

async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_string())
}

#[tokio::test]
async fn with_tokens_commands_on_the_machine_just_work_and_others_need_one() {
    let rowcast = services(&format!("listen = \"127.0.0.1:0\"\n{TOKENS}"));
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;
    let mode =
        std::fs::metadata(rowcast.path("rowcast-data/run.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the note holds a token");

    let status = run(&rowcast, &["status", "--json"]).await.good();
    assert_eq!(
        serde_json::from_str::<Value>(&status.stdout).unwrap()["routes"][0]["state"],
        "live"
    );
    let live = run(&rowcast, &LIVE).await.good();
    assert!(live.stdout.contains("customer:order is live"), "{}", live.said());

    let address = address(&rowcast);
    assert_eq!(get(address, "/v1/status", None).await.0, 401);
    assert_eq!(get(address, "/v1/status", Some("abc")).await.0, 200, "the reader's token");
    assert_eq!(get(address, "/v1/events?stream=customer", Some("abc")).await.0, 403);
    assert_eq!(get(address, "/healthz", None).await, (200, "ok".into()));
    assert!(get(address, "/metrics", Some(OPS)).await.1.contains("rowcast_route_state{"));

    let url = format!("http://{address}");
    let refused = run(&rowcast, &["status", "--url", &url]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    assert!(refused.stderr.contains("ROWCAST_TOKEN"), "{}", refused.said());
    run(&rowcast, &["status", "--url", &url, "--token", OPS]).await.good();
    let wrong = run(&rowcast, &["status", "--token", "wrong"]).await;
    assert_eq!(wrong.code(), Some(1), "{}", wrong.said());
    assert!(wrong.stderr.contains("this token is not known"), "{}", wrong.said());

    let stopped = running.terminate(LONG).await.good();
    assert!(!stopped.said().contains(OPS), "no token is ever printed");
    assert!(!rowcast.path("rowcast-data/run.json").exists());
}

#[tokio::test]
async fn over_tls_the_machine_knows_the_instance_and_others_ask_its_authority() {
    let authority = Authority::new();
    let rowcast = services(&format!(
        "listen = \"127.0.0.1:0\"\ntls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n{TOKENS}"
    ))
    .variable("SSL_CERT_FILE", authority.root().to_str().unwrap());
    let server = authority.server(true);
    std::fs::write(rowcast.path("cert.pem"), server.certificate).unwrap();
    std::fs::write(rowcast.path("key.pem"), server.key).unwrap();
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "answering on https://127.0.0.1:").await;
    running.says(LONG, "route customer:order: live").await;
    run(&rowcast, &LIVE).await.good();
    let port = address(&rowcast).port();
    let url = format!("https://localhost:{port}");
    run(&rowcast, &["status", "--url", &url, "--token", OPS]).await.good();
    let nobody = rowcast.variable("SSL_CERT_FILE", "rowcast.toml");
    let stranger = run(&nobody, &["status", "--url", &url, "--token", OPS]).await;
    assert_eq!(stranger.code(), Some(1), "{}", stranger.said());
    assert!(stranger.stderr.contains("certificate"), "{}", stranger.said());
    assert!(stranger.stderr.contains("is not trusted here"), "{}", stranger.said());
    assert!(!stranger.stderr.contains("something else"), "{}", stranger.said());
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn what_would_let_everybody_in_is_refused_before_anything_starts() {
    let open = services("listen = \"0.0.0.0:0\"");
    let refused = run(&open, &["run"]).await;
    assert_eq!(refused.code(), Some(2), "{}", refused.said());
    assert!(refused.stderr.contains("there are no tokens"), "{}", refused.said());
    assert!(!open.path("rowcast-data").exists());
    let absent =
        services("listen = \"127.0.0.1:0\"\ntls = { cert = \"no.pem\", key = \"no.pem\" }");
    let refused = run(&absent, &["run"]).await;
    assert_eq!(refused.code(), Some(2), "{}", refused.said());
    assert!(refused.stderr.contains("no.pem"), "{}", refused.said());
}

#[tokio::test]
async fn a_new_token_opens_with_the_line_that_is_printed_beside_it() {
    let rowcast = services("listen = \"127.0.0.1:0\"");
    let made = run(&rowcast, &["token"]).await.good();
    let (token, line) = made.stdout.trim().split_once('\n').unwrap();
    let tokens = format!("tokens = [{{ name = \"new\", role = \"reader\", {line} }}]");
    rowcast.configure(&format!("{SERVICES}\n[server]\nlisten = \"127.0.0.1:0\"\n{tokens}\n"));
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;
    let address = address(&rowcast);
    assert_eq!(get(address, "/v1/status", Some(token)).await.0, 200);
    assert_eq!(get(address, "/v1/status", Some(&token[1..])).await.0, 401);
    running.terminate(LONG).await.good();
}

/// Follows all events until the instance ends the stream; what was said.
async fn follow(address: SocketAddr, token: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let request = format!("GET /v1/events?stream=customer&from=beginning HTTP/1.0\r\n{head}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    // The two rows that were there.
    while String::from_utf8_lossy(&said).matches("\ndata: ").count() < 2 {
        assert!(stream.read_buf(&mut said).await.unwrap() > 0, "{said:?}");
    }
    (stream, String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_reload_changes_tokens_at_once_and_ends_the_streams_of_those_that_are_gone() {
    let rowcast = services(&format!("listen = \"127.0.0.1:0\"\n{TOKENS}"));
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;
    let address = address(&rowcast);
    let (mut stream, _) = follow(address, OPS).await;
    let other = "another-token-0123456789-abcdefgh";
    let tokens = format!("tokens = [{{ name = \"new\", role = \"admin\", token = \"{other}\" }}]");
    rowcast.configure(&format!("{SERVICES}\n[server]\nlisten = \"127.0.0.1:0\"\n{tokens}\n"));
    assert_eq!(get(address, "/v1/status", Some(other)).await.0, 401, "not before a reload");
    run(&rowcast, &["reload"]).await.good();
    let mut rest = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("event: problem") && rest.contains("\"status\":401"), "{rest}");
    assert_eq!(get(address, "/v1/status", Some(OPS)).await.0, 401);
    assert_eq!(get(address, "/v1/status", Some(other)).await.0, 200);
    run(&rowcast, &["status"]).await.good();
    // Without any, whoever is on this machine may ask; and again not.
    rowcast.configure(&format!("{SERVICES}\n[server]\nlisten = \"127.0.0.1:0\"\n"));
    run(&rowcast, &["reload"]).await.good();
    eventually(LONG, "an open door", async || get(address, "/v1/status", None).await.0 == 200)
        .await;
    rowcast.configure(&format!("{SERVICES}\n[server]\nlisten = \"127.0.0.1:0\"\n{tokens}\n"));
    run(&rowcast, &["reload"]).await.good();
    eventually(LONG, "a closed door", async || get(address, "/v1/status", None).await.0 == 401)
        .await;
    run(&rowcast, &["status"]).await.good();
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn an_address_that_others_reach_is_not_opened_by_a_reload() {
    let rowcast = services(&format!("listen = \"0.0.0.0:0\"\n{TOKENS}"));
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;
    rowcast.configure(&format!("{SERVICES}\n[server]\nlisten = \"127.0.0.1:0\"\n"));
    run(&rowcast, &["reload"]).await.good();
    running.says(LONG, "without tokens everybody could read everything").await;
    assert_eq!(get(address(&rowcast), "/v1/status", None).await.0, 401);
    running.terminate(LONG).await.good();
}

/// Puts an authority's server certificate and key where the file names them.
fn put(rowcast: &Rowcast, authority: &Authority) {
    let server = authority.server(true);
    std::fs::write(rowcast.path("cert.pem"), server.certificate).unwrap();
    std::fs::write(rowcast.path("key.pem"), server.key).unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_by_a_reload() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = "tls = { cert = \"cert.pem\", key = \"key.pem\" }";
    let rowcast = services(&format!("listen = \"127.0.0.1:0\"\n{tls}\n{TOKENS}"))
        .variable("SSL_CERT_FILE", new.root().to_str().unwrap());
    put(&rowcast, &old);
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;
    let url = format!("https://localhost:{}", address(&rowcast).port());
    let ask = ["status", "--url", &url, "--token", OPS];
    assert_eq!(run(&rowcast, &ask).await.code(), Some(1), "nobody trusts the old one here");
    // A renewal that is half done changes nothing, and says where the mistake is.
    std::fs::write(rowcast.path("key.pem"), new.server(true).key).unwrap();
    let refused = run(&rowcast, &["reload"]).await;
    assert_eq!(refused.code(), Some(2), "{}", refused.said());
    assert!(refused.stderr.contains("is not that of the certificate"), "{}", refused.said());
    assert!(refused.stderr.contains("server.tls.key"), "{}", refused.said());
    run(&rowcast, &["status"]).await.good();
    put(&rowcast, &new);
    run(&rowcast, &["check"]).await.good();
    run(&rowcast, &["reload"]).await.good();
    eventually(LONG, "the new certificate", async || run(&rowcast, &ask).await.code() == Some(0))
        .await;
    run(&rowcast, &["status"]).await.good();
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn check_opens_the_files_of_a_certificate() {
    let authority = Authority::new();
    let tls = |cert: &str, key: &str| {
        let tls = format!("tls = {{ cert = \"{cert}\", key = \"{key}\" }}");
        services(&format!("listen = \"127.0.0.1:0\"\n{tls}\n{TOKENS}"))
    };
    for (cert, key, said, at) in [
        ("no.pem", "key.pem", "no.pem cannot be read", "server.tls.cert"),
        ("key.pem", "key.pem", "holds a private key, and no certificate", "server.tls.cert"),
        ("cert.pem", "cert.pem", "holds a certificate, and no private key", "server.tls.key"),
    ] {
        let rowcast = tls(cert, key);
        put(&rowcast, &authority);
        let checked = run(&rowcast, &["check"]).await;
        assert_eq!(checked.code(), Some(1), "{}", checked.said());
        assert!(checked.stderr.contains(said), "{}", checked.said());
        assert!(checked.stderr.contains(&format!("({at})")), "{}", checked.said());
        assert!(checked.stderr.contains("rowcast.toml:11:"), "{}", checked.said());
    }
}
