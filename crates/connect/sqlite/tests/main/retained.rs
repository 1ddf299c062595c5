//! What waits in a file to be captured, and what happens when it is too much.

use crate::file::File;
use rowcast_core::{Database, SourceError, Start};
use rowcast_testkit::source_suite::{Capture, SourceHarness, spec};

const BOX: &str = "CREATE TABLE box (id INTEGER PRIMARY KEY, v TEXT)";

fn run(file: &File, sql: &str) {
    file.connect().execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
}

#[tokio::test]
async fn what_waits_in_a_file_is_told_and_let_go_of() {
    let file = File::new();
    let (database, service) = (file.database(), "shop".parse().unwrap());
    run(&file, BOX);
    assert_eq!(database.retained(&service).await.unwrap(), None);
    let mut capture = Capture::begin(&file, &["box"], 1 << 20).await;
    capture.catch_up().await;
    let stopped = capture.stop();
    let before = database.retained(&service).await.unwrap().unwrap();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
                INSERT INTO box SELECT i, printf('%01000d', i) FROM n";
    run(&file, many);
    let after = database.retained(&service).await.unwrap().unwrap();
    let values = 5000 * 1000;
    assert!(after.bytes > before.bytes + values && after.bytes < 2 * values, "{after:?}");
    let of = stopped.copies.position().map(|p| p.epoch);
    database.release(&service, of).await.unwrap();
    assert_eq!(database.retained(&service).await.unwrap(), None);
    let ours = "SELECT name FROM sqlite_schema WHERE type = 'trigger'";
    assert!(file.select(ours).is_empty(), "triggers go, so nothing waits any more");
    assert_eq!(file.select("SELECT count(*) FROM _rowcast_changes"), [[Some("0".to_string())]]);
    database.release(&service, of).await.unwrap();
    let harness: &dyn SourceHarness = &file;
    let resume = Start::After(stopped.copies.resume());
    let spec = spec(harness, &["box"], 1 << 20);
    let again = async || Capture::start(harness, spec.clone(), resume.clone()).await.err();
    let told = |e: &SourceError| matches!(e, SourceError::Released { what, .. } if what.contains("`retain` limit"));
    let error = again().await.expect("a history that was let go of is refused");
    assert!(told(&error), "{error:?}");
    // A new one begins, and its log never hears of it.
    drop(Capture::start(harness, spec.clone(), Start::Afresh).await.unwrap());
    let error = again().await.expect("it is refused still");
    assert!(told(&error), "{error:?}");
    let mut capture = stopped.start(Start::Afresh).await;
    capture.catch_up().await;
    capture.assert_same("box").await;
    // Once a log goes on in the new one, the old one is as foreign as any other.
    let n = capture.batches.len();
    drop(capture.restart_after(n).await);
    let error = again().await.expect("it is another history");
    assert!(matches!(error, SourceError::Epoch { .. }), "{error:?}");
}
