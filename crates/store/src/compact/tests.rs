use super::{Fault, Limits, Scratch, Sieve, Survivors};
use crate::files::disk::RealDisk;
use rowcast_core::{
    Batch, BatchBuilder, Epoch, Offset, Op, Point, Position, Row, RowWriter, Stored, Value,
};
use rowcast_testkit::log_suite::schema;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An event of entity `thing`: its operation, the old key, the new key, and its name.
type Said<'a> = (Op, Option<&'a str>, Option<&'a str>, Value<'a>);

fn batch(events: &[Said<'_>]) -> Batch {
    let mut b = BatchBuilder::new();
    let schema = schema("thing");
    let index = b.schema(schema.id(), &schema);
    b.begin(Point::Sequence(1), 1_000);
    for (op, old, new, name) in events {
        let row = |key: Option<&str>, name: Value<'_>, to: &mut Vec<u8>| {
            let Some(key) = key else { return };
            let mut row = RowWriter::new(to);
            row.push(if key == "?" { Value::Unchanged } else { Value::Text(key.as_bytes()) });
            row.push(name);
        };
        b.push(*op, index, |to| row(*old, Value::Unchanged, to), |to| row(*new, *name, to));
    }
    let epoch = Epoch { identity: 1, birth: 0 };
    b.finish(Position::new(epoch, Point::Sequence(1)), true)
}

fn sift(events: &[Said<'_>], horizon: i64, memory: usize) -> Result<Survivors, Fault> {
    let dir = tempfile::tempdir().unwrap();
    let scratch = Scratch { disk: Arc::new(RealDisk), dir: dir.path().into(), memory, parts: 3 };
    let limits = Limits { horizon, scratch: Some(scratch), spend: &|_| Ok(()) };
    let mut sieve = Sieve::new(limits, BTreeSet::new());
    sieve.push(&Stored { base: Offset(0), batch: Arc::new(batch(events)) }, 1)?;
    sieve.finish()
}

/// Offset, operation and name of what stays.
fn left(mut survivors: Survivors) -> Vec<(u64, Op, Option<String>)> {
    let mut left = Vec::new();
    while let Some(event) = survivors.next_before(u64::MAX).unwrap() {
        let name = match Row(&event.after).values().nth(1) {
            Some(Ok(Value::Text(name))) => Some(String::from_utf8_lossy(name).into_owned()),
            _ => None,
        };
        left.push((event.offset, event.op, name));
    }
    left
}

const ALL: usize = usize::MAX;
const NONE: usize = 0;
const KEEP: i64 = i64::MIN;

fn text(name: &str) -> Value<'_> {
    Value::Text(name.as_bytes())
}

#[test]
fn an_unchanged_value_is_filled_from_the_row_before() {
    for memory in [ALL, NONE] {
        let events = [
            (Op::Create, None, Some("1"), text("ada")),
            (Op::Update, None, Some("1"), Value::Unchanged),
            (Op::Update, None, Some("1"), Value::Unchanged),
        ];
        let survivors = sift(&events, KEEP, memory).unwrap();
        assert_eq!(left(survivors), [(2, Op::Update, Some("ada".into()))]);
    }
}

#[test]
fn a_changed_key_is_one_event_again_when_both_halves_stay() {
    for memory in [ALL, NONE] {
        let events = [
            (Op::Create, None, Some("1"), text("ada")),
            (Op::Update, Some("1"), Some("2"), text("ada")),
        ];
        let mut survivors = sift(&events, KEEP, memory).unwrap();
        let event = survivors.next_before(u64::MAX).unwrap().unwrap();
        assert_eq!((event.offset, event.op), (1, Op::Update));
        assert!(!event.before.is_empty());
        assert!(survivors.next_before(u64::MAX).unwrap().is_none());
    }
}

#[test]
fn a_key_change_that_leaves_out_values_is_filled_when_the_row_is_at_hand() {
    let events = [
        (Op::Create, None, Some("1"), text("ada")),
        (Op::Update, Some("1"), Some("2"), Value::Unchanged),
    ];
    assert_eq!(left(sift(&events, KEEP, ALL).unwrap()), [(1, Op::Update, Some("ada".into()))]);
}

