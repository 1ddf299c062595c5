use super::*;
use rowcast_core::{Batch, Sparse};
use rowcast_testkit::log_suite::batch;

/// Two batches of ten events each; the second one's offsets are every third one.
fn two() -> ([Stored; 2], ByteSize) {
    let dense = Stored { base: Offset(100), batch: Arc::new(batch(1, 10, 10)) };
    let each = ByteSize((dense.batch.rows.len() / 10) as u64);
    let places = (0..10).map(|n| n * 3).collect();
    let sparse = Batch { sparse: Some(Box::new(Sparse { places, span: 30 })), ..batch(1, 20, 10) };
    ([dense, Stored { base: Offset(110), batch: Arc::new(sparse) }], each)
}

#[test]
fn a_piece_ends_inside_a_batch_that_is_larger() {
    let (batches, each) = two();
    let rows = |n: u64| ByteSize(each.0 * n);
    assert_eq!(cut(&batches, Offset(100), rows(4)), Some(Offset(104)));
    assert_eq!(cut(&batches, Offset(104), rows(4)), Some(Offset(108)));
    assert_eq!(cut(&batches, Offset(108), rows(2)), Some(Offset(110)), "where the batch ends");
    assert_eq!(cut(&batches, Offset(108), rows(5)), Some(Offset(119)), "two here and three there");
    assert_eq!(cut(&batches, Offset(0), ByteSize(0)), Some(Offset(101)), "never nothing");
}

#[test]
fn what_is_left_of_a_chunk_is_a_piece() {
    let (batches, each) = two();
    assert_eq!(cut(&batches, Offset(130), ByteSize(each.0 * 5)), None);
    assert_eq!(cut(&batches, Offset(100), ByteSize(each.0 * 100)), None);
    assert_eq!(cut(&batches, Offset(140), ByteSize(1)), None);
}

#[tokio::test(start_paused = true)]
async fn a_build_that_the_end_runs_away_from_gets_more_of_the_time() {
    let mut pace = Pace::new(Offset(1000), Offset(0));
    assert!((pace.least(Offset(9000), Offset(10)) - LEAST).abs() < 1e-9, "too early to tell");
    tokio::time::advance(DOUBLED_EVERY).await;
    // It came 100 and the end went on by 60.
    assert!((pace.least(Offset(1060), Offset(100)) - 2.0 * LEAST).abs() < 1e-9);
    tokio::time::advance(DOUBLED_EVERY).await;
    assert!((pace.least(Offset(1070), Offset(200)) - 2.0 * LEAST).abs() < 1e-9, "it comes nearer");
    for turn in 2..9 {
        tokio::time::advance(DOUBLED_EVERY).await;
        pace.least(Offset(1000 * turn), Offset(200));
    }
    assert!((pace.least - 1.0).abs() < 1e-9, "all of it, and no more");
}
