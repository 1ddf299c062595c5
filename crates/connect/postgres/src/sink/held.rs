//! Which table a copy is: the target remembers it by its identity, because a name says nothing of what
//! became of the table behind it.
//!
//! Law: rows go on into the table that took the rows before them. One that is gone, is another table
//! or was emptied by somebody is never made or written on as if it had them: its copy is rebuilt.

use super::checkpoint::{Place, literal};
use super::errors::Who;
use super::table::TableName;
use crate::connect::Session;
use rowcast_core::{RouteId, Rows, SinkError, Track};
use std::collections::BTreeMap;
use tokio_postgres::Error;

/// Why a route looks at its copies once more.
pub(super) const COPY_GONE: &str =
    "the table of a copy was dropped, replaced, renamed, moved or emptied by somebody";

const READING: &str = "looking at the tables of copies";

/// The files that hold a table's rows, as text: a truncate gives it others, and so does a rewrite.
fn storage(oid: &str) -> String {
    format!(
        "coalesce(pg_relation_filenode({oid})::text, (SELECT string_agg(\
         coalesce(pg_relation_filenode(l.relid), 0)::text, ',' ORDER BY l.relid::oid) \
         FROM pg_partition_tree({oid}) AS l WHERE l.isleaf), '')"
    )
}

/// Prepares the check that stands before a commit, when the tables that were written to are locked:
/// nobody can change them any more. It raises an error like the checkpoint's step.
pub(super) fn prepare(place: &Place) -> String {
    format!(
        "PREPARE rowcast_held (text[], text[]) AS SELECT 1 / (count(*) = 0)::int \
         FROM unnest($1, $2) AS t (copy, name) JOIN rowcast.member AS m ON m.copy = t.copy \
         WHERE m.route = {} AND m.state IN ('live', 'direct') AND m.relation IS NOT NULL \
         AND (m.relation IS DISTINCT FROM to_regclass(t.name)::oid \
         OR m.storage IS DISTINCT FROM {})",
        literal(&place.key(Track::Main)),
        storage("m.relation"),
    )
}

/// The copies that the transaction in hand has written to.
#[derive(Debug, Default)]
pub(super) struct Wrote {
    /// By the subscription's name: the table's name, quoted, and whether we emptied it.
    tables: BTreeMap<String, (String, bool)>,
}

impl Wrote {
    /// Notes the tables of these changes. Those of build tables are told apart elsewhere.
    pub(super) fn note(&mut self, rows: &Rows, beside: impl Fn(&str) -> bool) {
        let mut seen = vec![(false, false); rows.shapes.len()];
        for change in &rows.changes {
            let (touched, cleared) = &mut seen[change.shape as usize];
            *touched = true;
            *cleared |= change.op == rowcast_core::ChangeOp::Truncate;
        }
        for (used, (touched, cleared)) in rows.shapes.iter().zip(seen) {
            let into = &used.shape.into;
            if !touched || beside(into) {
                continue;
            }
            if let Ok(name) = TableName::read(into) {
                let known = self.tables.entry(into.clone()).or_insert((name.sql(), false));
                known.1 |= cleared;
            }
        }
    }

    pub(super) fn forget(&mut self) {
        self.tables.clear();
    }

    /// What to run before the commit; nothing when no copy was written to.
    pub(super) fn check(&self, place: &Place) -> Option<String> {
        if self.tables.is_empty() {
            return None;
        }
        let list = |texts: Vec<&String>| {
            texts.into_iter().map(|t| literal(t)).collect::<Vec<_>>().join(", ")
        };
        let emptied = self.tables.iter().filter(|(_, (_, cleared))| *cleared).map(|(c, _)| c);
        let emptied: Vec<_> = emptied.collect();
        // What we emptied ourselves has other files now.
        let renew = if emptied.is_empty() {
            String::new()
        } else {
            format!(
                "UPDATE rowcast.member SET storage = {} WHERE route = {} AND copy IN ({}) \
                 AND relation IS NOT NULL; ",
                storage("relation"),
                literal(&place.key(Track::Main)),
                list(emptied)
            )
        };
        let names = self.tables.values().map(|(name, _)| name).collect();
        Some(format!(
            "{renew}EXECUTE rowcast_held(ARRAY[{}], ARRAY[{}])",
            list(self.tables.keys().collect()),
            list(names)
        ))
    }
}

