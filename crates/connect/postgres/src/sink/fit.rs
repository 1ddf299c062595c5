//! Does a table fit a shape? The answer is a list of what does not, each with what to do about it, for
//! the sink (which stops at the first) and for `rowcast check` (which shows them all).

use super::table::{Coarse, Table, TableName};
use super::types;
use rowcast_core::{Computed, Generated, Kind, Shape, ShapeColumn, quote};

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) what: String,
    pub(super) help: String,
    /// Statements that mend it, and whether they may be run without asking.
    pub(super) fix: Option<(bool, Vec<String>)>,
}

/// The statement that makes a shape's table. Only key columns are NOT NULL (as the primary key makes
/// them): a column that is NOT NULL at its source may be dropped or loosened there later, and the
/// copy's rows have to follow.
pub(super) fn create(shape: &Shape, name: &TableName) -> String {
    let mut parts: Vec<_> = shape
        .columns
        .iter()
        .map(|c| format!("{} {}", quote(&c.name), types::created(shape, c)))
        .collect();
    let key: Vec<_> = shape.key.iter().map(|&k| quote(&shape.columns[k].name)).collect();
    parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    format!("CREATE TABLE IF NOT EXISTS {} ({})", name.sql(), parts.join(", "))
}

/// A shape for a build table: it may be made, and each of its columns has the type of the copy's
/// own, where that takes the values, so that the swap casts nothing.
pub(super) fn for_build(shape: &Shape, live: Option<&Table>) -> Shape {
    let mut build = Shape { create: true, all_fields: true, ..shape.clone() };
    build.generated.clear();
    if !types::is_native(shape) {
        return build;
    }
    for column in &mut build.columns {
        let there = live.and_then(|t| t.column(&column.name));
        if let Some(there) = there.filter(|t| types::takes(shape, column, &t.native)) {
            column.column.native = there.native.clone();
        }
    }
    build
}

/// Statements in a block that goes without them when they meet one of these conditions.
pub(super) fn block(sql: &str, conditions: &str) -> String {
    let mut tag = String::from("$rowcast$");
    while sql.contains(&tag) {
        tag.insert(1, 'x');
    }
    format!("DO {tag} BEGIN {sql}; EXCEPTION WHEN {conditions} THEN NULL; END {tag}")
}

/// The statements that give a build table's columns the types that this shape has, or the copy's own
/// where those take the values, so that the swap casts nothing.
pub(super) fn retypes(
    shape: &Shape,
    name: &TableName,
    (table, copy): (&Table, Option<&Table>),
) -> Vec<String> {
    let retype = |column: &ShapeColumn| {
        let there = table.column(&column.name)?;
        let copied = copy.and_then(|copy| copy.column(&column.name)).map(|c| &c.native);
        let copied = copied.filter(|native| types::takes(shape, column, native)).cloned();
        let wanted = copied.unwrap_or_else(|| types::created(shape, column));
        let quoted = quote(&column.name);
        (there.native != wanted).then(|| {
            format!(
                "ALTER TABLE {} ALTER COLUMN {quoted} TYPE {wanted} USING {quoted}::{wanted}",
                name.sql()
            )
        })
    };
    shape.columns.iter().filter_map(retype).collect()
}

/// The statement that adds a column which the source computes. It fails when the copy lacks one of
/// the columns it is computed from.
pub(super) fn add_generated(name: &TableName, generated: &Generated) -> String {
    format!("ALTER TABLE {} {}", name.sql(), adding(generated))
}

fn adding(generated: &Generated) -> String {
    format!(
        "ADD COLUMN {} {} GENERATED ALWAYS AS ({}) STORED",
        quote(&generated.name),
        generated.native,
        generated.expression
    )
}

/// The statement that makes a copy's column one that the copy computes as the source does.
pub(super) fn compute(name: &TableName, generated: &Generated) -> String {
    let column = quote(&generated.name);
    format!("ALTER TABLE {} DROP COLUMN {column}, {}", name.sql(), adding(generated))
}

