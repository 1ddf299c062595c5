//! A copy restored from a backup follows from the backup's position; a log is applied again beside a
//! copy; both under load and kills, and both end identical. P3 also through replay.

use super::bank::{self, Traffic, assert_same, bank};
use super::side::{Kind, LONG, Pair, Side};
use rand::Rng;
use rowcast_testkit::process::Running;
use rowcast_testkit::wait::eventually;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const COPIES: &str = "CREATE TABLE account_copy (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, \
     note TEXT); CREATE TABLE entry_copy (id BIGINT PRIMARY KEY, account BIGINT NOT NULL, \
     amount BIGINT NOT NULL, remark TEXT)";

async fn start(pair: &Pair) -> Running {
    let mut running = pair.rowcast.start(&["run"]);
    running.says(LONG, "answering on").await;
    running
}

async fn status(pair: &Pair) -> Value {
    let said = pair.rowcast.run(LONG, &["status", "--json"]).await;
    serde_json::from_str(&said.stdout).unwrap_or_default()
}

/// Waits until every row that was there is in the log.
async fn captured(pair: &Pair) {
    let captured = async || status(pair).await["services"][0]["state"] == "capturing";
    eventually(LONG, "the snapshot", captured).await;
}

/// Lives for a while, is killed, and starts again; several times.
async fn killed(pair: &Pair, mut running: Running) -> Running {
    for _ in 0..3 {
        let lives = rand::rng().random_range(50..500);
        tokio::time::sleep(Duration::from_millis(lives)).await;
        running.kill_9().await;
        running = start(pair).await;
    }
    running
}

/// A position after which a backup may begin: whatever was written to the log before it can be seen.
async fn position(kind: Kind, pair: &Pair, source: &Side) -> String {
    if kind == Kind::Sqlite {
        let position = status(pair).await["services"][0]["position"].as_str().unwrap().to_string();
        return format!("position:{position}");
    }
    let position = source.value("SELECT pg_current_wal_lsn()::text").await;
    let running = source.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").await;
    let ended = format!("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= '{running}'");
    source.until(&ended, "t").await;
    position
}

fn values(rows: &[Vec<Option<String>>]) -> String {
    let quoted = |v: &Option<String>| match v {
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => "NULL".into(),
    };
    let row = |r: &Vec<_>| format!("({})", r.iter().map(quoted).collect::<Vec<_>>().join(", "));
    rows.iter().map(row).collect::<Vec<_>>().join(", ")
}

async fn a_restored_backup_follows_from_its_position(kind: Kind) {
    let mut pair = bank(kind, kind, 20).await;
    pair.configure(bank::PUBLISH, "");
    let source = Arc::new(std::mem::replace(&mut pair.from, Side::new(Kind::Sqlite).await));
    let traffic = Traffic::start(source.clone(), 20, rand::random());
    let running = start(&pair).await;
    captured(&pair).await;
    let from = position(kind, &pair, &source).await;
    // More happens before the backup, and while it is restored.
    traffic.goes_on(20).await;
    pair.to.sql(COPIES).await;
    for (table, columns) in
        [("account", "id, balance, note"), ("entry", "id, account, amount, note")]
    {
        let rows = source.sql(&format!("SELECT {columns} FROM {table}")).await;
        pair.to.sql(&format!("INSERT INTO {table}_copy VALUES {}", values(&rows))).await;
    }
    // What only the copy has shows that nothing is emptied or swapped away.
    pair.to.sql("INSERT INTO account_copy VALUES (-5, 0, 'mine')").await;
    let (account, entry) = (format!("{}.account", pair.service), format!("{}.entry", pair.service));
    let first = ["subscribe", "order", &account, "--into", "account_copy", "--from", &from];
    pair.rowcast.run(LONG, &first).await.good();
    let running = killed(&pair, running).await;
    let fields = "id,account,amount,remark=note";
    let more = ["--into", "entry_copy", "--fields", fields, "--from", &from, "--wait-live"];
    let second = [&["subscribe", "order", &entry][..], &more].concat();
    let said = pair.rowcast.run(LONG, &second).await.good();
    assert!(said.stdout.contains(&format!("from {from} on")), "{}", said.said());
    let running = killed(&pair, running).await;
    traffic.goes_on(20).await;
    traffic.stop().await;
    running.terminate(LONG).await.good();
    pair.from = Arc::into_inner(source).unwrap();
    pair.catch_up().await;
    assert_eq!(pair.to.value("SELECT note FROM account_copy WHERE id = -5").await, "mine");
    pair.to.sql("DELETE FROM account_copy WHERE id = -5").await;
    assert_same(&pair).await;
}

#[tokio::test]
async fn a_restored_backup_follows_from_its_position_postgres() {
    a_restored_backup_follows_from_its_position(Kind::Postgres).await;
}

#[tokio::test]
async fn a_restored_backup_follows_from_its_position_sqlite() {
    a_restored_backup_follows_from_its_position(Kind::Sqlite).await;
}

