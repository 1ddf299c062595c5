//! Parked keys over HTTP: who may see them, who may do something about them.

use crate::client::ask;
use crate::shop::{LONG, Setup, Shop, tokens};
use rowcast_testkit::memory::Write;
use rowcast_testkit::wait::eventually;

/// A shop with one bad customer, whom both routes have parked.
async fn with_a_bad_row() -> Shop {
    let setup = Setup { access: tokens(), ..Setup::default() };
    setup.subscriber.refuse_values(Some("bad"));
    setup.publisher.commit(&[Write::put("customer", 1, "good"), Write::put("customer", 2, "bad")]);
    let shop = setup.open().await;
    shop.live(Some("admin")).await;
    eventually(LONG, "two parked keys", async || parked(&shop, "", "admin").await == 2).await;
    shop
}

/// How many parked keys a token is shown.
async fn parked(shop: &Shop, query: &str, token: &str) -> usize {
    let answer = shop.get(&format!("/v1/parked{query}"), Some(token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["parked"].as_array().unwrap().len()
}

async fn post(shop: &Shop, path: &str, token: Option<&str>) -> crate::client::Answer {
    let header = token.map(|t| format!("authorization: Bearer {t}\r\n")).unwrap_or_default();
    ask(shop.address, &format!("POST {path}"), &header).await
}

#[tokio::test]
async fn a_token_lists_the_parked_keys_that_concern_it() {
    let shop = with_a_bad_row().await;
    for (token, all) in [("admin", 2), ("reader", 2), ("subscriber", 1)] {
        assert_eq!(parked(&shop, "", token).await, all, "{token}");
        assert_eq!(parked(&shop, "?route=shop:order", token).await, 1, "{token}");
    }
    for token in ["admin", "reader"] {
        assert_eq!(parked(&shop, "?route=shop:billing", token).await, 1, "{token}");
        shop.get("/v1/parked?route=shop:nobody", Some(token)).await.problem(404);
    }
    // Whether somebody else's route exists is no business of a subscriber's.
    for route in ["shop:billing", "shop:nobody"] {
        shop.get(&format!("/v1/parked?route={route}"), Some("subscriber")).await.problem(403);
    }
    shop.get("/v1/parked?route=nowhere", Some("subscriber")).await.problem(400);
    shop.get("/v1/parked?route=other:order", Some("subscriber")).await.problem(404);
    shop.get("/v1/parked", None).await.problem(401);
    shop.close().await;
}

#[tokio::test]
async fn values_of_parked_rows_are_for_admins_and_their_subscriber() {
    let shop = with_a_bad_row().await;
    for (route, token, status) in [
        ("shop:order", "subscriber", 200),
        ("shop:billing", "subscriber", 403),
        ("shop:order", "reader", 403),
        ("shop:billing", "admin", 200),
        ("shop:nobody", "admin", 404),
    ] {
        let path = format!("/v1/parked/show?route={route}&table=customer_copy&key=2");
        let answer = shop.get(&path, Some(token)).await;
        assert_eq!(answer.status, status, "{route} for {token}: {answer:?}");
        assert_eq!(answer.body.contains("\"bad\""), status == 200, "{route} for {token}");
    }
    shop.get("/v1/parked/show?route=shop:order", None).await.problem(401);
    shop.close().await;
}

#[tokio::test]
async fn only_admins_and_the_subscriber_change_what_is_parked() {
    let shop = with_a_bad_row().await;
    for path in ["/v1/parked/retry", "/v1/parked/drop"] {
        let [own, other] = ["order", "billing"].map(|to| format!("{path}?route=shop:{to}"));
        post(&shop, &own, None).await.problem(401);
        post(&shop, &own, Some("reader")).await.problem(403);
        post(&shop, &other, Some("subscriber")).await.problem(403);
        assert_eq!(parked(&shop, "", "admin").await, 2, "{path} did something");
    }
    let retried = post(&shop, "/v1/parked/retry?route=shop:order", Some("subscriber")).await;
    assert_eq!((retried.status, &retried.json()["parked"]), (200, &1.into()), "{retried:?}");
    let dropped = post(&shop, "/v1/parked/drop?route=shop:order", Some("subscriber")).await;
    assert_eq!((dropped.status, &dropped.json()["dropped"]), (200, &1.into()), "{dropped:?}");
    assert_eq!(parked(&shop, "", "admin").await, 1);
    let nothing = "/v1/parked/drop?route=shop:order&table=customer_copy&key=2";
    post(&shop, nothing, Some("subscriber")).await.problem(404);
    shop.subscriber.refuse_values(None);
    let healed = post(&shop, "/v1/parked/retry?route=shop:billing", Some("admin")).await;
    // It may have been tried again by itself a moment before.
    assert_eq!((healed.status, &healed.json()["parked"]), (200, &0.into()), "{healed:?}");
    assert_eq!(parked(&shop, "", "admin").await, 0);
    for path in ["/v1/parked/retry", "/v1/parked/drop"] {
        let done = post(&shop, &format!("{path}?route=shop:billing"), Some("admin")).await;
        assert_eq!((done.status, &done.json()["dropped"]), (200, &0.into()), "{done:?}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_target_that_was_not_reached_is_not_said_to_have_nothing_parked() {
    let setup = Setup { access: tokens(), ..Setup::default() };
    setup.subscriber.sinks_away(true);
    let shop = setup.open().await;
    for (token, unknown) in [("admin", 2), ("subscriber", 1)] {
        let list = shop.get("/v1/parked", Some(token)).await;
        assert_eq!((list.status, list.json()["parked"].as_array().unwrap().len()), (200, 0));
        assert_eq!(list.json()["unknown"].as_array().unwrap().len(), unknown, "{list:?}");
    }
    let show = "/v1/parked/show?route=shop:order";
    let refused = shop.get(show, Some("subscriber")).await;
    assert!(refused.body.contains("not known yet"), "{refused:?}");
    refused.problem(409);
    shop.subscriber.sinks_away(false);
    shop.live(Some("admin")).await;
    let list = shop.get("/v1/parked?route=shop:order", Some("subscriber")).await;
    assert_eq!(list.json()["unknown"].as_array().unwrap().len(), 0, "{list:?}");
    shop.get(show, Some("subscriber")).await.problem(404);
    shop.close().await;
}
