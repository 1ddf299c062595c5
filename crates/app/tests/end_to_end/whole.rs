//! P4 whole transactions: a reader polling the copies in a loop never sees half of one.

use super::bank::{IMBALANCE, Traffic, assert_same, bank};
use super::side::{Kind, LONG};
use rowcast_testkit::wait::eventually;
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn a_reader_never_sees_half(from: Kind, to: Kind) {
    let mut pair = bank(from, to, 10).await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    let side = Arc::new(pair.from);
    let traffic = Traffic::start(side.clone(), 10, rand::random());
    let (began, mut looks) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(4) || looks < 20 {
        assert_eq!(pair.to.value(IMBALANCE).await, "0", "half a transaction was visible");
        looks += 1;
    }
    traffic.goes_on(20).await;
    // A transaction that does not fit one batch: every entry of it, or none.
    let many: Vec<_> = (0..20_000)
        .map(|i| {
            format!(
                "({}, 0, 1, 'a rather long note, so that it fills batches', 'x')",
                1_000_000 + i
            )
        })
        .collect();
    let sql = format!(
        "INSERT INTO entry VALUES {}; UPDATE account SET balance = balance + 20000 \
         WHERE id = (SELECT min(id) FROM account)",
        many.join(",")
    );
    side.sql(&sql).await;
    eventually(LONG, "the large transaction", async || {
        assert_eq!(pair.to.value(IMBALANCE).await, "0", "half a transaction was visible");
        pair.to.value("SELECT count(*) FROM entry_copy WHERE id >= 1000000").await == "20000"
    })
    .await;
    traffic.stop().await;
    running.terminate(LONG).await.good();
    pair.from = Arc::into_inner(side).unwrap();
    pair.catch_up().await;
    assert_same(&pair).await;
}

#[tokio::test]
async fn a_reader_never_sees_half_postgres_to_postgres() {
    a_reader_never_sees_half(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn a_reader_never_sees_half_postgres_to_sqlite() {
    a_reader_never_sees_half(Kind::Postgres, Kind::Sqlite).await;
}

#[tokio::test]
async fn a_reader_never_sees_half_sqlite_to_postgres() {
    a_reader_never_sees_half(Kind::Sqlite, Kind::Postgres).await;
}

#[tokio::test]
async fn a_reader_never_sees_half_sqlite_to_sqlite() {
    a_reader_never_sees_half(Kind::Sqlite, Kind::Sqlite).await;
}
