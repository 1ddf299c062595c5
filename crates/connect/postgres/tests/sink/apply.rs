//! What a row becomes, whichever way it takes: row by row, merged in sets, by `COPY`.

use crate::support::{Bench, Ev, all_fields, chain, schema};
use rowcast_core::{Op, Schema, SinkError};
use rowcast_testkit::wait::LONG;
use std::sync::Arc;

/// `t(id, a, b)` as published.
fn abc() -> Arc<Schema> {
    schema("t", 1, &[("id", "bigint"), ("a", "text"), ("b", "text")])
}

async fn bench(setup: &str) -> Bench {
    Bench::new(setup, vec![all_fields("t", "t")]).await
}

/// Numbers from 100 on, as text: rows that only make a batch large.
fn fillers(count: usize) -> Vec<String> {
    (100..100 + count).map(|n| n.to_string()).collect()
}

const STATE: &str = "SELECT coalesce(string_agg(concat_ws(':', id, a, b), ' ' ORDER BY id), '') FROM t WHERE id < 100";

/// Runs the same changes alone and among many others; the outcome is the same.
async fn both_ways(setup: &str, before: &[Ev<'_>], changes: &[Ev<'_>], expected: &str) {
    let schema = abc();
    for count in [0, 50, 600] {
        let mut bench = bench(setup).await;
        bench.apply(before).await;
        let fillers = fillers(count);
        let mut events: Vec<_> =
            fillers.iter().map(|k| Ev::create(&schema, &[k, "x", "y"])).collect();
        let middle = events.len() / 2;
        let copy = |e: &Ev<'_>| Ev { schema: &schema, op: e.op, before: vec![], after: vec![] };
        for (i, change) in changes.iter().enumerate() {
            let mut event = copy(change);
            event.before = change.before.clone();
            event.after = change.after.clone();
            events.insert(middle + i, event);
        }
        bench.apply(&events).await;
        assert_eq!(bench.one(STATE).await, expected, "among {count} others");
        let all = bench.one("SELECT count(*) FROM t WHERE id >= 100").await;
        assert!(all == count.to_string() || changes.iter().any(|c| c.op == Op::Truncate), "{all}");
    }
}

#[tokio::test]
async fn of_several_changes_to_a_key_the_last_state_counts() {
    let t = abc();
    let changes = [
        Ev::create(&t, &["1", "a", "b"]),
        Ev::update(&t, &["1", "a2", "~"]),
        Ev::update(&t, &["1", "~", "b2"]),
        Ev::update(&t, &["1", "a3", "~"]),
        Ev::create(&t, &["2", "a", "b"]),
        Ev::delete(&t, &["2", "~", "~"]),
        Ev::create(&t, &["3", "a", "b"]),
        Ev::delete(&t, &["3", "~", "~"]),
        Ev::create(&t, &["3", "again", "b"]),
        Ev::delete(&t, &["4", "~", "~"]),
        Ev::create(&t, &["4", "new", "b"]),
        Ev::update(&t, &["5", "~", "b5"]),
        Ev::update(&t, &["5", "a5", "~"]),
        Ev::update(&t, &["6", "~", "~"]),
    ];
    let before = [
        Ev::create(&t, &["4", "old", "b"]),
        Ev::create(&t, &["5", "old", "b"]),
        Ev::create(&t, &["6", "old", "b"]),
    ];
    both_ways("", &before, &changes, "1:a3:b2 3:again:b 4:new:b 5:a5:b5 6:old:b").await;
}

#[tokio::test]
async fn of_new_rows_with_the_same_key_the_last_one_counts() {
    let t = abc();
    let before = [Ev::create(&t, &["2", "old", "b"])];
    let changes = [
        Ev::create(&t, &["1", "a", "b"]),
        Ev::whole(&t, Op::Read, &["1", "a2", "b2"]),
        Ev::create(&t, &["2", "new", "b"]),
        Ev::create(&t, &["1", "a3", "b3"]),
        Ev::create(&t, &["3", "a", "b"]),
    ];
    both_ways("", &before, &changes, "1:a3:b3 2:new:b 3:a:b").await;
    // What goes with the last of them goes with the key.
    let changes = [
        Ev::create(&t, &["1", "a", "b"]),
        Ev::create(&t, &["1", "a2", "b2"]),
        Ev::create(&t, &["3", "a", "b"]),
        Ev::create(&t, &["3", "a", "b"]),
        Ev::delete(&t, &["3", "~", "~"]),
    ];
    both_ways("", &before, &changes, "1:a2:b2 2:old:b").await;
}