/// What became of a copy's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is the one that is remembered.
    Same,
    /// It is to be remembered so: it was not yet, or its rows were written anew.
    Note { relation: u32, storage: String },
    /// It is not the table that took the rows; why.
    Lost(&'static str),
}

/// Looks at the tables of a route's copies that are in one of these states.
pub(super) async fn fates(
    session: &Session,
    route: &RouteId,
    states: &[&str],
    who: &Who,
) -> Result<Vec<(String, Fate)>, SinkError> {
    let refused = |e| who.statement(READING, e);
    let copies = "SELECT copy FROM rowcast.member WHERE route = $1 AND state = ANY ($2) \
                  AND (state <> 'again' OR build IS NULL) \
                  AND (state <> 'direct' OR relation IS NOT NULL)";
    let route = route.to_string();
    let copies = session.query(copies, &[&route, &states]).await.map_err(refused)?;
    let (mut intos, mut schemas, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    for row in &copies {
        let into: String = row.get(0);
        let Ok(name) = TableName::read(&into) else { continue };
        intos.push(into);
        schemas.push(name.schema);
        tables.push(name.table);
    }
    if intos.is_empty() {
        return Ok(Vec::new());
    }
    let look = format!(
        "SELECT k.copy, m.relation, m.storage, c.oid, c.relkind::text, {} \
         FROM unnest($1::text[], $2::text[], $3::text[]) AS k (copy, schema, name) \
         JOIN rowcast.member AS m ON m.route = $4 AND m.copy = k.copy \
         LEFT JOIN pg_namespace AS n ON n.nspname = k.schema \
         LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = k.name",
        storage("c.oid")
    );
    let found = session.query(&look, &[&intos, &schemas, &tables, &route]).await;
    let mut fates = Vec::new();
    for row in &found.map_err(refused)? {
        let into: String = row.get(0);
        let known = (row.get(1), row.get::<_, Option<String>>(2));
        let here = row.get::<_, Option<u32>>(3);
        let here = here.map(|oid| (oid, row.get::<_, String>(4), row.get::<_, String>(5)));
        let fate = fate(session, &into, known, here).await.map_err(refused)?;
        fates.push((into, fate));
    }
    Ok(fates)
}

async fn fate(
    session: &Session,
    into: &str,
    known: (Option<u32>, Option<String>),
    here: Option<(u32, String, String)>,
) -> Result<Fate, Error> {
    let Some((relation, kind, storage)) = here else {
        return Ok(Fate::Lost("it was dropped, renamed or moved"));
    };
    if !matches!(kind.as_str(), "r" | "p") {
        return Ok(Fate::Lost("something that is no table has its name"));
    }
    let (Some(was), Some(held)) = known else { return Ok(Fate::Note { relation, storage }) };
    if was != relation {
        return Ok(Fate::Lost("another table has its name"));
    }
    if held == storage {
        return Ok(Fate::Same);
    }
    if kind == "p" {
        // Of partitions nobody remembers which had rows; new ones take nothing away.
        let there: Vec<_> = storage.split(',').collect();
        if held.split(',').all(|part| there.contains(&part)) {
            return Ok(Fate::Note { relation, storage });
        }
        return Ok(Fate::Lost("partitions of it were emptied, taken out or written anew"));
    }
    let Ok(name) = TableName::read(into) else { return Ok(Fate::Same) };
    let empty = format!("SELECT NOT EXISTS (SELECT FROM {})", name.sql());
    if session.query_one(&empty, &[]).await?.get(0) {
        return Ok(Fate::Lost("it was emptied"));
    }
    Ok(Fate::Note { relation, storage })
}

/// Remembers what has to be, and tells which copies are lost and why.
pub(super) async fn look(
    session: &Session,
    route: &RouteId,
    states: &[&str],
    who: &Who,
) -> Result<Vec<(String, &'static str)>, SinkError> {
    let mut lost = Vec::new();
    let note = "UPDATE rowcast.member SET relation = $3, storage = $4 \
                WHERE route = $1 AND copy = $2 AND state = ANY ($5)";
    for (into, fate) in fates(session, route, states, who).await? {
        match fate {
            Fate::Same => {}
            Fate::Lost(why) => lost.push((into, why)),
            Fate::Note { relation, storage } => {
                let route = route.to_string();
                let noted =
                    session.execute(note, &[&route, &into, &relation, &storage, &states]).await;
                noted.map_err(|e| who.statement("writing rowcast.member", e))?;
            }
        }
    }
    Ok(lost)
}

/// Looks at the copies that are live, and makes those that are lost wait to be built again.
pub(super) async fn renew(session: &Session, place: &Place, who: &Who) -> Result<(), SinkError> {
    let stale = "UPDATE rowcast.member SET state = 'stale', relation = NULL, storage = NULL, \
                 updated_at = now() WHERE route = $1 AND copy = $2 AND state IN ('live', 'again')";
    for (into, why) in look(session, &place.route, &["live", "again"], who).await? {
        tracing::warn!(
            "route {}: the table of {into} is not the one that took its rows ({why}): it is rebuilt \
             from the log",
            place.route
        );
        let marked = session.execute(stale, &[&place.key(Track::Main), &into]).await;
        marked.map_err(|e| who.statement("writing rowcast.member", e))?;
    }
    Ok(())
}

/// Whether a copy's table is remembered, so that it must not be made again, empty as it is.
pub(super) async fn was_there(session: &Session, into: &str, who: &Who) -> Result<bool, SinkError> {
    let ask = "SELECT FROM rowcast.member WHERE route = $1 AND copy = $2 \
               AND (state = 'live' OR (state = 'direct' AND relation IS NOT NULL))";
    let found = session.query_opt(ask, &[&who.route.to_string(), &into]).await;
    Ok(found.map_err(|e| who.statement("reading rowcast.member", e))?.is_some())
}

/// Remembers a copy's table; `false` when it is not the one that is remembered.
pub(super) async fn remember(
    session: &Session,
    into: &str,
    oid: u32,
    who: &Who,
) -> Result<bool, SinkError> {
    let route = who.route.to_string();
    let ask = "SELECT relation FROM rowcast.member \
               WHERE route = $1 AND copy = $2 AND state IN ('live', 'direct')";
    let known = session.query_opt(ask, &[&route, &into]).await;
    let known = known.map_err(|e| who.statement("reading rowcast.member", e))?;
    match known.map(|row| row.get::<_, Option<u32>>(0)) {
        None => Ok(true),
        Some(Some(known)) => Ok(known == oid),
        Some(None) => {
            let set = format!(
                "UPDATE rowcast.member SET relation = $3, storage = {} \
                 WHERE route = $1 AND copy = $2 AND relation IS NULL",
                storage("$3::oid")
            );
            let set = session.execute(&set, &[&route, &into, &oid]).await;
            set.map_err(|e| who.statement("writing rowcast.member", e))?;
            Ok(true)
        }
    }
}

/// Remembers the tables of copies that have just been swapped in, inside the join's transaction, and
/// refuses when a copy that was built in its own table has lost that.
pub(super) async fn join(
    session: &Session,
    place: &Place,
    swapped: &[String],
    who: &Who,
) -> Result<(), SinkError> {
    let refused = |e| who.statement("swapping copies", e);
    let route = place.key(Track::Main);
    let note = format!(
        "UPDATE rowcast.member SET relation = to_regclass($3)::oid, storage = {} \
         WHERE route = $1 AND copy = $2",
        storage("to_regclass($3)::oid")
    );
    for into in swapped {
        let name = TableName::read(into).map_err(|what| who.table_name(into, what))?;
        session.execute(&note, &[&route, into, &name.sql()]).await.map_err(refused)?;
    }
    Ok(())
}
