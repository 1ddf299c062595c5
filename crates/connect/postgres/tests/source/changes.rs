//! What each kind of change, table and replica identity becomes.

use crate::support::Harness;
use rowcast_core::{Op, Start};
use rowcast_testkit::source_suite::{Capture, Told, spec, told};

const LARGE: u64 = 4 << 20;

async fn changes(harness: &Harness, capture: &mut Capture<'_>, sql: &str) -> Vec<Told> {
    let before = capture.batches.len();
    harness.sql(sql).await;
    capture.catch_up().await;
    capture.batches[before..].iter().flat_map(told).collect()
}

#[tokio::test]
async fn a_big_value_that_was_not_touched_stays_as_it_was() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, n int, big text); \
             ALTER TABLE t ALTER big SET STORAGE EXTERNAL; \
             INSERT INTO t VALUES (1, 1, repeat('x', 9000)), (2, 1, NULL)",
        )
        .await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    let told = changes(&harness, &mut capture, "UPDATE t SET n = 2").await;
    assert_eq!(told[0].after[2].as_deref(), Some("\0unchanged"), "it was not sent");
    assert_eq!(told[1].after[2], None, "NULL is not unchanged");
    capture.assert_same("t").await;
    changes(&harness, &mut capture, "UPDATE t SET id = 7 WHERE id = 1").await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_full_replica_identity_fills_what_was_not_sent_and_tells_by_the_key() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, n int, big text); \
             ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER big SET STORAGE EXTERNAL; \
             INSERT INTO t VALUES (1, 1, repeat('x', 9000)), (2, 2, 'y')",
        )
        .await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    let told = changes(&harness, &mut capture, "UPDATE t SET n = 5 WHERE id = 1").await;
    assert_eq!(told[0].after[2].as_deref(), Some("x".repeat(9000).as_str()));
    assert!(told[0].before.is_empty(), "the key is what it was");
    let told = changes(&harness, &mut capture, "DELETE FROM t WHERE id = 2").await;
    assert_eq!((told[0].op, told[0].before[0].as_deref()), (Op::Delete, Some("2")));
    capture.assert_same("t").await;
}

#[tokio::test]
async fn an_index_as_replica_identity_is_the_key() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, b text NOT NULL, a int NOT NULL); \
             CREATE UNIQUE INDEX natural_key ON t (b, a); \
             ALTER TABLE t REPLICA IDENTITY USING INDEX natural_key; \
             INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2)",
        )
        .await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    let schema = capture.copies.newest_schema("t").unwrap();
    let key: Vec<_> = schema.key().iter().map(|k| schema.columns[*k].name.as_str()).collect();
    assert_eq!(key, ["b", "a"], "in the index's own order");
    let told = changes(&harness, &mut capture, "UPDATE t SET b = 'z' WHERE id = 1").await;
    assert_eq!(told[0].before[1].as_deref(), Some("x"));
    changes(&harness, &mut capture, "DELETE FROM t WHERE id = 2").await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_partitioned_table_is_one_entity_whatever_its_partitions_do() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
             CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2026-07-01'); \
             CREATE TABLE t2 PARTITION OF t FOR VALUES FROM ('2026-07-01') TO ('2027-01-01'); \
             INSERT INTO t SELECT i, '2026-06-01'::date + i, 'v' FROM generate_series(1, 60) i",
        )
        .await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    capture.assert_same("t").await;
    changes(&harness, &mut capture, "UPDATE t SET at = at + 90, v = 'w' WHERE id < 10").await;
    changes(
        &harness,
        &mut capture,
        "CREATE TABLE t3 PARTITION OF t DEFAULT; INSERT INTO t VALUES (99, '2030-01-01', 'x')",
    )
    .await;
    capture.assert_same("t").await;
    changes(&harness, &mut capture, "TRUNCATE t").await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_truncate_that_reaches_further_tables_reaches_their_entities() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2); \
             CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a); INSERT INTO b VALUES (1, 1)",
        )
        .await;
    let mut capture = Capture::begin(&harness, &["a", "b"], LARGE).await;
    capture.catch_up().await;
    let sql =
        "BEGIN; INSERT INTO a VALUES (3); TRUNCATE a CASCADE; INSERT INTO a VALUES (4); COMMIT";
    let told = changes(&harness, &mut capture, sql).await;
    assert_eq!(told.iter().filter(|t| t.op == Op::Truncate).count(), 2);
    capture.assert_same("a").await;
    capture.assert_same("b").await;
}

