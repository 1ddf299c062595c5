//! What `rowcast check` finds out about a file, as a source and as a target.

use crate::file;
use crate::sink::{Wanted, create_statement, lost_copies};
use crate::source::{published_table, withheld};
use crate::table::{self, Table};
use rowcast_core::{Diagnose, Finding, Severity, Shape, SinkSpec, SourceSpec, quote};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

/// Everything that capture needs.
pub(crate) fn source(path: &Path, spec: &SourceSpec) -> Vec<Finding> {
    let subject = path.display().to_string();
    let connection = match file::open(path) {
        Ok(connection) => connection,
        Err(error) => return vec![unreachable(&subject, &error)],
    };
    let mut findings = vec![journal(&subject, &connection), writable(&subject, &connection)];
    for publish in &spec.entities {
        findings.extend(published(&connection, spec, publish));
    }
    findings
}

fn unreachable(subject: &str, error: &rusqlite::Error) -> Finding {
    Finding::new(Severity::Error, subject, format!("cannot be opened: {error}"), file::FILE_HELP)
}

fn journal(subject: &str, c: &Connection) -> Finding {
    match file::has_wal(c) {
        Ok(true) => Finding::new(Severity::Good, subject, "has a write-ahead log", ""),
        Ok(false) => Finding::new(
            Severity::Warning,
            subject,
            "has no write-ahead log: capture and the application make each other wait",
            "switch it on once; it stays on",
        )
        .with_fix(true, vec!["PRAGMA journal_mode = wal".into()]),
        Err(error) => unreachable(subject, &error),
    }
}

fn writable(subject: &str, c: &Connection) -> Finding {
    // Begins a write and takes it back.
    match c.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Ok(()) => Finding::new(Severity::Good, subject, "can be written", ""),
        Err(error) => {
            let help = "capture keeps its triggers and changes in the file: let this user write \
                        it and its folder";
            Finding::new(Severity::Error, subject, format!("cannot be written: {error}"), help)
        }
    }
}

fn published(c: &Connection, spec: &SourceSpec, publish: &rowcast_core::Publish) -> Vec<Finding> {
    let subject = &publish.table;
    let table = match published_table(c, &spec.service, publish) {
        Ok((table, _)) => table,
        Err(error) => {
            let (what, help) = (error.to_string(), error.help().to_string());
            return vec![Finding::new(Severity::Error, subject, what, help)];
        }
    };
    let kept_back = withheld(&table, &publish.masks);
    let all = table.columns.len() - kept_back.len();
    let count = publish.fields.as_ref().map_or(all, Vec::len);
    let message = format!(
        "{count} fields of {} can be captured; a statement that drops one of them fails while \
         its triggers, named _rowcast_…, stand (they may be dropped with it)",
        publish.entity
    );
    let mut findings = vec![Finding::new(Severity::Good, subject, message, "")];
    if !publish.masks.is_empty() {
        let message = format!("leaves masked: {}", publish.masks);
        findings.push(Finding::new(Severity::Good, subject, message, ""));
    }
    findings.extend(kept_back.iter().filter(|_| publish.fields.is_none()).map(|column| {
        let message =
            format!("{column:?} is computed and stays here: it might tell a masked value");
        let help = "mask it too, or name the public columns with `fields`, to decide it";
        Finding::new(Severity::Warning, subject, message, help)
    }));
    findings.extend(null_keys(c, &table));
    findings
}

/// SQLite lets keys hold NULL, which names no row.
fn null_keys(c: &Connection, table: &Table) -> Option<Finding> {
    if table.without_rowid || table.key_is_rowid() {
        return None;
    }
    let loose: Vec<_> = table.key().into_iter().filter(|k| !k.not_null).collect();
    if loose.is_empty() {
        return None;
    }
    let null: Vec<_> = loose.iter().map(|k| format!("{} IS NULL", quote(&k.name))).collect();
    let ask = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", quote(&table.name), null.join(" OR "));
    let found = c.prepare(&ask).and_then(|mut ask| ask.exists([])).unwrap_or(false);
    let message = if found {
        "has rows whose key is NULL; they are not published, because NULL names no row"
    } else {
        "may hold rows whose key is NULL; they would not be published"
    };
    let help = "declare the key's columns NOT NULL";
    let severity = if found { Severity::Error } else { Severity::Warning };
    Some(Finding::new(severity, &table.name, message, help))
}

