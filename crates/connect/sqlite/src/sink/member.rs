//! Which copies the route's checkpoint covers, which are being built beside them, and the join.

use super::{checkpoint, held, parked};
use crate::file::sink_error;
use crate::table::{self, Table};
use crate::turn::Turn;
use rowcast_core::{
    Definition, Join, LogId, Mark, Member, Membership, Offset, Progress, Roll, RouteId,
    ServiceName, Shape, SideMark, SinkError, Track, quote,
};
use rusqlite::{Connection, Error, OptionalExtension, TransactionBehavior, params};
use std::collections::HashSet;

pub(super) fn make_table(c: &Connection) -> Result<(), Error> {
    c.execute_batch(
        "CREATE TABLE IF NOT EXISTS _rowcast_members (route TEXT NOT NULL, copy TEXT NOT NULL, \
         entity TEXT NOT NULL, definition TEXT NOT NULL, state TEXT NOT NULL, \
         start INTEGER NOT NULL, log TEXT NOT NULL, build TEXT, mark TEXT, \
         PRIMARY KEY (route, copy)) WITHOUT ROWID",
    )?;
    // A table that an earlier Rowcast made.
    let there = Table::find(c, "_rowcast_members")?;
    for column in ["build", "mark"] {
        if there.as_ref().is_some_and(|t| t.column(column).is_none()) {
            c.execute_batch(&format!("ALTER TABLE _rowcast_members ADD COLUMN {column} TEXT"))?;
        }
    }
    Ok(())
}

/// The name of a track's checkpoint.
pub(super) fn key(route: &RouteId, track: Track) -> String {
    match track {
        Track::Main => route.to_string(),
        Track::Side => format!("{route} (side)"),
        Track::Lane(lane) => format!("{route} (lane {}/{})", lane.index + 1, lane.of),
    }
}

/// The build table of a route's copy. Like everything of ours its name begins with `_rowcast_`.
pub(super) fn build(route: &RouteId, into: &str) -> String {
    let table = table::named(into).ok().flatten().unwrap_or_else(|| into.to_string());
    format!("_rowcast_build_{route}_{table}")
}

/// Copies that are being built beside themselves, named as their subscriptions do.
pub(super) fn beside(c: &Connection, route: &RouteId) -> Result<HashSet<String>, Error> {
    let members = roll(c, route)?.members.into_iter();
    Ok(members.filter(|m| m.state.has_build_table()).map(|m| m.into).collect())
}

/// Gives up a side track of which somebody dropped a build table: what it held can only be built once
/// more.
pub(super) fn give_up_lost(c: &mut Connection, route: &RouteId) -> Result<(), Error> {
    let main = key(route, Track::Main);
    let _turn = Turn::of(c)?;
    let transaction = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let lost = "SELECT count(*) FROM _rowcast_members WHERE route = ?1 AND state IN ('beside', 'again') \
                AND build NOT IN (SELECT name FROM sqlite_schema WHERE type = 'table')";
    let lost: i64 = transaction.query_row(lost, [&main], |row| row.get(0))?;
    if lost == 0 && held::lost(&transaction, route, "'direct'")?.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        "route {route}: a table in which a copy was being built is gone: it is built once more"
    );
    for into in beside(&transaction, route)? {
        let build = quote(&build(route, &into));
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS {build}"))?;
    }
    let forget = "UPDATE _rowcast_members SET build = NULL, mark = NULL \
                  WHERE route = ?1 AND state IN ('direct', 'beside', 'again')";
    transaction.execute(forget, [&main])?;
    let end = "DELETE FROM _rowcast_checkpoint WHERE route = ?1";
    transaction.execute(end, [key(route, Track::Side)])?;
    transaction.commit()
}

/// Whether a build table was made before; then it must not be made again, empty as it is.
pub(super) fn was_made(c: &Connection, build: &str) -> Result<bool, Error> {
    let ask = "SELECT count(*) FROM _rowcast_members WHERE build = ?1";
    c.query_row(ask, [build], |row| Ok(row.get::<_, i64>(0)? > 0))
}

