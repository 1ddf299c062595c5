//! Which columns of a table the server is to stream: what an entity's `fields` leave out does not
//! leave the database.
//!
//! Law: a list never makes the publisher's own statements fail for longer than it takes to notice. The
//! server refuses updates and deletes of a table whose list lacks a column of its replica identity.

use super::catalog::{Table, literal};
use super::shape::Shape;
use super::trouble::Trouble;
use super::wire::{Rows, Wire, WireError};
use rowcast_core::{Publish, SourceError, quote};
use std::collections::BTreeSet;

/// The oldest server with column lists.
const LISTS_SINCE: u32 = 150_000;

/// A table as it is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) table: Table,
    /// Numbers of its columns; `None` for all.
    pub(crate) columns: Option<BTreeSet<u32>>,
}

impl Wanted {
    /// The table as `CREATE PUBLICATION` reads it.
    pub(crate) fn sql(&self) -> String {
        let Some(columns) = &self.columns else { return self.table.sql_only() };
        let listed = self.table.columns.iter().filter(|c| columns.contains(&c.number));
        let names: Vec<_> = listed.map(|c| quote(&c.name)).collect();
        format!("{} ({})", self.table.sql_only(), names.join(", "))
    }
}

/// How tables are to be published, each once. Of two entities that are made of one table, the list
/// has the columns of both.
pub(crate) async fn wanted<'a>(
    wire: &mut Wire,
    entities: impl Iterator<Item = (&'a Publish, &'a Table, &'a Shape)>,
) -> Result<Vec<Wanted>, WireError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (publish, table, shape) in entities {
        let number = |name: &String| table.column(name).map(|c| c.number);
        let names = shape.schema.columns.iter().map(|c| &c.name);
        let columns = publish.fields.as_ref().map(|_| names.filter_map(number).collect());
        match wanted.iter_mut().find(|w| w.table.oid == table.oid) {
            Some(known) => {
                known.columns =
                    known.columns.take().zip(columns).map(|(mut a, b): (_, BTreeSet<u32>)| {
                        a.extend(b);
                        a
                    });
            }
            None => wanted.push(Wanted { table: table.clone(), columns }),
        }
    }
    let all = |w: &Wanted| w.columns.as_ref().is_some_and(|c| c.len() == w.table.columns.len());
    for whole in wanted.iter_mut().filter(|w| all(w)) {
        whole.columns = None;
    }
    let lists: Vec<_> =
        wanted.iter().filter_map(|w| Some((w.table.oid, w.columns.as_ref()?))).collect();
    if !lists.is_empty() {
        let refused = refused_lists(wire, &lists).await?;
        for whole in wanted.iter_mut().filter(|w| refused.contains(&w.table.oid)) {
            whole.columns = None;
        }
    }
    Ok(wanted)
}

/// Those of the lists with which the server would refuse updates and deletes, or that it knows nothing of.
async fn refused_lists(
    wire: &mut Wire,
    lists: &[(u32, &BTreeSet<u32>)],
) -> Result<Vec<u32>, WireError> {
    let list = |(oid, columns): &(u32, &BTreeSet<u32>)| {
        let columns: Vec<_> = columns.iter().map(u32::to_string).collect();
        format!("({oid}::oid,'{{{}}}'::int2[])", columns.join(","))
    };
    let lists = lists.iter().map(list).collect::<Vec<_>>().join(",");
    let sql = format!(
        "SELECT l.oid FROM (VALUES {lists}) l(oid, columns) \
         WHERE current_setting('server_version_num')::int < {LISTS_SINCE} OR {REFUSES}"
    );
    Ok(oids(wire.query(&sql).await?))
}

/// Whether the server refuses changes of the table `l.oid`, or of one of its partitions, when `l.columns` are
/// published of it.
const REFUSES: &str = "EXISTS (\
    SELECT FROM (SELECT l.oid UNION SELECT t.relid FROM pg_partition_tree(l.oid) t) p(oid) \
    JOIN pg_class c ON c.oid = p.oid \
    WHERE c.relreplident = 'f' OR EXISTS (\
      SELECT FROM pg_index i \
      CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(att, place) \
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att \
      WHERE i.indrelid = c.oid AND k.place <= i.indnkeyatts \
        AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END \
        AND NOT EXISTS (SELECT FROM pg_attribute r WHERE r.attrelid = l.oid \
                        AND r.attname = a.attname AND r.attnum = ANY (l.columns))))";

/// Tables of our publication whose updates and deletes the server refuses because of their lists.
pub(crate) async fn refused(wire: &mut Wire, publication: &str) -> Result<Vec<u32>, WireError> {
    let sql = format!(
        "SELECT l.oid FROM (SELECT r.prrelid, r.prattrs::int2[] FROM pg_publication p \
           JOIN pg_publication_rel r ON r.prpubid = p.oid \
           WHERE p.pubname = {} AND r.prattrs IS NOT NULL) l(oid, columns) WHERE {REFUSES}",
        literal(publication)
    );
    match wire.query(&sql).await {
        Ok(rows) => Ok(oids(rows)),
        // No such column: a server without lists.
        Err(e) if e.state() == Some("42703") => Ok(vec![]),
        Err(e) => Err(e),
    }
}

/// Takes lists away with which the server refuses the publisher's own statements; whether there were any.
pub(crate) async fn relieve(
    wire: &mut Wire,
    publication: &str,
    trouble: &Trouble,
) -> Result<bool, SourceError> {
    const UNREAD: &str = "its publications cannot be read";
    let unread = |e| trouble.wire(UNREAD, e);
    let tables = refused(wire, publication).await.map_err(unread)?;
    let name = quote(publication);
    for oid in &tables {
        let names = format!(
            "SELECT concat(CASE WHEN c.relkind <> 'p' THEN 'ONLY ' END, c.oid::regclass) \
             FROM pg_class c WHERE c.oid = {oid}"
        );
        let rows = wire.query(&names).await.map_err(unread)?;
        let Some(table) = rows.first().and_then(|r| r.first().cloned().flatten()) else { continue };
        // In one transaction, so that the table is never out of the stream.
        let statements = [
            "BEGIN".into(),
            format!("ALTER PUBLICATION {name} DROP TABLE {table}"),
            format!("ALTER PUBLICATION {name} ADD TABLE {table}"),
            "COMMIT".into(),
        ];
        if let Err(error) = wire.query(&statements.join("; ")).await {
            wire.query("ROLLBACK").await.map_err(unread)?;
            return Err(super::publication::refused(trouble, error, &statements));
        }
        tracing::warn!(
            service = %trouble.0,
            %table,
            "the table's replica identity has a column that is not in the publication's column list, so \
             the server refused updates and deletes: the list is taken away"
        );
    }
    Ok(!tables.is_empty())
}

fn oids(rows: Rows) -> Vec<u32> {
    rows.iter().filter_map(|r| r.first()?.as_deref()?.parse().ok()).collect()
}
