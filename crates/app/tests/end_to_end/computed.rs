//! Columns that a source computes: carried, computed by the copy as well, or refused by `check` and
//! `run` alike; never NULL in silence.

use super::side::{Kind, LONG, Pair, Side};
use rowcast_testkit::postgres::{Server, ServerOptions};
use rowcast_testkit::process::Finished;

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]";
const STORED: &str = "CREATE TABLE item (id int PRIMARY KEY, a int, \
     twice int GENERATED ALWAYS AS (a * 2) STORED); \
     INSERT INTO item (id, a) VALUES (1, 10), (2, NULL)";
const ALL: &str = "SELECT id, a, twice FROM item ORDER BY id";

/// `check` and `run` refuse alike: with these words, and `run` with this code.
async fn refused(pair: &Pair, code: &str, words: &[&str]) {
    let check = pair.rowcast.run(LONG, &["check"]).await;
    assert_eq!(check.code(), Some(1), "{}", check.said());
    let run = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(run.code(), Some(1), "{}", run.said());
    assert!(run.stderr.contains(code), "{code}: {}", run.said());
    for (ended, text) in [(&check, &check.stdout), (&run, &run.stderr)] {
        let text = plain(text);
        for words in words {
            assert!(text.contains(words), "{words}: {}", ended.said());
        }
        assert!(!text.contains("did you mean"), "{}", ended.said());
    }
}

/// A text without the line breaks that fit it to a terminal.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn verify(pair: &Pair) -> Finished {
    pair.rowcast.run(LONG, &["verify"]).await
}

#[tokio::test]
async fn a_plain_column_at_the_copy_is_refused_where_the_source_computes_it() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    pair.from.sql(STORED).await;
    pair.to.sql("CREATE TABLE item (id int PRIMARY KEY, a int, twice int)").await;
    let words = ["its column \"twice\" is a plain one, but the source computes it"];
    refused(&pair, "SINK-SCHEMA", &words).await;
    assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "0");
    let check = pair.rowcast.run(LONG, &["check"]).await;
    let fix = "ALTER TABLE \"public\".\"item\" DROP COLUMN \"twice\", ADD COLUMN \"twice\" integer \
               GENERATED ALWAYS AS ((a * 2)) STORED";
    assert!(plain(&check.stdout).contains(fix), "{}", check.said());
    pair.to.sql(fix).await;
    pair.rowcast.run(LONG, &["check"]).await.good();
    pair.catch_up().await;
    pair.from.sql("UPDATE item SET a = 11 WHERE id = 1").await;
    pair.catch_up().await;
    pair.same(ALL, ALL).await;
    verify(&pair).await.good();
}

#[tokio::test]
async fn sqlite_refuses_a_plain_column_that_the_source_computes() {
    let pair = Pair::new(Kind::Postgres, Kind::Sqlite, PUBLISH, SUBSCRIBE).await;
    pair.from.sql(STORED).await;
    pair.to.sql("CREATE TABLE item (id INTEGER PRIMARY KEY, a INTEGER, twice INTEGER)").await;
    let words = ["its column \"twice\" is a plain one, but the source computes it", "(a * 2)"];
    refused(&pair, "SINK-SCHEMA", &words).await;
    pair.to
        .sql(
            "DROP TABLE item; CREATE TABLE item (id INTEGER PRIMARY KEY, a INTEGER, \
             twice INTEGER GENERATED ALWAYS AS (a * 2) VIRTUAL)",
        )
        .await;
    pair.rowcast.run(LONG, &["check"]).await.good();
    pair.catch_up().await;
    pair.same(ALL, ALL).await;
    let verified = verify(&pair).await.good();
    assert!(verified.stdout.contains("not compared"), "{}", verified.said());
}

#[tokio::test]
async fn a_published_computed_field_needs_its_inputs() {
    let publish = format!("{PUBLISH}\nfields = [\"id\", \"twice\"]");
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = Pair::new(Kind::Postgres, to, &publish, SUBSCRIBE).await;
        pair.from.sql(STORED).await;
        let words = [
            "\"twice\" is computed by the server, which does not send it",
            "\"a\" to the entity's `fields`",
        ];
        refused(&pair, "SOURCE-SCHEMA", &words).await;
    }
    let publish = format!("{PUBLISH}\nfields = [\"id\", \"twice\", \"a\"]");
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, &publish, SUBSCRIBE).await;
    pair.from.sql(STORED).await;
    pair.rowcast.run(LONG, &["check"]).await.good();
    pair.catch_up().await;
    pair.same(ALL, ALL).await;
}

