//! What a person types and reads: every command through the real binary, between SQLite files.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use rowcast_testkit::process::{Finished, Rowcast};
use rowcast_testkit::wait::{LONG, eventually};
use rusqlite::Connection;
use serde_json::Value;
use std::path::Path;

const CONFIG: &str = r#"
[service.customer]
database = "sqlite:customers.db"

[service.customer.publish.customer]
table = "customers"
fields = ["id", "name"]

[service.order]
database = "sqlite:orders.db"

[service.order.subscribe."customer.customer"]
into = "customer_copy"
fields = { id = "id", customer_name = "name" }

[server]
listen = "127.0.0.1:0"
"#;

fn rowcast(config: &str) -> Rowcast {
    Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), config)
}

fn sql(file: &Path, statements: &str) {
    let db = Connection::open(file).unwrap();
    db.busy_timeout(LONG).unwrap();
    db.execute_batch(statements).unwrap();
}

fn names(file: &Path) -> Vec<String> {
    let db = Connection::open(file).unwrap();
    db.busy_timeout(LONG).unwrap();
    let Ok(mut query) = db.prepare("SELECT customer_name FROM customer_copy ORDER BY id") else {
        return Vec::new();
    };
    query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Two services, three customers, no copy yet.
fn services() -> Rowcast {
    let rowcast = rowcast(CONFIG);
    sql(
        &rowcast.path("customers.db"),
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT);
         INSERT INTO customers VALUES (1, 'Ada', 'a@x'), (2, 'Grace', 'g@x'), (3, 'Alan', 't@x')",
    );
    sql(&rowcast.path("orders.db"), "CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    rowcast
}

async fn run(rowcast: &Rowcast, args: &[&str]) -> Finished {
    rowcast.run(LONG, args).await
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test]
async fn from_check_to_a_copy_and_back_to_rest() {
    let rowcast = services();
    let checked = run(&rowcast, &["check"]).await.good();
    assert!(checked.stdout.contains("`rowcast run` can start"), "{}", checked.said());
    let caught_up = run(&rowcast, &["run", "--until-caught-up"]).await.good();
    assert!(caught_up.stderr.contains("caught up"), "{}", caught_up.said());
    assert_eq!(names(&rowcast.path("orders.db")), ["Ada", "Grace", "Alan"]);

    let tail = run(&rowcast, &["tail", "customer.customer", "--from", "beginning"]).await.good();
    assert!(tail.stdout.contains("customer.customer  read"), "{}", tail.said());
    assert!(tail.stdout.contains("name=Ada"), "{}", tail.said());
    assert!(!tail.stdout.contains("a@x"), "what is not published is not in the log");

    let stat = run(&rowcast, &["log", "stat"]).await.good();
    assert!(stat.stdout.contains("customer"), "{}", stat.said());
    let stat = json(&run(&rowcast, &["log", "stat", "--json"]).await.good().stdout);
    assert_eq!(stat["streams"][0]["stream"], "customer");
    let check = run(&rowcast, &["log", "check"]).await.good();
    assert!(check.stdout.contains("All good: 1 stream."), "{}", check.said());
    let check = json(&run(&rowcast, &["log", "check", "--json"]).await.good().stdout);
    assert_eq!(check["streams"][0]["problems"], Value::Array(vec![]));
}

#[tokio::test]
async fn a_running_instance_can_be_asked_waited_for_and_stopped() {
    let rowcast = services();
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;

    let status = json(&run(&rowcast, &["status", "--json"]).await.good().stdout);
    assert_eq!(status["services"][0]["name"], "customer");
    assert_eq!(status["services"][0]["state"], "capturing");
    assert_eq!(status["routes"][0]["from"], "customer");
    assert_eq!(status["routes"][0]["to"], "order");
    assert_eq!(status["routes"][0]["state"], "live");
    assert_eq!(status["routes"][0]["parked"], 0);
    assert!(status["routes"][0]["error"].is_null());
    let people = run(&rowcast, &["status"]).await.good();
    assert!(people.stdout.contains("customer → order"), "{}", people.said());
    assert!(people.stdout.contains("● live"), "{}", people.said());

    sql(&rowcast.path("customers.db"), "UPDATE customers SET name = 'Lady Ada' WHERE id = 1");
    eventually(LONG, "the update", async || {
        names(&rowcast.path("orders.db")).first().is_some_and(|n| n == "Lady Ada")
    })
    .await;
    let status = json(&run(&rowcast, &["status", "--json"]).await.good().stdout);
    let position = status["services"][0]["position"].as_str().unwrap().to_string();
    let wait = ["wait", "--route", "customer:order", "--position", &position, "--timeout", "5m"];
    let arrived = run(&rowcast, &wait).await.good();
    assert!(arrived.stdout.contains("has arrived over customer:order"), "{}", arrived.said());
    let late = ["wait", "--route", "customer:order", "--position", "999999", "--timeout", "100ms"];
    let late = run(&rowcast, &late).await;
    assert_eq!(late.code(), Some(1), "{}", late.said());
    assert!(late.stderr.contains("did not arrive"), "{}", late.said());
    let wrong = run(&rowcast, &["wait", "--route", "a:b", "--position", "1"]).await;
    assert_eq!(wrong.code(), Some(2), "{}", wrong.said());

    let tail = run(&rowcast, &["tail", "customer", "--json", "--limit", "1"]).await.good();
    let event = json(&tail.stdout);
    assert_eq!(event["specversion"], "1.0");
    assert!(event["type"].as_str().unwrap().starts_with("rowcast.customer."), "{event}");
    let log = run(&rowcast, &["log", "check"]).await.good();
    assert!(log.stdout.contains("All good"), "{}", log.said());

    let second = run(&rowcast, &["run"]).await;
    assert_eq!(second.code(), Some(1), "{}", second.said());
    assert!(second.stderr.contains("error[DATA-LOCKED]"), "{}", second.said());
    assert!(second.stderr.contains(&format!("process {}", running.id())), "{}", second.said());

    let stopped = running.terminate(LONG).await.good();
    assert!(stopped.stderr.contains("stopped"), "{}", stopped.said());
    assert!(!rowcast.path("rowcast-data/run.json").exists());
    let nobody = run(&rowcast, &["status"]).await;
    assert_eq!(nobody.code(), Some(1), "{}", nobody.said());
    assert!(nobody.stderr.contains("no `rowcast run` is running"), "{}", nobody.said());
}

#[tokio::test]
async fn tail_follows_a_running_instance() {
    let rowcast = services();
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;
    let mut tail = rowcast.start(&["tail", "customer.customer", "--from", "end", "--limit", "2"]);
    // It cannot say that it has found the end, so changes are made until it shows two of them.
    let mut id = 100;
    eventually(LONG, "the tail to see two changes", async || {
        id += 1;
        let insert = format!("INSERT INTO customers (id, name) VALUES ({id}, 'Emmy')");
        sql(&rowcast.path("customers.db"), &insert);
        !tail.is_running()
    })
    .await;
    let tail = tail.wait(LONG).await.good();
    assert_eq!(tail.stdout.lines().count(), 2, "{}", tail.said());
    assert!(tail.stdout.lines().all(|l| l.contains("create") && l.contains("name=Emmy")));
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn a_file_with_five_mistakes_gets_five_answers() {
    let rowcast = rowcast(include_str!("../src/config/tests/five_mistakes.toml"));
    let checked = run(&rowcast, &["check"]).await;
    assert_eq!(checked.code(), Some(1), "{}", checked.said());
    let expected = include_str!("../src/config/tests/five_mistakes.txt");
    assert!(checked.stderr.starts_with(expected), "{}", checked.said());
    assert!(checked.stderr.contains("error[CONFIG]: rowcast.toml has 5 mistakes"));
    let started = run(&rowcast, &["run"]).await;
    assert_eq!(started.code(), Some(2), "{}", started.said());
}

#[tokio::test]
async fn a_script_reads_the_same_mistakes_with_their_places() {
    let rowcast = rowcast(include_str!("../src/config/tests/five_mistakes.toml"));
    let checked = run(&rowcast, &["check", "--json"]).await;
    assert_eq!(checked.code(), Some(1), "{}", checked.said());
    let said = json(&checked.stdout);
    assert_eq!(said["services"], Value::Array(vec![]), "{said}");
    let problems = said["problems"].as_array().unwrap();
    let lines: Vec<_> = problems.iter().map(|p| p["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 5, 10, 15, 19], "{said}");
    assert_eq!(
        problems[4],
        serde_json::json!({
            "severity": "error",
            "code": "CONFIG",
            "subject": "service.order.subscribe.\"customer.customer\".fields",
            "message": "`customer.customer` publishes no field `nam`",
            "help": "did you mean `name`?",
            "file": "rowcast.toml",
            "line": 19,
            "column": 17,
        })
    );
    // People who look at the script's log see them as ever.
    assert!(checked.stderr.contains("error[CONFIG]: rowcast.toml has 5 mistakes"));
}

#[tokio::test]
async fn a_script_reads_warnings_of_the_file_beside_what_was_found() {
    let rowcast = services();
    let good = json(&run(&rowcast, &["check", "--json"]).await.good().stdout);
    assert_eq!(good["problems"], Value::Array(vec![]), "{good}");
    let idle = format!("{CONFIG}[service.idle]\ndatabase = \"sqlite:idle.db\"\n");
    rowcast.configure(&idle);
    let warned = json(&run(&rowcast, &["check", "--json"]).await.good().stdout);
    assert_eq!(warned["problems"][0]["severity"], "warning", "{warned}");
    assert_eq!(warned["problems"][0]["subject"], "service.idle", "{warned}");
    assert_eq!(warned["services"][1]["name"], "order", "{warned}");
}

#[tokio::test]
async fn init_proposes_what_it_finds_and_never_overwrites() {
    let rowcast = services();
    std::fs::remove_file(rowcast.path("rowcast.toml")).unwrap();
    let more = "CREATE TABLE notes (text TEXT); CREATE VIEW short AS SELECT id FROM customers";
    sql(&rowcast.path("customers.db"), more);
    let from_to = ["init", "--from", "sqlite:customers.db", "--to", "sqlite:orders.db"];
    let written = run(&rowcast, &from_to).await.good();
    assert!(written.stdout.contains("wrote rowcast.toml"), "{}", written.said());
    let text = std::fs::read_to_string(rowcast.path("rowcast.toml")).unwrap();
    assert!(text.contains("[service.customers.publish.customers]"), "{text}");
    assert!(text.contains("# About 3 rows: id INTEGER (key)"), "{text}");
    assert!(text.contains("# short is a view, which cannot be published"), "{text}");
    assert!(written.stdout.contains("1 other left out"), "{}", written.said());
    assert!(text.contains("[service.orders.subscribe.\"customers.customers\"]"), "{text}");
    run(&rowcast, &["check"]).await.good();
    run(&rowcast, &["run", "--until-caught-up"]).await.good();
    let again = run(&rowcast, &["init"]).await;
    assert_eq!(again.code(), Some(2), "{}", again.said());
    assert!(again.stderr.contains("is left as it is"), "{}", again.said());
    let new = ["init", "-c", "new.toml", "--from", "sqlite:customers.db", "--to", "sqlite:new.db"];
    let written = run(&rowcast, &new).await.good();
    assert!(written.stdout.contains("new: 0 tables"), "{}", written.said());
    let typo = ["init", "-c", "typo.toml", "--from", "sqlite:custommers.db"];
    let typo = run(&rowcast, &typo).await;
    assert_eq!(typo.code(), Some(1), "a publisher is there already: {}", typo.said());
    assert!(typo.stderr.contains("is the path right"), "{}", typo.said());
    assert!(!typo.stderr.contains("password"), "a file has none: {}", typo.said());
    assert_eq!(std::fs::read_to_string(rowcast.path("rowcast.toml")).unwrap(), text);
}

#[tokio::test]
async fn check_says_what_is_wrong_with_a_table_and_what_to_do() {
    let rowcast = rowcast(
        &CONFIG.replace("\"name\" }", "\"nam\" }").replace("fields = [\"id\", \"name\"]", ""),
    );
    sql(&rowcast.path("customers.db"), "CREATE TABLE customers (id INTEGER PRIMARY KEY, name)");
    sql(&rowcast.path("orders.db"), "CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    let checked = run(&rowcast, &["check"]).await;
    assert_eq!(checked.code(), Some(1), "{}", checked.said());
    assert!(checked.stdout.contains("did you mean `name`?"), "{}", checked.said());
    let scripts = run(&rowcast, &["check", "--json"]).await;
    assert_eq!(scripts.code(), Some(1), "{}", scripts.said());
    let services = json(&scripts.stdout);
    let findings = services["services"][1]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["severity"] == "error"), "{}", scripts.said());
}

#[tokio::test]
async fn check_notices_a_copy_of_another_log_as_run_does() {
    let rowcast = services();
    run(&rowcast, &["run", "--until-caught-up"]).await.good();
    run(&rowcast, &["check"]).await.good();
    std::fs::rename(rowcast.path("rowcast-data"), rowcast.path("the-right-one")).unwrap();
    // Without a log there is nothing to compare with: `check` may run on another machine.
    run(&rowcast, &["check"]).await.good();
    let refused = run(&rowcast, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    let checked = run(&rowcast, &["check"]).await;
    assert_eq!(checked.code(), Some(1), "{}", checked.said());
    let words = "the checkpoint of customer:order is not the one this log wrote: it counts in log ";
    let line = |text: &str| {
        let line = text.lines().find_map(|l| l.split_once(words));
        line.map(|(_, logs)| logs.to_string())
    };
    assert!(line(&checked.stdout).is_some(), "{}", checked.said());
    assert_eq!(line(&checked.stdout), line(&refused.stderr), "{}", refused.said());
}

#[tokio::test]
async fn check_notices_a_copy_that_is_ahead_of_an_old_log_as_run_does() {
    let rowcast = services();
    run(&rowcast, &["run", "--until-caught-up"]).await.good();
    let streams = rowcast.path("rowcast-data/log");
    copy_files(&streams.join("customer"), &rowcast.path("old"));
    sql(&rowcast.path("customers.db"), "UPDATE customers SET name = 'Lady Ada' WHERE id = 1");
    run(&rowcast, &["run", "--until-caught-up"]).await.good();
    run(&rowcast, &["check"]).await.good();
    std::fs::remove_dir_all(streams.join("customer")).unwrap();
    copy_files(&rowcast.path("old"), &streams.join("customer"));
    let checked = run(&rowcast, &["check"]).await;
    assert_eq!(checked.code(), Some(1), "{}", checked.said());
    let words = "the event log of customer ends at offset ";
    assert!(checked.stdout.contains(words), "{}", checked.said());
    assert!(checked.stdout.contains("this data directory is an old copy"), "{}", checked.said());
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn check_runs_what_is_safe_to_run_and_looks_again() {
    let rowcast = services();
    let before = run(&rowcast, &["check"]).await.good();
    assert!(before.stdout.contains("`rowcast check --fix` mends 2 of them"), "{}", before.said());
    let fixed = run(&rowcast, &["check", "--fix"]).await.good();
    assert!(fixed.stderr.contains("fix customer: PRAGMA journal_mode"), "{}", fixed.said());
    assert!(fixed.stdout.contains("All good."), "{}", fixed.said());
    let after = run(&rowcast, &["check"]).await.good();
    assert!(after.stdout.contains("All good."), "{}", after.said());
}

#[tokio::test]
async fn the_demo_tells_its_story_and_leaves_what_was_asked_for() {
    let rowcast = rowcast(CONFIG);
    let told = run(&rowcast, &["demo", "--seconds", "2", "--keep", "kept"]).await.good();
    for part in [
        "Two services, two databases",
        "5 customers were there before Rowcast",
        "Barbara Liskov becomes a customer",
        "limit is 540: a local look-up",
        "From commit at the customer service to visible",
        "the same on both sides",
        "rowcast init --from URL --to URL",
    ] {
        assert!(told.stdout.contains(part), "{part}: {}", told.said());
    }
    let config = ["--config", "kept/rowcast.toml"];
    run(&rowcast, &["check", config[0], config[1]]).await.good();
    let tail = ["tail", "customer", "--from", "beginning", config[0], config[1]];
    let tail = run(&rowcast, &tail).await.good();
    assert!(tail.stdout.contains("name=\"Ada Lovelace\""), "{}", tail.said());
    let again = run(&rowcast, &["demo", "--seconds", "1", "--keep", "kept"]).await;
    assert_eq!(again.code(), Some(2), "{}", again.said());
}

#[tokio::test]
async fn ctrl_c_ends_the_demo_cleanly_and_leaves_nothing() {
    let rowcast = rowcast(CONFIG);
    std::fs::create_dir(rowcast.path("tmp")).unwrap();
    let tmp = rowcast.path("tmp").display().to_string();
    let rowcast = rowcast.variable("TMPDIR", &tmp);
    let mut running = rowcast.start(&["demo", "--seconds", "600"]);
    running.says(LONG, "becomes a customer").await;
    running.interrupt();
    let ended = running.wait(LONG).await.good();
    assert!(ended.stdout.contains("the same on both sides"), "{}", ended.said());
    assert_eq!(std::fs::read_dir(rowcast.path("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn wrong_usage_is_told_apart_from_a_no() {
    let rowcast = services();
    for args in [
        &["fly"][..],
        &["tail"],
        &["tail", "custmer"],
        &["tail", "customer.custmer"],
        &["run", "--resnapshot", "order"],
        &["wait", "--route", "x", "--position", "1"],
        &["status", "--config", "nowhere.toml"],
    ] {
        let wrong = run(&rowcast, args).await;
        assert_eq!(wrong.code(), Some(2), "{args:?}: {}", wrong.said());
    }
    let meant = run(&rowcast, &["tail", "custmer"]).await;
    assert!(meant.stderr.contains("did you mean `customer`?"), "{}", meant.said());
}

#[tokio::test]
async fn completions_are_printed_for_every_shell() {
    let rowcast = rowcast(CONFIG);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&rowcast, &["completions", shell]).await.good();
        assert!(script.stdout.contains("until-caught-up"), "{shell}");
    }
}
