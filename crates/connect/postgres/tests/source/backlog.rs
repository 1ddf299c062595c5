//! A deep backlog is asked for, not streamed, and nobody can tell by what arrives.

use crate::support::{Harness, NAME};
use rowcast_core::{Op, Point};
use rowcast_testkit::source_suite::{Capture, SourceHarness, Stopped};
use rowcast_testkit::wait::LONG;

const BATCH: u64 = 64 << 10;

/// More than one answer holds.
const MANY: u32 = 210_000;

/// Two tables and a capture that has seen all of them and confirmed it, stopped.
async fn stopped(harness: &Harness) -> Stopped<'_> {
    for sql in [
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (0, 'before')",
        "CREATE TABLE u (id int PRIMARY KEY, v text)",
    ] {
        harness.sql(sql).await;
    }
    let mut capture = Capture::begin(harness, &["t", "u"], BATCH).await;
    capture.catch_up().await;
    confirm(&mut capture).await;
    let stopped = capture.stop();
    let session = harness.session().await;
    session.until(LONG, "SELECT count(*) FROM pg_replication_slots WHERE active", "0").await;
    stopped
}

/// Makes the server's log longer without saying anything.
async fn deepen(harness: &Harness) {
    for _ in 0..4 {
        harness.sql("SELECT pg_logical_emit_message(false, 'other', 'x'), pg_switch_wal()").await;
    }
}

async fn backlog(harness: &Harness) {
    for sql in [
        &format!("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, {MANY}) i"),
        "BEGIN; UPDATE t SET v = 'new' WHERE id % 1000 = 0; INSERT INTO u VALUES (1, 'same'); COMMIT",
        &format!("INSERT INTO u SELECT i, 'u' || i FROM generate_series(2, {MANY}) i"),
        "UPDATE t SET id = -id WHERE id % 5000 = 0; DELETE FROM u WHERE id > 100",
        "ALTER TABLE u ADD COLUMN w int DEFAULT 7; INSERT INTO u VALUES (-1, 'wide', 8)",
    ] {
        harness.sql(sql).await;
    }
    deepen(harness).await;
}

async fn confirm(capture: &mut Capture<'_>) {
    if let Some(position) = capture.copies.position() {
        capture.source.confirm(&position).await.expect("a source takes a confirmation");
    }
}

/// Takes everything, and confirms it batch by batch.
async fn catch_up(harness: &Harness, capture: &mut Capture<'_>) {
    let mark =
        harness.database().mark(&capture.spec.service).await.expect("a database gives a mark");
    while !capture.has(mark) {
        capture.step().await;
        confirm(capture).await;
    }
}

async fn confirmed(harness: &Harness) -> Point {
    let slot = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE NOT temporary";
    harness.sql(slot).await[0][0].as_deref().and_then(|at| at.parse().ok()).expect("a place")
}

fn creates(capture: &Capture<'_>) -> usize {
    capture.batches.iter().flat_map(|b| &b.events).filter(|e| e.op == Op::Create).count()
}

