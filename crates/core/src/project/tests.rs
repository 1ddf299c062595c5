use super::*;
use crate::{BatchBuilder, Epoch, Kind, Point, Position, RowWriter, Value};
use crate::{Code, Diagnose, Remedy};

fn schema() -> Arc<Schema> {
    let column = |name: &str, key| Column {
        name: name.into(),
        native: "text".into(),
        kind: Kind::Text,
        key,
        not_null: false,
        fill: None,
    };
    Arc::new(Schema {
        entity: "customer".parse().unwrap(),
        dialect: "test".into(),
        columns: vec![column("name", None), column("id", Some(0)), column("note", None)],
        generated: vec![],
    })
}

fn projection(fields: Fields) -> Projection {
    let subscription = Subscription {
        entity: "customer".parse().unwrap(),
        into: "copy".into(),
        fields,
        create: true,
        filter: None,
        from: Default::default(),
    };
    Projection::new("a".parse().unwrap(), "b".parse().unwrap(), vec![subscription])
}

fn named(pairs: &[(&str, &str)]) -> Fields {
    Fields::Named(pairs.iter().map(|(l, p)| (l.to_string(), p.to_string())).collect())
}

fn stored(base: u64, events: &[(Op, &[Value<'_>], &[Value<'_>])]) -> Stored {
    stored_as(&schema(), base, events)
}

fn stored_as(
    schema: &Arc<Schema>,
    base: u64,
    events: &[(Op, &[Value<'_>], &[Value<'_>])],
) -> Stored {
    let mut b = BatchBuilder::new();
    let s = b.schema(schema.id(), schema);
    b.begin(Point::Sequence(1), 0);
    let write = |values: &[Value<'_>], into: &mut Vec<u8>| {
        let mut w = RowWriter::new(into);
        values.iter().for_each(|v| w.push(*v));
    };
    for (op, before, after) in events {
        b.push(*op, s, |v| write(before, v), |v| write(after, v));
    }
    let until = Position::new(Epoch::default(), Point::Sequence(2));
    Stored { base: Offset(base), batch: Arc::new(b.finish(until, true)) }
}

const A: Value<'_> = Value::Text(b"a");
const U: Value<'_> = Value::Unchanged;

#[test]
fn fields_are_selected_and_renamed_and_the_key_follows() {
    let shapes = projection(named(&[("k", "id"), ("n", "name")])).shapes(&schema()).unwrap();
    let shape = &shapes[0];
    let columns: Vec<_> = shape.columns.iter().map(|c| (c.name.as_str(), c.source)).collect();
    assert_eq!(columns, [("k", 1), ("n", 0)]);
    assert_eq!(shape.key, [0]);
}

#[test]
fn a_subscription_that_does_not_fit_says_which_field() {
    let error = projection(named(&[("n", "name")])).shapes(&schema()).unwrap_err();
    assert!(matches!(error, ProjectError::NoKey { field, .. } if field == "id"));
    let error = projection(named(&[("id", "id"), ("x", "gone")])).shapes(&schema()).unwrap_err();
    assert!(matches!(error, ProjectError::NoField { field, .. } if field == "gone"));
    let error = projection(named(&[("id", "id"), ("id", "name")])).shapes(&schema()).unwrap_err();
    assert!(matches!(error, ProjectError::Twice { field, .. } if field == "id"));
}

#[test]
fn an_update_becomes_what_its_row_says() {
    let batch = stored(
        10,
        &[
            (Op::Update, &[], &[A, A, A]),
            (Op::Update, &[], &[A, A, U]),
            (Op::Update, &[U, A, U], &[A, A, A]),
            (Op::Update, &[U, A, U], &[A, A, U]),
            (Op::Delete, &[U, A, U], &[]),
        ],
    );
    let rows = projection(Fields::All).rows(&[batch], Offset(0), Offset(99), |_, _| false).unwrap();
    use ChangeOp::{Create, Delete, Patch, Rekey, Update};
    let ops: Vec<_> = rows.changes.iter().map(|c| c.op).collect();
    assert_eq!(ops, [Update, Patch, Delete, Create, Rekey, Delete]);
}

