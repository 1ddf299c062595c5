//! Tables that change their shape while they are copied: nothing wrong is written, nothing is lost.

use super::side::{Kind, LONG, Pair, Side};
use rowcast_testkit::wait::eventually;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]";

async fn pair(from: Kind, to: Kind, subscribe: &str) -> Pair {
    let pair = Pair::new(from, to, PUBLISH, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT, size INT)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2)").await;
    pair.catch_up().await;
    pair
}

#[tokio::test]
async fn an_added_column_reaches_those_who_asked_for_all() {
    for from in [Kind::Postgres, Kind::Sqlite] {
        for to in [Kind::Postgres, Kind::Sqlite] {
            let pair = pair(from, to, SUBSCRIBE).await;
            pair.from.sql("ALTER TABLE item ADD COLUMN color TEXT DEFAULT 'grey'").await;
            pair.from.sql("INSERT INTO item VALUES (3, 'three', 3, 'red')").await;
            pair.from.sql("UPDATE item SET name = 'uno' WHERE id = 1").await;
            pair.catch_up().await;
            let all = "SELECT id, name, size, color FROM item ORDER BY id";
            pair.same(all, all).await;
        }
    }
}

#[tokio::test]
async fn a_dropped_field_that_is_named_pauses_its_route_and_says_which() {
    let subscribe = format!("{SUBSCRIBE}\nfields = [\"id\", \"size\"]");
    let pair = pair(Kind::Postgres, Kind::Postgres, &subscribe).await;
    pair.from.sql("ALTER TABLE item DROP COLUMN size").await;
    pair.from.sql("INSERT INTO item VALUES (3, 'three')").await;
    let paused = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(paused.code(), Some(1), "{}", paused.said());
    assert!(paused.stderr.contains("SINK-SCHEMA"), "{}", paused.said());
    assert!(paused.stderr.contains("\"size\""), "{}", paused.said());
    assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "2");
    pair.configure(PUBLISH, &format!("{SUBSCRIBE}\nfields = [\"id\"]"));
    pair.catch_up().await;
    let ids = "SELECT id FROM item ORDER BY id";
    pair.same(ids, ids).await;
}

#[tokio::test]
async fn a_retyped_column_pauses_its_route_until_the_copy_is_retyped() {
    let pair = pair(Kind::Postgres, Kind::Postgres, SUBSCRIBE).await;
    pair.from.sql("ALTER TABLE item ALTER COLUMN size TYPE text").await;
    pair.from.sql("INSERT INTO item VALUES (3, 'three', 'large')").await;
    let paused = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(paused.code(), Some(1), "{}", paused.said());
    assert!(paused.stderr.contains("SINK-SCHEMA"), "{}", paused.said());
    assert!(paused.stderr.contains("size"), "{}", paused.said());
    pair.to.sql("ALTER TABLE item ALTER COLUMN size TYPE text").await;
    pair.catch_up().await;
    let all = "SELECT id, name, size FROM item ORDER BY id";
    pair.same(all, all).await;
}

#[tokio::test]
async fn a_dropped_table_is_told_and_what_was_copied_stays() {
    for from in [Kind::Postgres, Kind::Sqlite] {
        let pair = pair(from, Kind::Sqlite, SUBSCRIBE).await;
        pair.from.sql("INSERT INTO item VALUES (3, 'three', 3)").await;
        pair.catch_up().await;
        pair.from.sql("DROP TABLE item").await;
        let told = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
        assert_eq!(told.code(), Some(1), "{}", told.said());
        assert!(told.stderr.contains("SOURCE-SCHEMA"), "{}", told.said());
        assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "3");
    }
}

#[tokio::test]
async fn a_field_that_is_published_again_brings_what_changed_meanwhile() {
    for from in [Kind::Postgres, Kind::Sqlite] {
        for to in [Kind::Postgres, Kind::Sqlite] {
            let wide = format!("{PUBLISH}\nfields = [\"id\", \"name\", \"size\"]");
            let narrow = format!("{PUBLISH}\nfields = [\"id\", \"name\"]");
            println!("{from:?} to {to:?}");
            let pair = pair(from, to, SUBSCRIBE).await;
            for publish in [&narrow, &wide, &narrow] {
                pair.configure(publish, SUBSCRIBE);
                pair.catch_up().await;
                pair.from.sql("UPDATE item SET size = size + 1").await;
                pair.catch_up().await;
            }
            for publish in [wide.as_str(), PUBLISH] {
                pair.configure(publish, SUBSCRIBE);
                pair.catch_up().await;
                let all = "SELECT id, name, size FROM item ORDER BY id";
                pair.same(all, all).await;
            }
        }
    }
}

const PAIRS: [(Kind, Kind); 3] = [
    (Kind::Postgres, Kind::Postgres),
    (Kind::Postgres, Kind::Sqlite),
    (Kind::Sqlite, Kind::Sqlite),
];

