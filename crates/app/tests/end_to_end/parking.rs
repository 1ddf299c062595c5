//! One bad row stops only its key, through kill -9; an outage parks nothing.

use super::side::{Kind, LONG, Pair};
use rowcast_testkit::wait::eventually;

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]";
const ALL: &str = "SELECT id, name FROM item ORDER BY id";

/// A copy whose table refuses names of ten characters and more.
async fn narrow(from: Kind, to: Kind) -> Pair {
    let pair = Pair::new(from, to, PUBLISH, SUBSCRIBE).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)").await;
    let table = "CREATE TABLE item (id INT PRIMARY KEY, name TEXT, \
                 CONSTRAINT short CHECK (length(name) < 10))";
    pair.to.sql(table).await;
    pair
}

/// Takes the rule away.
async fn widen(pair: &Pair, to: Kind) {
    if to == Kind::Postgres {
        pair.to.sql("ALTER TABLE item DROP CONSTRAINT short").await;
    } else {
        pair.to
            .sql(
                "CREATE TABLE wide (id INT PRIMARY KEY, name TEXT); \
                 INSERT INTO wide SELECT id, name FROM item; DROP TABLE item; \
                 ALTER TABLE wide RENAME TO item",
            )
            .await;
    }
}

async fn bad_rows_park_their_keys_only(from: Kind, to: Kind) {
    let pair = narrow(from, to).await;
    pair.from.sql("INSERT INTO item VALUES (1, 'one'), (2, 'two'), (7, 'seven')").await;
    pair.catch_up().await;
    for round in 0..6 {
        let running = pair.rowcast.start(&["run"]);
        for i in 0..30 {
            let id = 100 + round * 100 + i;
            let name = if i % 10 == 7 { "a name that is too long" } else { "fits" };
            let both = format!(
                "INSERT INTO item VALUES ({id}, '{name}'); \
                 UPDATE item SET name = 'n{id}' WHERE id = 1"
            );
            pair.from.sql(&both).await;
        }
        pair.from.sql("UPDATE item SET name = 'another long name' WHERE id = 7").await;
        running.kill_9().await;
    }
    pair.catch_up().await;
    let good = "SELECT id, name FROM item WHERE length(name) < 10 ORDER BY id";
    let not_seven = "SELECT id, name FROM item WHERE id <> 7 ORDER BY id";
    pair.same(good, not_seven).await;
    assert_eq!(pair.to.value("SELECT name FROM item WHERE id = 7").await, "seven");
    let running = pair.rowcast.start(&["run"]);
    let parked = async |n: usize| {
        eventually(LONG, "the parked keys", async || {
            let list = pair.rowcast.run(LONG, &["parked", "list", "--json"]).await;
            list.stdout.matches("\"SINK-DATA\"").count() == n
        })
        .await;
    };
    parked(19).await;
    let route = format!("{}:order", pair.service);
    let show = pair.rowcast.run(LONG, &["parked", "show", &route, "item", "107"]).await;
    assert!(show.stdout.contains("a name that is too long"), "{}", show.said());
    let retry = pair.rowcast.run(LONG, &["parked", "retry", &route, "--all"]).await;
    assert_eq!(retry.code(), Some(1), "{}", retry.said());
    let refused = pair.rowcast.run(LONG, &["parked", "drop", &route, "item", "107"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    widen(&pair, to).await;
    // Whether or not they were tried again by themselves a moment before, and again when none is left.
    // In SQLite that took another table, so the copy is first built again.
    eventually(LONG, "parked keys that are tried again", async || {
        pair.rowcast.run(LONG, &["parked", "retry", &route, "--all"]).await.code() == Some(0)
    })
    .await;
    parked(0).await;
    let nothing = pair.rowcast.run(LONG, &["parked", "retry", &route, "--all"]).await.good();
    assert!(nothing.stdout.contains("nothing is parked"), "{}", nothing.said());
    let named = pair.rowcast.run(LONG, &["parked", "retry", &route, "item", "107"]).await;
    assert_eq!(named.code(), Some(1), "{}", named.said());
    assert!(named.stderr.contains("nothing like that is parked"), "{}", named.said());
    pair.until_same(ALL, ALL).await;
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn bad_rows_park_their_keys_only_from_postgres_to_postgres() {
    bad_rows_park_their_keys_only(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn bad_rows_park_their_keys_only_from_sqlite_to_sqlite() {
    bad_rows_park_their_keys_only(Kind::Sqlite, Kind::Sqlite).await;
}

#[tokio::test]
async fn bad_rows_park_their_keys_only_from_postgres_to_sqlite() {
    bad_rows_park_their_keys_only(Kind::Postgres, Kind::Sqlite).await;
}

/// A child whose parent comes later waits for it, whether its rule is looked at by each statement or
/// by the commit; what is not about it goes on.
#[tokio::test]
async fn a_child_heals_once_its_parent_comes() {
    let publish = "[service.shop.publish.parent]\n[service.shop.publish.child]";
    let subscribe = "[service.order.subscribe.\"shop.parent\"]\n\
                     [service.order.subscribe.\"shop.child\"]";
    for rule in ["", " DEFERRABLE INITIALLY DEFERRED"] {
        let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
        let parent = "CREATE TABLE parent (id INT PRIMARY KEY)";
        let child = "CREATE TABLE child (id INT PRIMARY KEY, parent INT, n INT)";
        pair.from.sql(&format!("{parent}; {child}")).await;
        let refers =
            format!("ALTER TABLE child ADD FOREIGN KEY (parent) REFERENCES parent (id){rule}");
        pair.to.sql(&format!("{parent}; {child}; {refers}")).await;
        pair.from.sql("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1, 1)").await;
        pair.catch_up().await;
        // Alone, and among as many as are written in sets.
        pair.from.sql("INSERT INTO child VALUES (2, 9, 1)").await;
        pair.from
            .sql(
                "INSERT INTO child SELECT i, CASE WHEN i % 400 = 7 THEN 9 ELSE 1 END, 1 \
                 FROM generate_series(10, 1009) i",
            )
            .await;
        pair.from.sql("UPDATE child SET n = 2 WHERE id IN (1, 2)").await;
        pair.catch_up().await;
        let children = "SELECT id, parent, n FROM child ORDER BY id";
        let fitting = "SELECT id, parent, n FROM child WHERE parent = 1 ORDER BY id";
        pair.same(fitting, children).await;
        assert_eq!(pair.to.value("SELECT count(*) FROM rowcast.parked").await, "3");
        pair.from.sql("INSERT INTO parent VALUES (9)").await;
        let running = pair.rowcast.start(&["run"]);
        pair.to.until("SELECT count(*) FROM rowcast.parked", "0").await;
        running.terminate(LONG).await.good();
        pair.same(children, children).await;
    }
}

/// What may not be noted is not passed by: the route waits for the right, and nothing is lost.
#[tokio::test]
async fn without_the_right_to_note_it_a_bad_row_is_not_passed_by() {
    let pair = narrow(Kind::Postgres, Kind::Postgres).await;
    pair.catch_up().await;
    let forbid = "CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN RAISE insufficient_privilege; END $$; \
                  CREATE TRIGGER forbid BEFORE INSERT ON rowcast.parked EXECUTE FUNCTION forbid()";
    pair.to.sql(forbid).await;
    pair.from.sql("INSERT INTO item VALUES (1, 'one'), (2, 'far too long a name')").await;
    pair.from.sql("INSERT INTO item VALUES (3, 'three')").await;
    let running = pair.rowcast.start(&["run"]);
    eventually(LONG, "a paused route", async || {
        let status = pair.rowcast.run(LONG, &["status", "--json"]).await;
        status.stdout.contains("\"paused\"") && status.stdout.contains("SINK-SETUP")
    })
    .await;
    assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "0");
    running.terminate(LONG).await.good();
    pair.to.sql("DROP TRIGGER forbid ON rowcast.parked").await;
    pair.catch_up().await;
    pair.same("SELECT id FROM item WHERE id <> 2 ORDER BY id", "SELECT id FROM item ORDER BY id")
        .await;
    assert_eq!(pair.to.value("SELECT count(*) FROM rowcast.parked").await, "1");
}

#[tokio::test]
async fn a_parent_and_its_children_are_truncated_together() {
    let publish = "[service.shop.publish.parent]\n[service.shop.publish.child]";
    let subscribe = "[service.order.subscribe.\"shop.parent\"]\n\
                     [service.order.subscribe.\"shop.child\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    let tables = "CREATE TABLE parent (id INT PRIMARY KEY); \
                  CREATE TABLE child (id INT PRIMARY KEY, parent INT REFERENCES parent)";
    pair.from.sql(tables).await;
    pair.to.sql(tables).await;
    for truncate in ["TRUNCATE parent, child", "TRUNCATE child, parent", "TRUNCATE parent CASCADE"]
    {
        pair.from.sql("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1)").await;
        pair.catch_up().await;
        pair.from.sql(&format!("{truncate}; INSERT INTO parent VALUES (2)")).await;
        pair.catch_up().await;
        assert_eq!(pair.to.value("SELECT count(*) FROM child").await, "0", "{truncate}");
        let all = "SELECT id FROM parent ORDER BY id";
        pair.same(all, all).await;
        pair.from.sql("TRUNCATE parent, child").await;
    }
}