/// Everything that applying needs.
pub(crate) fn sink(path: &Path, spec: &SinkSpec, shapes: &[Arc<Shape>]) -> Vec<Finding> {
    let subject = path.display().to_string();
    if !path.exists() {
        let mut findings = vec![new_file(path, &subject)];
        findings.extend(shapes.iter().filter(|s| !s.create).map(|s| missing(s)));
        return findings;
    }
    let connection = match file::open(path) {
        Ok(connection) => connection,
        Err(error) => return vec![unreachable(&subject, &error)],
    };
    let mut findings = vec![journal(&subject, &connection), writable(&subject, &connection)];
    // A file that has not begun remembers no copies.
    let lost = lost_copies(&connection, &spec.route, "'live', 'again'").unwrap_or_default();
    for shape in shapes {
        let lost = lost.iter().find(|(into, _)| *into == shape.into);
        findings.extend(lost.map(|(into, why)| rebuilt(into, why)));
        let found = target(&connection, shape);
        findings.extend((lost.is_none() || found.severity != Severity::Good).then_some(found));
        findings.extend(generated(spec, shape));
    }
    findings
}

fn rebuilt(into: &str, why: &str) -> Finding {
    let message = format!(
        "is not the table that took this copy's rows ({why}): `rowcast run` will rebuild it from the log"
    );
    Finding::new(Severity::Warning, into, message, "nothing, unless its table is to come back")
}

fn new_file(path: &Path, subject: &str) -> Finding {
    let folder = std::path::absolute(path).ok().and_then(|p| p.parent().map(Path::to_path_buf));
    if folder.is_some_and(|f| f.is_dir()) {
        Finding::new(Severity::Good, subject, "is not there yet; it will be made", "")
    } else {
        let help = "make the folder, or correct the path";
        Finding::new(Severity::Error, subject, "is in a folder that is not there", help)
    }
}

fn missing(shape: &Shape) -> Finding {
    let help = "make the table, or let it be made: `create = true`";
    let message = "is missing, and `create = false`";
    Finding::new(Severity::Error, &shape.into, message, help)
        .with_fix(true, vec![create_statement(shape)])
}

fn target(c: &Connection, shape: &Shape) -> Finding {
    let subject = &shape.into;
    let name = match table::named(subject) {
        Ok(Some(name)) => name,
        Ok(None) | Err(_) => {
            let help = "write `into = \"table\"`: SQLite has one namespace";
            return Finding::new(Severity::Error, subject, "is no table name here", help);
        }
    };
    let found = match Table::find(c, &name) {
        Ok(found) => found,
        Err(error) => return unreachable(subject, &error),
    };
    if found.is_none() && !shape.create {
        return missing(shape);
    }
    match Wanted::of(shape, found.as_ref()) {
        Ok(Wanted::Nothing) => Finding::new(Severity::Good, subject, "fits", ""),
        Ok(Wanted::Table) => Finding::new(Severity::Good, subject, "will be made", ""),
        Ok(Wanted::Columns(columns)) => {
            let names: Vec<_> = columns.iter().map(|c| format!("{:?}", c.name)).collect();
            let message = format!("will get the column {}", names.join(", "));
            Finding::new(Severity::Good, subject, message, "")
        }
        Err((what, help)) => Finding::new(Severity::Error, subject, what, help),
    }
}

/// Columns that the publisher's database computes and does not send.
fn generated(spec: &SinkSpec, shape: &Shape) -> Vec<Finding> {
    let finding = |g: &rowcast_core::Generated| {
        Finding::new(
            Severity::Warning,
            &shape.into,
            format!("{:?} is computed by {}'s database and not carried", g.name, spec.route.from),
            "compute it here with a generated column or a view, if it is needed",
        )
    };
    shape.generated.iter().map(finding).collect()
}
