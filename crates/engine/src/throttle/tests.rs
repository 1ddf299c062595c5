use super::*;

/// Lets a piece of 20 ms pass with a delivery beside it, and a delivery of its own; returns the rest
/// that the piece asks for.
async fn turn(throttle: &Throttle, builder: &Builder<'_>, beside: u64, alone: u64) -> f64 {
    let piece = builder.piece();
    deliver(throttle, beside, 1).await;
    tokio::time::sleep(Duration::from_millis(20 - beside)).await;
    let rest = piece.done(LEAST).map_or(Duration::ZERO, |until| until - Instant::now());
    deliver(throttle, alone, 1).await;
    rest.as_secs_f64() * 1e3
}

async fn deliver(throttle: &Throttle, millis: u64, events: u64) {
    let delivery = throttle.deliver();
    tokio::time::sleep(Duration::from_millis(millis)).await;
    throttle.delivered(delivery, events);
}

async fn turns(throttle: &Throttle, builder: &Builder<'_>, beside: u64, alone: u64) -> f64 {
    let mut rest = 0.0;
    for _ in 0..500 {
        rest = turn(throttle, builder, beside, alone).await;
    }
    rest
}

#[tokio::test(start_paused = true)]
async fn who_is_slowed_is_given_the_time_that_he_needs() {
    let throttle = Throttle::default();
    let _live = throttle.live();
    let builder = throttle.builder();
    // Half as long again: a tenth of the time makes that a twentieth.
    let rest = turns(&throttle, &builder, 15, 10).await;
    assert!((179.0..181.0).contains(&rest), "{rest}");
    assert_eq!(builder.bytes(), Some(PIECE));
    // However much slower they are, the build goes on.
    let rest = turns(&throttle, &builder, 20, 1).await;
    assert!((299.0..301.0).contains(&rest), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_notice_is_no_reason_to_rest() {
    let throttle = Throttle::default();
    let _live = throttle.live();
    let builder = throttle.builder();
    let rest = turns(&throttle, &builder, 10, 10).await;
    assert!((2.0..3.0).contains(&rest), "{rest}");
    assert_eq!(builder.bytes(), None);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_delivered_a_build_takes_it_all() {
    let throttle = Throttle::default();
    assert!(throttle.deliver().is_none(), "nothing is being built: nothing is measured");
    let builder = throttle.builder();
    assert_eq!(builder.bytes(), None, "nobody is there");
    drop(builder);
    let live = throttle.live();
    let builder = throttle.builder();
    let piece = builder.piece();
    assert_eq!(builder.bytes(), Some(PIECE), "who is there shows within a moment");
    tokio::time::sleep(STALE).await;
    assert!(piece.done(LEAST).is_none());
    assert_eq!(builder.bytes(), None);
    turns(&throttle, &builder, 15, 10).await;
    tokio::time::sleep(STALE).await;
    assert!(builder.piece().done(LEAST).is_none(), "they have gone quiet");
    drop((live, builder));
    assert_eq!(throttle.builder().bytes(), None, "they have gone");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_and_one_long_stall_say_nothing() {
    let throttle = Throttle::default();
    let _live = throttle.live();
    let builder = throttle.builder();
    turns(&throttle, &builder, 10, 10).await;
    deliver(&throttle, 1_000, BACKLOG_EVENTS).await;
    deliver(&throttle, 900, 0).await;
    assert!((throttle.seen().alone.seconds - 0.01).abs() < 1e-6);
    let piece = builder.piece();
    deliver(&throttle, 500, 1).await;
    drop(piece);
    let beside = throttle.seen().beside.seconds;
    assert!(beside < 0.011, "{beside}");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_a_piece_began_or_ended_in_is_beside_it() {
    let throttle = Throttle::default();
    let _live = throttle.live();
    let builder = throttle.builder();
    let delivery = throttle.deliver();
    drop(builder.piece());
    throttle.delivered(delivery, 1);
    let piece = builder.piece();
    let delivery = throttle.deliver();
    drop(piece);
    throttle.delivered(delivery, 1);
    let seen = throttle.seen();
    assert_eq!((seen.alone.samples, seen.beside.samples), (0, 2));
}

#[test]
fn a_piece_that_a_lock_held_up_is_no_reason_for_a_long_rest() {
    assert_eq!(rest(Duration::from_millis(1), LEAST), Duration::from_millis(15));
    assert_eq!(rest(Duration::from_secs(60), LEAST), REST_MAX);
}
