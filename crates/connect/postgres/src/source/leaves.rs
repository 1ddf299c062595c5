//! The partitions of a published table. The stream tells of their rows through the table that they
//! belong to; what makes those rows told, and which partitions there are, is in the catalog alone.
//!
//! Law: a partition that came, went or got other storage is set against what the log knows of it.
//! Where nothing proves that its rows were told one by one, the table is read again.

mod judge;
mod noted;

pub(crate) use judge::{doubt, doubted, remember};
pub(crate) use noted::{LeafNote, Noted};

use super::catalog::{Table, literal};
use super::pgoutput::Relation;
use super::shape::Unfit;
use super::wire::{Wire, WireError};
use rowcast_core::{Fix, quote, quote_path};
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// A unique index by which a partition's rows can be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LeafIndex {
    name: String,
    primary: bool,
    /// `REPLICA IDENTITY USING INDEX` names it.
    identity: bool,
    columns: Vec<String>,
}

/// A partition that has rows of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) oid: u32,
    /// Names the file that holds its rows.
    pub(crate) file: i64,
    /// Changes whenever it, or a partition above it, is attached.
    pub(crate) attached: i64,
    /// It was made as a partition, and so was every partition above it: it never had rows that
    /// belonged to another table.
    pub(crate) born: bool,
    /// Where the server's log was when it was seen first, attached as it is.
    pub(crate) seen: u64,
    schema: String,
    name: String,
    identity: char,
    permanent: bool,
    indexes: Vec<LeafIndex>,
}

/// A table's partitions at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leaves {
    /// Every transaction with a lower number had ended at that moment.
    pub(crate) horizon: u64,
    /// The server decides once in a session, with a table's first change, whether it is published: one
    /// that is attached after that is not told of. Until 15.
    pub(crate) deaf: bool,
    pub(crate) list: Vec<Leaf>,
}

impl Leaf {
    /// The name as SQL reads it.
    pub(crate) fn sql(&self) -> String {
        quote_path(&[&self.schema, &self.name])
    }

    fn has(&self, key: &[String], index: &LeafIndex) -> bool {
        key.iter().all(|k| index.columns.contains(k))
    }

    /// The index whose columns the server writes down of a row that is updated or deleted.
    fn told_by(&self) -> Option<&LeafIndex> {
        match self.identity {
            'd' => self.indexes.iter().find(|i| i.primary),
            'i' => self.indexes.iter().find(|i| i.identity),
            _ => None,
        }
    }

    /// Why changes of its rows would be lost, or be refused to whoever makes them. A foreign table
    /// needs no look: a table with one below it has no key.
    fn misfit(&self, table: &Table, key: &[String]) -> Option<Unfit> {
        let name = self.sql();
        let of = format!("partition {name} of {}", table.sql());
        let unfit = |what: String, help: &str, statement: Option<String>| {
            let fix = statement.map(|s| Fix { statements: vec![s], safe: false });
            Some(Unfit { what: format!("{of} {what}"), help: help.into(), fix })
        };
        if !self.permanent {
            let what = "is unlogged, so its changes are not in the server's log".into();
            let logged = format!("ALTER TABLE {name} SET LOGGED");
            return unfit(what, "let its rows be logged; this writes it anew", Some(logged));
        }
        if self.identity == 'f' || self.told_by().is_some_and(|i| self.has(key, i)) {
            return None;
        }
        let what = match (self.identity, self.told_by()) {
            ('n', _) => "has REPLICA IDENTITY NOTHING".into(),
            ('i', None) => "has a replica identity that names an index which is gone".into(),
            (_, None) => "has no primary key".into(),
            (_, Some(index)) => {
                format!("tells its rows apart by ({}) only", index.columns.join(", "))
            }
        };
        let what = format!(
            "{what}, and not by ({}) as the whole table does: its updates and deletes cannot be told",
            key.join(", ")
        );
        let help = "a partition does not inherit the replica identity: give it one of its own";
        let identity = self.identity_with(key);
        unfit(what, help, Some(format!("ALTER TABLE {name} REPLICA IDENTITY {identity}")))
    }

    /// The replica identity that has the key, and costs the least.
    fn identity_with(&self, key: &[String]) -> String {
        let good = |i: &&LeafIndex| self.has(key, i);
        match self.indexes.iter().filter(good).min_by_key(|i| !i.primary) {
            Some(index) if index.primary => "DEFAULT".into(),
            Some(index) => format!("USING INDEX {}", quote(&index.name)),
            None => "FULL".into(),
        }
    }
}

impl Leaves {
    /// Whether this is one of them.
    pub(crate) fn has(&self, oid: u32) -> bool {
        self.list.iter().any(|l| l.oid == oid)
    }

