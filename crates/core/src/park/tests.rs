use super::*;
use proptest::prelude::*;

fn schema(names: &[(&str, Option<&str>)]) -> Arc<Schema> {
    let columns = names.iter().enumerate().map(|(i, (name, fill))| Column {
        name: (*name).into(),
        native: "text".into(),
        kind: Kind::Text,
        key: (i == 0).then_some(0),
        not_null: i == 0,
        fill: fill.map(Into::into),
    });
    Arc::new(Schema {
        entity: "customer".parse().unwrap(),
        dialect: "test".into(),
        columns: columns.collect(),
        generated: vec![Generated {
            name: "g".into(),
            native: "int".into(),
            expression: "a + 1".into(),
        }],
    })
}

fn row(words: &[Option<&str>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RowWriter::new(&mut bytes);
    for word in words {
        writer.push(word.map_or(Value::Unchanged, |w| Value::Text(w.as_bytes())));
    }
    bytes
}

fn pending(op: PendingOp, before: &[Option<&str>], after: &[Option<&str>]) -> Pending {
    let schema = schema(&[("id", None), ("a", None), ("b", None)]);
    Pending { op, schema, before: row(before), after: row(after) }
}

const NO: &[Option<&str>] = &[];

#[test]
fn a_later_partial_row_merges_onto_a_whole_one() {
    let whole = pending(PendingOp::Whole, NO, &[Some("1"), Some("a"), Some("b")]);
    let later = pending(PendingOp::Patch, NO, &[Some("1"), None, Some("c")]);
    let merged = whole.then(later).unwrap();
    assert_eq!(merged, pending(PendingOp::Whole, NO, &[Some("1"), Some("a"), Some("c")]));
}

#[test]
fn a_later_whole_row_or_delete_replaces() {
    let old = pending(PendingOp::Patch, NO, &[Some("1"), None, Some("b")]);
    let whole = pending(PendingOp::Whole, NO, &[Some("1"), Some("x"), Some("y")]);
    assert_eq!(old.then(whole.clone()).unwrap(), whole);
    let delete = pending(PendingOp::Delete, &[Some("1"), None, None], NO);
    assert_eq!(whole.then(delete.clone()).unwrap(), delete);
}

#[test]
fn a_key_change_carries_the_pending_values_along() {
    let whole = pending(PendingOp::Whole, NO, &[Some("1"), Some("a"), Some("b")]);
    let moved = pending(PendingOp::Rekey, &[Some("1"), None, None], &[Some("2"), None, Some("c")]);
    let merged = whole.then(moved.clone()).unwrap();
    assert_eq!(merged, pending(PendingOp::Whole, NO, &[Some("2"), Some("a"), Some("c")]));
    let again = pending(PendingOp::Rekey, &[Some("2"), None, None], &[Some("3"), Some("x"), None]);
    let twice = moved.then(again).unwrap();
    let should =
        pending(PendingOp::Rekey, &[Some("1"), None, None], &[Some("3"), Some("x"), Some("c")]);
    assert_eq!(twice, should);
}

#[test]
fn a_row_that_still_stands_at_an_older_key_is_not_forgotten() {
    let moved = pending(PendingOp::Rekey, &[Some("1"), None, None], &[Some("2"), None, Some("c")]);
    let whole = pending(PendingOp::Whole, NO, &[Some("2"), Some("x"), Some("y")]);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    key_of(Row(&row(&[Some("1")])), Row(&[]), &[0], &mut one).unwrap();
    key_of(Row(&row(&[Some("2")])), Row(&[]), &[0], &mut two).unwrap();
    let both = moved.then(whole).unwrap();
    assert_eq!((both.op, both.carries(&two).unwrap()), (PendingOp::Whole, Some(one.clone())));
    let gone = pending(PendingOp::Delete, &[Some("2"), None, None], NO);
    let both = moved.then(gone.clone()).unwrap();
    assert_eq!((both.op, both.carries(&two).unwrap()), (PendingOp::Delete, Some(one)));
    assert_eq!(both.without_carried(), None);
    assert_eq!(gone.carries(&two).unwrap(), None);
}

#[test]
fn a_row_of_an_older_schema_takes_what_old_rows_hold_in_a_later_column() {
    let whole = pending(PendingOp::Whole, NO, &[Some("1"), Some("a"), Some("b")]);
    let newer = schema(&[("id", None), ("b", None), ("new", Some("filled")), ("bare", None)]);
    let after = row(&[Some("1"), Some("c"), None, None]);
    let later = Pending { op: PendingOp::Patch, schema: newer, before: vec![], after };
    let shown = whole.then(later).unwrap().shown();
    let names: Vec<_> = shown.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
    let should = [("id", Some("1")), ("b", Some("c")), ("new", Some("filled")), ("bare", None)];
    assert_eq!(names, should);
}

#[test]
fn only_what_the_subscription_takes_is_kept() {
    let full = schema(&[("id", None), ("secret", None), ("b", None)]);
    let subscription = crate::Subscription {
        entity: full.entity.clone(),
        into: "copy".into(),
        fields: crate::Fields::Named(vec![("n".into(), "b".into()), ("i".into(), "id".into())]),
        create: true,
        filter: None,
        from: Default::default(),
    };
    let (from, to) = ("shop".parse().unwrap(), "office".parse().unwrap());
    let projection = crate::Projection::new(from, to, vec![subscription]);
    let shape = projection.shape_for("copy", &full).unwrap().unwrap();
    let narrow = Narrow::new(&shape, &full);
    let kept = narrow.pack(Row(&row(&[Some("1"), Some("hidden"), Some("b")]))).unwrap();
    assert_eq!(kept, row(&[Some("1"), Some("b")]));
    let again = projection.shape_for("copy", &narrow.schema).unwrap().unwrap();
    let sources: Vec<_> = again.columns.iter().map(|c| (c.name.as_str(), c.source)).collect();
    assert_eq!(sources, [("n", 1), ("i", 0)]);
    assert!(projection.shape_for("other", &full).unwrap().is_none());
}

#[test]
fn long_keys_are_cut_and_still_told_apart() {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let long = "x".repeat(2000);
    let none = Row(&[]);
    key_of(Row(&row(&[Some(&(long.clone() + "1"))])), none, &[0], &mut one).unwrap();
    key_of(Row(&row(&[Some(&(long + "2"))])), none, &[0], &mut other).unwrap();
    assert!(one != other && one.len() == KEY_BYTES_MAX);
}

#[test]
fn a_pending_state_reads_back_what_was_stored() {
    for op in [PendingOp::Whole, PendingOp::Patch, PendingOp::Rekey, PendingOp::Delete] {
        let one = pending(op, &[Some("1"), None, None], &[Some("2"), None, Some("c")]);
        assert_eq!(Pending::decode(&one.encode()).unwrap(), one);
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..400_usize, flip: u8,
    ) {
        let _ = Pending::decode(&bytes);
        let mut stored = pending(PendingOp::Whole, NO, &[Some("1"), Some("a"), Some("b")]).encode();
        let at = at % stored.len();
        stored[at] ^= flip;
        let _ = Pending::decode(&stored);
    }
}
