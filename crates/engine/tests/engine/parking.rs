//! Bad data: it parks its key and nothing else, and what a crash leaves is what was noted.

use super::setup::{Running, World, route, world};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::ByteSize;
use rowcast_engine::{ParkError, ParkWhich, ParkedList};
use rowcast_testkit::memory::{Content, Fault, Write};
use std::time::Duration;

fn keys(world: &World) -> Vec<String> {
    world.subscribers[0].parked_keys().into_iter().map(|(_, key)| key).collect()
}

/// A world whose subscriber refuses values that begin with `bad`, with a node that is caught up.
async fn refusing() -> (World, Running) {
    let world = world(1);
    world.subscribers[0].refuse_values(Some("bad"));
    let node = world.run();
    node.caught_up().await;
    (world, node)
}

#[tokio::test(start_paused = true)]
async fn a_bad_row_parks_its_key_and_the_rest_goes_on() {
    let (world, node) = refusing().await;
    world.publisher.commit(&[
        Write::put("customer", 1, "good"),
        Write::put("customer", 2, "bad"),
        Write::put("order", 2, "good"),
    ]);
    world.publisher.commit(&[Write::put("customer", 3, "good")]);
    node.caught_up().await;
    let copy = world.subscribers[0].table("customer_copy");
    assert_eq!(copy.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(world.subscribers[0].table("order_copy").len(), 1);
    let status = node.board.status().await;
    assert_eq!((status.routes[0].state, status.routes[0].parked), ("live", Some(1)));
    assert_eq!(keys(&world), ["2"]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_row_that_fits_heals_its_key() {
    let (world, node) = refusing().await;
    world.publisher.commit(&[Write::put("customer", 2, "bad")]);
    node.caught_up().await;
    world.publisher.commit(&[Write::put("customer", 2, "good")]);
    node.until("a healed key", |s| s.routes[0].parked == Some(0)).await;
    assert!(world.is_copied(0) && keys(&world).is_empty());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_ends_what_was_pending() {
    let (world, node) = refusing().await;
    world.publisher.commit(&[Write::put("customer", 2, "good")]);
    world.publisher.commit(&[Write::put("customer", 2, "bad")]);
    node.caught_up().await;
    assert_eq!(world.subscribers[0].table("customer_copy")[&2], "good");
    world.publisher.commit(&[Write::delete("customer", 2)]);
    node.caught_up().await;
    assert!(world.is_copied(0) && keys(&world).is_empty());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_is_tried_again_by_itself_once_the_rule_is_gone() {
    let (world, node) = refusing().await;
    world.publisher.commit(&(0..30).map(|k| Write::put("order", k, "bad")).collect::<Vec<_>>());
    node.caught_up().await;
    assert_eq!(node.board.status().await.routes[0].parked, Some(30));
    world.subscribers[0].refuse_values(None);
    node.until("healed keys", |s| s.routes[0].parked == Some(0)).await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn people_can_list_retry_and_drop() {
    let (world, node) = refusing().await;
    let bad: Vec<_> = (0..3).map(|k| Write::put("customer", k, "bad luck")).collect();
    world.publisher.commit(&bad);
    node.caught_up().await;
    let ParkedList { parked: list, unknown } = node.board.parked(None).await.unwrap();
    assert_eq!(unknown, []);
    assert_eq!(list.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert!(list.iter().all(|p| p.row.is_none() && p.code == "SINK-DATA" && p.events == 1));
    let one = ParkWhich { table: Some("customer_copy".into()), key: Some("1".into()) };
    let shown = node.board.parked_rows(&route(0), &one).await.unwrap();
    let row = shown[0].row.clone().unwrap();
    assert_eq!(row[1], ("value".into(), Some("bad luck".into())));
    let retried = node.board.retry_parked(&route(0), ParkWhich::default()).await.unwrap();
    assert_eq!((retried.healed, retried.parked), (0, 3));
    let dropped = node.board.drop_parked(&route(0), one.clone()).await.unwrap();
    assert_eq!(dropped.dropped, 1);
    assert_eq!(keys(&world), ["0", "2"]);
    assert_eq!(node.board.parked_rows(&route(0), &one).await, Err(ParkError::NoKey(route(0))));
    world.subscribers[0].refuse_values(None);
    let retried = node.board.retry_parked(&route(0), ParkWhich::default()).await.unwrap();
    assert_eq!((retried.healed, retried.parked), (2, 0));
    assert_eq!(world.subscribers[0].table("customer_copy").len(), 2);
    // All of nothing is done; a name that is not there is none.
    let retried = node.board.retry_parked(&route(0), ParkWhich::default()).await.unwrap();
    assert_eq!((retried.healed, retried.parked), (0, 0));
    assert_eq!(node.board.retry_parked(&route(0), one).await, Err(ParkError::NoKey(route(0))));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_route_that_does_not_work_says_so_of_what_it_has_parked() {
    let (world, node) = refusing().await;
    world.publisher.commit(&[Write::put("customer", 1, "bad luck")]);
    node.caught_up().await;
    node.stop().await;
    world.subscribers[0].sink_faults(&[Fault::Refuse; 100_000]);
    let node = world.run();
    for which in [None, Some("customer_copy".to_string())] {
        let which = ParkWhich { table: which, key: None };
        let retried = node.board.retry_parked(&route(0), which).await;
        assert_eq!(retried, Err(ParkError::NotAtWork(route(0))));
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_is_known_as_soon_as_somebody_asks() {
    let (world, node) = refusing().await;
    world.publisher.commit(&[Write::put("customer", 1, "bad luck")]);
    node.caught_up().await;
    node.stop().await;
    let node = world.run();
    // Asked before the route did anything at all.
    let list = node.board.parked(None).await.unwrap();
    assert_eq!((list.parked.len(), list.unknown), (1, vec![]));
    node.stop().await;
    let node = world.run();
    let shown = node.board.parked_rows(&route(0), &ParkWhich::default()).await.unwrap();
    assert_eq!(shown.len(), 1);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_being_built_is_asked_too_for_what_it_has_parked() {
    let mut world = world(1);
    world.batch_bytes_max = ByteSize(1);
    world.subscribers[0].refuse_values(Some("bad"));
    world.publisher.commit(&[Write::put("customer", 1, "bad luck")]);
    world.publisher.commit(&(0..200).map(|k| Write::put("order", k, "good")).collect::<Vec<_>>());
    // The source goes away amid its snapshot, so the copies are not whole and go on being built.
    let mut faults = vec![Fault::None; 20];
    faults.extend([Fault::Refuse; 100_000]);
    world.publisher.source_faults(&faults);
    let node = world.run();
    node.until("a parked key", |s| s.routes[0].parked == Some(1)).await;
    node.stop().await;
    let node = world.run();
    let list = node.board.parked(Some(&route(0))).await.unwrap();
    assert_eq!((list.parked.len(), list.unknown), (1, vec![]));
    let status = node.board.status().await;
    assert_eq!(status.routes[0].building.len(), 2, "{:?}", status.routes[0]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_not_reached_is_not_said_to_have_nothing_parked() {
    let (world, node) = refusing().await;
    world.publisher.commit(&[Write::put("customer", 1, "bad luck")]);
    node.caught_up().await;
    node.stop().await;
    world.subscribers[0].sinks_away(true);
    let node = world.run();
    let list = node.board.parked(None).await.unwrap();
    assert_eq!((list.parked, list.unknown), (vec![], vec![route(0)]));
    assert_eq!(node.board.status().await.routes[0].parked, None);
    let shown = node.board.parked_rows(&route(0), &ParkWhich::default()).await;
    assert_eq!(shown, Err(ParkError::Unknown(route(0))));
    world.subscribers[0].sinks_away(false);
    let status = node.until("the route to go on", |s| s.routes[0].checkpoint.is_some()).await;
    assert_eq!(status.routes[0].parked, Some(1));
    let list = node.board.parked(None).await.unwrap();
    assert_eq!((list.parked.len(), list.unknown), (1, vec![]));
    // What was known stays known while the target is away.
    world.subscribers[0].sinks_away(true);
    world.subscribers[0].sink_faults(&[Fault::Refuse]);
    world.publisher.commit(&[Write::put("customer", 2, "good")]);
    node.until("an outage", |s| s.routes[0].state == "retrying").await;
    let list = node.board.parked(None).await.unwrap();
    assert_eq!((list.parked.len(), list.unknown), (1, vec![]));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_parks_nothing() {
    let (world, node) = refusing().await;
    world.subscribers[0].sink_faults(&[
        Fault::Refuse,
        Fault::LoseAnswer,
        Fault::NeedOperator,
        Fault::Refuse,
    ]);
    for key in 0..20 {
        world.publisher.commit(&[Write::put("customer", key, "good")]);
    }
    node.until("the copy", |_| world.is_copied(0)).await;
    assert_eq!(keys(&world), Vec::<String>::new());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_in_pieces_with_many_bad_rows_gets_through() {
    let mut world = world(1);
    (world.batch_bytes_max, world.read_bytes_max) = (ByteSize(64), ByteSize(100));
    world.subscribers[0].refuse_values(Some("bad"));
    let node = world.run();
    node.caught_up().await;
    let value = |k: i64| if k % 7 == 0 { "bad" } else { "good" };
    world
        .publisher
        .commit(&(0..200).map(|k| Write::put("customer", k, value(k))).collect::<Vec<_>>());
    node.caught_up().await;
    assert_eq!(world.subscribers[0].table("customer_copy").len(), 200 - 29);
    assert_eq!(node.board.status().await.routes[0].parked, Some(29));
    for seen in world.subscribers[0].seen() {
        let rows = seen.get("customer_copy").map_or(0, Content::len);
        assert!(rows == 0 || rows == 171, "{rows}: half a transaction was visible");
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_outlives_a_crash() {
    let (world, node) = refusing().await;
    world.publisher.commit(&[Write::put("customer", 5, "bad")]);
    node.caught_up().await;
    node.crash().await;
    let node = world.run();
    node.caught_up().await;
    assert_eq!(node.board.status().await.routes[0].parked, Some(1));
    world.publisher.commit(&[Write::put("customer", 5, "good")]);
    node.until("a healed key", |s| s.routes[0].parked == Some(0)).await;
    assert!(world.is_copied(0));
    node.stop().await;
}

fn transaction(random: &mut StdRng) -> Vec<Write> {
    let rows = random.random_range(1..15);
    let write = |_| {
        let key = random.random_range(0..30);
        let table = if random.random() { "customer" } else { "order" };
        let value = match random.random_range(0..10) {
            0 => None,
            // Only some keys are ever bad.
            1..4 if key % 3 == 0 => Some(format!("bad {}", random.random::<u32>())),
            _ => Some(format!("{}", random.random::<u32>())),
        };
        Write { table: table.into(), key, value }
    };
    (0..rows).map(write).collect()
}

/// What the copy must hold of the keys that are not parked, and which keys must be.
fn judge(world: &World) {
    let parked = world.subscribers[0].parked_keys();
    for entity in ["customer", "order"] {
        let table = format!("{entity}_copy");
        let (source, copy) = (world.publisher.table(entity), world.subscribers[0].table(&table));
        let is_parked = |key: &i64| parked.contains(&(table.clone(), key.to_string()));
        for (key, value) in &source {
            assert_eq!(is_parked(key), value.starts_with("bad"), "{entity} {key}: {value}");
        }
        let good = |t: &Content| -> Content {
            t.iter().filter(|(k, _)| !is_parked(k)).map(|(k, v)| (*k, v.clone())).collect()
        };
        assert_eq!(good(&source), good(&copy), "{entity}");
    }
}

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = world(1);
    world.batch_bytes_max = ByteSize(random.random_range(1..600));
    world.read_bytes_max = ByteSize(random.random_range(1..1200));
    world.subscribers[0].refuse_values(Some("bad"));
    if random.random() {
        (0..4).for_each(|_| world.publisher.commit(&transaction(&mut random)));
    }
    let mut node = world.run();
    for _ in 0..random.random_range(5..40) {
        match random.random_range(0..12) {
            0 => {
                node.crash().await;
                node = world.run();
            }
            1 => {
                node.stop().await;
                node = world.run();
            }
            2 => world.subscribers[0].sink_faults(&[Fault::Refuse, Fault::LoseAnswer]),
            _ => world.publisher.commit(&transaction(&mut random)),
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
    }
    node.caught_up().await;
    let bad = |e| world.publisher.table(e).values().filter(|v| v.starts_with("bad")).count() as u64;
    let left = bad("customer") + bad("order");
    node.until("only bad keys parked", |s| s.routes[0].parked == Some(left)).await;
    judge(&world);
    world.subscribers[0].refuse_values(None);
    node.until("nothing parked", |s| s.routes[0].parked == Some(0)).await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_history_with_bad_rows_parks_the_bad_keys_only() {
    if let Ok(seed) = std::env::var("ROWCAST_SIM_SEED") {
        return history(seed.parse().expect("ROWCAST_SIM_SEED is a number")).await;
    }
    for seed in 0..200 {
        println!("ROWCAST_SIM_SEED={seed}");
        history(seed).await;
    }
}
