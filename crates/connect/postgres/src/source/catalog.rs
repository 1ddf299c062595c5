//! What the server's catalog says of tables. Asked for in sets: two thousand tables cost three round
//! trips.

use super::kinds;
use super::leaves::{self, Leaves};
use super::wire::{Rows, Wire, WireError};
use rowcast_core::Kind;
use std::collections::{BTreeSet, HashMap};

/// A table's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    /// Its number in the table, which a later column of the same name does not get.
    pub(crate) number: u32,
    /// The transaction that last changed what the catalog says of it.
    pub(crate) changed: u32,
    pub(crate) type_oid: u32,
    pub(crate) type_modifier: i32,
    /// The type as SQL reads it back under an empty search path.
    pub(crate) native: String,
    pub(crate) kind: Kind,
    pub(crate) not_null: bool,
    /// Value of rows that were there before the column.
    pub(crate) fill: Option<String>,
    /// The expression of a column that the server computes.
    pub(crate) generated: Option<String>,
    /// Numbers of the columns that it is computed from.
    pub(crate) inputs: Vec<u32>,
    /// The role may read it, be it the column alone.
    pub(crate) may_select: bool,
    /// Hashes of the labels of every enum that the type uses, each with its identity, sorted. A label
    /// that is renamed keeps its identity, and rows show the new one without having changed.
    pub(crate) labels: Vec<i64>,
}

/// A unique index whose columns are all plain and never null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) primary: bool,
    /// `REPLICA IDENTITY USING INDEX` names it.
    pub(crate) identity: bool,
    /// Its columns in order, each with the schema its `>` lives in.
    pub(crate) columns: Vec<(String, String)>,
}

/// A primary key by which rows cannot be told apart in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OddKey {
    /// The constraint's name.
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    /// `WITHOUT OVERLAPS`; otherwise it is `DEFERRABLE`.
    pub(crate) temporal: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    /// Names the files that hold its rows: another number when they were written anew, be it with
    /// other values or with the same ones.
    pub(crate) file: i64,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `r` for a plain one, `p` for the root of a partitioned one, and others.
    pub(crate) kind: char,
    /// A partition of another table.
    pub(crate) is_partition: bool,
    /// `d`, `n`, `f` or `i`.
    pub(crate) identity: char,
    /// Written to the WAL.
    pub(crate) permanent: bool,
    /// Others inherit from it.
    pub(crate) has_children: bool,
    pub(crate) rows_estimate: Option<u64>,
    pub(crate) may_select: bool,
    /// A row-level policy hides rows from the role.
    pub(crate) hides_rows: bool,
    pub(crate) may_own: bool,
    pub(crate) owner: String,
    pub(crate) columns: Vec<TableColumn>,
    pub(crate) indexes: Vec<Index>,
    /// Its partitions, down to those that have rows.
    pub(crate) leaves: Leaves,
    /// Its primary key, when that is none of the indexes.
    pub(crate) odd_key: Option<OddKey>,
    /// What our publication says of it, when that was asked.
    pub(crate) published: Option<Published>,
}

/// What a publication says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    /// Another one after every change of it, even one that was undone.
    pub(crate) mark: String,
    /// Numbers of the columns that are in the stream, when not all are.
    pub(crate) columns: Option<BTreeSet<u32>>,
}

impl Table {
    /// Columns in the stream.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &TableColumn> {
        let listed = self.published.as_ref().and_then(|p| p.columns.as_ref());
        let plain = self.columns.iter().filter(|c| c.generated.is_none());
        plain.filter(move |c| listed.is_none_or(|l| l.contains(&c.number)))
    }

    /// The name as SQL reads it.
    pub(crate) fn sql(&self) -> String {
        rowcast_core::quote_path(&[&self.schema, &self.name])
    }

    /// The name with `ONLY` where its rows are its own.
    pub(crate) fn sql_only(&self) -> String {
        if self.kind == 'p' { self.sql() } else { format!("ONLY {}", self.sql()) }
    }

    /// The index whose columns tell rows apart in the stream; `None` when updates and deletes could
    /// not be told.
    pub(crate) fn key(&self) -> Option<&Index> {
        match self.identity {
            'd' => self.indexes.iter().find(|i| i.primary),
            'i' => self.indexes.iter().find(|i| i.identity),
            'f' => self.indexes.iter().find(|i| i.primary).or(self.indexes.first()),
            _ => None,
        }
    }

    /// The column with this name.
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Bytes as an SQL literal of the text that they are.
pub(crate) fn literal_of_bytes(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return literal(text);
    }
    let escaped = bytes.iter().map(|b| format!("\\x{b:02x}"));
    format!("E'{}'", escaped.collect::<String>())
}

