//! Metrics for Prometheus, written from the board when somebody asks: there is no second copy of any
//! number that could disagree with the status. Labels hold configured names only.

mod process;
mod text;

use crate::api::Api;
use crate::auth::{Caller, Deed};
use crate::problem::Problem;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use rowcast_engine::{RouteStatus, ServiceStatus, Status};
use text::{Kind, Text};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The text format that every Prometheus reads.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

const SERVICE_STATES: [&str; 5] = ["starting", "snapshotting", "capturing", "retrying", "paused"];
const ROUTE_STATES: [&str; 4] = ["bootstrapping", "live", "retrying", "paused"];

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Metrics in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "metrics",
    responses(
        (status = 200, description = "Metrics.", body = String, content_type = "text/plain"),
        (status = 401, description = "No token, or an unknown one.", body = Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "This token may not see metrics.", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn metrics(State(api): State<Api>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    caller.may(Deed::SeeMetrics)?;
    let mut text = Text::default();
    node(&mut text, &api.board.status().await);
    process::write(&mut text, api.started);
    Ok(([(CONTENT_TYPE, FORMAT)], text.finish()))
}

fn node(text: &mut Text, status: &Status) {
    text.family("rowcast_build_info", Kind::Gauge, "Always 1; the label says which version runs.");
    text.sample("rowcast_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    for metric in SERVICE_METRICS {
        text.family(metric.name, metric.kind, metric.help);
        for service in &status.services {
            if let Some(value) = (metric.value)(service) {
                text.sample(metric.name, &[("service", &service.name)], value);
            }
        }
    }
    service_states(text, &status.services);
    snapshots(text, &status.services);
    for metric in ROUTE_METRICS {
        text.family(metric.name, metric.kind, metric.help);
        for route in &status.routes {
            if let Some(value) = (metric.value)(route) {
                text.sample(metric.name, &[("from", &route.from), ("to", &route.to)], value);
            }
        }
    }
    route_states(text, &status.routes);
    latencies(text, &status.routes);
}

/// One number of each service, or of each route; absent while it is not known.
struct Metric<T> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
}

const SERVICE_METRICS: &[Metric<ServiceStatus>] = &[
    Metric {
        name: "rowcast_service_captured_events_total",
        kind: Kind::Counter,
        help: "Events made durable since the process began.",
        value: |s| Some(s.captured_events as f64),
    },
    Metric {
        name: "rowcast_service_errors_total",
        kind: Kind::Counter,
        help: "Errors of the service's capture since the process began, each try counted.",
        value: |s| Some(s.errors as f64),
    },
    Metric {
        name: "rowcast_service_reconnects_total",
        kind: Kind::Counter,
        help: "Times that the service's capture went on after an error since the process began.",
        value: |s| Some(s.reconnects as f64),
    },
    Metric {
        name: "rowcast_log_bytes",
        kind: Kind::Gauge,
        help: "Size of the service's event log.",
        value: |s| Some(s.log.bytes as f64),
    },
    Metric {
        name: "rowcast_log_first_offset",
        kind: Kind::Gauge,
        help: "Oldest offset of the service's event log that can be read.",
        value: |s| Some(s.log.first as f64),
    },
    Metric {
        name: "rowcast_log_next_offset",
        kind: Kind::Gauge,
        help: "Next free offset of the service's event log.",
        value: |s| Some(s.log.next as f64),
    },
    Metric {
        name: "rowcast_log_compacted_offset",
        kind: Kind::Gauge,
        help: "Before this offset only every key's latest state is left.",
        value: |s| Some(s.log.compacted as f64),
    },
    Metric {
        name: "rowcast_source_heard_seconds",
        kind: Kind::Gauge,
        help: "Seconds since the service's database was last heard; until it was, since it was first tried.",
        value: |s| Some(s.heard_ms as f64 / 1e3),
    },
    Metric {
        name: "rowcast_source_retained_bytes",
        kind: Kind::Gauge,
        help: "What the service's database keeps because the event log does not have it.",
        value: |s| s.retained_bytes.map(|n| n as f64),
    },
];

const ROUTE_METRICS: &[Metric<RouteStatus>] = &[
    Metric {
        name: "rowcast_route_lag_seconds",
        kind: Kind::Gauge,
        help: "Age of the oldest event that the subscriber lacks, by the publisher's clock.",
        value: |r| r.lag_ms.map(|ms| ms as f64 / 1e3),
    },
    Metric {
        name: "rowcast_route_lag_events",
        kind: Kind::Gauge,
        help: "Events in the log that the subscriber lacks.",
        value: |r| r.lag_events.map(|n| n as f64),
    },
    Metric {
        name: "rowcast_route_parked_keys",
        kind: Kind::Gauge,
        help: "Keys that are set aside because they could not be applied.",
        value: |r| r.parked.map(|n| n as f64),
    },
    Metric {
        name: "rowcast_route_applied_events_total",
        kind: Kind::Counter,
        help: "Changes applied and committed at the subscriber since the process began.",
        value: |r| Some(r.applied_events as f64),
    },
    Metric {
        name: "rowcast_route_errors_total",
        kind: Kind::Counter,
        help: "Errors of the route since the process began, each try counted.",
        value: |r| Some(r.errors as f64),
    },
    Metric {
        name: "rowcast_route_reconnects_total",
        kind: Kind::Counter,
        help: "Times that the route went on after an error since the process began.",
        value: |r| Some(r.reconnects as f64),
    },
    Metric {
        name: "rowcast_route_checkpoint_offset",
        kind: Kind::Gauge,
        help: "Next offset that the subscriber lacks.",
        value: |r| r.checkpoint.map(|n| n as f64),
    },
    Metric {
        name: "rowcast_route_building_copies",
        kind: Kind::Gauge,
        help: "Copies that are being built beside the live ones.",
        value: |r| Some(r.building.len() as f64),
    },
];

fn service_states(text: &mut Text, services: &[ServiceStatus]) {
    const NAME: &str = "rowcast_service_state";
    text.family(NAME, Kind::Gauge, "1 for the state that the service's capture is in.");
    for service in services {
        for state in SERVICE_STATES {
            let value = f64::from(u8::from(service.state == state));
            text.sample(NAME, &[("service", &service.name), ("state", state)], value);
        }
    }
}

fn route_states(text: &mut Text, routes: &[RouteStatus]) {
    const NAME: &str = "rowcast_route_state";
    text.family(NAME, Kind::Gauge, "1 for the state that the route is in.");
    for route in routes {
        for state in ROUTE_STATES {
            let value = f64::from(u8::from(route.state == state));
            let labels = [("from", route.from.as_str()), ("to", &route.to), ("state", state)];
            text.sample(NAME, &labels, value);
        }
    }
}

fn latencies(text: &mut Text, routes: &[RouteStatus]) {
    const NAME: &str = "rowcast_route_latency_seconds";
    text.family(
        NAME,
        Kind::Histogram,
        "From a transaction's commit at the publisher to its commit at the subscriber, by both clocks.",
    );
    for route in routes {
        let labels = [("from", route.from.as_str()), ("to", &route.to)];
        let bucket = |text: &mut Text, bound: &str, n: u64| {
            let [from, to] = labels;
            text.sample(&format!("{NAME}_bucket"), &[from, to, ("le", bound)], n as f64);
        };
        for (micros, n) in route.latency.buckets() {
            bucket(text, &(micros as f64 / 1e6).to_string(), n);
        }
        bucket(text, "+Inf", route.latency.count);
        text.sample(&format!("{NAME}_sum"), &labels, route.latency.micros as f64 / 1e6);
        text.sample(&format!("{NAME}_count"), &labels, route.latency.count as f64);
    }
}

fn snapshots(text: &mut Text, services: &[ServiceStatus]) {
    const ROWS: &str = "rowcast_snapshot_rows";
    const ESTIMATE: &str = "rowcast_snapshot_rows_estimate";
    let all = || services.iter().flat_map(|s| s.snapshots.iter().map(move |e| (s, e)));
    text.family(ROWS, Kind::Gauge, "Rows that the entity's snapshot has brought into the log.");
    for (service, entity) in all() {
        let labels = [("service", service.name.as_str()), ("entity", &entity.entity)];
        text.sample(ROWS, &labels, entity.rows as f64);
    }
    text.family(ESTIMATE, Kind::Gauge, "Rows that the entity's snapshot will bring, estimated.");
    for (service, entity) in all() {
        let labels = [("service", service.name.as_str()), ("entity", &entity.entity)];
        if let Some(rows) = entity.rows_estimate {
            text.sample(ESTIMATE, &labels, rows as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_engine::LogStatus;

    #[test]
    fn what_a_source_keeps_is_told_when_it_is_known() {
        let service = |name: &str, retained_bytes| ServiceStatus {
            name: name.into(),
            state: "capturing",
            position: None,
            log: LogStatus { compacted: 5, ..LogStatus::default() },
            heard_ms: 61_500,
            retained_bytes,
            warning: None,
            snapshots: Vec::new(),
            captured_events: 0,
            errors: 0,
            reconnects: 0,
            error: None,
            trouble: None,
        };
        let services = vec![service("a", Some(1 << 40)), service("b", None)];
        let mut text = Text::default();
        node(&mut text, &Status { services, routes: Vec::new() });
        let text = text.finish();
        let kept: Vec<&str> =
            text.lines().filter(|l| l.starts_with("rowcast_source_retained_bytes")).collect();
        assert_eq!(kept, ["rowcast_source_retained_bytes{service=\"a\"} 1099511627776"]);
        assert!(text.contains("rowcast_source_heard_seconds{service=\"b\"} 61.5\n"), "{text}");
        assert!(text.contains("rowcast_log_compacted_offset{service=\"b\"} 5\n"), "{text}");
    }
}
