use super::*;
use rowcast_core::{Column, Kind};

fn schema(names: &[&str]) -> Arc<Schema> {
    let column = |(i, name): (usize, &&str)| Column {
        name: (*name).into(),
        native: "text".into(),
        kind: Kind::Text,
        key: (i == 0).then_some(0),
        not_null: false,
        fill: None,
    };
    let columns = names.iter().enumerate().map(column).collect();
    let (entity, dialect) = ("doc".parse().unwrap(), "test".into());
    Arc::new(Schema { entity, dialect, columns, generated: vec![] })
}

fn row(values: &[&str]) -> Vec<u8> {
    let value = |v: &&'static str| match *v {
        "…" => Value::Unchanged,
        text => Value::Text(text.as_bytes()),
    };
    // Leaked: a test's few letters.
    let values: Vec<&'static str> =
        values.iter().map(|v| &*Box::leak(v.to_string().into_boxed_str())).collect();
    pack(&values.iter().map(value).collect::<Vec<_>>())
}

struct Replay {
    schema: Arc<Schema>,
    overlay: Overlay,
}

fn replay() -> Replay {
    let schema = schema(&["id", "n", "body"]);
    Replay { overlay: Overlay::new(&schema), schema }
}

impl Replay {
    fn one(&mut self, op: Op, before: &[&str], after: &[&str]) -> &mut Self {
        let (before, after) = (row(before), row(after));
        let schema = self.schema.clone();
        self.overlay.replay(op, &schema, Row(&before), Row(&after)).unwrap();
        self
    }

    fn seen(&mut self, values: &[&str]) -> &mut Self {
        let packed = row(values);
        self.overlay.see(&row(&values[..1]), Row(&packed));
        self
    }

    fn row(&self, id: &str) -> Option<Option<Vec<u8>>> {
        self.overlay.row(&row(&[id]))
    }
}

#[test]
fn the_last_word_on_every_value_counts() {
    let mut r = replay();
    r.one(Op::Update, &[], &["1", "a", "…"]).one(Op::Update, &[], &["1", "b", "…"]);
    assert_eq!(r.row("1"), None, "what the row builds on was not seen");
    r.seen(&["1", "old", "long"]);
    assert_eq!(r.row("1"), Some(Some(row(&["1", "b", "long"]))));
    r.one(Op::Update, &[], &["1", "c", "longer"]).one(Op::Update, &[], &["1", "d", "…"]);
    assert_eq!(r.row("1"), Some(Some(row(&["1", "d", "longer"]))));
    r.one(Op::Delete, &["1", "…", "…"], &[]);
    assert_eq!(r.row("1"), Some(None));
    r.one(Op::Create, &[], &["1", "e", "f"]);
    assert_eq!(r.row("1"), Some(Some(row(&["1", "e", "f"]))));
    assert_eq!(r.row("2"), None);
}

#[test]
fn a_key_that_moves_takes_its_unchanged_values_along() {
    let mut r = replay();
    r.one(Op::Update, &["1", "…", "…"], &["2", "a", "…"]);
    r.one(Op::Update, &["2", "…", "…"], &["3", "b", "…"]);
    r.seen(&["1", "old", "long"]);
    assert_eq!(r.row("1"), Some(None));
    assert_eq!(r.row("2"), Some(None));
    assert_eq!(r.row("3"), Some(Some(row(&["3", "b", "long"]))));
}

#[test]
fn a_key_that_moved_before_the_view_is_found_under_its_new_name() {
    let mut r = replay();
    r.one(Op::Update, &["1", "…", "…"], &["2", "a", "…"]);
    r.seen(&["2", "a", "long"]);
    assert_eq!(r.row("2"), Some(Some(row(&["2", "a", "long"]))));
}

#[test]
fn an_event_of_an_older_schema_leaves_the_new_column_as_it_was_seen() {
    let mut r = replay();
    let older = schema(&["id", "n"]);
    let after = row(&["1", "a"]);
    r.overlay.replay(Op::Update, &older, Row(&[]), Row(&after)).unwrap();
    r.seen(&["1", "old", "new column"]);
    assert_eq!(r.row("1"), Some(Some(row(&["1", "a", "new column"]))));
}

#[test]
fn truncation_and_too_much_are_said() {
    let mut r = replay();
    let schema = r.schema.clone();
    let truncated = r.overlay.replay(Op::Truncate, &schema, Row(&[]), Row(&[]));
    assert_eq!(truncated, Err(Lost::Truncated));
    let big = "x".repeat(1 << 20);
    let mut write = |id: usize| {
        let after = pack(&[
            Value::Text(id.to_string().as_bytes()),
            Value::Null,
            Value::Text(big.as_bytes()),
        ]);
        r.overlay.replay(Op::Create, &schema, Row(&[]), Row(&after))
    };
    assert!((0..1000).all(|_| write(7).is_ok()), "one key is one row");
    assert!((0..100).any(|i| write(i) == Err(Lost::TooMuch)));
}
