use super::*;

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
