//! How the initial copy goes and what becomes of routes: bars where a person looks, lines where
//! not.

use crate::time::{counted, grouped, rough};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rowcast_engine::{Board, RouteStatus, ServiceStatus, SnapshotStatus, Status};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often bars move.
const FRAME: Duration = Duration::from_millis(200);
/// How often states are looked at once everything is copied.
const LOOK: Duration = Duration::from_secs(1);
/// How often a line is printed where bars cannot be.
const LINE: Duration = Duration::from_secs(3);

const ROWS: &str =
    "{prefix:>20.bold} {bar:28.cyan/dim} {human_pos}/{human_len} rows  {wide_msg:.dim}";
const ROWS_UNKNOWN: &str = "{prefix:>20.bold} {spinner} {human_pos} rows  {wide_msg:.dim}";
const EVENTS: &str =
    "{prefix:>20.bold} {bar:28.green/dim} {human_pos}/{human_len} events  {wide_msg:.dim}";

/// Shows how a node does until `stop`. Cancel safe.
pub(crate) async fn show(board: &Board, bars: &MultiProgress, stop: &CancellationToken) {
    let mut progress = Progress::new(bars.clone());
    while !stop.is_cancelled() {
        progress.update(&board.status().await);
        let pause = if progress.is_busy() { FRAME } else { LOOK };
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    progress.update(&board.status().await);
    progress.clear();
}

/// A copy that is under way.
struct Copy {
    bar: Option<ProgressBar>,
    began: Instant,
    from: u64,
    said: Instant,
}

struct Progress {
    bars: MultiProgress,
    on_terminal: bool,
    copies: HashMap<String, Copy>,
    states: HashMap<String, &'static str>,
}

/// How far something came, in rows or events.
struct Way {
    name: String,
    at: u64,
    of: Option<u64>,
    note: String,
    template: &'static str,
    unit: &'static str,
}

impl Way {
    fn line(&self, pace: &str) -> String {
        let of = self.of.map(|n| format!(" of about {}", grouped(n))).unwrap_or_default();
        let pace = if pace.is_empty() { String::new() } else { format!(", {pace}") };
        format!("{}: {}{of} {}{pace}", self.name, grouped(self.at), self.unit)
    }
}

impl Progress {
    fn new(bars: MultiProgress) -> Self {
        let on_terminal = !bars.is_hidden();
        Self { bars, on_terminal, copies: HashMap::new(), states: HashMap::new() }
    }

    fn is_busy(&self) -> bool {
        !self.copies.is_empty() || self.states.values().any(|s| *s == "bootstrapping")
    }

    fn update(&mut self, status: &Status) {
        for service in &status.services {
            match reading(service) {
                Some(way) => self.advance(way),
                None => self.arrived(&service.name, |_| read_so_far(service)),
            }
        }
        for route in &status.routes {
            let name = format!("{} → {}", route.from, route.to);
            match applying(route, &name, status) {
                // One that is at the end already needs no bar, but one that has a bar keeps it.
                Some(way) if way.of > Some(way.at) || self.copies.contains_key(&name) => {
                    self.advance(way);
                }
                Some(_) => {}
                None => self.arrived(&name, |from| applied_since(route, from)),
            }
            self.state(route);
        }
    }

    fn advance(&mut self, way: Way) {
        let (bars, on_terminal) = (&self.bars, self.on_terminal);
        let copy = self.copies.entry(way.name.clone()).or_insert_with(|| {
            let bar = on_terminal.then(|| bars.add(ProgressBar::new(0)));
            if let Some(bar) = &bar {
                bar.set_prefix(way.name.clone());
            }
            let now = Instant::now();
            Copy { bar, began: now, from: way.at, said: now }
        });
        let pace = copy.pace(&way);
        if let Some(bar) = &copy.bar {
            let template = if way.of.is_some() { way.template } else { ROWS_UNKNOWN };
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.expect("the templates are ours").progress_chars("━╸─"));
            bar.set_length(way.of.unwrap_or(0).max(way.at));
            bar.set_message(format!("{pace}  {}", way.note));
            bar.set_position(way.at);
        } else if copy.said.elapsed() >= LINE {
            copy.said = Instant::now();
            tracing::info!("{}", way.line(&pace));
        }
    }

    /// `what` is given where the way began.
    fn arrived(&mut self, name: &str, what: impl FnOnce(u64) -> String) {
        let Some(copy) = self.copies.remove(name) else { return };
        let what = what(copy.from);
        if let Some(bar) = &copy.bar {
            bar.finish_and_clear();
            self.bars.remove(bar);
        }
        if !what.is_empty() {
            tracing::info!("{name}: {what} in {}", rough(copy.began.elapsed()));
        }
    }

    /// A line whenever a route's state is another. Why it waits has been said where it began.
    fn state(&mut self, route: &RouteStatus) {
        let name = format!("{}:{}", route.from, route.to);
        if self.states.insert(name.clone(), route.state) != Some(route.state) {
            tracing::info!("route {name}: {}", route.state);
        }
    }

    fn clear(&mut self) {
        for copy in self.copies.values() {
            copy.bar.iter().for_each(ProgressBar::finish_and_clear);
        }
    }
}

