//! `rowcast subscribe`, `unsubscribe`, `subscriptions`, `pause`, `resume`, `replay` and `reload`:
//! who gets what, changed while `rowcast run` runs.

use crate::cli;
use crate::config::{self, Weight, count};
use crate::instance::{Answer, Instance, escaped};
use crate::output::Output;
use crate::report::{Exit, Failure};
use crate::status::aligned;
use comfy_table::{Table, presets};
use rowcast_core::{Begin, Code, EntityName, RouteId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the running instance says of a replay.
#[derive(Debug, Deserialize)]
struct Replaying {
    copies: usize,
    from: Option<u64>,
}

/// Longest for the running instance to answer: it looks at the subscriber's database first.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest for what waits to look again and say how it is.
const MOMENT: Duration = Duration::from_secs(5);
/// How often a route is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What the running instance says of a subscription.
#[derive(Debug, Deserialize)]
struct Subscribed {
    to: String,
    of: String,
    into: String,
    fields: Option<Vec<(String, String)>>,
    from: String,
    origin: String,
    paused: Option<String>,
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    subscriptions: Vec<Subscribed>,
}

pub(crate) async fn subscribe(
    args: cli::Subscribe,
    file: &Path,
    output: Output,
) -> Result<Exit, Failure> {
    let instance = running(file)?;
    let mut wish = json!({ "to": args.to.as_str(), "of": args.of.to_string() });
    if let Some(into) = &args.into {
        wish["into"] = json!(into);
    }
    if let Some(fields) = &args.fields {
        let field = |f: &String| match f.split_once('=') {
            Some((local, published)) => json!([local.trim(), published.trim()]),
            None => json!(f.trim()),
        };
        wish["fields"] = fields.iter().map(field).collect();
    }
    if let Some(filter) = &args.filter {
        wish["where"] = json!(filter);
    }
    if args.from != Begin::Beginning {
        wish["from"] = json!(args.from.to_string());
    }
    if args.no_create {
        wish["create"] = json!(false);
    }
    let answer = instance.send("POST", "/v1/subscriptions", Some(&wish), ANSWER).await?;
    let made: Subscribed = read(accepted(answer)?)?;
    let route = RouteId { from: args.of.service.clone(), to: args.to.clone() };
    let begins = match args.from {
        Begin::Beginning => String::new(),
        Begin::Offset(at) => format!(", from offset {at} on; what the table holds stays"),
        from => format!(", from {from} on; what the table holds stays"),
    };
    output.line(format!("{} gets {} in its table {}{begins}", made.to, made.of, made.into))?;
    if let Some(paused) = &made.paused {
        output.aside(format!("the route {route} is {paused}: `rowcast resume {route}`"));
    }
    if args.wait_live {
        live(&instance, &route, Some(&made.into), args.timeout).await?;
        output.line(format!("{route} is live"))?;
    }
    Ok(Exit::Good)
}

pub(crate) async fn unsubscribe(
    args: cli::Unsubscribe,
    file: &Path,
    output: Output,
) -> Result<Exit, Failure> {
    let instance = running(file)?;
    let (to, of) = (escaped(args.to.as_str()), escaped(&args.of.to_string()));
    let into = args.into.map(|into| format!("?into={}", escaped(&into))).unwrap_or_default();
    let path = format!("/v1/subscriptions/{to}/{of}{into}");
    let gone: Subscribed = read(accepted(instance.send("DELETE", &path, None, ANSWER).await?)?)?;
    output.line(format!(
        "{} no longer gets {}; its table {} stays as it is, with its rows",
        gone.to, gone.of, gone.into
    ))?;
    Ok(Exit::Good)
}

pub(crate) async fn subscriptions(
    args: cli::Subscriptions,
    file: &Path,
    output: Output,
) -> Result<Exit, Failure> {
    let answer = accepted(running(file)?.get("/v1/subscriptions", ANSWER).await?)?;
    if args.json {
        output.line(answer.body.trim_end())?;
        return Ok(Exit::Good);
    }
    let listed: Listed = read(answer)?;
    if listed.subscriptions.is_empty() {
        output.line("Nobody subscribes to anything.")?;
        return Ok(Exit::Good);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["subscriber", "entity", "into", "fields", "begins", "from", ""]);
    for s in listed.subscriptions {
        let fields = s.fields.map_or_else(|| "all".into(), |f| shown(&f));
        let note = s.problem.or(s.paused).unwrap_or_default();
        table.add_row([s.to, s.of, s.into, fields, s.from, s.origin, note]);
    }
    output.line(aligned(table, &[]))?;
    Ok(Exit::Good)
}

/// As `--fields` takes them.
fn shown(fields: &[(String, String)]) -> String {
    let word = |(local, published): &(String, String)| {
        if local == published { local.clone() } else { format!("{local}={published}") }
    };
    fields.iter().map(word).collect::<Vec<_>>().join(",")
}

pub(crate) async fn pause(args: cli::Pause, file: &Path, output: Output) -> Result<Exit, Failure> {
    let who = ["USER", "LOGNAME"].iter().find_map(|v| std::env::var(v).ok());
    let by = who.filter(|w| !w.is_empty()).unwrap_or_else(|| "the command line".into());
    let body = json!({ "by": by, "why": args.why });
    tell(&args.route, "pause", Some(&body), file).await?;
    output.line(format!(
        "{} is paused, also after a restart; `rowcast resume {}` lets it go on",
        args.route, args.route
    ))?;
    Ok(Exit::Good)
}

pub(crate) async fn resume(
    args: cli::Resume,
    file: &Path,
    output: Output,
) -> Result<Exit, Failure> {
    let route = &args.route;
    tell(route, "resume", None, file).await?;
    let Some((who, trouble)) = still_waits(&running(file)?, route).await? else {
        output.line(format!("{route} goes on"))?;
        return Ok(Exit::Good);
    };
    output.line(format!("nobody holds {route} any more, but {who} does not go on"))?;
    let error = trouble["error"].as_str().unwrap_or("it does not say why");
    let code = trouble["trouble"]["code"].as_str().map(|c| format!("[{c}] ")).unwrap_or_default();
    output.line(format!("  {code}{error}"))?;
    if let Some(help) = trouble["trouble"]["help"].as_str().filter(|h| !h.is_empty()) {
        output.line(format!("  help: {help}"))?;
    }
    Ok(Exit::Good)
}

/// What of a route still waits after it was let go on, and how it is: its publisher's capture, or the
/// route itself. Both look again at once, so they are given a moment.
async fn still_waits(
    instance: &Instance,
    route: &RouteId,
) -> Result<Option<(String, Value)>, Failure> {
    let began = Instant::now();
    loop {
        let status: Value = read(accepted(instance.get("/v1/status", ANSWER).await?)?)?;
        let all = |of: &str| status[of].as_array().cloned().unwrap_or_default();
        let waits = |v: &Value| matches!(v["state"].as_str(), Some("paused" | "retrying"));
        let capture = all("services").into_iter().find(|s| s["name"] == route.from.as_str());
        let moves = all("routes")
            .into_iter()
            .find(|r| r["from"] == route.from.as_str() && r["to"] == route.to.as_str());
        let capture = capture.filter(waits).map(|s| (format!("the capture of {}", route.from), s));
        let found = capture.or(moves.filter(waits).map(|r| ("the route itself".into(), r)));
        if found.is_none() || began.elapsed() > MOMENT {
            return Ok(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(crate) async fn replay(
    args: cli::Replay,
    file: &Path,
    output: Output,
) -> Result<Exit, Failure> {
    let instance = running(file)?;
    let route = &args.route;
    let entities: Vec<_> = args.entities.iter().map(EntityName::as_str).collect();
    let body = json!({ "entities": entities, "from": args.from.to_string() });
    let path = format!("/v1/routes/{}/replay", escaped(&route.to_string()));
    let answer = accepted(instance.send("POST", &path, Some(&body), ANSWER).await?)?;
    let Replaying { copies, from } = read(answer)?;
    let copies = count(copies, "copy").replace("copys", "copies");
    output.line(match from {
        Some(offset) => {
            format!("{route}: applies the log from offset {offset} on to {copies} again")
        }
        None => format!("{route}: builds {copies} anew from the log"),
    })?;
    output.aside("readers see the rows that are there until the new ones are whole");
    if args.wait_live {
        live(&instance, route, None, args.timeout).await?;
        output.line(format!("{route} is live"))?;
    }
    Ok(Exit::Good)
}

async fn tell(
    route: &RouteId,
    what: &str,
    body: Option<&Value>,
    file: &Path,
) -> Result<(), Failure> {
    let path = format!("/v1/routes/{}/{what}", escaped(&route.to_string()));
    accepted(running(file)?.send("POST", &path, body, ANSWER).await?).map(drop)
}

/// Looks at the file first, so that mistakes show here and not in the instance's log.
pub(crate) async fn reload(file: &Path, output: Output) -> Result<Exit, Failure> {
    let mut loaded = config::load(file)?;
    loaded.tls(Weight::Warning)?;
    output.warnings(&loaded);
    let instance = Instance::expect(&loaded.plan.data)?;
    instance.hang_up()?;
    output.line(format!(
        "the file is good; {} reads it again and says in its log what becomes of it",
        instance.name()
    ))?;
    Ok(Exit::Good)
}

/// Waits until a route's copies are complete; with `into`, once that one is among them.
pub(crate) async fn live(
    instance: &Instance,
    route: &RouteId,
    into: Option<&str>,
    within: Duration,
) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let status: Value = read(accepted(instance.get("/v1/status", ANSWER).await?)?)?;
        let mut routes = status["routes"].as_array().into_iter().flatten();
        let found =
            routes.find(|r| r["from"] == route.from.as_str() && r["to"] == route.to.as_str());
        let Some(found) = found else {
            let message = format!("there is no route {route}");
            return Err(Failure::usage(message, "`rowcast status` shows the routes"));
        };
        let mut copies = found["subscriptions"].as_array().into_iter().flatten();
        let is_there = into.is_none_or(|into| copies.any(|c| c["into"] == into));
        if is_there && found["state"] == "live" {
            return Ok(());
        }
        if found["state"] == "paused" {
            let error = found["error"].as_str().unwrap_or("it is paused");
            let help = found["trouble"]["help"].as_str().unwrap_or_default();
            return Err(Failure::new(format!("{route} waits for a person: {error}"), help));
        }
        if began.elapsed() >= within {
            let message = format!("{route} is not live within {within:?}");
            let Some(error) = found["error"].as_str() else {
                let help = "it goes on by itself; `rowcast status` shows how far it is";
                return Err(Failure::new(message, help));
            };
            let help = found["trouble"]["help"].as_str().unwrap_or_default();
            return Err(Failure::new(format!("{message}: {error}"), help));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn running(file: &Path) -> Result<Instance, Failure> {
    Instance::expect(&config::load(file)?.plan.data)
}

fn read<T: for<'a> Deserialize<'a>>(answer: Answer) -> Result<T, Failure> {
    serde_json::from_str(&answer.body).map_err(|e| {
        let help = "is `rowcast run` another version than this one?";
        Failure::new("the answer cannot be read", help).because(&e)
    })
}

/// An answer that is not a refusal.
fn accepted(answer: Answer) -> Result<Answer, Failure> {
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let help = problem["help"].as_str().unwrap_or_default();
    let mut failure = Failure::new(answer.detail(), help);
    let code = problem["code"].as_str();
    if let Some(code) = Code::ALL.iter().find(|c| Some(c.as_str()) == code) {
        failure = failure.with_code(*code);
    }
    Err(if matches!(answer.status, 400 | 404) { failure.with_exit(Exit::Usage) } else { failure })
}
