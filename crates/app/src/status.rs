//! `rowcast status`: services, routes, lag, and why something waits.

use crate::cli;
use crate::instance::Instance;
use crate::output::Output;
use crate::paint::Paint;
use crate::report::{Exit, Failure};
use crate::time::{age, counted, grouped, rough};
use comfy_table::{CellAlignment, Table, presets};
use rowcast_core::ByteSize;
use serde::Deserialize;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many of a route's copies that are being built get a line of their own.
const BUILDS_SHOWN: usize = 5;
/// Longest for the running instance to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A database that was not heard for so long is told of.
const SILENT_MS: u64 = 30_000;
/// Clears the terminal and goes to its top.
const REDRAW: &str = "\x1b[H\x1b[2J";

/// What the running instance says of itself; what it says beyond this is for others.
#[derive(Debug, Deserialize)]
struct Status {
    services: Vec<Service>,
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
    state: String,
    position: Option<String>,
    log: Log,
    #[serde(default)]
    snapshots: Vec<Snapshot>,
    #[serde(default)]
    warning: Option<String>,
    #[serde(default)]
    heard_ms: u64,
    error: Option<String>,
    trouble: Option<Trouble>,
}

#[derive(Debug, Deserialize)]
struct Log {
    first: u64,
    next: u64,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    rows: u64,
    rows_estimate: Option<u64>,
    done: bool,
}

#[derive(Debug, Deserialize)]
struct Route {
    from: String,
    to: String,
    state: String,
    checkpoint: Option<u64>,
    lag_events: Option<u64>,
    lag_ms: Option<u64>,
    parked: Option<u64>,
    #[serde(default = "one")]
    lanes: u16,
    error: Option<String>,
    trouble: Option<Trouble>,
    #[serde(default)]
    building: Vec<Build>,
    #[serde(default)]
    waiting: Vec<Wait>,
}

/// What a subscriber's database makes a route wait for.
#[derive(Debug, Deserialize)]
struct Wait {
    what: String,
    since_ms: i64,
    blockers: Vec<Blocker>,
    #[serde(default)]
    help: String,
}

#[derive(Debug, Deserialize)]
struct Blocker {
    id: String,
    program: String,
    user: String,
    state: String,
    since_ms: Option<i64>,
}

/// An earlier `rowcast run` says nothing of lanes.
fn one() -> u16 {
    1
}

#[derive(Debug, Deserialize)]
struct Build {
    entity: String,
    into: String,
    offset: Option<u64>,
    of: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Trouble {
    code: Option<String>,
    #[serde(default)]
    help: String,
}

pub(crate) async fn status(
    args: cli::Status,
    file: &Path,
    output: Output,
) -> Result<Exit, Failure> {
    loop {
        let instance = Instance::reach(&args.reach, file)?;
        let answer = instance.get("/v1/status", ANSWER).await?;
        if answer.status != 200 {
            return Err(answer.failure(""));
        }
        if args.json {
            output.line(answer.body.trim_end())?;
            return Ok(Exit::Good);
        }
        let status: Status = serde_json::from_str(&answer.body).map_err(|e| {
            let help = "is `rowcast run` another version than this one?";
            Failure::new("the answer is no status", help).because(&e)
        })?;
        let text = status.render(output.paint);
        if !args.watch {
            output.raw(text.as_bytes())?;
            return Ok(Exit::Good);
        }
        let redraw = if std::io::stdout().is_terminal() { REDRAW } else { "" };
        output.raw(format!("{redraw}{text}").as_bytes())?;
        tokio::time::sleep(LOOK).await;
    }
}

impl Status {
    fn render(&self, paint: Paint) -> String {
        let mut out = match self.services[..] {
            [] => "No services: nobody publishes.\n\n".into(),
            _ => format!("{}\n\n", self.services()),
        };
        if self.routes.is_empty() {
            out.push_str("No routes: nobody subscribes.\n");
        } else {
            out.push_str(&format!("{}\n", self.routes()));
        }
        for service in &self.services {
            let Some(warning) = &service.warning else { continue };
            let name = paint.yellow(&format!("{}:", service.name));
            out.push_str(&format!("\n{name} {warning}\n"));
        }
        for service in self.services.iter().filter(|s| s.is_silent()) {
            let name = paint.yellow(&format!("{}:", service.name));
            let since = rough(Duration::from_millis(service.heard_ms));
            out.push_str(&format!(
                "\n{name} its database was not heard for {since}: how far its routes are behind is not \
                 known\n"
            ));
        }
        for route in self.routes.iter().filter(|r| r.lanes > 1) {
            let (from, to, lanes) = (&route.from, &route.to, route.lanes);
            out.push_str(&format!(
                "\n{from} → {to} {lanes} lanes: a transaction of {from} may be seen in parts\n"
            ));
        }
        for route in self.routes.iter().filter(|r| !r.building.is_empty()) {
            out.push_str(&route.builds());
        }
        for (route, wait) in self.routes.iter().flat_map(|r| r.waiting.iter().map(move |w| (r, w)))
        {
            let name = paint.yellow(&format!("{} → {}:", route.from, route.to));
            out.push_str(&format!("\n{name} {}\n", wait.line()));
            if !wait.help.is_empty() {
                out.push_str(&format!("  {} {}\n", paint.cyan("help:"), wait.help));
            }
        }
        let services = self.services.iter().map(|s| (s.name.clone(), &s.error, &s.trouble));
        let routes =
            self.routes.iter().map(|r| (format!("{} → {}", r.from, r.to), &r.error, &r.trouble));
        for (name, error, trouble) in services.chain(routes) {
            let Some(error) = error else { continue };
            let code = trouble.as_ref().and_then(|t| t.code.as_deref());
            let shown = code.map(|c| format!("[{c}] ")).unwrap_or_default();
            out.push_str(&format!("\n{} {}{error}\n", paint.red(&format!("{name}:")), shown));
            if let Some(help) = trouble.as_ref().map(|t| &t.help).filter(|h| !h.is_empty()) {
                out.push_str(&format!("  {} {help}\n", paint.cyan("help:")));
            }
            if let Some(code) = code {
                out.push_str(&format!(
                    "  {}\n",
                    paint.dim(&format!("page: docs/errors/{code}.md"))
                ));
            }
        }
        out
    }

