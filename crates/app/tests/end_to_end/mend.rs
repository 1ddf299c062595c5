//! P8 and P10 together: what is parked is for parking to mend, and a mend that is killed leaves rows
//! that are whole and can be mended again.

use super::bank::{Traffic, assert_same, bank};
use super::side::{Kind, LONG, Pair, Side};
use rand::Rng;
use rowcast_testkit::wait::becomes;
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Duration;

/// The exit code, and what is said of the only copy.
async fn verify(pair: &Pair, further: &[&str]) -> (Option<i32>, Json) {
    let ended =
        pair.rowcast.run(LONG, &[&["verify", "--json", "--timeout", "5m"], further].concat()).await;
    let answer: Json =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("no JSON: {}", ended.said()));
    assert_eq!(answer["identical"], ended.code() == Some(0), "{answer}");
    (ended.code(), answer["routes"][0]["copies"][0].clone())
}

async fn parked_keys_are_said_and_left_alone(from: Kind, to: Kind) {
    let publish = "[service.shop.publish.item]";
    let pair = Pair::new(from, to, publish, "[service.order.subscribe.\"shop.item\"]").await;
    pair.from.sql("CREATE TABLE item (id BIGINT PRIMARY KEY, name TEXT)").await;
    let ruled = "CREATE TABLE item (id BIGINT PRIMARY KEY, name TEXT CHECK (length(name) < 10))";
    pair.to.sql(ruled).await;
    pair.from
        .sql("INSERT INTO item VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four')")
        .await;
    pair.catch_up().await;
    // One row that the copy has in an older state, one that it lacks, and one under an older key.
    for bad in [
        "UPDATE item SET name = 'far too long a name' WHERE id = 2",
        "INSERT INTO item VALUES (9, 'far too long as well')",
        "UPDATE item SET id = 30, name = 'too long for any key' WHERE id = 3",
    ] {
        pair.from.sql(bad).await;
    }
    pair.catch_up().await;
    let before = pair.to.sql("SELECT id, name FROM item ORDER BY id").await;
    let (code, copy) = verify(&pair, &[]).await;
    assert_eq!((code, &copy["parked"], &copy["differences"]), (Some(1), &3.into(), &0.into()));
    let (code, copy) = verify(&pair, &["--repair"]).await;
    assert_eq!((code, &copy["parked"], &copy["left"]), (Some(1), &3.into(), &0.into()));
    assert_eq!(pair.to.sql("SELECT id, name FROM item ORDER BY id").await, before);
    let said = pair.rowcast.run(LONG, &["verify"]).await;
    assert!(said.stdout.contains("3 keys parked, identical otherwise"), "{}", said.said());
    assert!(said.stderr.contains("rowcast parked list"), "{}", said.said());
    // What differs beside them is found and mended all the same.
    pair.to.sql("UPDATE item SET name = 'by hand' WHERE id IN (1, 4)").await;
    let (code, copy) = verify(&pair, &["--repair"]).await;
    assert_eq!((code, &copy["differences"], &copy["left"]), (Some(1), &2.into(), &0.into()));
    assert_eq!(pair.to.sql("SELECT id, name FROM item ORDER BY id").await, before);
    pair.from.sql("UPDATE item SET name = 'fits' WHERE length(name) > 9").await;
    let running = pair.rowcast.start(&["run"]);
    // One that has only just been started cannot be compared.
    let verified = async || pair.rowcast.run(LONG, &["verify"]).await.code();
    becomes(LONG, "verify", Some(0), verified).await;
    running.terminate(LONG).await.good();
    let all = "SELECT id, name FROM item ORDER BY id";
    pair.same(all, all).await;
}

#[tokio::test]
async fn parked_keys_are_said_and_left_alone_postgres_to_postgres() {
    parked_keys_are_said_and_left_alone(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn parked_keys_are_said_and_left_alone_sqlite_to_sqlite() {
    parked_keys_are_said_and_left_alone(Kind::Sqlite, Kind::Sqlite).await;
}

#[tokio::test]
async fn parked_keys_are_said_and_left_alone_sqlite_to_postgres() {
    parked_keys_are_said_and_left_alone(Kind::Sqlite, Kind::Postgres).await;
}

/// A value that the copy's type cannot hold, so that nobody can say what its row would be there.
#[tokio::test]
async fn a_parked_row_that_no_copy_can_hold_is_said_once() {
    let publish = "[service.shop.publish.item]";
    let subscribe = "[service.order.subscribe.\"shop.item\"]";
    let pair = Pair::new(Kind::Sqlite, Kind::Postgres, publish, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INTEGER PRIMARY KEY, size DECIMAL(10,2))").await;
    pair.from.sql("INSERT INTO item VALUES (1, 1), (2, 2)").await;
    pair.catch_up().await;
    pair.from.sql("UPDATE item SET size = 'no number' WHERE id = 2").await;
    pair.catch_up().await;
    let (code, copy) = verify(&pair, &["--repair"]).await;
    assert_eq!((code, &copy["parked"], &copy["differences"]), (Some(1), &1.into(), &0.into()));
    assert_eq!(pair.to.value("SELECT size = 2 FROM item WHERE id = 2").await, "t");
}

async fn mended_under_kills(kind: Kind) {
    let mut pair = bank(kind, kind, 40).await;
    pair.catch_up().await;
    let side = Arc::new(std::mem::replace(&mut pair.from, Side::new(Kind::Sqlite).await));
    let traffic = Traffic::start(side.clone(), 40, rand::random());
    let mut running = pair.rowcast.start(&["run"]);
    pair.live().await;
    for round in 0..8 {
        let note = format!("UPDATE account_copy SET note = 'by hand {round}'");
        pair.to.by_hand("account_copy", &note).await;
        pair.to.by_hand("entry_copy", "DELETE FROM entry_copy WHERE id % 7 = 3").await;
        let mend = pair.rowcast.start(&["verify", "--repair", "--timeout", "5m"]);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(20..600))).await;
        if round % 3 == 2 {
            // Both at once: the mend may be holding the checkpoint.
            running.kill_9().await;
            mend.kill_9().await;
            running = pair.rowcast.start(&["run"]);
            pair.live().await;
        } else {
            mend.kill_9().await;
        }
    }
    pair.rowcast.run(LONG, &["verify", "--repair", "--timeout", "5m"]).await.good();
    traffic.stop().await;
    running.terminate(LONG).await.good();
    pair.from = Arc::into_inner(side).unwrap();
    pair.catch_up().await;
    assert_same(&pair).await;
}

#[tokio::test]
async fn a_mend_that_is_killed_is_done_again_postgres() {
    mended_under_kills(Kind::Postgres).await;
}

#[tokio::test]
async fn a_mend_that_is_killed_is_done_again_sqlite() {
    mended_under_kills(Kind::Sqlite).await;
}
