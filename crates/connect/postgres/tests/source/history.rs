//! One history, followed without a gap, or refused.

use crate::support::Harness;
use rowcast_core::{Diagnose, SourceError, Start};
use rowcast_testkit::postgres::Server;
use rowcast_testkit::source_suite::{Capture, SourceHarness, spec};
use rowcast_testkit::wait::LONG;

const LARGE: u64 = 4 << 20;
const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

async fn caught_up(harness: &Harness) -> Capture<'_> {
    harness.sql(TABLE).await;
    let mut capture = Capture::begin(harness, &["t"], LARGE).await;
    capture.catch_up().await;
    capture
}

/// Ends a capture; tells how it would go on.
async fn ended(harness: &Harness, capture: Capture<'_>) -> Start {
    let start = Start::After(capture.copies.resume());
    drop(capture);
    let session = harness.session().await;
    let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
    session.until(LONG, active, "0").await;
    start
}

async fn refused(harness: &Harness, start: Start) -> SourceError {
    let spec = spec(harness, &["t"], LARGE);
    match Capture::start(harness, spec, start).await {
        Ok(_) => panic!("it went on"),
        Err(error) => error,
    }
}

fn is_epoch(error: &SourceError) {
    assert!(matches!(error, SourceError::Epoch { .. }), "{error:?}");
    assert!(error.help().contains("rowcast run --resnapshot shop"), "{}", error.help());
}

#[tokio::test]
async fn a_slot_that_was_dropped_or_made_anew_is_noticed() {
    let harness = Harness::fresh().await;
    let capture = caught_up(&harness).await;
    let start = ended(&harness, capture).await;
    harness.drop_slots().await;
    is_epoch(&refused(&harness, start.clone()).await);
    harness.sql("INSERT INTO t VALUES (2, 'missed')").await;
    let make = "SELECT pg_create_logical_replication_slot('rowcast_shop', 'pgoutput')";
    harness.sql(make).await;
    is_epoch(&refused(&harness, start).await);
}

/// Whoever compares right after a capture has ended meets a server that has not noticed yet.
#[tokio::test]
async fn a_slot_that_is_about_to_be_let_go_of_is_looked_into_then() {
    let harness = Harness::fresh().await;
    let capture = caught_up(&harness).await;
    let logged = capture.copies.position().unwrap();
    let mut view = harness.database().source_view(&capture.spec).await.unwrap();
    let session = harness.session().await;
    let looked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'idle' \
                  AND query LIKE '%active_pid%' AND pid <> pg_backend_pid()";
    let ends = async {
        session.until(LONG, looked, "t").await;
        drop(capture);
    };
    let (unlogged, ()) = tokio::join!(view.has_unlogged(&logged), ends);
    assert!(!unlogged.unwrap(), "everything was captured");
    harness.sql("INSERT INTO t VALUES (2, 'new')").await;
    let mut view = harness.database().source_view(&spec(&harness, &["t"], LARGE)).await.unwrap();
    assert!(view.has_unlogged(&logged).await.unwrap());
}

#[tokio::test]
async fn a_slot_that_moved_on_without_the_log_is_noticed() {
    let harness = Harness::fresh().await;
    let capture = caught_up(&harness).await;
    let start = ended(&harness, capture).await;
    harness.sql("INSERT INTO t VALUES (2, 'missed')").await;
    let advance = "SELECT pg_replication_slot_advance('rowcast_shop', pg_current_wal_lsn())";
    harness.sql(advance).await;
    is_epoch(&refused(&harness, start).await);
}

#[tokio::test]
async fn a_slot_that_the_server_gave_up_is_noticed() {
    let server = Server::start_with(&[("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB")]);
    let harness = Harness::on(server.await).await;
    let capture = caught_up(&harness).await;
    let start = ended(&harness, capture).await;
    for _ in 0..4 {
        harness
            .sql("SELECT pg_switch_wal(); INSERT INTO t VALUES (0, 'x') ON CONFLICT DO NOTHING")
            .await;
    }
    harness.sql("CHECKPOINT").await;
    let session = harness.session().await;
    session.until(LONG, "SELECT wal_status FROM pg_replication_slots", "lost").await;
    is_epoch(&refused(&harness, start).await);
}