#[tokio::test]
async fn names_may_be_anything() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE SCHEMA \"Odd schema.🎉\"; \
             CREATE TABLE \"Odd schema.🎉\".\"We\"\"ird\" (\"I d.\" text PRIMARY KEY, \"select\" int); \
             INSERT INTO \"Odd schema.🎉\".\"We\"\"ird\" VALUES ('it''s \\ a\tkey', 1), ('ü', 2)",
        )
        .await;
    let mut spec = spec(&harness, &["odd"], 64);
    spec.entities[0].table = "\"Odd schema.🎉\".\"We\"\"ird\"".into();
    let mut capture = Capture::start(&harness, spec, Start::Beginning).await.unwrap();
    while !capture.copies.is_complete("odd") {
        capture.step().await;
        // Resuming between the rows has to quote what a cursor holds.
        if capture.batches.len() == 1 {
            capture = capture.restart_after(1).await;
        }
    }
    harness
        .sql("UPDATE \"Odd schema.🎉\".\"We\"\"ird\" SET \"select\" = 3 WHERE \"I d.\" = 'ü'")
        .await;
    capture.catch_up().await;
    let mut rows = capture.copies.visible("odd");
    rows.sort();
    let cell = |t: &str| Some(t.to_string());
    assert_eq!(rows, [[cell("it's \\ a\tkey"), cell("1")], [cell("ü"), cell("3")]]);
}

#[tokio::test]
async fn only_published_fields_leave_and_generated_ones_are_told_apart() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (secret text, id int PRIMARY KEY, v int, \
               double int GENERATED ALWAYS AS (v * 2) STORED); \
             INSERT INTO t VALUES ('s', 1, 10)",
        )
        .await;
    let mut spec = spec(&harness, &["t", "all"], LARGE);
    spec.entities[0].fields = Some(vec!["v".into(), "id".into()]);
    spec.entities[1].table = "t".into();
    let mut capture = Capture::start(&harness, spec, Start::Beginning).await.unwrap();
    capture.catch_up().await;
    changes(
        &harness,
        &mut capture,
        "UPDATE t SET v = 11, secret = 'x'; INSERT INTO t VALUES ('y', 2, 3)",
    )
    .await;
    let cells = |entity: &str| {
        let rows = capture.copies.visible(entity).into_iter();
        rows.map(|r| r.into_iter().map(Option::unwrap).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(cells("t"), [["1", "11"], ["2", "3"]]);
    assert_eq!(cells("all"), [["x", "1", "11"], ["y", "2", "3"]]);
    let all = capture.copies.newest_schema("all").unwrap();
    assert_eq!(all.generated[0].name, "double");
    assert!(all.column("double").is_none());
    assert!(capture.copies.newest_schema("t").unwrap().generated.is_empty());
}

#[tokio::test]
async fn values_of_every_kind_are_the_same_from_snapshot_and_stream() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "SET lc_monetary = 'C'; CREATE SCHEMA x; CREATE TYPE x.mood AS ENUM ('sad', 'happy'); \
             CREATE DOMAIN x.small AS int CHECK (VALUE < 100); \
             CREATE TYPE x.pair AS (a int, b text); \
             CREATE TABLE t (id int PRIMARY KEY, f float8, r real, n numeric(30,10), b bytea, \
               ts timestamptz, d date, i interval, j jsonb, js json, arr text[], m x.mood, \
               s x.small, p x.pair, rng int4range, u uuid, money money, bits bit(3), txt text, \
               ip inet, flag bool, c \"char\", tz timetz, reg regclass)",
        )
        .await;
    let row = |id: u32| {
        format!(
            "INSERT INTO t VALUES ({id}, 0.1 + 0.2, 'NaN', 'NaN', '\\x00ff', \
             '4713-01-01 00:00:00+00 BC', 'infinity', '1 mon -2 days +03:04:05.6', \
             '{{\"a\": null}}', '{{\"a\":  1}}', ARRAY['a,b', NULL, '\"\\'], 'happy', 7, \
             ROW(1, E'x\\ty'), '[1,5)', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 12.34, B'101', \
             E'tab\\there\\nline \\\\N \\\\. end', '10.0.0.1/8', true, 'x', '24:00:00-07', 't')"
        )
    };
    harness.sql(&row(1)).await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    changes(&harness, &mut capture, &row(2)).await;
    let rows = capture.copies.visible("t");
    assert_eq!(rows[0][1..], rows[1][1..], "a snapshot's row reads like a change's");
    assert_eq!(rows[0][23].as_deref(), Some("public.t"), "names of objects say where they are");
    let schema = capture.copies.newest_schema("t").unwrap();
    assert_eq!(schema.columns[11].native, "x.mood");
    assert_eq!(schema.columns[3].native, "numeric(30,10)");
}
