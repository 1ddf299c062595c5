//! The join: build tables become copies, in one transaction.
//!
//! A copy stays the table it is, with its grants, views, references and extra columns. Its rows become
//! the build table's rows: those that are missing there go, those that are new or different are
//! written, the others are not touched. Readers see the old rows until the commit.

use super::checkpoint::Place;
use super::ensure::{BUILD_GONE, try_to_add};
use super::errors::Who;
use super::member::{build, elsewhere, remember, roll};
use super::table::{Table, TableName};
use super::{fit, held, parked, targets};
use crate::connect::Session;
use rowcast_core::{Join, Shape, SinkError, Track, quote};
use tokio_postgres::Error;

/// A swap reads whole tables, where the session is otherwise bound to keys and indexes.
const PLANS: &str = "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; \
                     SET LOCAL enable_mergejoin = on; SET CONSTRAINTS ALL DEFERRED";

/// One copy and what it becomes.
struct Swap {
    oid: u32,
    live: String,
    build: String,
    /// Columns, quoted, that are no part of the key.
    others: Vec<String>,
    /// The key's columns, quoted, with the operators by which they are equal.
    key: Vec<(String, String)>,
    /// Those of `others` that no two rows may share, and that may be null.
    unique: Vec<String>,
}

/// Joins. An error leaves the transaction to the session's end.
pub(super) async fn join(
    session: &Session,
    place: &Place,
    join: &Join,
    who: &Who,
) -> Result<(), SinkError> {
    let members = roll(session, place, who).await?.members;
    let mut swapped = Vec::new();
    let mut swaps = Vec::new();
    let (mut moves, mut copies) = (Vec::new(), Vec::new());
    let beside = members.iter().filter(|m| m.state.has_build_table());
    for member in beside {
        let shape = join.shapes.iter().find(|s| s.into == member.into);
        let shape = shape.ok_or_else(|| who.bug("a copy joins without a shape"))?;
        swapped.push(member.into.clone());
        match prepare(session, place, shape, who).await? {
            Ready::Swap(swap) => {
                swaps.push(swap);
                copies.push(member.into.clone());
            }
            Ready::Move(statements) => moves.push(statements),
        }
    }
    // Its rows would go from the copy, where they are right but for the value's name.
    let lacking = parked::lacks_label(session, place, &copies).await;
    if let Some(copy) = lacking.map_err(|e| who.statement("reading rowcast.parked", e))? {
        return Err(who.schema(
            &copy,
            "it is built again, and the publisher's enum type has a value that the type here lacks; \
             the copy stays as it is meanwhile",
            "bring the type in line: ALTER TYPE … RENAME VALUE when the publisher renamed one, else \
             ALTER TYPE … ADD VALUE; `rowcast check` prints the statement",
        ));
    }
    let oids: Vec<_> = swaps.iter().map(|s| s.oid).collect();
    let order = targets::order(session, &oids).await;
    let (parents_first, ..) = order.map_err(|e| who.statement("looking at foreign keys", e))?;
    checkpoints(session, place, join, who).await?;
    rows(session, &swaps, &parents_first, who).await?;
    let refused = |e| who.statement("swapping copies", e);
    for statements in &moves {
        session.batch_execute(statements).await.map_err(refused)?;
    }
    for swap in &swaps {
        let drop = format!("DROP TABLE {}", swap.build);
        session.batch_execute(&drop).await.map_err(refused)?;
    }
    held::join(session, place, &swapped, who).await?;
    let live = "UPDATE rowcast.member SET state = 'live', build = NULL, updated_at = now() \
                WHERE route = $1 AND state IN ('direct', 'beside', 'again')";
    session.execute(live, &[&place.key(Track::Main)]).await.map_err(refused)?;
    parked::join(session, place).await.map_err(refused)?;
    session.batch_execute("COMMIT").await.map_err(|error| {
        let table = error.as_db_error().and_then(|e| e.table()).map(str::to_string);
        who.row(&table.unwrap_or_else(|| "(at commit)".into()), None, error)
    })
}

