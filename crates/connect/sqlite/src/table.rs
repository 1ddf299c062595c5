//! What a table is: columns, key, unique rules. Read from SQLite's own pragmas.

use crate::types;
use rowcast_core::{Column, IdentError, parse_path};
use rusqlite::{Connection, Error, OptionalExtension};

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) declared: String,
    pub(crate) not_null: bool,
    /// Place in the primary key, from 0.
    pub(crate) key: Option<u16>,
    /// The default's expression.
    pub(crate) default: Option<String>,
    pub(crate) generated: bool,
}

/// A unique rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unique {
    pub(crate) name: String,
    /// Column and collation; `None` for an expression.
    pub(crate) columns: Vec<(Option<String>, String)>,
    /// The condition of a partial index.
    pub(crate) condition: Option<String>,
    pub(crate) primary: bool,
}

/// A table that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its name as SQLite has it.
    pub(crate) name: String,
    pub(crate) columns: Vec<TableColumn>,
    pub(crate) uniques: Vec<Unique>,
    pub(crate) without_rowid: bool,
    /// An ordinary table, not a view or a virtual one.
    pub(crate) ordinary: bool,
}

impl Table {
    /// The table with this name, as SQLite compares names.
    pub(crate) fn find(connection: &Connection, name: &str) -> Result<Option<Self>, Error> {
        let list = "SELECT name, type, wr, strict FROM pragma_table_list \
                    WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
        let found = connection.prepare_cached(list)?.query_row([name], |row| {
            let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
            Ok((name, kind, row.get(2)?, row.get::<_, bool>(3)?))
        });
        let Some((name, kind, without_rowid, strict)) = found.optional()? else { return Ok(None) };
        let mut columns = columns(connection, &name)?;
        // ANY keeps values as they are in a strict table only; everywhere, no type does.
        for column in
            columns.iter_mut().filter(|c| strict && c.declared.eq_ignore_ascii_case("ANY"))
        {
            column.declared.clear();
        }
        let uniques = uniques(connection, &name)?;
        Ok(Some(Self { name, columns, uniques, without_rowid, ordinary: kind == "table" }))
    }

    /// Names of ordinary tables that are neither SQLite's nor ours.
    pub(crate) fn names(connection: &Connection) -> Result<Vec<String>, Error> {
        let list = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
                    AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                    AND name NOT LIKE '\\_rowcast\\_%' ESCAPE '\\' ORDER BY name";
        connection.prepare(list)?.query_map([], |row| row.get(0))?.collect()
    }

    /// The column with this name, as SQLite compares names.
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// Columns of the primary key, in key order.
    pub(crate) fn key(&self) -> Vec<&TableColumn> {
        let mut key: Vec<_> = self.columns.iter().filter(|c| c.key.is_some()).collect();
        key.sort_by_key(|c| c.key);
        key
    }

    /// The key is the row's own number, which SQLite keeps an integer and never NULL.
    pub(crate) fn key_is_rowid(&self) -> bool {
        let primary = self.uniques.iter().any(|u| u.primary);
        !self.without_rowid && !primary && self.key().len() == 1
    }

    /// A name for the row's number that no column hides.
    pub(crate) fn rowid(&self) -> Option<&'static str> {
        let free = |name: &&&str| self.column(name).is_none();
        let names = ["rowid", "_rowid_", "oid"];
        if self.without_rowid { None } else { names.iter().find(free).copied() }
    }

    /// Collation that keeps two keys apart, per key column.
    pub(crate) fn key_collations(&self) -> Vec<String> {
        let primary = self.uniques.iter().find(|u| u.primary);
        let collation = |column: &&TableColumn| {
            let of = |u: &Unique| {
                let found = u.columns.iter().find(|(n, _)| n.as_deref() == Some(&column.name));
                found.map(|(_, collation)| collation.clone())
            };
            primary.and_then(of).unwrap_or_else(|| "BINARY".into())
        };
        self.key().iter().map(collation).collect()
    }

    /// About how many rows: exact while counting is cheap.
    pub(crate) fn rows_estimate(&self, connection: &Connection) -> Result<u64, Error> {
        const COUNTED: u64 = 100_000;
        let table = rowcast_core::quote(&self.name);
        let counted: i64 = connection.query_row(
            &format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {COUNTED})"),
            [],
            |row| row.get(0),
        )?;
        let counted = counted.unsigned_abs();
        let Some(rowid) = self.rowid().filter(|_| counted == COUNTED) else { return Ok(counted) };
        let highest = format!("SELECT max({rowid}) - min({rowid}) + 1 FROM {table}");
        let highest: Option<i64> = connection.query_row(&highest, [], |row| row.get(0))?;
        Ok(counted.max(highest.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)))
    }
}

