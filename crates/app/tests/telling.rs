//! What a running instance says of itself, and that saying it never stops the work.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::{LONG, eventually};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

[server]
listen = "127.0.0.1:0"
"#;

fn sql(file: &Path, statements: &str) {
    let db = Connection::open(file).unwrap();
    db.busy_timeout(LONG).unwrap();
    db.execute_batch(statements).unwrap();
}

fn copied(file: &Path) -> i64 {
    let db = Connection::open(file).unwrap();
    db.busy_timeout(LONG).unwrap();
    db.query_row("SELECT count(*) FROM customer_copy", [], |r| r.get(0)).unwrap_or(0)
}

fn services() -> Rowcast {
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), CONFIG);
    sql(
        &rowcast.path("customers.db"),
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Alan')",
    );
    sql(&rowcast.path("orders.db"), "CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    rowcast
}

/// A `run` with an stderr of our choice; killed should the test fail.
struct Told(Child);

impl Told {
    fn start(rowcast: &Rowcast, args: &[&str], stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
        command.args(args).current_dir(rowcast.dir());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Self(command.spawn().unwrap())
    }

    /// It copies what is there and what comes, and a signal ends it in order.
    async fn works_and_stops(mut self, rowcast: &Rowcast) {
        let orders = rowcast.path("orders.db");
        let child = &mut self.0;
        eventually(LONG, "the first copy", async || {
            assert_eq!(child.try_wait().unwrap(), None, "it ended");
            copied(&orders) == 3
        })
        .await;
        for id in 10..20 {
            let insert = format!("INSERT INTO customers VALUES ({id}, 'Emmy')");
            sql(&rowcast.path("customers.db"), &insert);
            eventually(LONG, "a change", async || copied(&orders) == id - 6).await;
        }
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM).unwrap();
        let child = &mut self.0;
        eventually(LONG, "its end", async || child.try_wait().unwrap().is_some()).await;
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_full_disk_behind_stderr_stops_nothing() {
    let rowcast = services();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    Told::start(&rowcast, &["run", "-vv"], full).works_and_stops(&rowcast).await;
}

#[tokio::test]
async fn a_reader_of_stderr_that_went_stops_nothing() {
    let rowcast = services();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Told::start(&rowcast, &["run", "-vv"], writer).works_and_stops(&rowcast).await;
}

#[tokio::test]
async fn a_reader_of_stderr_that_sleeps_stops_nothing() {
    let rowcast = services();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // From here on every line has to wait.
    writer.write_all(&[b' '; 1 << 16]).unwrap();
    let told = Told::start(&rowcast, &["run", "-vv"], writer.try_clone().unwrap());
    told.works_and_stops(&rowcast).await;
    drop(writer);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert!(all.len() >= 1 << 16);
}

#[tokio::test]
async fn v_says_more_and_vv_more_than_that() {
    let mut lengths = Vec::new();
    for flag in ["--color=never", "-v", "-vv"] {
        let rowcast = services();
        let ended = rowcast.run(LONG, &["run", "--until-caught-up", flag]).await.good();
        lengths.push(ended.stderr.lines().count());
    }
    assert!(lengths.is_sorted_by(|a, b| a < b), "lines: {lengths:?}");
}

#[tokio::test]
async fn machines_get_one_object_a_line_from_the_first_to_the_last() {
    let rowcast = services();
    let args = ["run", "--until-caught-up", "--log-format", "json", "-vv"];
    let ended = rowcast.run(LONG, &args).await.good();
    let lines: Vec<Value> =
        ended.stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().any(|l| l["message"] == "caught up" && l["level"] == "INFO"), "{lines:?}");
    for line in &lines {
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line["target"].is_string(), "{line}");
    }
    let second = rowcast.start(&["run"]);
    eventually(LONG, "the lock", async || rowcast.path("rowcast-data/run.json").exists()).await;
    let refused = rowcast.run(LONG, &["run", "--log-format=json"]).await;
    assert_eq!(refused.code(), Some(1));
    let line: Value = serde_json::from_str(refused.stderr.trim_end()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["code"], "DATA-LOCKED");
    assert!(line["help"].as_str().unwrap().contains("stop it first"), "{line}");
    second.terminate(LONG).await.good();
}

#[tokio::test]
async fn metrics_count_errors_and_reconnects_and_how_long_changes_take() {
    let rowcast = services();
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route customer:order: live").await;
    sql(&rowcast.path("customers.db"), "UPDATE customers SET name = 'Lady Ada' WHERE id = 1");
    let arrived = |text: &str| number(text, "rowcast_route_latency_seconds_count") >= 1.0;
    eventually(LONG, "the change's time", async || arrived(&metrics(&rowcast).await)).await;
    let text = metrics(&rowcast).await;
    assert!(text.contains("# TYPE rowcast_route_latency_seconds histogram\n"), "{text}");
    let all = "rowcast_route_latency_seconds_bucket{from=\"customer\",to=\"order\",le=\"+Inf\"} ";
    let count = number(&text, "rowcast_route_latency_seconds_count");
    assert!(text.contains(&format!("{all}{count}\n")), "{text}");
    assert_eq!(number(&text, "rowcast_service_errors_total"), 0.0);
    assert_eq!(number(&text, "rowcast_route_reconnects_total"), 0.0);

    // The copy's column goes, and comes back.
    sql(&rowcast.path("orders.db"), "ALTER TABLE customer_copy RENAME COLUMN id TO other");
    sql(&rowcast.path("customers.db"), "UPDATE customers SET name = 'Ada' WHERE id = 1");
    let failed = |text: &str| number(text, "rowcast_route_errors_total") >= 1.0;
    eventually(LONG, "an error", async || failed(&metrics(&rowcast).await)).await;
    sql(&rowcast.path("orders.db"), "ALTER TABLE customer_copy RENAME COLUMN other TO id");
    let mended = |text: &str| number(text, "rowcast_route_reconnects_total") >= 1.0;
    eventually(LONG, "the way back", async || mended(&metrics(&rowcast).await)).await;
    running.terminate(LONG).await.good();
}

/// The first sample of a metric.
fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|l| l.strip_prefix(name).is_some_and(|r| r.starts_with('{')));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// What a Prometheus server would read.
async fn metrics(rowcast: &Rowcast) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let note = std::fs::read_to_string(rowcast.path("rowcast-data/run.json")).unwrap();
    let note: Value = serde_json::from_str(&note).unwrap();
    let address = note["address"].as_str().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
