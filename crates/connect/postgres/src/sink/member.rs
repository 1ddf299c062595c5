//! Which copies the route's checkpoint covers, and which are being built beside them.

use super::checkpoint::Place;
use super::errors::Who;
use super::held;
use super::parked;
use super::table::{Table, TableName};
use crate::connect::Session;
use rowcast_core::{
    Definition, LogId, Mark, Member, Membership, Offset, Roll, Shape, SideMark, SinkError, Track,
    quote,
};
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a copy's name that its build table repeats; the server cuts names at 63.
const NAME_BYTES: usize = 40;

/// The build table of a route's copy. It lies with everything else that is ours.
pub(super) fn build(place: &Place, into: &str) -> TableName {
    let table = TableName::read(into).map_or_else(|_| into.to_string(), |t| t.table);
    let end = (0..=NAME_BYTES.min(table.len())).rev().find(|i| table.is_char_boundary(*i));
    let hash = xxh3_64(format!("{} {into}", place.route).as_bytes());
    let table = format!("build_{}_{hash:016x}", &table[..end.unwrap_or(0)]);
    TableName { schema: "rowcast".into(), table }
}

/// The build tables of copies that are being built beside themselves. When somebody dropped one,
/// what it held can only be built once more: the side track's checkpoint goes with it.
pub(super) async fn builds(
    session: &Session,
    place: &Place,
    who: &Who,
) -> Result<HashMap<String, TableName>, SinkError> {
    let members = roll(session, place, who).await?.members;
    let beside = members.into_iter().filter(|m| m.state.has_build_table());
    let builds: HashMap<_, _> = beside.map(|m| (m.into.clone(), build(place, &m.into))).collect();
    let refused = |e| who.statement("looking for build tables", e);
    let lost = "SELECT copy FROM rowcast.member WHERE route = $1 AND state IN ('beside', 'again') \
                AND build NOT IN (SELECT oid FROM pg_class WHERE relkind = 'r')";
    let lost = session.query(lost, &[&place.key(Track::Main)]).await.map_err(refused)?;
    for row in &lost {
        tracing::warn!(
            "route {}: the table in which {} was being built is gone: it is built once more",
            place.route,
            row.get::<_, &str>(0)
        );
    }
    let direct = held::look(session, &place.route, &["direct"], who).await?;
    for (into, why) in &direct {
        tracing::warn!(
            "route {}: the table of {into} is not the one in which it was being built ({why}): it is \
             built once more",
            place.route
        );
    }
    if !lost.is_empty() || !direct.is_empty() {
        give_up(session, place, builds.values()).await.map_err(refused)?;
    }
    Ok(builds)
}

/// Forgets all that a side track has done.
async fn give_up(
    session: &Session,
    place: &Place,
    builds: impl Iterator<Item = &TableName>,
) -> Result<(), tokio_postgres::Error> {
    session.batch_execute("BEGIN READ WRITE").await?;
    for build in builds {
        session.batch_execute(&format!("DROP TABLE IF EXISTS {}", build.sql())).await?;
    }
    let forget = "UPDATE rowcast.member SET build = NULL, relation = NULL, storage = NULL \
                  WHERE route = $1 AND state IN ('direct', 'beside', 'again')";
    session.execute(forget, &[&place.key(Track::Main)]).await?;
    let end = "DELETE FROM rowcast.checkpoint WHERE route = $1";
    session.execute(end, &[&place.key(Track::Side)]).await?;
    session.batch_execute("COMMIT").await
}

/// Whether a copy's build table was made before; then it must not be made again, empty as it is.
pub(super) async fn was_made(session: &Session, into: &str, who: &Who) -> Result<bool, SinkError> {
    let ask = "SELECT FROM rowcast.member WHERE route = $1 AND copy = $2 AND build IS NOT NULL";
    let found = session.query_opt(ask, &[&who.route.to_string(), &into]).await;
    Ok(found.map_err(|e| who.statement("reading rowcast.member", e))?.is_some())
}