#[tokio::test]
async fn a_key_change_moves_the_row_with_what_it_did_not_say() {
    let t = abc();
    let before = [Ev::create(&t, &["1", "a", "b"]), Ev::create(&t, &["2", "c", "d"])];
    let changes = [
        Ev::update(&t, &["1", "new", "~"]),
        Ev::rekey(&t, &["1", "~", "~"], &["3", "~", "moved"]),
        Ev::rekey(&t, &["2", "~", "~"], &["1", "whole", "row"]),
        Ev::update(&t, &["3", "~", "twice"]),
    ];
    both_ways("", &before, &changes, "1:whole:row 3:new:twice").await;
}

#[tokio::test]
async fn truncate_removes_what_came_before_it_only() {
    let t = abc();
    let before = [Ev::create(&t, &["1", "a", "b"])];
    let changes = [
        Ev::create(&t, &["2", "a", "b"]),
        Ev::bare(&t, Op::Truncate),
        Ev::create(&t, &["3", "a", "b"]),
    ];
    both_ways("", &before, &changes, "3:a:b").await;
    // Another table's foreign key forbids TRUNCATE; the rows go all the same.
    let referred = "CREATE TABLE t (id bigint PRIMARY KEY, a text, b text);
        CREATE TABLE child (id int, t bigint REFERENCES t)";
    both_ways(referred, &before, &changes, "3:a:b").await;
}

#[tokio::test]
async fn columns_of_the_subscriber_stay_untouched() {
    let t = abc();
    let setup = "CREATE TABLE t (note text DEFAULT 'mine', b text, id bigint PRIMARY KEY, a text)";
    let mut bench = bench(setup).await;
    bench.apply(&[Ev::create(&t, &["1", "a", "b"]), Ev::create(&t, &["2", "a", "b"])]).await;
    bench.sql("UPDATE t SET note = 'seen'").await;
    let keys = fillers(40);
    let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, "x", "y"])).collect();
    events.push(Ev::update(&t, &["1", "a2", "b2"]));
    events.push(Ev::update(&t, &["2", "~", "b2"]));
    bench.apply(&events).await;
    let found = bench.one("SELECT string_agg(a || b || note, ' ' ORDER BY id) FROM t WHERE id < 9");
    assert_eq!(found.await, "a2b2seen ab2seen");
}

#[tokio::test]
async fn rows_may_swap_a_unique_value_within_a_batch() {
    let t = abc();
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, a text UNIQUE, b text)";
    let keys = fillers(40);
    let mut bench = bench(setup).await;
    let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, k, "y"])).collect();
    events.push(Ev::create(&t, &["1", "x", ""]));
    events.push(Ev::create(&t, &["2", "y", ""]));
    bench.apply(&events).await;
    // As the source did it: 1 gets out of the way first.
    let mut events: Vec<_> = keys.iter().map(|k| Ev::update(&t, &[k, k, "z"])).collect();
    events.push(Ev::update(&t, &["1", "free", ""]));
    events.push(Ev::update(&t, &["2", "x", ""]));
    events.push(Ev::update(&t, &["1", "y", ""]));
    bench.apply(&events).await;
    let found = bench.one("SELECT string_agg(a, ' ' ORDER BY id) FROM t WHERE id < 9").await;
    assert_eq!(found, "y x");
    assert_eq!(bench.one("SELECT count(*) FROM t WHERE b = 'z'").await, "40");
}

#[tokio::test]
async fn parents_go_before_children_and_come_after_them() {
    let setup = "CREATE TABLE parent (id bigint PRIMARY KEY);
        CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent)";
    let subscriptions = vec![all_fields("child", "child"), all_fields("parent", "parent")];
    let mut bench = Bench::new(setup, subscriptions).await;
    let parent = schema("parent", 1, &[("id", "bigint")]);
    let child = schema("child", 1, &[("id", "bigint"), ("parent", "bigint")]);
    let keys = fillers(500);
    let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&parent, &[k])).collect();
    events.extend(keys.iter().map(|k| Ev::create(&child, &[k, k])));
    bench.apply(&events).await;
    let mut events: Vec<_> = keys.iter().map(|k| Ev::delete(&child, &[k, "~"])).collect();
    events.extend(keys.iter().map(|k| Ev::delete(&parent, &[k])));
    bench.apply(&events).await;
    assert_eq!(bench.one("SELECT count(*) FROM parent").await, "0");
}

#[tokio::test]
async fn a_child_may_change_parents_while_the_old_one_goes() {
    let setup = "CREATE TABLE parent (id bigint PRIMARY KEY);
        CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent)";
    let subscriptions = vec![all_fields("child", "child"), all_fields("parent", "parent")];
    let mut bench = Bench::new(setup, subscriptions).await;
    let parent = schema("parent", 1, &[("id", "bigint")]);
    let child = schema("child", 1, &[("id", "bigint"), ("parent", "bigint")]);
    bench.apply(&[Ev::create(&parent, &["1"]), Ev::create(&child, &["1", "1"])]).await;
    let keys = fillers(40);
    let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&parent, &[k])).collect();
    events.push(Ev::create(&parent, &["2"]));
    events.push(Ev::update(&child, &["1", "2"]));
    events.push(Ev::delete(&parent, &["1"]));
    bench.apply(&events).await;
    assert_eq!(bench.one("SELECT parent FROM child").await, "2");
}

