//! Lanes: a route's changes in several transactions at once. Random histories with faults and crashes;
//! one seed is one history. Set `ROWCAST_SIM_SEED` to replay one.

use super::setup::{Running, World, world};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::ByteSize;
use rowcast_testkit::memory::{Content, Fault, Write};
use std::collections::BTreeMap;
use std::time::Duration;

fn fault(random: &mut StdRng) -> Fault {
    match random.random_range(0..8) {
        0 => Fault::Refuse,
        1 | 2 => Fault::LoseAnswer,
        _ => Fault::None,
    }
}

/// Enough rows that several lanes take a part of them, over keys that come again.
fn burst(random: &mut StdRng, world: &World) {
    for _ in 0..random.random_range(1..40) {
        let write = |random: &mut StdRng| {
            let table = if random.random() { "customer" } else { "order" };
            let key = random.random_range(0..60);
            let value = random.random_bool(0.8).then(|| format!("{}", random.random::<u64>()));
            Write { table: table.into(), key, value }
        };
        let writes: Vec<_> = (0..random.random_range(1..30)).map(|_| write(random)).collect();
        world.publisher.commit(&writes);
    }
}

/// The values that a key had, one after the other.
fn story(seen: &[BTreeMap<String, Content>], table: &str, key: i64) -> Vec<Option<String>> {
    let values = seen.iter().map(|state| state.get(table).and_then(|t| t.get(&key)).cloned());
    let mut story: Vec<_> = values.collect();
    story.dedup();
    story
}

/// Every key of a copy went through values of the publisher's, never back to an older one.
fn keys_are_in_order(world: &World) {
    let (committed, copied) = (world.publisher.seen(), world.subscribers[0].seen());
    for table in ["customer", "order"] {
        for key in 0..60 {
            let mut committed = story(&committed, table, key).into_iter();
            for value in story(&copied, &format!("{table}_copy"), key) {
                // What is not there yet may be missing at the beginning.
                let found = value.is_none() || committed.any(|c| c == value);
                assert!(found, "{table} {key} went back to {value:?}");
            }
        }
    }
}

/// How often a reader of the copy could see what the publisher never was.
fn torn(world: &World) -> usize {
    let mut committed = world.publisher.seen();
    committed.push(BTreeMap::new());
    let same = |seen: &BTreeMap<String, Content>, state: &BTreeMap<String, Content>| {
        ["customer", "order"].iter().all(|e| {
            let copy = seen.get(&format!("{e}_copy")).cloned().unwrap_or_default();
            copy == state.get(*e).cloned().unwrap_or_default()
        })
    };
    let seen = world.subscribers[0].seen();
    seen.iter().filter(|s| !committed.iter().any(|c| same(s, c))).count()
}

async fn history(seed: u64) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = world(1);
    world.lanes = random.random_range(1..5);
    if random.random() {
        world.read_bytes_max = ByteSize(random.random_range(500..20_000));
    }
    let mut node = world.run();
    node.caught_up().await;
    for _ in 0..random.random_range(5..30) {
        match random.random_range(0..10) {
            0 | 1 => {
                node.crash().await;
                if random.random() {
                    world.lanes = random.random_range(1..5);
                }
                node = world.run();
            }
            2 => {
                node.stop().await;
                if random.random() {
                    world.lanes = random.random_range(1..5);
                }
                node = world.run();
            }
            3 | 4 => {
                let faults: Vec<_> = (0..6).map(|_| fault(&mut random)).collect();
                world.subscribers[0].sink_faults(&faults);
            }
            5 => _ = world.compact().await,
            _ => burst(&mut random, &world),
        }
        // Mostly not at rest: a crash is to find lanes at work.
        for _ in 0..random.random_range(0..60) {
            tokio::task::yield_now().await;
        }
        if random.random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        }
    }
    node.until("an identical copy", |_| world.is_copied(0)).await;
    node.stop().await;
    keys_are_in_order(&world);
    torn(&world)
}

#[tokio::test(start_paused = true)]
async fn every_history_in_lanes_ends_in_identical_copies() {
    if let Ok(seed) = std::env::var("ROWCAST_SIM_SEED") {
        history(seed.parse().expect("ROWCAST_SIM_SEED is a number")).await;
        return;
    }
    let mut torn = 0;
    for seed in 0..300 {
        println!("ROWCAST_SIM_SEED={seed}");
        torn += history(seed).await;
    }
    // Otherwise no lane was ever seen at work, and this proves nothing.
    assert!(torn > 100, "lanes were seen at work {torn} times");
}

/// A node whose subscriber is caught up with a burst that lanes share.
async fn at_work(world: &World, random: &mut StdRng) -> Running {
    let node = world.run();
    node.caught_up().await;
    burst(random, world);
    node
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_was_ahead_is_not_written_again() {
    let mut random = StdRng::seed_from_u64(7);
    let mut world = world(1);
    world.lanes = 4;
    let node = at_work(&world, &mut random).await;
    node.caught_up().await;
    let status = node.board.status().await;
    assert_eq!((status.routes[0].lanes, status.routes[0].whole), (4, false));
    for answers_lost in 1..12 {
        // The answers of some lanes' commits are lost, so that their places have to be asked for.
        let faults = [vec![Fault::None; answers_lost], vec![Fault::LoseAnswer]].concat();
        world.subscribers[0].sink_faults(&faults);
        burst(&mut random, &world);
        node.until("an identical copy", |_| world.is_copied(0)).await;
        world.subscribers[0].forget_faults();
    }
    node.stop().await;
    keys_are_in_order(&world);
}

#[tokio::test(start_paused = true)]
async fn one_lane_keeps_transactions_whole_and_says_so() {
    let mut random = StdRng::seed_from_u64(8);
    let world = world(1);
    let node = at_work(&world, &mut random).await;
    burst(&mut random, &world);
    node.caught_up().await;
    let status = node.board.status().await;
    assert_eq!((status.routes[0].lanes, status.routes[0].whole), (1, true));
    node.stop().await;
    assert_eq!(torn(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bad_row_parks_its_key_with_lanes_too() {
    let mut random = StdRng::seed_from_u64(9);
    let mut world = world(1);
    world.lanes = 3;
    let node = at_work(&world, &mut random).await;
    node.caught_up().await;
    world.subscribers[0].refuse_values(Some("bad"));
    burst(&mut random, &world);
    let bad: Vec<_> = (0..200).map(|k| Write::put("order", k, "fine")).collect();
    world.publisher.commit(&bad);
    world.publisher.commit(&[Write::put("order", 17, "bad")]);
    world.publisher.commit(&bad.iter().filter(|w| w.key != 17).cloned().collect::<Vec<_>>());
    node.until("the parked key", |s| s.routes[0].parked == Some(1)).await;
    assert_eq!(world.subscribers[0].parked_keys(), [("order_copy".into(), "17".into())]);
    // What comes later for others goes on, in lanes, and the row is mended.
    world.publisher.commit(&(200..500).map(|k| Write::put("order", k, "more")).collect::<Vec<_>>());
    world.publisher.commit(&[Write::put("order", 17, "good")]);
    node.until("an identical copy", |_| world.is_copied(0)).await;
    node.stop().await;
}
