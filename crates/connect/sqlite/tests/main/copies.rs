//! From one file to another: values keep their storage class, and nothing fits that would not.

use crate::file::File;
use rowcast_core::{
    Database, Fields, LogId, Offset, Progress, Projection, Severity, SinkSpec, Stored,
    Subscription, Track,
};
use rowcast_testkit::source_suite::Capture;
use std::sync::Arc;

fn spec(create: bool) -> SinkSpec {
    let subscription = Subscription {
        entity: "thing".parse().unwrap(),
        into: "copy".into(),
        fields: Fields::All,
        create,
        filter: None,
        from: Default::default(),
    };
    SinkSpec {
        route: "shop:office".parse().unwrap(),
        subscriptions: vec![subscription],
        track: Default::default(),
    }
}

fn projection(spec: &SinkSpec) -> Projection {
    let route = &spec.route;
    Projection::new(route.from.clone(), route.to.clone(), spec.subscriptions.clone())
}

/// Applies everything that a capture has said.
async fn deliver(capture: &Capture<'_>, target: &File) {
    let spec = spec(true);
    let mut sink = target.database().sink(spec.clone());
    let mut at = sink.wants(LogId(1)).await.unwrap().next;
    let (mut projection, mut base) = (projection(&spec), Offset(0));
    for batch in &capture.batches {
        let stored = Stored { base, batch: Arc::new(batch.clone()) };
        let (end, position) = (stored.end(), batch.until);
        base = end;
        if end > at {
            let rows = projection.rows(&[stored], at, end, |_, _| true).unwrap();
            let progress = Progress { from: at, next: end, position, commit: true };
            sink.apply(&rows, progress).await.unwrap();
            at = end;
        }
    }
}

const THING: &str = "CREATE TABLE thing (id INTEGER PRIMARY KEY, flag BOOLEAN, price DECIMAL(10,2), \
    made DATETIME, data BLOB, free, score REAL, doc JSON, big BIGINT, odd STRING, \
    twice INT AS (big * 2) STORED);";

const ROWS: &str = "INSERT INTO thing (id, flag, price, made, data, free, score, doc, big, odd) VALUES \
    (1, 1, 10.50, '2026-11-20 12:00', x'00ff', 1, 3, '{\"a\":1}', 9223372036854775807, '007'), \
    (2, 'true', '12345678901234567890.10', 1763640000, 'text', 1.0, 9e999, NULL, -1, 'x'), \
    (3, NULL, 'abc', 2461000.5, NULL, '1', -9e999, '1.50', 'big', x'61'), \
    (4, 0, 1e300, '', x'', x'31', 0.1, '', 0, 1.5);";

#[tokio::test]
async fn every_value_keeps_its_storage_class() {
    let (source, target) = (File::new(), File::new());
    source.connect().execute_batch(&format!("{THING}{ROWS}")).unwrap();
    let mut capture = Capture::begin(&source, &["thing"], 1 << 20).await;
    capture.catch_up().await;
    source
        .connect()
        .execute_batch(
            &ROWS
                .replace("(1,", "(11,")
                .replace("(2,", "(12,")
                .replace("(3,", "(13,")
                .replace("(4,", "(14,"),
        )
        .unwrap();
    source.connect().execute_batch("UPDATE thing SET free = 2.0, data = 5 WHERE id = 1").unwrap();
    source.connect().execute_batch("ALTER TABLE thing ADD COLUMN late TEXT DEFAULT 'x'").unwrap();
    capture.catch_up().await;
    deliver(&capture, &target).await;
    let columns = [
        "id", "flag", "price", "made", "data", "free", "score", "doc", "big", "odd", "twice",
        "late",
    ];
    let shown: Vec<_> = columns.iter().map(|c| format!("typeof({c}), quote({c})")).collect();
    let select = |table| format!("SELECT {} FROM {table} ORDER BY id", shown.join(", "));
    let should = source.select(&select("thing"));
    assert_eq!(should.len(), 8);
    assert_eq!(target.select(&select("copy")), should);
}

