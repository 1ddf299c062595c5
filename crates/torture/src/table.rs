//! The tables that torture makes, and what the source's catalog says of them now.

use crate::console::{Console, Dialect};
use crate::value;
use rand::Rng;
use rand::rngs::StdRng;

/// Keys that rows have: few, so that they change often.
pub(crate) const KEYS: u32 = 400;
/// Rows of one partition.
const LEAF: u32 = 100;

/// A column beside the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) computed: bool,
}

/// A table at the source. Its key is `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The partitions it has by its first definition.
    pub(crate) leaves: Vec<String>,
}

impl Table {
    /// As SQL has it.
    pub(crate) fn sql(&self, dialect: Dialect) -> String {
        qualified(dialect, &self.name)
    }

    /// Columns that an application writes.
    pub(crate) fn plain(&self) -> Vec<&Column> {
        self.columns.iter().filter(|c| !c.computed).collect()
    }

    /// Its copy's name.
    pub(crate) fn copy(&self) -> String {
        format!("{}_copy", self.name)
    }
}

pub(crate) fn qualified(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("public.{name}"),
        Dialect::Sqlite => name.to_string(),
    }
}

/// Names of the tables of a run.
pub(crate) fn names(random: &mut StdRng) -> Vec<String> {
    let count = random.random_range(2..=5);
    (0..count).map(|i| format!("torture_{}", char::from(b'a' + i))).collect()
}

/// Statements that make a table.
pub(crate) fn create(dialect: Dialect, name: &str, random: &mut StdRng) -> Vec<String> {
    let table = qualified(dialect, name);
    let count = random.random_range(1..=7);
    let mut columns = vec!["id integer PRIMARY KEY".to_string()];
    columns.extend((0..count).map(|i| format!("c{i} {}", value::kind(dialect, random))));
    if random.random_range(0..3) == 0 {
        columns.push("g integer GENERATED ALWAYS AS (id % 1000 + 7) STORED".into());
    }
    let columns = columns.join(", ");
    if dialect == Dialect::Sqlite || random.random_range(0..3) > 0 {
        return vec![format!("CREATE TABLE {table} ({columns})")];
    }
    let mut all = vec![format!("CREATE TABLE {table} ({columns}) PARTITION BY RANGE (id)")];
    all.extend((0..KEYS / LEAF).map(|i| leaf(name, i)));
    all.push(format!("CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT"));
    all
}

/// The statement that makes a table's partition.
pub(crate) fn leaf(name: &str, number: u32) -> String {
    let (first, end) = (number * LEAF, (number + 1) * LEAF);
    format!(
        "CREATE TABLE public.{name}_p{number} PARTITION OF public.{name} \
         FOR VALUES FROM ({first}) TO ({end})"
    )
}

/// The values of a partition's key.
pub(crate) fn bounds(number: u32) -> String {
    format!("FOR VALUES FROM ({}) TO ({})", number * LEAF, (number + 1) * LEAF)
}

/// What there is of the tables now, as the catalog has it; tables that are away are left out.
pub(crate) async fn look(
    console: &mut dyn Console,
    dialect: Dialect,
    names: &[String],
) -> Result<Vec<Table>, String> {
    let mut tables = Vec::new();
    for name in names {
        let columns = console.run(&columns_of(dialect, name)).await?;
        let text = |row: &[Option<String>], i: usize| row[i].clone().unwrap_or_default();
        let column = |row: &Vec<Option<String>>| Column {
            name: text(row, 0),
            kind: text(row, 1),
            computed: text(row, 2) == "1",
        };
        let leaves = match dialect {
            Dialect::Postgres => console.run(&leaves_of(name)).await?,
            Dialect::Sqlite => Vec::new(),
        };
        if !columns.is_empty() {
            tables.push(Table {
                name: name.clone(),
                columns: columns.iter().map(column).filter(|c| c.name != "id").collect(),
                leaves: leaves.iter().map(|row| text(row, 0)).collect(),
            });
        }
    }
    Ok(tables)
}

fn columns_of(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Postgres => format!(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), \
                    (a.attgenerated <> '')::int::text \
             FROM pg_attribute a WHERE a.attrelid = to_regclass('public.{name}') \
               AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
        Dialect::Sqlite => {
            format!("SELECT name, type, hidden > 0 FROM pragma_table_xinfo('{name}') ORDER BY cid")
        }
    }
}

fn leaves_of(name: &str) -> String {
    format!(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = to_regclass('public.{name}') AND c.relname LIKE '%\\_p_' \
         ORDER BY c.relname"
    )
}
