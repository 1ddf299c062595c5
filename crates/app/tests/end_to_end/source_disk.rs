//! P6 the publisher is not held up: what its disk keeps for a capture that cannot go on is told, and
//! let go of over its limit.

use super::side::{LONG, Side};
use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::eventually;

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
    let running = rowcast.start(&["run"]);
    eventually(LONG, "the release", async || slots().await == "0").await;
    from.sql("postgres", "ALTER TABLE item RENAME title TO name").await;
    eventually(LONG, "the reason, also from the source", async || {
        let status = rowcast.run(LONG, &["status"]).await;
        status.stdout.contains("kept more than its `retain` limit and was dropped")
            && status.stdout.contains("SOURCE-EPOCH")
            && status.stdout.contains("rowcast run --resnapshot shop")
    })
    .await;
    assert_eq!(to.value("SELECT name FROM item").await, "a", "the copy stays as it was");
    running.terminate(LONG).await.good();
    rowcast.run(LONG, &["run", "--resnapshot", "shop", "--until-caught-up"]).await.good();
    let names = to.sql("SELECT name FROM item ORDER BY id").await;
    assert_eq!(names, [[Some("a".to_string())], [Some("b".to_string())]]);
}