impl TableColumn {
    /// The column as the rest of the world sees it; `key` is its place in the published key.
    pub(crate) fn published(&self, key: Option<u16>, never_null: bool) -> Column {
        Column {
            name: self.name.clone(),
            native: self.declared.clone(),
            kind: types::kind(&self.declared),
            key,
            not_null: self.not_null || never_null,
            fill: None,
        }
    }
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<TableColumn>, Error> {
    let list = "SELECT name, type, \"notnull\", pk, dflt_value, hidden \
                FROM pragma_table_xinfo(?1) WHERE hidden <> 1";
    let mut list = connection.prepare_cached(list)?;
    let columns = list.query_map([table], |row| {
        let key: u16 = row.get(3)?;
        let hidden: u8 = row.get(5)?;
        Ok(TableColumn {
            name: row.get(0)?,
            declared: declared(row.get(1)?, hidden > 1),
            not_null: row.get(2)?,
            key: key.checked_sub(1),
            default: row.get(4)?,
            generated: hidden > 1,
        })
    })?;
    columns.collect()
}

/// SQLite shows `GENERATED ALWAYS` as part of a generated column's type.
fn declared(shown: String, generated: bool) -> String {
    let bare = "GENERATED ALWAYS";
    let upper = shown.to_ascii_uppercase();
    match upper.strip_suffix(bare) {
        Some(rest) if generated => shown[..rest.len()].trim_end().to_string(),
        _ => shown,
    }
}

fn uniques(connection: &Connection, table: &str) -> Result<Vec<Unique>, Error> {
    let list = "SELECT l.name, l.origin, l.partial, m.sql FROM pragma_index_list(?1) l \
                LEFT JOIN sqlite_schema m ON m.type = 'index' AND m.name = l.name \
                WHERE l.\"unique\" ORDER BY l.name";
    let mut list = connection.prepare_cached(list)?;
    let found = list.query_map([table], |row| {
        let origin: String = row.get(1)?;
        let partial: bool = row.get(2)?;
        let sql: Option<String> = row.get(3)?;
        Ok(Unique {
            name: row.get(0)?,
            columns: Vec::new(),
            condition: if partial { sql.as_deref().and_then(condition) } else { None },
            primary: origin == "pk",
        })
    })?;
    let mut found = found.collect::<Result<Vec<_>, _>>()?;
    let parts = "SELECT cid, name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno";
    let mut parts = connection.prepare_cached(parts)?;
    for unique in &mut found {
        let columns = parts.query_map([&unique.name], |row| {
            let place: i64 = row.get(0)?;
            let name: Option<String> = row.get(1)?;
            Ok((name.filter(|_| place >= 0), row.get(2)?))
        })?;
        unique.columns = columns.collect::<Result<_, _>>()?;
    }
    Ok(found)
}

/// The condition of `CREATE UNIQUE INDEX … ON … (…) WHERE condition`.
fn condition(sql: &str) -> Option<String> {
    let mut depth = 0_u32;
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\'' | '"' | '`' => quoted(rest, c),
            '[' => rest.find(']')? + 1,
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/")? + 2,
            _ => c.len_utf8(),
        };
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return after_where(&rest[1..]);
                }
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    None
}

fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

fn after_where(text: &str) -> Option<String> {
    let at = text.to_ascii_uppercase().find("WHERE")?;
    Some(text[at + "WHERE".len()..].trim().to_string())
}

/// The table that a configuration means: `customer`, `"Odd.Name"` or `main.customer`.
pub(crate) fn named(text: &str) -> Result<Option<String>, IdentError> {
    let mut parts = parse_path(text)?;
    let main = parts.len() == 2 && parts[0].eq_ignore_ascii_case("main");
    Ok(if parts.len() == 1 || main { parts.pop() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_index_tells_its_condition() {
        let sql = "CREATE UNIQUE INDEX \"a(b\" ON t([x)], y) -- ) no\n WHERE y > ')' AND (x = 1)";
        assert_eq!(condition(sql).as_deref(), Some("y > ')' AND (x = 1)"));
        assert_eq!(condition("CREATE UNIQUE INDEX a ON t(x)"), None);
    }

    #[test]
    fn tables_tell_their_keys_and_rules() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT COLLATE NOCASE UNIQUE, \
             g INT GENERATED ALWAYS AS (id * 2) VIRTUAL); \
             CREATE TABLE w (a TEXT COLLATE NOCASE, b, PRIMARY KEY (b, a)) WITHOUT ROWID;",
        )
        .unwrap();
        let t = Table::find(&c, "T").unwrap().unwrap();
        assert!(t.key_is_rowid() && t.ordinary);
        assert_eq!(t.columns[2].declared, "INT");
        assert!(t.columns[2].generated);
        assert_eq!(t.uniques[0].columns, [(Some("u".into()), "NOCASE".into())]);
        let w = Table::find(&c, "w").unwrap().unwrap();
        assert!(w.without_rowid && !w.key_is_rowid());
        assert_eq!(w.key_collations(), ["BINARY", "NOCASE"]);
    }
}
