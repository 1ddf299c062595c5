use crate::shop::{LONG, Setup};
use rowcast_testkit::memory::{Fault, Write};
use rowcast_testkit::wait::eventually;

#[tokio::test]
async fn a_client_waits_for_its_write_and_sees_it_in_the_status() {
    let setup = Setup::default();
    setup.publisher.commit(&[Write::put("customer", 1, "a")]);
    let shop = setup.open().await;
    let answer = shop.get("/v1/wait?route=shop:order&position=1", None).await;
    let expected = r#"{"route":"shop:order","position":"1"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
    let answer = shop.get("/v1/wait?route=shop:order&live=true", None).await;
    let expected = r#"{"route":"shop:order","live":true}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
    assert_eq!(shop.subscriber.table("customer_copy")[&1], "a", "live means that all is there");
    let status = shop.get("/v1/status", None).await;
    assert_eq!((status.status, &status.json()["routes"][0]["to"]), (200, &"order".into()));
    let up = shop.get("/healthz", None).await;
    assert_eq!((up.status, up.body.as_str()), (200, "ok"));
    shop.close().await;
}

#[tokio::test]
async fn a_bad_question_gets_a_problem_and_not_a_broken_connection() {
    let shop = Setup::default().open().await;
    for (path, status) in [
        ("/v1/wait", 400),
        ("/v1/status?route=shop:order", 400),
        ("/v1/subscriptions?to=order", 400),
        ("/v1/wait?route=shop:order", 400),
        ("/v1/wait?route=nonsense&position=1", 400),
        ("/v1/wait?route=shop:order&position=nonsense", 400),
        ("/v1/wait?route=shop:order&position=1&timeout_ms=-1", 400),
        ("/v1/wait?route=shop:order&live=perhaps", 400),
        ("/v1/wait?route=shop:order&position=16/B374D848", 400),
        ("/v1/wait?route=shop:nobody&position=1", 404),
        ("/v1/wait?route=shop:nobody&live=true", 404),
        ("/v1/wait?route=shop:order&position=999&timeout_ms=1", 408),
        ("/v1/wait?route=shop:order&position=999&timeout_ms=1&live=true", 408),
        ("/nowhere", 404),
        ("/v1/status/", 404),
    ] {
        shop.get(path, None).await.problem(status);
    }
    let posted = crate::client::ask(shop.address, "POST /v1/status", "content-length: 0\r\n").await;
    posted.problem(405);
    shop.close().await;
}

#[tokio::test]
async fn the_counters_count_what_was_captured_and_applied() {
    let setup = Setup::default();
    setup.publisher.commit(&[Write::put("customer", 1, "a"), Write::put("customer", 2, "b")]);
    let shop = setup.open().await;
    shop.live(None).await;
    shop.publisher.commit(&[Write::put("customer", 1, "c"), Write::put("invoice", 7, "x")]);
    for to in ["order", "billing"] {
        let path = format!("/v1/wait?route=shop:{to}&position=2&timeout_ms=300000");
        assert_eq!(shop.get(&path, None).await.status, 200);
    }
    let status = shop.get("/v1/status", None).await.json();
    assert_eq!(status["services"][0]["captured_events"], shop.events().await);
    // Two rows of the snapshot and one update; one more invoice for billing.
    assert_eq!(status["routes"][0]["applied_events"], 3);
    assert_eq!(status["routes"][1]["applied_events"], 4);
    shop.close().await;
}

#[tokio::test]
async fn an_instance_is_ready_while_nothing_waits_for_a_person() {
    let setup = Setup::default();
    setup.subscriber.sink_faults(&[Fault::NeedOperator]);
    let shop = setup.open().await;
    eventually(LONG, "the route to pause", async || {
        let answer = shop.get("/readyz", None).await;
        let waiting = &answer.json()["waiting"];
        waiting.as_array().is_some_and(|w| w.iter().any(|w| w["state"] == "paused"))
            && answer.status == 503
    })
    .await;
    // It looks again by itself, and the fault was for once.
    eventually(LONG, "the route to go on", async || {
        let answer = shop.get("/readyz", None).await;
        answer.status == 200 && answer.json() == serde_json::json!({"ready": true, "waiting": []})
    })
    .await;
    shop.close().await;
}

#[tokio::test]
async fn a_waiting_client_does_not_hold_up_the_end() {
    let shop = Setup::default().open().await;
    let address = shop.address;
    let path = "GET /v1/wait?route=shop:order&position=999&timeout_ms=600000";
    let waiting = crate::client::ask(address, path, "");
    let end = async {
        shop.live(None).await;
        shop.close().await;
    };
    let (answer, ()) = tokio::join!(waiting, end);
    answer.problem(503);
}
