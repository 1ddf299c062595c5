//! Rows that fit only together: each refers to one that is not there yet. One statement writes them all,
//! because the server looks at references that may not wait for the commit at its end only.

use super::encode::{ArrayParam, Unfit, with_text};
use super::pipe::{At, Fail, Pipe};
use super::spare::Spared;
use super::target::{Job, Target};
use super::targets::Targets;
use super::write::ByShape;
use crate::connect::Session;
use rowcast_core::{ChangeOp, Malformed, Rows, Value, quote};
use std::collections::{HashMap, HashSet};
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

const REFERENCES: &str = "
    SELECT f.conrelid, f.confrelid, f.confrelid::regclass::text,
        array_agg(c.attname::text ORDER BY k.n), array_agg(p.attname::text ORDER BY k.n),
        array_agg(format_type(c.atttypid, -1) ORDER BY k.n)
    FROM pg_constraint f
        CROSS JOIN LATERAL unnest(f.conkey, f.confkey) WITH ORDINALITY AS k (child, parent, n)
        JOIN pg_attribute c ON c.attrelid = f.conrelid AND c.attnum = k.child
        JOIN pg_attribute p ON p.attrelid = f.confrelid AND p.attnum = k.parent
    WHERE f.contype = 'f' AND f.conrelid = ANY ($1) GROUP BY f.oid, f.conrelid, f.confrelid";

/// The rows of one table.
#[derive(Debug, Default)]
struct Part {
    /// Changes whose row is to be there afterwards.
    writes: Vec<u32>,
    /// Changes whose row goes.
    deletes: Vec<u32>,
}

/// Values of some columns, as text.
type Texts = Vec<Vec<u8>>;

/// A foreign key of a table among the targets.
struct Reference {
    /// Where each row refers to; rows that refer to nothing are not here.
    children: Vec<(u32, Texts)>,
    /// Which rows have what can be referred to.
    parents: HashMap<Texts, Vec<u32>>,
    /// What can be referred to at the target already.
    there: HashSet<Texts>,
}

/// Writes whole rows and deletes, one change for each key. A row that refers to one which is neither in
/// the copy nor among these is left out.
pub(super) async fn write<'a>(
    pipe: &mut Pipe<'a>,
    targets: &mut Targets,
    by_shape: &ByShape,
    rows: &'a Rows,
    spared: &mut Spared,
) -> Result<(), Fail> {
    const WHAT: &str =
        "foreign key finds no row to refer to, neither here nor among what is parked";
    pipe.drain().await?;
    let mut parts: Vec<Part> = Vec::new();
    parts.resize_with(targets.list.len(), Part::default);
    for (index, change) in (0..).zip(&rows.changes) {
        let Some(target) = by_shape[change.shape as usize] else { continue };
        match change.op {
            ChangeOp::Delete | ChangeOp::Leave => parts[target].deletes.push(index),
            _ => parts[target].writes.push(index),
        }
    }
    let first = parts.iter().position(|p| !p.writes.is_empty() || !p.deletes.is_empty());
    let at = At::Set(first.unwrap_or_default());
    let refused = |error| Fail::Server { at, error };
    let out = left_out(pipe.session, targets, &parts, rows).await?;
    for part in &mut parts {
        part.writes.retain(|change| !out.contains(change));
    }
    let mut out: Vec<u32> = out.into_iter().collect();
    out.sort_unstable();
    for change in out {
        spared.changes.push(change);
        spared.fails.push(Fail::Unfit { change, what: WHAT });
    }
    let Some((sql, params)) = statement(targets, &parts, rows)? else { return Ok(()) };
    let statement = pipe.session.prepare(&sql).await.map_err(refused)?;
    pipe.session.execute_raw(&statement, params).await.map_err(refused)?;
    Ok(())
}

type Params = Vec<Box<dyn ToSql + Sync + Send>>;

