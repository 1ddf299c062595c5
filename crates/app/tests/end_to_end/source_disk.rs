//! P6 the publisher is not held up: what its disk keeps for a capture that cannot go on is told, and
//! let go of over its limit.

use super::side::{LONG, Side};
use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::{becomes, eventually};

fn config(from: &Server, to: &Side, action: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = \"{}\"\n\
         retain = {{ warn = \"1 MiB\", limit = \"2 MiB\", action = \"{action}\" }}\n\
         [service.shop.publish.item]\nfields = [\"id\", \"name\"]\n\
         [service.order]\ndatabase = '{}'\n[service.order.subscribe.\"shop.item\"]\n",
        from.url("postgres"),
        to.url()
    )
}

const GROW: &str = "SELECT count(pg_logical_emit_message(false, 'x', repeat('x', 1 << 20))) \
                    FROM generate_series(1, 8)";
const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";

#[tokio::test]
async fn a_slot_that_keeps_too_much_for_a_paused_capture_is_told_and_released() {
    let (from, to) = (Server::start().await, Side::new(super::side::Kind::Sqlite).await);
    from.sql("postgres", "CREATE TABLE item (id int PRIMARY KEY, name text)").await;
    from.sql("postgres", "INSERT INTO item VALUES (1, 'a')").await;
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config(&from, &to, "alarm"));
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    // Somebody takes a published column away, and the capture has to wait for a person.
    from.sql("postgres", "ALTER TABLE item RENAME name TO title").await;
    from.sql("postgres", "INSERT INTO item VALUES (2, 'b')").await;
    from.sql("postgres", GROW).await;
    let running = rowcast.start(&["run"]);
    eventually(LONG, "the alarm", async || {
        let status = rowcast.run(LONG, &["status"]).await;
        status.stdout.contains("more than its limit of 2 MiB: capture does not go on")
    })
    .await;
    let status = rowcast.run(LONG, &["status", "--json"]).await.good();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert!(status["services"][0]["retained_bytes"].as_u64().unwrap() > 7 << 20, "{status}");
    let ended = running.terminate(LONG).await;
    assert_eq!(
        ended.said().matches("database keeps").count(),
        1,
        "it is said once: {}",
        ended.said()
    );
    let slots = async || from.sql("postgres", SLOTS).await[0][0].clone().unwrap();
    assert_eq!(slots().await, "1", "an alarm lets nothing go");

    rowcast.configure(&config(&from, &to, "release"));
    let mut running = rowcast.start(&["run"]);
    eventually(LONG, "the release", async || slots().await == "0").await;
    eventually(LONG, "the reason", async || {
        let status = rowcast.run(LONG, &["status"]).await;
        status.stdout.contains("a new history begins with a snapshot")
    })
    .await;
    assert_eq!(to.value("SELECT name FROM item").await, "a", "the copy stays as it was");
    // The release is known to whoever comes next.
    running.says(LONG, "nothing has to be typed").await;
    running.kill_9().await;
    from.sql("postgres", "ALTER TABLE item RENAME title TO name").await;
    from.sql("postgres", "INSERT INTO item VALUES (3, 'c'); DELETE FROM item WHERE id = 1").await;
    let running = rowcast.start(&["run"]);
    eventually(LONG, "a new history", async || slots().await == "1").await;
    running.kill_9().await;
    let running = rowcast.start(&["run"]);
    let names = ["b", "c"].map(|name| vec![Some(name.to_string())]).to_vec();
    let look = async || to.look("SELECT name FROM item ORDER BY id").await;
    becomes(LONG, "what came since, by itself", Ok(names), look).await;
    running.terminate(LONG).await.good();
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    // What somebody else drops is no release. The process that used it may hold it for a moment longer.
    let held = "SELECT count(*) FROM pg_replication_slots WHERE active";
    from.session("postgres").await.until(LONG, held, "0").await;
    from.sql("postgres", "SELECT pg_drop_replication_slot('rowcast_shop')").await;
    let told = rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(told.code(), Some(1), "{}", told.said());
    assert!(told.stderr.contains("SOURCE-EPOCH"), "{}", told.said());
}

#[tokio::test]
async fn what_a_service_that_publishes_nothing_any_more_left_behind_is_told() {
    use super::side::{Kind, Pair};
    for (kind, what) in [(Kind::Postgres, "DROP PUBLICATION"), (Kind::Sqlite, "DROP TRIGGER")] {
        let publish = "[service.shop.publish.item]";
        let subscribe = "[service.order.subscribe.\"shop.item\"]";
        let pair = Pair::new(kind, Kind::Sqlite, publish, subscribe).await;
        pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY)").await;
        pair.from.sql("INSERT INTO item VALUES (1)").await;
        pair.catch_up().await;
        pair.configure("", "");
        let check = pair.rowcast.run(LONG, &["check"]).await;
        assert!(check.stdout.contains("publishes nothing any more"), "{}", check.said());
        assert!(check.stdout.contains(what), "{}", check.said());
        let mut running = pair.rowcast.start(&["run"]);
        running.says(LONG, what).await;
        running.terminate(LONG).await.good();
    }
}
