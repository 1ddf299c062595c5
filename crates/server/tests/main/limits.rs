use crate::client::exchange;
use crate::shop::{LONG, Setup, Shop};
use rowcast_server::Limits;
use rowcast_testkit::wait::eventually;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connect(shop: &Shop) -> TcpStream {
    TcpStream::connect(shop.address).await.unwrap()
}

#[tokio::test]
async fn what_is_no_request_or_too_large_is_refused_and_the_next_is_served() {
    let shop = Setup::default().open().await;
    let long = "x".repeat(10_000);
    let huge = "x".repeat(1 << 20);
    let host = "host: localhost\r\nconnection: close\r\n";
    for (bytes, statuses) in [
        (format!("GET /v1/status?{long} HTTP/1.1\r\n{host}\r\n"), &[414][..]),
        (format!("GET /{huge} HTTP/1.1\r\n{host}\r\n"), &[414, 431]),
        (format!("GET / HTTP/1.1\r\n{host}x: {huge}\r\n\r\n"), &[431]),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "x: y\r\n".repeat(500)), &[431]),
        ("\0\0\0\0\r\n\r\n".into(), &[400]),
        ("GET\r\n\r\n".into(), &[400]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[400, 404, 421, 505]),
        (format!("GET /v1/status HTTP/1.1\r\n{host}content-length: -5\r\n\r\n"), &[400]),
        (format!("GET /v1/status HTTP/1.1\r\n{host}bad header: x\r\n\r\n"), &[400]),
        (
            "GET /v1/status HTTP/1.1\r\nhost: a\r\nconnection: close\r\nhost: localhost\r\n\r\n"
                .into(),
            &[421],
        ),
        ("GET /v1/status HTTP/1.1\r\nconnection: close\r\n\r\n".into(), &[421]),
        (format!("GET /v1/status?{}%zz HTTP/1.1\r\n{host}\r\n", "&".repeat(100)), &[400]),
        (format!("GET /v1/%73tatus HTTP/1.1\r\n{host}\r\n"), &[200, 404]),
    ] {
        let shown: String = bytes.chars().take(60).collect();
        let exchanged =
            tokio::time::timeout(LONG, exchange(connect(&shop).await, bytes.as_bytes()));
        // A connection that is reset while we still write may lose the answer.
        if let Some(answer) = exchanged.await.unwrap_or_else(|_| panic!("{shown:?} hangs")) {
            assert!(statuses.contains(&answer.status), "{shown:?}: {answer:?}");
        }
    }
    assert_eq!(shop.get("/healthz", None).await.status, 200);
    shop.close().await;
}

#[tokio::test]
async fn who_does_not_finish_a_request_is_let_go() {
    let limits = Limits { head_within: Duration::from_millis(200), ..Limits::default() };
    let shop = Setup { limits, ..Setup::default() }.open().await;
    for said in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut stream = connect(&shop).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "{said:?} keeps its connection for ever");
        assert_eq!(heard.starts_with(b"HTTP/1.1 200"), said.ends_with("\r\n\r\n"), "{said:?}");
    }
    shop.close().await;
}

#[tokio::test]
async fn two_thousand_idle_connections_keep_nobody_out() {
    let most = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: most.maximum, ..most }).unwrap();
    let shop = Setup::default().open().await;
    shop.live(None).await;
    let mut idle = Vec::new();
    for n in 0..2000 {
        let mut stream = connect(&shop).await;
        if n % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
        }
        idle.push(stream);
    }
    for _ in 0..10 {
        assert_eq!(shop.get("/v1/status", None).await.status, 200);
    }
    // The first ones made room for the last ones.
    let mut heard = Vec::new();
    idle[0].read_to_end(&mut heard).await.ok();
    assert!(heard.is_empty());
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n").await.unwrap();
    last.read_to_end(&mut heard).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&heard));
    drop(idle);
    shop.close().await;
}

#[tokio::test]
async fn when_all_connections_are_busy_the_next_is_told_so() {
    let limits = Limits { connections: 2, waits: 2, ..Limits::default() };
    let shop = Setup { limits, ..Setup::default() }.open().await;
    let wait = "GET /v1/wait?route=shop:order&position=999&timeout_ms=600000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&shop).await;
        stream.write_all(wait.as_bytes()).await.unwrap();
        busy.push(stream);
    }
    eventually(LONG, "both to be busy", async || {
        let answer = exchange(connect(&shop).await, b"").await;
        answer.is_some_and(|a| {
            a.problem(503);
            true
        })
    })
    .await;
    drop(busy);
    eventually(LONG, "room again", async || {
        let request = b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n";
        exchange(connect(&shop).await, request).await.is_some_and(|a| a.status == 200)
    })
    .await;
    shop.close().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits { answer_within: Duration::from_millis(200), ..Limits::default() };
    let shop = Setup { limits, ..Setup::default() }.open().await;
    let head = "POST /v1/routes/shop:order/pause HTTP/1.1\r\nhost: localhost\r\n\
        content-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{";
    let mut stream = connect(&shop).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(LONG, exchange(stream, b"")).await.unwrap().unwrap();
    answer.problem(408);
    shop.close().await;
}

#[tokio::test]
async fn requests_that_are_sent_at_once_are_answered_in_order() {
    let shop = Setup::default().open().await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
    let both = ask("/healthz") + "\r\n" + &ask("/nowhere") + "connection: close\r\n\r\n";
    let mut stream = connect(&shop).await;
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    let (first, second) = heard.split_once("ok").unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{heard}");
    assert!(second.starts_with("HTTP/1.1 404"), "{heard}");
    shop.close().await;
}
