//! A copy whose table somebody drops, replaces, renames, moves or empties is never written on as if
//! nothing were missing: it is rebuilt from the log, and that is told.

use super::side::{Kind, LONG, Pair};
use rowcast_testkit::process::Running;

const PUBLISH: &str = "[service.shop.publish.item]\n[service.shop.publish.other]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]\ninto = \"item_copy\"\n\
                         [service.order.subscribe.\"shop.other\"]\ninto = \"other_copy\"";
const ALL: &str = "SELECT id, name FROM item ORDER BY id";
const ALL_COPIED: &str = "SELECT id, name FROM item_copy ORDER BY id";
const OTHERS: &str = "SELECT id FROM other ORDER BY id";
const OTHERS_COPIED: &str = "SELECT id FROM other_copy ORDER BY id";

/// What somebody may do to a copy, in statements for either kind of database.
const MEDDLING: &[&str] = &[
    "DROP TABLE item_copy",
    "DROP TABLE item_copy; CREATE TABLE item_copy (id BIGINT PRIMARY KEY, name TEXT)",
    "ALTER TABLE item_copy RENAME TO item_old",
    "ALTER TABLE item_copy RENAME TO item_old; CREATE TABLE item_copy (id BIGINT PRIMARY KEY, name TEXT); \
     INSERT INTO item_copy VALUES (1, 'mine')",
];
const MEDDLING_POSTGRES: &[&str] = &[
    "TRUNCATE item_copy",
    "CREATE SCHEMA elsewhere; ALTER TABLE item_copy SET SCHEMA elsewhere",
    "BEGIN; TRUNCATE item_copy; ALTER TABLE item_copy ADD COLUMN mine TEXT; COMMIT",
];

fn meddling(kind: Kind) -> Vec<&'static str> {
    let more = if kind == Kind::Postgres { MEDDLING_POSTGRES } else { &[] };
    MEDDLING.iter().chain(more).copied().collect()
}

async fn items(from: Kind, to: Kind, subscribe: &str) -> Pair {
    let pair = Pair::new(from, to, PUBLISH, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)").await;
    pair.from.sql("CREATE TABLE other (id INT PRIMARY KEY)").await;
    let rows: Vec<_> = (0..200).map(|i| format!("({i}, 'item {i}')")).collect();
    pair.from.sql(&format!("INSERT INTO item VALUES {}", rows.join(", "))).await;
    pair.from.sql("INSERT INTO other VALUES (1), (2)").await;
    pair.catch_up().await;
    pair
}

async fn running(pair: &Pair) -> Running {
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    running
}

async fn end(running: Running) {
    running.terminate(LONG).await.good();
}

async fn stopped(to: Kind) {
    for meddling in meddling(to) {
        println!("{meddling}");
        let pair = items(Kind::Sqlite, to, SUBSCRIBE).await;
        pair.to.sql(meddling).await;
        let check = pair.rowcast.run(LONG, &["check"]).await.good();
        assert!(check.stdout.contains("rebuild"), "{}", check.said());
        assert!(!check.stdout.contains("will be made"), "{}", check.said());
        pair.from.sql("INSERT INTO item VALUES (777, 'late')").await;
        let run = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
        assert!(run.stderr.contains("WARN") && run.stderr.contains("item_copy"), "{}", run.said());
        pair.same(ALL, ALL_COPIED).await;
        pair.same(OTHERS, OTHERS_COPIED).await;
        let check = pair.rowcast.run(LONG, &["check"]).await.good();
        assert!(!check.stdout.contains("rebuild"), "{}", check.said());
        let run = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
        assert!(!run.stderr.contains("WARN"), "{}", run.said());
    }
}

#[tokio::test]
async fn a_copy_that_is_lost_while_stopped_is_rebuilt_in_postgres() {
    stopped(Kind::Postgres).await;
}

#[tokio::test]
async fn a_copy_that_is_lost_while_stopped_is_rebuilt_in_sqlite() {
    stopped(Kind::Sqlite).await;
}

async fn meanwhile(to: Kind) {
    for meddling in meddling(to) {
        println!("{meddling}");
        let pair = items(Kind::Sqlite, to, SUBSCRIBE).await;
        let running = running(&pair).await;
        pair.to.sql(meddling).await;
        pair.from
            .sql("UPDATE item SET name = 'new' WHERE id < 9; INSERT INTO other VALUES (3)")
            .await;
        pair.until_same(ALL, ALL_COPIED).await;
        pair.until_same(OTHERS, OTHERS_COPIED).await;
        pair.live().await;
        let said = running.stderr();
        assert!(said.contains("WARN") && said.contains("item_copy"), "{said}");
        end(running).await;
        pair.catch_up().await;
        pair.same(ALL, ALL_COPIED).await;
    }
}

