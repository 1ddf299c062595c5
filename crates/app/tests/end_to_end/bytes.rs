//! Text that is no UTF-8 travels as the bytes it is; where a target cannot hold it, its row is parked.

use super::side::{Kind, LONG, Pair, Side};
use rowcast_testkit::postgres::shared;

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]";

/// A database with another encoding than UTF-8.
async fn encoded(encoding: &str) -> Side {
    let server = shared().await;
    let name = format!("in {encoding} {:08x}", rand::random::<u32>());
    let create = format!(
        "CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    server.sql("postgres", &create).await;
    Side::Postgres { server, name }
}

async fn pair(from: Side, to: Side) -> Pair {
    let mut pair = Pair::new(Kind::Sqlite, Kind::Sqlite, PUBLISH, SUBSCRIBE).await;
    (pair.from, pair.to) = (from, to);
    pair.configure(PUBLISH, SUBSCRIBE);
    pair
}

const HEX: &str = "SELECT encode(convert_to(id, 'SQL_ASCII'), 'hex'), encode(convert_to(v, 'SQL_ASCII'), 'hex') FROM item ORDER BY id COLLATE \"C\"";

/// Keys and values, also long ones that a change leaves out, in a snapshot and in the stream.
async fn changes(from: &Side) {
    from.sql("INSERT INTO item VALUES (E'k\\xff', E'stream \\xfe', 1), ('plain', 'text', 1)").await;
    from.sql("UPDATE item SET n = n + 1").await;
    from.sql("UPDATE item SET id = E'moved\\xe9' WHERE id = E'a\\xe9'").await;
    from.sql("DELETE FROM item WHERE id = E'gone\\x80'").await;
}

const TABLE: &str = "CREATE TABLE item (id text PRIMARY KEY, v text, n int); \
    ALTER TABLE item ALTER v SET STORAGE EXTERNAL; \
    INSERT INTO item VALUES (E'a\\xe9', repeat(E'\\xff\\xfe', 3000), 1), (E'gone\\x80', 'x', 1), \
    (E'b''\\x81', NULL, 1)";

#[tokio::test]
async fn bytes_without_an_encoding_arrive_where_they_can_be_held() {
    let pair = pair(encoded("SQL_ASCII").await, encoded("SQL_ASCII").await).await;
    pair.from.sql(TABLE).await;
    pair.catch_up().await;
    pair.same(HEX, HEX).await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    changes(&pair.from).await;
    pair.until_same(HEX, HEX).await;
    running.terminate(LONG).await.good();
    pair.rowcast.run(LONG, &["verify"]).await.good();
    pair.rowcast.run(LONG, &["tail", &pair.service, "--from", "beginning", "--json"]).await.good();
}

#[tokio::test]
async fn a_target_that_cannot_hold_the_bytes_parks_their_rows_only() {
    let pair = pair(encoded("SQL_ASCII").await, Side::new(Kind::Postgres).await).await;
    pair.from.sql(TABLE).await;
    pair.from.sql("INSERT INTO item VALUES ('good', 'row', 1)").await;
    pair.catch_up().await;
    assert_eq!(pair.to.value("SELECT string_agg(id, ',') FROM item").await, "good");
    assert_eq!(pair.to.value("SELECT count(*) FROM rowcast.parked").await, "3");
    changes(&pair.from).await;
    pair.catch_up().await;
    let good = "SELECT string_agg(id, ',' ORDER BY id) FROM item";
    assert_eq!(pair.to.value(good).await, "good,plain");
    let message = pair.to.value("SELECT DISTINCT message FROM rowcast.parked").await;
    assert!(message.contains("characters that the database's encoding lacks"), "{message}");
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    for args in [&["status"][..], &["status", "--json"], &["parked", "list", "--json"]] {
        pair.rowcast.run(LONG, args).await.good();
    }
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn an_encoding_that_is_known_is_converted() {
    let pair = pair(encoded("LATIN1").await, Side::new(Kind::Postgres).await).await;
    pair.from.sql("CREATE TABLE item (id text PRIMARY KEY, v text, n int); INSERT INTO item VALUES ('é', 'ÿ', 1)").await;
    pair.catch_up().await;
    pair.from.sql("UPDATE item SET n = 2; INSERT INTO item VALUES ('ü', 'ö', 1)").await;
    pair.catch_up().await;
    let all = "SELECT id, v, n FROM item ORDER BY id COLLATE \"C\"";
    pair.same(all, all).await;
}

/// And the other way: what LATIN1 lacks is parked.
#[tokio::test]
async fn a_character_that_the_target_s_encoding_lacks_parks_its_row() {
    let pair = pair(Side::new(Kind::Postgres).await, encoded("LATIN1").await).await;
    pair.from.sql("CREATE TABLE item (id int PRIMARY KEY, v text); INSERT INTO item VALUES (1, 'é'), (2, '漢')").await;
    pair.catch_up().await;
    assert_eq!(pair.to.value("SELECT string_agg(v, ',') FROM item").await, "é");
    assert_eq!(pair.to.value("SELECT count(*) FROM rowcast.parked").await, "1");
}

#[tokio::test]
async fn text_in_a_file_that_is_no_utf_8_arrives_in_a_file_and_is_parked_elsewhere() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let pair = Pair::new(Kind::Sqlite, kind, PUBLISH, SUBSCRIBE).await;
        pair.from.sql("CREATE TABLE item (id INTEGER PRIMARY KEY, v TEXT)").await;
        pair.from.sql("INSERT INTO item VALUES (1, CAST(x'ff' AS TEXT)), (2, 'good')").await;
        pair.catch_up().await;
        pair.from.sql("INSERT INTO item VALUES (3, CAST(x'6180' AS TEXT))").await;
        pair.catch_up().await;
        if kind == Kind::Sqlite {
            let all = "SELECT id, typeof(v), hex(v) FROM item ORDER BY id";
            pair.same(all, all).await;
        } else {
            assert_eq!(pair.to.value("SELECT string_agg(v, ',') FROM item").await, "good");
            assert_eq!(pair.to.value("SELECT count(*) FROM rowcast.parked").await, "2");
        }
    }
}
