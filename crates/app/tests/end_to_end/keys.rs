//! Keys that are two at the publisher and would be one at the copy are refused before anything is
//! written, by `check` and by `run` alike.

use super::side::{Kind, LONG, Pair};
use rowcast_testkit::wait::eventually;

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]";

async fn refused(from: Kind, to: Kind, copy: &str, mended: &str) {
    let pair = Pair::new(from, to, PUBLISH, SUBSCRIBE).await;
    pair.from.sql("CREATE TABLE item (id VARCHAR(9) PRIMARY KEY, n INT)").await;
    pair.from.sql("INSERT INTO item VALUES ('abc', 1), ('ABC', 2)").await;
    pair.to.sql(copy).await;
    let check = pair.rowcast.run(LONG, &["check"]).await;
    assert_eq!(check.code(), Some(1), "{}", check.said());
    assert!(check.stdout.contains("may be one row here"), "{}", check.said());
    let running = pair.rowcast.start(&["run"]);
    eventually(LONG, "a paused route", async || {
        let status = pair.rowcast.run(LONG, &["status", "--json"]).await;
        status.stdout.contains("SINK-SCHEMA") && status.stdout.contains("may be one row here")
    })
    .await;
    assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "0");
    pair.to.sql(mended).await;
    pair.to.until("SELECT count(*) FROM item", "2").await;
    pair.from.sql("DELETE FROM item WHERE id = 'abc'").await;
    pair.to.until("SELECT count(*) FROM item", "1").await;
    assert_eq!(pair.to.value("SELECT id FROM item").await, "ABC");
    running.terminate(LONG).await.good();
    pair.rowcast.run(LONG, &["check"]).await.good();
}

#[tokio::test]
async fn a_copy_in_postgres_whose_key_takes_two_for_one_is_refused() {
    let copy = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                CREATE TABLE item (id varchar(9) COLLATE ci PRIMARY KEY, n int)";
    let mended = "ALTER TABLE item ALTER id TYPE varchar(9) COLLATE \"C\"";
    refused(Kind::Postgres, Kind::Postgres, copy, mended).await;
}

#[tokio::test]
async fn a_copy_in_sqlite_whose_key_takes_two_for_one_is_refused() {
    let copy = "CREATE TABLE item (id VARCHAR(9) COLLATE NOCASE PRIMARY KEY, n INT)";
    let mended = "DROP TABLE item; CREATE TABLE item (id VARCHAR(9) PRIMARY KEY, n INT)";
    refused(Kind::Postgres, Kind::Sqlite, copy, mended).await;
}