#[tokio::test]
async fn a_copy_that_is_lost_while_rows_come_is_rebuilt_in_postgres() {
    meanwhile(Kind::Postgres).await;
}

#[tokio::test]
async fn a_copy_that_is_lost_while_rows_come_is_rebuilt_in_sqlite() {
    meanwhile(Kind::Sqlite).await;
}

#[tokio::test]
async fn a_copy_that_is_lost_while_nothing_comes_is_rebuilt() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = items(Kind::Sqlite, to, SUBSCRIBE).await;
        let running = running(&pair).await;
        pair.to.sql("DROP TABLE item_copy").await;
        pair.until_same(ALL, ALL_COPIED).await;
        end(running).await;
    }
}

#[tokio::test]
async fn a_view_in_the_place_of_a_copy_is_told_and_others_go_on() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = items(Kind::Sqlite, to, SUBSCRIBE).await;
        let mut running = running(&pair).await;
        pair.to.sql("ALTER TABLE item_copy RENAME TO item_old").await;
        pair.to.sql("CREATE VIEW item_copy AS SELECT id, name FROM item_old WHERE id < 5").await;
        pair.from.sql("INSERT INTO other VALUES (3)").await;
        running.says(LONG, "SINK-SCHEMA").await;
        pair.until_same(OTHERS, OTHERS_COPIED).await;
        pair.to.sql("DROP VIEW item_copy").await;
        pair.until_same(ALL, ALL_COPIED).await;
        end(running).await;
    }
}

#[tokio::test]
async fn a_lost_copy_that_may_not_be_made_pauses_and_says_what_to_run() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = items(Kind::Sqlite, to, SUBSCRIBE).await;
        pair.configure(PUBLISH, &SUBSCRIBE.replace("item_copy\"", "item_copy\"\ncreate = false"));
        pair.catch_up().await;
        pair.to.sql("DROP TABLE item_copy").await;
        let run = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
        assert_eq!(run.code(), Some(1), "{}", run.said());
        assert!(run.stderr.contains("SINK-SCHEMA"), "{}", run.said());
        assert!(run.stderr.contains("CREATE TABLE"), "{}", run.said());
        pair.to.sql("CREATE TABLE item_copy (id BIGINT PRIMARY KEY, name TEXT)").await;
        pair.catch_up().await;
        pair.same(ALL, ALL_COPIED).await;
    }
}

#[tokio::test]
async fn a_copy_that_is_only_written_anew_is_not_rebuilt() {
    let pair = items(Kind::Sqlite, Kind::Postgres, SUBSCRIBE).await;
    let run = running(&pair).await;
    pair.to.sql("VACUUM FULL item_copy").await;
    pair.from.sql("UPDATE item SET name = 'new' WHERE id < 9; INSERT INTO other VALUES (3)").await;
    pair.until_same(ALL, ALL_COPIED).await;
    let said = run.stderr();
    assert!(!said.contains("WARN"), "{said}");
    end(run).await;
    pair.to.sql("VACUUM FULL item_copy").await;
    let again = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    assert!(!again.stderr.contains("WARN"), "{}", again.said());
    pair.same(ALL, ALL_COPIED).await;
}

#[tokio::test]
async fn what_the_source_empties_is_no_loss_of_the_copy() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = items(Kind::Postgres, to, SUBSCRIBE).await;
        let run = running(&pair).await;
        pair.from.sql("TRUNCATE item; INSERT INTO item VALUES (1, 'one')").await;
        pair.until_same(ALL, ALL_COPIED).await;
        pair.from.sql("TRUNCATE item").await;
        pair.to.until("SELECT count(*) FROM item_copy", "0").await;
        pair.from.sql("INSERT INTO item VALUES (2, 'two')").await;
        pair.until_same(ALL, ALL_COPIED).await;
        let said = run.stderr();
        assert!(!said.contains("WARN"), "{said}");
        end(run).await;
        let again = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
        assert!(!again.stderr.contains("WARN"), "{}", again.said());
    }
}

#[tokio::test]
async fn a_target_of_an_earlier_rowcast_gets_its_notes_without_a_rebuild() {
    for (to, earlier) in [
        (Kind::Postgres, "ALTER TABLE rowcast.member DROP COLUMN relation, DROP COLUMN storage"),
        (Kind::Sqlite, "UPDATE _rowcast_members SET mark = NULL; DROP INDEX \"{mark}\""),
    ] {
        let pair = items(Kind::Sqlite, to, SUBSCRIBE).await;
        let mark = format!("_rowcast_copy_{}:order_item_copy", pair.service);
        pair.to.sql(&earlier.replace("{mark}", &mark)).await;
        let run = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
        assert!(!run.stderr.contains("WARN"), "{}", run.said());
        pair.to.sql("DROP TABLE item_copy").await;
        pair.catch_up().await;
        pair.same(ALL, ALL_COPIED).await;
    }
}