/// [`Table::file`] in a query that has `pg_class c`. A partitioned root has only its partitions' files.
pub(crate) const FILE: &str = "CASE WHEN c.relkind = 'p' THEN coalesce((\
     WITH RECURSIVE t (oid) AS (SELECT c.oid UNION ALL SELECT i.inhrelid FROM t \
       JOIN pg_inherits i ON i.inhparent = t.oid AND NOT i.inhdetachpending) \
     SELECT sum(l.relfilenode::bigint) FROM t JOIN pg_class l ON l.oid = t.oid \
     WHERE l.relkind <> 'p'), 0)::bigint ELSE c.relfilenode::bigint END";

/// The same at this moment, whatever snapshot the transaction has.
pub(crate) async fn file_now(wire: &mut Wire, oid: u32) -> Result<i64, WireError> {
    let sql = format!(
        "SELECT CASE WHEN c.relkind = 'p' THEN coalesce((\
           SELECT sum(pg_relation_filenode(t.relid)::bigint) FROM pg_partition_tree(c.oid) t \
           WHERE t.isleaf), 0)::bigint ELSE pg_relation_filenode(c.oid)::bigint END \
         FROM pg_class c WHERE c.oid = {oid}"
    );
    let rows = wire.query(&sql).await?;
    Ok(rows.first().map_or(0, |row| number(row, 0)))
}

/// Which tables to look at.
pub(crate) enum Which<'a> {
    /// These, by schema and name.
    Named(&'a [(String, String)]),
    /// These, by oid.
    Oids(&'a [u32]),
    /// All that a service could publish.
    All,
}

impl Which<'_> {
    fn condition(&self) -> String {
        match self {
            Which::Named([]) | Which::Oids([]) => "false".into(),
            Which::Named(names) => {
                let names: Vec<_> =
                    names.iter().map(|(s, t)| format!("({},{})", literal(s), literal(t))).collect();
                format!("(n.nspname, c.relname) IN (VALUES {})", names.join(","))
            }
            Which::Oids(oids) => format!("c.oid = ANY ({})", oid_array(oids)),
            Which::All => "c.relkind IN ('r', 'p') AND NOT c.relispartition \
                 AND c.relpersistence = 'p' AND n.nspname <> 'rowcast' \
                 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
                .into(),
        }
    }
}

fn oid_array(oids: &[u32]) -> String {
    let oids: Vec<_> = oids.iter().map(u32::to_string).collect();
    format!("'{{{}}}'::oid[]", oids.join(","))
}

/// Looks tables up. What is not there is not in the answer.
pub(crate) async fn tables(wire: &mut Wire, which: Which<'_>) -> Result<Vec<Table>, WireError> {
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relreplident, \
                c.relpersistence = 'p', c.relhassubclass AND c.relkind = 'r', \
                CASE WHEN c.relkind = 'p' THEN (SELECT sum(greatest(l.reltuples, 0)) \
                          FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid \
                          WHERE t.isleaf)::bigint \
                     WHEN c.reltuples >= 0 THEN c.reltuples::bigint END, \
                has_table_privilege(c.oid, 'SELECT'), pg_has_role(c.relowner, 'USAGE'), \
                pg_get_userbyid(c.relowner), row_security_active(c.oid), {FILE} \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {} ORDER BY 2, 3",
        which.condition()
    );
    let mut tables: Vec<Table> = wire.query(&sql).await?.iter().map(table).collect();
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    if oids.is_empty() {
        return Ok(tables);
    }
    let mut columns = grouped(wire.query(&columns_sql(&oids)).await?);
    let mut keys = grouped(wire.query(&indexes_sql(&oids)).await?);
    for table in &mut tables {
        table.columns = columns.remove(&table.oid).unwrap_or_default().iter().map(column).collect();
        (table.indexes, table.odd_key) = indexes(&keys.remove(&table.oid).unwrap_or_default());
    }
    leaves::fill(wire, &mut tables).await?;
    labels(wire, &mut tables).await?;
    Ok(tables)
}

