//! Tables that change while they are captured.

use crate::support::Harness;
use rowcast_core::{Diagnose, SourceError, Start};
use rowcast_testkit::source_suite::{Capture, spec};

const LARGE: u64 = 4 << 20;

#[tokio::test]
async fn dropped_renamed_and_retyped_columns_give_a_new_schema_each() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b int, c int)").await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    // All at once, so that the catalog is ahead of the stream.
    harness
        .sql(
            "INSERT INTO t VALUES (1, 'x', 1, 1); ALTER TABLE t DROP COLUMN a; \
             INSERT INTO t VALUES (2, 2, 2); ALTER TABLE t RENAME b TO bb; \
             INSERT INTO t VALUES (3, 3, 3); ALTER TABLE t ALTER c TYPE numeric(12,2); \
             INSERT INTO t VALUES (4, 4, 4.5)",
        )
        .await;
    let mut shapes = Vec::new();
    capture.catch_up().await;
    for batch in &capture.batches {
        for event in batch.events.iter().filter(|e| e.op == rowcast_core::Op::Schema) {
            let columns = batch.schema(event).columns.iter();
            shapes.push(columns.map(|c| format!("{} {}", c.name, c.native)).collect::<Vec<_>>());
        }
    }
    assert_eq!(
        shapes,
        [
            vec!["id integer", "a text", "b integer", "c integer"],
            vec!["id integer", "b integer", "c integer"],
            vec!["id integer", "bb integer", "c integer"],
            vec!["id integer", "bb integer", "c numeric(12,2)"],
        ]
    );
}

#[tokio::test]
async fn a_published_field_that_vanishes_is_named_before_anything_wrong_is_told() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY, name text, other int)").await;
    let mut spec = spec(&harness, &["t"], LARGE);
    spec.entities[0].fields = Some(vec!["id".into(), "name".into()]);
    let mut capture = Capture::start(&harness, spec, Start::Beginning).await.unwrap();
    capture.catch_up().await;
    harness.sql("INSERT INTO t VALUES (1, 'good', 1)").await;
    harness.sql("ALTER TABLE t DROP COLUMN other; INSERT INTO t VALUES (2, 'good')").await;
    harness.sql("ALTER TABLE t DROP COLUMN name; INSERT INTO t VALUES (3)").await;
    let error = loop {
        match capture.source.next().await {
            Ok(batch) => capture.copies.fold(&batch),
            Err(error) => break error,
        }
    };
    let SourceError::Schema { what, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("\"name\""), "{what}");
    assert!(!error.help().is_empty());
    assert_eq!(capture.copies.visible("t").len(), 2, "what came before is told");
}

#[tokio::test]
async fn a_table_made_anew_replaces_the_rows_of_the_old_one() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    let n = capture.batches.len();
    harness.sql("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (3, 'x')").await;
    capture = capture.restart_after(n).await;
    while capture.copies.visible("t").len() != 1 {
        capture.step().await;
    }
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_table_that_is_dropped_is_told_while_running() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    harness.sql("DROP TABLE t").await;
    let error = loop {
        match capture.source.next().await {
            Ok(batch) => capture.copies.fold(&batch),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, SourceError::Schema { what, .. } if what.contains("\"t\"")),
        "{error:?}"
    );
}