    /// They were all there when the server's log was at this place.
    pub(crate) fn seen_at(&mut self, place: u64) {
        self.list.iter_mut().for_each(|l| l.seen = l.seen.min(place));
    }

    /// Remembers since when they are known to be there.
    pub(crate) fn remember(&mut self, noted: &Noted) {
        for leaf in &mut self.list {
            let known = noted.find(leaf.oid).filter(|n| n.attached == leaf.attached);
            leaf.seen = known.map_or(leaf.seen, |n| n.seen.min(leaf.seen));
        }
    }

    /// What the log is to remember of them.
    pub(crate) fn noted(&self) -> Noted {
        let note =
            |l: &Leaf| LeafNote { oid: l.oid, file: l.file, attached: l.attached, seen: l.seen };
        Noted { horizon: self.horizon, list: self.list.iter().map(note).collect() }
    }
}

/// Why a partition keeps its table, told apart by `key`, from being published.
pub(crate) fn fit(table: &Table, key: &[String]) -> Result<(), Unfit> {
    match table.leaves.list.iter().find_map(|leaf| leaf.misfit(table, key)) {
        Some(unfit) => Err(unfit),
        None => Ok(()),
    }
}

/// Whether being published would make the server refuse updates and deletes to whoever makes them,
/// or leave them out of the stream.
pub(crate) fn harms(table: &Table) -> bool {
    match table.key() {
        None => table.identity != 'f',
        Some(index) => {
            let key: Vec<_> = index.columns.iter().map(|(name, _)| name.clone()).collect();
            fit(table, &key).is_err()
        }
    }
}

/// Whether the stream's old rows of a partition hold the key. One without any replica identity has no
/// old rows in it.
pub(crate) fn relation_carries(relation: &Relation, key: &[String]) -> bool {
    let told = |name: &String| relation.columns.iter().any(|c| c.identity && c.name == *name);
    let none = !relation.columns.iter().any(|c| c.identity);
    relation.identity == b'f' || none || key.iter().all(told)
}

/// Whether a partition `i.inhrelid` was made as one. To attach a table writes down all of its columns
/// anew; what the system says of its own columns stays as it was made.
const BORN: &str = "EXISTS (SELECT FROM pg_attribute a JOIN pg_attribute s \
     ON s.attrelid = a.attrelid AND s.attnum = -1 \
     WHERE a.attrelid = i.inhrelid AND a.attnum > 0 AND NOT a.attisdropped \
       AND a.xmin = s.xmin AND a.cmin = s.cmin)";

/// A query's head that makes `tree (root, oid, way, born)` of all that is below partitioned tables,
/// which the query `roots` yields. It asks what the catalog says, under the query's own snapshot and
/// without a lock: a partition that somebody alters must not be waited for.
fn tree(roots: &str, born: &str) -> String {
    format!(
        "WITH RECURSIVE tree (root, oid, way, born) AS (\
           SELECT r.root, r.root, '', true FROM ({roots}) r (root) \
           UNION ALL \
           SELECT t.root, i.inhrelid, concat_ws(' ', t.way, i.inhrelid, i.xmin), t.born AND {born} \
           FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid AND NOT i.inhdetachpending)"
    )
}

/// A text that changes with anything that matters about the partitions of `c` in an outer query.
pub(crate) fn fingerprint() -> String {
    let tree = tree("SELECT c.oid WHERE c.relkind = 'p'", "true");
    format!(
        "({tree} SELECT md5(string_agg(concat_ws(' ', t.oid, t.way, l.relfilenode, l.relpersistence, \
                  l.relreplident, (SELECT string_agg(concat_ws(' ', x.indexrelid, x.indisprimary, \
                    x.indisreplident, x.indisvalid), ' ' ORDER BY x.indexrelid) FROM pg_index x \
                    WHERE x.indrelid = t.oid AND x.indisunique)), ',' ORDER BY t.oid)) \
         FROM tree t JOIN pg_class l ON l.oid = t.oid WHERE l.relkind <> 'p')"
    )
}

/// A question whose answer is yes while the server refuses updates or deletes of some of these tables
/// to whoever makes them.
pub(crate) fn refuses(tables: &[Table]) -> String {
    let oids = |kind: char| {
        let oids: Vec<_> =
            tables.iter().filter(|t| t.kind == kind).map(|t| t.oid.to_string()).collect();
        format!("SELECT unnest('{{{}}}'::oid[])", oids.join(","))
    };
    format!(
        "{} SELECT EXISTS (SELECT FROM ({} UNION ALL SELECT oid FROM tree) o (oid) \
           JOIN pg_class c ON c.oid = o.oid AND c.relkind = 'r' \
           WHERE c.relreplident = 'n' OR c.relreplident <> 'f' AND NOT EXISTS (\
             SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
               AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END))",
        tree(&oids('p'), "true"),
        oids('r')
    )
}

