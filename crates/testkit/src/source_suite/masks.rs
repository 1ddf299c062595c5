//! The checks of masks: nothing that a source hands on tells a masked value.

use super::{Capture, Rng, SeedableRng, SourceError, SourceHarness, Start, StdRng, spec};
use rowcast_core::{Batch, Kind, Mask, MaskKey, Masks, SourceSpec, Value};

/// Stands in every value that must not leave.
const CLEAR: &str = "geheim";
const PERSON: &str = "CREATE TABLE person (id INTEGER NOT NULL PRIMARY KEY, email TEXT NOT NULL, \
                      phone TEXT, note TEXT, iban TEXT, salary INTEGER)";
const LOGIN: &str = "CREATE TABLE login (realm INTEGER NOT NULL, email TEXT NOT NULL, hits INTEGER, \
                     PRIMARY KEY (realm, email))";
const SMALL: u64 = 2 << 10;

fn masks(fields: &[(&str, Mask)], key: &str) -> Masks {
    let key = MaskKey::new(key.as_bytes()).expect("a suite's own key is long enough");
    let fields = fields.iter().map(|(name, mask)| ((*name).to_string(), *mask)).collect();
    Masks::new(fields, Some(key)).expect("a suite's own masks fit")
}

const KEY: &str = "a key that nobody guesses";

fn person_masks() -> Masks {
    let fields = [
        ("email", Mask::Sha256),
        ("phone", Mask::Redact),
        ("note", Mask::Null),
        ("iban", Mask::Partial),
        ("salary", Mask::Sha256),
    ];
    masks(&fields, KEY)
}

fn masked_spec(harness: &dyn SourceHarness, table: &str, masks: Masks) -> SourceSpec {
    let mut spec = spec(harness, &[table], SMALL);
    spec.entities[0].masks = masks;
    spec
}

async fn begin<'a>(harness: &'a dyn SourceHarness, spec: SourceSpec) -> Capture<'a> {
    let started = Capture::start(harness, spec, Start::Beginning).await;
    started.unwrap_or_else(|e| panic!("a source starts: {e:?}"))
}

async fn run<S: Into<String>>(
    harness: &dyn SourceHarness,
    statements: impl IntoIterator<Item = S>,
) {
    let statements: Vec<_> = statements.into_iter().map(Into::into).collect();
    harness.transaction(&statements).await;
}

fn person(id: u32) -> String {
    format!(
        "INSERT INTO person VALUES ({id}, '{CLEAR}.{id}@example.org', '{CLEAR} {id}', \
         {note}, 'DE44{CLEAR}{id}0000', {})",
        71_000_000 + id,
        note = if id.is_multiple_of(5) { "NULL".into() } else { format!("'{CLEAR}'") },
    )
}

/// Whether anything of these batches, notes and schemas included, holds the word.
fn tells(batches: &[Batch], word: &str) -> bool {
    let holds = |bytes: &[u8]| bytes.windows(word.len()).any(|w| w == word.as_bytes());
    batches.iter().any(|b| {
        let cursors = b.snapshots.iter().any(|s| holds(&s.cursor));
        holds(&b.rows) || cursors || holds(format!("{:?}", b.schemas).as_bytes())
    })
}

/// Compares a copy with its table as it has to look masked.
async fn assert_masked(capture: &Capture<'_>, harness: &dyn SourceHarness, table: &str) {
    let schema = capture.copies.newest_schema(table).expect("a captured entity has a schema");
    let columns: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    let masks = &capture.spec.entities[0].masks;
    let mut should = harness.rows(table, &columns).await;
    for row in &mut should {
        for (cell, name) in row.iter_mut().zip(&columns) {
            let Some(masker) = masks.masker(name, Kind::Text) else { continue };
            let Some(clear) = cell.take() else { continue };
            let mut scratch = Vec::new();
            if let Value::Text(t) = masker.apply(Value::Text(clear.as_bytes()), &mut scratch) {
                *cell = Some(String::from_utf8_lossy(t).into_owned());
            }
        }
    }
    let mut is = capture.copies.visible(table);
    is.sort();
    should.sort();
    assert!(!should.is_empty(), "nothing to compare");
    assert_eq!(is, should, "the masked copy of {table}");
}

