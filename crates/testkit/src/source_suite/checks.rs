//! The checks themselves.

use super::{
    Capture, Duration, Op, Rng, SeedableRng, SourceError, SourceHarness, Start, StdRng, Told, spec,
    told,
};

const CUSTOMER: &str =
    "CREATE TABLE customer (id INTEGER NOT NULL PRIMARY KEY, name TEXT, credit INTEGER)";
const PAIR: &str = "CREATE TABLE pair (a INTEGER NOT NULL, b TEXT NOT NULL, note TEXT, \
                    PRIMARY KEY (a, b))";

const SMALL: u64 = 2 << 10;
const LARGE: u64 = 4 << 20;

async fn run<S: Into<String>>(
    harness: &dyn SourceHarness,
    statements: impl IntoIterator<Item = S>,
) {
    let statements: Vec<_> = statements.into_iter().map(Into::into).collect();
    harness.transaction(&statements).await;
}

fn inserts(ids: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    ids.map(|id| format!("INSERT INTO customer VALUES ({id}, 'name {id}', {})", id * 10))
}

/// After `Complete`, the log alone builds an identical copy.
pub async fn a_snapshot_and_what_follows_build_the_same_rows(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    run(harness, inserts(0..500)).await;
    let mut capture = Capture::begin(harness, &["customer"], LARGE).await;
    capture.catch_up().await;
    capture.assert_same("customer").await;
    let reads = capture.batches.iter().flat_map(|b| &b.events).filter(|e| e.op == Op::Read).count();
    assert_eq!(reads, 500, "a quiet table is read once");
    run(harness, ["UPDATE customer SET name = 'else', credit = NULL WHERE id < 10"]).await;
    run(harness, ["DELETE FROM customer WHERE id BETWEEN 20 AND 29"]).await;
    run(harness, inserts(20..25)).await;
    run(harness, inserts(500..510)).await;
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

/// A table without rows is complete at once.
pub async fn an_empty_table_completes(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], LARGE).await;
    capture.catch_up().await;
    assert!(capture.copies.visible("customer").is_empty());
    run(harness, inserts(0..1)).await;
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

/// The first event is the schema; it tells the key.
pub async fn an_entity_begins_with_its_schema(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER, PAIR]).await;
    run(harness, ["INSERT INTO pair VALUES (1, 'x', 'y')"]).await;
    run(harness, inserts(0..1)).await;
    let mut capture = Capture::begin(harness, &["customer", "pair"], LARGE).await;
    capture.catch_up().await;
    let names = |entity: &str| {
        let schema = capture.copies.newest_schema(entity).expect("it was told");
        let key: Vec<_> = schema.key().iter().map(|k| schema.columns[*k].name.clone()).collect();
        (schema.columns.len(), key)
    };
    assert_eq!(names("customer"), (3, vec!["id".to_string()]));
    assert_eq!(names("pair"), (3, vec!["a".to_string(), "b".to_string()]));
    let complete = |b: &super::Batch| b.events.iter().filter(|e| e.op == Op::Complete).count();
    assert_eq!(capture.batches.iter().map(complete).sum::<usize>(), 2);
}

/// A key change is an update whose `before` holds the old key.
pub async fn a_key_change_names_the_old_key(harness: &dyn SourceHarness) {
    run(harness, [PAIR]).await;
    run(harness, ["INSERT INTO pair VALUES (1, 'x', 'note'), (2, 'x', 'other')"]).await;
    let mut capture = Capture::begin(harness, &["pair"], LARGE).await;
    capture.catch_up().await;
    let before = capture.batches.len();
    run(harness, ["UPDATE pair SET b = 'z' WHERE a = 1"]).await;
    capture.catch_up().await;
    let said: Vec<Told> = capture.batches[before..].iter().flat_map(told).collect();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].op, Op::Update);
    assert_eq!(said[0].before[..2], [Some("1".to_string()), Some("x".to_string())]);
    assert_eq!(said[0].after[..2], [Some("1".to_string()), Some("z".to_string())]);
    capture.assert_same("pair").await;
}

/// After a restart after any batch, every later change comes again, in the same order, and none
/// from before.
pub async fn a_restart_after_any_batch_repeats_what_followed(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], SMALL).await;
    capture.catch_up().await;
    let quiet = capture.batches.len();
    run(harness, inserts(0..5)).await;
    capture.catch_up().await;
    run(harness, inserts(5..300)).await;
    capture.catch_up().await;
    run(harness, ["UPDATE customer SET id = id + 1000 WHERE id < 50"]).await;
    run(harness, ["DELETE FROM customer WHERE id < 100"]).await;
    capture.catch_up().await;
    let all: Vec<Vec<Told>> = capture.batches.iter().map(told).collect();
    assert!(all.len() > quiet + 4, "a small budget gives many batches");
    for n in (quiet..all.len()).rev() {
        let should: Vec<Told> = all[n..].concat();
        capture = capture.restart_after(n).await;
        capture.catch_up().await;
        let is: Vec<Told> = capture.batches[n..].iter().flat_map(told).collect();
        assert_eq!(is, should, "what follows batch {n} of {}", all.len());
        capture.assert_same("customer").await;
    }
}

