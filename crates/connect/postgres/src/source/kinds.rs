//! Which meaning a PostgreSQL type has for other databases. A domain means what its base means.

use rowcast_core::Kind;

/// SQL that tells a type apart, for a query that has `pg_type t` and [`JOINS`]: oid of the base
/// type, its `typtype`, its name. Domains over domains are looked through twice.
pub(super) const COLUMNS: &str = "coalesce(b2.oid, b1.oid, t.oid), \
     coalesce(b2.typtype, b1.typtype, t.typtype), coalesce(b2.typname, b1.typname, t.typname)";

/// What [`COLUMNS`] needs.
pub(super) const JOINS: &str = "\
     LEFT JOIN pg_type b1 ON t.typtype = 'd' AND b1.oid = t.typbasetype \
     LEFT JOIN pg_type b2 ON b1.typtype = 'd' AND b2.oid = b1.typbasetype ";

/// The meaning of a type.
pub(super) fn kind(oid: u32, typtype: &str, name: &str) -> Kind {
    match oid {
        16 => Kind::Bool,
        17 => Kind::Bytes,
        21 => Kind::Int16,
        23 => Kind::Int32,
        // An oid does not fit a signed 32-bit integer.
        20 | 26 => Kind::Int64,
        700 => Kind::Float32,
        701 => Kind::Float64,
        1700 => Kind::Decimal,
        18 | 19 | 25 | 1042 | 1043 => Kind::Text,
        114 | 3802 => Kind::Json,
        1082 => Kind::Date,
        1083 => Kind::Time,
        1266 => Kind::TimeTz,
        1114 => Kind::Timestamp,
        1184 => Kind::TimestampTz,
        1186 => Kind::Interval,
        2950 => Kind::Uuid,
        _ if typtype == "e" || name == "citext" => Kind::Text,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_nobody_else_has_stays_its_own() {
        assert_eq!(kind(869, "b", "inet"), Kind::Other);
        assert_eq!(kind(1007, "b", "_int4"), Kind::Other);
        assert_eq!(kind(99_999, "e", "mood"), Kind::Text);
        assert_eq!(kind(99_998, "b", "citext"), Kind::Text);
        assert_eq!(kind(26, "b", "oid"), Kind::Int64);
    }
}
