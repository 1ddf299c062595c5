//! From a source's value, or a literal's text, to a typed one.

use super::datum::Datum;
use super::decimal::Decimal;
use super::moment;
use super::node::Literal;
use crate::{Column, Kind, Value};
use std::borrow::Cow;

/// What a term's values are. Conditions are no terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Int,
    Decimal,
    Float32,
    Float64,
    Text,
    /// Text whose trailing blanks do not count.
    Padded,
    /// Text with an order of its own, which we do not know.
    Label,
    /// Text that compares without case.
    Caseless,
    Bytes,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Uuid,
    /// Whatever a value's storage class says.
    Any,
    /// Text that only its own product reads.
    Other,
    /// Equal values may have different texts.
    Opaque,
}

/// Types of text as they are declared, without lengths.
const PLAIN_TEXT: [&str; 17] = [
    "text",
    "character varying",
    "varchar",
    "name",
    "\"char\"",
    "varchar2",
    "nvarchar",
    "nvarchar2",
    "varying character",
    "nchar varying",
    "clob",
    "nclob",
    "tinytext",
    "mediumtext",
    "longtext",
    "ntext",
    "longvarchar",
];

impl Type {
    /// The type of a column; none for a boolean one.
    pub(super) fn of(column: &Column) -> Option<Self> {
        Some(match column.kind {
            Kind::Bool => return None,
            Kind::Int16 | Kind::Int32 | Kind::Int64 => Self::Int,
            Kind::Float32 => Self::Float32,
            Kind::Float64 => Self::Float64,
            Kind::Decimal => Self::Decimal,
            Kind::Text => Self::of_text(&column.native),
            Kind::Bytes => Self::Bytes,
            Kind::Date => Self::Date,
            Kind::Time => Self::Time,
            Kind::TimeTz => Self::TimeTz,
            Kind::Timestamp => Self::Timestamp,
            Kind::TimestampTz => Self::TimestampTz,
            Kind::Uuid => Self::Uuid,
            Kind::Any => Self::Any,
            Kind::Other => Self::Other,
            Kind::Interval | Kind::Json => Self::Opaque,
        })
    }

    fn of_text(native: &str) -> Self {
        let lower = native.to_ascii_lowercase();
        let name = lower.split('(').next().unwrap_or_default().trim();
        let last = name.rsplit('.').next().unwrap_or_default().trim_matches('"');
        if PLAIN_TEXT.contains(&name) {
            Self::Text
        } else if matches!(name, "character" | "char" | "bpchar" | "nchar" | "native character") {
            Self::Padded
        } else if last == "citext" {
            Self::Caseless
        } else if ["date", "time"].iter().any(|t| name.starts_with(t)) {
            // Declared so where nothing keeps values to it: text, or a number.
            Self::Any
        } else {
            Self::Label
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Decimal | Self::Float32 | Self::Float64)
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Padded | Self::Label | Self::Caseless)
    }

    pub(super) fn is_moment(self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::TimestampTz)
    }

    /// For messages: `it is …`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int => "an integer",
            Self::Decimal => "a decimal number",
            Self::Float32 | Self::Float64 => "a floating-point number",
            Self::Text | Self::Padded => "text",
            Self::Label => "text with an order of its own",
            Self::Caseless => "text that compares without case",
            Self::Bytes => "bytes",
            Self::Date => "a date",
            Self::Time => "a time",
            Self::TimeTz => "a time with a time zone",
            Self::Timestamp => "a timestamp",
            Self::TimestampTz => "a timestamp with a time zone",
            Self::Uuid => "a uuid",
            Self::Any => "a value of any type",
            Self::Other => "of a type that only its own database reads",
            Self::Opaque => "of a type whose equal values may be written differently",
        }
    }
}

impl Literal {
    /// The type of a literal with this type beside it; none for a boolean one.
    pub(super) fn as_type(self) -> Option<Type> {
        Some(match self {
            Self::Bool => return None,
            Self::Int => Type::Int,
            Self::Decimal => Type::Decimal,
            Self::Float32 => Type::Float32,
            Self::Float64 => Type::Float64,
            Self::Text => Type::Text,
            Self::Bytes => Type::Bytes,
            Self::Date => Type::Date,
            Self::Time => Type::Time,
            Self::TimeTz => Type::TimeTz,
            Self::Timestamp => Type::Timestamp,
            Self::TimestampTz => Type::TimestampTz,
            Self::Uuid => Type::Uuid,
        })
    }
}

