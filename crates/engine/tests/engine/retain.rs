use super::setup::{Running, World, world};
use rowcast_core::{ByteSize, Retained};
use rowcast_engine::{OverLimit, Retain};
use rowcast_testkit::memory::{Fault, Write};
use std::time::Duration;

fn with_limit(over: OverLimit) -> World {
    let mut world = world(1);
    world.retain = Retain { warn: ByteSize(10), limit: Some(ByteSize(100)), over };
    world.publisher.commit(&[Write::put("customer", 1, "a")]);
    world
}

fn kept(bytes: u64, behind: u64) -> Option<Retained> {
    Some(Retained { bytes, behind })
}

#[tokio::test(start_paused = true)]
async fn what_a_source_keeps_is_told_before_it_is_too_much() {
    let world = with_limit(OverLimit::Alarm);
    let node = world.run();
    node.caught_up().await;
    assert_eq!(node.board.status().await.services[0].retained_bytes, None);
    world.publisher.keeps(kept(9, 9));
    let status = node.until("a number", |s| s.services[0].retained_bytes == Some(9)).await;
    assert_eq!(status.services[0].warning, None);
    world.publisher.keeps(kept(50, 50));
    let status = node.until("a warning", |s| s.services[0].warning.is_some()).await;
    let warning = status.services[0].warning.clone().unwrap();
    assert!(warning.contains("keeps 50 B of changes for us: capture is behind"), "{warning}");
    world.publisher.keeps(kept(200, 0));
    let over = |w: &str| w.contains("more than its limit of 100 B");
    let status =
        node.until("an alarm", |s| s.services[0].warning.as_deref().is_some_and(over)).await;
    assert!(
        status.services[0].warning.as_deref().unwrap().contains("a transaction that stays open")
    );
    world.publisher.keeps(None);
    node.until("quiet", |s| s.services[0].warning.is_none()).await;
    node.stop().await;
}

/// The source is in trouble, and keeps too much meanwhile.
async fn over_the_limit(world: &World, node: &Running, faults: usize) {
    node.caught_up().await;
    world.publisher.source_faults(&vec![Fault::Refuse; faults]);
    world.publisher.keeps(kept(500, 500));
    world.publisher.commit(&[Write::put("customer", 2, "b")]);
}

#[tokio::test(start_paused = true)]
async fn a_capture_that_cannot_go_on_is_released_over_its_limit_and_begins_anew_by_itself() {
    let world = with_limit(OverLimit::Release);
    let node = world.run();
    over_the_limit(&world, &node, 40).await;
    let gap = |w: &str| w.contains("a new history begins with a snapshot");
    let status =
        node.until("the release", |s| s.services[0].warning.as_deref().is_some_and(gap)).await;
    assert_eq!(status.services[0].retained_bytes, None);
    let before = world.log.tail(&"shop".parse().unwrap()).await.unwrap().position.unwrap().epoch;
    // What the log never saw.
    world.publisher.commit(&[Write::delete("customer", 1), Write::put("customer", 3, "c")]);
    let status = node
        .until("capture", |s| s.services[0].state == "capturing" && s.services[0].warning.is_none())
        .await;
    assert_eq!(status.services[0].error, None);
    node.caught_up().await;
    assert!(world.is_copied(0));
    let after = world.log.tail(&"shop".parse().unwrap()).await.unwrap().position.unwrap().epoch;
    assert_ne!(before, after, "the gap is a change of epoch");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_a_crash_cut_short_goes_on_at_the_next_start() {
    let world = with_limit(OverLimit::Release);
    let node = world.run();
    over_the_limit(&world, &node, 1000).await;
    node.until("the release", |s| {
        s.services[0].warning.is_some() && s.services[0].retained_bytes.is_none()
    })
    .await;
    node.crash().await;
    world.publisher.forget_faults();
    let node = world.run();
    node.until("capture", |s| s.services[0].state == "capturing").await;
    node.caught_up().await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_says_release_is_asked_before_a_new_history_begins() {
    let mut world = with_limit(OverLimit::Release);
    let node = world.run();
    over_the_limit(&world, &node, 1000).await;
    node.until("the release", |s| {
        s.services[0].warning.is_some() && s.services[0].retained_bytes.is_none()
    })
    .await;
    node.crash().await;
    world.publisher.forget_faults();
    world.retain.over = OverLimit::Alarm;
    let node = world.run();
    let status = node.until("a pause", |s| s.services[0].state == "paused").await;
    assert_eq!(status.services[0].trouble.clone().unwrap().code, Some("SOURCE-EPOCH"));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!world.is_copied(0), "nothing is captured meanwhile");
    node.stop().await;
    let node = world.run_as(true);
    node.until("capture", |s| s.services[0].state == "capturing").await;
    node.caught_up().await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_capture_that_works_off_what_is_kept_and_one_with_an_alarm_only_go_on() {
    for (over, behind) in [(OverLimit::Alarm, 500), (OverLimit::Release, 0)] {
        let world = with_limit(over);
        let node = world.run();
        node.caught_up().await;
        world.publisher.keeps(kept(500, behind));
        node.until("an alarm", |s| s.services[0].warning.is_some()).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        world.publisher.commit(&[Write::put("customer", 2, "b")]);
        node.caught_up().await;
        assert!(world.is_copied(0));
        assert_eq!(node.board.status().await.services[0].state, "capturing");
        node.stop().await;
    }
}