#[track_caller]
fn nobody_alters_ours(said: &str) {
    let mut asked = said.lines().filter(|line| line.contains("ALTER TABLE"));
    assert!(!asked.any(|line| line.contains("build_")), "somebody is asked to: {said}");
}

async fn there_and_back(from: Kind, to: Kind, there: &str, back: &str) {
    println!("{from:?} to {to:?}: {there}");
    let pair = Pair::new(from, to, PUBLISH, SUBSCRIBE).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name INT NOT NULL)").await;
    pair.from.sql("CREATE TABLE other (id INT PRIMARY KEY)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 10), (2, 20)").await;
    pair.from.sql("INSERT INTO other VALUES (1)").await;
    pair.catch_up().await;
    let mut running = running(&pair).await;
    pair.from.sql(there).await;
    pair.from.sql("INSERT INTO item VALUES (3, 'three')").await;
    running.says(LONG, "SINK-SCHEMA").await;
    pair.from.sql("INSERT INTO other VALUES (2)").await;
    pair.until_same(OTHERS, OTHERS_COPIED).await;
    pair.from.sql(back).await;
    pair.from.sql("INSERT INTO item VALUES (4, 40)").await;
    pair.until_same(ALL, ALL_COPIED).await;
    pair.live().await;
    nobody_alters_ours(&running.stderr());
    end(running).await;
}

#[tokio::test]
async fn a_type_that_changes_there_and_back_leaves_the_copy_whole() {
    let there = "ALTER TABLE item ALTER COLUMN name TYPE text";
    let back = "ALTER TABLE item ALTER COLUMN name TYPE int USING length(name)";
    there_and_back(Kind::Postgres, Kind::Postgres, there, back).await;
}

#[tokio::test]
async fn a_table_that_is_rebuilt_there_and_back_leaves_the_copy_whole() {
    let rebuilt = |kind: &str, value: &str| {
        format!(
            "CREATE TABLE item_new (id INT PRIMARY KEY, name {kind} NOT NULL); \
             INSERT INTO item_new SELECT id, {value} FROM item; DROP TABLE item; \
             ALTER TABLE item_new RENAME TO item"
        )
    };
    let (there, back) = (rebuilt("TEXT", "name"), rebuilt("INT", "length(name)"));
    there_and_back(Kind::Sqlite, Kind::Postgres, &there, &back).await;
    there_and_back(Kind::Sqlite, Kind::Sqlite, &there, &back).await;
}

#[tokio::test]
async fn a_key_that_moves_there_and_back_leaves_the_copy_whole() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = items(Kind::Postgres, to, SUBSCRIBE).await;
        let mut running = running(&pair).await;
        let key = |column: &str| {
            format!("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY ({column})")
        };
        pair.from.sql(&key("name")).await;
        pair.from.sql("INSERT INTO item VALUES (900, 'other key')").await;
        running.says(LONG, "SINK-SCHEMA").await;
        pair.from.sql("INSERT INTO other VALUES (3)").await;
        pair.until_same(OTHERS, OTHERS_COPIED).await;
        pair.from.sql(&key("id")).await;
        pair.from.sql("INSERT INTO item VALUES (901, 'this key')").await;
        pair.until_same(ALL, ALL_COPIED).await;
        pair.live().await;
        nobody_alters_ours(&running.stderr());
        end(running).await;
    }
}

#[tokio::test]
async fn a_copy_that_waits_for_its_owner_keeps_no_other_from_being_rebuilt() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = items(Kind::Postgres, to, SUBSCRIBE).await;
        let mut running = running(&pair).await;
        pair.from.sql("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (name)").await;
        running.says(LONG, "SINK-SCHEMA").await;
        pair.to.sql("DROP TABLE other_copy").await;
        pair.from.sql("INSERT INTO other VALUES (3)").await;
        pair.until_same(OTHERS, OTHERS_COPIED).await;
        pair.from.sql("INSERT INTO other VALUES (4); INSERT INTO item VALUES (900, 'new')").await;
        pair.until_same(OTHERS, OTHERS_COPIED).await;
        pair.to.sql("CREATE UNIQUE INDEX item_name ON item_copy (name)").await;
        pair.until_same(ALL, ALL_COPIED).await;
        pair.live().await;
        end(running).await;
    }
}