/// The statement that writes all parts, and its parameters.
fn statement(
    targets: &mut Targets,
    parts: &[Part],
    rows: &Rows,
) -> Result<Option<(String, Params)>, Fail> {
    let (mut steps, mut params): (Vec<String>, Params) = (Vec::new(), Vec::new());
    for (target, part) in targets.list.iter_mut().zip(parts) {
        let all: Vec<_> = (0..target.columns.len()).collect();
        let key = target.key.clone();
        let both = [(Job::UpsertSet, all, &part.writes), (Job::DeleteSet, key, &part.deletes)];
        for (job, columns, changes) in both {
            if changes.is_empty() {
                continue;
            }
            let arrays = loop {
                match arrays(target, &columns, changes, rows)? {
                    Ok(arrays) => break arrays,
                    // Once more, with this column as text.
                    Err(column) => target.as_text(column),
                }
            };
            let sql = moved(&target.sql(&job), params.len());
            steps.push(format!("w{} AS ({sql})", steps.len()));
            params.extend(arrays.into_iter().map(|a| Box::new(a.finish()) as Box<_>));
        }
    }
    let sql = format!("WITH {} SELECT 1", steps.join(", "));
    Ok((!steps.is_empty()).then_some((sql, params)))
}

/// The values of some columns of all changes; the inner error is a column that cannot travel as bytes.
fn arrays(
    target: &Target,
    columns: &[usize],
    changes: &[u32],
    rows: &Rows,
) -> Result<Result<Vec<ArrayParam>, usize>, Fail> {
    let array = |&c: &usize| ArrayParam::new(target.columns[c].wire, 16 * changes.len());
    let mut arrays: Vec<_> = columns.iter().map(array).collect();
    let mut values = Vec::new();
    for &change in changes {
        rows.found_by(&rows.changes[change as usize]).unpack(&mut values)?;
        for (array, &c) in arrays.iter_mut().zip(columns) {
            let column = &target.columns[c];
            let value = *values.get(column.source).ok_or(Malformed { at: 0 })?;
            let pushed = with_text(column.form, value, |text| array.push(text));
            match pushed.map_err(|Unfit(what)| Fail::Unfit { change, what })? {
                true => {}
                false => return Ok(Err(c)),
            }
        }
    }
    Ok(Ok(arrays))
}

/// The rows that refer to what is neither at the target nor among those that stay.
async fn left_out(
    session: &Session,
    targets: &Targets,
    parts: &[Part],
    rows: &Rows,
) -> Result<HashSet<u32>, Fail> {
    let references = references(session, targets, parts, rows).await?;
    let mut out = HashSet::new();
    loop {
        let before = out.len();
        for reference in &references {
            for (child, texts) in &reference.children {
                let parents = reference.parents.get(texts);
                let stays = |parent: &u32| !out.contains(parent);
                let found = reference.there.contains(texts)
                    || parents.is_some_and(|parents| parents.iter().any(stays));
                if !found {
                    out.insert(*child);
                }
            }
        }
        if out.len() == before {
            return Ok(out);
        }
    }
}

async fn references(
    session: &Session,
    targets: &Targets,
    parts: &[Part],
    rows: &Rows,
) -> Result<Vec<Reference>, Fail> {
    let refused = |error| Fail::Server { at: At::Set(0), error };
    let oids: Vec<u32> = targets.list.iter().map(|t| t.oid).collect();
    let mut references = Vec::new();
    for row in session.query(REFERENCES, &[&oids]).await.map_err(refused)? {
        let (child, parent, table): (u32, u32, String) = (row.get(0), row.get(1), row.get(2));
        let (here, names, types): (Vec<String>, Vec<String>, Vec<String>) =
            (row.get(3), row.get(4), row.get(5));
        let mut children = Vec::new();
        let mut parents: HashMap<Texts, Vec<u32>> = HashMap::new();
        for (target, part) in targets.list.iter().zip(parts) {
            if target.oid == child {
                children.extend(texts(target, &here, part, rows)?);
            }
            if target.oid == parent {
                for (change, texts) in texts(target, &names, part, rows)? {
                    parents.entry(texts).or_default().push(change);
                }
            }
        }
        if !children.is_empty() {
            let there =
                there(session, &table, (&names, &types), &children).await.map_err(refused)?;
            references.push(Reference { children, parents, there });
        }
    }
    Ok(references)
}

