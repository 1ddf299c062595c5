//! What `rowcast check` finds at a target.

use super::checkpoint::SETUP;
use super::errors::Who;
use super::fit::{self, Misfit};
use super::held::{self, Fate};
use super::lost;
use super::needs;
use super::table::{Table, TableName};
use crate::connect::{Address, Session};
use crate::enums;
use crate::need::{self, Need};
use rowcast_core::{
    Computed, Diagnose, Finding, Generated, Listed, Severity, Shape, SinkSpec, quote,
};
use std::sync::Arc;

/// Everything that writing the route's copies needs, looked at.
pub(crate) async fn check(
    address: &Address,
    spec: &SinkSpec,
    shapes: &[Arc<Shape>],
    listed: &[Listed],
) -> Vec<Finding> {
    let who = Who { route: spec.route.clone() };
    let session = match address.connect("rowcast check", &[]).await {
        Ok(session) => session,
        Err(error) => {
            let error = who.connect(error);
            let cause = std::error::Error::source(&error).map_or_else(String::new, causes);
            let help = match error.help() {
                "" => "is the database running, and is its address right?",
                help => help,
            };
            let message = format!("{error}{cause}");
            return vec![Finding::new(Severity::Error, address.to_string(), message, help)];
        }
    };
    let mut findings = vec![good(address.to_string(), "can be reached")];
    match needs::of_server(&session, address).await {
        Ok(None) => {}
        Ok(Some(need)) => {
            let pooled = need == need::pooler(address.to_string());
            findings.push(need.finding());
            if pooled {
                return findings;
            }
        }
        Err(error) => findings.push(unanswered(&address.to_string(), &error)),
    }
    match schemas(&session, shapes).await {
        Ok(closed) => findings.extend(closed),
        Err(error) => findings.push(unanswered("the copies' schemas", &error)),
    }
    match checkpoint(&session, spec).await {
        Ok(found) => findings.push(found),
        Err(error) => findings.push(unanswered("rowcast.checkpoint", &error)),
    }
    let mut lost = Vec::new();
    match lost_copies(&session, &who).await {
        Ok(found) => lost = found,
        Err(error) => findings.push(bad("rowcast.member", error.to_string(), error.help())),
    }
    for shape in shapes {
        let lost = lost.iter().find(|(into, _)| *into == shape.into);
        findings.extend(lost.map(|(into, why)| rebuilt(into, why)));
        match table(&session, shape, &who, (listed, lost.is_some())).await {
            Ok(found) => findings.extend(found),
            Err(finding) => findings.push(finding),
        }
    }
    findings
}

/// Live copies whose table is not the one that took their rows, and why.
async fn lost_copies(
    session: &Session,
    who: &Who,
) -> Result<Vec<(String, &'static str)>, rowcast_core::SinkError> {
    // A target that has not begun, or of an earlier version, remembers no tables.
    let noted = "SELECT EXISTS (SELECT FROM pg_attribute \
                 WHERE attrelid = to_regclass('rowcast.member') AND attname = 'storage')";
    let noted = session.query_one(noted, &[]).await;
    if !noted.is_ok_and(|row| row.get::<_, bool>(0)) {
        return Ok(Vec::new());
    }
    let fates = held::fates(session, &who.route, &["live", "again"], who).await?.into_iter();
    let lost = |(into, fate)| if let Fate::Lost(why) = fate { Some((into, why)) } else { None };
    Ok(fates.filter_map(lost).collect())
}

fn rebuilt(into: &str, why: &str) -> Finding {
    let message = format!(
        "is not the table that took this copy's rows ({why}): `rowcast run` will rebuild it from the log"
    );
    Finding::new(Severity::Warning, into, message, "nothing, unless its table is to come back")
}

/// Schemas that the role may not use, each once.
async fn schemas(
    session: &Session,
    shapes: &[Arc<Shape>],
) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let mut findings: Vec<Finding> = Vec::new();
    for name in shapes.iter().filter_map(|s| TableName::read(&s.into).ok()) {
        let found = needs::of_schema(session, &name).await?.map(Need::finding);
        findings.extend(found.filter(|f| !findings.contains(f)));
    }
    Ok(findings)
}