/// Adds to partitioned tables what their partitions are.
pub(crate) async fn fill(wire: &mut Wire, tables: &mut [Table]) -> Result<(), WireError> {
    let roots: Vec<_> =
        tables.iter().filter(|t| t.kind == 'p').map(|t| format!("({}::oid)", t.oid)).collect();
    if roots.is_empty() {
        return Ok(());
    }
    let tree = tree(&format!("VALUES {}", roots.join(",")), BORN);
    let sql = format!(
        "{tree} SELECT r.root, t.oid, n.nspname, l.relname, l.relreplident, \
                l.relpersistence = 'p', l.relfilenode, t.way, t.born, \
                pg_snapshot_xmin(pg_current_snapshot()), \
                pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'), \
                current_setting('server_version_num')::int < 150000 \
         FROM (SELECT DISTINCT root FROM tree) r \
         LEFT JOIN (tree t JOIN pg_class l ON l.oid = t.oid AND l.relkind <> 'p' \
              JOIN pg_namespace n ON n.oid = l.relnamespace) ON t.root = r.root \
         ORDER BY r.root, t.oid"
    );
    let rows = wire.query(&sql).await?;
    let mut indexes = indexes(wire, &tree).await?;
    let mut found: HashMap<u32, Leaves> = HashMap::new();
    for row in &rows {
        let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        let letter = |i| text(i).chars().next().unwrap_or(' ');
        let leaves = found.entry(text(0).parse().unwrap_or_default()).or_default();
        leaves.horizon = text(9).parse().unwrap_or_default();
        leaves.deaf = text(11) == "t";
        let Ok(oid) = text(1).parse() else { continue };
        leaves.list.push(Leaf {
            oid,
            file: text(6).parse().unwrap_or_default(),
            attached: xxh3_64(text(7).as_bytes()) as i64,
            born: text(8) == "t",
            seen: text(10).parse().unwrap_or_default(),
            schema: text(2),
            name: text(3),
            identity: letter(4),
            permanent: text(5) == "t",
            indexes: indexes.remove(&oid).unwrap_or_default(),
        });
    }
    for table in tables {
        table.leaves = found.remove(&table.oid).unwrap_or_default();
    }
    Ok(())
}

/// The indexes of partitions that may be a replica identity.
async fn indexes(wire: &mut Wire, tree: &str) -> Result<HashMap<u32, Vec<LeafIndex>>, WireError> {
    let sql = format!(
        "{tree} SELECT i.indrelid, i.indexrelid, c.relname, i.indisprimary, i.indisreplident, \
                a.attname, bool_and(a.attnotnull) OVER (PARTITION BY i.indexrelid) \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(att, place) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att \
         WHERE i.indrelid IN (SELECT oid FROM tree) AND i.indisunique AND i.indisvalid \
           AND i.indislive AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
           AND k.place <= i.indnkeyatts ORDER BY i.indrelid, i.indexrelid, k.place"
    );
    let mut found: HashMap<u32, Vec<LeafIndex>> = HashMap::new();
    let mut last = String::new();
    for row in wire.query(&sql).await? {
        let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        if text(6) != "t" {
            continue;
        }
        let indexes = found.entry(text(0).parse().unwrap_or_default()).or_default();
        if text(1) != last {
            last = text(1);
            let (primary, identity) = (text(3) == "t", text(4) == "t");
            indexes.push(LeafIndex { name: text(2), primary, identity, columns: vec![] });
        }
        if let Some(index) = indexes.last_mut() {
            index.columns.push(text(5));
        }
    }
    Ok(found)
}

/// Whether a partition has no rows, as far as the role may see.
pub(crate) async fn is_empty(wire: &mut Wire, leaf: &Leaf) -> Result<bool, WireError> {
    says_yes(wire, &format!("SELECT NOT EXISTS (SELECT FROM ONLY {})", leaf.sql())).await
}

/// Whether a query on one partition says yes. What the role may not read says nothing.
async fn says_yes(wire: &mut Wire, sql: &str) -> Result<bool, WireError> {
    match wire.query(sql).await {
        Ok(rows) => Ok(rows.first().and_then(|r| r.first()?.as_deref()) == Some("t")),
        Err(WireError::Server(error)) => {
            tracing::debug!(%error, "a partition cannot be looked at");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A partition by its number, as a query's `FROM` takes it; `None` when it is gone.
async fn by_oid(wire: &mut Wire, oid: u32) -> Result<Option<String>, WireError> {
    let sql = format!(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {}::oid",
        literal(&oid.to_string())
    );
    let rows = wire.query(&sql).await?;
    Ok(rows.into_iter().next().and_then(|r| r.into_iter().next().flatten()))
}
