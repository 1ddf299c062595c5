//! A route in several lanes: still nothing lost, nothing twice, every key in order, whatever is killed
//! when; and it says that transactions are not whole.

use super::side::{Kind, LONG, Pair, Side};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PUBLISH: &str = "[service.shop.publish.item]\n[service.shop.publish.part]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]\ninto = \"item_copy\"\n\
    [service.order.subscribe.\"shop.part\"]\ninto = \"part_copy\"";

fn with_lanes(pair: &Pair, lanes: u16) {
    let from = format!("{SUBSCRIBE}\n[service.order.from.{}]\nlanes = {lanes}", pair.service);
    pair.configure(PUBLISH, &from);
}

async fn shop() -> Pair {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    let tables = "CREATE TABLE item (id bigint PRIMARY KEY, n bigint NOT NULL, code bigint UNIQUE, \
         note text); CREATE TABLE part (id bigint PRIMARY KEY, item bigint, n bigint NOT NULL)";
    pair.from.sql(tables).await;
    // Each change of a copy's row is noted, so that none is seen twice and none goes back.
    pair.to
        .sql(
            "CREATE TABLE item_copy (id bigint PRIMARY KEY, n bigint NOT NULL, code bigint UNIQUE, \
             note text); CREATE TABLE part_copy (id bigint PRIMARY KEY, item bigint, n bigint NOT NULL); \
             CREATE TABLE gone_back (id bigint, old bigint, new bigint); \
             CREATE FUNCTION note_order() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.n < OLD.n THEN INSERT INTO gone_back VALUES (NEW.id, OLD.n, NEW.n); END IF; \
             RETURN NEW; END $$; \
             CREATE TRIGGER t BEFORE UPDATE ON item_copy FOR EACH ROW EXECUTE FUNCTION note_order(); \
             CREATE TRIGGER t BEFORE UPDATE ON part_copy FOR EACH ROW EXECUTE FUNCTION note_order()",
        )
        .await;
    pair
}

/// One transaction of many rows; `n` only grows.
fn transaction(random: &mut StdRng, n: &mut u64) -> String {
    *n += 1;
    let (n, from) = (*n, random.random_range(0..2000));
    let to = from + random.random_range(1..600);
    match random.random_range(0..12) {
        0 => format!("DELETE FROM part WHERE id BETWEEN {from} AND {to}"),
        // A key that moves, and a value that no two rows may share, which moves with it.
        1 => format!(
            "UPDATE item SET id = id + 10000, n = {n} WHERE id = {from} \
             AND NOT EXISTS (SELECT FROM item WHERE id = {from} + 10000)"
        ),
        2 => format!(
            "UPDATE item SET code = NULL, n = {n} WHERE code = {n} % 5; \
             UPDATE item SET code = {n} % 5, n = {n} WHERE id = {from}"
        ),
        3 => "TRUNCATE part".into(),
        _ => format!(
            "INSERT INTO item SELECT i, {n}, NULL, repeat('x', 20) FROM generate_series({from}, {to}) i \
             ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n; \
             INSERT INTO part SELECT i, i, {n} FROM generate_series({from}, {to}) i \
             ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n"
        ),
    }
}

async fn assert_same(pair: &Pair) {
    let of = |table: &str| format!("SELECT * FROM {table} ORDER BY id");
    pair.same(&of("item"), &of("item_copy")).await;
    pair.same(
        "SELECT count(*), sum(n), sum(id) FROM part",
        "SELECT count(*), sum(n), sum(id) FROM part_copy",
    )
    .await;
    assert_eq!(pair.to.value("SELECT count(*) FROM gone_back").await, "0", "a key went back");
    assert_eq!(pair.to.value("SELECT count(*) FROM rowcast.parked").await, "0");
}

/// Writes until told to stop.
async fn traffic(side: Arc<Side>, stop: Arc<AtomicBool>, seed: u64) {
    println!("traffic seed {seed}");
    let (mut random, mut n) = (StdRng::seed_from_u64(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        side.sql(&transaction(&mut random, &mut n)).await;
    }
}

#[tokio::test]
async fn killed_again_and_again_with_lanes_that_change_their_number() {
    let mut pair = shop().await;
    with_lanes(&pair, 4);
    pair.catch_up().await;
    let (side, stop) = (Arc::new(pair.from), Arc::new(AtomicBool::new(false)));
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let task = tokio::spawn(traffic(side.clone(), stop.clone(), rand::random()));
    for round in 0..14 {
        let lives = rand::rng().random_range(100..1500);
        let running = pair.rowcast.start(&["run"]);
        if round == 0 {
            // One that lives until its lanes are at work, however long that takes.
            let moved = "SELECT count(*) > 0 FROM rowcast.checkpoint WHERE route LIKE '% (lane %' \
                         AND position IS NOT NULL";
            pair.to.until(moved, "t").await;
        }
        tokio::time::sleep(Duration::from_millis(lives)).await;
        let ended = running.kill_9().await;
        assert_eq!(ended.code(), None, "it ended before it was killed: {}", ended.said());
        if round == 12 {
            stop.store(true, Ordering::Relaxed);
        }
        if round % 4 == 3 {
            // The publisher's side is lent to the traffic; its address stays what it was.
            let lanes = [1, 3, 2][round / 4 % 3];
            let text = std::fs::read_to_string(pair.rowcast.path("rowcast.toml")).unwrap();
            let at = text.rfind("lanes = ").unwrap();
            pair.rowcast.configure(&format!("{}lanes = {lanes}\n", &text[..at]));
        }
    }
    task.await.unwrap();
    pair.from = Arc::into_inner(side).unwrap();
    pair.catch_up().await;
    assert_same(&pair).await;
    with_lanes(&pair, 1);
    pair.catch_up().await;
    assert_same(&pair).await;
    let left = "SELECT count(*) FROM rowcast.checkpoint WHERE route LIKE '% (lane %'";
    assert_eq!(pair.to.value(left).await, "0");
}

#[tokio::test]
async fn a_route_in_lanes_says_so_and_is_waited_for_and_verified_as_ever() {
    let pair = shop().await;
    with_lanes(&pair, 4);
    pair.from.sql("INSERT INTO item SELECT i, 0, NULL, 'x' FROM generate_series(1, 5000) i").await;
    let check = pair.rowcast.run(LONG, &["check"]).await;
    assert!(check.stdout.contains("4 lanes: a transaction of"), "{}", check.stdout);
    let running = pair.rowcast.start(&["run"]);
    for n in 1..=20 {
        pair.from.sql(&format!("UPDATE item SET n = {n}")).await;
    }
    let same = "SELECT count(*) FROM item_copy WHERE n = 20";
    pair.to.until(same, "5000").await;
    let status = pair.rowcast.run(LONG, &["status", "--json"]).await.good();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["routes"][0]["lanes"], 4, "{status}");
    assert_eq!(status["routes"][0]["whole"], false, "{status}");
    let shown = pair.rowcast.run(LONG, &["status"]).await.good();
    assert!(shown.stdout.contains("4 lanes: a transaction of"), "{}", shown.stdout);
    pair.rowcast.run(LONG, &["verify"]).await.good();
    running.terminate(LONG).await.good();
    assert_same_items(&pair).await;
}

async fn assert_same_items(pair: &Pair) {
    let of = |table: &str| format!("SELECT * FROM {table} ORDER BY id");
    pair.same(&of("item"), &of("item_copy")).await;
    assert_eq!(pair.to.value("SELECT count(*) FROM gone_back").await, "0");
}
