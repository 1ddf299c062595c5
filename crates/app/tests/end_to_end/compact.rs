//! P7 a new subscriber needs nothing from the publisher, P11 bounded disk: the log is compacted while
//! the binary is killed again and again, and what is left of it builds an identical copy.

use super::bank::{IMBALANCE, PUBLISH, SUBSCRIBE, Traffic, assert_same, bank};
use super::side::{Kind, LONG, Pair, Side};
use rand::Rng;
use rowcast_testkit::wait::eventually;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const LOG: &str = "[log]\nsegment = \"1 MiB\"\ncompact-after = \"1s\"\ncompact-within = \"1s\"";
const ACCOUNTS: u32 = 20;
const ROUNDS: usize = 200;
/// Bytes that each round writes into every account.
const NOTE: usize = 4000;
/// Bytes that an entry takes in the log, at most.
const ENTRY: u64 = 300;

/// Gives every account another long note.
fn overwrite(kind: Kind) -> String {
    let note = match kind {
        // Long enough that the server keeps it apart, and leaves it out of later changes.
        Kind::Postgres => format!(
            "(SELECT string_agg(md5(random()::text || n), '') FROM generate_series(1, {}) n)",
            NOTE / 32
        ),
        Kind::Sqlite => format!("hex(randomblob({}))", NOTE / 2),
    };
    let update = format!("UPDATE account SET note = {note}");
    match kind {
        // All rows at once, without a deadlock with the traffic.
        Kind::Postgres => format!("LOCK TABLE account IN EXCLUSIVE MODE; {update}"),
        Kind::Sqlite => update,
    }
}

async fn stat(pair: &Pair) -> Value {
    let answer = pair.rowcast.run(LONG, &["log", "stat", "--json"]).await.good();
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    answer["streams"][0].clone()
}

async fn compacted_while_killed(kind: Kind) {
    let mut pair = bank(kind, kind, ACCOUNTS).await;
    pair.configure(PUBLISH, &format!("{SUBSCRIBE}\n\n{LOG}"));
    let side = Arc::new(pair.from);
    let traffic = Traffic::start(side.clone(), ACCOUNTS, rand::random());
    for _ in 0..8 {
        let running = pair.rowcast.start(&["run"]);
        for _ in 0..ROUNDS / 8 {
            side.sql(&overwrite(kind)).await;
        }
        let lives = rand::rng().random_range(100..2500);
        tokio::time::sleep(Duration::from_millis(lives)).await;
        let ended = running.kill_9().await;
        assert_eq!(ended.code(), None, "it ended before it was killed: {}", ended.said());
    }
    traffic.stop().await;
    pair.from = Arc::into_inner(side).unwrap();
    pair.catch_up().await;
    assert_same(&pair).await;
    // A running instance compacts by itself, also what it is writing to.
    let running = pair.rowcast.start(&["run"]);
    let compacted = async || stat(&pair).await["compacted"].as_u64().unwrap() > 0;
    eventually(LONG, "a compacted log", compacted).await;
    running.kill_9().await;
    pair.rowcast.run(LONG, &["log", "compact"]).await.good();
    pair.rowcast.run(LONG, &["log", "check"]).await.good();
    let left = stat(&pair).await;
    let overwritten = ROUNDS * ACCOUNTS as usize * NOTE;
    // Entries stay. How many there are is a matter of how long it all took.
    let entries: u64 = pair.from.value("SELECT count(*) FROM entry").await.parse().unwrap();
    let stays = overwritten as u64 / 5 + entries * ENTRY;
    assert!(left["bytes"].as_u64().unwrap() < stays, "{entries} entries: {left}");
    late(&pair, kind).await;
}

/// A service that subscribes only now gets the same copy, and the first one goes on.
async fn late(pair: &Pair, kind: Kind) {
    let late = Side::new(kind).await;
    let subscribe = SUBSCRIBE.replace("service.order.", "service.late.");
    let section = format!("[service.late]\ndatabase = '{}'\n\n{subscribe}", late.url());
    pair.configure(PUBLISH, &format!("{SUBSCRIBE}\n\n{section}\n\n{LOG}"));
    pair.from.sql("UPDATE account SET balance = balance WHERE id = 1").await;
    pair.catch_up().await;
    assert_same(pair).await;
    let copies = [
        "SELECT id, balance, note FROM account_copy ORDER BY id",
        "SELECT id, account, amount, remark FROM entry_copy ORDER BY id",
    ];
    for copy in copies {
        assert_eq!(late.sql(copy).await, pair.to.sql(copy).await);
    }
    assert_eq!(late.value(IMBALANCE).await, "0");
}

#[tokio::test]
async fn a_log_compacted_under_kill_9_builds_an_identical_copy_postgres() {
    compacted_while_killed(Kind::Postgres).await;
}

#[tokio::test]
async fn a_log_compacted_under_kill_9_builds_an_identical_copy_sqlite() {
    compacted_while_killed(Kind::Sqlite).await;
}