/// Remembers the build table of a copy.
pub(super) fn remember(c: &Connection, into: &str, build: &str) -> Result<(), Error> {
    let set =
        "UPDATE _rowcast_members SET build = ?2 WHERE copy = ?1 AND state IN ('beside', 'again')";
    c.execute(set, [into, build])?;
    Ok(())
}

pub(super) fn roll(c: &Connection, route: &RouteId) -> Result<Roll, Error> {
    let list = "SELECT copy, entity, definition, state, start, log FROM _rowcast_members \
                WHERE route = ?1 ORDER BY copy";
    let mut list = c.prepare(list)?;
    let number = |text: String| u64::from_str_radix(&text, 16).unwrap_or_default();
    let members = list.query_map([key(route, Track::Main)], |row| {
        let entity: String = row.get(1)?;
        let Ok(entity) = entity.parse() else { return Ok(None) };
        Ok(Some(Member {
            into: row.get(0)?,
            entity,
            definition: Definition(number(row.get(2)?)),
            state: Membership::read(&row.get::<_, String>(3)?),
            start: Offset(row.get::<_, i64>(4)? as u64),
            log: LogId(number(row.get(5)?)),
        }))
    })?;
    let members: Vec<Option<Member>> = members.collect::<Result<_, _>>()?;
    let find = "SELECT next FROM _rowcast_checkpoint WHERE route = ?1";
    let side = c.query_row(find, [key(route, Track::Side)], |row| row.get::<_, i64>(0));
    let side = side.optional()?.map(|next| Offset(next as u64));
    Ok(Roll { members: members.into_iter().flatten().collect(), side })
}

pub(super) fn is_empty(c: &Connection, into: &str) -> Result<bool, Error> {
    let name = table::named(into).ok().flatten().unwrap_or_else(|| into.to_string());
    let Some(found) = Table::find(c, &name)? else { return Ok(true) };
    // What is no table is nobody's to fill: it shows when its copy is built.
    if !found.ordinary {
        return Ok(false);
    }
    let any = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", quote(&found.name));
    c.query_row(&any, [], |row| row.get(0))
}

/// Writes down what became of members, inside a transaction.
pub(super) fn mark(c: &Connection, route: &RouteId, log: LogId, mark: &Mark) -> Result<(), Error> {
    let main = key(route, Track::Main);
    for member in &mark.members {
        let old = "SELECT state FROM _rowcast_members WHERE route = ?1 AND copy = ?2";
        let old = c.query_row(old, [&main, &member.into], |row| row.get::<_, String>(0));
        let was = old.optional()?.map(|state| Membership::read(&state));
        let had = was.is_some_and(Membership::has_build_table);
        if was != Some(member.state) && (had || member.state.has_build_table()) {
            let build = quote(&build(route, &member.into));
            c.execute_batch(&format!("DROP TABLE IF EXISTS {build}"))?;
            let forget = "UPDATE _rowcast_members SET build = NULL WHERE route = ?1 AND copy = ?2";
            c.execute(forget, [&main, &member.into])?;
        }
        c.execute(
            "INSERT INTO _rowcast_members (route, copy, entity, definition, state, start, log) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (route, copy) DO UPDATE SET \
             entity = excluded.entity, definition = excluded.definition, state = excluded.state, \
             start = excluded.start, log = excluded.log",
            params![
                main,
                member.into,
                member.entity.as_str(),
                member.definition.to_string(),
                member.state.as_str(),
                member.start.0 as i64,
                member.log.to_string(),
            ],
        )?;
        if member.state.is_waiting() || member.state == Membership::Gone {
            held::remove(c, route, &member.into)?;
            let forget = "UPDATE _rowcast_members SET mark = NULL WHERE route = ?1 AND copy = ?2";
            c.execute(forget, [&main, &member.into])?;
        }
        if member.state != Membership::Live {
            parked::forget(c, route, &member.into)?;
        }
    }
    let side = key(route, Track::Side);
    match mark.side {
        SideMark::Leave => {}
        SideMark::Open(at) => checkpoint::open(c, &side, log, at)?,
        SideMark::Drop => {
            c.execute("DELETE FROM _rowcast_checkpoint WHERE route = ?1", [side])?;
        }
    }
    Ok(())
}

