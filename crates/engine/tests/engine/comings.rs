//! Routes that come, go, change, pause and resume while everything runs.

use super::following::{Town, entry, town};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rowcast_core::{Diagnose, EditError, Point, RegistryError};
use rowcast_engine::{Refusal, WaitError};
use rowcast_testkit::memory::{Fault, Write};
use std::time::Duration;
use tokio::time::Instant;

fn unfit(refusal: Refusal) -> String {
    assert!(!refusal.help().is_empty(), "{refusal}");
    refusal.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_new_subscriber_is_served_and_nobody_else_notices() {
    let town = town();
    town.publisher.commit(&[Write::put("customer", 1, "a"), Write::put("order", 1, "b")]);
    let node = town.run().await;
    node.subscribe("s0", "shop.customer").await.unwrap();
    node.caught_up().await;
    let before = town.subscribers["s0"].seen().len();
    let made = node.subscribe("s1", "shop.order").await.unwrap();
    assert_eq!((made.origin, made.into.as_str()), ("run-time", "order_copy"));
    node.caught_up().await;
    assert!(town.is_copied("s0", "customer") && town.is_copied("s1", "order"));
    assert_eq!(town.subscribers["s0"].seen().len(), before, "the first was left alone");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unsubscribed_copy_keeps_its_rows_and_its_route_is_gone() {
    let town = town();
    let node = town.run().await;
    node.subscribe("s0", "shop.customer").await.unwrap();
    town.publisher.commit(&[Write::put("customer", 1, "a")]);
    node.caught_up().await;
    let route = "shop:s0".parse().unwrap();
    let board = node.board.clone();
    let waiting = async { board.wait(&route, Point::Sequence(99), Duration::from_secs(60)).await };
    let unsubscribing = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        node.unsubscribe("s0", "shop.customer").await.unwrap();
    };
    // Whoever waits for the route is told.
    let (waited, ()) = tokio::join!(waiting, unsubscribing);
    assert_eq!(waited, Err(WaitError::NoRoute("shop:s0".parse().unwrap())));
    assert!(node.board.status().await.routes.is_empty());
    town.publisher.commit(&[Write::put("customer", 2, "b")]);
    node.caught_up().await;
    assert_eq!(town.subscribers["s0"].table("customer_copy").len(), 1);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_route_stands_still_also_after_a_restart_and_catches_up_when_resumed() {
    let town = town();
    let node = town.run().await;
    node.subscribe("s0", "shop.customer").await.unwrap();
    node.caught_up().await;
    node.pause("shop:s0").await;
    town.publisher.commit(&[Write::put("customer", 1, "a")]);
    let status = node.until("a paused route", |s| s.routes[0].state == "paused").await;
    assert_eq!(status.routes[0].error.as_deref(), Some("paused by ada: a migration"));
    let stopped = node.board.caught_up().await.unwrap_err();
    assert!(stopped.help.contains("rowcast resume shop:s0"), "{}", stopped.help);
    node.crash().await;

    let node = town.run().await;
    node.until("a paused route", |s| s.routes[0].state == "paused").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(town.subscribers["s0"].table("customer_copy").is_empty());
    node.resume("shop:s0").await;
    node.caught_up().await;
    assert!(town.is_copied("s0", "customer"));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_absent_source_is_not_waited_for_while_every_route_that_needs_it_is_paused() {
    let town = town();
    let node = town.run().await;
    node.subscribe("s0", "shop.customer").await.unwrap();
    node.caught_up().await;
    node.pause("shop:s0").await;
    node.stop().await;
    town.publisher.source_faults(&[Fault::Refuse; 100_000]);
    let node = town.run().await;
    let caught_up = tokio::time::timeout(Duration::from_secs(600), node.board.caught_up());
    let stopped = caught_up.await.expect("nobody waits for a source that nobody needs");
    assert_eq!(stopped.unwrap_err().message, "paused by ada: a migration");
    node.stop().await;

    // So it is when somebody pauses it during the wait, and not while another route needs the source.
    let node = town.run().await;
    node.resume("shop:s0").await;
    node.subscribe("s1", "shop.customer").await.unwrap();
    let (board, wait) = (node.board.clone(), Duration::from_secs(600));
    let waiting = board.caught_up();
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(wait, &mut waiting).await.is_err(), "an outage is waited out");
    node.pause("shop:s0").await;
    assert!(tokio::time::timeout(wait, &mut waiting).await.is_err(), "s1 needs the source");
    node.pause("shop:s1").await;
    let stopped = tokio::time::timeout(wait, &mut waiting).await.expect("nobody needs it any more");
    assert_eq!(stopped.unwrap_err().message, "paused by ada: a migration");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_route_does_not_cut_short_the_others() {
    let town = town();
    let node = town.run().await;
    node.subscribe("s0", "shop.customer").await.unwrap();
    node.subscribe("s1", "shop.customer").await.unwrap();
    node.caught_up().await;
    node.pause("shop:s0").await;
    town.subscribers["s1"].sink_faults(&[Fault::Refuse; 5]);
    town.publisher.commit(&[Write::put("customer", 1, "a")]);
    let stopped = node.board.caught_up().await.unwrap_err();
    assert_eq!(stopped.message, "paused by ada: a migration");
    assert!(town.is_copied("s1", "customer"), "an outage of another route is waited out first");

    // One that goes on meanwhile is waited for after all.
    town.subscribers["s1"].sink_faults(&[Fault::Refuse; 5]);
    town.publisher.commit(&[Write::put("customer", 2, "b")]);
    let resuming = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        node.resume("shop:s0").await;
    };
    let (caught_up, ()) = tokio::join!(node.board.caught_up(), resuming);
    caught_up.unwrap();
    assert!(town.is_copied("s0", "customer") && town.is_copied("s1", "customer"));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn resuming_a_route_that_waits_for_a_person_looks_again_at_once() {
    let town = town();
    let node = town.run().await;
    node.subscribe("s0", "shop.customer").await.unwrap();
    node.caught_up().await;
    town.subscribers["s0"].sink_faults(&[Fault::NeedOperator]);
    town.publisher.commit(&[Write::put("customer", 1, "a")]);
    node.until("a stuck route", |s| s.routes[0].state == "paused").await;
    let mended = Instant::now();
    node.resume("shop:s0").await;
    node.until("the copy", |_| town.is_copied("s0", "customer")).await;
    assert!(mended.elapsed() < Duration::from_secs(5), "it looks again by itself only after ten");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_before_anything_changes() {
    let town = town();
    let node = town.run().await;
    let refuse = async |to: &str, of: &str, fields: &[&str]| {
        unfit(node.wish(entry(to, of, "copy", fields)).await.unwrap_err())
    };
    assert_eq!(refuse("s9", "shop.customer", &[]).await, "there is no service `s9`");
    assert_eq!(refuse("s0", "shop.custmer", &[]).await, "`shop` publishes no entity `custmer`");
    assert!(refuse("s0", "shop.customer", &["key", "valu"]).await.contains("no such field"));
    assert!(refuse("s0", "shop.customer", &["value"]).await.contains("leaves out the key field"));
    assert!(refuse("shop", "shop.customer", &[]).await.contains("subscribes to itself"));
    node.wish(entry("s0", "shop.customer", "copy", &[])).await.unwrap();
    let taken = node.wish(entry("s0", "shop.order", "copy", &[])).await.unwrap_err();
    assert!(
        matches!(&taken, Refusal::Registry(RegistryError::Refused(EditError::Taken { .. }))),
        "{taken}"
    );
    let help = node.wish(entry("s0", "shop.custmer", "x", &[])).await.unwrap_err();
    assert!(help.help().contains("did you mean `customer`?"), "{}", help.help());
    let listed = node.subscriptions().list().await.unwrap();
    assert_eq!(listed.len(), 1);
    let missing = node.unsubscribe("s0", "shop.order").await.unwrap_err();
    assert!(missing.help().contains("shop.customer"), "{}", missing.help());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leaves_the_configuration_takes_its_routes_along_and_brings_them_back() {
    let town = town();
    let node = town.run().await;
    node.subscribe("s0", "shop.customer").await.unwrap();
    node.subscribe("s1", "shop.customer").await.unwrap();
    node.caught_up().await;
    town.name_services(&["shop", "s1"]);
    node.until("one route", |s| s.routes.len() == 1).await;
    let problem = |l: &[rowcast_engine::Subscribed]| l[0].problem.clone();
    let listed = node.subscriptions().list().await.unwrap();
    assert!(problem(&listed).unwrap().contains("names no service `s0` any more"));
    town.publisher.commit(&[Write::put("customer", 1, "a")]);
    node.caught_up().await;
    town.name_services(&["shop", "s0", "s1"]);
    node.until("both routes", |s| s.routes.len() == 2).await;
    node.caught_up().await;
    assert!(town.is_copied("s0", "customer") && town.is_copied("s1", "customer"));
    assert_eq!(problem(&node.subscriptions().list().await.unwrap()), None);
    node.stop().await;
}

/// One seed is one history: routes come and go, pause and resume, the node crashes, and the
/// publisher never stops.
async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let town = town();
    let mut node = town.run().await;
    let names = ["s0", "s1", "s2"];
    for _ in 0..60 {
        let subscriber = *names.choose(&mut random).unwrap();
        let route = format!("shop:{subscriber}");
        match random.random_range(0..9) {
            0..=2 => node.subscribe(subscriber, "shop.customer").await.map(drop).unwrap(),
            // Not there, or on its way: refused, and that is fine.
            3 => drop(node.unsubscribe(subscriber, "shop.customer").await),
            4 => drop(node.subscriptions().pause(&route.parse().unwrap(), Town::pause()).await),
            5 => drop(node.subscriptions().resume(&route.parse().unwrap()).await),
            6 => {
                node.crash().await;
                node = town.run().await;
            }
            _ => {
                for _ in 0..random.random_range(0..50) {
                    tokio::task::yield_now().await;
                }
            }
        }
        let key = random.random_range(0..20);
        town.publisher.commit(&[Write::put("customer", key, &random.random::<u32>().to_string())]);
    }
    for subscriber in names {
        node.subscribe(subscriber, "shop.customer").await.unwrap();
        node.resume(&format!("shop:{subscriber}")).await;
    }
    node.caught_up().await;
    for subscriber in names {
        assert!(town.is_copied(subscriber, "customer"), "seed {seed}: {subscriber} differs");
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn routes_that_come_and_go_under_load_end_identical() {
    for seed in 0..40 {
        println!("seed {seed}");
        history(seed).await;
    }
}
