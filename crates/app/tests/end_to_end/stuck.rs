//! A route never stands still without a word: what the target's server answers is read whatever else is
//! waited for, and stopping ends in its time.

use super::side::{Kind, LONG, Pair, Side};
use rowcast_testkit::wait::eventually;

const PUBLISH: &str = "[service.shop.publish.t0]\n[service.shop.publish.t1]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.t0\"]\n\
                         [service.order.subscribe.\"shop.t1\"]";
const ALL: &str = "SELECT k, b, s FROM t1 ORDER BY k";

async fn thousand_rows(side: &Side, table: &str) {
    side.sql(&format!(
        "CREATE TABLE {table} (k bigint PRIMARY KEY, b int, s text); \
         INSERT INTO {table} SELECT i, i, 'A' || i FROM generate_series(1, 1000) i"
    ))
    .await;
}

/// What changes in a table in one transaction: every row, and every third is put back.
fn churn(table: &str) -> String {
    format!(
        "UPDATE {table} SET b = b + 1 WHERE k <> 7; \
         DELETE FROM {table} WHERE k % 3 = 0; \
         INSERT INTO {table} SELECT k, 5 + k, 'A' || k FROM generate_series(3, 1000, 3) k"
    )
}

#[tokio::test]
async fn rows_that_clash_in_one_of_two_tables_do_not_stop_the_route() {
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    for table in ["t0", "t1"] {
        thousand_rows(&pair.from, table).await;
    }
    pair.catch_up().await;
    pair.to.sql("CREATE UNIQUE INDEX one_b ON t0 (b)").await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    let change =
        format!("BEGIN; UPDATE t0 SET b = 8 WHERE k = 7; {}; {}; COMMIT", churn("t0"), churn("t1"));
    pair.from.sql(&change).await;
    pair.until_same(ALL, ALL).await;
    running.terminate(LONG).await.good();
    pair.to.sql("DROP INDEX one_b").await;
    let running = pair.rowcast.start(&["run"]);
    pair.to.until("SELECT count(*) FROM rowcast.parked", "0").await;
    running.terminate(LONG).await.good();
    let all = ALL.replace("t1", "t0");
    pair.same(&all, &all).await;
}

/// A rule that a few rows of three tables break, among many that do not.
#[tokio::test]
async fn rows_that_break_a_rule_in_three_tables_do_not_stop_the_route() {
    let tables = ["t0", "t1", "t2"];
    let publish = tables.map(|t| format!("[service.shop.publish.{t}]")).join("\n");
    let subscribe = tables.map(|t| format!("[service.order.subscribe.\"shop.{t}\"]")).join("\n");
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, &publish, &subscribe).await;
    for table in tables {
        thousand_rows(&pair.from, table).await;
    }
    pair.catch_up().await;
    for table in tables {
        let rule = format!("ALTER TABLE {table} ADD CONSTRAINT low CHECK (b <> 501) NOT VALID");
        pair.to.sql(&rule).await;
    }
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    pair.from.sql(&format!("BEGIN; {}; COMMIT", tables.map(churn).join("; "))).await;
    let fits = |table: &str| format!("SELECT k, b, s FROM {table} WHERE k <> 500 ORDER BY k");
    for table in tables {
        pair.until_same(&fits(table), &fits(table)).await;
    }
    pair.to.until("SELECT count(*) FROM rowcast.parked", "3").await;
    running.terminate(LONG).await.good();
}

async fn item(from: Kind, to: Kind) -> Pair {
    let publish = "[service.shop.publish.item]";
    let subscribe = "[service.order.subscribe.\"shop.item\"]";
    let pair = Pair::new(from, to, publish, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)").await;
    pair.from.sql("INSERT INTO item VALUES (1, 'one')").await;
    pair.catch_up().await;
    pair
}

const ITEMS: &str = "SELECT id, name FROM item ORDER BY id";

#[tokio::test]
async fn status_names_a_lock_and_who_holds_it_and_the_stop_does_not_wait_for_it() {
    let pair = item(Kind::Postgres, Kind::Postgres).await;
    let Side::Postgres { server, name } = &pair.to else { unreachable!("as asked") };
    let other = server.session(name).await;
    let pid = other.backend().await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    other.sql("BEGIN; LOCK TABLE item").await;
    pair.from.sql("INSERT INTO item VALUES (2, 'two')").await;
    let shown = async |args: &[&str], parts: &[&str]| {
        eventually(LONG, "the wait in status", async || {
            let status = pair.rowcast.run(LONG, args).await;
            parts.iter().all(|part| status.stdout.contains(part))
        })
        .await;
    };
    let id = format!("pid {pid}");
    shown(&["status"], &["a lock on table public.item", &id, "rowcast testkit", "user postgres"])
        .await;
    shown(&["status", "--json"], &["\"waiting\":[{\"what\":", &id, "idle in transaction"]).await;
    running.terminate(LONG).await.good();
    other.sql("COMMIT").await;
    pair.catch_up().await;
    pair.same(ITEMS, ITEMS).await;
}

