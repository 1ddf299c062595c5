//! Subscriptions over HTTP, on a running node that follows a registry.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[path = "subscriptions/fuzz.rs"]
mod fuzz;

use rowcast_core::{ByteSize, Publish, SourceSpec};
use rowcast_engine::{Desired, Node, Service};
use rowcast_server::{Access, Limits, Serving};
use rowcast_store::{MemoryLog, MemoryRegistry};
use rowcast_testkit::memory::{MemoryDatabase, Write};
use rowcast_testkit::wait::{LONG, becomes, eventually};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct Answers {
    address: SocketAddr,
    publisher: MemoryDatabase,
    subscriber: MemoryDatabase,
}

impl Answers {
    /// Services `shop`, which publishes `customer`, and `order`, which subscribes to nothing yet.
    async fn new() -> Self {
        let (publisher, subscriber) = (MemoryDatabase::new(), MemoryDatabase::new());
        let publish = Publish {
            entity: "customer".parse().unwrap(),
            table: "customer".into(),
            fields: None,
            masks: Default::default(),
        };
        let source = SourceSpec {
            service: "shop".parse().unwrap(),
            entities: vec![publish],
            batch_bytes_max: ByteSize::mib(1),
        };
        let service = |name: &str, database: &MemoryDatabase, source| Service {
            name: name.parse().unwrap(),
            database: Arc::new(database.clone()),
            source,
            retain: Default::default(),
            lanes: Default::default(),
            afresh: false,
        };
        let services =
            vec![service("shop", &publisher, Some(source)), service("order", &subscriber, None)];
        let services = watch::Sender::new(Arc::new(services));
        let registry = Arc::new(MemoryRegistry::new());
        let desired = Desired::new(registry, services.subscribe(), ByteSize::mib(1));
        let node = Node::following(desired, Arc::new(MemoryLog::new())).await.unwrap();
        let (board, stop) = (node.board(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            let _services = services;
            let (access, tls, limits) = (Access::open(), None, Limits::default());
            let serving = Serving { board, access, tls, limits };
            let serving = rowcast_server::serve(listener, serving, stop.clone());
            let (moved, ()) = tokio::join!(node.run(stop.clone()), serving);
            moved.unwrap();
        });
        Self { address, publisher, subscriber }
    }