/// Begins the transaction with both checkpoints.
async fn checkpoints(
    session: &Session,
    place: &Place,
    join: &Join,
    who: &Who,
) -> Result<(), SinkError> {
    let refused = |e| who.statement("moving the checkpoint", e);
    let log = place.log.to_string();
    let (from, next) = (join.from.0 as i64, join.next.0 as i64);
    session.batch_execute(&format!("BEGIN READ WRITE; {PLANS}")).await.map_err(refused)?;
    let set = "UPDATE rowcast.checkpoint SET next = $4, position = $5, epoch = $6, writer = $7, \
               updated_at = statement_timestamp() WHERE route = $1 AND log = $2 AND next = $3";
    let (position, epoch) = (join.position.to_string(), join.position.epoch.to_string());
    let main = place.key(Track::Main);
    let moved = session
        .execute(set, &[&main, &log, &from, &next, &position, &epoch, &place.writer])
        .await
        .map_err(refused)?;
    if moved != 1 {
        return Err(elsewhere(who, None, join.from));
    }
    let end = "DELETE FROM rowcast.checkpoint WHERE route = $1 AND log = $2 AND next = $3";
    let ended = session.execute(end, &[&place.key(Track::Side), &log, &next]).await;
    if ended.map_err(refused)? != 1 {
        return Err(elsewhere(who, None, join.next));
    }
    // What lanes did before the join says nothing about what comes after it.
    let lanes = "DELETE FROM rowcast.checkpoint WHERE starts_with(route, $1)";
    session.execute(lanes, &[&place.lanes()]).await.map_err(refused)?;
    Ok(())
}

enum Ready {
    Swap(Swap),
    /// There is no copy: the build table takes its place.
    Move(String),
}

/// Looks at both tables, and gives the copy columns that it lacks; before the transaction, so that
/// nobody waits for it to end.
async fn prepare(
    session: &Session,
    place: &Place,
    shape: &Shape,
    who: &Who,
) -> Result<Ready, SinkError> {
    let name = TableName::read(&shape.into).map_err(|what| who.table_name(&shape.into, what))?;
    let build = build(place, &shape.into);
    let Some(built) = Table::find(session, &build, who).await? else {
        return Err(who.unreachable(BUILD_GONE));
    };
    // Another table in its place would take the copy's rows with it.
    if !remember(session, &shape.into, built.oid, who).await? {
        return Err(who.unreachable(BUILD_GONE));
    }
    let refused = |e| who.statement("preparing a swap", e);
    session.batch_execute(&format!("ANALYZE {}", build.sql())).await.map_err(refused)?;
    let shape = narrowed(shape, &built);
    let Some(mut live) = Table::find(session, &name, who).await? else {
        return moved(&shape, &name, &build, who);
    };
    let grown = Shape { all_fields: true, ..shape.clone() };
    let additions = fit::additions(&grown, &name, &live);
    if !additions.is_empty() {
        session.batch_execute(&additions.join(";")).await.map_err(refused)?;
        let found = Table::find(session, &name, who).await?;
        live = found.ok_or_else(|| who.unreachable("a table went while columns were added"))?;
    }
    if let Some(misfit) = fit::misfits(&shape, &name, &live).into_iter().next() {
        let run = misfit.fix.map_or_else(String::new, |(_, s)| format!(": {}", s.join("; ")));
        return Err(who.schema(&name.sql(), misfit.what, misfit.help + &run));
    }
    let key = live.key(&shape).ok_or_else(|| who.bug("a table without a key passed the check"))?;
    let is_key = |c: &str| key.columns.iter().any(|(k, _)| k == c);
    let others = shape.columns.iter().map(|c| &c.name).filter(|c| !is_key(c));
    let frees = |c: &&String| live.is_unique(c) && live.column(c).is_some_and(|c| !c.not_null);
    Ok(Ready::Swap(Swap {
        oid: live.oid,
        live: name.sql(),
        build: build.sql(),
        key: key.columns.iter().map(|(c, op)| (quote(c), op.clone())).collect(),
        unique: others.clone().filter(frees).map(|c| quote(c)).collect(),
        others: others.map(|c| quote(c)).collect(),
    }))
}

/// A shape without what the build table does not have yet.
fn narrowed(shape: &Shape, built: &Table) -> Shape {
    let mut narrow = shape.clone();
    narrow.columns.retain(|c| built.column(&c.name).is_some());
    let place = |k: &usize| {
        let name = &shape.columns[*k].name;
        narrow.columns.iter().position(|c| c.name == *name)
    };
    narrow.key = shape.key.iter().filter_map(place).collect();
    narrow
}