/// A snapshot that was cut short goes on, whatever changed meanwhile.
pub async fn a_restart_inside_a_snapshot_goes_on(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    run(harness, inserts(0..400)).await;
    let mut capture = Capture::begin(harness, &["customer"], SMALL).await;
    let mut restarts = 0;
    while !capture.copies.is_complete("customer") {
        capture.step().await;
        let n = capture.batches.len();
        run(harness, [format!("DELETE FROM customer WHERE id = {}", n * 7)]).await;
        run(harness, [format!("UPDATE customer SET name = 'u' WHERE id = {}", 400 - n * 3)]).await;
        if n.is_multiple_of(2) {
            capture = capture.restart_after(n).await;
            restarts += 1;
        }
    }
    assert!(restarts > 1, "a small budget gives many chunks");
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

/// Random transactions while a snapshot runs, with restarts after random batches.
pub async fn random_changes_during_a_snapshot_end_in_the_same_rows(harness: &dyn SourceHarness) {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        run(harness, [CUSTOMER, PAIR]).await;
        run(harness, inserts(0..200)).await;
        let mut capture = Capture::begin(harness, &["customer", "pair"], SMALL).await;
        for _ in 0..60 {
            run(harness, random_transaction(&mut random)).await;
            if random.random_bool(0.5) {
                capture.step_within(Duration::from_millis(20)).await;
            }
            if random.random_bool(0.1) && !capture.batches.is_empty() {
                let n = random.random_range(1..=capture.batches.len());
                capture = capture.restart_after(n).await;
            }
        }
        capture.catch_up().await;
        capture.assert_same("customer").await;
        capture.assert_same("pair").await;
        drop(capture);
        run(harness, ["DROP TABLE customer", "DROP TABLE pair"]).await;
    }
}

fn random_transaction(random: &mut StdRng) -> Vec<String> {
    let statements = random.random_range(1..6);
    (0..statements).map(|_| random_statement(random)).collect()
}

fn random_statement(random: &mut StdRng) -> String {
    let (id, other) = (random.random_range(0..260), random.random_range(0..260));
    let upsert = "ON CONFLICT (id) DO UPDATE SET name = excluded.name, credit = excluded.credit";
    match random.random_range(0..9) {
        0 | 1 => format!("INSERT INTO customer VALUES ({id}, 'n{other}', {other}) {upsert}"),
        2 => format!("DELETE FROM customer WHERE id = {id}"),
        3 => format!("UPDATE customer SET name = NULL WHERE id BETWEEN {id} AND {}", id + 5),
        4 => format!(
            "UPDATE customer SET id = {other} WHERE id = {id} \
             AND NOT EXISTS (SELECT 1 FROM customer c WHERE c.id = {other})"
        ),
        5 | 6 => format!(
            "INSERT INTO pair VALUES ({}, 'b{}', 'x{id}') \
             ON CONFLICT (a, b) DO UPDATE SET note = excluded.note",
            id % 7,
            other % 5
        ),
        7 => format!("DELETE FROM pair WHERE a = {}", id % 7),
        _ => format!("UPDATE pair SET a = a + {} WHERE b = 'b{}'", 100 + id, other % 5),
    }
}

/// A transaction larger than the budget comes in several batches, and shows only when it is whole.
pub async fn a_transaction_larger_than_a_batch_is_seen_at_once(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], SMALL).await;
    capture.catch_up().await;
    let before = capture.batches.len();
    run(harness, inserts(0..1000)).await;
    while capture.copies.visible("customer").is_empty() {
        capture.step().await;
    }
    assert_eq!(capture.copies.visible("customer").len(), 1000, "all or nothing");
    let parts = &capture.batches[before..];
    let parts: Vec<_> = parts.iter().filter(|b| !b.events.is_empty()).collect();
    assert!(parts.len() > 5, "many batches");
    let largest = parts.iter().map(|b| b.rows.len()).max().unwrap_or_default();
    assert!(largest < 2 * SMALL as usize + 512, "batches keep to their budget: {largest}");
}

/// Rows of two tables of one transaction show together.
pub async fn tables_of_one_transaction_are_seen_together(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER, PAIR]).await;
    let mut capture = Capture::begin(harness, &["customer", "pair"], SMALL).await;
    capture.catch_up().await;
    for i in 0..50 {
        let pair = format!("INSERT INTO pair VALUES ({i}, 'b', 'n')");
        run(harness, inserts(i..i + 1).chain([pair])).await;
    }
    while capture.copies.visible("pair").len() < 50 {
        capture.step().await;
        let seen = (capture.copies.visible("customer").len(), capture.copies.visible("pair").len());
        assert_eq!(seen.0, seen.1, "half of a transaction shows");
    }
}

