use super::setup::{route, world};
use rowcast_core::{Point, RouteId};
use rowcast_engine::WaitError;
use rowcast_testkit::memory::{Fault, Write};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_its_position_reads_its_own_write() {
    let world = world(1);
    let node = world.run();
    world.publisher.commit(&[Write::put("customer", 7, "mine")]);
    node.board.wait(&route(0), Point::Sequence(1), SOON).await.unwrap();
    node.caught_up().await;
    world.publisher.commit(&[Write::put("customer", 8, "mine too")]);
    node.board.wait(&route(0), Point::Sequence(2), SOON).await.unwrap();
    assert_eq!(world.subscribers[0].table("customer_copy")[&8], "mine too");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_end_says_why() {
    let world = world(1);
    let node = world.run();
    node.caught_up().await;
    let wait = async |route: RouteId, point| node.board.wait(&route, point, SOON).await;
    let nowhere = "shop:nobody".parse().unwrap();
    assert!(matches!(wait(nowhere, Point::Sequence(1)).await, Err(WaitError::NoRoute(_))));
    let late = wait(route(0), Point::Sequence(99)).await;
    assert!(matches!(late, Err(WaitError::Timeout { .. })));
    let foreign = wait(route(0), Point::Lsn(0)).await;
    assert!(matches!(foreign, Err(WaitError::Foreign { .. })));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lag_is_told_while_a_subscriber_is_down() {
    let world = world(1);
    let node = world.run();
    node.caught_up().await;
    world.subscribers[0].sink_faults(&[Fault::Refuse; 1000]);
    for key in 0..5 {
        world.publisher.commit(&[Write::put("customer", key, "x")]);
    }
    let status = node.until("lag", |s| s.routes[0].lag_events == Some(5)).await;
    assert!(status.routes[0].lag_ms.unwrap() > 0);
    let json = serde_json::to_value(&status).unwrap();
    for field in ["from", "to", "state", "checkpoint", "lag_events", "lag_ms", "parked", "error"] {
        assert!(json["routes"][0].get(field).is_some(), "{field}");
    }
    for field in ["/services/0/name", "/services/0/position", "/services/0/log/bytes"] {
        assert!(json.pointer(field).is_some(), "{field}");
    }
    node.stop().await;
}