#[tokio::test]
async fn a_subscription_that_names_a_computed_field_is_told_why_it_cannot_have_it() {
    let subscribe = format!("{SUBSCRIBE}\nfields = [\"id\", \"twice\"]");
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = Pair::new(Kind::Postgres, to, PUBLISH, &subscribe).await;
        pair.from.sql(STORED).await;
        let words = ["field \"twice\"", "computes and does not send", "(a * 2)"];
        refused(&pair, "SINK-SCHEMA", &words).await;
    }
}

#[tokio::test]
async fn what_the_copy_cannot_compute_is_told_and_not_called_compared() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    pair.from
        .sql(
            "CREATE FUNCTION odd(int) RETURNS int LANGUAGE sql IMMUTABLE RETURN $1 * 2 + 1; \
             CREATE TABLE item (id int PRIMARY KEY, a int, \
             twice int GENERATED ALWAYS AS (odd(a)) STORED)",
        )
        .await;
    pair.from.sql("INSERT INTO item (id, a) VALUES (1, 10)").await;
    let check = pair.rowcast.run(LONG, &["check"]).await.good();
    let told = plain(&check.stdout);
    assert!(told.contains("goes without the computed column \"twice\""), "{}", check.said());
    pair.catch_up().await;
    let verified = verify(&pair).await;
    assert!(verified.stdout.contains("not compared"), "{}", verified.said());
    assert!(verified.stdout.contains("twice"), "{}", verified.said());
    // With the function there, the next start gives the copy its column.
    pair.to
        .sql("CREATE FUNCTION odd(int) RETURNS int LANGUAGE sql IMMUTABLE RETURN $1 * 2 + 1")
        .await;
    pair.from.sql("INSERT INTO item (id, a) VALUES (2, 20)").await;
    pair.catch_up().await;
    pair.same(ALL, ALL).await;
    let check = pair.rowcast.run(LONG, &["check"]).await.good();
    assert!(!check.stdout.contains("goes without"), "{}", check.said());
}

#[tokio::test]
async fn a_computed_column_that_comes_later_comes_to_the_copy() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    pair.from.sql("CREATE TABLE item (id int PRIMARY KEY, a int)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 10), (2, NULL)").await;
    pair.catch_up().await;
    pair.from.sql("ALTER TABLE item ADD COLUMN twice int GENERATED ALWAYS AS (a * 2) STORED").await;
    pair.from.sql("INSERT INTO item (id, a) VALUES (3, 30)").await;
    pair.catch_up().await;
    pair.same(ALL, ALL).await;
    verify(&pair).await.good();
}

/// The reverse of a computed column: what it held stays, and only the table knows it.
#[tokio::test]
async fn a_computed_column_that_becomes_plain_is_read_from_the_table() {
    for to in [Kind::Sqlite, Kind::Postgres] {
        let pair = Pair::new(Kind::Postgres, to, PUBLISH, SUBSCRIBE).await;
        pair.from.sql(STORED).await;
        pair.catch_up().await;
        pair.from.sql("INSERT INTO item (id, a) VALUES (3, 30)").await;
        pair.from.sql("ALTER TABLE item ALTER COLUMN twice DROP EXPRESSION").await;
        pair.from.sql("INSERT INTO item (id, a, twice) VALUES (4, 40, 7)").await;
        if to == Kind::Postgres {
            let words = ["its column \"twice\" is computed by the table itself"];
            refused(&pair, "SINK-SCHEMA", &words).await;
            pair.to.sql("ALTER TABLE item ALTER COLUMN twice DROP EXPRESSION").await;
        }
        pair.catch_up().await;
        pair.same(ALL, ALL).await;
        verify(&pair).await.good();
    }
}

#[tokio::test]
async fn a_plain_column_that_becomes_computed_pauses_its_route_until_the_copy_computes_it() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    pair.from.sql("CREATE TABLE item (id int PRIMARY KEY, a int, twice int)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 10, 3), (2, NULL, NULL)").await;
    pair.catch_up().await;
    pair.from.sql("INSERT INTO item VALUES (3, 30, 4)").await;
    let change = "ALTER TABLE item DROP COLUMN twice, \
                  ADD COLUMN twice int GENERATED ALWAYS AS (a * 2) STORED";
    pair.from.sql(change).await;
    pair.from.sql("INSERT INTO item (id, a) VALUES (4, 40)").await;
    let words = ["its column \"twice\" is a plain one, but the source computes it"];
    refused(&pair, "SINK-SCHEMA", &words).await;
    pair.to.sql(change).await;
    pair.catch_up().await;
    pair.same(ALL, ALL).await;
    verify(&pair).await.good();
}

