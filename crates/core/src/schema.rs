//! What an entity's rows look like at their source.

use crate::EntityName;
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Identity of a schema by its content: equal schemas have equal ids, everywhere and for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u64);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a value means, independent of the product it comes from, with the text form in which
/// [`Value::Text`](crate::Value::Text) carries it. A sink of the same dialect uses the native type
/// instead and passes the text on untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `t` or `f`.
    Bool = 1,
    /// Decimal digits with an optional minus.
    Int16 = 2,
    /// As `Int16`.
    Int32 = 3,
    /// As `Int16`.
    Int64 = 4,
    /// Shortest decimal that reads back the same; `NaN`, `Infinity`, `-Infinity`.
    Float32 = 5,
    /// As `Float32`.
    Float64 = 6,
    /// Decimal digits with optional minus and point, scale kept; `NaN`, `Infinity`, `-Infinity`.
    Decimal = 7,
    /// The text itself.
    Text = 8,
    /// `\x` and two lower-case hex digits a byte.
    Bytes = 9,
    /// `2026-11-20`, `0044-03-15 BC`, `infinity`, `-infinity`.
    Date = 10,
    /// `24:00:00`, `12:34:56.789`.
    Time = 11,
    /// `12:34:56+02`.
    TimeTz = 12,
    /// `2026-11-20 12:34:56.789`, with ` BC`, `infinity`.
    Timestamp = 13,
    /// As `Timestamp` with `+00`.
    TimestampTz = 14,
    /// `1 mon -2 days +03:04:05`.
    Interval = 15,
    /// `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11`.
    Uuid = 16,
    /// JSON text.
    Json = 17,
    /// No declared type: the value's own storage class says what it is.
    Any = 18,
    /// A type only its own product knows; text that its product reads.
    Other = 19,
}

impl Kind {
    /// The kind with this number, as stored in logs.
    pub fn from_number(n: u8) -> Option<Self> {
        use Kind::{
            Any, Bool, Bytes, Date, Decimal, Float32, Float64, Int16, Int32, Int64, Interval, Json,
            Other, Text, Time, TimeTz, Timestamp, TimestampTz, Uuid,
        };
        [
            Bool,
            Int16,
            Int32,
            Int64,
            Float32,
            Float64,
            Decimal,
            Text,
            Bytes,
            Date,
            Time,
            TimeTz,
            Timestamp,
            TimestampTz,
            Interval,
            Uuid,
            Json,
            Any,
            Other,
        ]
        .into_iter()
        .find(|k| *k as u8 == n)
    }
}

/// One field of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// The column's name at the source.
    pub name: String,
    /// The source's own name of the type, with its modifiers, quoted so that the source reads it
    /// back: `numeric(10,2)`, `"Shop".mood`.
    pub native: String,
    /// What it means.
    pub kind: Kind,
    /// Its place in the key, from 0; `None` when it is no part of it.
    pub key: Option<u16>,
    /// The source never holds NULL here.
    pub not_null: bool,
    /// Text of the value that rows hold which were there before the column was added.
    pub fill: Option<String>,
}

/// A column that the source computes from others and does not send.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Generated {
    /// The column's name at the source.
    pub name: String,
    /// As [`Column::native`].
    pub native: String,
    /// The source's expression.
    pub expression: String,
}

/// The shape of an entity's rows, from one event on until the next schema of that entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Whose rows.
    pub entity: EntityName,
    /// Which product's types [`Column::native`] speaks of; sinks compare it with their own.
    pub dialect: Arc<str>,
    /// The fields, in the order values have in a row.
    pub columns: Vec<Column>,
    /// Columns a target that we create computes itself.
    pub generated: Vec<Generated>,
}

impl Schema {
    /// Identity by content.
    pub fn id(&self) -> SchemaId {
        let mut h = Xxh3::new();
        let mut text = |s: &str| {
            h.update(&(s.len() as u64).to_le_bytes());
            h.update(s.as_bytes());
        };
        text(self.entity.as_str());
        text(&self.dialect);
        for c in &self.columns {
            text(&c.name);
            text(&c.native);
            text(&format!("{} {:?} {} {:?}", c.kind as u8, c.key, c.not_null, c.fill));
        }
        for g in &self.generated {
            text("generated");
            text(&g.name);
            text(&g.native);
            text(&g.expression);
        }
        SchemaId(h.digest())
    }

    /// Indexes of the key's columns, in key order.
    pub fn key(&self) -> Vec<usize> {
        let mut key: Vec<_> =
            self.columns.iter().enumerate().filter_map(|(i, c)| Some((c.key?, i))).collect();
        key.sort_unstable();
        key.into_iter().map(|(_, i)| i).collect()
    }

    /// Index of the column with this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The computed column with this name.
    pub fn computed(&self, name: &str) -> Option<&Generated> {
        self.generated.iter().find(|g| g.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_reads_back_its_number() {
        for n in 0..=255 {
            if let Some(kind) = Kind::from_number(n) {
                assert_eq!(kind as u8, n);
            }
        }
        assert_eq!(Kind::from_number(Kind::Other as u8), Some(Kind::Other));
    }

    #[test]
    fn a_schema_keeps_its_id_from_release_to_release() {
        let schema = Schema {
            entity: "customer".parse().unwrap(),
            dialect: "test".into(),
            columns: vec![Column {
                name: "id".into(),
                native: "bigint".into(),
                kind: Kind::Int64,
                key: Some(0),
                not_null: true,
                fill: None,
            }],
            generated: vec![],
        };
        assert_eq!(schema.id(), schema.clone().id());
        let mut other = schema.clone();
        other.columns[0].native = "integer".into();
        assert_ne!(schema.id(), other.id());
    }
}