/// Snapshot rows, changes, keys and notes tell masked values only, and the copy holds them.
pub async fn a_masked_value_is_masked_wherever_it_stands(harness: &dyn SourceHarness) {
    run(harness, [PERSON]).await;
    run(harness, (0..200).map(person)).await;
    let mut capture = begin(harness, masked_spec(harness, "person", person_masks())).await;
    for round in 0..6_u32 {
        capture.step().await;
        let id = round * 30;
        run(harness, [format!("UPDATE person SET email = '{CLEAR}', salary = 1 WHERE id = {id}")])
            .await;
        run(harness, [format!("UPDATE person SET id = {} WHERE id = {}", 1000 + id, id + 1)]).await;
        run(harness, [format!("DELETE FROM person WHERE id = {}", id + 2)]).await;
        run(harness, [person(2000 + round)]).await;
        if round == 3 {
            let n = capture.batches.len();
            capture = capture.restart_after(n).await;
        }
    }
    capture.catch_up().await;
    assert_masked(&capture, harness, "person").await;
    assert!(!tells(&capture.batches, CLEAR), "a masked text leaves");
    assert!(!tells(&capture.batches, "7100"), "a masked number leaves");
    let schema = capture.copies.newest_schema("person").expect("it was told");
    let types: Vec<_> = schema.columns.iter().map(|c| c.kind).collect();
    let number = schema.columns[0].kind;
    assert_eq!(types, [number, Kind::Text, Kind::Text, Kind::Text, Kind::Text, Kind::Text]);
}

/// A masked key tells rows apart as the clear one does, through snapshots, changes and restarts.
pub async fn a_masked_key_keeps_rows_apart(harness: &dyn SourceHarness) {
    run(harness, [LOGIN]).await;
    let login = |n: u32| format!("INSERT INTO login VALUES ({}, '{CLEAR} {n}', 0)", n % 3);
    run(harness, (0..300).map(login)).await;
    let masks = masks(&[("email", Mask::Sha256)], KEY);
    let mut capture = begin(harness, masked_spec(harness, "login", masks)).await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..50 {
        let n = random.random_range(0..300);
        let change = match round % 5 {
            0 => format!("UPDATE login SET hits = hits + 1 WHERE email = '{CLEAR} {n}'"),
            1 => format!("DELETE FROM login WHERE email = '{CLEAR} {n}'"),
            2 => format!("UPDATE login SET email = email || '+' WHERE email = '{CLEAR} {n}'"),
            3 => login(1000 + round),
            _ => format!("UPDATE login SET realm = realm + 10 WHERE email = '{CLEAR} {n}'"),
        };
        run(harness, [change]).await;
        capture.step_within(std::time::Duration::from_millis(10)).await;
        if round % 10 == 9 && !capture.batches.is_empty() {
            let n = capture.batches.len();
            capture = capture.restart_after(n).await;
        }
    }
    capture.catch_up().await;
    assert_masked(&capture, harness, "login").await;
    assert!(!tells(&capture.batches, CLEAR), "a masked key leaves");
}