type Row = Vec<Option<String>>;

fn text(row: &Row, i: usize) -> String {
    row.get(i).cloned().flatten().unwrap_or_default()
}

fn is(row: &Row, i: usize) -> bool {
    text(row, i) == "t"
}

fn number<T: std::str::FromStr + Default>(row: &Row, i: usize) -> T {
    text(row, i).parse().unwrap_or_default()
}

fn grouped(rows: Rows) -> HashMap<u32, Rows> {
    let mut groups: HashMap<u32, Rows> = HashMap::new();
    for row in rows {
        groups.entry(number(&row, 0)).or_default().push(row);
    }
    groups
}

fn table(row: &Row) -> Table {
    let letter = |i| text(row, i).chars().next().unwrap_or(' ');
    Table {
        oid: number(row, 0),
        schema: text(row, 1),
        name: text(row, 2),
        kind: letter(3),
        is_partition: is(row, 4),
        identity: letter(5),
        permanent: is(row, 6),
        has_children: is(row, 7),
        rows_estimate: row.get(8).cloned().flatten().and_then(|n| n.parse().ok()),
        may_select: is(row, 9),
        may_own: is(row, 10),
        owner: text(row, 11),
        hides_rows: is(row, 12),
        file: number(row, 13),
        columns: vec![],
        indexes: vec![],
        leaves: Leaves::default(),
        published: None,
        odd_key: None,
    }
}

/// A partitioned root has no storage, so what old rows hold stands at its partitions.
fn columns_sql(oids: &[u32]) -> String {
    format!(
        "SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, \
                format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] \
                     WHEN c.relkind = 'p' THEN (SELECT (p.attmissingval::text::text[])[1] \
                          FROM pg_partition_tree(a.attrelid) l \
                          JOIN pg_attribute p ON p.attrelid = l.relid AND p.attname = a.attname \
                          WHERE p.atthasmissing LIMIT 1) END, \
                CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END, \
                {}, a.attnum, a.xmin, \
                CASE WHEN a.attgenerated <> '' THEN (\
                     SELECT string_agg(DISTINCT p.refobjsubid::text, ',') FROM pg_depend p \
                     WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid \
                       AND p.refobjsubid NOT IN (0, a.attnum) \
                       AND (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid \
                         OR p.classid = 'pg_class'::regclass AND p.objid = a.attrelid \
                           AND p.objsubid = a.attnum)) END, \
                has_column_privilege(a.attrelid, a.attnum, 'SELECT') \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         JOIN pg_type t ON t.oid = a.atttypid {} \
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attrelid = ANY ({}) AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY a.attrelid, a.attnum",
        kinds::COLUMNS,
        kinds::JOINS,
        oid_array(oids)
    )
}

fn column(row: &Row) -> TableColumn {
    TableColumn {
        name: text(row, 1),
        number: number(row, 11),
        changed: number(row, 12),
        may_select: is(row, 14),
        type_oid: number(row, 2),
        type_modifier: text(row, 3).parse().unwrap_or(-1),
        native: text(row, 4),
        not_null: is(row, 5),
        fill: row.get(6).cloned().flatten(),
        generated: row.get(7).cloned().flatten(),
        inputs: text(row, 13).split(',').filter_map(|n| n.parse().ok()).collect(),
        kind: kinds::kind(number(row, 8), &text(row, 9), &text(row, 10)),
        labels: vec![],
    }
}

/// The first number that the server gives to what users make.
const USER_OID_MIN: u32 = 16_384;