/// A mark covers what was committed before it, and is reached though nobody writes any more.
pub async fn a_mark_is_reached_without_further_writes(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], LARGE).await;
    capture.catch_up().await;
    for i in 0..5 {
        run(harness, inserts(i..i + 1)).await;
        capture.catch_up().await;
        assert_eq!(capture.copies.visible("customer").len(), i as usize + 1);
    }
    // Also when the last writes concern nobody.
    run(harness, ["CREATE TABLE private (x INTEGER)", "INSERT INTO private VALUES (1)"]).await;
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

/// Dropping a waiting `next` loses nothing.
pub async fn next_may_be_cancelled(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], SMALL).await;
    for i in 0..40 {
        run(harness, inserts(i * 10..i * 10 + 10)).await;
        let wait = Duration::from_micros(u64::from(i) * 100);
        capture.step_within(wait).await;
    }
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

/// Giving up the old history: the first batch is fresh and truncates, then the rows come anew.
pub async fn a_new_history_is_told_as_such(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    run(harness, inserts(0..50)).await;
    let mut capture = Capture::begin(harness, &["customer"], LARGE).await;
    capture.catch_up().await;
    let old = capture.copies.position().expect("something was said");
    run(harness, ["DELETE FROM customer WHERE id < 10"]).await;
    let mut capture = capture.stop().start(Start::Afresh).await;
    let first = capture.step().await;
    assert!(first.fresh && first.events.iter().any(|e| e.op == Op::Truncate));
    assert_ne!(first.epoch(), old.epoch);
    capture.catch_up().await;
    capture.assert_same("customer").await;
    // And from here on it resumes as any other.
    let n = capture.batches.len();
    capture = capture.restart_after(n).await;
    run(harness, inserts(0..5)).await;
    capture.catch_up().await;
    capture.assert_same("customer").await;
}

/// A position of another epoch is refused.
pub async fn another_history_is_refused(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], LARGE).await;
    capture.catch_up().await;
    let mut resume = capture.copies.resume();
    resume.position.epoch.identity ^= 1;
    let again = super::within("an answer", capture.source.start(Start::After(resume))).await;
    assert!(matches!(again, Err(SourceError::Epoch { .. })), "{again:?}");
}

/// Two captures of one database would confirm each other's changes away.
pub async fn a_second_capture_is_refused(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], LARGE).await;
    capture.catch_up().await;
    let start = Start::After(capture.copies.resume());
    let second = Capture::try_start(harness, capture.spec.clone(), start).await;
    assert!(matches!(second.err(), Some(SourceError::Busy { .. })));
    run(harness, inserts(0..1)).await;
    capture.catch_up().await;
}

/// A column that comes later arrives with the values of old and new rows.
pub async fn an_added_column_arrives_with_its_values(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    run(harness, inserts(0..5)).await;
    let mut capture = Capture::begin(harness, &["customer"], LARGE).await;
    capture.catch_up().await;
    run(harness, ["UPDATE customer SET name = 'before' WHERE id = 1"]).await;
    run(
        harness,
        [
            "ALTER TABLE customer ADD COLUMN city TEXT DEFAULT 'here'",
            "UPDATE customer SET city = 'there' WHERE id = 2",
        ],
    )
    .await;
    run(harness, ["INSERT INTO customer VALUES (9, 'n', 1, 'far')"]).await;
    run(harness, ["UPDATE customer SET name = 'after' WHERE id = 3"]).await;
    capture.catch_up().await;
    // The schema may come with the next change only.
    run(harness, ["UPDATE customer SET name = 'last' WHERE id = 4"]).await;
    capture.catch_up().await;
    assert_eq!(capture.copies.newest_schema("customer").map(|s| s.columns.len()), Some(4));
    capture.assert_same("customer").await;
}

/// A table that is not there is named.
pub async fn a_missing_table_is_named(harness: &dyn SourceHarness) {
    let spec = spec(harness, &["nowhere"], LARGE);
    let started = Capture::start(harness, spec, Start::Beginning).await;
    let Some(SourceError::Schema { entity, help, .. }) = started.err() else {
        panic!("a missing table is a schema error");
    };
    assert_eq!(entity.as_str(), "nowhere");
    assert!(!help.is_empty());
}

/// What was confirmed is let go; what was not comes again.
pub async fn what_was_confirmed_need_not_come_again(harness: &dyn SourceHarness) {
    run(harness, [CUSTOMER]).await;
    let mut capture = Capture::begin(harness, &["customer"], SMALL).await;
    for i in 0..20 {
        run(harness, inserts(i * 10..i * 10 + 10)).await;
        capture.catch_up().await;
        let until = capture.copies.position().expect("something was said");
        super::within("a confirmation", capture.source.confirm(&until))
            .await
            .expect("a source takes a confirmation");
    }
    let n = capture.batches.len();
    run(harness, inserts(200..210)).await;
    capture = capture.restart_after(n).await;
    capture.catch_up().await;
    capture.assert_same("customer").await;
}
