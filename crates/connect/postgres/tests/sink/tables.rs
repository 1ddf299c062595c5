//! Target tables: made when missing, brought up to columns that came later, refused when they do not
//! fit, before any row is written.

use crate::support::{Bench, Ev, all_fields, chain, schema};
use rowcast_core::{Diagnose, Fields, Generated, Op, Schema, SinkError, Subscription};
use std::sync::Arc;

const COLUMNS: &str = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod)
    || CASE WHEN attnotnull THEN ' not null' ELSE '' END
    || CASE WHEN attgenerated <> '' THEN ' generated' ELSE '' END, ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped";

fn columns(table: &str) -> String {
    COLUMNS.replace("{}", table)
}

async fn refusal(setup: &str, schema: &Arc<Schema>, row: &[&str]) -> (Bench, String, String) {
    let mut bench = Bench::new(setup, vec![all_fields("t", "t")]).await;
    let error = bench.try_apply(&[Ev::create(schema, row)], true).await.unwrap_err();
    assert!(matches!(error, SinkError::Schema { .. }), "{}", chain(&error));
    (bench, error.to_string(), error.help().to_string())
}

#[tokio::test]
async fn a_missing_table_and_its_schema_are_made_whatever_their_names() {
    let into = "\"Odd.Schema\".\"Ünïcode \"\"table\"\" 🎉\"";
    let mut bench = Bench::new("", vec![all_fields("t", into)]).await;
    let t = schema(
        "t",
        2,
        &[("Key 1", "integer"), ("k\"2", "character varying(5)"), ("v.w", "numeric(10,2)")],
    );
    bench.apply(&[Ev::create(&t, &["1", "a", "1.50"])]).await;
    let found = bench.one(&columns(&into.replace('\'', "''"))).await;
    let expected = "Key 1 integer not null, k\"2 character varying(5) not null, v.w numeric(10,2)";
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_table_is_made_without_a_change_for_it() {
    let mut bench = Bench::new("", vec![all_fields("t", "t")]).await;
    let t = schema("t", 1, &[("id", "bigint")]);
    bench.apply(&[Ev::bare(&t, Op::Schema)]).await;
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn a_table_that_may_not_be_made_is_described() {
    let subscription = Subscription { create: false, ..all_fields("t", "t") };
    let mut bench = Bench::new("", vec![subscription]).await;
    let t = schema("t", 1, &[("id", "bigint")]);
    let error = bench.try_apply(&[Ev::create(&t, &["1"])], true).await.unwrap_err();
    assert!(error.help().contains("CREATE TABLE"), "{}", error.help());
    bench.sql("CREATE TABLE t (id bigint PRIMARY KEY)").await;
    bench.wants().await.unwrap();
    bench.apply(&[Ev::create(&t, &["1"])]).await;
}

#[tokio::test]
async fn a_type_that_the_target_lacks_is_named() {
    let t = schema("t", 1, &[("id", "bigint"), ("v", "public.mood")]);
    let (mut bench, what, help) = refusal("", &t, &["1", "sad"]).await;
    assert!(what.contains("public.mood") && help.contains("CREATE TYPE"), "{what} {help}");
    bench.sql("CREATE TYPE mood AS ENUM ('sad')").await;
    bench.wants().await.unwrap();
    bench.apply(&[Ev::create(&t, &["1", "sad"])]).await;
}

#[tokio::test]
async fn generated_columns_are_made_when_their_inputs_are_there() {
    let mut t = (*schema("t", 1, &[("id", "bigint"), ("a", "integer")])).clone();
    let generated = |name: &str, expression: &str| Generated {
        name: name.into(),
        native: "integer".into(),
        expression: expression.into(),
    };
    t.generated = vec![generated("double", "(a * 2)"), generated("other", "(hidden + 1)")];
    let t = Arc::new(t);
    let mut bench = Bench::new("", vec![all_fields("t", "t")]).await;
    bench.apply(&[Ev::create(&t, &["1", "21"])]).await;
    assert_eq!(bench.one("SELECT double FROM t").await, "42");
    let expected = "id bigint not null, a integer, double integer generated";
    assert_eq!(bench.one(&columns("t")).await, expected);
}

#[tokio::test]
async fn a_later_column_is_added_in_its_place_between_the_rows() {
    for filler in [0, 40] {
        let mut bench = Bench::new("", vec![all_fields("t", "t")]).await;
        let old = schema("t", 1, &[("id", "bigint"), ("gone", "text")]);
        let mut new = (*schema("t", 1, &[("id", "bigint"), ("late", "integer")])).clone();
        new.columns[1].fill = Some("7".into());
        let new = Arc::new(new);
        let keys: Vec<_> = (10..10 + filler).map(|n| n.to_string()).collect();
        let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&old, &[k, "x"])).collect();
        events.push(Ev::create(&old, &["1", "kept"]));
        events.push(Ev::create(&new, &["2", "8"]));
        events.extend(keys.iter().map(|k| Ev::update(&new, &[k, "9"])));
        bench.apply(&events).await;
        let row = "SELECT concat_ws(' ', gone, late) FROM t WHERE id = ";
        assert_eq!(bench.one(&format!("{row} 1")).await, "kept 7");
        assert_eq!(bench.one(&format!("{row} 2")).await, "8");
        let others = "SELECT count(*) FROM t WHERE id > 2 AND gone = 'x' AND late = 9";
        assert_eq!(bench.one(others).await, filler.to_string());
        let default = "SELECT count(*) FROM pg_attrdef WHERE adrelid = 't'::regclass";
        assert_eq!(bench.one(default).await, "0");
    }
}