/// What a copy makes of a column that the source computes, from the type and the expression that the
/// copy's column has. Expressions are compared as servers print them, which all supported versions do
/// alike.
pub(super) fn computed(generated: &Generated, there: Option<(&str, Option<&str>)>) -> Computed {
    match there {
        None => Computed::Missing,
        Some((_, None)) => Computed::Plain,
        Some((native, Some(by))) if native == generated.native && by == generated.expression => {
            Computed::Alike
        }
        Some((native, Some(by))) => Computed::Otherwise(format!("{native} AS {by}")),
    }
}

/// The same of a table.
pub(super) fn computed_by(table: &Table, generated: &Generated) -> Computed {
    let there = table.column(&generated.name);
    computed(generated, there.map(|c| (c.native.as_str(), c.expression.as_deref())))
}

fn plain(generated: &Generated, name: &TableName) -> Misfit {
    Misfit {
        what: format!(
            "its column {:?} is a plain one, but the source computes it and does not send it, so \
             the copy would hold NULL",
            generated.name
        ),
        help:
            "let the copy compute it as well; or name the wanted fields, without this one, in the \
               subscription's `fields`"
                .into(),
        fix: Some((false, vec![compute(name, generated)])),
    }
}

/// The statements that add a column, with the value that older rows have at the source.
fn add_column(shape: &Shape, name: &TableName, column: &ShapeColumn) -> Vec<String> {
    let (table, quoted) = (name.sql(), quote(&column.name));
    let native = types::created(shape, column);
    let mut statements = Vec::new();
    match &column.column.fill {
        None => statements.push(format!("ALTER TABLE {table} ADD COLUMN {quoted} {native}")),
        Some(fill) => {
            let fill = fill.replace('\'', "''");
            let escaped = fill.contains('\\');
            let fill = if escaped { fill.replace('\\', "\\\\") } else { fill };
            let e = if escaped { "E" } else { "" };
            statements.push(format!(
                "ALTER TABLE {table} ADD COLUMN {quoted} {native} DEFAULT {e}'{fill}'"
            ));
            statements.push(format!("ALTER TABLE {table} ALTER COLUMN {quoted} DROP DEFAULT"));
        }
    }
    statements
}

/// Statements that bring a table up to a shape that takes all fields, for columns that came later.
pub(super) fn additions(shape: &Shape, name: &TableName, table: &Table) -> Vec<String> {
    if !(shape.all_fields && shape.create) {
        return Vec::new();
    }
    let missing = shape.columns.iter().filter(|c| table.column(&c.name).is_none());
    missing.flat_map(|c| add_column(shape, name, c)).collect()
}

/// Everything that keeps a table from taking a shape's rows.
pub(super) fn misfits(shape: &Shape, name: &TableName, table: &Table) -> Vec<Misfit> {
    let mut misfits: Vec<_> =
        shape.columns.iter().filter_map(|c| column_misfit(shape, name, table, c)).collect();
    let columns_there = shape.key.iter().all(|&k| table.column(&shape.columns[k].name).is_some());
    if columns_there && table.key(shape).is_none() {
        misfits.push(no_key(shape, name));
    }
    let uncomputed = shape.generated.iter().filter(|g| computed_by(table, g) == Computed::Plain);
    misfits.extend(uncomputed.map(|g| plain(g, name)));
    misfits.extend(coarse_key(shape, name, table));
    for extra in &table.columns {
        let ours = shape.columns.iter().any(|c| c.name == extra.name);
        if !ours && extra.not_null && !extra.has_default && !extra.generated {
            let (table, column) = (name.sql(), quote(&extra.name));
            misfits.push(Misfit {
                what: format!(
                    "its column {:?} must not be null, has no default, and is not among the \
                     subscribed fields",
                    extra.name
                ),
                help: "give it a default, or let it be null".into(),
                fix: Some((
                    false,
                    vec![format!("ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")],
                )),
            });
        }
    }
    misfits
}

