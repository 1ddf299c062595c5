//! Tables that change their shape while they are copied: nothing wrong is written, nothing is lost.

use super::side::{Kind, LONG, Pair};

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