#[tokio::test]
async fn constraints_that_may_wait_are_looked_at_by_the_commit() {
    let setup =
        "CREATE TABLE t (id bigint PRIMARY KEY, a text REFERENCES t (b) DEFERRABLE, b text UNIQUE)";
    let t = abc();
    let mut bench = bench(setup).await;
    bench
        .apply(&[Ev::create(&t, &["1", "two", "one"]), Ev::create(&t, &["2", "one", "two"])])
        .await;
    let error = bench.try_apply(&[Ev::create(&t, &["3", "nobody", "x"])], true).await.unwrap_err();
    assert!(matches!(error, SinkError::Data { .. }), "{error:?}");
    assert_eq!(bench.wants().await.unwrap().0, 2);
}

#[tokio::test]
async fn a_copy_that_meets_an_existing_key_goes_on_by_upsert() {
    let t = abc();
    let mut bench = bench("").await;
    let keys = fillers(900);
    let created: Vec<_> = keys[..500].iter().map(|k| Ev::create(&t, &[k, "1", ""])).collect();
    bench.apply(&created).await;
    let read: Vec<_> = keys.iter().map(|k| Ev::whole(&t, Op::Read, &[k, "2", ""])).collect();
    bench.apply(&read).await;
    assert_eq!(bench.one("SELECT count(*) FROM t WHERE a = '2'").await, "900");
}

#[tokio::test]
async fn a_change_of_a_row_that_is_missing_is_an_error_unless_its_snapshot_still_arrives() {
    let t = abc();
    for count in [0, 40] {
        let keys = fillers(count);
        let mut bench = bench("").await;
        let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, "x", "y"])).collect();
        events.push(Ev::update(&t, &["1", "~", "b"]));
        let error = bench.try_apply(&events, true).await.unwrap_err();
        let SinkError::Data { key, what, .. } = &error else { panic!("{error:?}") };
        assert_eq!((key.as_deref(), what.contains("lacks the row")), (Some("1"), true));
        assert_eq!(bench.one("SELECT count(*) FROM t").await, "0");
        bench.wants().await.unwrap();
        bench.settling = true;
        bench.apply(&events).await;
        assert_eq!(bench.one("SELECT count(*) FROM t").await, count.to_string());
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_named_without_its_values() {
    let t = abc();
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, a text CONSTRAINT short CHECK (length(a) < 9), b text)";
    for count in [0, 40, 600] {
        let keys = fillers(count);
        let mut bench = bench(setup).await;
        let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, "x", "y"])).collect();
        events.push(Ev::create(&t, &["7", "my secret value", ""]));
        let error = bench.try_apply(&events, true).await.unwrap_err();
        let SinkError::Data { key, what, help, .. } = &error else { panic!("{error:?}") };
        assert_eq!(key.as_deref(), Some("7"));
        assert!(what.contains("short") && !help.is_empty(), "{what}");
        assert!(!error.to_string().contains("secret"));
        assert_eq!(bench.one("SELECT count(*) FROM t").await, "0");
        // The sink goes on from where it was.
        bench.wants().await.unwrap();
        bench.apply(&events[..count]).await;
    }
}

#[tokio::test]
async fn a_transaction_over_several_applies_is_seen_whole_or_not_at_all() {
    let t = abc();
    let mut bench = bench("").await;
    bench.apply(&[Ev::create(&t, &["1", "a", "b"])]).await;
    let keys = fillers(900);
    let (first, second) = keys.split_at(450);
    for give_up in [true, false] {
        let events: Vec<_> = first.iter().map(|k| Ev::create(&t, &[k, "x", "y"])).collect();
        bench.try_apply(&events, false).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
        let events: Vec<_> = second.iter().map(|k| Ev::create(&t, &[k, "x", "y"])).collect();
        bench.try_apply(&events, false).await.unwrap();
        bench.try_apply(&[Ev::update(&t, &["100", "~", "z"])], false).await.unwrap();
        assert_eq!(bench.one("SELECT count(*) FROM t").await, "1");
        if give_up {
            assert_eq!(bench.wants().await.unwrap().0, 1);
        }
    }
    bench.apply(&[Ev::update(&t, &["1", "~", "z"])]).await;
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "901");
    assert_eq!(bench.one("SELECT count(*) FROM t WHERE b = 'z'").await, "2");
    assert_eq!(bench.one("SELECT next FROM rowcast.checkpoint").await, "903");
}

