//! P10 you can see it: a publisher that does not answer is told of everywhere, and the alerts of the
//! manual fire.

use super::side::{Kind, LONG, Side};
use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METRICS: &str = include_str!("../../../../docs/metrics.md");

async fn get(rowcast: &Rowcast, path: &str) -> (u16, String) {
    let note = std::fs::read_to_string(rowcast.path("rowcast-data/run.json")).unwrap();
    let note: Value = serde_json::from_str(&note).unwrap();
    let mut stream = TcpStream::connect(note["address"].as_str().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_string())
}

/// The manual's alerts: their names and expressions.
fn alerts() -> Vec<(&'static str, &'static str)> {
    let mut alerts = Vec::new();
    for line in METRICS.lines() {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts.push((name.split_whitespace().next().unwrap(), ""));
        }
        if let Some(expression) = line.strip_prefix("  expr: ") {
            alerts.last_mut().unwrap().1 = expression;
        }
    }
    alerts
}

/// Whether an expression of the manual is true for what was scraped: comparisons with a number, joined
/// by `or`. What is computed over time does not show in one scrape.
fn fires(expression: &str, scraped: &str) -> bool {
    if expression.contains("rate(") || expression.contains("increase(") {
        return false;
    }
    expression.split(" or ").any(|comparison| {
        let [selector, operator, number] = comparison.split(' ').collect::<Vec<_>>()[..] else {
            panic!("no comparison with a number: {comparison}");
        };
        let number: f64 = number.parse().unwrap();
        let (name, label) = selector.split_once('{').unwrap_or((selector, ""));
        let label = label.trim_end_matches('}');
        let samples = scraped.lines().filter(|l| !l.starts_with('#'));
        samples.filter_map(|l| l.rsplit_once(' ')).any(|(series, value)| {
            let (of, labels) = series.split_once('{').unwrap_or((series, ""));
            let value: f64 = value.parse().unwrap();
            let holds = match operator {
                ">" => value > number,
                "==" => value == number,
                other => panic!("{other} is not known"),
            };
            of == name && labels.contains(label) && holds
        })
    })
}

#[tokio::test]
async fn a_publisher_out_of_reach_is_told_of_and_an_alert_fires() {
    let (mut from, to) = (Server::start().await, Side::new(Kind::Sqlite).await);
    from.sql("postgres", "CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1)")
        .await;
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = \"{}\"\n\
         [service.shop.publish.item]\n[service.order]\ndatabase = '{}'\n\
         [service.order.subscribe.\"shop.item\"]\n",
        from.url("postgres"),
        to.url()
    );
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config);
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route shop:order: live").await;
    let status = async || {
        let status = rowcast.run(LONG, &["status", "--json"]).await.good();
        serde_json::from_str::<Value>(&status.stdout).unwrap()
    };
    let fired = async || {
        let scraped = get(&rowcast, "/metrics").await.1;
        let fired = alerts().into_iter().filter(|(_, e)| fires(e, &scraped)).map(|(name, _)| name);
        fired.collect::<Vec<_>>()
    };
    eventually(LONG, "no lag", async || status().await["routes"][0]["lag_ms"] == 0).await;
    assert_eq!(fired().await, [] as [&str; 0]);
    assert_eq!(get(&rowcast, "/readyz").await.0, 200);

    from.stop().await;
    eventually(LONG, "an alert", async || fired().await == ["RowcastSourceSilent"]).await;
    let now = status().await;
    assert_eq!(now["routes"][0]["lag_ms"], Value::Null, "nobody knows: {now}");
    assert!(now["services"][0]["heard_ms"].as_u64().unwrap() > 60_000, "{now}");
    assert!(!get(&rowcast, "/metrics").await.1.contains("rowcast_route_lag_seconds{"));
    let (code, ready) = get(&rowcast, "/readyz").await;
    assert!(code == 503 && ready.contains("service shop"), "{ready}");
    let text = rowcast.run(LONG, &["status"]).await.good();
    assert!(text.stdout.contains("shop: its database was not heard for"), "{}", text.said());
    let resumed = rowcast.run(LONG, &["resume", "shop:order"]).await.good();
    assert!(
        resumed.stdout.contains("the capture of shop does not go on")
            && !resumed.stdout.contains("shop:order goes on"),
        "{}",
        resumed.said()
    );

    from.start_again().await;
    eventually(LONG, "no lag", async || status().await["routes"][0]["lag_ms"] == 0).await;
    assert_eq!(fired().await, [] as [&str; 0]);
    assert_eq!(get(&rowcast, "/readyz").await.0, 200);
    running.terminate(LONG).await.good();
}