#[tokio::test]
async fn a_target_that_would_change_values_is_found_by_check() {
    let (source, target) = (File::new(), File::new());
    source.connect().execute_batch(THING).unwrap();
    let captured = rowcast_testkit::source_suite::spec(&source, &["thing"], 1 << 20);
    let schemas = source.database().offer(&captured).await.unwrap().schemas;
    let shapes = projection(&spec(true)).shapes(&schemas[0].1).unwrap();
    let errors = async |create: bool| {
        let shapes = projection(&spec(create)).shapes(&schemas[0].1).unwrap();
        let findings = target.database().check_sink(&spec(create), &shapes, &[]).await;
        let errors = findings.into_iter().filter(|f| f.severity == Severity::Error);
        errors.collect::<Vec<_>>()
    };
    assert!(errors(true).await.is_empty());
    // What is missing comes with the statement that makes it.
    let missing = errors(false).await;
    let statements = missing[0].fix.clone().unwrap().statements;
    target.database().fix(&statements).await.unwrap();
    assert!(errors(false).await.is_empty());
    target
        .connect()
        .execute_batch(
            "DROP TABLE copy; CREATE TABLE copy (id INTEGER PRIMARY KEY, \
        flag BOOLEAN, price REAL, made NUMERIC, data BLOB, free, score REAL, doc TEXT, big INT, \
        odd, twice INT)",
        )
        .unwrap();
    let found = errors(false).await;
    assert!(found[0].message.contains("\"price\""));
    assert!(!found[0].help.is_empty() && shapes.len() == 1);
}

#[tokio::test]
async fn tables_of_ours_and_of_sqlite_are_not_offered() {
    let file = File::new();
    file.connect()
        .execute_batch(&format!(
            "{THING}{ROWS} CREATE TABLE \"odd.Name\" (a, b, \
        PRIMARY KEY (b, a)); CREATE VIEW v AS SELECT 1;"
        ))
        .unwrap();
    let mut capture = Capture::begin(&file, &["thing"], 1 << 20).await;
    capture.catch_up().await;
    let tables = file.database().tables().await.unwrap();
    let (offered, left_out): (Vec<_>, Vec<_>) = tables.iter().partition(|t| t.left_out.is_none());
    let names: Vec<_> = offered.iter().map(|t| (t.name.as_str(), t.rows_estimate)).collect();
    assert_eq!(names, [("\"odd.Name\"", Some(0)), ("thing", Some(4))]);
    // A view is named, with why it cannot be published.
    assert_eq!(left_out.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["v"]);
    let keys = tables[1].columns.iter().filter(|c| c.key).map(|c| c.name.as_str());
    assert_eq!(keys.collect::<Vec<_>>(), ["id"]);
}

#[tokio::test]
async fn check_says_how_a_rollback_journal_is_replaced() {
    let file = File::without_wal();
    let captured = rowcast_testkit::source_suite::spec(&file, &[], 1 << 20);
    let findings = file.database().check_source(&captured).await;
    let journal = findings.iter().find(|f| f.severity == Severity::Warning).unwrap();
    let fix = journal.fix.clone().unwrap();
    assert!(fix.safe);
    file.database().fix(&fix.statements).await.unwrap();
    assert_eq!(file.select("PRAGMA journal_mode")[0][0].as_deref(), Some("wal"));
}

#[tokio::test]
async fn a_strict_tables_free_column_stays_free() {
    let (source, target) = (File::new(), File::new());
    let table = "CREATE TABLE thing (id INTEGER PRIMARY KEY, free ANY) STRICT; \
                 INSERT INTO thing VALUES (1, '007'), (2, 7), (3, 7.0), (4, x'07');";
    source.connect().execute_batch(table).unwrap();
    let mut capture = Capture::begin(&source, &["thing"], 1 << 20).await;
    capture.catch_up().await;
    deliver(&capture, &target).await;
    let select = |table| format!("SELECT id, typeof(free), quote(free) FROM {table} ORDER BY id");
    assert_eq!(target.select(&select("copy")), source.select(&select("thing")));
}

