//! P10 prove it: `verify` finds every row that differs and no other, while both sides go on; what it
//! mends is as the source has it.

use super::bank::{Traffic, bank};
use super::side::{Kind, LONG, Pair};
use rowcast_testkit::process::Finished;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::sync::Arc;

const PAIRS: [(Kind, Kind); 4] = [
    (Kind::Postgres, Kind::Postgres),
    (Kind::Postgres, Kind::Sqlite),
    (Kind::Sqlite, Kind::Postgres),
    (Kind::Sqlite, Kind::Sqlite),
];

impl Pair {
    async fn verify(&self, further: &[&str]) -> (Option<i32>, Json) {
        let ended = self
            .rowcast
            .run(LONG, &[&["verify", "--json", "--timeout", "5m"], further].concat())
            .await;
        (ended.code(), answer(&ended))
    }
}

fn answer(ended: &Finished) -> Json {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("no JSON: {}", ended.said()))
}

/// What is listed of a copy: kind, the key's values, and the columns that differ.
fn listed(answer: &Json, into: &str) -> BTreeSet<(String, String, String)> {
    let copies = answer["routes"][0]["copies"].as_array().unwrap();
    let copy = copies.iter().find(|c| c["into"] == into).unwrap();
    let rows = copy["listed"].as_array().unwrap();
    assert_eq!(copy["differences"], rows.len(), "{answer}");
    let row = |row: &Json| {
        let text = |v: &Json| v.as_str().unwrap_or("NULL").to_string();
        let key = row["key"].as_object().unwrap().values().map(text).collect::<Vec<_>>();
        let columns = row["columns"].as_array().unwrap().iter().map(text).collect::<Vec<_>>();
        (text(&row["kind"]), key.join(" "), columns.join(" "))
    };
    rows.iter().map(row).collect()
}

fn expected(rows: &[(&str, &str, &str)]) -> BTreeSet<(String, String, String)> {
    rows.iter().map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string())).collect()
}

fn assert_identical((code, answer): &(Option<i32>, Json)) {
    assert_eq!((*code, &answer["identical"]), (Some(0), &Json::Bool(true)), "{answer}");
}

/// While a writer writes: an identical copy is identical; rows changed by hand are named, all and
/// only those; what was mended stays mended.
async fn found_and_mended_under_load(from: Kind, to: Kind) {
    let mut pair = bank(from, to, 20).await;
    pair.from
        .sql("INSERT INTO entry VALUES (-1, 0, 0, 'kept', 'x'), (-2, 0, 0, NULL, 'x'), (-3, 0, 0, 'gone', 'x')")
        .await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    let side = Arc::new(pair.from);
    pair.from = super::side::Side::new(Kind::Sqlite).await;
    let traffic = Traffic::start(side.clone(), 20, rand::random());
    for _ in 0..3 {
        assert_identical(&pair.verify(&[]).await);
    }
    pair.to
        .sql(
            "UPDATE entry_copy SET remark = 'changed', amount = 7 WHERE id = -1; \
             UPDATE entry_copy SET remark = '' WHERE id = -2; \
             DELETE FROM entry_copy WHERE id = -3; \
             INSERT INTO entry_copy (id, account, amount, remark) VALUES (-4, 0, 0, 'by hand')",
        )
        .await;
    let (code, answer) = pair.verify(&[]).await;
    assert_eq!(code, Some(1), "{answer}");
    let wanted = [
        ("different", "-1", "amount remark"),
        ("different", "-2", "remark"),
        ("missing", "-3", ""),
        ("extra", "-4", ""),
    ];
    assert_eq!(listed(&answer, "entry_copy"), expected(&wanted), "{answer}");
    assert!(listed(&answer, "account_copy").is_empty(), "{answer}");
    let repaired = pair.verify(&["--repair"]).await;
    assert_eq!((repaired.0, &repaired.1["identical"]), (Some(0), &Json::Bool(true)));
    assert_eq!(listed(&repaired.1, "entry_copy"), expected(&wanted));
    assert_identical(&pair.verify(&[]).await);
    traffic.goes_on(20).await;
    traffic.stop().await;
    running.terminate(LONG).await.good();
    pair.from = Arc::into_inner(side).unwrap();
    pair.catch_up().await;
    super::bank::assert_same(&pair).await;
}