/// What is masked now and was not, or otherwise, is emptied and read again; nothing that was still to
/// be told leaves as it was.
pub async fn a_mask_that_changes_reads_the_entity_again(harness: &dyn SourceHarness) {
    run(harness, [PERSON]).await;
    run(harness, (0..50).map(person)).await;
    let mut capture = begin(harness, masked_spec(harness, "person", Masks::default())).await;
    capture.catch_up().await;
    capture.assert_same("person").await;
    let redact = [("email", Mask::Redact), ("phone", Mask::Redact), ("note", Mask::Redact)];
    let redact = [&redact[..], &[("iban", Mask::Redact), ("salary", Mask::Redact)]].concat();
    let changes =
        [person_masks(), masks(&redact, KEY), masks(&redact, "not needed by any of them")];
    for (n, masks) in (0u32..).zip(changes.into_iter().chain([Masks::default()])) {
        let mut stopped = capture.stop();
        // Not told yet when the mask changes.
        run(harness, [person(100 + n), format!("DELETE FROM person WHERE id = {n}")]).await;
        run(harness, [format!("UPDATE person SET phone = '{CLEAR}!' WHERE id = 40")]).await;
        let (before, masked) = (stopped.batches.len(), !masks.is_empty());
        stopped.spec.entities[0].masks = masks;
        capture = stopped.go_on().await;
        capture.catch_up().await;
        assert_masked(&capture, harness, "person").await;
        assert_eq!(tells(&capture.batches[before..], CLEAR), !masked, "change {n}");
        let reads = capture.batches[before..].iter().flat_map(|b| &b.events);
        let reads = reads.filter(|e| e.op == super::Op::Read).count();
        // A key that no mask uses changes nothing.
        assert_eq!(reads > 0, n != 2, "change {n}");
        // And from here on it goes on as any other.
        let n = capture.batches.len();
        capture = capture.restart_after(n).await;
        capture.catch_up().await;
        assert_eq!(capture.batches[n..].iter().map(|b| b.events.len()).sum::<usize>(), 0);
    }
}

/// Another key makes other hashes, so all of them come anew; the log holds no trace of either key.
pub async fn another_mask_key_reads_the_entity_again(harness: &dyn SourceHarness) {
    run(harness, [PERSON]).await;
    run(harness, (0..20).map(person)).await;
    let by = |key| masks(&[("email", Mask::Sha256)], key);
    let mut capture = begin(harness, masked_spec(harness, "person", by(KEY))).await;
    capture.catch_up().await;
    let mut stopped = capture.stop();
    let other = "another key that nobody guesses";
    stopped.spec.entities[0].masks = by(other);
    capture = stopped.go_on().await;
    capture.catch_up().await;
    assert_masked(&capture, harness, "person").await;
    assert!(!tells(&capture.batches, "nobody guesses"), "a key leaves");
}

/// A mask that names no field may be misspelt, and one that makes keys equal would lose rows.
pub async fn a_mask_that_cannot_be_is_refused(harness: &dyn SourceHarness) {
    run(harness, [PERSON]).await;
    for (field, mask) in
        [("emial", Mask::Sha256), ("id", Mask::Redact), ("id", Mask::Null), ("id", Mask::Partial)]
    {
        let spec = masked_spec(harness, "person", masks(&[(field, mask)], KEY));
        let started = Capture::start(harness, spec, Start::Beginning).await;
        let Some(SourceError::Schema { what, help, .. }) = started.err() else {
            panic!("a mask {mask} of {field} is refused");
        };
        assert!(what.contains(field) && !help.is_empty(), "{what}: {help}");
    }
}

/// A masked column that is renamed would leave under its new name: capture stops instead.
pub async fn a_masked_column_that_is_renamed_does_not_leave_in_clear(harness: &dyn SourceHarness) {
    run(harness, [PERSON]).await;
    run(harness, (0..5).map(person)).await;
    let mut capture = begin(harness, masked_spec(harness, "person", person_masks())).await;
    capture.catch_up().await;
    run(harness, ["ALTER TABLE person RENAME COLUMN email TO mail"]).await;
    run(harness, ["UPDATE person SET salary = 5 WHERE id = 1"]).await;
    let refused = async {
        loop {
            match capture.source.next().await {
                Ok(batch) => capture.batches.push(batch),
                Err(error) => return error,
            }
        }
    };
    let error = super::within("a refusal", refused).await;
    let SourceError::Schema { what, .. } = error else { panic!("{error:?}") };
    assert!(what.contains("email"), "{what}");
    assert!(!tells(&capture.batches, CLEAR), "a renamed column leaves");
}