#[tokio::test]
async fn a_lost_data_directory_is_not_passed_over() {
    let harness = Harness::fresh().await;
    let mut capture = caught_up(&harness).await;
    harness.sql("INSERT INTO t VALUES (2, 'b')").await;
    capture.catch_up().await;
    let until = capture.copies.position().unwrap();
    capture.source.confirm(&until).await.unwrap();
    let session = harness.session().await;
    let confirmed = "SELECT confirmed_flush_lsn >= '".to_string()
        + &until.to_string()
        + "' FROM pg_replication_slots";
    session.until(LONG, &confirmed, "t").await;
    ended(&harness, capture).await;
    is_epoch(&refused(&harness, Start::Beginning).await);
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_begins_again() {
    let harness = Harness::fresh().await;
    harness.sql(TABLE).await;
    let capture = Capture::begin(&harness, &["t"], LARGE).await;
    drop(capture);
    let session = harness.session().await;
    session.until(LONG, "SELECT count(*) FROM pg_replication_slots WHERE active", "0").await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_server_that_restarts_is_an_outage_and_nothing_more() {
    let harness = Harness::fresh().await;
    harness.sql(TABLE).await;
    let spec = spec(&harness, &["t"], LARGE);
    let (mut server, mut source, mut copies) = {
        let mut capture = Capture::start(&harness, spec, Start::Beginning).await.unwrap();
        capture.catch_up().await;
        let (source, copies) = (capture.source, capture.copies);
        (harness.server, source, copies)
    };
    server.kill_9().await;
    let error = loop {
        match source.next().await {
            Ok(batch) => copies.fold(&batch),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
    let down = source.start(Start::After(copies.resume())).await;
    assert!(matches!(down, Err(SourceError::Unreachable { .. })), "{down:?}");
    server.start_again().await;
    server.sql(crate::support::NAME, "INSERT INTO t VALUES (2, 'after')").await;
    source.start(Start::After(copies.resume())).await.unwrap();
    while copies.visible("t").len() < 2 {
        copies.fold(&source.next().await.unwrap());
    }
}

#[tokio::test]
async fn an_idle_database_lets_go_of_what_others_write() {
    let harness = Harness::fresh().await;
    let mut capture = caught_up(&harness).await;
    let before = capture.copies.position().unwrap();
    harness.sql("CREATE TABLE other (x text); INSERT INTO other SELECT repeat('x', 900) FROM generate_series(1, 100)").await;
    let here = harness.sql("SELECT pg_current_wal_lsn()").await[0][0].clone().unwrap();
    let here = here.parse().unwrap();
    while !capture.copies.position().unwrap().covers(here) {
        capture.step().await;
    }
    assert!(!before.covers(here));
    let until = capture.copies.position().unwrap();
    capture.source.confirm(&until).await.unwrap();
    let session = harness.session().await;
    let confirmed = format!("SELECT confirmed_flush_lsn >= '{until}' FROM pg_replication_slots");
    session.until(LONG, &confirmed, "t").await;
}

#[tokio::test]
async fn a_slow_reader_keeps_its_connection() {
    let harness = Harness::fresh().await;
    let mut capture = caught_up(&harness).await;
    harness.sql("INSERT INTO t SELECT i, repeat('y', 1000) FROM generate_series(2, 60000) i").await;
    let session = harness.session().await;
    // Far more than the queue and the sockets hold, and nobody takes it.
    let query = "SELECT pid FROM pg_stat_replication WHERE reply_time > now() - interval '1 s'";
    let pid = session.sql("SELECT pid FROM pg_stat_replication").await[0][0].clone().unwrap();
    let stuck = "SELECT coalesce(max(wait_event), '') FROM pg_stat_activity WHERE backend_type = 'walsender'";
    session.until(LONG, stuck, "WalSenderWriteData").await;
    session.until(LONG, query, &pid).await;
    capture.catch_up().await;
    capture.assert_same("t").await;
    let database = harness.database();
    assert!(database.address().starts_with("postgres://127.0.0.1:"));
}

#[tokio::test]
async fn a_half_told_transaction_ends_though_nothing_of_it_is_published_any_more() {
    let harness = Harness::fresh().await;
    harness
        .sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY, v text)")
        .await;
    let mut capture = Capture::begin(&harness, &["t", "u"], 2 << 10).await;
    capture.catch_up().await;
    harness
        .sql("BEGIN; INSERT INTO t VALUES (1); INSERT INTO u SELECT i, repeat('u', 100) FROM generate_series(1, 200) i; COMMIT")
        .await;
    while !capture.copies.is_open() {
        capture.step().await;
    }
    capture.spec.entities.pop();
    let n = capture.batches.len();
    capture = capture.restart_after(n).await;
    while capture.copies.is_open() {
        capture.step().await;
    }
    let last: Vec<_> = capture.batches[n..].iter().flat_map(|b| &b.events).map(|e| e.op).collect();
    assert!(last.contains(&rowcast_core::Op::End), "{last:?}");
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_slot_of_another_database_is_left_alone() {
    let harness = Harness::fresh().await;
    let capture = caught_up(&harness).await;
    drop(capture);
    let session = harness.session().await;
    session.until(LONG, "SELECT count(*) FROM pg_replication_slots WHERE active", "0").await;
    let url = harness.server.create_database("other").await;
    harness.server.sql("other", TABLE).await;
    let other = rowcast_postgres::PostgresDatabase::from_url(&url).unwrap();
    for start in [Start::Beginning, Start::Afresh] {
        let mut source = rowcast_core::Database::source(&other, spec(&harness, &["t"], LARGE));
        let error = source.start(start).await.unwrap_err();
        assert!(matches!(error, SourceError::Setup { .. }), "{error:?}");
    }
    let left = harness.sql("SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(left[0][0].as_deref(), Some("1"));
}
