use crate::shop::Setup;
use prometheus_parse::{Sample, Scrape, Value};
use rowcast_testkit::memory::Write;

fn scrape(text: &str) -> Scrape {
    Scrape::parse(text.lines().map(|l| Ok(l.to_owned()))).unwrap()
}

/// The value of the sample with these labels and no others.
#[track_caller]
fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |s: &&Sample| {
        s.metric == name
            && s.labels.len() == labels.len()
            && labels.iter().all(|(l, v)| s.labels.get(l) == Some(v))
    };
    let found: Vec<_> = scrape.samples.iter().filter(matches).collect();
    assert_eq!(found.len(), 1, "{name}{labels:?}");
    match (name.ends_with("_total"), &found[0].value) {
        (true, Value::Counter(value)) | (false, Value::Gauge(value)) => *value,
        (_, other) => panic!("{name} is {other:?}"),
    }
}

#[tokio::test]
async fn a_client_library_reads_every_metric_and_it_says_what_the_status_says() {
    let setup = Setup::default();
    setup.publisher.commit(&[Write::put("customer", 1, "a"), Write::put("invoice", 2, "b")]);
    let shop = setup.open().await;
    shop.live(None).await;
    let answer = shop.get("/metrics", None).await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{answer:?}");
    let scrape = scrape(&answer.body);
    let next = shop.events().await as f64;
    let service = [("service", "shop")];
    let entity = [("service", "shop"), ("entity", "customer")];
    let route = [("from", "shop"), ("to", "billing")];
    for (name, labels, expected) in [
        ("rowcast_build_info", &[("version", env!("CARGO_PKG_VERSION"))][..], 1.0),
        ("rowcast_service_captured_events_total", &service, next),
        ("rowcast_log_first_offset", &service, 0.0),
        ("rowcast_log_next_offset", &service, next),
        ("rowcast_snapshot_rows", &entity, 1.0),
        ("rowcast_snapshot_rows_estimate", &entity, 1.0),
        ("rowcast_route_lag_events", &route, 0.0),
        ("rowcast_route_lag_seconds", &route, 0.0),
        ("rowcast_route_parked_keys", &route, 0.0),
        ("rowcast_route_building_copies", &route, 0.0),
        ("rowcast_route_applied_events_total", &route, 2.0),
        ("rowcast_route_checkpoint_offset", &route, next),
    ] {
        assert_eq!(value(&scrape, name, labels), expected, "{name}");
    }
    for (state, expected) in
        [("live", 1.0), ("bootstrapping", 0.0), ("retrying", 0.0), ("paused", 0.0)]
    {
        let labels = [("from", "shop"), ("to", "order"), ("state", state)];
        assert_eq!(value(&scrape, "rowcast_route_state", &labels), expected, "{state}");
    }
    let labels = [("service", "shop"), ("state", "capturing")];
    assert_eq!(value(&scrape, "rowcast_service_state", &labels), 1.0);
    assert!(value(&scrape, "rowcast_log_bytes", &service) > 0.0);
    for name in ["process_cpu_seconds_total", "process_start_time_seconds"] {
        assert!(value(&scrape, name, &[]) > 0.0, "{name}");
    }
    shop.close().await;
}

#[tokio::test]
async fn every_metric_has_its_help_and_type_before_its_values_and_odd_names_are_escaped() {
    let setup = Setup { entities: ["a \"b\\c\"", "Grüße 🎉"], ..Setup::default() };
    let shop = setup.open().await;
    shop.live(None).await;
    let body = shop.get("/metrics", None).await.body;
    let mut begun = Vec::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap().to_string();
            assert!(!begun.contains(&name), "{name} stands in one place");
            begun.push(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split(' ').next(), begun.last().map(String::as_str));
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            // A histogram's series carry endings.
            let part = |end: &&str| {
                name.ends_with(end) && begun.last().is_some_and(|b| name == format!("{b}{end}"))
            };
            let of_histogram = ["_bucket", "_sum", "_count"].iter().any(part);
            let is_begun = begun.last().is_some_and(|b| b == name) || of_histogram;
            assert!(is_begun, "{line}");
        }
    }
    let odd = "rowcast_snapshot_rows{service=\"shop\",entity=\"a \\\"b\\\\c\\\"\"} 0\n";
    assert!(body.contains(odd), "{body}");
    let scrape = scrape(&body);
    assert_eq!(
        value(&scrape, "rowcast_snapshot_rows", &[("service", "shop"), ("entity", "Grüße 🎉")]),
        0.0
    );
    shop.close().await;
}

#[tokio::test]
async fn what_a_target_that_was_never_reached_holds_is_absent() {
    let setup = Setup::default();
    setup.subscriber.sinks_away(true);
    let shop = setup.open().await;
    let body = shop.get("/metrics", None).await.body;
    assert!(body.contains("rowcast_route_applied_events_total{"), "{body}");
    for name in ["parked_keys", "lag_events", "lag_seconds", "checkpoint_offset"] {
        assert!(!body.contains(&format!("rowcast_route_{name}{{")), "{name} in {body}");
    }
    shop.close().await;
}