#[tokio::test]
async fn a_copy_that_computes_otherwise_is_told_and_not_identical() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    pair.from.sql(STORED).await;
    pair.catch_up().await;
    verify(&pair).await.good();
    let other = "ALTER TABLE item DROP COLUMN twice, \
                 ADD COLUMN twice int GENERATED ALWAYS AS (a * 3) STORED";
    pair.to.sql(other).await;
    let check = pair.rowcast.run(LONG, &["check"]).await.good();
    let told = plain(&check.stdout);
    assert!(told.contains("computes \"twice\" otherwise than its source"), "{}", check.said());
    let verified = verify(&pair).await;
    assert_eq!(verified.code(), Some(1), "{}", verified.said());
    let words = "the copy computes otherwise than its source: twice";
    assert!(verified.stdout.contains(words), "{}", verified.said());
    // A value that somebody put there by hand.
    pair.to.sql("ALTER TABLE item ALTER COLUMN twice DROP EXPRESSION").await;
    pair.to.sql("UPDATE item SET twice = 1").await;
    let verified = verify(&pair).await;
    assert_eq!(verified.code(), Some(1), "{}", verified.said());
    assert!(verified.said().contains("twice"), "{}", verified.said());
}

/// From SQLite computed values come as values, stored ones and virtual ones.
#[tokio::test]
async fn columns_that_sqlite_computes_are_carried() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = Pair::new(Kind::Sqlite, to, PUBLISH, SUBSCRIBE).await;
        pair.from
            .sql(
                "CREATE TABLE item (id INTEGER PRIMARY KEY, a INTEGER, \
                 twice INTEGER GENERATED ALWAYS AS (a * 2) STORED, \
                 word TEXT GENERATED ALWAYS AS ('a is ' || a) VIRTUAL); \
                 INSERT INTO item (id, a) VALUES (1, 10), (2, NULL)",
            )
            .await;
        pair.rowcast.run(LONG, &["check"]).await.good();
        pair.catch_up().await;
        pair.from
            .sql("UPDATE item SET a = 11 WHERE id = 1; INSERT INTO item (id, a) VALUES (3, 3)")
            .await;
        pair.from.sql("ALTER TABLE item ADD COLUMN late INTEGER AS (a + 1) VIRTUAL").await;
        pair.from.sql("UPDATE item SET a = 4 WHERE id = 3").await;
        pair.catch_up().await;
        let all = "SELECT id, a, twice, word, late FROM item ORDER BY id";
        pair.same(all, all).await;
        verify(&pair).await.good();
        for column in ["twice", "word", "late"] {
            pair.to.sql(&format!("UPDATE item SET {column} = NULL WHERE id = 1")).await;
            let verified = verify(&pair).await;
            assert_eq!(verified.code(), Some(1), "{column}: {}", verified.said());
            assert!(verified.stdout.contains(column), "{column}: {}", verified.said());
            pair.rowcast.run(LONG, &["verify", "--repair"]).await.good();
        }
    }
}

/// PostgreSQL 18 has columns that are computed when they are read.
#[tokio::test]
async fn a_virtual_column_is_computed_by_the_copy_or_refused() {
    let server = Server::start_options(ServerOptions::of_major(18)).await;
    let pair = Pair::new(Kind::Sqlite, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    let to = Side::new(Kind::Postgres).await;
    let url = server.url("postgres");
    let configure = |publish: &str| {
        pair.rowcast.configure(&format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = '{url}'\n{publish}\n\
             [service.order]\ndatabase = '{}'\n[service.order.subscribe.\"shop.item\"]\n",
            to.url()
        ));
    };
    let table = STORED.replace("STORED", "VIRTUAL");
    server.sql("postgres", &table).await;
    configure("[service.shop.publish.item]\nfields = [\"id\", \"twice\"]");
    let words = [
        "\"twice\" is computed by the server, which does not send it",
        "\"a\" to the entity's `fields`",
    ];
    refused(&pair, "SOURCE-SCHEMA", &words).await;
    configure("[service.shop.publish.item]");
    to.sql("CREATE TABLE item (id int PRIMARY KEY, a int, twice int)").await;
    let words = ["its column \"twice\" is a plain one, but the source computes it"];
    refused(&pair, "SINK-SCHEMA", &words).await;
    to.sql("DROP TABLE item").await;
    pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    assert_eq!(server.sql("postgres", ALL).await, to.sql(ALL).await);
    verify(&pair).await.good();
}
