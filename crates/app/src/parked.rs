//! `rowcast parked`: what is set aside, and what to do about it.

use crate::cli;
use crate::instance::{Answer, Instance};
use crate::output::Output;
use crate::report::{Exit, Failure};
use crate::time::{age, grouped, rough};
use comfy_table::{Table, presets};
use rowcast_core::RouteId;
use serde::Deserialize;
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::Duration;

/// Longest for the running instance to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What the running instance says.
#[derive(Debug, Deserialize)]
struct List {
    parked: Vec<Entry>,
    /// Routes of which it is not known; an earlier instance does not say.
    #[serde(default)]
    unknown: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Field {
    name: String,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    route: String,
    table: String,
    key: String,
    code: String,
    message: String,
    since_ms: i64,
    events: u64,
    first: u64,
    last: u64,
    pending: String,
    words: Option<String>,
    row: Option<Vec<Field>>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    healed: u64,
    parked: u64,
    later: u64,
    dropped: u64,
}

pub(crate) async fn parked(
    args: cli::ParkedAt,
    file: &Path,
    output: Output,
) -> Result<Exit, Failure> {
    let instance = Instance::reach(&args.reach, file)?;
    match args.what {
        cli::Parked::List { route, json } => {
            let path = query("/v1/parked", route.as_ref(), None, None);
            let answer = good(instance.get(&path, ANSWER).await?)?;
            show(&answer, json, output, list)
        }
        cli::Parked::Show { route, table, key, json } => {
            let path = query("/v1/parked/show", Some(&route), Some(&table), Some(&key));
            let answer = good(instance.get(&path, ANSWER).await?)?;
            show(&answer, json, output, rows)
        }
        cli::Parked::Retry(which) => {
            let outcome = ask(&instance, "/v1/parked/retry", &which).await?;
            let Outcome { healed, parked, later, .. } = outcome;
            if healed + parked + later == 0 {
                output.line(format!("nothing is parked on {}", which.route))?;
                return Ok(Exit::Good);
            }
            let mut said = format!("{} applied, {} still parked", grouped(healed), grouped(parked));
            if later > 0 {
                said.push_str(&format!("; {} more are tried next", grouped(later)));
            }
            output.line(said)?;
            Ok(if parked == 0 { Exit::Good } else { Exit::No })
        }
        cli::Parked::Drop { which, yes } => {
            if !yes && !agreed(&which, output)? {
                return Err(Failure::new("nothing was dropped", "say `--yes` to go on"));
            }
            let outcome = ask(&instance, "/v1/parked/drop", &which).await?;
            if outcome.dropped == 0 {
                output.line(format!("nothing is parked on {}", which.route))?;
                return Ok(Exit::Good);
            }
            output.line(format!(
                "{} dropped: the copy keeps what it has for them until their next whole row",
                grouped(outcome.dropped)
            ))?;
            Ok(Exit::Good)
        }
    }
}

async fn ask(
    instance: &Instance,
    path: &str,
    which: &cli::ParkedWhich,
) -> Result<Outcome, Failure> {
    let cli::ParkedWhich { route, table, key, all } = which;
    if table.is_none() && key.is_none() && !all {
        let help = "name a TABLE and a KEY, or say `--all`";
        return Err(Failure::usage("which parked keys?", help));
    }
    let path = query(path, Some(route), table.as_deref(), key.as_deref());
    read(&good(instance.send("POST", &path, None, ANSWER).await?)?)
}

fn query(path: &str, route: Option<&RouteId>, table: Option<&str>, key: Option<&str>) -> String {
    let route = route.map(ToString::to_string);
    let said = [("route", route.as_deref()), ("table", table), ("key", key)];
    let said: Vec<_> =
        said.iter().filter_map(|(n, v)| Some(format!("{n}={}", escaped((*v)?)))).collect();
    if said.is_empty() { path.to_string() } else { format!("{path}?{}", said.join("&")) }
}

/// A value as a part of a query.
fn escaped(value: &str) -> String {
    value.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn good(answer: Answer) -> Result<Answer, Failure> {
    match answer.status {
        200 => Ok(answer),
        400 => Err(Failure::usage(answer.detail(), "`rowcast parked list` shows what is parked")),
        _ => Err(answer.failure("`rowcast parked list` shows what is parked")),
    }
}

fn read<T: for<'a> Deserialize<'a>>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_str(&answer.body).map_err(|e| {
        let help = "is `rowcast run` another version than this one?";
        Failure::new("the answer says nothing of parked keys", help).because(&e)
    })
}

fn show(
    answer: &Answer,
    json: bool,
    output: Output,
    render: fn(&List) -> String,
) -> Result<Exit, Failure> {
    if json {
        output.line(answer.body.trim_end())?;
    } else {
        output.raw(render(&read(answer)?).as_bytes())?;
    }
    Ok(Exit::Good)
}

fn list(all: &List) -> String {
    let mut out = match &all.parked[..] {
        [] if all.unknown.is_empty() => "Nothing is parked.\n".into(),
        [] => String::new(),
        entries => format!("{}\n", table(entries).trim_fmt()),
    };
    for route in &all.unknown {
        out.push_str(&format!(
            "What {route} has parked is not known yet: `rowcast status` says what it waits for.\n"
        ));
    }
    out
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["route", "table", "key", "since", "events", "why"]);
    for e in entries {
        let (route, table_name, key) = (e.route.clone(), e.table.clone(), printable(&e.key));
        let since = format!("{} ago", rough(age(e.since_ms)));
        table.add_row([route, table_name, key, since, grouped(e.events), printable(&e.message)]);
    }
    table
}

