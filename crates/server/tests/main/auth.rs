use crate::client::{Follower, ask};
use crate::shop::{LONG, Setup, Shop, tokens};
use rowcast_server::{Grant, Limits, Role, TokenDigest};
use rowcast_testkit::memory::Write;
use rowcast_testkit::wait::eventually;

async fn guarded() -> Shop {
    let setup = Setup { access: tokens(), ..Setup::default() };
    setup.publisher.commit(&[Write::put("customer", 1, "a"), Write::put("invoice", 2, "b")]);
    let shop = setup.open().await;
    shop.live(Some("admin")).await;
    shop
}

const EVENTS: &str = "/v1/events?stream=shop&from=beginning";

#[tokio::test]
async fn without_a_token_only_probes_are_answered() {
    let shop = guarded().await;
    for path in [
        "/v1/status",
        "/v1/wait?route=shop:order&position=1",
        EVENTS,
        "/metrics",
        "/v1/openapi.json",
    ] {
        for token in [None, Some("wrong"), Some("admi"), Some("adminx"), Some("")] {
            let answer = shop.get(path, token).await;
            answer.problem(401);
            assert!(answer.head.contains("www-authenticate: Bearer"), "{answer:?}");
        }
    }
    assert_eq!(shop.get("/healthz", None).await.status, 200);
    let ready = shop.get("/readyz", None).await;
    assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"ready":true}"#), "and no names");
    assert!(shop.get("/readyz", Some("reader")).await.json()["waiting"].is_array());
    shop.close().await;
}

#[tokio::test]
async fn a_subscriber_sees_its_own_part_only() {
    let shop = guarded().await;
    let me = Some("subscriber");
    let status = shop.get("/v1/status", me).await.json();
    let routes = status["routes"].as_array().unwrap();
    assert_eq!((routes.len(), &routes[0]["to"]), (1, &"order".into()), "{status}");
    assert_eq!(shop.get("/v1/wait?route=shop:order&position=1", me).await.status, 200);
    shop.get("/v1/wait?route=shop:billing&position=1", me).await.problem(403);
    shop.get("/metrics", me).await.problem(403);
    shop.get("/v1/events?stream=shop&entity=invoice", me).await.problem(403);
    shop.get("/v1/events?stream=order", me).await.problem(403);
    shop.publisher.commit(&[Write::put("invoice", 3, "c"), Write::put("customer", 4, "d")]);
    let header = "authorization: Bearer subscriber\r\n";
    let mut follower = Follower::new(shop.address, EVENTS, header).await;
    let told = follower.told(2).await;
    let told: Vec<_> =
        told.iter().map(|(_, kind, subject, _)| (kind.as_str(), subject.as_str())).collect();
    assert_eq!(told, [("rowcast.customer.read", "1"), ("rowcast.customer.update", "4")]);
    shop.close().await;
}

#[tokio::test]
async fn a_reader_sees_everything_but_values() {
    let shop = guarded().await;
    let me = Some("reader");
    assert_eq!(shop.get("/v1/status", me).await.json()["routes"].as_array().unwrap().len(), 2);
    assert_eq!(shop.get("/v1/wait?route=shop:billing&position=1", me).await.status, 200);
    assert_eq!(shop.get("/metrics", me).await.status, 200);
    shop.get(EVENTS, me).await.problem(403);
    shop.get("/v1/events?stream=nobody", me).await.problem(403);
    shop.close().await;
}

#[tokio::test]
async fn without_tokens_a_page_elsewhere_gets_nothing() {
    let shop = Setup::default().open().await;
    let rebound = "GET /v1/status HTTP/1.1\r\nhost: evil.com\r\nconnection: close\r\n\r\n";
    let stream = tokio::net::TcpStream::connect(shop.address).await.unwrap();
    let answer = crate::client::exchange(stream, rebound.as_bytes()).await.unwrap();
    answer.problem(421);
    for foreign in ["origin: https://evil.com\r\n", "sec-fetch-site: cross-site\r\n"] {
        for path in ["GET /v1/status", "GET /healthz", "POST /v1/status", "OPTIONS /v1/status"] {
            let answer = ask(shop.address, path, foreign).await;
            answer.problem(403);
            assert!(!answer.head.contains("access-control-allow"), "{answer:?}");
        }
    }
    assert_eq!(
        ask(shop.address, "GET /healthz", "origin: http://localhost:3000\r\n").await.status,
        200
    );
    shop.close().await;
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_its_waits_and_no_others() {
    let access = tokens();
    let limits = Limits { waits: 3, ..Limits::default() };
    let shop = Setup { access: access.clone(), limits, ..Setup::default() }.open().await;
    shop.live(Some("admin")).await;
    let path = "/v1/wait?route=shop:order&position=2&timeout_ms=600000";
    let wait = async |token| loop {
        let answer = shop.get(path, Some(token)).await;
        // The probe below may have had the seat.
        if answer.status != 503 {
            return answer;
        }
    };
    let replaced = async {
        // All three are under way once a fourth is told that there is no seat.
        let probe = "/v1/wait?route=shop:order&position=999&timeout_ms=0";
        let taken = async || shop.get(probe, Some("reader")).await.status == 503;
        eventually(LONG, "three wait", taken).await;
        let grant = |name: &str, role, token: &str| Grant {
            name: name.into(),
            role,
            token: TokenDigest::of(token),
        };
        let other = Role::Subscriber("billing".parse().unwrap());
        let less = grant("less", other, "subscriber");
        access.replace(vec![less, grant("renamed", Role::Reader, "reader")]);
    };
    let stays = async {
        let answer = wait("reader").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let ended = async {
        let (gone, less, ()) = tokio::join!(wait("admin"), wait("subscriber"), replaced);
        let problem = gone.problem(401);
        assert_eq!(problem["detail"], "this token was taken back");
        less.problem(403);
        shop.publisher.commit(&[Write::put("customer", 1, "a")]);
        shop.publisher.commit(&[Write::put("customer", 2, "b")]);
    };
    tokio::time::timeout(LONG, async { tokio::join!(stays, ended) }).await.unwrap();
    shop.close().await;
}