#[tokio::test]
async fn a_later_apply_of_a_transaction_may_need_its_order() {
    let t = abc();
    let mut bench = bench("CREATE TABLE t (id bigint PRIMARY KEY, a text UNIQUE, b text)").await;
    bench
        .try_apply(&[Ev::create(&t, &["1", "x", ""]), Ev::create(&t, &["2", "y", ""])], false)
        .await
        .unwrap();
    let keys = fillers(40);
    let mut events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, k, "z"])).collect();
    events.push(Ev::update(&t, &["1", "free", ""]));
    events.push(Ev::update(&t, &["2", "x", ""]));
    events.push(Ev::update(&t, &["1", "y", ""]));
    bench.apply(&events).await;
    let found = bench.one("SELECT string_agg(a, ' ' ORDER BY id) FROM t WHERE id < 9").await;
    assert_eq!(found, "y x");
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "42");
}

#[tokio::test]
async fn row_level_security_keeps_copy_away_and_nothing_else() {
    let t = abc();
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, a text, b text);
        ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (true);
        CREATE ROLE careful LOGIN; GRANT ALL ON t TO careful;
        CREATE SCHEMA rowcast AUTHORIZATION careful";
    let mut bench = bench(setup).await;
    let url = bench.server.url(&bench.database).replace("postgres@", "careful@");
    bench.sql("DROP TABLE rowcast.checkpoint, rowcast.member").await;
    bench.sink = rowcast_postgres::PostgresSink::at(&url, bench.spec.clone()).unwrap();
    bench.wants().await.unwrap();
    let keys = fillers(900);
    let events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, "1", ""])).collect();
    bench.apply(&events).await;
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "900");
}

/// An answer that comes in several pieces, because a trigger says something in the middle of it, is read
/// while a statement for another table is prepared.
#[tokio::test]
async fn an_error_that_comes_in_pieces_is_read_whatever_is_waited_for() {
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, a text, b text);
        CREATE TABLE u (id bigint PRIMARY KEY, a text, b text);
        CREATE FUNCTION talk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE NOTICE 'one'; RAISE NOTICE 'two';
            IF NEW.a = 'bad' THEN RAISE check_violation; END IF; RETURN NEW; END $$;
        CREATE TRIGGER talk BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION talk()";
    let subscriptions = vec![all_fields("t", "t"), all_fields("u", "u")];
    let t = abc();
    let u = schema("u", 1, &[("id", "bigint"), ("a", "text"), ("b", "text")]);
    for count in [0, 50, 600] {
        let mut bench = Bench::new(setup, subscriptions.clone()).await;
        let keys = fillers(count);
        let mut events = vec![Ev::create(&t, &["1", "bad", "b"])];
        events.extend(keys.iter().map(|k| Ev::create(&t, &[k, "x", "y"])));
        events.extend(keys.iter().map(|k| Ev::create(&u, &[k, "x", "y"])));
        events.push(Ev::create(&u, &["1", "a", "b"]));
        events.push(Ev::delete(&u, &["1", "~", "~"]));
        let refused = tokio::time::timeout(LONG, bench.try_apply(&events, true)).await;
        let error = refused.expect("it ends").unwrap_err();
        assert!(matches!(error, SinkError::Data { .. }), "{}", chain(&error));
        bench.apply(&events[1..]).await;
        assert_eq!(bench.one("SELECT count(*) FROM u").await, count.to_string());
    }
}

/// A `COPY` that is refused before it takes its first row leaves no answer too many behind.
#[tokio::test]
async fn a_copy_that_is_refused_at_its_start_leaves_the_session_in_step() {
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, a text, b money);
        CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE check_violation; END $$;
        CREATE TRIGGER forbid BEFORE INSERT ON t EXECUTE FUNCTION forbid()";
    let t = schema("t", 1, &[("id", "bigint"), ("a", "text"), ("b", "money")]);
    let mut bench = bench(setup).await;
    let keys = fillers(900);
    let events: Vec<_> = keys.iter().map(|k| Ev::create(&t, &[k, "x", "$1.00"])).collect();
    // Over a new session where the first is not trusted any more: then the row is named.
    let mut tries = 0;
    loop {
        let error = bench.try_apply(&events, true).await.unwrap_err();
        match error {
            SinkError::Data { .. } => break,
            SinkError::Unreachable { .. } if tries < 3 => tries += 1,
            other => panic!("{}", chain(&other)),
        }
        bench.wants().await.unwrap();
    }
    bench.sql("DROP TRIGGER forbid ON t").await;
    bench.apply(&events).await;
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "900");
}
