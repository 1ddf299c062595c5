//! Masks where PostgreSQL says more, or less, than a row: big values, whole old rows, generated
//! columns, keys of many types.

use crate::support::Harness;
use rowcast_core::{Kind, Mask, MaskKey, Masks, Op, SourceSpec, Start, Value};
use rowcast_testkit::source_suite::{Capture, SourceHarness, spec};

const SMALL: u64 = 2 << 10;

fn masks(fields: &[(&str, Mask)]) -> Masks {
    let key = MaskKey::new(b"a key that nobody guesses").expect("a long key");
    let fields = fields.iter().map(|(name, mask)| ((*name).to_string(), *mask)).collect();
    Masks::new(fields, Some(key)).expect("masks with a key")
}

fn masked(harness: &Harness, table: &str, fields: &[(&str, Mask)]) -> SourceSpec {
    let mut spec = spec(harness, &[table], SMALL);
    spec.entities[0].masks = masks(fields);
    spec
}

async fn begin(harness: &Harness, spec: SourceSpec) -> Capture<'_> {
    Capture::start(harness, spec, Start::Beginning).await.expect("a source starts")
}

fn hash(text: &str) -> String {
    let masker = masks(&[("f", Mask::Sha256)]).masker("f", Kind::Text).expect("a mask");
    let mut scratch = Vec::new();
    match masker.apply(Value::Text(text.as_bytes()), &mut scratch) {
        Value::Text(hash) => String::from_utf8(hash.to_vec()).expect("hex digits"),
        other => panic!("{other:?}"),
    }
}

fn tells(capture: &Capture<'_>, word: &str) -> bool {
    let holds = |bytes: &[u8]| bytes.windows(word.len()).any(|w| w == word.as_bytes());
    capture.batches.iter().any(|b| {
        let schemas = format!("{:?}", b.schemas);
        let cursors = b.snapshots.iter().any(|s| holds(&s.cursor));
        holds(&b.rows) || cursors || holds(schemas.as_bytes())
    })
}

#[tokio::test]
async fn a_big_masked_value_is_masked_when_it_is_looked_up_and_when_the_old_row_tells_it() {
    for identity in ["DEFAULT", "FULL"] {
        let harness = Harness::fresh().await;
        harness
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, n int, big text); \
                 ALTER TABLE t ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY {identity}; \
                 INSERT INTO t SELECT i, 0, repeat('geheim', 500) FROM generate_series(1, 200) i"
            ))
            .await;
        let mut capture = begin(&harness, masked(&harness, "t", &[("big", Mask::Sha256)])).await;
        // The first change of its row, before the row's copy: the value has to be looked up.
        harness.sql("UPDATE t SET n = 1 WHERE id IN (1, 100, 200)").await;
        harness.sql("UPDATE t SET id = id + 1000 WHERE id IN (2, 150)").await;
        capture.catch_up().await;
        // After the copy it is told as unchanged, or with the old row.
        harness.sql("UPDATE t SET n = 2 WHERE id IN (1, 50, 1002)").await;
        harness.sql("DELETE FROM t WHERE id = 60").await;
        capture.catch_up().await;
        assert!(!tells(&capture, "geheim"), "{identity}");
        let copy = capture.copies.visible("t");
        assert_eq!(copy.len(), 199);
        let big = hash(&"geheim".repeat(500));
        assert!(copy.iter().all(|row| row[2].as_deref() == Some(&big)), "{identity}");
    }
}

#[tokio::test]
async fn a_generated_column_is_carried_unless_it_reads_a_masked_one() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, email text, \"E mail\" text, n int, \
             lower_email text GENERATED ALWAYS AS (lower(email)) STORED, \
             quoted text GENERATED ALWAYS AS (\"E mail\" || 'x') STORED, \
             twice int GENERATED ALWAYS AS (n * 2) STORED)",
        )
        .await;
    let fields = [("email", Mask::Sha256), ("E mail", Mask::Redact), ("quoted", Mask::Sha256)];
    let spec = masked(&harness, "t", &fields);
    let schemas = harness.database().offer(&spec).await.unwrap().schemas;
    let generated: Vec<_> = schemas[0].1.generated.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(generated, ["twice"]);
    let findings = harness.database().check_source(&spec).await;
    let said = |part: &str| findings.iter().any(|f| f.message.contains(part));
    assert!(said("\"E mail\" by redact, \"email\" by sha256"), "{findings:#?}");
    assert!(said("lower_email is computed from masked columns"), "{findings:#?}");
    assert!(!said("twice"), "{findings:#?}");
}

#[tokio::test]
async fn a_masked_key_of_any_type_goes_on_at_its_chunk_after_a_restart() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE DOMAIN code AS varchar(20); \
             CREATE TABLE t (a numeric(12,2), b code, c date, v text, PRIMARY KEY (c, a, b)); \
             INSERT INTO t SELECT i + 0.5, 'geheim' || i, '2026-01-01'::date + i % 7, 'v' \
             FROM generate_series(1, 500) i",
        )
        .await;
    let fields = [("a", Mask::Sha256), ("b", Mask::Sha256), ("c", Mask::Sha256)];
    let mut capture = begin(&harness, masked(&harness, "t", &fields)).await;
    let mut restarts = 0;
    while !capture.copies.is_complete("t") {
        capture.step().await;
        let n = capture.batches.len();
        harness.sql(&format!("UPDATE t SET v = 'new' WHERE b = 'geheim{}'", n * 5)).await;
        harness.sql(&format!("UPDATE t SET b = 'geheim neu {n}' WHERE b = 'geheim{n}'")).await;
        if n.is_multiple_of(4) {
            capture = capture.restart_after(n).await;
            restarts += 1;
        }
    }
    capture.catch_up().await;
    let reads = capture.batches.iter().flat_map(|b| &b.events).filter(|e| e.op == Op::Read);
    assert!(restarts > 2 && reads.count() < 600, "a restart reads on, not again");
    let rows = harness.rows("t", &["a", "b", "c", "v"]).await;
    let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
    let mut should: Vec<Vec<_>> = rows
        .iter()
        .map(|row| {
            let hashed = row[..3].iter().map(|cell| Some(hash(&text(cell))));
            hashed.chain([row[3].clone()]).collect()
        })
        .collect();
    let mut is = capture.copies.visible("t");
    is.sort();
    should.sort();
    assert_eq!(is, should);
    assert!(!tells(&capture, "geheim"));
}

#[tokio::test]
async fn a_field_that_comes_to_a_masked_entity_arrives_and_a_masked_default_is_masked() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, email text); \
             INSERT INTO t SELECT i, 'geheim' FROM generate_series(1, 9) i; \
             ALTER TABLE t ADD phone text DEFAULT 'geheim 2'",
        )
        .await;
    let fields = [("email", Mask::Sha256), ("phone", Mask::Partial)];
    let mut capture = begin(&harness, masked(&harness, "t", &fields)).await;
    capture.catch_up().await;
    harness.sql("ALTER TABLE t ADD city text DEFAULT 'here'").await;
    harness.sql("INSERT INTO t VALUES (10, NULL, 'geheim und lang genug', 'there')").await;
    capture.catch_up().await;
    assert!(!tells(&capture, "geheim"));
    let copy = capture.copies.visible("t");
    let row = |id: &str| copy.iter().find(|r| r[0].as_deref() == Some(id)).unwrap().clone();
    let text = |t: &str| Some(t.to_string());
    assert_eq!(row("1")[1..], [Some(hash("geheim")), text("g*** 2"), text("here")]);
    assert_eq!(row("10")[1..], [None, text("ge***enug"), text("there")]);
}