#[test]
fn a_key_change_that_leaves_out_values_keeps_the_row_it_needs_otherwise() {
    let events = [
        (Op::Create, None, Some("1"), text("ada")),
        (Op::Update, Some("1"), Some("2"), Value::Unchanged),
        (Op::Create, None, Some("1"), text("bob")),
        (Op::Update, None, Some("2"), text("eve")),
    ];
    let expected = [
        (0, Op::Create, Some("ada".into())),
        (1, Op::Update, None),
        (2, Op::Update, Some("bob".into())),
        (3, Op::Update, Some("eve".into())),
    ];
    assert_eq!(left(sift(&events, KEEP, NONE).unwrap()), expected);
}

#[test]
fn a_delete_goes_when_it_is_old_unless_something_is_built_on_it() {
    let plain =
        [(Op::Create, None, Some("1"), text("ada")), (Op::Delete, Some("1"), None, Value::Null)];
    for memory in [ALL, NONE] {
        let survivors = sift(&plain, 1_000, memory).unwrap();
        assert_eq!(survivors.forgotten, 0, "it is not older than the horizon");
        assert_eq!(left(survivors), [(1, Op::Delete, None)]);
        let survivors = sift(&plain, 1_001, memory).unwrap();
        assert_eq!(survivors.forgotten, 2);
        // The tail goes on to know the schema, which nothing else says here.
        assert_eq!(left(survivors), [(1, Op::Schema, None)]);
    }
    let moved = [
        (Op::Create, None, Some("1"), text("ada")),
        (Op::Update, Some("1"), Some("2"), Value::Unchanged),
        (Op::Delete, Some("2"), None, Value::Null),
    ];
    let survivors = sift(&moved, i64::MAX, NONE).unwrap();
    assert_eq!(survivors.forgotten, 0);
    let ops: Vec<_> = left(survivors).into_iter().map(|(_, op, _)| op).collect();
    assert_eq!(ops, [Op::Create, Op::Update, Op::Delete]);
}

#[test]
fn a_truncate_takes_what_came_before_it() {
    for memory in [ALL, NONE] {
        let events = [
            (Op::Create, None, Some("1"), text("ada")),
            (Op::Delete, Some("7"), None, Value::Null),
            (Op::Truncate, None, None, Value::Null),
            (Op::Create, None, Some("1"), text("bob")),
        ];
        let survivors = sift(&events, KEEP, memory).unwrap();
        assert_eq!(left(survivors), [(2, Op::Truncate, None), (3, Op::Create, Some("bob".into()))]);
        let survivors = sift(&events, i64::MAX, memory).unwrap();
        assert_eq!(survivors.forgotten, 3);
        assert_eq!(left(survivors), [(3, Op::Create, Some("bob".into()))]);
    }
}

#[test]
fn a_row_that_does_not_say_its_key_is_named() {
    let events = [(Op::Update, None, Some("?"), text("ada"))];
    let fault = sift(&events, KEEP, ALL).map(|_| ());
    assert!(matches!(fault, Err(Fault::NoKey(ref entity)) if entity.as_str() == "thing"));
}

#[test]
fn five_and_five_point_zero_are_one_key_where_types_are_not_declared() {
    let mut names = super::names::Names::default();
    let number = names.number(&schema("thing"));
    let key = |value| {
        let mut bytes = Vec::new();
        let mut row = RowWriter::new(&mut bytes);
        row.push(value);
        row.push(Value::Null);
        names.key(number, Row(&bytes)).unwrap()
    };
    assert_eq!(key(Value::Integer(5)), key(Value::Real(5.0)));
    assert_ne!(key(Value::Integer(5)), key(Value::Real(5.5)));
    assert_ne!(key(Value::Integer(5)), key(Value::Text(b"5")));
    assert_ne!(key(Value::Real(f64::NAN)), key(Value::Integer(0)));
}
