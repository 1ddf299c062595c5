//! P1 nothing is lost, P2 applied once, P3 in order: the binary is killed again and again while the
//! publisher goes on, and the copies end identical.

use super::bank::{IMBALANCE, Traffic, assert_same, bank};
use super::side::{Kind, LONG};
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

async fn killed_again_and_again(from: Kind, to: Kind) {
    let mut pair = bank(from, to, 20).await;
    let side = Arc::new(pair.from);
    let traffic = Traffic::start(side.clone(), 20, rand::random());
    for _ in 0..12 {
        let running = pair.rowcast.start(&["run"]);
        let lives = rand::rng().random_range(20..900);
        tokio::time::sleep(Duration::from_millis(lives)).await;
        let ended = running.kill_9().await;
        assert_eq!(ended.code(), None, "it ended before it was killed: {}", ended.said());
        traffic.goes_on(5).await;
    }
    traffic.stop().await;
    pair.from = Arc::into_inner(side).unwrap();
    pair.catch_up().await;
    assert_same(&pair).await;
    // Nothing is left to do, and doing it again changes nothing.
    pair.catch_up().await;
    assert_same(&pair).await;
}

#[tokio::test]
async fn killed_again_and_again_postgres_to_postgres() {
    killed_again_and_again(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn killed_again_and_again_postgres_to_sqlite() {
    killed_again_and_again(Kind::Postgres, Kind::Sqlite).await;
}

#[tokio::test]
async fn killed_again_and_again_sqlite_to_postgres() {
    killed_again_and_again(Kind::Sqlite, Kind::Postgres).await;
}

#[tokio::test]
async fn killed_again_and_again_sqlite_to_sqlite() {
    killed_again_and_again(Kind::Sqlite, Kind::Sqlite).await;
}

/// As a benchmark's catch-up goes: a deep backlog of small transactions, which is asked for instead of
/// being streamed, into copies that are live.
#[tokio::test]
async fn killed_again_and_again_over_a_deep_backlog() {
    let pair = bank(Kind::Postgres, Kind::Postgres, 20).await;
    pair.catch_up().await;
    pair.from
        .sql(
            "DO $$ BEGIN FOR i IN 1..30000 LOOP \
             UPDATE account SET balance = balance + i WHERE id = i % 20; \
             INSERT INTO entry VALUES (i, i % 20, i, 'entry ' || i, 'x'); \
             COMMIT; END LOOP; END $$",
        )
        .await;
    for _ in 0..4 {
        let deepen = "SELECT pg_logical_emit_message(false, 'other', 'x'), pg_switch_wal()";
        pair.from.sql(deepen).await;
    }
    let mut said = String::new();
    for _ in 0..12 {
        let running = pair.rowcast.start(&["run"]);
        let lives = rand::rng().random_range(50..600);
        tokio::time::sleep(Duration::from_millis(lives)).await;
        said += &running.kill_9().await.said();
        assert_eq!(pair.to.value(IMBALANCE).await, "0");
    }
    let last = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    said += &last.said();
    last.good();
    // Said as it begins: a kill may come between the last of it and the word that it is over.
    assert!(said.contains("takes a deep backlog"), "it was streamed:\n{said}");
    assert_same(&pair).await;
}