/// A statement of the copy's own that takes an hour is left alone while Rowcast runs, and left behind when
/// it stops.
#[tokio::test]
async fn a_statement_that_takes_long_does_not_hold_up_the_stop() {
    let pair = item(Kind::Postgres, Kind::Postgres).await;
    let sleepy = "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$; \
                  CREATE TRIGGER nap BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION nap()";
    pair.to.sql(sleepy).await;
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    pair.from.sql("INSERT INTO item VALUES (2, 'two')").await;
    let naps = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND wait_event = 'PgSleep'";
    pair.to.until(naps, "1").await;
    let stopped = running.terminate(LONG).await.good();
    assert!(stopped.stderr.contains("did not end in time"), "{}", stopped.said());
    // The server notices that nobody waits for the answer any more.
    pair.to.until(naps, "0").await;
    pair.to.sql("DROP TRIGGER nap ON item").await;
    pair.catch_up().await;
    pair.same(ITEMS, ITEMS).await;
}

#[tokio::test]
async fn a_locked_file_is_told_with_who_holds_it_and_the_stop_does_not_wait_for_it() {
    let pair = item(Kind::Sqlite, Kind::Sqlite).await;
    let Side::Sqlite { path, .. } = &pair.to else { unreachable!("as asked") };
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    let other = rusqlite::Connection::open(path).unwrap();
    other.busy_timeout(LONG).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    pair.from.sql("INSERT INTO item VALUES (2, 'two')").await;
    let holder = format!("locked by process {}", std::process::id());
    eventually(LONG, "who holds the lock", async || {
        let status = pair.rowcast.run(LONG, &["status"]).await;
        status.stdout.contains(&holder)
    })
    .await;
    running.terminate(LONG).await.good();
    other.execute_batch("COMMIT").unwrap();
    pair.catch_up().await;
    pair.same(ITEMS, ITEMS).await;
}

/// Rows that refer to each other go and come in whatever order, also where the copy's rule looks at every
/// statement: nothing is parked for a moment.
#[tokio::test]
async fn a_chain_of_rows_comes_and_goes_from_either_end() {
    let publish = "[service.shop.publish.node]";
    let subscribe = "[service.order.subscribe.\"shop.node\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    let table = |rule| {
        format!(
            "CREATE TABLE node (id int PRIMARY KEY, parent int REFERENCES node {rule}); \
             CREATE INDEX ON node (parent)"
        )
    };
    pair.from.sql(&table("DEFERRABLE INITIALLY DEFERRED")).await;
    pair.to.sql(&table("")).await;
    let grow = "INSERT INTO node SELECT i, nullif(i - 1, 0) FROM generate_series(1, 3000) i";
    pair.from.sql(grow).await;
    pair.catch_up().await;
    // In fewer rows than go in sets, in one set, in more than one.
    for (first, last) in [(1, 10), (11, 1010), (1011, 2500)] {
        let cut = format!(
            "BEGIN; UPDATE node SET parent = NULL WHERE id = {}; \
             DELETE FROM node WHERE id BETWEEN {first} AND {last}; COMMIT",
            last + 1
        );
        pair.from.sql(&cut).await;
        let ran = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
        assert!(!ran.stderr.contains("parked ["), "{first}: {}", ran.said());
        let all = "SELECT id, parent FROM node ORDER BY id";
        pair.same(all, all).await;
    }
    for (root, leaf) in [(10_001, 10_010), (20_001, 22_500)] {
        let back = format!(
            "INSERT INTO node SELECT i, nullif(i - 1, {root} - 1) \
             FROM generate_series({leaf}, {root}, -1) i"
        );
        pair.from.sql(&back).await;
        let ran = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
        assert!(!ran.stderr.contains("parked ["), "{root}: {}", ran.said());
        let all = "SELECT id, parent FROM node ORDER BY id";
        pair.same(all, all).await;
    }
}