/// Remembers the build table of a copy; `false` when it is not the one that is remembered.
pub(super) async fn remember(
    session: &Session,
    into: &str,
    oid: u32,
    who: &Who,
) -> Result<bool, SinkError> {
    let set = "UPDATE rowcast.member SET build = $3 \
               WHERE route = $1 AND copy = $2 AND (build IS NULL OR build = $3)";
    let set = session.execute(set, &[&who.route.to_string(), &into, &oid]).await;
    Ok(set.map_err(|e| who.statement("writing rowcast.member", e))? == 1)
}

pub(super) async fn roll(session: &Session, place: &Place, who: &Who) -> Result<Roll, SinkError> {
    let refused = |e| who.statement("reading rowcast.member", e);
    let select = "SELECT copy, entity, definition, state, start, log FROM rowcast.member \
                  WHERE route = $1 ORDER BY copy";
    let rows = session.query(select, &[&place.key(Track::Main)]).await.map_err(refused)?;
    let select = "SELECT next FROM rowcast.checkpoint WHERE route = $1";
    let side = session.query_opt(select, &[&place.key(Track::Side)]).await.map_err(refused)?;
    let offset = |n: i64| Offset(u64::try_from(n).unwrap_or_default());
    // What is no number is none of ours, and equal to none of ours.
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
    let member = |row: &tokio_postgres::Row| {
        let entity: &str = row.get(1);
        Some(Member {
            into: row.get(0),
            entity: entity.parse().ok()?,
            definition: Definition(number(row.get(2))),
            state: Membership::read(row.get(3)),
            start: offset(row.get(4)),
            log: LogId(number(row.get(5))),
        })
    };
    Ok(Roll {
        members: rows.iter().filter_map(member).collect(),
        side: side.map(|row| offset(row.get(0))),
    })
}

pub(super) async fn is_empty(session: &Session, into: &str, who: &Who) -> Result<bool, SinkError> {
    let name = TableName::read(into).map_err(|what| who.table_name(into, what))?;
    let kind = "SELECT c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = $1 AND c.relname = $2";
    let found = session.query_opt(kind, &[&name.schema, &name.table]).await;
    let found = found.map_err(|e| who.statement("looking at its tables", e))?;
    // What is no table is nobody's to fill: it shows when its copy is built.
    match found.map(|row| row.get::<_, String>(0)).as_deref() {
        None => return Ok(true),
        Some("r" | "p") => {}
        Some(_) => return Ok(false),
    }
    let select = format!("SELECT NOT EXISTS (SELECT FROM {})", name.sql());
    let row = session.query_one(&select, &[]).await;
    Ok(row.map_err(|e| who.row(&name.sql(), None, e))?.get(0))
}

/// Writes down what became of members. An error leaves the transaction to the session's end.
pub(super) async fn mark(
    session: &Session,
    place: &Place,
    mark: &Mark,
    who: &Who,
) -> Result<(), SinkError> {
    let refused = |e| who.statement("writing rowcast.member", e);
    let (route, side, log) =
        (place.key(Track::Main), place.key(Track::Side), place.log.to_string());
    session.batch_execute("BEGIN READ WRITE").await.map_err(refused)?;
    let compare = "SELECT next FROM rowcast.checkpoint WHERE route = $1 AND log = $2 FOR UPDATE";
    let row = session.query_opt(compare, &[&route, &log]).await.map_err(refused)?;
    let next = row.map(|row| row.get::<_, i64>(0));
    if next != Some(mark.at.0 as i64) {
        return Err(elsewhere(who, next, mark.at));
    }
    for member in &mark.members {
        let old = "SELECT state FROM rowcast.member WHERE route = $1 AND copy = $2";
        let old = session.query_opt(old, &[&route, &member.into]).await.map_err(refused)?;
        let was = old.map(|row| Membership::read(row.get(0)));
        let had = was.is_some_and(Membership::has_build_table);
        if was != Some(member.state) && (had || member.state.has_build_table()) {
            let drop = format!("DROP TABLE IF EXISTS {}", build(place, &member.into).sql());
            session.batch_execute(&drop).await.map_err(refused)?;
            let forget = "UPDATE rowcast.member SET build = NULL WHERE route = $1 AND copy = $2";
            session.execute(forget, &[&route, &member.into]).await.map_err(refused)?;
        }
        let write = "INSERT INTO rowcast.member \
            (route, copy, entity, definition, state, start, log) VALUES ($1, $2, $3, $4, $5, $6, $7) \
            ON CONFLICT (route, copy) DO UPDATE SET entity = EXCLUDED.entity, \
            definition = EXCLUDED.definition, state = EXCLUDED.state, start = EXCLUDED.start, \
            log = EXCLUDED.log, updated_at = now(), relation = CASE \
            WHEN EXCLUDED.state IN ('new', 'stale', 'gone') THEN NULL ELSE member.relation END";
        let (entity, definition) = (member.entity.as_str(), member.definition.to_string());
        let (state, start) = (member.state.as_str(), member.start.0 as i64);
        let log = member.log.to_string();
        let into = &member.into;
        session
            .execute(write, &[&route, into, &entity, &definition, &state, &start, &log])
            .await
            .map_err(refused)?;
        if member.state != Membership::Live {
            parked::forget(session, place, into).await.map_err(refused)?;
        }
    }
    let sided = match mark.side {
        SideMark::Leave => Ok(0),
        SideMark::Open(at) => {
            let open = "INSERT INTO rowcast.checkpoint (route, log, next) VALUES ($1, $2, $3) \
                        ON CONFLICT (route) DO NOTHING";
            session.execute(open, &[&side, &log, &(at.0 as i64)]).await
        }
        SideMark::Drop => {
            session.execute("DELETE FROM rowcast.checkpoint WHERE route = $1", &[&side]).await
        }
    };
    sided.map_err(refused)?;
    session.batch_execute("COMMIT").await.map_err(refused)
}

