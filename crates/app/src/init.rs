//! `rowcast init`: a first file, from the tables found in databases if there are any.

mod password;

use crate::cli;
use crate::config::{Secret, count, without_passwords};
use crate::databases;
use crate::output::Output;
use crate::report::{Exit, Failure};
use crate::time::counted;
use rowcast_core::{EntityName, NameError, Table, parse_path};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

const BLANK: &str = include_str!("init/blank.toml");
const HEAD: &str = include_str!("init/head.toml");

/// A database that was looked at.
struct Found {
    service: String,
    address: Address,
    tables: Vec<Table>,
    /// What looks like a table and cannot be published.
    left_out: Vec<Table>,
}

/// A database's address as it may stand in a file: without its password.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    written: String,
    /// The environment variable that holds the password, and which one it was.
    variable: Option<String>,
}

pub(crate) async fn init(args: cli::Init, file: &Path, output: Output) -> Result<Exit, Failure> {
    if file.exists() {
        return Err(exists(file));
    }
    if std::env::args().any(|word| without_passwords(&word) != word) {
        output.aside(format!(
            "{} others on this machine can read the password in the list of processes: set ROWCAST_FROM and \
             ROWCAST_TO instead, or leave the password out and type it when you are asked",
            output.aside.yellow("note:"),
        ));
    }
    let mut taken = HashSet::new();
    let from = match &args.from {
        Some(url) => Some(found(url, Half::Publisher, &mut taken, file, output).await?),
        None => None,
    };
    let to = match &args.to {
        Some(url) => Some(found(url, Half::Subscriber, &mut taken, file, output).await?),
        None => None,
    };
    let text = match &from {
        None => BLANK.to_string(),
        Some(from) => text(from, to.as_ref()),
    };
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    written.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => exists(file),
        _ => Failure::usage(format!("{} cannot be written", file.display()), "").because(&e),
    })?;
    output.line(format!("{} {}", output.paint.green("wrote"), file.display()))?;
    for found in from.iter().chain(&to) {
        let keyless = found.tables.iter().filter(|t| !t.columns.iter().any(|c| c.key)).count();
        let left_out = match found.left_out.len() {
            0 => String::new(),
            n => format!("; {} left out, for they are views or the like", count(n, "other")),
        };
        output.line(format!(
            "  {}: {}{}{left_out}",
            found.service,
            count(found.tables.len(), "table"),
            if keyless > 0 { format!(", {keyless} without a key") } else { String::new() },
        ))?;
        if let Some(variable) = &found.address.variable {
            output.line(format!(
                "  {} the password is not in the file: set {variable} before you go on",
                output.paint.yellow("note:"),
            ))?;
        }
    }
    let check = output.paint.bold("rowcast check");
    output.line(format!("Next: look through it, then `{check}`."))?;
    Ok(Exit::Good)
}

fn exists(file: &Path) -> Failure {
    let help = "remove it first, or name another one with `--config FILE`";
    Failure::usage(format!("{} is there already and is left as it is", file.display()), help)
}

/// What a database is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Publisher,
    Subscriber,
}

async fn found(
    url: &Secret<String>,
    half: Half,
    taken: &mut HashSet<String>,
    file: &Path,
    output: Output,
) -> Result<Found, Failure> {
    let base = file.parent().unwrap_or(Path::new(""));
    let otherwise = match half {
        Half::Publisher => "publisher",
        Half::Subscriber => "subscriber",
    };
    let mut service = service_name(url.reveal()).unwrap_or_else(|| otherwise.to_string());
    while !taken.insert(service.clone()) {
        service.push_str("_copy");
    }
    let name = service.parse().map_err(|e: NameError| Failure::usage(e.to_string(), ""))?;
    let url = &password::completed(url, output);
    let database = databases::open(&name, url, base).map_err(|wrong| {
        Failure::usage(
            format!("{}: {}", without_passwords(url.reveal()), wrong.message),
            wrong.help,
        )
    })?;
    let tables = if half == Half::Subscriber && databases::is_made_later(&name, url, base) {
        Vec::new()
    } else {
        database.tables().await.map_err(|e| Failure::of(&e))?
    };
    let (left_out, tables) = tables.into_iter().partition(|t| t.left_out.is_some());
    let address = address(url.reveal(), &service);
    Ok(Found { service, address, tables, left_out })
}