fn rows(all: &List) -> String {
    let mut out = String::new();
    for e in &all.parked {
        out.push_str(&format!("{} {} key {}\n", e.route, e.table, printable(&e.key)));
        out.push_str(&format!("  [{}] {}\n", e.code, printable(&e.message)));
        for line in e.words.iter().flat_map(|w| w.lines()) {
            out.push_str(&format!("  the database says: {}\n", printable(line)));
        }
        let events = format!("{} from offset {} to {}", grouped(e.events), e.first, e.last);
        out.push_str(&format!("  parked {} ago; events: {events}\n", rough(age(e.since_ms))));
        out.push_str(&format!("  left to do: {}\n", e.pending));
        for Field { name, value } in e.row.iter().flatten() {
            let value = value.as_deref().map_or_else(|| "NULL".into(), printable);
            out.push_str(&format!("    {} = {value}\n", printable(name)));
        }
    }
    out
}

/// Text without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// Asks a person at a terminal; nobody else can say yes this way.
fn agreed(which: &cli::ParkedWhich, output: Output) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let what = match (&which.table, &which.key) {
        (Some(table), Some(key)) => format!("key {key} of {table}"),
        (Some(table), None) => format!("all parked keys of {table}"),
        _ => "all parked keys".to_string(),
    };
    output.ask(&format!("Give up the pending rows of {what} on {}? [y/N] ", which.route));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|e| Failure::new("the answer cannot be read", "say `--yes`").because(&e))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_carries_any_key() {
        let route: RouteId = "a:b".parse().unwrap();
        let path = query("/v1/parked", Some(&route), Some("\"T\""), Some("1, ü&x=y"));
        assert_eq!(path, "/v1/parked?route=a%3Ab&table=%22T%22&key=1%2C%20%C3%BC%26x%3Dy");
        assert_eq!(query("/v1/parked", None, None, None), "/v1/parked");
    }

    #[test]
    fn a_shown_row_says_why_and_what_is_left_to_do() {
        let json = r#"{"parked":[{"route":"a:b","table":"t","key":"7","code":"SINK-DATA",
            "message":"column x must not be null","since_ms":0,"first":3,"last":9,"events":2,
            "pending":"write","words":"null value\u001b","row":[{"name":"x","value":null},{"name":"y","value":"z"}]}]}"#;
        let shown: List = serde_json::from_str(json).unwrap();
        let text = rows(&shown);
        for part in ["a:b t key 7", "[SINK-DATA] column x", "x = NULL", "y = z", "write"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}') && list(&shown).contains("must not be null"));
    }

    #[test]
    fn nothing_is_parked_only_where_that_is_known() {
        let said = |json| list(&serde_json::from_str(json).unwrap());
        assert_eq!(said(r#"{"parked":[]}"#), "Nothing is parked.\n");
        assert_eq!(
            said(r#"{"parked":[],"unknown":["a:b"]}"#),
            "What a:b has parked is not known yet: `rowcast status` says what it waits for.\n"
        );
    }
}
