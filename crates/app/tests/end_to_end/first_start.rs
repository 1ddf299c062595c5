//! A first start that cannot go on says why, and leaves nothing behind that looks like a history.

use super::side::{Kind, LONG, Side};
use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::{becomes, eventually};

fn config(database: &str, to: &Side) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = \"{database}\"\n\
         [service.shop.publish.item]\ntable = \"store.item\"\n[service.order]\n\
         database = '{}'\n[service.order.subscribe.\"shop.item\"]\n",
        to.url()
    )
}

const TABLE: &str = "CREATE SCHEMA store; CREATE TABLE store.item (id int PRIMARY KEY, name text); \
                     INSERT INTO store.item VALUES (1, 'a')";
const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rowcast_shop'";

#[tokio::test]
async fn a_right_that_is_missing_at_the_first_snapshot_is_all_that_has_to_be_granted() {
    let (from, to) = (Server::start().await, Side::new(Kind::Sqlite).await);
    // Made for the role, as `check` says it: so it may not comment on its publication.
    let setup = format!(
        "{TABLE}; CREATE ROLE capture LOGIN REPLICATION; GRANT SELECT ON store.item TO capture; \
         CREATE PUBLICATION rowcast_shop FOR TABLE store.item WITH (publish = \
         'insert, update, delete, truncate', publish_via_partition_root = true)"
    );
    from.sql("postgres", &setup).await;
    let url = from.url("postgres").replace("postgres@", "capture@");
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config(&url, &to));
    let refused = rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    assert!(refused.stderr.contains("lacks USAGE on schema store"), "{}", refused.said());
    assert_eq!(
        from.sql("postgres", SLOTS).await[0][0].as_deref(),
        Some("0"),
        "the slot went again"
    );
    let again = rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert!(again.stderr.contains("lacks USAGE on schema store"), "{}", again.said());

    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "lacks USAGE on schema store").await;
    from.sql("postgres", "GRANT USAGE ON SCHEMA store TO capture").await;
    let wanted = Ok(vec![vec![Some("a".to_string())]]);
    becomes(LONG, "the copy", wanted, async || to.look("SELECT name FROM item").await).await;
    let ended = running.terminate(LONG).await.good();
    assert!(!ended.said().contains("SOURCE-EPOCH"), "{}", ended.said());
}

#[tokio::test]
async fn a_prepared_transaction_that_holds_up_the_first_start_is_named() {
    let (from, to) = (Server::start().await, Side::new(Kind::Sqlite).await);
    from.sql("postgres", TABLE).await;
    let prepare = "BEGIN; INSERT INTO store.item VALUES (2, 'b'); PREPARE TRANSACTION 'left over'";
    from.sql("postgres", prepare).await;
    let url = from.url("postgres");
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config(&url, &to));
    const NAMED: [&str; 3] = [
        "prepared transaction 'left over' (xid ",
        "of role postgres",
        "ROLLBACK PREPARED 'left over'",
    ];
    let checked = rowcast.run(LONG, &["check"]).await.good();
    for part in NAMED {
        assert!(checked.stdout.contains(part), "{part} in {}", checked.said());
    }
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, NAMED[0]).await;
    eventually(LONG, "the status names it", async || {
        let status = rowcast.run(LONG, &["status"]).await;
        NAMED.iter().all(|part| status.stdout.contains(part))
    })
    .await;
    from.sql("postgres", "COMMIT PREPARED 'left over'").await;
    let wanted = Ok(vec![vec![Some("2".to_string())]]);
    becomes(LONG, "the copy", wanted, async || to.look("SELECT count(*) FROM item").await).await;
    eventually(LONG, "the word is gone", async || {
        !rowcast.run(LONG, &["status"]).await.stdout.contains("left over")
    })
    .await;
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn another_environments_copy_is_not_touched_before_the_source_is_compared() {
    let (from, to) = (Side::new(Kind::Sqlite).await, Side::new(Kind::Sqlite).await);
    let file = |from: &Side, to: &Side| {
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = '{}'\n\
             [service.shop.publish.item]\n[service.order]\ndatabase = '{}'\n\
             [service.order.subscribe.\"shop.item\"]\n",
            from.url(),
            to.url()
        )
    };
    from.sql("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item VALUES (1, 'test')")
        .await;
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &file(&from, &to));
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();

    let (other, copy) = (Side::new(Kind::Sqlite).await, Side::new(Kind::Sqlite).await);
    for side in [&other, &copy] {
        side.sql("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item VALUES (1, 'real')")
            .await;
    }
    rowcast.configure(&file(&other, &copy));
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "SOURCE-EPOCH").await;
    // It looks again now and then; whatever it does, it does not touch the copy.
    running.says(LONG, "capture of shop: paused").await;
    let refused =
        rowcast.run(LONG, &["wait", "--route", "shop:order", "--live", "--timeout", "3s"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    running.terminate(LONG).await.good();
    assert_eq!(copy.value("SELECT name FROM item").await, "real");
}
