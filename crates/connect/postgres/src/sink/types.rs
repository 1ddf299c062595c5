//! Which type a copy's column gets, and which an existing column must have. `docs/types.md` is the
//! published form of the tables here.

use rowcast_core::{Kind, Shape, ShapeColumn};

/// The dialect whose native types are ours.
pub(super) const DIALECT: &str = "postgres";

/// Whether the shape's values come from PostgreSQL.
pub(super) fn is_native(shape: &Shape) -> bool {
    &*shape.dialect == DIALECT
}

/// The type of a column that we create.
pub(super) fn created(shape: &Shape, column: &ShapeColumn) -> String {
    if is_native(shape) {
        return column.column.native.clone();
    }
    match column.column.kind {
        Kind::Bool => "boolean",
        Kind::Int16 => "smallint",
        Kind::Int32 => "integer",
        Kind::Int64 => "bigint",
        Kind::Float32 => "real",
        Kind::Float64 => "double precision",
        Kind::Decimal => "numeric",
        Kind::Bytes => "bytea",
        Kind::Date => "date",
        Kind::Time => "time without time zone",
        Kind::TimeTz => "time with time zone",
        Kind::Timestamp => "timestamp without time zone",
        Kind::TimestampTz => "timestamp with time zone",
        Kind::Interval => "interval",
        Kind::Uuid => "uuid",
        // `json` keeps the text as it is; `jsonb` would reorder keys.
        Kind::Json => "json",
        Kind::Text | Kind::Any | Kind::Other => "text",
    }
    .into()
}

/// Whether an existing column of type `target` can hold every value with the same text. Both in the
/// server's own spelling, with modifiers.
pub(super) fn takes(shape: &Shape, column: &ShapeColumn, target: &str) -> bool {
    if is_native(shape) {
        return takes_native(&column.column.native, target);
    }
    let wanted = created(shape, column);
    takes_native(&wanted, target)
        || matches!(
            (column.column.kind, target),
            (Kind::Int64 | Kind::Float64, "text" | "numeric")
                // An untyped column holds whatever it holds; each value is looked at when written.
                | (Kind::Any, "bytea" | "bigint" | "numeric" | "double precision" | "json")
        )
}

fn takes_native(source: &str, target: &str) -> bool {
    if source == target {
        return true;
    }
    let (from, from_size) = split(source);
    let (to, to_size) = split(target);
    match (from.as_str(), to.as_str()) {
        _ if from == to => wider(&from, &from_size, &to_size),
        ("smallint", "integer" | "bigint" | "numeric")
        | ("integer", "bigint" | "numeric")
        | ("bigint", "numeric")
        | ("real", "double precision")
        | ("jsonb", "json") => to_size.is_empty(),
        ("character varying", "text") => true,
        ("text", "character varying") => to_size.is_empty(),
        // As text a value reads as its type prints it; these print something else than their cast
        // to text gives.
        ("boolean" | "character" | "inet" | "cidr", "text" | "character varying") => false,
        (_, "text" | "character varying") => to_size.is_empty(),
        _ => false,
    }
}

/// Whether a type's modifiers leave at least as much room as before, and the same look.
fn wider(name: &str, from: &[i32], to: &[i32]) -> bool {
    match (name, from, to) {
        (_, _, []) => !matches!(name, "character" | "bit"),
        ("character varying" | "bit varying", [from], [to]) => from <= to,
        // Another scale prints other zeros.
        ("numeric", [precision, scale], [wider, same]) => precision <= wider && scale == same,
        (
            "timestamp without time zone"
            | "timestamp with time zone"
            | "time without time zone"
            | "time with time zone"
            | "interval",
            [from],
            [to],
        ) => from <= to,
        _ => false,
    }
}

/// Takes `numeric(10,2)` or `timestamp(3) with time zone` apart into name and modifiers. A quoted
/// name has none that we read.
fn split(native: &str) -> (String, Vec<i32>) {
    let whole = || (native.to_string(), Vec::new());
    if native.contains('"') || native.ends_with("[]") {
        return whole();
    }
    let Some((before, rest)) = native.split_once('(') else { return whole() };
    let Some((inside, after)) = rest.split_once(')') else { return whole() };
    let numbers: Result<Vec<i32>, _> = inside.split(',').map(|n| n.trim().parse()).collect();
    match numbers {
        Ok(numbers) => (format!("{before}{after}"), numbers),
        Err(_) => whole(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_may_be_wider_but_not_narrower_nor_of_another_family() {
        for (source, target) in [
            ("integer", "integer"),
            ("integer", "bigint"),
            ("smallint", "numeric"),
            ("character varying(10)", "character varying(20)"),
            ("character varying(10)", "text"),
            ("text", "character varying"),
            ("numeric(10,2)", "numeric(12,2)"),
            ("numeric(10,2)", "numeric"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("timestamp(3) without time zone", "timestamp(6) without time zone"),
            ("\"Shop\".mood", "\"Shop\".mood"),
            ("\"Shop\".mood", "text"),
            ("uuid", "text"),
        ] {
            assert!(takes_native(source, target), "{source} -> {target}");
        }
        for (source, target) in [
            ("bigint", "integer"),
            ("text", "character varying(10)"),
            ("character varying(20)", "character varying(10)"),
            ("numeric", "numeric(10,2)"),
            ("numeric(10,2)", "numeric(10,3)"),
            ("timestamp with time zone", "timestamp(3) with time zone"),
            ("timestamp with time zone", "timestamp without time zone"),
            ("json", "jsonb"),
            ("boolean", "text"),
            ("character(3)", "text"),
            ("character(3)", "character(5)"),
            ("bit(3)", "bit(4)"),
            ("integer", "text[]"),
            ("text", "integer"),
            ("integer", "character varying(3)"),
            ("numeric(10,2)[]", "numeric(12,2)[]"),
        ] {
            assert!(!takes_native(source, target), "{source} -> {target}");
        }
    }
}