/// Swaps what was built in and moves the checkpoints, inside a transaction; both were compared.
pub(super) fn join(
    c: &Connection,
    route: &RouteId,
    log: LogId,
    join: &Join,
) -> Result<(), SinkError> {
    let refused = |e| sink_error(&route.to, "swapping copies", e);
    for into in beside(c, route).map_err(refused)? {
        let shape = join.shapes.iter().find(|s| s.into == into);
        let shape = shape.ok_or_else(|| SinkError::Bug {
            service: route.to.clone(),
            what: "a copy joins without a shape".into(),
        })?;
        swap(c, route, shape)?;
        held::remember(c, route, &into)?;
    }
    let (main, side) = (key(route, Track::Main), key(route, Track::Side));
    let progress =
        Progress { from: join.from, next: join.next, position: join.position, commit: true };
    checkpoint::write(c, &main, log, &progress).map_err(refused)?;
    let end = "DELETE FROM _rowcast_checkpoint WHERE route = ?1";
    c.execute(end, [side]).map_err(refused)?;
    parked::join(c, route).map_err(refused)?;
    let live = "UPDATE _rowcast_members SET state = 'live', build = NULL \
                WHERE route = ?1 AND state IN ('direct', 'beside', 'again')";
    c.execute(live, [main]).map_err(refused)?;
    Ok(())
}

/// Why a side track begins once more.
pub(super) fn gone(service: &ServiceName) -> SinkError {
    let source = "the table in which a copy was being built is gone".into();
    SinkError::Unreachable { service: service.clone(), source }
}

/// Makes a copy's build table with the rows that the copy has, unless it is there.
pub(super) fn seed(c: &Connection, route: &RouteId, shape: &Shape) -> Result<(), SinkError> {
    let refused = |e| sink_error(&route.to, "making a build table", e);
    let build = build(route, &shape.into);
    if Table::find(c, &build).map_err(refused)?.is_some() {
        return Ok(());
    }
    let name = table::named(&shape.into).ok().flatten().unwrap_or_else(|| shape.into.clone());
    let Some(live) = Table::find(c, &name).map_err(refused)? else {
        return Err(SinkError::Schema {
            service: route.to.clone(),
            table: shape.into.clone(),
            what: "it is gone".into(),
            help: "`rowcast replay` it from the beginning: then it is made again".into(),
        });
    };
    let there = shape.columns.iter().filter(|column| live.column(&column.name).is_some());
    let columns: Vec<_> = there.map(|column| quote(&column.name)).collect();
    let key: Vec<_> = shape.key.iter().map(|&k| quote(&shape.columns[k].name)).collect();
    let (table, index) = (quote(&build), quote(&format!("{build}_key")));
    c.execute_batch(&format!(
        "CREATE TABLE {table} AS SELECT {} FROM {}; CREATE UNIQUE INDEX {index} ON {table} ({})",
        columns.join(", "),
        quote(&live.name),
        key.join(", ")
    ))
    .and_then(|()| remember(c, &shape.into, &build))
    .map_err(refused)
}

/// Makes a copy's rows those of its build table: what is missing there goes, what is new or different
/// is written, everything else is not touched.
fn swap(c: &Connection, route: &RouteId, shape: &Shape) -> Result<(), SinkError> {
    let refused = |e| sink_error(&route.to, "swapping copies", e);
    let build = build(route, &shape.into);
    let Some(built) = Table::find(c, &build).map_err(refused)? else {
        return Err(gone(&route.to));
    };
    let mut shape = shape.clone();
    let key: Vec<_> = shape.key.iter().map(|&k| shape.columns[k].name.clone()).collect();
    shape.columns.retain(|column| built.column(&column.name).is_some());
    let place = |k: &String| shape.columns.iter().position(|column| column.name == *k);
    shape.key = key.iter().filter_map(place).collect();
    shape.all_fields = true;
    let name = super::prepare::ready(c, &route.to, &shape)?;
    write(c, &name, &quote(&build), &shape).map_err(|error| SinkError::Data {
        service: route.to.clone(),
        table: shape.into.clone(),
        key: None,
        change: None,
        what: "a rule of the table does not let the newly built rows in".into(),
        help: "change the rule at the copy or the rows at the publisher; the copy stays as it is, \
               and nothing is lost meanwhile"
            .into(),
        source: Some(error.into()),
    })
}

