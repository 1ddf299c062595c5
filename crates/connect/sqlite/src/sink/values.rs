//! From a source's values to what SQLite stores.

use crate::types::DIALECT;
use rowcast_core::{Kind, Value};
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};

/// A value that a copy cannot hold; the kind says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) Kind);

/// What to store for `value`. Storage classes stay; text of another product becomes what its kind
/// means.
pub(crate) fn stored<'a>(
    value: Value<'a>,
    kind: Kind,
    dialect: &str,
) -> Result<ToSqlOutput<'a>, Unfit> {
    let text = match value {
        Value::Null | Value::Unchanged => return Ok(ToSqlOutput::Borrowed(ValueRef::Null)),
        Value::Integer(i) => return Ok(ToSqlOutput::Borrowed(ValueRef::Integer(i))),
        Value::Real(r) => return Ok(ToSqlOutput::Borrowed(ValueRef::Real(r))),
        Value::Blob(b) => return Ok(ToSqlOutput::Borrowed(ValueRef::Blob(b))),
        Value::Text(text) => text,
    };
    let as_is = Ok(ToSqlOutput::Borrowed(ValueRef::Text(text)));
    if dialect == DIALECT {
        return as_is;
    }
    let utf8 = || std::str::from_utf8(text).map_err(|_| Unfit(kind));
    match kind {
        Kind::Bool => match text {
            b"t" => Ok(ToSqlOutput::Borrowed(ValueRef::Integer(1))),
            b"f" => Ok(ToSqlOutput::Borrowed(ValueRef::Integer(0))),
            _ => Err(Unfit(kind)),
        },
        Kind::Int16 | Kind::Int32 | Kind::Int64 => {
            let number = utf8()?.parse().map_err(|_| Unfit(kind))?;
            Ok(ToSqlOutput::Borrowed(ValueRef::Integer(number)))
        }
        // SQLite turns NaN into NULL; as text it stays what it is.
        Kind::Float32 | Kind::Float64 if text == b"NaN" => as_is,
        Kind::Float32 | Kind::Float64 => {
            let number = utf8()?.parse().map_err(|_| Unfit(kind))?;
            Ok(ToSqlOutput::Borrowed(ValueRef::Real(number)))
        }
        Kind::Bytes => bytes(text).map(|b| ToSqlOutput::Owned(Owned::Blob(b))).ok_or(Unfit(kind)),
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
        | Kind::Any
        | Kind::Other => as_is,
    }
}

/// The bytes behind `\x00ff`.
fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"\\x")?;
    let digit = |d: u8| char::from(d).to_digit(16).map(|d| d as u8);
    let pairs = digits.chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let bytes = pairs.map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect();
    if whole { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_another_product_becomes_what_it_means() {
        let of = |text: &'static str, kind| stored(Value::Text(text.as_bytes()), kind, "other");
        let is = |v: ValueRef<'static>| Ok(ToSqlOutput::Borrowed(v));
        assert_eq!(of("t", Kind::Bool), is(ValueRef::Integer(1)));
        assert_eq!(of("-12", Kind::Int32), is(ValueRef::Integer(-12)));
        assert_eq!(of("1e-07", Kind::Float64), is(ValueRef::Real(1e-7)));
        assert_eq!(of("-Infinity", Kind::Float64), is(ValueRef::Real(f64::NEG_INFINITY)));
        assert_eq!(of("NaN", Kind::Float64), is(ValueRef::Text(b"NaN")));
        assert_eq!(of("10.50", Kind::Decimal), is(ValueRef::Text(b"10.50")));
        let blob = ToSqlOutput::Owned(Owned::Blob(vec![0, 255]));
        assert_eq!(of("\\x00ff", Kind::Bytes), Ok(blob));
        assert_eq!(of("\\x0", Kind::Bytes), Err(Unfit(Kind::Bytes)));
        assert_eq!(of("yes", Kind::Bool), Err(Unfit(Kind::Bool)));
    }
}