/// SQLite alone would end the wait of the second one with "database is locked".
#[tokio::test]
async fn two_tracks_of_one_instance_take_turns_at_their_file() {
    let (source, target) = (File::new(), File::new());
    source.connect().execute_batch(&format!("{THING} {ROWS}")).unwrap();
    let mut capture = Capture::begin(&source, &["thing"], 1 << 20).await;
    capture.catch_up().await;
    let batch = Arc::new(capture.batches.last().unwrap().clone());
    let stored = Stored { base: Offset(0), batch: batch.clone() };
    let (end, position) = (stored.end(), batch.until);
    let progress = |commit| Progress { from: Offset(0), next: end, position, commit };
    let spec = spec(true);
    let rows = projection(&spec).rows(&[stored], Offset(0), end, |_, _| true).unwrap();
    let mut main = target.database().sink(spec.clone());
    main.wants(LogId(1)).await.unwrap();
    // A large transaction of the publisher that is still arriving.
    main.apply(&rows, progress(false)).await.unwrap();
    let mut side = target.database().sink(SinkSpec { track: Track::Side, ..spec });
    let (more, after) = (rows.clone(), progress(true));
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let waiting = tokio::spawn(async move {
        side.wants(LogId(1)).await?;
        side.apply(&more, after).await
    });
    // Longer than a statement waits for the file's lock.
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    assert!(!waiting.is_finished(), "{:?}", waiting.await);
    main.apply(&rows, progress(true)).await.unwrap();
    waiting.await.unwrap().unwrap();
}

/// Where the copy's key takes two of the source's for one, check and the first row refuse it alike.
#[tokio::test]
async fn a_key_that_compares_more_coarsely_than_the_source_s_is_refused() {
    let source = File::new();
    let thing = "CREATE TABLE thing (id TEXT PRIMARY KEY, n INT); \
                 INSERT INTO thing VALUES ('abc', 1), ('ABC', 2), ('abc ', 3);";
    source.connect().execute_batch(thing).unwrap();
    let captured = rowcast_testkit::source_suite::spec(&source, &["thing"], 1 << 20);
    let schemas = source.database().offer(&captured).await.unwrap().schemas;
    let shapes = projection(&spec(true)).shapes(&schemas[0].1).unwrap();
    let mut capture = Capture::begin(&source, &["thing"], 1 << 20).await;
    capture.catch_up().await;
    for (copy, refused) in [
        ("CREATE TABLE copy (id TEXT COLLATE NOCASE PRIMARY KEY, n INT)", true),
        ("CREATE TABLE copy (id TEXT COLLATE RTRIM NOT NULL UNIQUE, n INT)", true),
        ("CREATE TABLE copy (id TEXT COLLATE NOCASE, n INT, PRIMARY KEY (id)) WITHOUT ROWID", true),
        ("CREATE TABLE copy (id TEXT PRIMARY KEY, n INT COLLATE NOCASE UNIQUE)", false),
        ("CREATE TABLE copy (id TEXT PRIMARY KEY, n INT)", false),
    ] {
        let target = File::new();
        target.connect().execute_batch(copy).unwrap();
        let found = target.database().check_sink(&spec(true), &shapes, &[]).await;
        let errors = found.iter().filter(|f| f.severity == Severity::Error);
        let errors: Vec<_> = errors.map(|f| f.message.as_str()).collect();
        assert_eq!(errors.len(), usize::from(refused), "{copy}: {found:?}");
        if !refused {
            deliver(&capture, &target).await;
            assert_eq!(target.select("SELECT count(*) FROM copy")[0][0].as_deref(), Some("3"));
            continue;
        }
        let mut sink = target.database().sink(spec(true));
        sink.wants(LogId(1)).await.unwrap();
        let batch = capture.batches.last().unwrap().clone();
        let stored = Stored { base: Offset(0), batch: Arc::new(batch) };
        let (next, position) = (stored.end(), stored.batch.until);
        let rows = projection(&spec(true)).rows(&[stored], Offset(0), next, |_, _| true).unwrap();
        let progress = Progress { from: Offset(0), next, position, commit: true };
        let error = sink.apply(&rows, progress).await.unwrap_err().to_string();
        assert!(error.contains(errors[0]), "{error} {errors:?}");
        assert_eq!(target.select("SELECT count(*) FROM copy")[0][0].as_deref(), Some("0"));
    }
}