/// The labels of the enums that columns' types use: by themselves, in arrays, domains, ranges and
/// composites.
async fn labels(wire: &mut Wire, tables: &mut [Table]) -> Result<(), WireError> {
    let columns = tables.iter().flat_map(|t| &t.columns);
    let mut types: Vec<u32> = columns.map(|c| c.type_oid).filter(|t| *t >= USER_OID_MIN).collect();
    types.sort_unstable();
    types.dedup();
    if types.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "WITH RECURSIVE part (root, oid) AS ( \
           SELECT w, w FROM unnest({}) w UNION \
           SELECT p.root, x.oid FROM part p JOIN pg_type t ON t.oid = p.oid CROSS JOIN LATERAL ( \
             SELECT t.typbasetype WHERE t.typtype = 'd' \
             UNION ALL SELECT t.typelem WHERE t.typelem <> 0 \
             UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' \
               AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
             UNION ALL SELECT r.rngsubtype FROM pg_range r \
               WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) x (oid)) \
         SELECT p.root, e.oid, e.enumlabel FROM part p JOIN pg_enum e ON e.enumtypid = p.oid",
        oid_array(&types)
    );
    let mut found: HashMap<u32, Vec<i64>> = HashMap::new();
    for row in wire.query(&sql).await? {
        let label = format!("{} {}", text(&row, 1), text(&row, 2));
        let hash = xxhash_rust::xxh3::xxh3_64(label.as_bytes());
        found.entry(number(&row, 0)).or_default().push(hash as i64);
    }
    for column in tables.iter_mut().flat_map(|t| &mut t.columns) {
        let mut labels = found.get(&column.type_oid).cloned().unwrap_or_default();
        labels.sort_unstable();
        column.labels = labels;
    }
    Ok(())
}

fn indexes_sql(oids: &[u32]) -> String {
    format!(
        "SELECT i.indrelid, i.indexrelid, i.indisprimary, i.indisreplident, a.attname, \
                a.attnotnull, (SELECT n.nspname FROM pg_opclass oc \
                  JOIN pg_amop s ON s.amopfamily = oc.opcfamily AND s.amopstrategy = 5 \
                       AND s.amoplefttype = oc.opcintype AND s.amoprighttype = oc.opcintype \
                  JOIN pg_operator o ON o.oid = s.amopopr \
                  JOIN pg_namespace n ON n.oid = o.oprnamespace \
                  WHERE oc.oid = i.indclass[k.place - 1]), \
                i.indisexclusion, NOT i.indimmediate, x.relname \
         FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(att, place) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att \
         WHERE i.indrelid = ANY ({}) AND i.indisunique AND i.indisvalid AND i.indislive \
           AND (i.indimmediate AND NOT i.indisexclusion OR i.indisprimary) AND i.indpred IS NULL AND i.indexprs IS NULL \
           AND k.place <= i.indnkeyatts \
         ORDER BY i.indrelid, i.indexrelid, k.place",
        oid_array(oids)
    )
}

/// The indexes that tell rows apart, and a primary key that does not.
fn indexes(rows: &Rows) -> (Vec<Index>, Option<OddKey>) {
    let mut found: Vec<(String, bool, Index)> = Vec::new();
    let mut odd: Option<OddKey> = None;
    for row in rows {
        let (temporal, deferrable) = (is(row, 7), is(row, 8));
        if temporal || deferrable {
            let key = OddKey { name: text(row, 9), columns: vec![], temporal };
            odd.get_or_insert(key).columns.push(text(row, 4));
            continue;
        }
        let oid = text(row, 1);
        if found.last().is_none_or(|(last, ..)| *last != oid) {
            let index = Index { primary: is(row, 2), identity: is(row, 3), columns: vec![] };
            found.push((oid, true, index));
        }
        if let Some((_, not_null, index)) = found.last_mut() {
            let operators = row.get(6).cloned().flatten().unwrap_or_else(|| "pg_catalog".into());
            index.columns.push((text(row, 4), operators));
            *not_null &= is(row, 5);
        }
    }
    let whole = found.into_iter().filter(|(_, not_null, _)| *not_null);
    (whole.map(|(.., index)| index).collect(), odd)
}

/// A type by oid and modifier, for columns that the catalog no longer has: its SQL name and kind.
pub(crate) async fn type_names(
    wire: &mut Wire,
    types: &[(u32, i32)],
) -> Result<Vec<(String, Kind)>, WireError> {
    let wanted: Vec<_> =
        types.iter().enumerate().map(|(i, (t, m))| format!("({i},{t}::oid,{m})")).collect();
    let sql = format!(
        "SELECT w.i, coalesce(format_type(w.t, w.m), '???'), {} \
         FROM (VALUES {}) w(i, t, m) LEFT JOIN pg_type t ON t.oid = w.t {} ORDER BY w.i",
        kinds::COLUMNS,
        wanted.join(","),
        kinds::JOINS
    );
    let rows = wire.query(&sql).await?;
    let named = |r: &Row| (text(r, 1), kinds::kind(number(r, 2), &text(r, 3), &text(r, 4)));
    Ok(rows.iter().map(named).collect())
}