fn write(c: &Connection, live: &str, build: &str, shape: &Shape) -> Result<(), Error> {
    let names: Vec<_> = shape.columns.iter().map(|column| quote(&column.name)).collect();
    let key: Vec<_> = shape.key.iter().map(|&k| names[k].clone()).collect();
    let others: Vec<_> = names.iter().filter(|n| !key.contains(n)).collect();
    let on = |with: &str| {
        let same = key.iter().map(|k| format!("{live}.{k} = {with}.{k}"));
        same.collect::<Vec<_>>().join(" AND ")
    };
    let same_key = on("b");
    // `IS` takes 1 and 1.0 for one value; a copy has to keep them apart.
    let same = others.iter().map(|o| {
        format!(" AND {live}.{o} IS b.{o} COLLATE BINARY AND typeof({live}.{o}) = typeof(b.{o})")
    });
    let same: String = same.collect();
    c.execute_batch(&format!(
        "DELETE FROM {live} WHERE NOT EXISTS (SELECT 1 FROM {build} AS b WHERE {same_key})"
    ))?;
    let (all, keys) = (names.join(", "), key.join(", "));
    let sets: Vec<_> = others.iter().map(|o| format!("{o} = excluded.{o}")).collect();
    let then = match sets.is_empty() {
        true => "NOTHING".into(),
        false => format!("UPDATE SET {}", sets.join(", ")),
    };
    let insert = |condition: &str| {
        format!(
            "INSERT INTO {live} ({all}) SELECT {all} FROM {build} AS b WHERE {condition} \
             ON CONFLICT ({keys}) DO {then}"
        )
    };
    let differs = format!("NOT EXISTS (SELECT 1 FROM {live} WHERE {same_key}{same})");
    c.execute_batch("SAVEPOINT swap")?;
    if c.execute_batch(&insert(&differs)).is_err() {
        // Rows trade a value that no two may have: the ones that differ go first, and come back
        // with what the subscriber keeps beside them.
        c.execute_batch("ROLLBACK TO swap")?;
        traded(c, live, build, &differs, (&names, &key))?;
    }
    c.execute_batch(&format!("RELEASE swap; DROP TABLE {build}"))
}

/// Writes the rows that differ, all at once: they are put together with the subscriber's own columns
/// in a table of their own, taken out, and put back.
fn traded(
    c: &Connection,
    live: &str,
    build: &str,
    differs: &str,
    (names, key): (&[String], &[String]),
) -> Result<(), Error> {
    let plain = table::named(live).ok().flatten().unwrap_or_else(|| live.to_string());
    let columns = Table::find(c, &plain)?.map(|t| t.columns).unwrap_or_default();
    let columns = columns.into_iter().filter(|column| !column.generated);
    let columns: Vec<_> = columns.map(|column| quote(&column.name)).collect();
    let ours = |n: &String| names.iter().any(|o| o.eq_ignore_ascii_case(n));
    let value = |n: &String| if ours(n) { format!("b.{n}") } else { format!("l.{n}") };
    let values: Vec<_> = columns.iter().map(value).collect();
    let same_key: Vec<_> = key.iter().map(|k| format!("l.{k} = b.{k}")).collect();
    let (all, key) = (columns.join(", "), key.join(", "));
    c.execute_batch(&format!(
        "CREATE TEMP TABLE rowcast_traded AS SELECT {} FROM {build} AS b \
         JOIN {live} AS l ON {} WHERE {differs}; \
         DELETE FROM {live} WHERE ({key}) IN (SELECT {key} FROM temp.rowcast_traded); \
         INSERT INTO {live} ({all}) SELECT * FROM temp.rowcast_traded; \
         DROP TABLE temp.rowcast_traded; \
         INSERT INTO {live} ({}) SELECT {} FROM {build} AS b WHERE {differs}",
        values.join(", "),
        same_key.join(" AND "),
        names.join(", "),
        names.join(", "),
    ))
}
