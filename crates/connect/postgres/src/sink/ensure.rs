//! Makes a shape's table when it is missing and may be made, brings it up to columns that came later,
//! and refuses one that does not fit, before any row is written.

use super::errors::Who;
use super::fit::{self, Misfit};
use super::held::{self, COPY_GONE};
use super::member;
use super::needs;
use super::table::{Table, TableName};
use super::target::Target;
use crate::connect::{Fault, Session, fault};
use rowcast_core::{Computed, Generated, Shape, SinkError, quote};
use std::sync::Arc;
use tracing::{info, warn};

/// Times to look again because somebody else made the same table at the same moment.
const LOOKS_MAX: usize = 3;

/// Why a side track begins once more.
pub(super) const BUILD_GONE: &str = "the table in which a copy was being built is gone";

/// A target that fits, in a build table when there is one to take its rows. Runs in the session's
/// open transaction, if it has one.
pub(super) async fn target(
    session: &Session,
    shape: &Arc<Shape>,
    beside: Option<&TableName>,
    who: &Who,
) -> Result<Target, SinkError> {
    let live = TableName::read(&shape.into).map_err(|what| who.table_name(&shape.into, what))?;
    let (name, shape, copy) = match beside {
        None => (live, shape.clone(), None),
        Some(build) => {
            let table = Table::find(session, &live, who).await?;
            // The build table would take what the copy cannot.
            if let Some(misfit) = table.as_ref().and_then(|t| fit::coarse_key(shape, &live, t)) {
                return Err(refused(&live, misfit, who));
            }
            (build.clone(), Arc::new(fit::for_build(shape, table.as_ref())), table)
        }
    };
    let shape = &shape;
    let closed = needs::of_schema(session, &name).await;
    if let Some(need) = closed.map_err(|e| who.statement("looking at a schema", e))? {
        return Err(needs::refused(need, who));
    }
    let mut looks = 0;
    let table = loop {
        looks += 1;
        match Table::find(session, &name, who).await? {
            Some(table) => break table,
            None if !shape.create => {
                return Err(who.schema(
                    &name.sql(),
                    "it is missing, and `create = false` keeps Rowcast from making it",
                    format!("run {}", fit::create(shape, &name)),
                ));
            }
            None if beside.is_some() && member::was_made(session, &shape.into, who).await? => {
                return Err(who.unreachable(BUILD_GONE));
            }
            None if beside.is_none() && held::was_there(session, &shape.into, who).await? => {
                return Err(who.unreachable(COPY_GONE));
            }
            None if looks == LOOKS_MAX => return Err(who.unreachable("a table comes and goes")),
            None => create(session, shape, &name, who).await?,
        }
    };
    remember(session, shape, beside.is_some(), table.oid, who).await?;
    let additions = fit::additions(shape, &name, &table);
    let table = if additions.is_empty() {
        table
    } else {
        run(session, &name, &additions, who).await?;
        info!(table = %name.sql(), entity = %shape.entity, "added columns that came later");
        let again = Table::find(session, &name, who).await?;
        again.ok_or_else(|| who.unreachable("a table went while its columns were added"))?
    };
    let table = match beside {
        Some(_) => build_fits(session, (shape, &name), (table, copy.as_ref()), who).await?,
        None => table,
    };
    if let Some(misfit) = fit::misfits(shape, &name, &table).into_iter().next() {
        return Err(refused(&name, misfit, who));
    }
    computed(session, shape, &name, &table, who).await?;
    let key = table.key(shape).ok_or_else(|| who.bug("a table without a key passed the check"))?;
    Ok(Target::new(shape, name.sql(), &table, key))
}

/// Notes which table takes the rows, unless it is not the one that took them before.
async fn remember(
    session: &Session,
    shape: &Shape,
    beside: bool,
    oid: u32,
    who: &Who,
) -> Result<(), SinkError> {
    if beside {
        let noted = member::remember(session, &shape.into, oid, who).await?;
        return if noted { Ok(()) } else { Err(who.unreachable(BUILD_GONE)) };
    }
    let noted = held::remember(session, &shape.into, oid, who).await?;
    if noted { Ok(()) } else { Err(who.unreachable(COPY_GONE)) }
}

fn refused(name: &TableName, misfit: Misfit, who: &Who) -> SinkError {
    let run = misfit.fix.map_or_else(String::new, |(_, s)| format!(": {}", s.join("; ")));
    who.schema(&name.sql(), misfit.what, misfit.help + &run)
}