    fn services(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["service", "", "position", "events in log", "size"]);
        for s in &self.services {
            table.add_row([
                s.name.clone(),
                format!("{} {}", symbol(&s.state), s.state()),
                s.position.clone().unwrap_or_else(|| "-".into()),
                grouped(s.log.next.saturating_sub(s.log.first)),
                ByteSize(s.log.bytes).to_string(),
            ]);
        }
        aligned(table, &[3, 4])
    }

    fn routes(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["route", "", "checkpoint", "lag", "", "parked"]);
        let number = |n: Option<u64>| n.map_or_else(|| "?".to_string(), grouped);
        for r in &self.routes {
            table.add_row([
                format!("{} → {}", r.from, r.to),
                format!("{} {}", symbol(&r.state), r.state),
                number(r.checkpoint),
                r.lag_events.map_or_else(|| "? events".to_string(), |n| counted(n, "event")),
                r.lag_ms.map_or_else(|| "unknown".into(), |ms| rough(Duration::from_millis(ms))),
                number(r.parked),
            ]);
        }
        aligned(table, &[2, 3, 4, 5])
    }
}

impl Route {
    /// What it builds: those that are least far, and how many others.
    fn builds(&self) -> String {
        let mut out = String::from("\n");
        let mut builds: Vec<&Build> = self.building.iter().collect();
        builds.sort_by_key(|b| b.offset);
        let (shown, rest) = builds.split_at(builds.len().min(BUILDS_SHOWN));
        for build in shown {
            out.push_str(&format!("{} → {} {}\n", self.from, self.to, build.line()));
        }
        if !rest.is_empty() {
            let (more, of) = (grouped(rest.len() as u64), grouped(builds.len() as u64));
            out.push_str(&format!("… and {more} more of {of} copies; --json lists them all\n"));
        }
        out
    }
}

impl Build {
    fn line(&self) -> String {
        let Self { entity, into, .. } = self;
        match (self.offset, self.of) {
            (Some(at), Some(of)) => {
                let (at, of) = (grouped(at), counted(of, "event"));
                format!("builds {into} from {entity}: {at} of {of}")
            }
            _ => format!("will build {into} from {entity}"),
        }
    }
}

impl Wait {
    fn line(&self) -> String {
        let mut line = format!("waits {} for {}", rough(age(self.since_ms)), self.what);
        for (i, blocker) in self.blockers.iter().enumerate() {
            line.push_str(if i == 0 { "; it is blocked by " } else { " and " });
            line.push_str(&blocker.words());
        }
        line
    }
}