fn causes(mut cause: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    loop {
        text.push_str(&format!(": {cause}"));
        match cause.source() {
            Some(next) => cause = next,
            None => return text,
        }
    }
}

fn good(subject: impl Into<String>, message: &str) -> Finding {
    Finding::new(Severity::Good, subject, message, "")
}

fn bad(subject: &str, message: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding::new(Severity::Error, subject, message, help)
}

fn unanswered(subject: &str, error: &tokio_postgres::Error) -> Finding {
    let message = format!("cannot be looked at{}", causes(error));
    bad(subject, message, "give Rowcast's user the right to look at it")
}

async fn checkpoint(session: &Session, spec: &SinkSpec) -> Result<Finding, tokio_postgres::Error> {
    const SUBJECT: &str = "rowcast.checkpoint";
    let found = "SELECT (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'rowcast' AND c.relname = 'checkpoint'), to_regnamespace('rowcast') IS NOT NULL,
        has_database_privilege(current_database(), 'CREATE'),
        CASE WHEN to_regnamespace('rowcast') IS NOT NULL
            THEN has_schema_privilege('rowcast', 'USAGE') ELSE true END,
        CASE WHEN to_regnamespace('rowcast') IS NOT NULL
            THEN has_schema_privilege('rowcast', 'CREATE') ELSE true END,
        quote_ident(current_user)";
    let row = session.query_one(found, &[]).await?;
    let oid: Option<u32> = row.get(0);
    let (schema, may_schema): (bool, bool) = (row.get(1), row.get(2));
    let (usage, may_table, user): (bool, bool, String) = (row.get(3), row.get(4), row.get(5));
    let Some(oid) = oid else {
        if if schema { may_table } else { may_schema } {
            return Ok(good(SUBJECT, "will be made at the first run"));
        }
        let mut statements: Vec<_> = SETUP.iter().map(|s| s.to_string()).collect();
        statements.push(format!("GRANT USAGE, CREATE ON SCHEMA rowcast TO {user}"));
        statements.push(format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON rowcast.checkpoint, rowcast.member, rowcast.parked TO {user}"
        ));
        let found = bad(
            SUBJECT,
            "is missing, and Rowcast's user may not make it",
            "run the statements as somebody who may",
        );
        return Ok(found.with_fix(false, statements));
    };
    // A target of an earlier version has not all of them yet; the owner makes what is lacking.
    let rights = "SELECT has_table_privilege($1::oid, 'SELECT') AND NOT EXISTS (
        SELECT FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS needed (what)
        WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = $1)
            AND c.relname IN ('checkpoint', 'member', 'parked')
            AND NOT has_table_privilege(c.oid, needed.what))";
    if !usage || !session.query_one(rights, &[&oid]).await?.get::<_, bool>(0) {
        let found =
            bad(SUBJECT, "is not open to Rowcast's user", "run the statements as its owner");
        return Ok(found.with_fix(
            false,
            vec![
                format!("GRANT USAGE, CREATE ON SCHEMA rowcast TO {user}"),
                format!("GRANT SELECT, INSERT, UPDATE, DELETE ON rowcast.checkpoint, rowcast.member, rowcast.parked TO {user}"),
            ],
        ));
    }
    let at = "SELECT next, log FROM rowcast.checkpoint WHERE route = $1";
    Ok(match session.query_opt(at, &[&spec.route.to_string()]).await? {
        None => good(SUBJECT, "is there; this route has not begun"),
        Some(row) => {
            let (next, log): (i64, String) = (row.get(0), row.get(1));
            good(SUBJECT, &format!("is there; this route has applied {next} events of log {log}"))
        }
    })
}

