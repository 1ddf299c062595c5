//! The HTTP answers of a running node.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use rowcast_core::{ByteSize, Fields, Publish, SinkSpec, SourceSpec, Subscription};
use rowcast_engine::{Node, NodeSpec, Publisher, RouteSpec};
use rowcast_store::MemoryLog;
use rowcast_testkit::memory::{MemoryDatabase, Write};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Sends a request line and gives the status and the body.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_string())
}

async fn serve(publisher: &MemoryDatabase) -> (SocketAddr, CancellationToken) {
    let entity = || "customer".parse().unwrap();
    let publish = Publish { entity: entity(), table: "customer".into(), fields: None };
    let subscription =
        Subscription { entity: entity(), into: "copy".into(), fields: Fields::All, create: true };
    let node = Node::new(NodeSpec {
        publishers: vec![Publisher {
            database: Arc::new(publisher.clone()),
            spec: SourceSpec {
                service: "shop".parse().unwrap(),
                entities: vec![publish],
                batch_bytes_max: ByteSize::mib(1),
            },
            afresh: false,
        }],
        routes: vec![RouteSpec {
            database: Arc::new(MemoryDatabase::new()),
            sink: SinkSpec {
                route: "shop:order".parse().unwrap(),
                subscriptions: vec![subscription],
            },
        }],
        log: Arc::new(MemoryLog::new()),
        read_bytes_max: ByteSize::mib(1),
    });
    let (board, stop) = (node.board(), CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop_node, stop_server) = (stop.clone(), stop.clone());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { node.run(stop_node).await.unwrap() });
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { rowcast_server::serve(listener, board, stop_server).await.unwrap() });
    (address, stop)
}

#[tokio::test]
async fn a_client_waits_for_its_write_and_sees_it_in_the_status() {
    let publisher = MemoryDatabase::new();
    publisher.commit(&[Write::put("customer", 1, "a")]);
    let (address, stop) = serve(&publisher).await;
    let (status, body) = ask(address, "GET /v1/wait?route=shop:order&position=1").await;
    assert_eq!((status, body.as_str()), (200, r#"{"route":"shop:order","position":"1"}"#));
    let (status, body) = ask(address, "GET /v1/status").await;
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, json["routes"][0]["to"].as_str()), (200, Some("order")));
    assert_eq!(ask(address, "GET /healthz").await, (200, "ok".into()));
    stop.cancel();
}

#[tokio::test]
async fn a_bad_question_gets_a_problem_and_not_a_broken_connection() {
    let (address, stop) = serve(&MemoryDatabase::new()).await;
    for (request, status) in [
        ("GET /v1/wait", 400),
        ("GET /v1/wait?route=nonsense&position=1", 400),
        ("GET /v1/wait?route=shop:order&position=nonsense", 400),
        ("GET /v1/wait?route=shop:nobody&position=1", 404),
        ("GET /v1/wait?route=shop:order&position=999&timeout_ms=1", 504),
        ("GET /nowhere", 404),
    ] {
        let (got, body) = ask(address, request).await;
        let json: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((got, json["status"].as_u64()), (status, Some(u64::from(status))), "{request}");
        assert!(!json["detail"].as_str().unwrap().is_empty());
    }
    assert_eq!(ask(address, "POST /v1/status").await.0, 405);
    stop.cancel();
}

#[tokio::test]
async fn a_waiting_client_does_not_hold_up_the_end() {
    let (address, stop) = serve(&MemoryDatabase::new()).await;
    let waiting = ask(address, "GET /v1/wait?route=shop:order&position=999&timeout_ms=600000");
    let end = async {
        while ask(address, "GET /healthz").await.0 != 200 {}
        stop.cancel();
    };
    let ((status, _), ()) = tokio::join!(waiting, end);
    assert_eq!(status, 503);
}
