use super::setup::{World, world};
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

#[tokio::test(start_paused = true)]
async fn a_capture_that_cannot_go_on_is_released_over_its_limit_and_told_as_such() {
    let world = with_limit(OverLimit::Release);
    let node = world.run();
    node.caught_up().await;
    world.publisher.source_faults(&[Fault::NeedOperator; 6]);
    world.publisher.keeps(kept(500, 500));
    world.publisher.commit(&[Write::put("customer", 2, "b")]);
    let released = |e: &str| e.contains("kept 500 B") && e.contains("limit of 100 B");
    let status =
        node.until("the release", |s| s.services[0].error.as_deref().is_some_and(released)).await;
    let trouble = status.services[0].trouble.clone().unwrap();
    assert_eq!((status.services[0].state, trouble.code), ("paused", Some("SOURCE-EPOCH")));
    assert!(trouble.help.contains("rowcast run --resnapshot shop"), "{}", trouble.help);
    assert_eq!(status.services[0].retained_bytes, None);
    // It stays so by itself: the source has no such history any more.
    let moved_on = |e: &str| !released(e);
    let status = node
        .until("the source's own word", |s| s.services[0].error.as_deref().is_some_and(moved_on))
        .await;
    assert_eq!(status.services[0].trouble.clone().unwrap().code, Some("SOURCE-EPOCH"));
    world.publisher.commit(&[Write::put("customer", 3, "c")]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!world.is_copied(0), "nothing is captured meanwhile");
    node.stop().await;
    // A person begins anew, and nothing is missing.
    let node = world.run_as(true);
    // Whatever is left of the trouble passes.
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
