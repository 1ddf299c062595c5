//! No stale row ever wins, and nothing is lost, whatever happens while a snapshot runs.

use crate::support::Harness;
use rowcast_core::{Op, Publish, Start};
use rowcast_testkit::source_suite::{Capture, spec};
use rowcast_testkit::wait::LONG;

const SMALL: u64 = 2 << 10;

async fn rows(harness: &Harness, count: u32) {
    harness
        .sql(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, n int, big text); \
             ALTER TABLE t ALTER big SET STORAGE EXTERNAL; \
             INSERT INTO t SELECT i, 0, repeat('x', 3000) FROM generate_series(1, {count}) i"
        ))
        .await;
}

/// A commit is in the log before others see it. One that waits for a standby that never comes is
/// seen by nobody for as long as we like.
#[tokio::test]
async fn a_commit_that_nobody_sees_yet_is_not_undone_by_the_snapshot() {
    let harness = Harness::fresh().await;
    rows(&harness, 200).await;
    let mut capture = Capture::begin(&harness, &["t"], SMALL).await;
    while capture.copies.visible("t").is_empty() {
        capture.step().await;
    }
    harness.server.set("synchronous_standby_names", "nobody").await;
    let stalled = harness.session().await;
    let commit = stalled.try_sql(
        "BEGIN; UPDATE t SET n = 1, big = 'new' WHERE id IN (2, 150); \
         DELETE FROM t WHERE id = 160; UPDATE t SET id = 900 WHERE id = 170; COMMIT",
    );
    let others = async {
        let session = harness.session().await;
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        session.until(LONG, waiting, "1").await;
        let seen = session.sql("SELECT n FROM t WHERE id = 150").await;
        assert_eq!(seen[0][0].as_deref(), Some("0"), "the commit is not to be seen yet");
        while !capture.copies.is_complete("t") {
            capture.step().await;
        }
        while capture.copies.visible("t").iter().filter(|r| r[1].as_deref() == Some("1")).count()
            < 2
        {
            capture.step().await;
        }
        harness.server.set("synchronous_standby_names", "").await;
    };
    let (committed, ()) = tokio::join!(commit, others);
    committed.unwrap();
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_big_value_left_out_by_the_first_change_of_a_row_is_not_lost() {
    let harness = Harness::fresh().await;
    rows(&harness, 100).await;
    let mut capture = Capture::begin(&harness, &["t"], SMALL).await;
    // None of these rows has been copied yet, and none of these changes holds `big`.
    harness
        .sql(
            "UPDATE t SET n = 1 WHERE id IN (60, 70); UPDATE t SET id = 1000 WHERE id = 80; \
             UPDATE t SET id = 0 WHERE id = 90; UPDATE t SET n = 2 WHERE id = 60; \
             UPDATE t SET big = 'short' WHERE id = 70; UPDATE t SET n = 3 WHERE id IN (70, 0)",
        )
        .await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_row_that_moves_behind_a_resumed_copy_keeps_its_big_value() {
    let harness = Harness::fresh().await;
    rows(&harness, 100).await;
    let mut capture = Capture::begin(&harness, &["t"], SMALL).await;
    while capture.copies.visible("t").len() < 10 {
        capture.step().await;
    }
    // Committed while nobody listens, so before the place where the second copy begins.
    let n = capture.batches.len();
    harness.sql("UPDATE t SET id = -id WHERE id > 90; UPDATE t SET n = 1 WHERE id < 0").await;
    capture = capture.restart_after(n).await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_truncate_during_the_copy_ends_it() {
    let harness = Harness::fresh().await;
    rows(&harness, 100).await;
    let mut capture = Capture::begin(&harness, &["t"], SMALL).await;
    capture.step().await;
    // A reader holds the table, so TRUNCATE waits for it: let it read on meanwhile.
    let session = harness.session().await;
    let truncate = session.sql("TRUNCATE t; INSERT INTO t VALUES (1, 5, 'after')");
    let read = async {
        while !capture.copies.is_complete("t") {
            capture.step().await;
        }
    };
    tokio::join!(truncate, read);
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn an_entity_published_later_is_copied_while_the_others_go_on() {
    let harness = Harness::fresh().await;
    rows(&harness, 50).await;
    harness.sql("CREATE TABLE late (id int PRIMARY KEY, v text)").await;
    harness.sql("INSERT INTO late SELECT i, 'old' FROM generate_series(1, 500) i").await;
    let mut capture = Capture::begin(&harness, &["t"], SMALL).await;
    capture.catch_up().await;
    harness.sql("UPDATE late SET v = 'unheard' WHERE id = 1").await;
    capture.spec.entities.push(Publish {
        entity: "late".parse().unwrap(),
        table: "public.late".into(),
        fields: None,
        masks: Default::default(),
    });
    let n = capture.batches.len();
    capture = capture.restart_after(n).await;
    harness
        .sql("UPDATE late SET v = 'heard' WHERE id > 490; UPDATE t SET n = 9 WHERE id = 3")
        .await;
    capture.catch_up().await;
    capture.assert_same("late").await;
    capture.assert_same("t").await;
    let again = capture.batches[n..].iter().flat_map(|b| b.events.iter().map(move |e| (b, e)));
    let again = again.filter(|(b, e)| e.op == Op::Read && b.schema(e).entity.as_str() == "t");
    assert_eq!(again.count(), 0, "what is done is left alone");
}

#[tokio::test]
async fn many_tables_are_copied_side_by_side() {
    let harness = Harness::fresh().await;
    let names: Vec<String> = (0..300).map(|i| format!("t{i}")).collect();
    let make =
        |n: &String| format!("CREATE TABLE {n} (id int PRIMARY KEY); INSERT INTO {n} VALUES (1);");
    harness.sql(&names.iter().map(make).collect::<String>()).await;
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut capture = Capture::begin(&harness, &tables, SMALL).await;
    let change = |n: &String| format!("UPDATE {n} SET id = 2; INSERT INTO {n} VALUES (3);");
    harness.sql(&names.iter().map(change).collect::<String>()).await;
    capture.catch_up().await;
    for name in [tables[0], tables[150], tables[299]] {
        capture.assert_same(name).await;
    }
    assert!(names.iter().all(|n| capture.copies.visible(n).len() == 2));
}

#[tokio::test]
async fn a_key_of_an_extension_or_of_many_columns_resumes_in_its_own_order() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TYPE mood AS ENUM ('zz', 'mm', 'aa'); \
             CREATE TABLE t (b text COLLATE \"C\", m mood, f float8, v text, PRIMARY KEY (m, b, f)); \
             INSERT INTO t SELECT chr(60 + i % 60), (ARRAY['aa','mm','zz'])[1 + i % 3]::mood, \
               i / 7.0, repeat('v', 50) FROM generate_series(1, 300) i",
        )
        .await;
    let spec = spec(&harness, &["t"], SMALL);
    let mut capture = Capture::start(&harness, spec, Start::Beginning).await.unwrap();
    while !capture.copies.is_complete("t") {
        capture.step().await;
        let n = capture.batches.len();
        if n.is_multiple_of(2) {
            capture = capture.restart_after(n).await;
        }
    }
    capture.catch_up().await;
    capture.assert_same("t").await;
    let reads = capture.batches.iter().flat_map(|b| &b.events).filter(|e| e.op == Op::Read).count();
    assert_eq!(reads, 300, "each row once, though it was interrupted");
}

#[tokio::test]
async fn tables_that_change_before_their_turn_are_read_as_they_are_then() {
    let harness = Harness::fresh().await;
    let names: Vec<String> = (0..8).map(|i| format!("t{i}")).collect();
    let make = |n: &String| {
        format!(
            "CREATE TABLE {n} (id int PRIMARY KEY, a text, b text); \
             INSERT INTO {n} SELECT i, repeat('a', 500), 'b' FROM generate_series(1, 100) i;"
        )
    };
    harness.sql(&names.iter().map(make).collect::<String>()).await;
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut capture = Capture::begin(&harness, &tables, SMALL).await;
    capture.step().await;
    // Readers wait at the first tables, for as long as nobody takes what they have read.
    harness
        .sql(
            "ALTER TABLE t6 DROP COLUMN a; ALTER TABLE t7 ADD COLUMN c int DEFAULT 5; \
             UPDATE t7 SET b = 'x' WHERE id = 3; INSERT INTO t6 VALUES (900, 'y')",
        )
        .await;
    capture.catch_up().await;
    for table in tables {
        capture.assert_same(table).await;
    }
}

#[tokio::test]
async fn rows_that_a_policy_hides_are_an_error_and_not_a_hole() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE ROLE reader LOGIN REPLICATION; CREATE TABLE t (id int PRIMARY KEY); \
             INSERT INTO t VALUES (1), (2); GRANT SELECT ON t TO reader; \
             ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY one ON t TO reader USING (id = 1); \
             CREATE PUBLICATION rowcast_shop FOR TABLE ONLY t WITH (publish_via_partition_root)",
        )
        .await;
    let url = harness.server.url(crate::support::NAME).replace("postgres@", "reader@");
    let database = rowcast_postgres::PostgresDatabase::from_url(&url).unwrap();
    let spec = spec(&harness, &["t"], SMALL);
    let findings = rowcast_core::Database::check_source(&database, &spec).await;
    assert!(findings.iter().any(|f| f.message.contains("hides rows")), "{findings:#?}");
    let mut source = rowcast_core::Database::source(&database, spec);
    // Before there is a slot that would look like a history.
    let error = source.start(Start::Beginning).await.unwrap_err();
    let slots = harness.sql("SELECT count(*)::text FROM pg_replication_slots").await;
    assert_eq!(slots, [[Some("0".to_string())]]);
    assert!(matches!(error, rowcast_core::SourceError::Setup { .. }), "{error:?}");
}

/// A slot waits for the transactions that write while it is made; what they commit is in the copy.
#[tokio::test]
async fn a_column_that_comes_while_the_slot_is_made_arrives_with_its_values() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE busy (x int)").await;
    harness.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 10) i").await;
    let open = harness.session().await;
    open.sql("BEGIN; INSERT INTO busy VALUES (1)").await;
    let other = harness.session().await;
    let alter = async {
        let making = "SELECT count(*) FROM pg_replication_slots WHERE active";
        other.until(LONG, making, "1").await;
        other.sql("ALTER TABLE t ADD COLUMN late int; UPDATE t SET late = id").await;
        open.sql("COMMIT").await;
    };
    let begin = Capture::begin(&harness, &["t"], SMALL);
    let (mut capture, ()) = tokio::join!(begin, alter);
    capture.catch_up().await;
    assert_eq!(capture.copies.newest_schema("t").map(|s| s.columns.len()), Some(3));
    capture.assert_same("t").await;
}
