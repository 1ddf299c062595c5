//! A target table as the server describes it.

use super::errors::Who;
use crate::connect::Session;
use rowcast_core::{Shape, SinkError, parse_path, quote};
use tokio_postgres::Row;

/// A table's name, taken apart. A name without a schema means `public`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) table: String,
}

impl TableName {
    /// The error says what is wrong with the name.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut parts = parse_path(text).map_err(|e| e.to_string())?;
        match (parts.pop(), parts.pop(), parts.pop()) {
            (Some(table), None, None) => Ok(Self { schema: "public".into(), table }),
            (Some(table), Some(schema), None) => Ok(Self { schema, table }),
            _ => Err("it has too many parts".into()),
        }
    }

    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// A column of a target table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// With modifiers: `numeric(10,2)`.
    pub(super) native: String,
    /// Without: what a value may be cast to before the column itself looks at it.
    pub(super) base: String,
    /// The type's number.
    pub(super) oid: u32,
    pub(super) not_null: bool,
    pub(super) has_default: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: takes no value of ours.
    pub(super) identity_always: bool,
    pub(super) generated: bool,
    /// What it is computed by.
    pub(super) expression: Option<String>,
    /// Reading a text as this type is not what a cast from text does.
    pub(super) cast_differs: bool,
    /// What stands between two elements of an array of this type.
    pub(super) delimiter: u8,
    /// Part of some unique or exclusion rule, as far as that shows.
    unique: bool,
    /// Where it stands in the table, for the keys.
    number: i16,
}

/// A unique key of a target table: its columns' names, each with its equality operator.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) columns: Vec<(String, String)>,
    /// The first of them for which different values can be equal.
    pub(super) coarse: Option<Coarse>,
}

/// A column of a key for which different values can be equal.
#[derive(Debug, Clone)]
pub(super) struct Coarse {
    pub(super) column: String,
    /// The nondeterministic collation of the column or of the index; without one, the index has an
    /// operator class with an equality of its own.
    pub(super) collation: Option<String>,
    /// The column itself has that collation.
    pub(super) by_column: bool,
}

/// A target table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) columns: Vec<Column>,
    pub(super) keys: Vec<Key>,
    /// Another table's foreign key refers to it, or we may not truncate it.
    pub(super) needs_delete: bool,
    /// `COPY` may write into it; row-level security forbids that.
    pub(super) copies: bool,
    /// Ourselves, quoted.
    pub(super) user: String,
    /// Rights on it that we lack.
    pub(super) lacks: Vec<&'static str>,
    pub(super) rows_estimate: f32,
}

const TABLE: &str = "
    SELECT c.oid, c.relkind::text, c.reltuples,
        EXISTS (SELECT FROM pg_constraint f
                WHERE f.contype = 'f' AND f.confrelid = c.oid AND f.conrelid <> c.oid)
            OR NOT has_table_privilege(c.oid, 'TRUNCATE'),
        has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
        has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'),
        NOT row_security_active(c.oid), quote_ident(current_user)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2";

const COLUMNS: &str = "
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, -1),
        a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attidentity = 'a',
        a.attgenerated <> '', a.attnum,
        t.typtype = 'd' OR EXISTS (
            SELECT FROM pg_cast k WHERE k.castsource = 'text'::regtype
            AND k.casttarget = t.oid AND k.castmethod = 'f'),
        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid
            AND (i.indisunique OR i.indisexclusion)
            AND (a.attnum = ANY (i.indkey) OR i.indexprs IS NOT NULL)),
        a.atttypid, t.typdelim,
        CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Keys that `ON CONFLICT` can go by, one row for each of their columns.
const KEYS: &str = "
    SELECT i.indexrelid, k.attnum, n.nspname::text, o.oprname::text, i.indnkeyatts,
        loose.collation, loose.by_column, NOT EXISTS (
            SELECT FROM pg_opclass d JOIN pg_amop e ON e.amopfamily = d.opcfamily
            WHERE d.opcmethod = 403 AND d.opcdefault AND d.opcintype = c.opcintype
            AND e.amopstrategy = 3 AND e.amopopr = o.oid)
    FROM pg_index i CROSS JOIN
        unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, place)
        JOIN pg_opclass c ON c.oid = k.opclass
        JOIN pg_amop a ON a.amopfamily = c.opcfamily AND a.amopmethod = 403
            AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype
            AND a.amopstrategy = 3
        JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
        LEFT JOIN LATERAL (
            SELECT quote_ident(s.nspname) || '.' || quote_ident(l.collname) AS collation,
                l.oid = t.attcollation AS by_column
            FROM pg_attribute t, pg_collation l JOIN pg_namespace s ON s.oid = l.collnamespace
            WHERE t.attrelid = i.indrelid AND t.attnum = k.attnum AND NOT l.collisdeterministic
            AND l.oid IN (t.attcollation, i.indcollation[(k.place - 1)::int])
            ORDER BY 2 DESC LIMIT 1) AS loose ON true
    WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
        AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
    ORDER BY i.indisprimary DESC, i.indexrelid, k.place";

