//! A label of an enum is renamed at the publisher: rows show the new one although none of them changed.

use super::side::{Kind, LONG, Pair};
use rowcast_testkit::wait::eventually;

const PUBLISH: &str = "[service.shop.publish.item]\n[service.shop.publish.note]";
const SUBSCRIBE: &str =
    "[service.order.subscribe.\"shop.item\"]\n[service.order.subscribe.\"shop.note\"]";
const MOOD: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN moody AS mood; \
                    CREATE TYPE pair AS (a mood, n int)";

async fn said(pair: &Pair, words: &str) {
    eventually(LONG, words, async || {
        let status = pair.rowcast.run(LONG, &["status", "--json"]).await;
        status.stdout.contains(words)
    })
    .await;
}

/// In copies of the same type, which is renamed later, and in copies of text, while running and
/// while stopped. Nothing is ever missing from a copy.
#[tokio::test]
async fn a_renamed_label_reaches_every_copy_and_takes_no_row_out() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    pair.from
        .sql(&format!(
            "{MOOD}; CREATE TABLE item (id int PRIMARY KEY, v mood, w mood[]); \
             CREATE TABLE note (id int PRIMARY KEY, v moody, w pair)"
        ))
        .await;
    let rows = "INSERT INTO item SELECT i, 'sad', '{ok,sad}' FROM generate_series(1, 500) i; \
                INSERT INTO note SELECT i, 'sad', '(sad,1)' FROM generate_series(1, 9) i";
    pair.from.sql(rows).await;
    pair.to.sql(&format!("{MOOD}; CREATE TABLE note (id int PRIMARY KEY, v text, w text)")).await;
    pair.catch_up().await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    pair.from.sql("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'").await;
    // The copy's type has another label: what is built again waits, and all rows stay.
    said(&pair, "SINK-SCHEMA").await;
    assert_eq!(pair.to.value("SELECT count(*) FROM item WHERE v = 'sad'").await, "500");
    let check = pair.rowcast.run(LONG, &["check"]).await;
    let rename = "ALTER TYPE public.mood RENAME VALUE 'sad' TO 'blue'";
    assert!(check.stdout.contains(rename), "{}", check.said());
    pair.to.sql(rename).await;
    let (items, notes) =
        ("SELECT * FROM item ORDER BY id", "SELECT id, v::text, w::text FROM note ORDER BY id");
    pair.until_same(notes, notes).await;
    pair.live().await;
    pair.same(items, items).await;
    running.terminate(LONG).await.good();
    // The log has the new label from here on.
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    let route = format!("{}:order", pair.service);
    pair.rowcast.run(LONG, &["replay", &route, "--wait-live"]).await.good();
    pair.same(items, items).await;
    pair.same(notes, notes).await;
    pair.to.until("SELECT count(*) FROM rowcast.parked", "0").await;
    running.terminate(LONG).await.good();
    // While it is stopped.
    pair.from.sql("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'").await;
    pair.to.sql("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'").await;
    let running = pair.rowcast.start(&["run"]);
    pair.until_same(notes, notes).await;
    running.terminate(LONG).await.good();
    pair.same(items, items).await;
}

/// A label that is added is in no row yet: nothing is read again.
#[tokio::test]
async fn an_added_label_reads_nothing_again() {
    let publish = "[service.shop.publish.item]";
    let subscribe = "[service.order.subscribe.\"shop.item\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    let table =
        "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE item (id int PRIMARY KEY, v mood)";
    pair.from.sql(table).await;
    pair.to.sql(table).await;
    pair.from.sql("INSERT INTO item VALUES (1, 'a')").await;
    pair.catch_up().await;
    let add = "ALTER TYPE mood ADD VALUE 'c' BEFORE 'a'";
    pair.to.sql(add).await;
    pair.from.sql(add).await;
    pair.from.sql("INSERT INTO item VALUES (2, 'c')").await;
    pair.catch_up().await;
    let all = "SELECT * FROM item ORDER BY id";
    pair.same(all, all).await;
    let tail =
        pair.rowcast.run(LONG, &["tail", &pair.service, "--from", "beginning", "--json"]).await;
    assert_eq!(tail.stdout.matches("rowcast.item.read").count(), 1, "{}", tail.said());
}