/// Of each row the values of some columns; of none when the subscription does not have them all.
fn texts(
    target: &Target,
    names: &[String],
    part: &Part,
    rows: &Rows,
) -> Result<Vec<(u32, Texts)>, Fail> {
    let place = |name: &String| target.shape.columns.iter().position(|c| c.name == *name);
    let Some(columns) = names.iter().map(place).collect::<Option<Vec<_>>>() else {
        return Ok(Vec::new());
    };
    let (mut all, mut values) = (Vec::new(), Vec::new());
    for &change in &part.writes {
        rows.after(&rows.changes[change as usize]).unpack(&mut values)?;
        let mut texts = Vec::new();
        for &c in &columns {
            let column = &target.columns[c];
            let value = values.get(column.source).copied().unwrap_or(Value::Null);
            let text = with_text(column.form, value, |t| t.map(<[u8]>::to_vec));
            texts.extend(text.map_err(|Unfit(what)| Fail::Unfit { change, what })?);
        }
        // A row with a NULL among them refers to nothing.
        if texts.len() == columns.len() {
            all.push((change, texts));
        }
    }
    Ok(all)
}

/// Which of the values are in a table.
async fn there(
    session: &Session,
    table: &str,
    (names, types): (&[String], &[String]),
    children: &[(u32, Texts)],
) -> Result<HashSet<Texts>, Error> {
    let all: Vec<&Texts> =
        children.iter().map(|(_, texts)| texts).collect::<HashSet<_>>().into_iter().collect();
    let arrays = (1..=names.len()).map(|n| format!("${n}::text[]"));
    let columns = (1..=names.len()).map(|n| format!("c{n}"));
    let is = (1..).zip(names.iter().zip(types));
    let is = is.map(|(n, (name, native))| format!("p.{} = u.c{n}::{native}", quote(name)));
    let sql = format!(
        "SELECT u.n FROM unnest({}) WITH ORDINALITY AS u ({}, n) \
         WHERE EXISTS (SELECT FROM {table} AS p WHERE {})",
        arrays.collect::<Vec<_>>().join(", "),
        columns.collect::<Vec<_>>().join(", "),
        is.collect::<Vec<_>>().join(" AND ")
    );
    let texts = |i: usize| -> Vec<String> {
        all.iter().map(|texts| String::from_utf8_lossy(&texts[i]).into_owned()).collect()
    };
    let params: Vec<Vec<String>> = (0..names.len()).map(texts).collect();
    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as _).collect();
    let found = session.query(&sql, &params).await?;
    let place = |row: &tokio_postgres::Row| row.get::<_, i64>(0) as usize - 1;
    Ok(found.iter().filter_map(|row| all.get(place(row)).map(|t| (*t).clone())).collect())
}

/// A statement whose parameters come behind `by` others.
fn moved(sql: &str, by: usize) -> String {
    let mut out = String::with_capacity(sql.len() + 8);
    let mut quoted = false;
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        out.push(c);
        quoted ^= c == '"';
        let digits = rest.len() - rest.trim_start_matches(|d: char| d.is_ascii_digit()).len();
        if let (false, '$', Ok(n)) = (quoted, c, rest[..digits].parse::<usize>()) {
            out.push_str(&(n + by).to_string());
            rest = &rest[digits..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::moved;

    #[test]
    fn parameters_move_and_names_stay() {
        assert_eq!(moved("a $1::\"x$1\" = $12", 3), "a $4::\"x$1\" = $15");
    }
}