#[tokio::test]
async fn a_column_that_was_added_goes_again_when_its_transaction_does() {
    let mut bench = Bench::new("", vec![all_fields("t", "t")]).await;
    let old = schema("t", 1, &[("id", "bigint")]);
    let new = schema("t", 1, &[("id", "bigint"), ("late", "integer")]);
    bench.apply(&[Ev::create(&old, &["1"])]).await;
    let events =
        [Ev::create(&old, &["2"]), Ev::create(&new, &["3", "1"]), Ev::create(&new, &["4", "x"])];
    let error = bench.try_apply(&events, true).await.unwrap_err();
    assert!(matches!(error, SinkError::Data { .. }), "{}", chain(&error));
    assert_eq!(bench.one(&columns("t")).await, "id bigint not null");
    bench.apply(&events[..2]).await;
    assert_eq!(bench.one("SELECT count(late) FROM t").await, "1");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_a_row_is_written() {
    let t = schema("t", 1, &[("id", "bigint"), ("v", "character varying(9)")]);
    for (setup, said) in [
        ("CREATE TABLE t (id integer PRIMARY KEY, v text)", "\"id\" is integer"),
        ("CREATE TABLE t (id bigint PRIMARY KEY, v varchar(8))", "character varying(8)"),
        ("CREATE TABLE t (id bigint PRIMARY KEY, v integer)", "\"v\" is integer"),
        ("CREATE TABLE t (id bigint, v text)", "no primary key or unique index"),
        ("CREATE TABLE t (id bigint, v text, UNIQUE (id, v))", "no primary key or unique index"),
        ("CREATE TABLE t (id bigint UNIQUE DEFERRABLE, v text)", "no primary key or unique index"),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, v text, w int NOT NULL)",
            "\"w\" must not be null",
        ),
        ("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)", "IDENTITY"),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, v text GENERATED ALWAYS AS ('x') STORED)",
            "computed",
        ),
        ("CREATE VIEW t AS SELECT 1::bigint AS id, ''::text AS v", "no table but a view"),
    ] {
        let (bench, what, help) = refusal(setup, &t, &["1", "x"]).await;
        assert!(what.contains(said) && !help.is_empty(), "{setup}: {what}");
        assert_eq!(bench.one("SELECT next FROM rowcast.checkpoint").await, "0");
    }
}

#[tokio::test]
async fn a_retyped_column_is_refused_before_a_row_is_written() {
    let mut bench = Bench::new("", vec![all_fields("t", "t")]).await;
    let old = schema("t", 1, &[("id", "bigint"), ("v", "integer")]);
    let new = schema("t", 1, &[("id", "bigint"), ("v", "text")]);
    bench.apply(&[Ev::create(&old, &["1", "1"])]).await;
    let events = [Ev::create(&old, &["2", "2"]), Ev::create(&new, &["3", "3"])];
    let error = bench.try_apply(&events, true).await.unwrap_err();
    assert!(matches!(error, SinkError::Schema { .. }), "{}", chain(&error));
    assert!(error.help().contains("ALTER COLUMN \"v\" TYPE text"), "{}", error.help());
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "1");
    bench.sql("ALTER TABLE t ALTER COLUMN v TYPE text").await;
    bench.wants().await.unwrap();
    bench.apply(&events).await;
}

#[tokio::test]
async fn fields_may_be_chosen_and_renamed() {
    let fields =
        Fields::Named(vec![("key".into(), "id".into()), ("Other Name".into(), "c".into())]);
    let mut bench = Bench::new("", vec![Subscription { fields, ..all_fields("t", "t") }]).await;
    let t = schema("t", 1, &[("id", "bigint"), ("b", "text"), ("c", "text")]);
    let keys: Vec<_> = (10..50).map(|n| n.to_string()).collect();
    let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, "b", "c"])).collect();
    events.push(Ev::update(&t, &["10", "~", "patched"]));
    events.push(Ev::update(&t, &["11", "patched", "~"]));
    events.push(Ev::delete(&t, &["12", "~", "~"]));
    bench.apply(&events).await;
    let found =
        bench.one("SELECT string_agg(\"Other Name\", ' ' ORDER BY key) FROM t WHERE key < 13");
    assert_eq!(found.await, "patched c");
    assert_eq!(bench.one(&columns("t")).await, "key bigint not null, Other Name text");
}

#[tokio::test]
async fn a_table_of_nothing_but_its_key_works() {
    let mut bench = Bench::new("", vec![all_fields("t", "t")]).await;
    let t = schema("t", 2, &[("a", "bigint"), ("b", "text")]);
    let keys: Vec<_> = (0..60).map(|n| n.to_string()).collect();
    for _ in 0..2 {
        let events: Vec<_> = keys.iter().map(|k| Ev::update(&t, &[k, k])).collect();
        bench.apply(&events).await;
        bench.apply(&events[..1]).await;
    }
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "60");
}

#[tokio::test]
async fn a_partitioned_table_takes_rows() {
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, v text) PARTITION BY HASH (id);
        CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)";
    let mut bench = Bench::new(setup, vec![all_fields("t", "t")]).await;
    let t = schema("t", 1, &[("id", "bigint"), ("v", "text")]);
    let keys: Vec<_> = (0..600).map(|n| n.to_string()).collect();
    bench.apply(&keys.iter().map(|k| Ev::create(&t, &[k, "1"])).collect::<Vec<_>>()).await;
    bench.apply(&keys.iter().map(|k| Ev::update(&t, &[k, "2"])).collect::<Vec<_>>()).await;
    bench.apply(&keys[..300].iter().map(|k| Ev::delete(&t, &[k, "~"])).collect::<Vec<_>>()).await;
    assert_eq!(bench.one("SELECT count(*) FROM t WHERE v = '2'").await, "300");
}