impl Copy {
    /// How fast it goes and how long it will still take, once there is something to go by.
    fn pace(&self, way: &Way) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let done = way.at.saturating_sub(self.from);
        if seconds < 0.3 || done == 0 {
            return String::new();
        }
        let rate = done as f64 / seconds;
        let left =
            way.of.map(|of| Duration::from_secs_f64(of.saturating_sub(way.at) as f64 / rate));
        let left = left.map(|d| format!(", {} left", rough(d))).unwrap_or_default();
        format!("{}/s{left}", grouped(rate as u64))
    }
}

/// The snapshot of a service, as long as rows come in.
fn reading(service: &ServiceStatus) -> Option<Way> {
    let all = &service.snapshots;
    let done = all.iter().filter(|s| s.done).count();
    let rows =
        |s: &SnapshotStatus| s.rows_estimate.map(|n| if s.done { s.rows } else { n.max(s.rows) });
    if service.state != "snapshotting" || done == all.len() {
        return None;
    }
    let current = all.iter().find(|s| !s.done && s.rows > 0);
    let current = current.map(|s| format!("{} ", s.entity)).unwrap_or_default();
    Some(Way {
        name: service.name.clone(),
        at: all.iter().map(|s| s.rows).sum(),
        // Unknown as long as one of them is.
        of: all.iter().map(|s| if s.done { Some(s.rows) } else { rows(s) }).sum(),
        note: if all.len() > 1 {
            format!("{current}({done}/{} done)", all.len())
        } else {
            String::new()
        },
        template: ROWS,
        unit: "rows read",
    })
}

fn read_so_far(service: &ServiceStatus) -> String {
    if service.state != "capturing" {
        return String::new();
    }
    let rows: u64 = service.snapshots.iter().map(|s| s.rows).sum();
    format!("{} read", counted(rows, "row"))
}

/// A route on its way to whole copies: how far those are that are being built, which its checkpoint
/// says nothing about, and else how far it is itself.
fn applying(route: &RouteStatus, name: &str, status: &Status) -> Option<Way> {
    let publisher = status.services.iter().find(|s| s.name == route.from)?;
    let built = route.building.iter().map(|b| b.offset.unwrap_or(0)).min();
    let at = built.or(route.checkpoint)?;
    (route.state == "bootstrapping").then(|| Way {
        name: name.to_string(),
        at,
        of: Some(publisher.log.next),
        note: String::new(),
        template: EVENTS,
        unit: "events applied",
    })
}

fn applied_since(route: &RouteStatus, from: u64) -> String {
    match (route.state, route.checkpoint) {
        ("live", Some(at)) => {
            format!("{} applied", counted(at.saturating_sub(from), "event"))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_engine::{BuildStatus, Latency, LogStatus};

    fn status(state: &'static str, checkpoint: u64, built: Option<u64>) -> Status {
        let build = |at| BuildStatus {
            entity: "shop.item".into(),
            into: "item".into(),
            offset: Some(at),
            of: Some(3000),
        };
        let shop = ServiceStatus {
            name: "shop".into(),
            state: "capturing",
            position: None,
            log: LogStatus { next: 3000, ..LogStatus::default() },
            heard_ms: 0,
            retained_bytes: None,
            warning: None,
            snapshots: Vec::new(),
            captured_events: 0,
            errors: 0,
            reconnects: 0,
            error: None,
            trouble: None,
        };
        let order = RouteStatus {
            from: "shop".into(),
            to: "order".into(),
            state,
            checkpoint: Some(checkpoint),
            lag_events: None,
            lag_ms: None,
            applied_events: 0,
            errors: 0,
            reconnects: 0,
            latency: Latency::default(),
            parked: None,
            lanes: 1,
            whole: true,
            subscriptions: Vec::new(),
            error: None,
            trouble: None,
            building: built.into_iter().map(build).collect(),
            waiting: Vec::new(),
        };
        Status { services: vec![shop], routes: vec![order] }
    }

    fn way(status: &Status) -> Option<Way> {
        applying(&status.routes[0], "shop → order", status)
    }

    #[test]
    fn a_copy_that_is_built_is_as_far_as_its_building() {
        let way = way(&status("bootstrapping", 0, Some(1200))).expect("it is on its way");
        assert_eq!(way.line(""), "shop → order: 1,200 of about 3,000 events applied");
        assert_eq!(
            way.line("400/s, 5 s left"),
            "shop → order: 1,200 of about 3,000 events applied, 400/s, 5 s left"
        );
    }

    #[test]
    fn a_route_that_catches_up_is_as_far_as_its_checkpoint() {
        let way = way(&status("bootstrapping", 2500, None)).expect("it is on its way");
        assert_eq!(way.line(""), "shop → order: 2,500 of about 3,000 events applied");
    }

    #[test]
    fn what_was_applied_before_it_began_is_not_counted() {
        let arrived = status("live", 3000, None);
        assert!(way(&arrived).is_none());
        assert_eq!(applied_since(&arrived.routes[0], 2500), "500 events applied");
    }
}
