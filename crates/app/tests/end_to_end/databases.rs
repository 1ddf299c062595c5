//! Databases that go away and come back, in both roles.

use super::side::LONG;
use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::eventually;

fn config(from: &Server, to: &Server) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = \"{}\"\n\
         [service.shop.publish.item]\n[service.order]\ndatabase = \"{}\"\n\
         [service.order.subscribe.\"shop.item\"]\n",
        from.url("postgres"),
        to.url("postgres")
    )
}

async fn count(server: &Server) -> String {
    let rows = server.try_sql("postgres", "SELECT count(*) FROM item").await;
    rows.map_or_else(|_| "none".into(), |rows| rows[0][0].clone().unwrap_or_default())
}

#[tokio::test]
async fn a_target_that_is_down_costs_its_source_nothing_and_catches_up() {
    let (from, mut to) = (Server::start().await, Server::start().await);
    from.sql("postgres", "CREATE TABLE item (id int PRIMARY KEY, name text)").await;
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config(&from, &to));
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    let mut running = rowcast.start(&["run"]);
    to.kill_9().await;
    from.sql("postgres", "INSERT INTO item SELECT i, 'x' FROM generate_series(1, 1000) i").await;
    let written = from.sql("postgres", "SELECT pg_current_wal_lsn()").await[0][0].clone().unwrap();
    // The log takes it all, so the source may forget it although the target is down.
    let confirmed = format!(
        "SELECT confirmed_flush_lsn >= '{written}' FROM pg_replication_slots \
         WHERE slot_name = 'rowcast_shop'"
    );
    eventually(LONG, "the source is let go", async || {
        from.sql("postgres", &confirmed).await == [[Some("t".to_string())]]
    })
    .await;
    eventually(LONG, "the route says that it retries", async || {
        let status = rowcast.run(LONG, &["status", "--json"]).await;
        status.stdout.contains("\"retrying\"")
    })
    .await;
    to.start_again().await;
    eventually(LONG, "the copy", async || count(&to).await == "1000").await;
    assert!(running.is_running());
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn a_source_that_crashes_or_restarts_is_followed_on() {
    let (mut from, to) = (Server::start_with(&[("fsync", "on")]).await, Server::start().await);
    from.sql("postgres", "CREATE TABLE item (id int PRIMARY KEY, name text)").await;
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config(&from, &to));
    let mut running = rowcast.start(&["run"]);
    for round in 1..=3 {
        let insert = format!(
            "INSERT INTO item SELECT i, 'x' FROM generate_series({round} * 1000, {round} * 1000 + 499) i"
        );
        from.sql("postgres", &insert).await;
        if round == 2 {
            from.restart().await;
        } else {
            from.kill_9().await;
            from.start_again().await;
        }
    }
    eventually(LONG, "the copy", async || count(&to).await == "1500").await;
    assert!(running.is_running());
    running.terminate(LONG).await.good();
}