fn moved(
    shape: &Shape,
    name: &TableName,
    build: &TableName,
    who: &Who,
) -> Result<Ready, SinkError> {
    if !shape.create {
        let what = "it is missing, and `create = false` keeps Rowcast from making it";
        let help = format!("run {}", fit::create(shape, name));
        return Err(who.schema(&name.sql(), what, help));
    }
    let (schema, table) = (quote(&name.schema), quote(&name.table));
    let computed: String =
        shape.generated.iter().map(|g| format!("; {}", try_to_add(name, g))).collect();
    Ok(Ready::Move(format!(
        "ALTER TABLE {} SET SCHEMA {schema}; ALTER TABLE {schema}.{} RENAME TO {table}{computed}",
        build.sql(),
        quote(&build.table),
    )))
}

/// Makes every copy's rows those of its build table. Where a rule stands in the way of removing first,
/// because a row that stays still refers to one that goes, rows are written first.
async fn rows(
    session: &Session,
    swaps: &[Swap],
    parents_first: &[usize],
    who: &Who,
) -> Result<(), SinkError> {
    let refused = |e| who.statement("swapping copies", e);
    session.batch_execute("SAVEPOINT rowcast_swap").await.map_err(refused)?;
    let removes = || parents_first.iter().rev().map(|&i| (i, swaps[i].remove()));
    let writes = || parents_first.iter().map(|&i| (i, swaps[i].write()));
    let first = run(session, removes().chain(writes())).await;
    let Err((table, error)) = first else { return Ok(()) };
    let back = session.batch_execute("ROLLBACK TO rowcast_swap").await;
    let second = match back {
        Ok(()) if error.code().is_some_and(|c| c.code() == "23503") => {
            run(session, writes().chain(removes())).await.is_ok()
        }
        _ => false,
    };
    if second { Ok(()) } else { Err(who.row(&swaps[table].live, None, error)) }
}

async fn run(
    session: &Session,
    statements: impl Iterator<Item = (usize, String)>,
) -> Result<(), (usize, Error)> {
    for (table, statement) in statements {
        session.batch_execute(&statement).await.map_err(|e| (table, e))?;
    }
    Ok(())
}

impl Swap {
    fn same_key(&self) -> String {
        let same = self.key.iter().map(|(k, op)| format!("l.{k} {op} b.{k}"));
        same.collect::<Vec<_>>().join(" AND ")
    }

    /// Rows that are not in the build table.
    fn remove(&self) -> String {
        let Self { live, build, .. } = self;
        format!(
            "DELETE FROM {live} AS l WHERE NOT EXISTS (SELECT FROM {build} AS b WHERE {})",
            self.same_key()
        )
    }

    /// Rows that are new or different. Values are compared as their text: that is what a copy has to
    /// have in common with its source, and types without an equality have it too.
    fn write(&self) -> String {
        let Self { live, build, others, unique, .. } = self;
        let same_key = self.same_key();
        let mut sql = String::new();
        if !unique.is_empty() {
            // Rows that trade a unique value: first nobody has it.
            let free: Vec<_> = unique.iter().map(|c| format!("{c} = NULL")).collect();
            let differ = unique.iter().map(|c| format!("l.{c}::text IS DISTINCT FROM b.{c}::text"));
            let differ = differ.collect::<Vec<_>>().join(" OR ");
            sql = format!(
                "UPDATE {live} AS l SET {} FROM {build} AS b WHERE {same_key} AND ({differ});",
                free.join(", ")
            );
        }
        let key: Vec<_> = self.key.iter().map(|(k, _)| k.clone()).collect();
        let all: Vec<_> = key.iter().chain(others).cloned().collect();
        let same =
            others.iter().map(|c| format!(" AND l.{c}::text IS NOT DISTINCT FROM b.{c}::text"));
        let same: String = same.collect();
        let sets: Vec<_> = others.iter().map(|c| format!("{c} = EXCLUDED.{c}")).collect();
        let then = match sets.is_empty() {
            true => "NOTHING".into(),
            false => format!("UPDATE SET {}", sets.join(", ")),
        };
        let (all, key) = (all.join(", "), key.join(", "));
        sql + &format!(
            "INSERT INTO {live} ({all}) SELECT {all} FROM {build} AS b WHERE NOT EXISTS (\
             SELECT FROM {live} AS l WHERE {same_key}{same}) ON CONFLICT ({key}) DO {then}"
        )
    }
}
