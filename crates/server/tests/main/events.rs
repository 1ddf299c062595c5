use crate::client::Follower;
use crate::shop::{LONG, Setup, Shop, tokens};
use rowcast_core::{EventLog, Offset};
use rowcast_server::{Grant, Limits, Role, TokenDigest};
use rowcast_store::MemoryLog;
use rowcast_testkit::memory::Write;
use rowcast_testkit::wait::eventually;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const ALL: &str = "/v1/events?stream=shop&from=beginning";

fn names(told: &[(u64, String, String, String)]) -> Vec<(&str, &str, &str)> {
    told.iter().map(|(_, kind, key, value)| (kind.as_str(), key.as_str(), value.as_str())).collect()
}

async fn applied(shop: &Shop, position: u64) {
    for to in ["order", "billing"] {
        let path = format!("/v1/wait?route=shop:{to}&position={position}&timeout_ms=300000");
        assert_eq!(shop.get(&path, None).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_reads_the_snapshot_and_then_every_change_in_order() {
    let setup = Setup::default();
    setup.publisher.commit(&[Write::put("customer", 1, "a")]);
    let shop = setup.open().await;
    shop.live(None).await;
    let mut follower = Follower::new(shop.address, ALL, "").await;
    assert_eq!(names(&follower.told(1).await), [("rowcast.customer.read", "1", "a")]);
    shop.publisher.commit(&[Write::put("customer", 1, "b"), Write::put("invoice", 9, "x")]);
    shop.publisher.commit(&[Write::delete("customer", 1)]);
    let told = follower.told(3).await;
    let expected = [
        ("rowcast.customer.update", "1", "b"),
        ("rowcast.invoice.update", "9", "x"),
        ("rowcast.customer.delete", "1", ""),
    ];
    assert_eq!(names(&told), expected);
    assert!(told.windows(2).all(|w| w[0].0 < w[1].0), "offsets grow: {told:?}");
    shop.close().await;
}

#[tokio::test]
async fn a_change_is_a_cloud_event() {
    let shop = Setup::default().open().await;
    shop.live(None).await;
    let mut follower = Follower::new(shop.address, "/v1/events?stream=shop", "").await;
    shop.publisher.commit(&[Write::put("customer", 5, "Ada")]);
    let sent = follower.next().await.unwrap();
    let id = sent.id.unwrap();
    let expected = serde_json::json!({
        "specversion": "1.0", "id": format!("shop/{id}"), "source": "/rowcast/shop",
        "type": "rowcast.customer.update", "subject": "5", "time": "1970-01-01T00:00:00.000000Z",
        "offset": id.to_string(), "position": "0", "datacontenttype": "application/json",
        "data": {"key": 5, "value": "Ada"},
    });
    assert_eq!((sent.data, sent.name), (expected, None));
    shop.close().await;
}

#[tokio::test]
async fn a_client_that_connects_again_goes_on_where_it_was() {
    let shop = Setup::default().open().await;
    shop.live(None).await;
    for n in 0..500 {
        shop.publisher.commit(&[Write::put("customer", n, "x"), Write::put("invoice", n, "y")]);
    }
    let path = "/v1/events?stream=shop&entity=customer&from=beginning";
    let mut last: Option<u64> = None;
    let mut keys = Vec::new();
    while keys.len() < 500 {
        // The header goes before `from`, which a client repeats with the address.
        let header = last.map(|l| format!("last-event-id: {l}\r\n")).unwrap_or_default();
        let mut follower = Follower::new(shop.address, path, &header).await;
        for (id, kind, key, _) in follower.told(50).await {
            assert_eq!(kind, "rowcast.customer.update");
            last = Some(id);
            keys.push(key.parse::<u64>().unwrap());
        }
    }
    assert_eq!(keys, (0..500).collect::<Vec<_>>(), "each once, in order");
    shop.close().await;
}

#[tokio::test]
async fn a_place_that_is_not_there_is_a_problem() {
    let shop = Setup::default().open().await;
    shop.live(None).await;
    shop.publisher.commit(&[Write::put("customer", 1, "a")]);
    applied(&shop, 1).await;
    let next = shop.events().await;
    shop.log.trim(&"shop".parse().unwrap(), Offset(2)).await.unwrap();
    for (query, status) in [
        ("", 400),
        ("?stream=Bad", 400),
        ("?stream=nobody", 404),
        ("?stream=order", 404),
        ("?stream=shop&entity=nothing", 404),
        ("?stream=shop&entity=", 400),
        ("?stream=shop&from=middle", 400),
        ("?stream=shop&from=-1", 400),
        ("?stream=shop&from=18446744073709551616", 400),
        (&format!("?stream=shop&from={}", next + 1), 409),
        ("?stream=shop&from=0", 410),
    ] {
        let problem = shop.get(&format!("/v1/events{query}"), None).await.problem(status);
        assert_eq!(problem["code"] == "LOG-TRIMMED", status == 410, "{problem}");
    }
    for last in ["x", "-1", "18446744073709551615"] {
        let header = format!("last-event-id: {last}\r\n");
        let answer = crate::client::ask(shop.address, &format!("GET {ALL}"), &header).await;
        answer.problem(400);
    }
    shop.close().await;
}

#[tokio::test]
async fn the_end_of_the_server_ends_a_stream_in_order() {
    // Nobody lives to see a stream broken off.
    let limits = Limits { ended_within: 2 * LONG, ..Limits::default() };
    let shop = Setup { limits, ..Setup::default() }.open().await;
    shop.live(None).await;
    let mut follower = Follower::new(shop.address, ALL, "").await;
    shop.publisher.commit(&[Write::put("customer", 1, "a")]);
    follower.told(1).await;
    shop.close().await;
    assert!(follower.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped_and_holds_nothing_up() {
    let limits =
        Limits { taken_within: Duration::from_millis(300), streams: 1, ..Limits::default() };
    let shop = Setup { limits, ..Setup::default() }.open().await;
    shop.live(None).await;
    let mut deaf = TcpStream::connect(shop.address).await.unwrap();
    let request = format!("GET {ALL} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    deaf.write_all(request.as_bytes()).await.unwrap();
    eventually(LONG, "the only seat to be taken", async || {
        shop.get("/v1/events?stream=nobody", None).await.status == 404
            && shop.get("/v1/events?stream=shop&from=0", None).await.status == 503
    })
    .await;
    // Far more than the system buffers for a connection.
    let large = "x".repeat(1 << 20);
    for n in 0..24 {
        shop.publisher.commit(&[Write::put("customer", n % 4, &large)]);
    }
    applied(&shop, 24).await;
    eventually(LONG, "the seat to be free again", async || {
        let next = shop.events().await;
        let mut stream = TcpStream::connect(shop.address).await.unwrap();
        let request =
            format!("HEAD /v1/events?stream=shop&from={next} HTTP/1.0\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = crate::client::exchange(stream, b"").await;
        answer.is_some_and(|a| a.status == 200)
    })
    .await;
    drop(deaf);
    shop.close().await;
}

#[tokio::test]
async fn an_answer_ends_where_it_is_told_to() {
    let shop = Setup::default().open().await;
    shop.live(None).await;
    for n in 0..5 {
        shop.publisher.commit(&[Write::put("customer", n, "x"), Write::put("invoice", n, "y")]);
    }
    applied(&shop, 5).await;
    let count = async |query: &str| {
        let mut follower = Follower::new(shop.address, &format!("{ALL}{query}"), "").await;
        let mut told = 0;
        while let Some(sent) = follower.next().await {
            assert_eq!(sent.name, None, "{sent:?}");
            told += 1;
        }
        told
    };
    assert_eq!(count("&limit=3").await, 3, "a limit ends also what follows");
    assert_eq!(count("&follow=false").await, 10);
    assert_eq!(count("&follow=false&entity=customer&limit=7").await, 5);
    let mut none = Follower::new(shop.address, "/v1/events?stream=shop&follow=false", "").await;
    assert!(none.next().await.is_none(), "from the end to the end");
    for wrong in ["&limit=0", "&limit=-1", "&follow=no", "&entitty=customer"] {
        shop.get(&format!("{ALL}{wrong}"), None).await.problem(400);
    }
    shop.close().await;
}

#[tokio::test]
async fn a_client_passes_what_compaction_has_emptied() {
    let setup = Setup { log: Arc::new(MemoryLog::forgetful()), ..Setup::default() };
    let shop = setup.open().await;
    shop.live(None).await;
    shop.publisher.commit(&[Write::put("customer", 1, "a"), Write::put("customer", 2, "b")]);
    shop.publisher.commit(&[Write::delete("customer", 2)]);
    applied(&shop, 2).await;
    // The last offsets of what is compacted hold nothing any more.
    let upto = Offset(shop.events().await);
    shop.log.compact(&"shop".parse().unwrap(), upto).await.unwrap();
    let mut follower = Follower::new(shop.address, ALL, "").await;
    assert_eq!(names(&follower.told(1).await), [("rowcast.customer.update", "1", "a")]);
    shop.publisher.commit(&[Write::put("customer", 3, "c")]);
    let next = tokio::time::timeout(LONG, follower.told(1)).await.unwrap();
    assert_eq!(names(&next), [("rowcast.customer.update", "3", "c")]);
    shop.close().await;
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_its_streams_and_no_others() {
    let access = tokens();
    let shop = Setup { access: access.clone(), ..Setup::default() }.open().await;
    shop.live(Some("admin")).await;
    let follow = async |token: &str| {
        let header = format!("authorization: Bearer {token}\r\n");
        Follower::new(shop.address, ALL, &header).await
    };
    let (mut gone, mut less) = (follow("admin").await, follow("subscriber").await);
    let new = Grant { name: "new".into(), role: Role::Admin, token: TokenDigest::of("new") };
    let reads =
        Grant { name: "less".into(), role: Role::Reader, token: TokenDigest::of("subscriber") };
    access.replace(vec![new, reads]);
    for (stream, status) in [(&mut gone, 401), (&mut less, 403)] {
        let last = tokio::time::timeout(LONG, stream.next()).await.unwrap().unwrap();
        assert_eq!((last.name.as_deref(), &last.data["status"]), (Some("problem"), &status.into()));
        assert!(stream.next().await.is_none(), "and it ends");
    }
    shop.get("/v1/status", Some("admin")).await.problem(401);
    let mut stays = follow("new").await;
    let again = Grant { name: "again".into(), role: Role::Admin, token: TokenDigest::of("new") };
    access.replace(vec![again]);
    shop.publisher.commit(&[Write::put("customer", 1, "a")]);
    assert_eq!(names(&stays.told(1).await), [("rowcast.customer.update", "1", "a")]);
    // Open to all on this machine, and then not any more: whoever came without a token is sent away.
    access.replace(Vec::new());
    let mut anybody = Follower::new(shop.address, ALL, "").await;
    anybody.told(1).await;
    access.replace(vec![Grant {
        name: "late".into(),
        role: Role::Admin,
        token: TokenDigest::of("late"),
    }]);
    assert_eq!(anybody.next().await.unwrap().data["status"], 401);
    shop.close().await;
}