impl Table {
    /// Looks a table up; `None` when it is not there.
    pub(super) async fn find(
        session: &Session,
        name: &TableName,
        who: &Who,
    ) -> Result<Option<Self>, SinkError> {
        let refused = |e| who.statement(&format!("looking at table {}", name.sql()), e);
        let found = session.query_opt(TABLE, &[&name.schema, &name.table]).await;
        let Some(row) = found.map_err(refused)? else { return Ok(None) };
        let (oid, kind): (u32, String) = (row.get(0), row.get(1));
        if !matches!(kind.as_str(), "r" | "p") {
            let what = "it is no table but a view, an index, a sequence or the like";
            return Err(who.schema(&name.sql(), what, "name another table in `into`"));
        }
        let columns = session.query(COLUMNS, &[&oid]).await.map_err(refused)?;
        let columns: Vec<_> = columns.iter().map(column).collect();
        let keys = keys(&session.query(KEYS, &[&oid]).await.map_err(refused)?, &columns);
        let rights = ["SELECT", "INSERT", "UPDATE", "DELETE"];
        let lacks = (4..).zip(rights).filter(|(i, _)| !row.get::<_, bool>(*i)).map(|(_, r)| r);
        Ok(Some(Self {
            oid,
            columns,
            keys,
            needs_delete: row.get(3),
            copies: row.get(8),
            user: row.get(9),
            lacks: lacks.collect(),
            rows_estimate: row.get(2),
        }))
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Whether a column belongs to any unique rule.
    pub(super) fn is_unique(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c.name == name && c.unique)
    }

    /// The unique key over exactly the shape's key columns, whatever their order.
    pub(super) fn key(&self, shape: &Shape) -> Option<&Key> {
        self.keys_over(shape).next()
    }

    /// All of these. `ON CONFLICT` goes by every one of them, whatever its collation.
    pub(super) fn keys_over(&self, shape: &Shape) -> impl Iterator<Item = &Key> {
        let wanted: Vec<_> = shape.key.iter().map(|&k| shape.columns[k].name.clone()).collect();
        self.keys.iter().filter(move |key| {
            key.columns.len() == wanted.len()
                && key.columns.iter().all(|(name, _)| wanted.contains(name))
        })
    }
}

fn column(row: &Row) -> Column {
    Column {
        name: row.get(0),
        native: row.get(1),
        base: row.get(2),
        not_null: row.get(3),
        has_default: row.get(4),
        identity_always: row.get(5),
        generated: row.get(6),
        number: row.get(7),
        cast_differs: row.get(8),
        unique: row.get(9),
        oid: row.get(10),
        delimiter: row.get::<_, i8>(11) as u8,
        expression: row.get(12),
    }
}

fn keys(rows: &[Row], columns: &[Column]) -> Vec<Key> {
    let mut keys: Vec<(u32, i16, Key)> = Vec::new();
    for row in rows {
        let index: u32 = row.get(0);
        let number: i16 = row.get(1);
        let (schema, operator): (String, String) = (row.get(2), row.get(3));
        let Some(column) = columns.iter().find(|c| c.number == number) else { continue };
        let operator = format!("OPERATOR({}.{operator})", quote(&schema));
        let (collation, odd): (Option<String>, bool) = (row.get(5), row.get(7));
        let coarse = (collation.is_some() || odd).then(|| Coarse {
            column: column.name.clone(),
            collation,
            by_column: row.get::<_, Option<bool>>(6).unwrap_or_default(),
        });
        let column = (column.name.clone(), operator);
        match keys.last_mut() {
            Some((last, _, key)) if *last == index => {
                key.columns.push(column);
                key.coarse = key.coarse.take().or(coarse);
            }
            _ => keys.push((index, row.get(4), Key { columns: vec![column], coarse })),
        }
    }
    // A column whose operator is not found is missing above: such a key is none of ours.
    let whole = keys.into_iter().filter(|(_, width, key)| key.columns.len() == *width as usize);
    whole.map(|(_, _, key)| key).collect()
}