impl Blocker {
    fn words(&self) -> String {
        let user = if self.user.is_empty() { String::new() } else { format!("user {}", self.user) };
        let since = self.since_ms.map(|since| rough(age(since)));
        let since = since.map(|s| format!("in its transaction for {s}")).unwrap_or_default();
        let parts = [self.program.as_str(), &user, &self.state, &since];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        match parts.is_empty() {
            true => self.id.clone(),
            false => format!("{} ({})", self.id, parts.join(", ")),
        }
    }
}

impl Service {
    /// Whether its database may have committed what nobody knows of.
    fn is_silent(&self) -> bool {
        self.heard_ms > SILENT_MS
    }

    /// The state, and how far the snapshots are.
    fn state(&self) -> String {
        if self.state != "snapshotting" {
            return self.state.clone();
        }
        let rows: u64 = self.snapshots.iter().map(|s| s.rows).sum();
        let of: Option<u64> = self
            .snapshots
            .iter()
            .map(|s| if s.done { Some(s.rows) } else { s.rows_estimate.map(|n| n.max(s.rows)) })
            .sum();
        let of = of.map(|n| format!(" of about {}", grouped(n))).unwrap_or_default();
        match of.as_str() {
            "" => format!("{}: {}", self.state, counted(rows, "row")),
            of => format!("{}: {}{of} rows", self.state, grouped(rows)),
        }
    }
}

fn symbol(state: &str) -> &'static str {
    match state {
        "live" | "capturing" => "●",
        "bootstrapping" | "snapshotting" | "starting" => "◐",
        "retrying" => "○",
        _ => "✗",
    }
}

pub(crate) fn aligned(mut table: Table, right: &[usize]) -> String {
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_are_built_stand_together_and_five_hundred_are_a_few_lines() {
        let build =
            |i| format!(r#"{{"entity":"t{i}","into":"c{i}","offset":{},"of":1}}"#, u8::from(i > 0));
        for (count, lines) in [(1, 1), (2, 2), (5, 5), (500, 6)] {
            let builds: Vec<String> = (0..count).map(build).collect();
            let json = format!(
                r#"{{"services":[],"routes":[{{"from":"a","to":"b","state":"bootstrapping",
                "lag_events":1,"building":[{}]}}]}}"#,
                builds.join(",")
            );
            let status: Status = serde_json::from_str(&json).unwrap();
            let text = status.render(Paint::PLAIN);
            let (_, block) =
                text.split_once("\n\na → b builds c0 from t0: 0 of 1 event\n").unwrap();
            assert_eq!(block.lines().count() + 1, lines, "{text}");
            assert!(!block.contains("\n\n"), "{text}");
            assert_eq!(text.contains("… and 495 more of 500 copies"), count == 500, "{text}");
            assert!(text.contains("1 event ") && !text.contains("1 events"), "{text}");
        }
    }

    #[test]
    fn a_status_shows_lag_and_why_something_waits() {
        let json = r#"{"services":[{"name":"customer","state":"capturing","position":"16/B374D848",
            "log":{"first":0,"next":1204,"bytes":1048576},"snapshots":[],"heard_ms":70000,"error":null,"trouble":null}],
            "routes":[{"from":"customer","to":"order","state":"paused","checkpoint":1200,
            "waiting":[{"what":"a lock on table public.item","since_ms":0,"help":"run this","blockers":[{"id":"pid 7",
            "program":"psql","user":"alice","state":"idle in transaction","since_ms":0}]}],
            "lag_events":4,"lag_ms":2100,"parked":null,"lanes":4,"whole":false,"error":"order's table t does not fit: no x",
            "trouble":{"code":"SINK-SCHEMA","message":"m","causes":[],"help":"add x"}}]}"#;
        let status: Status = serde_json::from_str(json).unwrap();
        let text = status.render(Paint::PLAIN);
        for part in [
            "● capturing",
            "16/B374D848",
            "1,204",
            "1 MiB",
            "customer → order",
            "✗ paused",
            "4 events",
            "2.1 s",
            // What is parked is not known.
            "?",
            "customer → order 4 lanes: a transaction of customer may be seen in parts",
            "customer: its database was not heard for 1 min",
            "customer → order: [SINK-SCHEMA] order's table t does not fit",
            "help: add x",
            "page: docs/errors/SINK-SCHEMA.md",
            "for a lock on table public.item; it is blocked by pid 7 (psql, user alice, idle in transaction, in",
            "help: run this",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
