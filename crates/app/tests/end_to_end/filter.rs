//! Filters: a copy holds exactly the rows that pass, as they come, go, move and are changed in part.

use super::side::{Kind, LONG, Pair};
use rand::Rng;
use std::time::Duration;

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]\n\
    where = \"price > 100 AND (state = 'open' OR state IS NULL)\"";
const ALL: &str = "SELECT id, price, state, note FROM item ORDER BY id";
const PASSING: &str = "SELECT id, price, state, note FROM item \
    WHERE price > 100 AND (state = 'open' OR state IS NULL) ORDER BY id";

/// Notes so long that PostgreSQL stores them apart, and does not send them when they do not change.
async fn pair(kind: Kind, subscribe: &str) -> Pair {
    let pair = Pair::new(kind, kind, PUBLISH, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, price INT, state TEXT, note TEXT)").await;
    if kind == Kind::Postgres {
        pair.from.sql("ALTER TABLE item ALTER COLUMN note SET STORAGE EXTERNAL").await;
    }
    let rows: Vec<_> = (1..=40)
        .map(|id| {
            let state = ["'open'", "'shut'", "NULL"][id % 3];
            format!("({id}, {}, {state}, '{}')", id * 10, id.to_string().repeat(3_000))
        })
        .collect();
    pair.from.sql(&format!("INSERT INTO item VALUES {}", rows.join(", "))).await;
    pair
}

async fn rows_come_and_go(kind: Kind) {
    let pair = pair(kind, SUBSCRIBE).await;
    pair.catch_up().await;
    pair.same(PASSING, ALL).await;
    for step in [
        // In, without a word about the note; out; in and out again at once.
        "UPDATE item SET price = 500 WHERE id < 5",
        "UPDATE item SET price = 5 WHERE id BETWEEN 20 AND 30",
        "UPDATE item SET state = 'shut' WHERE id = 12; UPDATE item SET state = NULL WHERE id = 12",
        "UPDATE item SET state = 'open'",
        // With other keys, in and out.
        "UPDATE item SET id = id + 1000, price = 700 WHERE id BETWEEN 20 AND 22",
        "UPDATE item SET id = id + 2000, state = 'shut' WHERE id BETWEEN 31 AND 33",
        "UPDATE item SET id = id + 1000 WHERE id BETWEEN 34 AND 36",
        "UPDATE item SET price = 800, state = NULL WHERE id > 2000",
        "DELETE FROM item WHERE id = 1; INSERT INTO item VALUES (1, 1, 'open', 'new')",
        "UPDATE item SET price = 101 WHERE id = 1",
        "DELETE FROM item WHERE id > 1000 AND id < 1030",
    ] {
        pair.from.sql(step).await;
        pair.catch_up().await;
        pair.same(PASSING, ALL).await;
    }
}

#[tokio::test]
async fn rows_come_and_go_postgres_to_postgres() {
    rows_come_and_go(Kind::Postgres).await;
}

#[tokio::test]
async fn rows_come_and_go_sqlite_to_sqlite() {
    rows_come_and_go(Kind::Sqlite).await;
}

/// The filter uses a field that the copy does not take, and one that is stored apart.
#[tokio::test]
async fn a_filter_sees_fields_that_the_copy_does_not_take() {
    let subscribe = "[service.order.subscribe.\"shop.item\"]\nfields = [\"id\", \"price\"]\n\
                     where = \"note LIKE '1%' AND price < 1000\"";
    let pair = pair(Kind::Postgres, subscribe).await;
    let passing = "SELECT id, price FROM item WHERE note LIKE '1%' AND price < 1000 ORDER BY id";
    let all = "SELECT id, price FROM item ORDER BY id";
    pair.catch_up().await;
    pair.same(passing, all).await;
    for step in [
        "UPDATE item SET price = 2000 WHERE id IN (1, 2, 10, 11)",
        "UPDATE item SET price = 3 WHERE id IN (1, 2, 10)",
        "UPDATE item SET id = id + 100, price = 4 WHERE id BETWEEN 8 AND 12",
    ] {
        pair.from.sql(step).await;
        pair.catch_up().await;
        pair.same(passing, all).await;
    }
}

async fn killed_while_rows_come_and_go(kind: Kind) {
    let pair = pair(kind, SUBSCRIBE).await;
    let mut rng = rand::rng();
    for round in 0..8 {
        let running = pair.rowcast.start(&["run"]);
        for _ in 0..12 {
            let (id, price) = (rng.random_range(1..60), rng.random_range(0..200));
            let state = ["'open'", "'shut'", "NULL"][rng.random_range(0..3)];
            let sql = match rng.random_range(0..5) {
                0 => format!("DELETE FROM item WHERE id = {id}"),
                1 => format!(
                    "DELETE FROM item WHERE id = {id}; \
                     INSERT INTO item VALUES ({id}, {price}, {state}, 'round {round}')"
                ),
                2 => format!(
                    "DELETE FROM item WHERE id = {id}; \
                     UPDATE item SET id = {id}, price = {price} \
                     WHERE id = (SELECT max(id) FROM item WHERE id <> {id})"
                ),
                _ => format!("UPDATE item SET price = {price}, state = {state} WHERE id = {id}"),
            };
            pair.from.sql(&sql).await;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
        }
        let ended = running.kill_9().await;
        assert_eq!(ended.code(), None, "it ended before it was killed: {}", ended.said());
    }
    pair.catch_up().await;
    pair.from.sql("UPDATE item SET price = 150, state = 'open' WHERE id < 30").await;
    pair.catch_up().await;
    pair.same(PASSING, ALL).await;
}

#[tokio::test]
async fn killed_while_rows_come_and_go_postgres_to_postgres() {
    killed_while_rows_come_and_go(Kind::Postgres).await;
}

#[tokio::test]
async fn killed_while_rows_come_and_go_sqlite_to_sqlite() {
    killed_while_rows_come_and_go(Kind::Sqlite).await;
}

#[tokio::test]
async fn a_filter_that_does_not_fit_is_shown_by_check_and_pauses_its_route() {
    let subscribe = "[service.order.subscribe.\"shop.item\"]\nwhere = \"price > 1 AND stte = 'x'\"";
    let pair = pair(Kind::Sqlite, subscribe).await;
    let checked = pair.rowcast.run(LONG, &["check"]).await;
    assert_eq!(checked.code(), Some(1), "{}", checked.said());
    assert!(checked.stdout.contains("has no field \"stte\""), "{}", checked.said());
    let help = checked.stdout.lines().skip_while(|l| !l.contains("help: price > 1"));
    let lines: Vec<&str> = help.take(2).collect();
    let place = lines[0].find("stte").unwrap();
    assert_eq!(lines[1].find('^'), Some(place), "{}", checked.said());
    let paused = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(paused.code(), Some(1), "{}", paused.said());
    assert!(paused.stderr.contains("SINK-SCHEMA"), "{}", paused.said());
    // Mended, it goes on, and nothing is missing.
    pair.configure(PUBLISH, SUBSCRIBE);
    pair.catch_up().await;
    pair.same(PASSING, ALL).await;
}
