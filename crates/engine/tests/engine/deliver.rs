use super::setup::world;
use rowcast_core::ByteSize;
use rowcast_testkit::memory::Write;

#[tokio::test(start_paused = true)]
async fn what_was_there_and_what_comes_arrives_in_every_copy() {
    let world = world(3);
    world.publisher.commit(&(0..20).map(|k| Write::put("customer", k, "old")).collect::<Vec<_>>());
    let node = world.run();
    node.caught_up().await;
    world.publisher.commit(&[Write::put("customer", 3, "new"), Write::delete("customer", 4)]);
    world.publisher.commit(&[Write::put("order", 1, "first")]);
    node.caught_up().await;
    for subscriber in 0..3 {
        assert!(world.is_copied(subscriber));
        let copy = world.subscribers[subscriber].table("customer_copy");
        assert_eq!((copy[&3].as_str(), copy.get(&4)), ("new", None));
    }
    assert_eq!(world.publisher.confirmed(), 3);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_table_gives_an_empty_copy_and_a_live_route() {
    let world = world(1);
    let node = world.run();
    node.caught_up().await;
    let seen = world.subscribers[0].seen();
    assert!(seen.last().unwrap().contains_key("customer_copy"));
    let status = node.board.status().await;
    assert_eq!((status.routes[0].state, status.services[0].state), ("live", "capturing"));
    assert_eq!((status.routes[0].lag_events, status.routes[0].lag_ms), (Some(0), Some(0)));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_larger_than_a_batch_is_seen_whole_or_not_at_all() {
    let mut world = world(1);
    (world.batch_bytes_max, world.read_bytes_max) = (ByteSize(64), ByteSize(100));
    let node = world.run();
    node.caught_up().await;
    for round in 0..5 {
        let value = format!("round {round}");
        let both = (0..50)
            .flat_map(|k| [Write::put("customer", k, &value), Write::put("order", k, &value)]);
        world.publisher.commit(&both.collect::<Vec<_>>());
    }
    node.caught_up().await;
    assert!(world.is_copied(0));
    for state in world.subscribers[0].seen() {
        let customers: Vec<_> = state["customer_copy"].values().collect();
        assert!(customers.windows(2).all(|w| w[0] == w[1]), "half a transaction was visible");
        let orders = state.get("order_copy").map_or(0, |t| t.len());
        assert_eq!(customers.len(), orders);
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_target_is() {
    let world = world(1);
    let node = world.run();
    node.caught_up().await;
    node.stop().await;
    world.publisher.commit(&[Write::put("customer", 1, "while we were away")]);
    let node = world.run();
    node.caught_up().await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_inside_a_large_transaction_leaves_no_half_of_it() {
    let mut world = world(1);
    (world.batch_bytes_max, world.read_bytes_max) = (ByteSize(32), ByteSize(64));
    let node = world.run();
    node.caught_up().await;
    let many: Vec<_> = (0..200).map(|k| Write::put("customer", k, "x")).collect();
    world.publisher.commit(&many);
    let mut node = Some(node);
    for crash_after in 1..40 {
        let running = node.take().unwrap();
        for _ in 0..crash_after {
            tokio::task::yield_now().await;
        }
        running.crash().await;
        let rows = world.subscribers[0].table("customer_copy").len();
        assert!(rows == 0 || rows == 200, "{rows} rows of 200 were visible");
        node = Some(world.run());
    }
    let node = node.unwrap();
    node.caught_up().await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_last_pieces_concern_others_is_seen_when_it_ends() {
    let mut world = world(1);
    (world.batch_bytes_max, world.read_bytes_max) = (ByteSize(64), ByteSize(100));
    world.takes[0] = &["customer"];
    let node = world.run();
    node.caught_up().await;
    let customers = (0..10).map(|k| Write::put("customer", k, "x"));
    let orders = (0..50).map(|k| Write::put("order", k, "x"));
    world.publisher.commit(&customers.chain(orders).collect::<Vec<_>>());
    node.until("the copy", |_| world.is_copied(0)).await;
    node.stop().await;
}