fn column_misfit(
    shape: &Shape,
    name: &TableName,
    table: &Table,
    column: &ShapeColumn,
) -> Option<Misfit> {
    let (sql, quoted) = (name.sql(), quote(&column.name));
    let Some(there) = table.column(&column.name) else {
        return Some(Misfit {
            what: format!("it has no column {:?}", column.name),
            help: "add the column, or take the field out of the subscription's `fields`; rows \
                   that are there already do not get its values by that"
                .into(),
            fix: Some((false, add_column(shape, name, column))),
        });
    };
    let alter = |what: String, help: &str, change: String| {
        let statement = format!("ALTER TABLE {sql} ALTER COLUMN {quoted} {change}");
        Some(Misfit { what, help: help.into(), fix: Some((false, vec![statement])) })
    };
    if there.generated {
        return alter(
            format!("its column {:?} is computed by the table itself", column.name),
            "take the field out of the subscription's `fields`, or make it a plain column; one that \
             is not stored has to be dropped and added again",
            "DROP EXPRESSION".into(),
        );
    }
    if there.identity_always {
        return alter(
            format!("its column {:?} is GENERATED ALWAYS AS IDENTITY", column.name),
            "let it take the source's values",
            "SET GENERATED BY DEFAULT".into(),
        );
    }
    if types::takes(shape, column, &there.native) {
        return None;
    }
    let wanted = types::created(shape, column);
    alter(
        format!(
            "its column {:?} is {}, which does not hold every {} of the source unchanged",
            column.name, there.native, column.column.native
        ),
        "give the copy's column the source's type (docs/types.md lists the others that fit)",
        format!("TYPE {wanted} USING {quoted}::{wanted}"),
    )
}

/// A key by which two rows of the source can be one: they would overwrite each other, and a delete of
/// one would take both.
pub(super) fn coarse_key(shape: &Shape, name: &TableName, table: &Table) -> Option<Misfit> {
    let text = |column: &str| {
        let of = shape.columns.iter().find(|c| c.name == column);
        // A number, a date and the like are written in one way only.
        of.is_some_and(|c| matches!(c.column.kind, Kind::Text | Kind::Any | Kind::Other))
    };
    let mut coarse = table.keys_over(shape).filter_map(|key| key.coarse.as_ref());
    let Coarse { column, collation, by_column } = coarse.find(|c| text(&c.column))?;
    let there = table.column(column)?;
    let by = match collation {
        Some(collation) => format!("the nondeterministic collation {collation}"),
        None => "an operator class with an equality of its own".into(),
    };
    let what = format!(
        "its key compares {column:?} by {by}, so two rows with different keys at the source, such \
         as 'abc' and 'ABC', may be one row here"
    );
    let alter = format!(
        "ALTER TABLE {} ALTER COLUMN {} TYPE {} COLLATE pg_catalog.\"default\"",
        name.sql(),
        quote(column),
        there.native
    );
    let help = if *by_column {
        "give the column a deterministic collation, then have the copy built again with `rowcast \
         replay`: rows may be missing from it already"
    } else {
        "drop that unique index, or make it one over an expression such as lower(…); then have the \
         copy built again with `rowcast replay`: rows may be missing from it already"
    };
    Some(Misfit { what, help: help.into(), fix: by_column.then(|| (false, vec![alter])) })
}

fn no_key(shape: &Shape, name: &TableName) -> Misfit {
    let key: Vec<_> = shape.key.iter().map(|&k| quote(&shape.columns[k].name)).collect();
    let key = key.join(", ");
    Misfit {
        what: format!("it has no primary key or unique index over exactly ({key})"),
        help: "add one; it must not be partial, deferrable or temporal (WITHOUT OVERLAPS)".into(),
        fix: Some((false, vec![format!("ALTER TABLE {} ADD UNIQUE ({key})", name.sql())])),
    }
}