/// What answers the server has kept on its disk for us: only what is asked for goes there.
async fn answers_kept(harness: &Harness) -> u64 {
    let files = "SELECT temp_files FROM pg_stat_database WHERE datname = current_database()";
    harness.sql(files).await[0][0].as_deref().and_then(|n| n.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_deep_backlog_is_asked_for_and_arrives_once() {
    let harness = Harness::fresh().await;
    let stopped = stopped(&harness).await;
    backlog(&harness).await;
    let before = answers_kept(&harness).await;
    let mut capture = stopped.go_on().await;
    catch_up(&harness, &mut capture).await;
    assert!(answers_kept(&harness).await > before, "it was streamed");
    capture.assert_same("t").await;
    capture.assert_same("u").await;
    assert_eq!(creates(&capture), 2 * MANY as usize + 1);
    // The stream goes on behind it.
    harness.sql("INSERT INTO t VALUES (-1, 'after')").await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_deep_backlog_is_let_go_of_only_when_it_was_confirmed() {
    let harness = Harness::fresh().await;
    let stopped = stopped(&harness).await;
    let at = confirmed(&harness).await;
    backlog(&harness).await;
    let mut capture = stopped.go_on().await;
    while creates(&capture) < MANY as usize {
        capture.step().await;
    }
    assert_eq!(confirmed(&harness).await, at);
    // Whatever was said and not confirmed comes again, wherever this one ended.
    let n = capture.batches.len() / 2;
    let mut capture = capture.restart_after(n).await;
    catch_up(&harness, &mut capture).await;
    capture.assert_same("t").await;
    capture.assert_same("u").await;
    assert_eq!(creates(&capture), 2 * MANY as usize + 1);
}

#[tokio::test]
async fn the_slot_follows_through_a_very_deep_backlog() {
    let harness = Harness::fresh().await;
    let stopped = stopped(&harness).await;
    let at = confirmed(&harness).await;
    let insert =
        |table| format!("INSERT INTO {table} SELECT i, 'v' FROM generate_series(1, {MANY}) i");
    harness.sql(&insert("t")).await;
    // Beyond what the slot may hold back.
    for _ in 0..9 {
        deepen(&harness).await;
    }
    harness.sql(&insert("u")).await;
    harness.sql("INSERT INTO t VALUES (-1, 'later')").await;
    deepen(&harness).await;
    let mut capture = stopped.go_on().await;
    catch_up(&harness, &mut capture).await;
    assert!(confirmed(&harness).await.value() > at.value());
    capture.assert_same("t").await;
    capture.assert_same("u").await;
    assert_eq!(creates(&capture), 2 * MANY as usize + 1);
    // A copy of the slot would hold on to the server's log.
    let copies = "SELECT count(*) FROM pg_replication_slots WHERE temporary";
    harness.session().await.until(LONG, copies, "0").await;
}

#[tokio::test]
async fn a_backlog_that_no_slot_is_left_for_is_streamed() {
    let harness = Harness::fresh().await;
    let stopped = stopped(&harness).await;
    backlog(&harness).await;
    let most: usize = harness.sql("SHOW max_replication_slots").await[0][0]
        .as_deref()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    for n in 1..most {
        let fill = format!("SELECT pg_create_physical_replication_slot('filler_{n}')");
        harness.sql(&fill).await;
    }
    let mut capture = stopped.go_on().await;
    catch_up(&harness, &mut capture).await;
    capture.assert_same("t").await;
    capture.assert_same("u").await;
    assert_eq!(creates(&capture), 2 * MANY as usize + 1);
}

#[tokio::test]
async fn a_backlog_that_the_server_does_not_answer_is_streamed() {
    let harness = Harness::fresh().await;
    let stopped = stopped(&harness).await;
    backlog(&harness).await;
    let alter = format!("ALTER DATABASE \"{}\"", NAME.replace('"', "\"\""));
    harness.server.sql("postgres", &format!("{alter} SET temp_file_limit = 0")).await;
    let mut capture = stopped.go_on().await;
    catch_up(&harness, &mut capture).await;
    harness.server.sql("postgres", &format!("{alter} RESET temp_file_limit")).await;
    capture.assert_same("t").await;
    capture.assert_same("u").await;
    assert_eq!(creates(&capture), 2 * MANY as usize + 1);
}

#[tokio::test]
async fn a_deep_backlog_of_others_is_passed_over() {
    let harness = Harness::fresh().await;
    let stopped = stopped(&harness).await;
    deepen(&harness).await;
    let mut capture = stopped.go_on().await;
    harness.sql("INSERT INTO t VALUES (1, 'ours')").await;
    catch_up(&harness, &mut capture).await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_deep_backlog_without_a_word_for_us_is_passed_over() {
    let harness = Harness::fresh().await;
    let stopped = stopped(&harness).await;
    // What another database writes: the answer has no row at all.
    for _ in 0..4 {
        let elsewhere = "SELECT pg_logical_emit_message(false, 'other', 'x'), pg_switch_wal()";
        harness.server.sql("postgres", elsewhere).await;
    }
    let session = harness.session().await;
    let mut capture = stopped.go_on().await;
    // Only the stream behind it may bring this.
    let ours = async {
        session.until(LONG, "SELECT count(*) FROM pg_stat_replication", "1").await;
        harness.sql("INSERT INTO t VALUES (1, 'ours')").await;
    };
    tokio::pin!(ours);
    loop {
        let step = async {
            capture.step().await;
            confirm(&mut capture).await;
        };
        tokio::select! {
            () = &mut ours => break,
            () = step => {}
        }
    }
    catch_up(&harness, &mut capture).await;
    capture.assert_same("t").await;
}