/// Somebody who writes all the time, to columns that nobody changes, whatever the table is like.
struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(side: Arc<Side>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "joined in `stop`")]
        let task = tokio::spawn(async move {
            let mut writes = 0;
            while !stopped.load(Ordering::Relaxed) || writes == 0 {
                writes += 1;
                let id = 100 + writes % 40;
                side.sql(&format!("DELETE FROM item WHERE id = {id}")).await;
                side.sql(&format!("INSERT INTO item (id) VALUES ({id})")).await;
            }
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

/// Alters the publisher's table under load; afterwards the copy, by these columns, is what the table
/// is.
async fn altered(from: Kind, to: Kind, alter: &str, columns: &str) {
    println!("{from:?} to {to:?}: {alter}");
    let mut pair = pair(from, to, SUBSCRIBE).await;
    let nobody = Side::new(Kind::Sqlite).await;
    let source = Arc::new(std::mem::replace(&mut pair.from, nobody));
    let mut alter = alter.to_string();
    if from == Kind::Sqlite && alter.contains("DROP COLUMN") {
        // SQLite refuses it as long as a trigger speaks of the column.
        let triggers = source.sql("SELECT name FROM sqlite_schema WHERE type = 'trigger'").await;
        let drop = triggers.iter().map(|t| format!("DROP TRIGGER {}; ", t[0].as_deref().unwrap()));
        alter.insert_str(0, &drop.collect::<String>());
    }
    let running = pair.rowcast.start(&["run"]);
    let writer = Writer::start(source.clone());
    source.sql(&alter).await;
    let all = format!("SELECT {columns} FROM item WHERE id < 100 ORDER BY id");
    eventually(LONG, "the copy", async || {
        let there = source.sql(&all).await;
        pair.to.look(&all).await == Ok(there)
    })
    .await;
    writer.stop().await;
    running.terminate(LONG).await.good();
    pair.from = Arc::into_inner(source).unwrap();
    pair.catch_up().await;
    let all = format!("SELECT {columns} FROM item ORDER BY id");
    pair.same(&all, &all).await;
}

#[tokio::test]
async fn a_renamed_column_is_a_new_one_with_its_values_for_who_takes_all() {
    for (from, to) in PAIRS {
        let alter = "ALTER TABLE item RENAME COLUMN name TO title";
        altered(from, to, alter, "id, title, size").await;
    }
}

#[tokio::test]
async fn a_dropped_column_stays_in_the_copy_and_the_others_go_on() {
    for (from, to) in PAIRS {
        altered(from, to, "ALTER TABLE item DROP COLUMN name", "id, size").await;
    }
}

#[tokio::test]
async fn a_table_swapped_under_its_name_is_copied_instead() {
    const SWAP: &str = "CREATE TABLE item2 (size INT, name TEXT, extra TEXT, id INT PRIMARY KEY); \
                        INSERT INTO item2 VALUES (7, 'seven', 'x', 7), (8, 'eight', NULL, 8); \
                        ALTER TABLE item RENAME TO item1; ALTER TABLE item2 RENAME TO item";
    for (from, to) in PAIRS {
        let swap = match from {
            Kind::Postgres => format!("BEGIN; {SWAP}; COMMIT"),
            Kind::Sqlite => SWAP.into(),
        };
        altered(from, to, &swap, "id, name, size, extra").await;
    }
}

#[tokio::test]
async fn a_table_dropped_and_made_again_is_copied_instead() {
    const AGAIN: &str = "DROP TABLE item; CREATE TABLE item (id INT PRIMARY KEY, name TEXT, size INT); \
                         INSERT INTO item VALUES (2, 'second', 20), (5, 'fifth', 50)";
    for (from, to) in PAIRS {
        let again = match from {
            Kind::Postgres => format!("BEGIN; {AGAIN}; COMMIT"),
            Kind::Sqlite => AGAIN.into(),
        };
        altered(from, to, &again, "id, name, size").await;
    }
}

#[tokio::test]
async fn values_that_an_alteration_computed_arrive() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let uuid = "ALTER TABLE item ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()";
        altered(Kind::Postgres, to, uuid, "id, name, token").await;
        let twice = "ALTER TABLE item ALTER COLUMN size TYPE int USING size * 2";
        altered(Kind::Postgres, to, twice, "id, name, size").await;
    }
}

#[tokio::test]
async fn a_new_value_of_an_enum_parks_its_rows_until_the_copy_has_it() {
    let (from, to) = (Side::new(Kind::Postgres).await, Side::new(Kind::Postgres).await);
    for side in [&from, &to] {
        side.sql("CREATE TYPE mood AS ENUM ('calm', 'cross')").await;
    }
    let mut pair = Pair::new(Kind::Sqlite, Kind::Sqlite, PUBLISH, SUBSCRIBE).await;
    (pair.from, pair.to) = (from, to);
    pair.configure(PUBLISH, SUBSCRIBE);
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, mood mood)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 'calm'), (2, 'cross')").await;
    pair.catch_up().await;
    let running = pair.rowcast.start(&["run"]);
    pair.from.sql("ALTER TYPE mood ADD VALUE 'merry'").await;
    pair.from.sql("UPDATE item SET mood = 'merry' WHERE id = 1").await;
    pair.from.sql("INSERT INTO item VALUES (3, 'calm'), (4, 'merry')").await;
    let count = "SELECT count(*) FROM item";
    pair.to.until(count, "3").await;
    eventually(LONG, "the parked ones", async || {
        let status = pair.rowcast.run(LONG, &["status", "--json"]).await;
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        status["routes"][0]["parked"] == 2 && status["routes"][0]["state"] == "live"
    })
    .await;
    let shown = pair.rowcast.run(LONG, &["parked", "list"]).await;
    assert!(shown.stdout.contains("ALTER TYPE"), "{}", shown.said());
    let checked = pair.rowcast.run(LONG, &["check"]).await.good();
    assert!(checked.stdout.contains("lacks 'merry'"), "{}", checked.said());
    let fixed = pair.rowcast.run(LONG, &["check", "--fix"]).await.good();
    assert!(fixed.stderr.contains("ADD VALUE 'merry' AFTER 'cross'"), "{}", fixed.said());
    let route = format!("{}:order", pair.service);
    eventually(LONG, "what was parked", async || {
        let _ = pair.rowcast.run(LONG, &["parked", "retry", &route, "--all"]).await;
        pair.to.value(count).await == "4"
    })
    .await;
    running.terminate(LONG).await.good();
    let all = "SELECT id, mood FROM item ORDER BY id";
    pair.same(all, all).await;
}