/// The truth of a boolean column's value; the outer `None` when the row does not say it.
pub(super) fn truth(value: Value<'_>) -> Option<Option<bool>> {
    Some(match value {
        Value::Unchanged => return None,
        Value::Null | Value::Blob(_) => None,
        Value::Integer(i) => Some(i != 0),
        Value::Real(r) => Some(r != 0.0),
        Value::Text(text) => std::str::from_utf8(text).ok().and_then(boolean),
    })
}

/// A boolean as people write it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A row's value as its column's type has it. One that breaks the type keeps its storage class.
pub(super) fn load(value: Value<'_>, of: Type) -> Datum<'_> {
    match (value, of) {
        (Value::Null, _) => Datum::Null,
        (Value::Unchanged, _) => Datum::Unknown,
        (_, Type::Opaque) => Datum::Opaque,
        (Value::Integer(i), Type::Decimal) => Datum::Decimal(i.into()),
        (Value::Integer(i), Type::Float32 | Type::Float64) => Datum::Float(i as f64),
        (Value::Integer(i), _) => Datum::Int(i),
        (Value::Real(r), Type::Decimal) => decimal_of(r),
        (Value::Real(r), _) => Datum::Float(r),
        (Value::Blob(b), Type::Uuid) => {
            b.try_into().map_or(Datum::Bytes(Cow::Borrowed(b)), Datum::Uuid)
        }
        (Value::Blob(b), _) => Datum::Bytes(Cow::Borrowed(b)),
        (Value::Text(text), Type::Padded) => Datum::Text(Cow::Borrowed(text.trim_ascii_end())),
        (Value::Text(text), _) => {
            let read = std::str::from_utf8(text).ok().and_then(|t| read(t, of));
            read.unwrap_or(Datum::Text(Cow::Borrowed(text)))
        }
    }
}

/// A double that stands where decimals do is the shortest decimal that reads back the same.
fn decimal_of(real: f64) -> Datum<'static> {
    Decimal::parse(&real.to_string()).map_or(Datum::Float(real), Datum::Decimal)
}

/// A text as a value of a type; `None` when it is none, or the type's values are their text.
fn read(text: &str, of: Type) -> Option<Datum<'static>> {
    Some(match of {
        Type::Int => Datum::Int(text.parse().ok()?),
        Type::Decimal => Datum::Decimal(Decimal::parse(text)?),
        Type::Float32 => Datum::Float(text.parse::<f32>().ok()?.into()),
        Type::Float64 => Datum::Float(text.parse().ok()?),
        Type::Bytes => Datum::Bytes(Cow::Owned(hex(text.strip_prefix("\\x")?)?)),
        Type::Date => Datum::Moment(moment::date(text)?),
        Type::Time => Datum::Moment(moment::time(text)?),
        Type::TimeTz => {
            let (micros, west) = moment::time_tz(text)?;
            Datum::Zoned(micros, west)
        }
        Type::Timestamp => Datum::Moment(moment::timestamp(text)?),
        Type::TimestampTz => Datum::Moment(moment::timestamp_tz(text)?),
        Type::Uuid => Datum::Uuid(uuid(text)?),
        Type::Text
        | Type::Padded
        | Type::Label
        | Type::Caseless
        | Type::Any
        | Type::Other
        | Type::Opaque => return None,
    })
}

/// A literal's text as a value of a type; `None` when it is none.
pub(super) fn literal(text: &str, of: Type) -> Option<Datum<'static>> {
    match of {
        Type::Text | Type::Label | Type::Caseless | Type::Any | Type::Other => {
            Some(Datum::Text(Cow::Owned(text.into())))
        }
        Type::Padded => Some(Datum::Text(Cow::Owned(text.trim_ascii_end().into()))),
        Type::Opaque => None,
        _ => read(text.trim(), of),
    }
}

/// The bytes behind hex digits.
pub(super) fn hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |d: u8| char::from(d).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    hex(&text.replace('-', ""))?.try_into().ok()
}