    async fn ask(&self, request: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let host = format!("host: localhost\r\nconnection: close\r\ncontent-length: {length}");
        let kind = "content-type: application/json";
        let text = format!("{request} HTTP/1.1\r\n{host}\r\n{kind}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    async fn subscribe(&self, wish: Value) -> (u16, Value) {
        self.ask("POST /v1/subscriptions", &wish.to_string()).await
    }
}

#[tokio::test]
async fn a_subscription_is_made_listed_served_and_taken_back() {
    let answers = Answers::new().await;
    answers.publisher.commit(&[Write::put("customer", 1, "a")]);
    let wish = json!({"to": "order", "of": "shop.customer", "into": "copy",
        "fields": ["key", ["value", "value"]]});
    let (status, made) = answers.subscribe(wish.clone()).await;
    assert_eq!((status, &made["origin"]), (201, &json!("run-time")), "{made}");
    assert_eq!(made["fields"], json!([["key", "key"], ["value", "value"]]));
    let copied = async || answers.subscriber.table("copy") == answers.publisher.table("customer");
    eventually(LONG, "the copy", copied).await;
    assert_eq!(answers.subscribe(wish).await.0, 201, "the same again");
    let (_, listed) = answers.ask("GET /v1/subscriptions", "").await;
    assert_eq!(listed["subscriptions"], json!([made]));
    let (_, shown) = answers.ask("GET /v1/status", "").await;
    let copies = &shown["routes"][0]["subscriptions"];
    assert_eq!(*copies, json!([{"entity": "customer", "into": "copy", "origin": "run-time"}]));

    let path = "DELETE /v1/subscriptions/order/shop.customer";
    assert_eq!(answers.ask(&format!("{path}?into=other"), "").await.0, 404);
    assert_eq!(answers.ask(path, "").await.0, 200);
    let (status, gone) = answers.ask(path, "").await;
    assert_eq!((status, &gone["code"]), (404, &json!("SUBSCRIPTION")), "{gone}");
    let routes = async || answers.ask("GET /v1/status", "").await.1["routes"].clone();
    becomes(LONG, "the routes", json!([]), routes).await;
}

#[tokio::test]
async fn a_route_is_paused_and_resumed() {
    let answers = Answers::new().await;
    answers.subscribe(json!({"to": "order", "of": "shop.customer"})).await;
    let reason = json!({"by": "ada", "why": "a migration"}).to_string();
    let (status, told) = answers.ask("POST /v1/routes/shop:order/pause", &reason).await;
    assert_eq!((status, &told["paused"]), (200, &json!(true)), "{told}");
    let error = async || answers.ask("GET /v1/status", "").await.1["routes"][0]["error"].clone();
    becomes(LONG, "the error", json!("paused by ada: a migration"), error).await;
    let (_, shown) = answers.ask("GET /v1/status", "").await;
    assert_eq!(shown["routes"][0]["state"], "paused");
    assert_eq!(answers.ask("POST /v1/routes/shop%3Aorder/resume", "").await.0, 200);
    let live = async || answers.ask("GET /v1/status", "").await.1["routes"][0]["state"] == "live";
    eventually(LONG, "a live route", live).await;
    let (status, refused) = answers.ask("POST /v1/routes/shop:nobody/pause", "{}").await;
    assert_eq!((status, &refused["code"]), (404, &json!("SUBSCRIPTION")), "{refused}");
}

#[tokio::test]
async fn a_copy_begins_where_it_is_told_and_is_replayed() {
    let answers = Answers::new().await;
    answers.publisher.commit(&[Write::put("customer", 1, "old")]);
    let whole = json!({"to": "order", "of": "shop.customer", "into": "copy"});
    assert_eq!(answers.subscribe(whole).await.0, 201);
    let copied = async || answers.subscriber.table("copy") == answers.publisher.table("customer");
    eventually(LONG, "the copy", copied).await;
    let now = json!({"to": "order", "of": "shop.customer", "into": "news", "from": "now"});
    let (status, made) = answers.subscribe(now).await;
    assert_eq!((status, &made["from"]), (201, &json!("now")), "{made}");
    answers.publisher.commit(&[Write::put("customer", 2, "new")]);
    let new = async || answers.subscriber.table("news") == [(2, "new".to_string())].into();
    eventually(LONG, "what is new", new).await;

    answers.subscriber.commit(&[Write::put("copy", 9, "a stranger")]);
    let live = async || answers.ask("GET /v1/status", "").await.1["routes"][0]["state"] == "live";
    eventually(LONG, "a live route", live).await;
    let path = "POST /v1/routes/shop:order/replay";
    let (status, told) = answers.ask(path, "{}").await;
    let expected = json!({"route": "shop:order", "copies": 1, "from": null});
    assert_eq!((status, told), (202, expected));
    eventually(LONG, "the mended copy", copied).await;
    eventually(LONG, "a live route", live).await;
    let part = json!({"entities": ["customer"], "from": "3"}).to_string();
    let (status, told) = answers.ask(path, &part).await;
    assert_eq!((status, &told["copies"]), (202, &json!(1)), "{told}");
    eventually(LONG, "a live route", live).await;
    assert!(copied().await && new().await);
    for (body, status) in [
        (json!({"from": "now"}), 422),
        (json!({"from": "0/16B3748"}), 422),
        (json!({"from": "then"}), 400),
        (json!({"entities": ["custmer"]}), 404),
        (json!({"entities": [""]}), 400),
        (json!({"since": "3"}), 422),
    ] {
        let (answered, problem) = answers.ask(path, &body.to_string()).await;
        assert_eq!(answered, status, "{body} {problem}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    assert_eq!(answers.ask("POST /v1/routes/shop:nobody/replay", "{}").await.0, 404);
    // What stands in the way now and will not for ever is a conflict, not a wrong question.
    assert_eq!(answers.ask("POST /v1/routes/shop:order/pause", "{}").await.0, 200);
    let (status, problem) = answers.ask(path, "{}").await;
    assert_eq!((status, &problem["code"]), (409, &json!("SUBSCRIPTION")), "{problem}");
    assert!(problem["help"].as_str().unwrap().contains("rowcast resume shop:order"), "{problem}");
}

#[tokio::test]
async fn what_cannot_be_read_or_does_not_fit_is_refused_with_what_to_do() {
    let answers = Answers::new().await;
    for (wish, status) in [
        (json!({"to": "order"}), 422),
        (json!({"to": "order", "of": "customer"}), 400),
        (json!({"to": "Order", "of": "shop.customer"}), 400),
        (json!({"to": "order", "of": "shop.customer", "feilds": ["key"]}), 422),
        (json!({"to": "order", "of": "shop.customer", "fields": []}), 400),
        (json!({"to": "order", "of": "shop.customer", "fields": [["a", "b", "c"]]}), 400),
        (json!({"to": "order", "of": "shop.customer", "where": "key >"}), 400),
        (json!({"to": "order", "of": "shop.custmer"}), 404),
        (json!({"to": "nobody", "of": "shop.customer"}), 404),
        (json!({"to": "order", "of": "shop.customer", "fields": ["key", "valeu"]}), 422),
        (json!({"to": "order", "of": "shop.customer", "fields": ["value"]}), 422),
        (json!({"to": "order", "of": "shop.customer", "into": "a..b"}), 422),
        (json!({"to": "order", "of": "shop.customer", "into": ""}), 422),
    ] {
        let (answered, problem) = answers.subscribe(wish.clone()).await;
        assert_eq!(answered, status, "{wish} {problem}");
        assert!(problem["detail"].is_string(), "{problem}");
        if problem["code"].is_string() {
            let help = problem["help"].as_str().unwrap();
            assert!(help.contains("nothing was changed"), "{problem}");
        }
    }
    let wrong = json!({"to": "order", "of": "shop.customer", "where": "key = (1"});
    let (_, problem) = answers.subscribe(wrong).await;
    let help = problem["help"].as_str().unwrap();
    assert!(help.starts_with("key = (1\n"), "{problem}");
    assert!(help.contains('^') && help.contains("nothing was changed"), "{problem}");
    for body in ["", "{", "[]", "\u{0}", "{\"to\": 1}"] {
        let (status, _) = answers.ask("POST /v1/subscriptions", body).await;
        assert!(matches!(status, 400 | 422), "{status} {body:?}");
    }
    let loud = json!({"by": "a\nb"}).to_string();
    answers.subscribe(json!({"to": "order", "of": "shop.customer"})).await;
    assert_eq!(answers.ask("POST /v1/routes/shop:order/pause", &loud).await.0, 400);
    assert_eq!(answers.ask("POST /v1/routes/nonsense/pause", "{}").await.0, 400);
    let (_, listed) = answers.ask("GET /v1/subscriptions", "").await;
    assert_eq!(listed["subscriptions"].as_array().unwrap().len(), 1);
}
