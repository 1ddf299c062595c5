//! What a slot keeps on the server's disk, and what happens when it is too much.

use crate::support::{Harness, NAME};
use rowcast_core::{Severity, SourceError, Start};
use rowcast_testkit::postgres::Server;
use rowcast_testkit::source_suite::{Capture, SourceHarness, Stopped, spec};

const MIB: u64 = 1 << 20;

async fn captured(harness: &Harness) -> Capture<'_> {
    harness.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let mut capture = Capture::begin(harness, &["t"], MIB).await;
    capture.catch_up().await;
    capture
}

/// Lets the server's log grow, in a file of it for each call.
async fn grow(harness: &Harness) {
    harness.sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1 << 20))").await;
    harness.sql("SELECT pg_switch_wal()").await;
}

async fn slots(harness: &Harness) -> usize {
    harness.sql("SELECT 1 FROM pg_replication_slots").await.len()
}

#[tokio::test]
async fn what_a_slot_keeps_is_told_and_let_go_of() {
    let harness = Harness::fresh().await;
    let service = "shop".parse().unwrap();
    let database = harness.database();
    assert_eq!(database.retained(&service).await.unwrap(), None);
    let stopped = captured(&harness).await.stop();
    let before = database.retained(&service).await.unwrap().unwrap();
    grow(&harness).await;
    let after = database.retained(&service).await.unwrap().unwrap();
    assert!(after.bytes >= before.bytes + MIB && after.behind >= before.behind + MIB, "{after:?}");
    assert!(after.bytes >= after.behind);
    let of = stopped.copies.position().map(|p| p.epoch);
    database.release(&service, of).await.unwrap();
    assert_eq!((slots(&harness).await, database.retained(&service).await.unwrap()), (0, None));
    // Doing it again changes nothing.
    database.release(&service, of).await.unwrap();
    let error = refused(&harness, &stopped).await;
    let SourceError::Released { what, help, .. } = error else { panic!("{error:?}") };
    assert!(what.contains("kept more than its `retain` limit"), "{what}");
    assert!(help.contains("rowcast run --resnapshot shop"), "{help}");
    let mut capture = stopped.start(Start::Afresh).await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}

/// Why the old history cannot go on.
async fn refused(harness: &Harness, old: &Stopped<'_>) -> SourceError {
    let after = Start::After(old.copies.resume());
    let started = Capture::start(harness, old.spec.clone(), after).await;
    started.err().expect("a history that has ended is refused")
}

#[tokio::test]
async fn a_release_that_is_cut_short_anywhere_is_known_until_the_log_has_a_new_history() {
    let harness = Harness::fresh().await;
    let (service, database) = ("shop".parse().unwrap(), harness.database());
    let stopped = captured(&harness).await.stop();
    let of = stopped.copies.position().map(|p| p.epoch);
    // Cut short before the slot was dropped: nothing is lost yet, so capture goes on, and what was
    // noted is taken back.
    let note = format!(
        "COMMENT ON PUBLICATION rowcast_shop IS 'rowcast: slot released; over its limit, the \
         history ended that was born at {}'",
        rowcast_core::Point::Lsn(of.unwrap().birth)
    );
    harness.sql(&note).await;
    let mut capture = stopped.go_on().await;
    harness.sql("INSERT INTO t VALUES (2)").await;
    capture.catch_up().await;
    capture.assert_same("t").await;
    let stopped = capture.stop();
    harness.drop_slots().await;
    let error = refused(&harness, &stopped).await;
    assert!(matches!(error, SourceError::Epoch { .. }), "dropped by hand: {error:?}");
    // Cut short after the drop, after the new slot, and after some of the new history.
    database.release(&service, of).await.unwrap();
    for batches in [0, 1, 2] {
        let begun = Capture::start(&harness, stopped.spec.clone(), Start::Afresh).await;
        let mut begun = begun.unwrap();
        for _ in 0..batches {
            begun.step().await;
        }
        drop(begun);
        let error = refused(&harness, &stopped).await;
        assert!(matches!(error, SourceError::Released { .. }), "{batches}: {error:?}");
    }
    let mut capture = stopped.start(Start::Afresh).await;
    capture.catch_up().await;
    let n = capture.batches.len();
    let mut capture = capture.restart_after(n).await;
    capture.catch_up().await;
    capture.assert_same("t").await;
    // What is lost from here on is no release of ours.
    let stopped = capture.stop();
    harness.drop_slots().await;
    let error = refused(&harness, &stopped).await;
    assert!(matches!(error, SourceError::Epoch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_question_survives_a_session_that_was_ended() {
    let harness = Harness::fresh().await;
    let capture = captured(&harness).await;
    let (service, database) = ("shop".parse().unwrap(), harness.database());
    assert!(database.retained(&service).await.unwrap().is_some());
    harness
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND query LIKE '%pg_replication_slots%'",
        )
        .await;
    // The first one may find it broken; the next one makes another.
    let _ = database.retained(&service).await;
    assert!(database.retained(&service).await.unwrap().is_some());
    drop(capture);
}

#[tokio::test]
async fn a_slot_that_is_read_from_is_not_dropped() {
    let harness = Harness::fresh().await;
    let mut capture = captured(&harness).await;
    let released = harness.database().release(&"shop".parse().unwrap(), None).await;
    assert!(released.is_err());
    harness.sql("INSERT INTO t VALUES (2)").await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_slot_that_the_server_gave_up_is_told_in_plain_words() {
    let settings = [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB")];
    let harness = Harness::on(Server::start_with(&settings).await).await;
    let stopped = captured(&harness).await.stop();
    let lost = "SELECT 1 FROM pg_replication_slots WHERE wal_status = 'lost'";
    while harness.sql(lost).await.is_empty() {
        grow(&harness).await;
        harness.sql("CHECKPOINT").await;
    }
    assert_eq!(harness.database().retained(&"shop".parse().unwrap()).await.unwrap(), None);
    let findings = harness.database().check_source(&stopped.spec).await;
    let found = findings.iter().find(|f| f.subject == "rowcast_shop").unwrap();
    assert_eq!(found.severity, Severity::Error);
    assert!(found.help.contains("--resnapshot shop"), "{found:?}");
    let after = Start::After(stopped.copies.resume());
    let again = Capture::start(&harness, stopped.spec.clone(), after).await;
    let Some(SourceError::Epoch { what, .. }) = again.err() else {
        panic!("a lost slot is refused");
    };
    assert!(what.contains("gave up replication slot rowcast_shop"), "{what}");
    let mut capture = stopped.start(Start::Afresh).await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}

#[tokio::test]
async fn a_server_without_a_limit_is_warned_of() {
    let harness = Harness::on(Server::start_with(&[("max_slot_wal_keep_size", "-1")]).await).await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let findings = harness.database().check_source(&spec(&harness, &["t"], MIB)).await;
    let bad: Vec<_> = findings.iter().filter(|f| f.severity != Severity::Good).collect();
    assert_eq!(bad.len(), 1, "{bad:#?}");
    assert_eq!(
        (bad[0].subject.as_str(), bad[0].severity),
        ("max_slot_wal_keep_size", Severity::Warning)
    );
    let fix = bad[0].fix.clone().unwrap();
    assert!(!fix.safe);
    for statement in &fix.statements {
        harness.server.sql(NAME, statement).await;
    }
    let findings = harness.database().check_source(&spec(&harness, &["t"], MIB)).await;
    assert!(findings.iter().all(|f| f.severity == Severity::Good), "{findings:#?}");
}
