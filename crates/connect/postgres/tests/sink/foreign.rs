//! Values that do not come from PostgreSQL: each becomes the text of the column's type, or is refused.

use crate::support::{Bench, Ev, all_fields, chain, schema};
use rowcast_core::{Kind, Op, Schema, SinkError, Value};
use std::sync::Arc;

/// A schema of another dialect.
fn foreign(columns: &[(&str, Kind)]) -> Arc<Schema> {
    let names: Vec<_> = columns.iter().map(|(name, _)| (*name, "")).collect();
    let mut schema = (*schema("t", 1, &names)).clone();
    schema.dialect = "other".into();
    for (column, (_, kind)) in schema.columns.iter_mut().zip(columns) {
        column.kind = *kind;
    }
    Arc::new(schema)
}

async fn bench(setup: &str) -> Bench {
    Bench::new(setup, vec![all_fields("t", "t")]).await
}

fn events<'a>(t: &'a Arc<Schema>, count: i64, op: Op, rest: &[Value<'a>]) -> Vec<Ev<'a>> {
    let row = |n| std::iter::once(Value::Integer(n)).chain(rest.iter().copied()).collect();
    (0..count).map(|n| Ev { schema: t, op, before: vec![], after: row(n) }).collect()
}

#[tokio::test]
async fn every_storage_class_arrives_in_every_way() {
    let t = foreign(&[
        ("id", Kind::Int64),
        ("real", Kind::Float64),
        ("text", Kind::Text),
        ("blob", Kind::Bytes),
        ("none", Kind::Text),
        ("json", Kind::Json),
        ("any", Kind::Any),
        ("huge", Kind::Float64),
        ("bool", Kind::Bool),
    ]);
    let rest = [
        Value::Real(0.1),
        Value::Text("tab\t🎉\\N".as_bytes()),
        Value::Blob(&[0, 9, 10, 92, 255]),
        Value::Null,
        Value::Text(b"{\"b\": 1, \"a\": 2}"),
        Value::Real(3.0),
        Value::Real(f64::INFINITY),
        Value::Integer(1),
    ];
    for (count, op) in [(1, Op::Create), (50, Op::Update), (500, Op::Create)] {
        let mut bench = bench("").await;
        bench.apply(&events(&t, count, op, &rest)).await;
        let found = bench
            .sql("SELECT DISTINCT \"real\", text, blob, \"none\", json::text, \"any\", huge, bool FROM t")
            .await;
        let expected = [
            "0.1",
            "tab\t🎉\\N",
            "\\x00090a5cff",
            "",
            "{\"b\": 1, \"a\": 2}",
            "3.0",
            "Infinity",
            "t",
        ];
        let found: Vec<_> = found[0].iter().map(|v| v.as_deref().unwrap_or_default()).collect();
        assert_eq!(found, expected);
        assert_eq!(bench.one("SELECT count(*) FROM t").await, count.to_string());
    }
}

#[tokio::test]
async fn a_value_that_would_be_mangled_is_refused_and_named() {
    for (kind, value) in [
        (Kind::Text, Value::Text(b"a\0b")),
        (Kind::Text, Value::Text(b"\xff\xfe")),
        (Kind::Text, Value::Blob(b"x")),
        (Kind::Bytes, Value::Text(b"abc")),
        (Kind::Bytes, Value::Integer(5)),
        (Kind::Int64, Value::Text(b"five")),
        (Kind::Int64, Value::Real(1.5)),
        (Kind::Json, Value::Text(b"{")),
    ] {
        let t = foreign(&[("id", Kind::Int64), ("v", kind)]);
        let mut bench = bench("").await;
        for count in [1, 50, 500] {
            let mut all = events(&t, count, Op::Create, &[Value::Null]);
            all.last_mut().unwrap().after[1] = value;
            let error = bench.try_apply(&all, true).await.unwrap_err();
            let SinkError::Data { key, .. } = &error else { panic!("{}", chain(&error)) };
            assert_eq!(*key, Some((count - 1).to_string()), "{kind:?}");
            bench.wants().await.unwrap();
        }
        assert_eq!(bench.one("SELECT count(*) FROM t").await, "0");
    }
}

#[tokio::test]
async fn an_existing_table_takes_foreign_kinds_that_fit_and_no_others() {
    let t = foreign(&[("id", Kind::Int64), ("v", Kind::Float64)]);
    let fits = "CREATE TABLE t (id numeric PRIMARY KEY, v text)";
    bench(fits).await.apply(&events(&t, 3, Op::Create, &[Value::Real(1.5)])).await;
    for setup in [
        "CREATE TABLE t (id integer PRIMARY KEY, v float8)",
        "CREATE TABLE t (id bigint PRIMARY KEY, v real)",
        "CREATE TABLE t (id bigint PRIMARY KEY, v timestamptz)",
    ] {
        let error = bench(setup)
            .await
            .try_apply(&events(&t, 1, Op::Create, &[Value::Real(1.5)]), true)
            .await
            .unwrap_err();
        assert!(matches!(error, SinkError::Schema { .. }), "{}", chain(&error));
    }
}

/// Keys that are two at the source stay two: of those that the column would take for one, the one is
/// written and the other named.
#[tokio::test]
async fn keys_that_a_column_would_take_for_one_are_told_apart() {
    let uuid = b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let other = b"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";
    let whole = 1 << 53;
    for (kind, column, good, bad) in [
        (Kind::Any, "text", Value::Integer(1), Value::Text(b"1")),
        (Kind::Any, "text", Value::Real(1.5), Value::Text(b"1.5")),
        (Kind::Any, "text", Value::Text(b"007"), Value::Text(b"7")),
        (Kind::Any, "numeric", Value::Integer(16), Value::Text(b"0x10")),
        (Kind::Any, "bigint", Value::Integer(1), Value::Text(b"1")),
        (Kind::Any, "double precision", Value::Integer(whole), Value::Integer(whole + 1)),
        (Kind::Any, "bytea", Value::Blob(&[0]), Value::Text(b"\\x00")),
        (Kind::Bool, "boolean", Value::Integer(1), Value::Text(b"yes")),
        (Kind::Uuid, "uuid", Value::Text(uuid), Value::Text(other)),
        (Kind::Int64, "bigint", Value::Integer(1000), Value::Text(b"1_000")),
    ] {
        for count in [1, 40] {
            let what = format!("{kind:?} in {column}, {count}");
            let t = foreign(&[("id", kind), ("v", Kind::Int64)]);
            let mut bench =
                bench(&format!("CREATE TABLE t (id {column} PRIMARY KEY, v bigint)")).await;
            let row = |key, n| Ev {
                schema: &t,
                op: Op::Update,
                before: vec![],
                after: vec![key, Value::Integer(n)],
            };
            let goods: Vec<_> = (0..count).map(|n| row(good, n)).collect();
            bench.apply(&goods).await;
            let bads: Vec<_> = (0..count).map(|_| row(bad, -1)).collect();
            let error = bench.try_apply(&bads, true).await.expect_err(&what);
            assert!(matches!(error, SinkError::Data { change: Some(0), .. }), "{what}: {error:?}");
            assert_eq!(bench.one("SELECT v FROM t").await, (count - 1).to_string(), "{what}");
        }
    }
}