/// Brings a build table that was made for an earlier shape to this one, as far as its rows go over into
/// it. Nobody else has to do with such a table, so nobody is asked to mend it.
async fn build_fits(
    session: &Session,
    (shape, name): (&Shape, &TableName),
    (table, copy): (Table, Option<&Table>),
    who: &Who,
) -> Result<Table, SinkError> {
    let outdated = || {
        let (service, into) = (who.route.to.clone(), shape.into.clone());
        SinkError::Outdated { service, into }
    };
    if table.key(shape).is_none() {
        return Err(outdated());
    }
    let retypes = fit::retypes(shape, name, (&table, copy));
    if retypes.is_empty() {
        return Ok(table);
    }
    // In a block of its own, because a transaction may be open that has to survive it.
    let block = fit::block(&retypes.join("; "), "OTHERS");
    let refused = |e| who.statement("changing a build table", e);
    session.batch_execute(&block).await.map_err(refused)?;
    let found = Table::find(session, name, who).await?;
    let found = found.ok_or_else(|| who.unreachable(BUILD_GONE))?;
    if !fit::retypes(shape, name, (&found, copy)).is_empty() {
        return Err(outdated());
    }
    info!(table = %name.sql(), entity = %shape.entity, "a copy being built follows its entity's shape");
    Ok(found)
}

async fn create(
    session: &Session,
    shape: &Shape,
    name: &TableName,
    who: &Who,
) -> Result<(), SinkError> {
    let schema = quote(&name.schema);
    let there = session.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&schema]).await;
    let there = there.map_err(|e| who.statement("looking for a schema", e))?;
    if !there.get::<_, bool>(0) {
        let make = format!("CREATE SCHEMA IF NOT EXISTS {}", schema);
        run(session, name, &[make], who).await?;
    }
    run(session, name, &[fit::create(shape, name)], who).await?;
    info!(table = %name.sql(), entity = %shape.entity, "made the table");
    Ok(())
}

/// Gives a copy the columns that its source computes, as far as it can compute them.
async fn computed(
    session: &Session,
    shape: &Shape,
    name: &TableName,
    table: &Table,
    who: &Who,
) -> Result<(), SinkError> {
    for generated in &shape.generated {
        match fit::computed_by(table, generated) {
            Computed::Missing if shape.create => {
                add_generated(session, name, generated, who).await?;
            }
            Computed::Missing => warn!(
                table = name.sql(),
                column = generated.name,
                "the copy goes without a computed column, and `create = false` keeps Rowcast from \
                 adding it"
            ),
            Computed::Otherwise(_) => warn!(
                table = name.sql(),
                column = generated.name,
                "the copy computes a column otherwise than its source does: {}",
                fit::compute(name, generated)
            ),
            Computed::Alike | Computed::Plain => {}
        }
    }
    Ok(())
}

/// The statement that adds a computed column, or leaves it out when the copy lacks what it is computed
/// from: a block of its own, because a transaction may be open that has to survive it.
pub(super) fn try_to_add(name: &TableName, generated: &Generated) -> String {
    let sql = fit::add_generated(name, generated);
    let mut tag = String::from("$rowcast$");
    while sql.contains(&tag) {
        tag.insert(1, 'x');
    }
    format!(
        "DO {tag} BEGIN PERFORM set_config('rowcast.without', '', false); {sql}; \
         EXCEPTION WHEN others THEN PERFORM set_config('rowcast.without', SQLERRM, false); END {tag}"
    )
}

/// Adds a computed column, and says why the copy goes without it.
async fn add_generated(
    session: &Session,
    name: &TableName,
    generated: &Generated,
    who: &Who,
) -> Result<(), SinkError> {
    let block = try_to_add(name, generated);
    let refused = |e| who.statement("adding a computed column", e);
    session.batch_execute(&block).await.map_err(refused)?;
    let why = session.query_one("SELECT current_setting('rowcast.without')", &[]).await;
    match why.map_err(refused)?.get::<_, &str>(0) {
        "" => info!(table = name.sql(), column = generated.name, "added a computed column"),
        why => warn!(
            table = name.sql(),
            column = generated.name,
            "the copy goes without a computed column: {why}"
        ),
    }
    Ok(())
}

async fn run(
    session: &Session,
    name: &TableName,
    statements: &[String],
    who: &Who,
) -> Result<(), SinkError> {
    let Err(error) = session.batch_execute(&statements.join(";")).await else { return Ok(()) };
    let table = name.sql();
    match (fault(&error), error.code().map(|c| c.code())) {
        // Somebody else made it at the same moment: look again, in a new transaction.
        (_, Some("23505" | "42P06" | "42P07" | "42701" | "42710")) | (Fault::Outage, _) => {
            Err(who.unreachable(error))
        }
        (_, Some("42501")) => Err(who.setup(
            format!("Rowcast may not make or change table {table}"),
            format!(
                "run this as somebody who may: {}; then grant SELECT, INSERT, UPDATE and \
                     DELETE on it to Rowcast's user",
                statements.join("; ")
            ),
            Some(error.into()),
        )),
        _ => {
            let words = error.as_db_error().map_or_else(String::new, |e| e.message().to_string());
            Err(who.schema(
                &table,
                format!("it cannot be made: {words}"),
                format!(
                    "make the types it needs as they are at the source (CREATE TYPE, CREATE \
                     DOMAIN, CREATE EXTENSION), then resume; the statement was {}",
                    statements.join("; ")
                ),
            ))
        }
    }
}
