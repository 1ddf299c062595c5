//! Files that are replaced, restored, migrated or captured twice.

use crate::file::File;
use rowcast_core::{Op, Resume, SourceError, Start};
use rowcast_testkit::source_suite::{Capture, spec};
use rowcast_testkit::wait::LONG;
use std::time::Duration;

const CUSTOMER: &str = "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, email TEXT); \
                        INSERT INTO customer VALUES (1, 'a', 'a@'), (2, 'b', 'b@'), (3, 'c', 'c@');";

fn run(file: &File, sql: &str) {
    file.connect().execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
}

async fn captured(file: &File) -> Capture<'_> {
    run(file, CUSTOMER);
    let mut capture = Capture::begin(file, &["customer"], 1 << 20).await;
    capture.catch_up().await;
    capture
}

async fn refused(file: &File, resume: Resume) -> String {
    let spec = spec(file, &["customer"], 1 << 20);
    match Capture::start(file, spec, Start::After(resume)).await.err() {
        Some(error @ SourceError::Epoch { .. }) => {
            let help = rowcast_core::Diagnose::help(&error).to_string();
            assert!(help.contains("rowcast run --resnapshot shop"), "{help}");
            error.to_string()
        }
        other => panic!("another history is refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_replaced_file_is_another_history() {
    let file = File::new();
    let capture = captured(&file).await;
    let resume = capture.copies.resume();
    drop(capture);
    std::fs::remove_file(file.path()).unwrap();
    run(&file, CUSTOMER);
    assert!(refused(&file, resume).await.contains("no record of this capture"));
}

#[tokio::test]
async fn a_file_restored_from_a_backup_is_another_history() {
    let file = File::new();
    let mut capture = captured(&file).await;
    let backup = file.path().with_extension("backup");
    run(&file, &format!("VACUUM INTO '{}'", backup.display().to_string().replace('\'', "''")));
    run(&file, "UPDATE customer SET name = 'later'");
    capture.catch_up().await;
    let resume = capture.copies.resume();
    drop(capture);
    std::fs::rename(backup, file.path()).unwrap();
    assert!(refused(&file, resume).await.contains("restored from a backup"));
}

#[tokio::test]
async fn a_log_behind_what_was_taken_out_is_an_old_copy() {
    let file = File::new();
    let mut capture = captured(&file).await;
    let old = capture.copies.resume();
    run(&file, "UPDATE customer SET name = 'later'");
    capture.catch_up().await;
    let position = capture.copies.position().unwrap();
    capture.source.confirm(&position).await.unwrap();
    // Only a source that is waiting rests, and only then it takes out what is confirmed.
    let left = || file.select("SELECT count(*) FROM _rowcast_changes")[0][0].clone();
    let deadline = std::time::Instant::now() + LONG;
    while left().as_deref() != Some("0") {
        assert!(std::time::Instant::now() < deadline, "what is confirmed is taken out");
        capture.step_within(Duration::from_millis(50)).await;
    }
    let resume = capture.copies.resume();
    drop(capture);
    assert!(refused(&file, old).await.contains("old copy"));
    let spec = spec(&file, &["customer"], 1 << 20);
    Capture::start(&file, spec, Start::After(resume)).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_file_that_is_moved_away_under_a_capture_is_noticed() {
    let file = File::new();
    let mut capture = captured(&file).await;
    std::fs::rename(file.path(), file.path().with_extension("old")).unwrap();
    run(&file, CUSTOMER);
    let ended = loop {
        if let Err(error) = capture.source.next().await {
            break error;
        }
    };
    assert!(matches!(ended, SourceError::Unreachable { .. }), "{ended:?}");
    let resume = capture.copies.resume();
    let again = capture.source.start(Start::After(resume)).await;
    assert!(matches!(again, Err(SourceError::Epoch { .. })), "{again:?}");
}

#[tokio::test]
async fn a_missing_file_is_a_matter_of_setup() {
    let file = File::new();
    std::fs::remove_file(file.path()).unwrap();
    let spec = spec(&file, &["customer"], 1 << 20);
    let started = Capture::start(&file, spec, Start::Beginning).await.err();
    assert!(matches!(started, Some(SourceError::Setup { .. })), "{started:?}");
    assert!(!file.path().exists());
}

#[tokio::test]
async fn a_table_that_is_rebuilt_is_read_again() {
    let file = File::new();
    let mut capture = captured(&file).await;
    run(
        &file,
        "BEGIN; CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT, \
         age REAL DEFAULT 1); INSERT INTO new (id, name, email) SELECT * FROM customer; \
         DROP TABLE customer; ALTER TABLE new RENAME TO customer; COMMIT; \
         DELETE FROM customer WHERE id = 2; INSERT INTO customer VALUES (7, 'n', 'n@', 7);",
    );
    capture.catch_up().await;
    capture.assert_same("customer").await;
    run(&file, "UPDATE customer SET age = 5.5 WHERE id = 7");
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

#[tokio::test]
async fn a_table_that_is_rebuilt_while_nobody_captures_is_read_again() {
    let file = File::new();
    let capture = captured(&file).await;
    let stopped = capture.stop();
    run(
        &file,
        "CREATE TABLE new AS SELECT * FROM customer; DROP TABLE customer; CREATE TABLE customer \
         (id INTEGER PRIMARY KEY, name TEXT, email TEXT); \
         INSERT INTO customer SELECT * FROM new WHERE id > 1; DROP TABLE new",
    );
    let mut capture = stopped.go_on().await;
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

#[tokio::test]
async fn a_dropped_table_and_a_dropped_column_are_named() {
    let file = File::new();
    let mut capture = captured(&file).await;
    // While the triggers stand, SQLite itself keeps the contract.
    let drop = file.connect().execute_batch("ALTER TABLE customer DROP COLUMN email").unwrap_err();
    assert!(drop.to_string().contains("_rowcast_"), "{drop}");
    // Whoever means it takes the triggers along; everybody gets the table anew.
    let triggers = file.select("SELECT name FROM sqlite_schema WHERE name GLOB '_rowcast_*_*'");
    let drops: Vec<_> = triggers.iter().filter_map(|t| t[0].clone()).collect();
    let drops: String = drops
        .iter()
        .filter(|t| t.ends_with("insert") || t.ends_with("update") || t.ends_with("delete"))
        .map(|t| format!("DROP TRIGGER {t}; "))
        .collect();
    run(&file, &format!("BEGIN; {drops} ALTER TABLE customer DROP COLUMN email; COMMIT"));
    run(&file, "UPDATE customer SET name = 'after' WHERE id = 3");
    capture.catch_up().await;
    assert_eq!(capture.copies.newest_schema("customer").unwrap().columns.len(), 2);
    capture.assert_same("customer").await;
    run(&file, "DROP TABLE customer");
    let ended = loop {
        if let Err(error) = capture.source.next().await {
            break error;
        }
    };
    let SourceError::Schema { entity, .. } = ended else { panic!("{ended:?}") };
    assert_eq!(entity.as_str(), "customer");
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() {
    for (table, says) in [
        ("CREATE TABLE customer (name TEXT)", "no primary key"),
        (
            "CREATE TABLE customer (id INTEGER PRIMARY KEY, m TEXT); \
             CREATE UNIQUE INDEX odd ON customer (lower(m))",
            "odd",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE VIEW customer AS SELECT * FROM t",
            "view",
        ),
    ] {
        let file = File::new();
        run(&file, table);
        let spec = spec(&file, &["customer"], 1 << 20);
        let findings = rowcast_core::Database::check_source(&file.database(), &spec).await;
        assert!(findings.iter().any(|f| f.message.contains(says) && !f.help.is_empty()));
        let started = Capture::start(&file, spec, Start::Beginning).await.err();
        let Some(SourceError::Schema { what, .. }) = started else { panic!("{started:?}") };
        assert!(what.contains(says), "{what}");
    }
}

#[tokio::test]
async fn an_entity_published_again_is_read_again() {
    let file = File::new();
    let capture = captured(&file).await;
    let resume = capture.copies.resume();
    let (mut copies, all) = (capture.copies, capture.spec.clone());
    drop(capture.source);
    let mut none = all.clone();
    none.entities.clear();
    let idle = Capture::start(&file, none, Start::After(resume)).await.unwrap();
    drop(idle);
    run(&file, "DELETE FROM customer WHERE id = 1");
    let start = Start::After(copies.resume());
    let mut capture = Capture::start(&file, all, start).await.unwrap();
    while capture.copies.newest_schema("customer").is_none()
        || !capture.copies.is_complete("customer")
    {
        capture.step().await;
    }
    assert!(capture.batches.iter().flat_map(|b| &b.events).any(|e| e.op == Op::Truncate));
    capture.batches.iter().for_each(|b| copies.fold(b));
    capture.copies = copies;
    capture.assert_same("customer").await;
}
