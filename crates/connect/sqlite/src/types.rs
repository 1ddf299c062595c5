//! Declared types: what SQLite makes of them, and what they mean elsewhere. `docs/types-sqlite.md`
//! is this file for people.

use rowcast_core::Kind;

/// This product's name in [`Schema::dialect`](rowcast_core::Schema).
pub(crate) const DIALECT: &str = "sqlite";

/// What SQLite does to a value on its way into a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

/// SQLite's own rules, in its own order.
pub(crate) fn affinity(declared: &str) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |part: &str| declared.contains(part);
    if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || declared.trim().is_empty() {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// What a declared type means. Names that promise nothing SQLite keeps are [`Kind::Any`]: their
/// values' storage classes say what they are.
pub(crate) fn kind(declared: &str) -> Kind {
    let upper = declared.to_ascii_uppercase();
    let name = upper.split('(').next().unwrap_or_default().trim();
    let word = name.split_whitespace().next().unwrap_or_default();
    match word {
        "BOOL" | "BOOLEAN" => return Kind::Bool,
        "JSON" => return Kind::Json,
        "UUID" | "GUID" => return Kind::Uuid,
        // SQLite keeps whatever text, number or format the application chose.
        "DATE" | "TIME" | "DATETIME" | "TIMESTAMP" | "TIMESTAMPTZ" => return Kind::Text,
        "NUMERIC" | "DECIMAL" | "DEC" | "NUMBER" | "MONEY" => return Kind::Decimal,
        _ => {}
    }
    match affinity(declared) {
        Affinity::Integer => Kind::Int64,
        Affinity::Text => Kind::Text,
        Affinity::Real => Kind::Float64,
        Affinity::Blob if name.is_empty() => Kind::Any,
        Affinity::Blob => Kind::Bytes,
        Affinity::Numeric => Kind::Any,
    }
}

/// The type of a column that we make for a kind of another product. Text keeps what has no exact
/// counterpart here.
pub(crate) fn declared(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool | Kind::Int16 | Kind::Int32 | Kind::Int64 => "INTEGER",
        Kind::Float32 | Kind::Float64 => "REAL",
        Kind::Bytes => "BLOB",
        Kind::Any => "",
        Kind::Decimal
        | Kind::Text
        | Kind::Date
        | Kind::Time
        | Kind::TimeTz
        | Kind::Timestamp
        | Kind::TimestampTz
        | Kind::Interval
        | Kind::Uuid
        | Kind::Json
        | Kind::Other => "TEXT",
    }
}

/// Whether a column stores what another SQLite column holds in the same storage class.
pub(crate) fn keeps(source: Affinity, column: Affinity) -> bool {
    let whole = |a| matches!(a, Affinity::Integer | Affinity::Numeric);
    source == column || column == Affinity::Blob || (whole(source) && whole(column))
}

/// Whether values of `kind` would not come back as they went in: text that looks like a number
/// becomes one in a numeric column (`0123`, `1.50`), a typeless value takes the column's type.
pub(crate) fn mangles(kind: Kind, column: Affinity) -> bool {
    let numeric = matches!(column, Affinity::Integer | Affinity::Real | Affinity::Numeric);
    match kind {
        Kind::Text | Kind::Decimal | Kind::Json | Kind::Other | Kind::Uuid => numeric,
        Kind::Any => column != Affinity::Blob,
        Kind::Int16 | Kind::Int32 | Kind::Int64 => column == Affinity::Real,
        // As a text a number keeps 15 digits.
        Kind::Float32 | Kind::Float64 => column == Affinity::Text,
        Kind::Bool
        | Kind::Bytes
        | Kind::Date
        | Kind::Time
        | Kind::TimeTz
        | Kind::Timestamp
        | Kind::TimestampTz
        | Kind::Interval => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_mean_what_people_mean_by_them() {
        for (declared, means) in [
            ("INTEGER", Kind::Int64),
            ("bigint", Kind::Int64),
            ("VARCHAR(20)", Kind::Text),
            ("DECIMAL(10,2)", Kind::Decimal),
            ("double precision", Kind::Float64),
            ("BLOB", Kind::Bytes),
            ("Boolean", Kind::Bool),
            ("datetime", Kind::Text),
            ("timestamp with time zone", Kind::Text),
            ("json", Kind::Json),
            ("uuid", Kind::Uuid),
            ("", Kind::Any),
            ("STRING", Kind::Any),
        ] {
            assert_eq!(kind(declared), means, "{declared}");
        }
    }

    #[test]
    fn a_column_we_make_never_mangles_its_kind() {
        for n in 0..=255 {
            let Some(kind) = Kind::from_number(n) else { continue };
            assert!(!mangles(kind, affinity(declared(kind))), "{kind:?}");
        }
    }
}
