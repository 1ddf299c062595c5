use super::setup::world;
use rowcast_core::{ByteSize, Offset};
use rowcast_store::MemoryLog;
use rowcast_testkit::memory::{MemoryDatabase, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn a_new_subscriber_builds_its_copy_from_what_compaction_left() {
    let mut world = world(1);
    (world.batch_bytes_max, world.read_bytes_max) = (ByteSize(64), ByteSize(100));
    let node = world.run();
    node.caught_up().await;
    for round in 0..30 {
        let value = format!("round {round}");
        let puts = (round..round + 10).map(|key| Write::put("customer", key, &value));
        world.publisher.commit(&puts.collect::<Vec<_>>());
        world.publisher.commit(&[Write::delete("customer", round), Write::put("order", 1, &value)]);
    }
    node.caught_up().await;
    node.stop().await;
    assert!(world.compact().await > Offset(300));
    world.subscribers.push(MemoryDatabase::new());
    world.takes.push(world.takes[0]);
    let node = world.run();
    node.caught_up().await;
    assert!(world.is_copied(0) && world.is_copied(1));
    // What is left is one transaction to its reader: nothing of it shows before its end.
    let rows = |copies: &BTreeMap<String, BTreeMap<i64, String>>| {
        copies.get("customer_copy").map_or(0, BTreeMap::len)
    };
    let seen = world.subscribers[1].seen();
    let whole = rows(seen.last().unwrap());
    assert!(seen.iter().all(|state| rows(state) == 0 || rows(state) == whole));
    let status = node.board.status().await;
    assert!(status.services[0].log.compacted > 300);
    assert_eq!(status.routes[1].state, "live");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_slept_while_its_deletes_were_forgotten_is_built_anew_beside_itself() {
    let mut world = world(2);
    world.log = Arc::new(MemoryLog::forgetful());
    let node = world.run();
    world.publisher.commit(&[Write::put("customer", 1, "a"), Write::put("customer", 2, "b")]);
    node.caught_up().await;
    node.stop().await;
    let asleep = world.subscribers.pop().unwrap();
    let node = world.run();
    world.publisher.commit(&[Write::delete("customer", 1)]);
    world.publisher.commit(&[Write::put("customer", 3, "c")]);
    node.caught_up().await;
    node.stop().await;
    world.compact().await;
    world.subscribers.push(asleep);
    world.subscribers.push(MemoryDatabase::new());
    world.takes.push(world.takes[0]);
    let node = world.run();
    node.caught_up().await;
    assert!(world.is_copied(0) && world.is_copied(1) && world.is_copied(2));
    // Its readers saw the old copy and then the new one, and nothing in between.
    let seen = world.subscribers[1].seen();
    let rows = seen.iter().filter_map(|copies| copies.get("customer_copy"));
    let full = |copy: &BTreeMap<i64, String>| copy.len() == 2;
    assert!(rows.skip_while(|copy| copy.is_empty()).all(full), "half a copy");
    node.stop().await;
}
