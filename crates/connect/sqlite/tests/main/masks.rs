//! Masks where SQLite says more than a row: computed columns, storage classes, files of before.

use crate::file::File;
use rowcast_core::{Database, Mask, MaskKey, Masks, Severity, SourceError, SourceSpec, Start};
use rowcast_testkit::source_suite::{Capture, SourceHarness, spec};

fn masked(file: &File, table: &str, fields: &[(&str, Mask)]) -> SourceSpec {
    let key = MaskKey::new(b"a key that nobody guesses").unwrap();
    let fields = fields.iter().map(|(name, mask)| ((*name).to_string(), *mask)).collect();
    let mut spec = spec(file, &[table], 1 << 20);
    spec.entities[0].masks = Masks::new(fields, Some(key)).unwrap();
    spec
}

fn run(file: &File, sql: &str) {
    file.connect().execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
}

async fn begin(file: &File, spec: SourceSpec) -> Capture<'_> {
    Capture::start(file, spec, Start::Beginning).await.unwrap()
}

#[tokio::test]
async fn a_computed_column_stays_unless_it_is_masked_itself() {
    let file = File::new();
    run(
        &file,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, email TEXT, \
         low TEXT GENERATED ALWAYS AS (lower(email)) STORED, \
         length INTEGER GENERATED ALWAYS AS (length(email)) VIRTUAL); \
         INSERT INTO t (id, email) VALUES (1, 'Geheim'), (2, 'Geheim und lang')",
    );
    let mut spec = masked(&file, "t", &[("email", Mask::Redact), ("low", Mask::Partial)]);
    let mut capture = begin(&file, spec.clone()).await;
    capture.catch_up().await;
    run(&file, "UPDATE t SET email = 'Geheim und laenger' WHERE id = 1");
    capture.catch_up().await;
    let mut copy = capture.copies.visible("t");
    copy.sort();
    let row = |cells: [&str; 3]| cells.map(|c| Some(c.to_string())).to_vec();
    assert_eq!(copy, [row(["1", "***", "ge***nger"]), row(["2", "***", "g***ng"])]);
    let findings = Database::check_source(&file.database(), &spec).await;
    let warned: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Warning).collect();
    assert_eq!(warned.len(), 1, "{findings:#?}");
    assert!(warned[0].message.contains("\"length\" is computed"), "{warned:#?}");
    drop(capture);
    // Asking for it by name is no way around.
    spec.entities[0].fields = Some(["id", "email", "low", "length"].map(String::from).into());
    let harness: &dyn SourceHarness = &file;
    let refused = Capture::start(harness, spec, Start::Afresh).await.err();
    let Some(SourceError::Schema { what, .. }) = refused else { panic!("{refused:?}") };
    assert!(what.contains("\"length\" is computed"), "{what}");
}

#[tokio::test]
async fn values_of_every_storage_class_are_masked_and_stay_apart() {
    let file = File::new();
    run(&file, "CREATE TABLE t (k PRIMARY KEY, v) WITHOUT ROWID");
    let mut capture = begin(&file, masked(&file, "t", &[("k", Mask::Sha256)])).await;
    capture.catch_up().await;
    run(&file, "INSERT INTO t VALUES (7, 'a'), ('7', 'b'), (x'37', 'c'), (7.5, 'd'), ('7.5', 'e')");
    capture.catch_up().await;
    assert_eq!(capture.copies.visible("t").len(), 5);
    run(
        &file,
        "UPDATE t SET v = 'z' WHERE k = '7'; DELETE FROM t WHERE k = x'37'; \
                UPDATE t SET k = 8 WHERE k = 7",
    );
    capture.catch_up().await;
    let mut values: Vec<_> =
        capture.copies.visible("t").into_iter().map(|r| r[1].clone().unwrap()).collect();
    values.sort();
    assert_eq!(values, ["a", "d", "e", "z"]);
}

#[tokio::test]
async fn a_file_that_was_captured_before_there_were_masks_goes_on() {
    let file = File::new();
    run(&file, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a')");
    let mut capture = begin(&file, spec(&file, &["t"], 1 << 20)).await;
    capture.catch_up().await;
    let stopped = capture.stop();
    run(&file, "ALTER TABLE _rowcast_captures DROP COLUMN masks");
    run(&file, "INSERT INTO t VALUES (2, 'b')");
    let n = stopped.batches.len();
    let mut capture = stopped.go_on().await;
    capture.catch_up().await;
    capture.assert_same("t").await;
    let events: usize = capture.batches[n..].iter().map(|b| b.events.len()).sum();
    assert!(events <= 2, "it goes on, it does not begin again");
}