/// A name for a service, from its database's.
fn service_name(url: &str) -> Option<String> {
    let place = url.split('?').next()?;
    let last = place.rsplit(['/', ':', '\\']).next()?;
    let stem = last.split('.').next()?;
    let name: String = stem
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .skip_while(|c| !c.is_ascii_lowercase())
        .take(30)
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Replaces the password by a variable.
fn address(url: &str, service: &str) -> Address {
    let variable = format!("{}_PASSWORD", service.to_uppercase().replace('-', "_"));
    let plain = || Address { written: url.replace("${", "$${"), variable: None };
    let Some((scheme, rest)) = url.split_once("://") else { return plain() };
    let Some((login, place)) = rest.rsplit_once('@') else { return plain() };
    let Some((user, _)) = login.split_once(':') else { return plain() };
    let written = format!("{scheme}://{user}:${{{variable}}}@{place}");
    Address { written, variable: Some(variable) }
}

fn text(from: &Found, to: Option<&Found>) -> String {
    let mut out = HEAD.to_string();
    let entities = entities(&from.tables);
    let _ = writeln!(out, "\n[service.{}]", from.service);
    database(&mut out, from);
    if from.tables.is_empty() {
        out.push_str("\n# No tables were found here.\n");
    }
    for (table, entity) in from.tables.iter().zip(&entities) {
        publish(&mut out, &from.service, table, entity);
    }
    for table in &from.left_out {
        let why = table.left_out.as_deref().unwrap_or_default();
        let name = comment(&table.name);
        let _ = writeln!(
            out,
            "\n# {name} is {why}, which cannot be published: publish the tables behind it."
        );
    }
    let example = Found {
        service: if from.service == "subscriber" { "another".into() } else { "subscriber".into() },
        address: Address { written: "sqlite:subscriber.db".into(), variable: None },
        tables: Vec::new(),
        left_out: Vec::new(),
    };
    let subscriber = to.unwrap_or(&example);
    let off = if to.is_some() { "" } else { "# " };
    let _ = writeln!(out, "\n{off}[service.{}]", subscriber.service);
    out.push_str(off);
    database(&mut out, subscriber);
    for (table, entity) in from.tables.iter().zip(&entities) {
        subscribe(&mut out, (&from.service, subscriber), table, entity, off);
    }
    out
}

fn database(out: &mut String, found: &Found) {
    let _ = writeln!(out, "database = {}", quoted(&found.address.written));
}

/// A name for each table: its own, or with its schema where that is not enough.
fn entities(tables: &[Table]) -> Vec<String> {
    let last = |t: &Table| parse_path(&t.name).ok().and_then(|p| p.last().cloned());
    let mut counts = std::collections::HashMap::new();
    for name in tables.iter().filter_map(last) {
        *counts.entry(name).or_insert(0) += 1;
    }
    let name = |t: &Table| match last(t) {
        Some(name) if counts.get(&name) == Some(&1) => name,
        _ => t.name.clone(),
    };
    tables.iter().map(name).collect()
}

fn publish(out: &mut String, service: &str, table: &Table, entity: &str) {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| {
            let key = if c.key { " (key)" } else { "" };
            format!("{} {}", c.name, c.native).trim_end().to_string() + key
        })
        .collect();
    let rows = match table.rows_estimate {
        Some(n) => format!("About {}", counted(n, "row")),
        None => "An unknown number of rows, for the table was never analysed".into(),
    };
    let _ = writeln!(out, "\n# {rows}: {}", comment(&columns.join(", ")));
    let off = match unpublishable(table, entity) {
        None => "",
        Some(why) => {
            let _ = writeln!(out, "# {why}");
            "# "
        }
    };
    let fields: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
    let _ = writeln!(out, "{off}[service.{service}.publish.{}]", key(entity));
    let _ = writeln!(out, "{off}table  = {}", quoted(&table.name));
    let _ = writeln!(out, "{off}fields = [{}]", fields.join(", "));
}

fn unpublishable(table: &Table, entity: &str) -> Option<&'static str> {
    if entity.parse::<EntityName>().is_err() {
        return Some("Its name cannot be an entity's name: choose another one.");
    }
    let keyed = table.columns.iter().any(|c| c.key);
    (!keyed).then_some("It has no key by which changes could be told apart: give it a primary key.")
}

fn subscribe(out: &mut String, (from, to): (&str, &Found), table: &Table, entity: &str, off: &str) {
    let off = if unpublishable(table, entity).is_some() { "# " } else { off };
    let into = parse_path(entity).ok().filter(|p| p.len() == 1).map_or_else(
        || rowcast_core::quote(&format!("{entity}_copy")),
        |p| {
            let name = format!("{}_copy", p[0]);
            let plain =
                name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if plain { name } else { rowcast_core::quote(&name) }
        },
    );
    let last = |t: &Table| parse_path(&t.name).ok().and_then(|p| p.last().cloned());
    let wanted = parse_path(&into).ok().and_then(|p| p.last().cloned());
    let there = to.tables.iter().any(|t| last(t) == wanted);
    let _ = writeln!(
        out,
        "\n{off}[service.{}.subscribe.{}]",
        to.service,
        quoted(&format!("{from}.{entity}"))
    );
    let note = if there {
        "there already: `rowcast check` compares it"
    } else {
        "made when it is missing"
    };
    let _ = writeln!(out, "{off}into   = {}   # {note}", quoted(&into));
    let fields: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
    let _ = writeln!(
        out,
        "# fields = [{}]   # all, also later ones, if unset; rename with {{ local = \"published\" }}",
        comment(&fields.join(", "))
    );
}

/// A text as TOML writes it, on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { name.to_string() } else { quoted(name) }
}

/// A text that stays on its line.
fn comment(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests;
