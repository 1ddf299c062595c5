//! Whether copies are what their source is, asked from the databases themselves: `rowcast verify` is
//! judged as well.

use crate::console::{Console, Dialect};
use crate::table::{Table, look, qualified};

/// A database to ask.
pub(crate) struct Side<'a> {
    pub(crate) console: &'a mut dyn Console,
    pub(crate) dialect: Dialect,
}

/// What differs between the source's tables and their copies, one line each. Nothing between
/// products, whose values have no common text: there only `rowcast verify` judges.
pub(crate) async fn differences(
    from: Side<'_>,
    to: Side<'_>,
    tables: &[Table],
) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    if from.dialect != to.dialect {
        return Ok(found);
    }
    for table in tables {
        let copies = look(to.console, to.dialect, &[table.copy()]).await?;
        let Some(copy) = copies.first() else {
            found.push(format!("{} does not exist", table.copy()));
            continue;
        };
        let has = |name: &str| copy.columns.iter().any(|c| c.name == name);
        let (carried, lacking): (Vec<_>, Vec<_>) = table.columns.iter().partition(|c| has(&c.name));
        // A computed column whose inputs the copy lacks is left out, and said.
        for column in lacking.iter().filter(|c| !c.computed) {
            found.push(format!("{} has no column {}", table.copy(), column.name));
        }
        let columns: Vec<_> = carried.iter().map(|c| c.name.as_str()).collect();
        let theirs = from.console.run(&rows(from.dialect, &table.name, &columns)).await?;
        let ours = to.console.run(&rows(to.dialect, &table.copy(), &columns)).await?;
        if theirs != ours {
            let only = |a: &[Vec<Option<String>>], b: &[Vec<Option<String>>]| {
                let keys = a.iter().filter(|row| !b.contains(row)).take(5);
                let keys = keys.map(|row| row[0].clone().unwrap_or_default());
                keys.collect::<Vec<_>>().join(", ")
            };
            found.push(format!(
                "{}: {} rows at the source, {} in the copy; keys {} differ at the source, {} in the copy",
                table.name,
                theirs.len(),
                ours.len(),
                only(&theirs, &ours),
                only(&ours, &theirs),
            ));
        }
    }
    Ok(found)
}

/// Every row as its key and one text for all columns.
fn rows(dialect: Dialect, table: &str, columns: &[&str]) -> String {
    let table = qualified(dialect, table);
    let text = |column: &&str| match dialect {
        Dialect::Postgres => format!("quote_nullable({column}::text)"),
        Dialect::Sqlite => format!("typeof({column}) || quote({column})"),
    };
    let all: Vec<_> = columns.iter().map(text).collect();
    let all = if all.is_empty() { "''".into() } else { all.join(" || ',' || ") };
    match dialect {
        Dialect::Postgres => format!("SELECT id::text, md5({all}) FROM {table} ORDER BY id"),
        Dialect::Sqlite => format!("SELECT CAST(id AS TEXT), {all} FROM {table} ORDER BY id"),
    }
}