/// Replays from the beginning and from an offset, with kills; what somebody did to the copy is mended.
async fn replayed_under_load_and_kills(from: Kind, to: Kind) {
    let mut pair = bank(from, to, 20).await;
    pair.catch_up().await;
    let source = Arc::new(std::mem::replace(&mut pair.from, Side::new(Kind::Sqlite).await));
    let running = start(&pair).await;
    captured(&pair).await;
    let offset = status(&pair).await["services"][0]["log"]["next"].to_string();
    let traffic = Traffic::start(source.clone(), 20, rand::random());
    let route = format!("{}:order", pair.service);
    let live = ["wait", "--live", "--route", &route, "--timeout", "5m"];
    // As the copy's database spells it.
    let (some, yes) =
        ("SELECT count(*) > 20 FROM entry_copy", ["1", "t"][usize::from(to == Kind::Postgres)]);
    pair.to.until(some, yes).await;
    pair.to.by_hand("entry_copy", "DELETE FROM entry_copy WHERE id % 3 = 0").await;
    let said = pair.rowcast.run(LONG, &["replay", &route, "entry", "--from", &offset]).await.good();
    assert!(said.stdout.contains("to 1 copy again"), "{}", said.said());
    let running = killed(&pair, running).await;
    pair.rowcast.run(LONG, &live).await.good();
    pair.to.sql("INSERT INTO account_copy VALUES (-5, 0, 'a stranger')").await;
    let said = pair.rowcast.run(LONG, &["replay", &route]).await.good();
    assert!(said.stdout.contains("builds 2 copies anew"), "{}", said.said());
    let running = killed(&pair, running).await;
    pair.rowcast.run(LONG, &live).await.good();
    traffic.goes_on(20).await;
    traffic.stop().await;
    running.terminate(LONG).await.good();
    pair.from = Arc::into_inner(source).unwrap();
    pair.catch_up().await;
    assert_same(&pair).await;
}

#[tokio::test]
async fn a_replay_under_load_and_kills_ends_identical_postgres() {
    replayed_under_load_and_kills(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn a_replay_under_load_and_kills_ends_identical_sqlite() {
    replayed_under_load_and_kills(Kind::Sqlite, Kind::Sqlite).await;
}

#[tokio::test]
async fn from_now_on_is_once_and_leaves_the_rows_that_are_there() {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        let subscribe = "[service.order.subscribe.\"shop.item\"]\ninto = \"item_copy\"";
        let publish = "[service.shop.publish.item]";
        let pair = Pair::new(kind, kind, publish, "").await;
        let table = "CREATE TABLE item (id INT PRIMARY KEY, name TEXT, big TEXT)";
        pair.from.sql(table).await;
        if kind == Kind::Postgres {
            // Updates do not send it unless it changed.
            pair.from.sql("ALTER TABLE item ALTER big SET STORAGE EXTERNAL").await;
        }
        let big = "b".repeat(10_000);
        let rows = format!("INSERT INTO item VALUES (1, 'old', '{big}'), (2, 'old', '{big}')");
        pair.from.sql(&rows).await;
        pair.to.sql("CREATE TABLE item_copy (id INT PRIMARY KEY, name TEXT, big TEXT)").await;
        pair.to.sql("INSERT INTO item_copy VALUES (77, 'mine', 'm')").await;
        pair.configure(publish, &format!("{subscribe}\nfrom = \"now\""));
        let running = start(&pair).await;
        running.kill_9().await;
        pair.catch_up().await;
        pair.from.sql("UPDATE item SET name = 'new' WHERE id = 2").await;
        pair.from.sql("INSERT INTO item VALUES (3, 'new', 'b')").await;
        pair.catch_up().await;
        pair.catch_up().await;
        let copied =
            "SELECT string_agg(id || name, ',') FROM (SELECT * FROM item_copy ORDER BY id) i";
        let copied = match kind {
            Kind::Postgres => copied.to_string(),
            Kind::Sqlite => copied.replace("string_agg", "group_concat"),
        };
        assert_eq!(pair.to.value(&copied).await, "2new,3new,77mine", "{kind:?}");
        let whole = "SELECT length(big) FROM item_copy WHERE id = 2";
        assert_eq!(pair.to.value(whole).await, "10000", "{kind:?}");
        // Without it the copy has to hold every row.
        pair.configure(publish, subscribe);
        pair.catch_up().await;
        assert_eq!(pair.to.value(&copied).await, "1old,2new,3new", "{kind:?}");
    }
}

#[tokio::test]
async fn a_place_that_the_log_does_not_hold_is_refused_with_what_it_holds() {
    let subscribe = "[service.order.subscribe.\"shop.item\"]\ninto = \"item_copy\"";
    let publish = "[service.shop.publish.item]";
    let pair = Pair::new(Kind::Postgres, Kind::Sqlite, publish, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 'a')").await;
    let old = pair.from.value("SELECT pg_current_wal_lsn()::text").await;
    pair.catch_up().await;
    pair.configure(publish, &format!("{}\nfrom = \"{old}\"", subscribe.replace("_copy", "_more")));
    let told = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(told.code(), Some(1), "{}", told.said());
    for word in ["LOG-TRIMMED", "does not hold all of item", "position", "leave `from` out"] {
        assert!(told.stderr.contains(word), "{word}: {}", told.said());
    }
    pair.configure(publish, &format!("{subscribe}\nfrom = \"yesterday\""));
    let told = pair.rowcast.run(LONG, &["status"]).await;
    assert_eq!(told.code(), Some(2), "{}", told.said());
    assert!(told.stderr.contains("`yesterday` is no place to begin at"), "{}", told.said());
    pair.configure(publish, subscribe);
    pair.catch_up().await;
    let running = start(&pair).await;
    let route = format!("{}:order", pair.service);
    let told = pair.rowcast.run(LONG, &["replay", &route, "--from", &old]).await;
    assert_eq!(told.code(), Some(1), "{}", told.said());
    assert!(told.stderr.contains("--from beginning"), "{}", told.said());
    let told = pair.rowcast.run(LONG, &["replay", &route, "items"]).await;
    assert_eq!(told.code(), Some(2), "{}", told.said());
    assert!(told.stderr.contains("did you mean `item`?"), "{}", told.said());
    running.terminate(LONG).await.good();
}
