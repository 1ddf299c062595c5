//! Which table a copy is. SQLite numbers its tables anew as it likes, so the table itself carries a
//! mark: an index of ours that never has an entry. It goes with a table that is dropped, and stays
//! with one that is renamed.
//!
//! Law: rows go on into the table that took the rows before them. One that is gone or is another table
//! is never made or written on as if it had them: its copy is rebuilt.

use super::member;
use crate::file::sink_error;
use crate::table::{self, Table};
use rowcast_core::{RouteId, ServiceName, SinkError, Track, quote};
use rusqlite::{Connection, Error, OptionalExtension};

/// The mark of a route's copy. Like everything of ours its name begins with `_rowcast_`.
fn mark(route: &RouteId, into: &str) -> String {
    format!("_rowcast_copy_{route}_{}", name(into))
}

fn name(into: &str) -> String {
    table::named(into).ok().flatten().unwrap_or_else(|| into.to_string())
}

/// Marks a copy's table, and only that.
fn put(c: &Connection, route: &RouteId, into: &str) -> Result<(), Error> {
    let quoted = quote(&mark(route, into));
    c.execute_batch(&format!(
        "DROP INDEX IF EXISTS {quoted}; CREATE INDEX {quoted} ON {} (1) WHERE 0",
        quote(&name(into))
    ))?;
    let set = "UPDATE _rowcast_members SET mark = ?3 WHERE route = ?1 AND copy = ?2";
    c.execute(set, [&member::key(route, Track::Main), into, &mark(route, into)])?;
    Ok(())
}

/// Takes a copy's mark away.
pub(super) fn remove(c: &Connection, route: &RouteId, into: &str) -> Result<(), Error> {
    c.execute_batch(&format!("DROP INDEX IF EXISTS {}", quote(&mark(route, into))))
}

/// Why a copy's table is not the one that took its rows, when it is not; and whether it still has to
/// be marked.
fn fate(
    c: &Connection,
    into: &str,
    mark: Option<&str>,
) -> Result<Result<bool, &'static str>, Error> {
    let Some(found) = Table::find(c, &name(into))? else {
        return Ok(Err("it was dropped or renamed"));
    };
    if !found.ordinary {
        return Ok(Err("something that is no table has its name"));
    }
    let Some(mark) = mark else { return Ok(Ok(true)) };
    let carrier = "SELECT tbl_name FROM sqlite_schema WHERE type = 'index' AND name = ?1";
    let carrier = c.query_row(carrier, [mark], |row| row.get::<_, String>(0)).optional()?;
    if carrier.is_some_and(|carrier| carrier.eq_ignore_ascii_case(&found.name)) {
        return Ok(Ok(false));
    }
    Ok(Err("another table has its name"))
}

/// The copies of a route that are in these states (a list in SQL), each with its mark.
fn copies(
    c: &Connection,
    route: &RouteId,
    states: &str,
) -> Result<Vec<(String, Option<String>)>, Error> {
    let list = format!(
        "SELECT copy, mark FROM _rowcast_members WHERE route = ?1 AND state IN ({states}) \
         AND (state <> 'again' OR build IS NULL) AND (state <> 'direct' OR mark IS NOT NULL)"
    );
    let route = member::key(route, Track::Main);
    c.prepare(&list)?.query_map([route], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Copies that are lost, and why.
pub(crate) fn lost(
    c: &Connection,
    route: &RouteId,
    states: &str,
) -> Result<Vec<(String, &'static str)>, Error> {
    let mut lost = Vec::new();
    for (into, mark) in copies(c, route, states)? {
        if let Err(why) = fate(c, &into, mark.as_deref())? {
            lost.push((into, why));
        }
    }
    Ok(lost)
}

/// Marks the tables of live copies that have no mark yet, and makes those that are lost wait to be
/// built again.
pub(super) fn renew(c: &mut Connection, route: &RouteId) -> Result<(), Error> {
    let states = "'live', 'again'";
    let unmarked = copies(c, route, states)?.iter().any(|(_, mark)| mark.is_none());
    if !unmarked && lost(c, route, states)?.is_empty() {
        return Ok(());
    }
    let transaction = c.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for (into, mark) in copies(&transaction, route, states)? {
        match fate(&transaction, &into, mark.as_deref())? {
            Ok(false) => {}
            Ok(true) => put(&transaction, route, &into)?,
            Err(why) => {
                tracing::warn!(
                    "route {route}: the table of {into} is not the one that took its rows ({why}): \
                     it is rebuilt from the log"
                );
                remove(&transaction, route, &into)?;
                let stale = "UPDATE _rowcast_members SET state = 'stale', mark = NULL \
                             WHERE route = ?1 AND copy = ?2";
                transaction.execute(stale, [&member::key(route, Track::Main), &into])?;
            }
        }
    }
    transaction.commit()
}

/// Why a route looks at its copies once more.
pub(super) fn gone(service: &ServiceName) -> SinkError {
    let source = "the table of a copy was dropped, replaced or renamed by somebody".into();
    SinkError::Unreachable { service: service.clone(), source }
}

/// Refuses a table that is not the one which took the copy's rows; before it could be made. Tells
/// whether it has to be marked once it is there.
pub(super) fn compare(c: &Connection, route: &RouteId, into: &str) -> Result<bool, SinkError> {
    let refused = |e| sink_error(&route.to, "looking at its tables", e);
    let known = "SELECT state, mark FROM _rowcast_members \
                 WHERE route = ?1 AND copy = ?2 AND state IN ('live', 'direct')";
    let key = member::key(route, Track::Main);
    let known = c.query_row(known, [&key, into], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
    });
    let Some((state, mark)) = known.optional().map_err(refused)? else { return Ok(false) };
    if state == "direct" && mark.is_none() {
        return Ok(true);
    }
    match fate(c, into, mark.as_deref()).map_err(refused)? {
        Ok(unmarked) => Ok(unmarked),
        Err(_) => Err(gone(&route.to)),
    }
}

/// Marks a copy's table that is there now.
pub(super) fn remember(c: &Connection, route: &RouteId, into: &str) -> Result<(), SinkError> {
    put(c, route, into).map_err(|e| sink_error(&route.to, "marking a table", e))
}