/// The findings of one table; the error is a finding as well.
async fn table(
    session: &Session,
    shape: &Shape,
    who: &Who,
    (listed, lost): (&[Listed], bool),
) -> Result<Vec<Finding>, Finding> {
    let refused = |error: rowcast_core::SinkError| {
        bad(&shape.into, error.to_string(), error.help().to_string())
    };
    let name =
        TableName::read(&shape.into).map_err(|what| refused(who.table_name(&shape.into, what)))?;
    let subject = name.sql();
    let Some(table) = Table::find(session, &name, who).await.map_err(refused)? else {
        let found = missing(session, shape, &name, listed).await;
        let mut found = found.map_err(|e| unanswered(&subject, &e))?;
        found.retain(|f| !lost || f.severity != Severity::Good);
        return Ok(found);
    };
    let mut findings = Vec::new();
    if !table.lacks.is_empty() {
        let rights = table.lacks.join(", ");
        let message = format!("Rowcast's user lacks {rights}");
        findings.push(
            bad(&subject, message, "run the statement as the table's owner")
                .with_fix(false, vec![format!("GRANT {rights} ON {subject} TO {}", table.user)]),
        );
    }
    let functions = lost::functions(session, &subject, table.oid).await;
    findings.extend(functions.map_err(|e| unanswered(&subject, &e))?);
    let additions = fit::additions(shape, &name, &table);
    let later = |c: &str| !additions.is_empty() && table.column(c).is_none();
    let lacking: Vec<_> = shape.columns.iter().filter(|c| later(&c.name)).collect();
    for misfit in fit::misfits(shape, &name, &table) {
        let added =
            lacking.iter().any(|c| misfit.what.contains(&format!("no column {:?}", c.name)));
        if !added {
            findings.push(misfitting(&subject, misfit));
        }
    }
    if !lacking.is_empty() {
        findings.push(good(&subject, "will be given columns that came later"));
    }
    findings.extend(computed(session, shape, &name, Some(&table)).await);
    if findings.is_empty() && !lost {
        let rows = table.rows_estimate.max(0.0);
        findings.push(good(&subject, &format!("fits; it holds about {rows} rows")));
    }
    let columns = shape.columns.iter().filter_map(|c| Some((c, table.column(&c.name)?.oid)));
    let columns: Vec<_> = columns.map(|(c, oid)| (c.column.native.as_str(), oid)).collect();
    let lacking = lacking_values(session, &subject, &columns, listed).await;
    findings.extend(lacking.map_err(|e| unanswered(&subject, &e))?);
    Ok(findings)
}

/// Columns that the source computes and the copy does not, or does in another way. One that is a plain
/// column here is a misfit.
async fn computed(
    session: &Session,
    shape: &Shape,
    name: &TableName,
    table: Option<&Table>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for generated in &shape.generated {
        let found = table.map_or(Computed::Missing, |t| fit::computed_by(t, generated));
        let (what, statement) = match found {
            Computed::Alike | Computed::Plain => continue,
            Computed::Otherwise(by) => (
                format!(
                    "computes {:?} otherwise than its source, which has {} AS {}; here it is {by}",
                    generated.name, generated.native, generated.expression
                ),
                fit::compute(name, generated),
            ),
            Computed::Missing => {
                let why = match shape.create {
                    true => cannot_compute(session, shape, generated).await,
                    false => Some("`create = false` keeps Rowcast from adding it".into()),
                };
                let Some(why) = why else { continue };
                let what = format!("goes without the computed column {:?}: {why}", generated.name);
                (what, fit::add_generated(name, generated))
            }
        };
        let help = "let the copy compute it as its source does; or name the wanted fields, without \
                    this one, in the subscription's `fields`";
        let finding = Finding::new(Severity::Warning, name.sql(), what, help);
        findings.push(finding.with_fix(false, vec![statement]));
    }
    findings
}

/// Why this database cannot compute a column, tried on a table that is gone at once.
async fn cannot_compute(session: &Session, shape: &Shape, generated: &Generated) -> Option<String> {
    let name = TableName { schema: "pg_temp".into(), table: "rowcast_trial".into() };
    let make = fit::create(shape, &name);
    let why = match session.batch_execute(&format!("BEGIN; {make}")).await {
        Ok(()) => session.batch_execute(&fit::add_generated(&name, generated)).await.err(),
        // Who may not try finds out at the first run.
        Err(_) => None,
    };
    // The trial ends with its transaction; a session that does not answer is told by what follows.
    let _ = session.batch_execute("ROLLBACK").await;
    why.map(|e| e.as_db_error().map_or_else(|| e.to_string(), |e| e.message().to_string()))
}