#[tokio::test]
async fn changed_rows_are_found_and_mended_under_load_postgres_to_postgres() {
    found_and_mended_under_load(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn changed_rows_are_found_and_mended_under_load_postgres_to_sqlite() {
    found_and_mended_under_load(Kind::Postgres, Kind::Sqlite).await;
}

#[tokio::test]
async fn changed_rows_are_found_and_mended_under_load_sqlite_to_postgres() {
    found_and_mended_under_load(Kind::Sqlite, Kind::Postgres).await;
}

#[tokio::test]
async fn changed_rows_are_found_and_mended_under_load_sqlite_to_sqlite() {
    found_and_mended_under_load(Kind::Sqlite, Kind::Sqlite).await;
}

/// Rows that are hammered by hand while the source changes the very same rows.
#[tokio::test]
async fn a_mend_never_overwrites_a_newer_change() {
    let mut pair = bank(Kind::Postgres, Kind::Postgres, 5).await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    let side = Arc::new(pair.from);
    pair.from = super::side::Side::new(Kind::Sqlite).await;
    let traffic = Traffic::start(side.clone(), 5, rand::random());
    for round in 0..6 {
        let tamper = format!("UPDATE account_copy SET note = 'tampered {round}'");
        pair.to.by_hand("account_copy", &tamper).await;
        assert_identical(&pair.verify(&["--repair"]).await);
    }
    traffic.stop().await;
    running.terminate(LONG).await.good();
    pair.from = Arc::into_inner(side).unwrap();
    pair.catch_up().await;
    super::bank::assert_same(&pair).await;
}

#[tokio::test]
async fn a_stopped_instance_is_verified_unless_changes_wait() {
    for (from, to) in PAIRS {
        let pair = bank(from, to, 3).await;
        pair.catch_up().await;
        assert_identical(&pair.verify(&[]).await);
        pair.to.sql("DELETE FROM account_copy WHERE id = 1").await;
        let (code, answer) = pair.verify(&["--repair"]).await;
        assert_eq!(listed(&answer, "account_copy"), expected(&[("missing", "1", "")]));
        assert_eq!(code, Some(0), "{answer}");
        super::bank::assert_same_accounts(&pair).await;
        pair.from.sql("UPDATE account SET note = 'later' WHERE id = 2").await;
        let waits = pair.rowcast.run(LONG, &["verify"]).await;
        assert_eq!(waits.code(), Some(1), "{}", waits.said());
        assert!(waits.stderr.contains("nobody has captured yet"), "{}", waits.said());
    }
}

#[tokio::test]
async fn nothing_copied_yet_and_wrong_names_are_said_so() {
    let pair = bank(Kind::Sqlite, Kind::Sqlite, 1).await;
    let nothing = pair.rowcast.run(LONG, &["verify"]).await;
    assert_eq!(nothing.code(), Some(1), "{}", nothing.said());
    assert!(nothing.stderr.contains("cannot be compared yet"), "{}", nothing.said());
    pair.catch_up().await;
    let wrong = pair.rowcast.run(LONG, &["verify", "--route", "shop:nobody"]).await;
    assert_eq!(wrong.code(), Some(2), "{}", wrong.said());
}

#[tokio::test]
async fn odd_names_and_moved_keys_are_compared() {
    for (from, to) in PAIRS {
        let publish = "[service.shop.publish.\"Odd. Entity 🎉\"]\ntable = '\"Od\"\"d. Täble 🎉\"'";
        let subscribe = "[service.order.subscribe.\"shop.Odd. Entity 🎉\"]\ninto = '\"Co\"\"py. 🎉\"'\n\
             fields = { \"Id 🎉\" = \"I\\\"d\", \"no. te\" = \"No. te\" }";
        let pair = Pair::new(from, to, publish, subscribe).await;
        let table = "\"Od\"\"d. Täble 🎉\"";
        pair.from
            .sql(&format!(
                "CREATE TABLE {table} (\"I\"\"d\" TEXT, \"No. te\" TEXT, n INT, \
                 PRIMARY KEY (n, \"I\"\"d\"))"
            ))
            .await;
        // The key is not taken whole: that cannot be compared, nor copied.
        let refused = pair.rowcast.run(LONG, &["check"]).await;
        assert_eq!(refused.code(), Some(1), "{}", refused.said());
        pair.configure(publish, &subscribe.replace("fields = { ", "fields = { n = \"n\", "));
        pair.from
            .sql(&format!(
                "INSERT INTO {table} VALUES ('a\tb', NULL, 1), ('', '', 1), ('NULL', 'x', 2)"
            ))
            .await;
        pair.catch_up().await;
        pair.from.sql(&format!("UPDATE {table} SET n = n + 10 WHERE n = 1")).await;
        pair.catch_up().await;
        assert_identical(&pair.verify(&[]).await);
        pair.to.sql("UPDATE \"Co\"\"py. 🎉\" SET \"Id 🎉\" = 'moved' WHERE n = 2").await;
        let (_, answer) = pair.verify(&["--repair"]).await;
        let wanted = [("extra", "moved 2", ""), ("missing", "NULL 2", "")];
        assert_eq!(listed(&answer, "\"Co\"\"py. 🎉\""), expected(&wanted), "{answer}");
        assert_identical(&pair.verify(&[]).await);
    }
}

/// Large values that an update leaves out are compared as what they were, also while they change.
#[tokio::test]
async fn unchanged_large_values_are_compared_under_load() {
    let publish = "[service.shop.publish.doc]";
    let subscribe = "[service.order.subscribe.\"shop.doc\"]";
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = Pair::new(Kind::Postgres, to, publish, subscribe).await;
        pair.from
            .sql(
                "CREATE TABLE doc (id int PRIMARY KEY, n int, body text); \
                 ALTER TABLE doc ALTER COLUMN body SET STORAGE EXTERNAL; \
                 INSERT INTO doc SELECT i, 0, repeat(md5(i::text), 200) FROM generate_series(1, 40) i",
            )
            .await;
        let running = pair.rowcast.start(&["run"]);
        pair.live().await;
        let write = async {
            for n in 0..150 {
                let id = n % 40 + 1;
                pair.from
                    .sql(&format!(
                        "UPDATE doc SET n = n + 1 WHERE id % 7 = {n} % 7; \
                         UPDATE doc SET id = id + 1000 WHERE id = {id}; \
                         UPDATE doc SET id = id - 1000 WHERE id = {id} + 1000 AND {n} % 3 > 0; \
                         UPDATE doc SET body = repeat(md5('{n}'), 200) WHERE id = {id}"
                    ))
                    .await;
            }
        };
        let look = async {
            for _ in 0..6 {
                assert_identical(&pair.verify(&[]).await);
            }
        };
        tokio::join!(write, look);
        let all = "SELECT id, n, body FROM doc ORDER BY id";
        pair.until_same(all, all).await;
        pair.to.sql("UPDATE doc SET body = 'cut' WHERE id = (SELECT min(id) FROM doc)").await;
        let (_, answer) = pair.verify(&["--repair", "--values"]).await;
        assert_eq!(answer["routes"][0]["copies"][0]["listed"][0]["values"]["body"]["found"], "cut");
        assert_identical(&pair.verify(&[]).await);
        running.terminate(LONG).await.good();
    }
}

/// From one kind of database to the other, a value is compared as the copy's own column shows it.
#[tokio::test]
async fn values_of_another_kind_of_database_are_compared_as_the_copy_shows_them() {
    let publish = "[service.shop.publish.thing]";
    let subscribe = "[service.order.subscribe.\"shop.thing\"]";
    let pair = Pair::new(Kind::Sqlite, Kind::Postgres, publish, subscribe).await;
    pair.from
        .sql(
            "CREATE TABLE thing (id INTEGER PRIMARY KEY, flag BOOLEAN, price DECIMAL(10,2), \
             made DATETIME, data BLOB, free, score REAL, doc JSON, uid UUID); \
             INSERT INTO thing VALUES \
             (1, 1, 10.50, '2026-11-20 12:00', x'00ff', 1, 3, '{\"a\":  1}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'), \
             (2, 'true', '12345678901234567890.10', 1763640000, NULL, 1.0, 9e999, NULL, NULL), \
             (3, 'no', 1e30, 2461000.5, x'', 'it''s \\ \t', 1e-300, '\"x\"', NULL), \
             (4, 0, -0.5, '', NULL, '', 0.1, '1.50', NULL)",
        )
        .await;
    pair.catch_up().await;
    assert_identical(&pair.verify(&[]).await);
    pair.to.sql("UPDATE thing SET price = price + 1, doc = '2' WHERE id IN (1, 4)").await;
    pair.to.sql("DELETE FROM thing WHERE id = 2").await;
    let (code, answer) = pair.verify(&["--repair"]).await;
    let wanted =
        [("different", "1", "price doc"), ("different", "4", "price doc"), ("missing", "2", "")];
    assert_eq!((code, listed(&answer, "thing")), (Some(0), expected(&wanted)), "{answer}");

    let pair = Pair::new(Kind::Postgres, Kind::Sqlite, publish, subscribe).await;
    pair.from
        .sql(
            "CREATE TABLE thing (id bigint PRIMARY KEY, flag boolean, price numeric, made timestamptz, \
             data bytea, r real, d double precision, doc jsonb, list int[]); \
             INSERT INTO thing VALUES \
             (1, true, 10.50, now(), '\\x00ff', 0.1, 'NaN', '{\"a\": 1}', '{1,2}'), \
             (2, false, 'NaN', 'infinity', '\\x', 'Infinity', 1e300, 'null', '{}'), \
             (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
             (9007199254740993, NULL, 0.00, '0044-03-15 00:00:00+00 BC', NULL, 3, -0.0, '[]', NULL)",
        )
        .await;
    // One column was there before, declared so that it makes numbers of booleans' texts.
    pair.to
        .sql(
            "CREATE TABLE thing (id INTEGER PRIMARY KEY, flag TEXT, price TEXT, made TEXT, data BLOB, \
             r REAL, d REAL, doc TEXT, list TEXT, mine TEXT DEFAULT 'own')",
        )
        .await;
    pair.catch_up().await;
    assert_identical(&pair.verify(&[]).await);
    pair.to.sql("UPDATE thing SET d = 2, data = 'text', mine = 'still' WHERE id = 2").await;
    pair.to.sql("INSERT INTO thing (id) VALUES (77)").await;
    let (code, answer) = pair.verify(&["--repair"]).await;
    let wanted = [("different", "2", "data d"), ("extra", "77", "")];
    assert_eq!((code, listed(&answer, "thing")), (Some(0), expected(&wanted)), "{answer}");
    assert_eq!(pair.to.value("SELECT mine FROM thing WHERE id = 2").await, "still");
}

/// What a copy must hold is what left its publisher; a mend brings no clear value and no row that
/// the filter keeps out.
#[tokio::test]
async fn masks_and_filters_hold_for_what_is_compared_and_mended() {
    for (from, to) in PAIRS {
        let publish = "mask_key = \"a key that nobody guesses\"\n[service.shop.publish.person]\n\
                       mask = { email = \"sha256\", note = \"null\" }";
        let subscribe = "[service.order.subscribe.\"shop.person\"]\nwhere = \"visits > 2\"";
        let pair = Pair::new(from, to, publish, subscribe).await;
        let table = "CREATE TABLE person (email VARCHAR(80) PRIMARY KEY NOT NULL, note TEXT, \
                     visits BIGINT)";
        pair.from.sql(table).await;
        for n in 0..6 {
            pair.from.sql(&format!("INSERT INTO person VALUES ('p{n}', 'geheim', {n})")).await;
        }
        pair.catch_up().await;
        let (code, answer) = pair.verify(&[]).await;
        assert_eq!(code, Some(0), "{from:?} to {to:?}: {answer}");
        pair.to.sql("DELETE FROM person WHERE visits = 3").await;
        pair.to.sql("UPDATE person SET visits = 99 WHERE visits = 4").await;
        let (code, answer) = pair.verify(&["--repair"]).await;
        assert_eq!(code, Some(0), "{from:?} to {to:?}: {answer}");
        let visits = pair.to.sql("SELECT visits FROM person ORDER BY visits").await;
        assert_eq!(visits.concat(), ["3", "4", "5"].map(|v| Some(v.to_string())));
        let clear = "SELECT count(*) FROM person WHERE note = 'geheim' OR email LIKE 'p%'";
        assert_eq!(pair.to.value(clear).await, "0", "{from:?} to {to:?}");
    }
}
