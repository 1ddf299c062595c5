use super::setup::{route, world};
use rowcast_core::Point;
use rowcast_testkit::memory::{Fault, Write};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_dead_subscriber_leaves_the_others_and_the_source_untouched() {
    let world = world(2);
    let node = world.run();
    node.caught_up().await;
    world.subscribers[1].sink_faults(&[Fault::Refuse; 100_000]);
    world.publisher.commit(&[Write::put("customer", 1, "a")]);
    let status = node.until("the dead route", |s| s.routes[1].state == "retrying").await;
    assert!(status.routes[1].error.as_ref().unwrap().contains("cannot take changes"));
    let arrived = node.board.wait(&route(0), Point::Sequence(1), Duration::from_secs(5)).await;
    assert_eq!(arrived, Ok(()));
    assert!(world.is_copied(0) && !world.is_copied(1));
    assert_eq!(world.publisher.confirmed(), 1, "the source may let go");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_does_not_hold_up_the_stop() {
    let world = world(2);
    let node = world.run();
    node.caught_up().await;
    world.subscribers[1].sink_faults(&[Fault::NeverAnswer]);
    world.publisher.commit(&[Write::put("customer", 1, "a")]);
    node.until("the other route", |_| world.is_copied(0)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(600), node.stop()).await;
    assert_eq!(stopped, Ok(()), "it stops");
    assert!(!world.is_copied(1));
    let node = world.run();
    node.caught_up().await;
    assert!(world.is_copied(1), "nothing is lost");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_and_nothing_is_lost() {
    let world = world(1);
    world.publisher.source_faults(&[Fault::Refuse, Fault::None, Fault::LoseAnswer, Fault::Refuse]);
    world.subscribers[0].sink_faults(&[Fault::Refuse, Fault::LoseAnswer, Fault::Refuse]);
    for key in 0..10 {
        world.publisher.commit(&[Write::put("customer", key, "x")]);
    }
    let node = world.run();
    for key in 10..20 {
        world.publisher.commit(&[Write::put("customer", key, "x")]);
    }
    node.caught_up().await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_person_pauses_only_its_route_and_heals_when_the_person_acted() {
    let world = world(2);
    let node = world.run();
    node.caught_up().await;
    world.subscribers[0].sink_faults(&[Fault::NeedOperator]);
    world.publisher.commit(&[Write::put("customer", 1, "a")]);
    let status = node.until("a paused route", |s| s.routes[0].state == "paused").await;
    let trouble = status.routes[0].trouble.clone().unwrap();
    assert_eq!(
        (trouble.code, trouble.help.as_str()),
        (Some("SINK-SETUP"), "wait for the next try")
    );
    let stopped = node.board.caught_up().await.unwrap_err();
    assert_eq!(stopped.code, Some("SINK-SETUP"));
    node.until("the other route", |_| world.is_copied(1)).await;
    node.until("the healed route", |_| world.is_copied(0)).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_route_that_waits_for_a_person_is_not_live_while_it_looks_again() {
    // Whichever of its calls fails when it looks again.
    for calls in 0..10 {
        let world = world(1);
        let node = world.run();
        node.caught_up().await;
        let mut faults = vec![Fault::None; calls + 1];
        faults[0] = Fault::NeedOperator;
        faults.push(Fault::NeedOperator);
        world.subscribers[0].sink_faults(&faults);
        world.publisher.commit(&[Write::put("customer", 1, "a")]);
        node.until("a paused route", |s| s.routes[0].state == "paused").await;
        // Every moment of its next look, which comes after ten seconds.
        tokio::time::sleep(Duration::from_millis(9_900)).await;
        for _ in 0..200 {
            for _ in 0..20 {
                let state = node.board.status().await.routes[0].state;
                assert!(state == "paused" || world.is_copied(0), "{state} after {calls} calls");
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        node.board.wait_live(&route(0), None, Duration::from_secs(600)).await.unwrap();
        assert!(world.is_copied(0));
        world.subscribers[0].forget_faults();
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_history_is_never_silently_continued() {
    let world = world(1);
    world.publisher.commit(&[Write::put("customer", 1, "a"), Write::put("customer", 2, "b")]);
    let node = world.run();
    node.caught_up().await;
    node.stop().await;

    world.publisher.replace_history();
    world.publisher.commit(&[Write::delete("customer", 2), Write::put("customer", 3, "c")]);
    let node = world.run();
    let status = node.until("a paused capture", |s| s.services[0].state == "paused").await;
    assert_eq!(status.services[0].trouble.as_ref().unwrap().code, Some("SOURCE-EPOCH"));
    assert!(!world.is_copied(0));
    node.stop().await;

    let node = world.run_as(true);
    node.caught_up().await;
    assert!(world.is_copied(0));
    node.stop().await;
    let node = world.run();
    node.caught_up().await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_another_log_has_filled_is_refused() {
    let world = world(1);
    world.publisher.commit(&[Write::put("customer", 1, "a")]);
    let node = world.run();
    node.caught_up().await;
    node.stop().await;
    world.subscribers[0].misplace_checkpoints();
    world.publisher.commit(&[Write::put("customer", 2, "b")]);
    let node = world.run();
    let status = node.until("a paused route", |s| s.routes[0].state == "paused").await;
    assert_eq!(status.routes[0].trouble.as_ref().unwrap().code, Some("SINK-CHECKPOINT"));
    assert!(!world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_writer_of_a_checkpoint_pauses_and_does_not_fight() {
    let world = world(1);
    let node = world.run();
    node.caught_up().await;
    let second = world.run();
    second.caught_up().await;
    for key in 0..20 {
        world.publisher.commit(&[Write::put("customer", key, "x")]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let paused = async |running: &super::setup::Running| {
        running.board.status().await.routes[0].trouble.clone().and_then(|t| t.code)
    };
    let states = [paused(&node).await, paused(&second).await];
    assert!(states.contains(&Some("SINK-CHECKPOINT")), "{states:?}");
    assert!(states.contains(&None), "{states:?}");
    node.crash().await;
    second.crash().await;
}