/// Makes a copy's build table with the rows that the copy has, unless it is there.
pub(super) async fn seed(
    session: &Session,
    place: &Place,
    shape: &Shape,
    who: &Who,
) -> Result<(), SinkError> {
    let name = TableName::read(&shape.into).map_err(|what| who.table_name(&shape.into, what))?;
    let build = build(place, &shape.into);
    if Table::find(session, &build, who).await?.is_some() {
        return Ok(());
    }
    let Some(live) = Table::find(session, &name, who).await? else {
        let help = "`rowcast replay` it from the beginning: then it is made again";
        return Err(who.schema(&name.sql(), "it is gone", help));
    };
    let there = shape.columns.iter().filter(|column| live.column(&column.name).is_some());
    let columns: Vec<_> = there.map(|column| quote(&column.name)).collect();
    let key: Vec<_> = shape.key.iter().map(|&k| quote(&shape.columns[k].name)).collect();
    let (build, live) = (build.sql(), name.sql());
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    // One message is one transaction. The other plans are for short statements.
    let sql = format!(
        "BEGIN; SET LOCAL enable_seqscan = on; CREATE TABLE {build} AS SELECT {} FROM {live}; \
         ALTER TABLE {build} ADD PRIMARY KEY ({}); UPDATE rowcast.member \
         SET build = {}::regclass WHERE route = {} AND copy = {}; COMMIT",
        columns.join(", "),
        key.join(", "),
        literal(&build),
        literal(&place.key(Track::Main)),
        literal(&shape.into),
    );
    let made = session.batch_execute(&sql).await;
    made.map_err(|e| who.statement("making a build table", e))
}

/// A checkpoint that is not where it was left.
pub(super) fn elsewhere(who: &Who, found: Option<i64>, expected: Offset) -> SinkError {
    let found = found.map_or_else(|| "is gone".into(), |next| format!("stands at {next}"));
    who.checkpoint(
        format!("it {found}, where {expected} was expected: somebody else writes to this copy"),
        "stop the other `rowcast run` for this route, then restart this one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_tables_of_long_names_keep_apart_and_are_not_cut() {
        let place = Place {
            route: "shop:order".parse().unwrap(),
            track: Track::Side,
            log: LogId(1),
            writer: String::new(),
            claimed: 0,
        };
        let long = "ü".repeat(60);
        let names: Vec<_> = ["a", "s.a", "\"a\"", &format!("{long}1"), &format!("{long}2")]
            .map(|into| build(&place, into).table)
            .into();
        assert!(names.iter().all(|n| n.len() <= 63), "{names:?}");
        let mut apart = names.clone();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), 5, "{names:?}");
    }
}
