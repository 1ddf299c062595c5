//! Tables that change while they are captured.

use crate::support::{Harness, NAME};
use rowcast_core::{Diagnose, Op, SourceError, Start};
use rowcast_testkit::source_suite::{Capture, SourceHarness, spec};
use rowcast_testkit::wait::LONG;
use std::time::Duration;

const LARGE: u64 = 4 << 20;

#[tokio::test]
async fn dropped_added_and_widened_columns_give_a_new_schema_each() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b int, c varchar(5))").await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    // All at once, so that the catalog is ahead of the stream.
    harness
        .sql(
            "INSERT INTO t VALUES (1, 'x', 1, 'c'); ALTER TABLE t DROP COLUMN a; \
             INSERT INTO t VALUES (2, 2, 'c'); ALTER TABLE t ADD bb int; \
             INSERT INTO t VALUES (3, 3, 'c'); ALTER TABLE t ALTER c TYPE text; \
             INSERT INTO t VALUES (4, 4, 'longer than before')",
        )
        .await;
    let mut shapes = Vec::new();
    capture.catch_up().await;
    for batch in &capture.batches {
        for event in batch.events.iter().filter(|e| e.op == Op::Schema) {
            let columns = batch.schema(event).columns.iter();
            shapes.push(columns.map(|c| format!("{} {}", c.name, c.native)).collect::<Vec<_>>());
        }
    }
    let c = "c character varying(5)";
    assert_eq!(
        shapes,
        [
            vec!["id integer", "a text", "b integer", c],
            vec!["id integer", "b integer", c],
            vec!["id integer", "b integer", c, "bb integer"],
            vec!["id integer", "b integer", "c text", "bb integer"],
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
    capture.catch_up().await;
    // From 15 on the server asks for a CASCADE: the publication names the column.
    harness.sql("ALTER TABLE t DROP COLUMN name CASCADE; INSERT INTO t VALUES (3)").await;
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

/// Takes batches until the copy of `t` is what the table is, and its entity complete.
pub(crate) async fn settle(capture: &mut Capture<'_>, harness: &Harness) {
    const COLUMNS: &str = "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass \
                           AND attnum > 0 AND NOT attisdropped ORDER BY attname";
    let settled = async {
        loop {
            capture.step_within(Duration::from_millis(100)).await;
            let Some(schema) = capture.copies.newest_schema("t") else { continue };
            let mut columns: Vec<_> = schema.columns.iter().map(|c| c.name.clone()).collect();
            columns.sort();
            let there = harness.sql(COLUMNS).await;
            if !there.iter().map(|row| row[0].as_ref()).eq(columns.iter().map(Some))
                || capture.copies.is_open()
                || !capture.copies.is_complete("t")
            {
                continue;
            }
            let columns: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
            let mut is = capture.copies.visible("t");
            let mut should = harness.rows("t", &columns).await;
            is.sort();
            should.sort();
            if is == should {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, settled).await.expect("the copy follows");
}

/// Statements that change what rows are without a change of any row in the stream.
const UNSEEN: [(&str, &str); 7] = [
    ("a computed default", "ALTER TABLE t ADD COLUMN u uuid NOT NULL DEFAULT gen_random_uuid()"),
    ("computed values", "ALTER TABLE t ALTER COLUMN n TYPE int USING n * 2"),
    ("rounded values", "ALTER TABLE t ALTER COLUMN d TYPE numeric(10,1)"),
    ("another name", "ALTER TABLE t RENAME COLUMN v TO w"),
    ("a column in the place of one", "ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n int"),
    (
        "a table swapped under its name",
        "CREATE TABLE t2 (v text, id int PRIMARY KEY, extra int); INSERT INTO t2 VALUES ('new', 9, 1); \
         BEGIN; ALTER TABLE t RENAME TO t1; ALTER TABLE t2 RENAME TO t; COMMIT",
    ),
    (
        "a table taken out of the publication",
        "ALTER PUBLICATION rowcast_shop DROP TABLE t; UPDATE t SET n = 7",
    ),
];

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, n int, d numeric); \
                    INSERT INTO t SELECT i, 'v' || i, i, i / 7.0 FROM generate_series(1, 50) i";

#[tokio::test]
async fn what_the_stream_does_not_tell_of_rows_is_read_again() {
    for (what, change) in UNSEEN {
        // With a change of a row behind it, and without one; while running, and while away.
        for (touched, away) in [(true, false), (false, false), (true, true)] {
            println!("{what}, {touched} {away}");
            let harness = Harness::fresh().await;
            harness.sql(ROWS).await;
            let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
            capture.catch_up().await;
            let touch = if touched { "; INSERT INTO t (id) VALUES (100)" } else { "" };
            if away {
                let stopped = capture.stop();
                harness.sql(&format!("{change}{touch}")).await;
                capture = stopped.go_on().await;
            } else {
                harness.sql(&format!("{change}{touch}")).await;
            }
            settle(&mut capture, &harness).await;
            let n = capture.batches.len();
            harness.sql("INSERT INTO t (id) VALUES (101)").await;
            settle(&mut capture, &harness).await;
            // It was read once, not over and over.
            let again =
                capture.batches[n..].iter().any(|b| b.events.iter().any(|e| e.op == Op::Read));
            assert!(!again, "{what}");
        }
    }
}

#[tokio::test]
async fn what_leaves_the_rows_as_they_are_reads_nothing_again() {
    let harness = Harness::fresh().await;
    harness.sql(ROWS).await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    let n = capture.batches.len();
    for (i, change) in [
        "ALTER TABLE t ADD COLUMN later text",
        "VACUUM FULL t",
        "CLUSTER t USING t_pkey",
        "ALTER TABLE t ADD COLUMN grey text NOT NULL DEFAULT 'grey'",
        "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'x'",
        "ALTER TABLE t DROP COLUMN d",
    ]
    .into_iter()
    .enumerate()
    {
        harness.server.sql(NAME, change).await;
        harness.sql(&format!("INSERT INTO t (id, v) VALUES ({}, 'more')", 100 + i)).await;
        settle(&mut capture, &harness).await;
        let before = capture.batches.len();
        capture = capture.restart_after(before).await;
        capture.catch_up().await;
    }
    let read = capture.batches[n..].iter().any(|b| b.events.iter().any(|e| e.op == Op::Read));
    assert!(!read);
}

#[tokio::test]
async fn a_key_that_is_taken_away_is_told_and_another_one_reads_the_table_again() {
    let harness = Harness::fresh().await;
    harness.sql(ROWS).await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    // The stream's first word on the table is one without a key.
    harness
        .sql("ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES (76, 'k', 76, 1)")
        .await;
    let error = loop {
        match capture.source.next().await {
            Ok(batch) => {
                assert!(batch.events.iter().all(|e| e.op != Op::Create), "told apart by no key");
                capture.copies.fold(&batch);
            }
            Err(error) => break error,
        }
    };
    let told = matches!(&error, SourceError::Schema { what, .. } if what.contains("primary key"));
    assert!(told, "{error:?}");
    // What is inserted meanwhile is in the stream, without a key.
    harness.sql("INSERT INTO t VALUES (77, 'keyless', 77, 1)").await;
    harness.sql("ALTER TABLE t ADD PRIMARY KEY (n)").await;
    let mut capture = capture.stop().go_on().await;
    settle(&mut capture, &harness).await;
    harness.sql("UPDATE t SET id = -id; DELETE FROM t WHERE n = 3").await;
    settle(&mut capture, &harness).await;
    let schema = capture.copies.newest_schema("t").unwrap();
    let key: Vec<_> = schema.key().into_iter().map(|k| schema.columns[k].name.clone()).collect();
    assert_eq!(key, ["n"]);
}

#[tokio::test]
async fn a_table_that_is_written_anew_before_it_was_read_is_not_taken_for_empty() {
    let harness = Harness::fresh().await;
    // Large enough to be read for a while, in front of the table that is altered.
    harness
        .sql(&format!(
            "{ROWS}; CREATE TABLE a (id int PRIMARY KEY, v text); \
             INSERT INTO a SELECT i, repeat('a', 500) FROM generate_series(1, 20000) i; \
             CREATE TABLE b (LIKE a INCLUDING ALL); INSERT INTO b TABLE a; \
             CREATE TABLE c (LIKE a INCLUDING ALL); INSERT INTO c TABLE a"
        ))
        .await;
    let mut capture = Capture::begin(&harness, &["a", "b", "c", "t"], 64 << 10).await;
    capture.step().await;
    harness.sql("ALTER TABLE t ADD COLUMN u uuid DEFAULT gen_random_uuid()").await;
    while !capture.copies.is_complete("t") {
        capture.step().await;
    }
    assert!(capture.copies.visible("t").len() >= 50, "{:?}", capture.copies.visible("t").len());
    settle(&mut capture, &harness).await;
}
