//! What happens behind our back: each ends in a message that says what to type, and in nothing lost.

use super::side::{Kind, LONG, Pair};
use rowcast_testkit::wait::eventually;

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]";

async fn pair(from: Kind, to: Kind) -> Pair {
    let pair = Pair::new(from, to, PUBLISH, SUBSCRIBE).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 'one'), (2, 'two')").await;
    pair.catch_up().await;
    pair
}

/// Drops the slot, which the process that used it may hold for a moment longer.
async fn drop_slot(pair: &Pair) {
    let slot = format!("FROM pg_replication_slots WHERE slot_name = 'rowcast_{}'", pair.service);
    pair.from.until(&format!("SELECT active {slot}"), "f").await;
    pair.from.sql(&format!("SELECT pg_drop_replication_slot(slot_name) {slot}")).await;
}

const ALL: &str = "SELECT id, name FROM item ORDER BY id";

#[tokio::test]
async fn a_slot_that_was_dropped_stops_capture_until_a_person_says_so() {
    let pair = pair(Kind::Postgres, Kind::Sqlite).await;
    drop_slot(&pair).await;
    pair.from.sql("DELETE FROM item WHERE id = 1").await;
    let refused = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    assert!(refused.stderr.contains("SOURCE-EPOCH"), "{}", refused.said());
    let remedy = format!("rowcast run --resnapshot {}", pair.service);
    assert!(refused.stderr.contains(&remedy), "{}", refused.said());
    let mended = ["run", "--until-caught-up", "--resnapshot", &pair.service];
    pair.rowcast.run(LONG, &mended).await.good();
    pair.same(ALL, ALL).await;
}

#[tokio::test]
async fn a_slot_that_was_recreated_is_never_silently_continued() {
    let pair = pair(Kind::Postgres, Kind::Postgres).await;
    drop_slot(&pair).await;
    pair.from.sql("DELETE FROM item WHERE id = 1").await;
    let recreate = "SELECT pg_create_logical_replication_slot('rowcast_SHOP', 'pgoutput')";
    pair.from.sql(&recreate.replace("SHOP", &pair.service)).await;
    pair.from.sql("INSERT INTO item VALUES (3, 'three')").await;
    let refused = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    assert!(refused.stderr.contains("SOURCE-EPOCH"), "{}", refused.said());
    assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "2", "nothing went on");
    let mended = ["run", "--until-caught-up", "--resnapshot", &pair.service];
    pair.rowcast.run(LONG, &mended).await.good();
    pair.same(ALL, ALL).await;
}

#[tokio::test]
async fn a_second_run_on_the_same_data_directory_is_refused() {
    let pair = pair(Kind::Sqlite, Kind::Sqlite).await;
    let running = pair.rowcast.start(&["run"]);
    eventually(LONG, "a running instance", async || {
        pair.rowcast.run(LONG, &["status"]).await.code() == Some(0)
    })
    .await;
    let second = pair.rowcast.run(LONG, &["run"]).await;
    assert_eq!(second.code(), Some(1), "{}", second.said());
    assert!(second.stderr.contains("DATA-LOCKED"), "{}", second.said());
    assert!(second.stderr.contains(&running.id().to_string()), "{}", second.said());
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn an_old_copy_of_the_data_directory_is_refused() {
    for from in [Kind::Postgres, Kind::Sqlite] {
        let pair = pair(from, Kind::Postgres).await;
        copy_dir(&pair.rowcast.path("rowcast-data"), &pair.rowcast.path("old-data"));
        pair.from.sql("INSERT INTO item VALUES (3, 'three')").await;
        pair.catch_up().await;
        if from == Kind::Sqlite {
            // As capture does after some quiet seconds: what is still there could be captured again.
            let end = "SELECT max(seq) + 1 FROM _rowcast_changes";
            pair.from.sql(&format!("UPDATE _rowcast_source SET purged = ({end})")).await;
            pair.from.sql("DELETE FROM _rowcast_changes").await;
        }
        std::fs::remove_dir_all(pair.rowcast.path("rowcast-data")).unwrap();
        std::fs::rename(pair.rowcast.path("old-data"), pair.rowcast.path("rowcast-data")).unwrap();
        let checked = pair.rowcast.run(LONG, &["check"]).await;
        assert!(
            checked.stdout.contains("this data directory is an old copy"),
            "{}",
            checked.said()
        );
        pair.from.sql("INSERT INTO item VALUES (4, 'four')").await;
        let refused = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
        assert_eq!(refused.code(), Some(1), "{}", refused.said());
        let told =
            refused.stderr.contains("SOURCE-EPOCH") || refused.stderr.contains("SINK-CHECKPOINT");
        assert!(told, "{}", refused.said());
        assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "3");
    }
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_found_and_never_delivered() {
    let pair = pair(Kind::Sqlite, Kind::Sqlite).await;
    for i in 0..50 {
        pair.from.sql(&format!("INSERT INTO item VALUES ({}, 'more')", 100 + i)).await;
        if i % 10 == 0 {
            pair.catch_up().await;
        }
    }
    pair.catch_up().await;
    let stream = pair.rowcast.path("rowcast-data/log").join(&pair.service);
    let segment = std::fs::read_dir(&stream).unwrap().map(|e| e.unwrap().path());
    let segment = segment.filter(|p| p.metadata().unwrap().len() > 1000).min().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&segment, bytes).unwrap();
    let check = pair.rowcast.run(LONG, &["log", "check"]).await;
    assert_eq!(check.code(), Some(1), "{}", check.said());
    let refused = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    assert!(refused.stderr.contains("LOG-DAMAGED"), "{}", refused.said());
    assert!(refused.stderr.contains("rowcast log check"), "{}", refused.said());
    pair.same(ALL, ALL).await;
}

#[tokio::test]
async fn a_value_that_the_target_cannot_hold_parks_its_key_and_is_applied_once_it_fits() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)").await;
    let narrow = "CREATE TABLE item (id INT PRIMARY KEY, name TEXT CHECK (length(name) < 10))";
    pair.to.sql(narrow).await;
    pair.from.sql("INSERT INTO item VALUES (1, 'fits')").await;
    pair.catch_up().await;
    pair.from.sql("INSERT INTO item VALUES (2, 'does not fit in there')").await;
    pair.from.sql("INSERT INTO item VALUES (3, 'fits')").await;
    let ran = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    assert!(ran.stderr.contains("SINK-DATA"), "{}", ran.said());
    assert!(ran.stderr.contains("key 2"), "{}", ran.said());
    assert!(!ran.stderr.contains("does not fit in there"), "a value in a message");
    assert_eq!(pair.to.value("SELECT count(*) FROM item").await, "2");
    pair.to.sql("ALTER TABLE item DROP CONSTRAINT item_name_check").await;
    let running = pair.rowcast.start(&["run"]);
    pair.to.until("SELECT count(*) FROM item", "3").await;
    pair.same(ALL, ALL).await;
    running.terminate(LONG).await.good();
}
