//! P7 a new subscriber needs nothing from the publisher, and the subscription map is as it was after
//! any restart: subscriptions that come and go while the real binary runs.

use super::bank::Traffic;
use super::side::{Kind, LONG, Side};
use rand::Rng;
use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::{Finished, Rowcast, Running};
use rowcast_testkit::wait::eventually;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static NUMBER: AtomicU32 = AtomicU32::new(0);

const TABLES: &str = "CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, note TEXT); \
     CREATE TABLE entry (id BIGINT PRIMARY KEY, account BIGINT NOT NULL, amount BIGINT NOT NULL, \
     note TEXT, secret TEXT); INSERT INTO account VALUES (0, 0, 'a'), (1, 0, 'b'), (2, 0, 'c')";
const ACCOUNTS: &str = "SELECT id, balance, note FROM account ORDER BY id";

/// A publisher, one subscriber that the file names, and one that it does not.
struct Trio {
    shop: Arc<Side>,
    order: Side,
    bill: Side,
    rowcast: Rowcast,
    /// The publisher's name; its own in each test, because slots belong to a whole server.
    name: String,
}

impl Trio {
    async fn new(kind: Kind) -> Self {
        Self::around(Side::new(kind).await, kind).await
    }

    /// With this publisher, and subscribers of a kind.
    async fn around(shop: Side, kind: Kind) -> Self {
        let (order, bill) = (Side::new(kind).await, Side::new(kind).await);
        shop.sql(TABLES).await;
        let name = format!("trade{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), "");
        let trio = Self { shop: Arc::new(shop), order, bill, rowcast, name };
        trio.configure("");
        trio
    }

    /// The file, with more at its end.
    fn configure(&self, more: &str) {
        let (shop, order, bill) = (self.shop.url(), self.order.url(), self.bill.url());
        let name = &self.name;
        self.rowcast.configure(&format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\n[service.{name}]\ndatabase = '{shop}'\n\
             [service.{name}.publish.account]\n\n[service.order]\ndatabase = '{order}'\n\
             [service.order.subscribe.\"{name}.account\"]\ninto = \"account_copy\"\n\n\
             [service.bill]\ndatabase = '{bill}'\n\n{more}\n"
        ));
    }

    /// Starts the instance and waits until it answers.
    async fn start(&self) -> Running {
        let mut running = self.rowcast.start(&["run"]);
        running.says(LONG, "answering on").await;
        running
    }

    async fn say(&self, args: &[&str]) -> Finished {
        self.rowcast.run(LONG, args).await
    }

    fn of(&self, entity: &str) -> String {
        format!("{}.{entity}", self.name)
    }

    fn route(&self, to: &str) -> String {
        format!("{}:{to}", self.name)
    }

    async fn subscribe(&self, more: &[&str]) -> Finished {
        let of = self.of("account");
        let mut args = vec!["subscribe", "bill", &of, "--into", "account_copy"];
        args.extend(more);
        self.say(&args).await
    }

    async fn listed(&self) -> Vec<Value> {
        let said = self.say(&["subscriptions", "--json"]).await.good();
        let all: Value = serde_json::from_str(&said.stdout).unwrap();
        all["subscriptions"].as_array().unwrap().clone()
    }

    /// What a running instance says; nothing when it does not answer yet.
    async fn status(&self) -> Value {
        let said = self.say(&["status", "--json"]).await;
        serde_json::from_str(&said.stdout).unwrap_or_default()
    }

    async fn routes(&self) -> Vec<Value> {
        self.status().await["routes"].as_array().cloned().unwrap_or_default()
    }

    async fn route_is(&self, to: &str, state: &str) -> bool {
        self.routes().await.iter().any(|r| r["to"] == to && r["state"] == state)
    }

    async fn route_is_gone(&self, to: &str) -> bool {
        let routes = self.routes().await;
        !routes.is_empty() && routes.iter().all(|r| r["to"] != to)
    }

    async fn is_same(&self, side: &Side) -> bool {
        let copy = "SELECT id, balance, note FROM account_copy ORDER BY id";
        Ok(self.shop.sql(ACCOUNTS).await) == side.look(copy).await
    }

    /// `verify` and `check` know what was subscribed to at run time.
    async fn is_looked_at_like_the_files(&self) {
        let route = self.route("bill");
        let said = self.say(&["verify"]).await.good();
        assert!(said.stdout.contains(&route), "{}", said.said());
        self.bill.sql("UPDATE account_copy SET note = 'by hand'").await;
        let said = self.say(&["verify", "--route", &route]).await;
        assert_eq!(said.code(), Some(1), "{}", said.said());
        self.say(&["verify", "--route", &route, "--repair"]).await.good();
        let said = self.say(&["check", "--json"]).await.good();
        let checked: Value = serde_json::from_str(&said.stdout).unwrap();
        let services = checked["services"].as_array().unwrap();
        let bill = services.iter().find(|s| s["name"] == "bill").unwrap();
        assert!(bill["findings"].to_string().contains("account_copy"), "{bill}");
    }

    async fn becomes_same(&self, side: &Side) {
        eventually(LONG, "the copy", async || self.is_same(side).await).await;
    }
}

async fn a_subscriber_added_under_load_gets_an_identical_copy(kind: Kind) {
    let trio = Trio::new(kind).await;
    let running = trio.start().await;
    let traffic = Traffic::start(trio.shop.clone(), 3, rand::random());
    eventually(LONG, "the file's route", async || trio.route_is("order", "live").await).await;
    let said = trio.subscribe(&["--wait-live"]).await.good();
    assert!(said.stdout.contains("gets") && said.stdout.contains("is live"), "{}", said.said());
    traffic.goes_on(20).await;
    traffic.stop().await;
    trio.becomes_same(&trio.bill).await;
    trio.becomes_same(&trio.order).await;
    let listed = trio.listed().await;
    let origins: Vec<_> = listed.iter().map(|s| s["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["file", "run-time"]);
    trio.is_looked_at_like_the_files().await;

    // Taken back: the table stays, and nothing more arrives.
    let said = trio.say(&["unsubscribe", "bill", &trio.of("account")]).await.good();
    assert!(said.stdout.contains("stays as it is"), "{}", said.said());
    // What the route had in hand it finished.
    eventually(LONG, "the end of the route", async || trio.route_is_gone("bill").await).await;
    trio.shop.sql("INSERT INTO account VALUES (900, 1, 'later')").await;
    trio.becomes_same(&trio.order).await;
    assert_eq!(trio.bill.value("SELECT count(*) FROM account_copy WHERE id = 900").await, "0");
    assert_ne!(trio.bill.value("SELECT count(*) FROM account_copy").await, "0");
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn a_subscriber_added_under_load_gets_an_identical_copy_postgres() {
    a_subscriber_added_under_load_gets_an_identical_copy(Kind::Postgres).await;
}

#[tokio::test]
async fn a_subscriber_added_under_load_gets_an_identical_copy_sqlite() {
    a_subscriber_added_under_load_gets_an_identical_copy(Kind::Sqlite).await;
}

#[tokio::test]
async fn the_publisher_does_not_notice_a_new_subscriber() {
    // A server of its own, which writes down who connects. It ends with this process.
    let settings = [("log_connections", "on")];
    let server: &'static Server = Box::leak(Box::new(Server::start_with(&settings).await));
    server.create_database("shop").await;
    let shop = Side::Postgres { server, name: "shop".into() };
    let trio = Trio::around(shop, Kind::Postgres).await;
    let running = trio.start().await;
    eventually(LONG, "the file's route", async || trio.route_is("order", "live").await).await;
    // The last one to connect is who looks what the server keeps for us.
    eventually(LONG, "all connections of a capture", async || {
        trio.status().await["services"][0]["retained_bytes"].is_u64()
    })
    .await;
    let connected = || {
        let log = server.log();
        let ours = |l: &&str| l.contains("connection authorized") && !l.contains("rowcast testkit");
        log.lines().filter(ours).count()
    };
    let slots = async || trio.shop.value("SELECT count(*) FROM pg_replication_slots").await;
    let (before, seen) = (connected(), slots().await);
    assert!(before > 0, "connections are not where we look");
    trio.subscribe(&["--wait-live"]).await.good();
    trio.bill.until("SELECT count(*) FROM account_copy", "3").await;
    assert_eq!((connected(), slots().await), (before, seen));
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn a_pause_outlives_a_kill_and_resuming_catches_up() {
    let trio = Trio::new(Kind::Sqlite).await;
    let running = trio.start().await;
    eventually(LONG, "the route", async || trio.route_is("order", "live").await).await;
    trio.becomes_same(&trio.order).await;
    trio.say(&["pause", &trio.route("order"), "--why", "a migration"]).await.good();
    running.kill_9().await;
    trio.shop.sql("INSERT INTO account VALUES (7, 7, 'while paused')").await;
    let running = trio.start().await;
    eventually(LONG, "the paused route", async || trio.route_is("order", "paused").await).await;
    let status = trio.say(&["status"]).await.good();
    assert!(status.stdout.contains("paused by") && status.stdout.contains("a migration"));
    assert!(status.stdout.contains("rowcast resume"), "{}", status.said());
    let route = trio.route("order");
    let live =
        async |within| trio.say(&["wait", "--live", "--route", &route, "--timeout", within]).await;
    let waited = live("100ms").await;
    assert_eq!(waited.code(), Some(1), "{}", waited.said());
    assert!(!trio.is_same(&trio.order).await, "a paused route stands still");
    trio.say(&["resume", &trio.route("order")]).await.good();
    live("5m").await.good();
    trio.becomes_same(&trio.order).await;
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn killed_in_the_middle_of_subscribing_it_is_there_as_a_whole_or_not_at_all() {
    let trio = Trio::new(Kind::Sqlite).await;
    let of = trio.of("account");
    for round in 0..10 {
        let running = trio.start().await;
        let there = trio.listed().await.len() == 2;
        // Now this way, now that: the map differs after each round that came through.
        let args: &[&str] = if there {
            &["unsubscribe", "bill", &of]
        } else {
            &["subscribe", "bill", &of, "--into", "account_copy"]
        };
        let asking = trio.rowcast.start(args);
        let lives = rand::rng().random_range(0..120);
        tokio::time::sleep(Duration::from_millis(lives)).await;
        running.kill_9().await;
        let answered = asking.wait(LONG).await.status.success();
        let running = trio.start().await;
        let listed = trio.listed().await;
        assert_eq!(listed[0]["origin"], "file");
        if answered {
            let now = listed.len() == 2;
            assert_ne!(now, there, "round {round}: what was answered is not there");
        }
        trio.shop.sql(&format!("INSERT INTO account VALUES ({}, 0, 'x')", 100 + round)).await;
        running.kill_9().await;
    }
    let running = trio.start().await;
    trio.subscribe(&["--wait-live"]).await.good();
    trio.becomes_same(&trio.bill).await;
    trio.becomes_same(&trio.order).await;
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_what_to_do() {
    let trio = Trio::new(Kind::Sqlite).await;
    trio.configure("[service.away]\ndatabase = \"postgres://nobody@127.0.0.1:1/x\"");
    let running = trio.start().await;
    eventually(LONG, "the route", async || trio.route_is("order", "live").await).await;
    let refused = async |args: &[&str], code: i32, words: &[&str]| {
        let said = trio.say(args).await;
        assert_eq!(said.code(), Some(code), "{}", said.said());
        for word in words {
            assert!(said.stderr.contains(word), "{word} in {}", said.said());
        }
    };
    let of = trio.of("account");
    let near = trio.of("acount");
    refused(&["subscribe", "bill", &near], 2, &["publishes no entity", "`account`?"]).await;
    refused(&["subscribe", "bil", &of], 2, &["no service `bil`", "did you mean `bill`?"]).await;
    refused(&["subscribe", "bill", "nobody.x"], 2, &["no service `nobody`"]).await;
    let fields = ["subscribe", "bill", &of, "--fields", "id,balanse"];
    refused(&fields, 1, &["SUBSCRIPTION", "did you mean `balance`?"]).await;
    let fields = ["subscribe", "bill", &of, "--fields", "balance"];
    refused(&fields, 1, &["leaves out the key field", "id"]).await;
    refused(&["subscribe", "bill", &of, "--no-create"], 1, &["is missing"]).await;
    trio.bill.sql("CREATE TABLE other (id BIGINT PRIMARY KEY, balance BIGINT)").await;
    let narrow = ["subscribe", "bill", &of, "--into", "other", "--no-create"];
    refused(&narrow, 1, &["other", "note"]).await;
    let own = ["subscribe", "order", &of, "--into", "account_copy"];
    refused(&own, 1, &["stands in the configuration file", "rowcast reload"]).await;
    refused(&["unsubscribe", "order", &of], 1, &["stands in the configuration file"]).await;
    refused(&["unsubscribe", "bill", &of], 2, &["bill has no subscription"]).await;
    refused(&["pause", "nobody:order"], 2, &["there is no route nobody:order"]).await;
    let lists = ["nobody has no subscription", "`rowcast subscriptions` lists"];
    refused(&["unsubscribe", "nobody", &of], 2, &lists).await;
    let unreachable = ["error[SUBSCRIPTION]: away's database cannot", "is the database running"];
    refused(&["subscribe", "away", &of], 1, &unreachable).await;
    let condition = ["subscribe", "bill", &of, "--where", "balance >"];
    refused(&condition, 2, &["where: expected", "^", "nothing was changed"]).await;
    refused(&["tail", &trio.of("acount")], 2, &["did you mean `account`?"]).await;
    refused(&["tail", &trio.name, "--from", "999999"], 1, &["ends at offset"]).await;
    assert_eq!(trio.listed().await.len(), 1, "nothing was changed");
    trio.say(&["subscribe", "bill", &of, "--fields", "id,amount=balance"]).await.good();
    let same = trio.say(&["subscribe", "bill", &of, "--fields", "id,amount=balance"]).await;
    same.good();
    refused(&["subscribe", "bill", &of], 1, &["already, and otherwise"]).await;
    eventually(LONG, "the copy", async || trio.route_is("bill", "live").await).await;
    assert_eq!(trio.bill.value("SELECT count(amount) FROM account").await, "3");
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn a_file_that_is_read_again_is_taken_over_and_one_with_mistakes_is_not() {
    let trio = Trio::new(Kind::Sqlite).await;
    let mut running = trio.start().await;
    eventually(LONG, "the route", async || trio.route_is("order", "live").await).await;
    trio.configure("[service.bill.subscribe.\"nobody.account\"]");
    let refused = trio.say(&["reload"]).await;
    assert_eq!(refused.code(), Some(2), "{}", refused.said());
    assert!(refused.stderr.contains("there is no service `nobody`"), "{}", refused.said());

    // A new subscription, and a table that is published from now on, with what was in it.
    trio.shop.sql("INSERT INTO entry VALUES (1, 0, 5, 'there before', 'x')").await;
    let name = &trio.name;
    trio.configure(&format!(
        "[service.{name}.publish.entry]\nfields = [\"id\", \"note\"]\n\
         [service.bill.subscribe.\"{name}.entry\"]\ninto = \"entry_copy\""
    ));
    trio.say(&["reload"]).await.good();
    running.says(LONG, "read again").await;
    trio.say(&["wait", "--live", "--timeout", "5m", "--route", &trio.route("bill")]).await.good();
    assert_eq!(trio.bill.value("SELECT note FROM entry_copy").await, "there before");
    trio.shop.sql("INSERT INTO account VALUES (55, 0, 'goes on')").await;
    trio.becomes_same(&trio.order).await;

    // Out of the file, out of the map.
    trio.configure("");
    trio.say(&["reload"]).await.good();
    eventually(LONG, "one subscription", async || trio.listed().await.len() == 1).await;
    running.terminate(LONG).await.good();
}