/// What the types of a copy's columns lack of the values that the source's list; each column with its
/// type at the source and the number of its type here.
async fn lacking_values(
    session: &Session,
    subject: &str,
    columns: &[(&str, u32)],
    listed: &[Listed],
) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let mut findings: Vec<Finding> = Vec::new();
    for (native, oid) in columns {
        let Some(source) = listed.iter().find(|l| l.native == *native) else { continue };
        let rows = session.query(&enums::sql(&[*oid]), &[]).await?;
        let texts = rows.iter().map(|row| [row.get(0), row.get(1), row.get(2)]);
        for copy in enums::read(texts) {
            let found = enums::lacking(subject, source, &copy);
            findings.extend(found.filter(|f| !findings.contains(f)));
        }
    }
    Ok(findings)
}

fn misfitting(subject: &str, misfit: Misfit) -> Finding {
    let finding = bad(subject, misfit.what, misfit.help);
    match misfit.fix {
        Some((safe, statements)) => finding.with_fix(safe, statements),
        None => finding,
    }
}

/// A table that is not there: whether it can be made, with the types it needs.
async fn missing(
    session: &Session,
    shape: &Shape,
    name: &TableName,
    listed: &[Listed],
) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let (subject, statement) = (name.sql(), fit::create(shape, name));
    let mut there = Vec::new();
    let mut lacking: Vec<String> = Vec::new();
    for column in &shape.columns {
        let native = super::types::created(shape, column);
        // Modifiers do not matter for whether the type is there; some of them do not parse here.
        let row = session.query_one("SELECT to_regtype($1)::oid", &[&native]).await?;
        match row.get::<_, Option<u32>>(0) {
            Some(oid) => there.push((column.column.native.as_str(), oid)),
            None if lacking.contains(&native) => {}
            None => lacking.push(native),
        }
    }
    let mut findings = Vec::new();
    if !lacking.is_empty() {
        findings.push(untyped(session, &subject, &lacking, listed).await?);
    }
    findings.extend(lacking_values(session, &subject, &there, listed).await?);
    if !shape.create {
        let found = bad(
            &subject,
            "is missing, and `create = false` keeps Rowcast from making it",
            "make it",
        );
        findings.push(found.with_fix(lacking.is_empty(), vec![statement]));
        return Ok(findings);
    }
    let schema = quote(&name.schema);
    let may = "SELECT CASE WHEN to_regnamespace($1) IS NULL
        THEN has_database_privilege(current_database(), 'CREATE')
        ELSE has_schema_privilege(to_regnamespace($1)::oid, 'CREATE') END";
    let may = session.query_one(may, &[&schema]).await?.get(0);
    if may && lacking.is_empty() {
        findings.insert(0, good(&subject, "will be made at the first run"));
        findings.extend(computed(session, shape, name, None).await);
    } else if !may {
        let found = bad(
            &subject,
            "is missing, and Rowcast's user may not make it",
            "run the statement as somebody who may, then grant SELECT, INSERT, UPDATE and DELETE on it",
        );
        findings.push(found.with_fix(false, vec![statement]));
    }
    Ok(findings)
}

/// A table that cannot be made because types are not there. Those that the source could say how to
/// make are made by statements that are known.
async fn untyped(
    session: &Session,
    subject: &str,
    lacking: &[String],
    listed: &[Listed],
) -> Result<Finding, tokio_postgres::Error> {
    let message = format!("cannot be made: type {} is not in this database", lacking.join(", "));
    let mut statements: Vec<String> = Vec::new();
    for native in lacking {
        let Some(of) = listed.iter().find(|l| l.native == *native) else {
            let help = "make each type as it is at the source, with CREATE TYPE, CREATE DOMAIN or \
                        CREATE EXTENSION";
            return Ok(bad(subject, message, help));
        };
        for (name, statement) in &of.create {
            let ask = if statement.starts_with("CREATE SCHEMA") {
                "SELECT to_regnamespace($1) IS NOT NULL"
            } else {
                "SELECT to_regtype($1) IS NOT NULL"
            };
            let there = session.query_one(ask, &[name]).await?;
            if !there.get::<_, bool>(0) && !statements.contains(statement) {
                statements.push(statement.clone());
            }
        }
    }
    // An extension needs rights that Rowcast's user seldom has.
    let safe = !statements.iter().any(|s| s.starts_with("CREATE EXTENSION"));
    Ok(bad(subject, message, "make it as it is at the source").with_fix(safe, statements))
}