#[test]
fn only_events_between_the_offsets_count() {
    let batch = stored(10, &[(Op::Create, &[][..], &[A, A, A][..]); 5]);
    let rows =
        projection(Fields::All).rows(&[batch], Offset(12), Offset(14), |_, _| false).unwrap();
    assert_eq!(rows.changes.iter().map(|c| c.event).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_schema_alone_brings_its_shape() {
    let batch = stored(0, &[(Op::Schema, &[], &[])]);
    let rows = projection(Fields::All).rows(&[batch], Offset(0), Offset(9), |_, _| true).unwrap();
    assert!(rows.changes.is_empty());
    assert!(rows.shapes[0].settling);
}

#[test]
fn with_a_filter_rows_are_written_whole_or_removed() {
    let mut filtered = projection(named(&[("k", "id"), ("n", "name")]));
    filtered.subscriptions[0].filter = Some("name = 'a'".parse().unwrap());
    const B: Value<'_> = Value::Text(b"b");
    let batch = stored(
        0,
        &[
            (Op::Create, &[], &[A, A, A]),
            (Op::Read, &[], &[B, A, A]),
            (Op::Update, &[], &[A, A, U]),
            (Op::Update, &[], &[B, A, U]),
            (Op::Update, &[U, A, U], &[A, B, U]),
            (Op::Update, &[U, A, U], &[B, B, U]),
            (Op::Delete, &[U, A, U], &[]),
        ],
    );
    let rows = filtered.rows(&[batch], Offset(0), Offset(99), |_, _| false).unwrap();
    use ChangeOp::{Create, Delete, Leave, Update};
    let ops: Vec<_> = rows.changes.iter().map(|c| c.op).collect();
    assert_eq!(ops, [Create, Leave, Update, Leave, Delete, Create, Delete, Leave, Delete]);
    let found: Vec<_> = rows.changes[7..].iter().map(|c| rows.found_by(c)).collect();
    assert_eq!(found, [rows.after(&rows.changes[7]), rows.before(&rows.changes[8])]);
}

#[test]
fn a_row_whose_filter_hangs_on_what_is_not_said_is_not_guessed() {
    let mut filtered = projection(Fields::All);
    filtered.subscriptions[0].filter = Some("note = 'a'".parse().unwrap());
    let batch = [stored(0, &[(Op::Update, &[], &[A, A, U])])];
    let told = filtered.rows(&batch, Offset(0), Offset(9), |_, _| false);
    assert!(matches!(told, Err(ProjectError::Unknowable { .. })), "{told:?}");
    // While a snapshot runs, the row itself is on its way.
    let rows = filtered.rows(&batch, Offset(0), Offset(9), |_, _| true).unwrap();
    assert!(rows.changes.is_empty());
}

#[test]
fn a_filter_that_does_not_fit_says_where() {
    let mut filtered = projection(Fields::All);
    filtered.subscriptions[0].filter = Some("id = 'x' AND nmae = 'a'".parse().unwrap());
    let error = filtered.shapes(&schema()).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Operator(Code::SinkSchema));
    assert_eq!(
        error.to_string(),
        "b's filter of a.customer does not fit: customer has no field \"nmae\""
    );
    let marked = "id = 'x' AND nmae = 'a'\n             ^^^^\n";
    assert!(error.help().starts_with(marked), "{}", error.help());
}

/// The schema with its field `name` computed instead of sent.
fn computing() -> Arc<Schema> {
    let mut schema = Schema::clone(&schema());
    let name = schema.columns.remove(0);
    let expression = "lower(note)".into();
    schema.generated = vec![Generated { name: name.name, native: name.native, expression }];
    Arc::new(schema)
}

#[test]
fn a_named_field_that_is_computed_is_refused_with_its_expression() {
    let error = projection(named(&[("id", "id"), ("n", "name")])).shapes(&computing()).unwrap_err();
    assert!(error.help().contains("lower(note)"), "{}", error.help());
    assert!(matches!(error, ProjectError::Computed { field, .. } if field == "name"));
}

#[test]
fn the_last_shape_says_what_the_copy_computes() {
    let plain = stored(0, &[(Op::Create, &[], &[A, A, A])]);
    let computed = stored_as(&computing(), 1, &[(Op::Create, &[], &[A, A])]);
    let shapes = |batches: &[Stored]| {
        let rows = projection(Fields::All).rows(batches, Offset(0), Offset(9), |_, _| false);
        let shape = |used: &ShapeUse| {
            let columns = used.shape.columns.iter().map(|c| c.name.as_str());
            let generated = used.shape.generated.iter().map(|g| g.name.as_str());
            let key = used.shape.columns[used.shape.key[0]].name.clone();
            (columns.collect::<Vec<_>>().join(" "), generated.collect::<String>(), key)
        };
        rows.unwrap().shapes.iter().map(shape).collect::<Vec<_>>()
    };
    let says = |columns: &str, generated: &str| {
        (columns.to_string(), generated.to_string(), "id".to_string())
    };
    let settled = shapes(&[plain.clone(), computed.clone()]);
    assert_eq!(settled, [says("id note", ""), says("id note", "name")]);
    let mut back = plain;
    back.base = Offset(2);
    let settled = shapes(&[Stored { base: Offset(1), ..computed }, back]);
    assert_eq!(settled, [says("id note", ""), says("name id note", "")]);
}
