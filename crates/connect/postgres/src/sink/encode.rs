//! Values on their way to the server, in one of three wrappings (a parameter, an element of an array
//! parameter, a field of `COPY`): as text, which the server's own input functions read, or as bytes.

use super::binary::Binary;
use bytes::{BufMut, BytesMut};
use rowcast_core::{Kind, Value};
use std::error::Error;
use std::fmt::{self, Write};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// How a column's values become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// They come from PostgreSQL: their text is passed on untouched.
    Native,
    /// They come from elsewhere and go into a `bytea` column.
    Bytes,
    /// They come from elsewhere and go into any other column.
    Foreign,
    /// They come from elsewhere and tell rows apart: of those that the column would take for the same
    /// value, one is taken.
    Key(Exact),
}

/// Which values of elsewhere stay apart in a key's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exact {
    /// 0 and 1: `boolean` reads `yes` and `on` as well.
    Bool,
    /// Integers, and with `text` their texts: `0x10` may be the number 16 too.
    Integer { text: bool },
    /// Numbers, and with `text` their texts.
    Number { text: bool },
    /// Numbers that a double holds, and with `text` their texts.
    Double { text: bool },
    /// Lower case, with hyphens.
    Uuid,
    /// Blobs.
    Blob,
    /// Texts, and numbers that no text is the same as.
    Any,
}

impl Exact {
    /// For a column of a key, with the meaning that its values have at the source; `None` when the
    /// column keeps apart whatever it takes.
    pub(super) fn of(kind: Kind, base: &str) -> Option<Self> {
        // Where any value may be, the number 1 and the text `1` are two.
        let text = kind != Kind::Any;
        Some(match (kind, base) {
            (_, "boolean") => Self::Bool,
            (_, "smallint" | "integer" | "bigint") => Self::Integer { text },
            (_, "numeric") => Self::Number { text },
            (_, "real" | "double precision") => Self::Double { text },
            (_, "uuid") => Self::Uuid,
            (_, "bytea") => Self::Blob,
            (Kind::Any, _) => Self::Any,
            _ => return None,
        })
    }

    fn takes(self, value: Value<'_>) -> bool {
        const WHOLE_MAX: u64 = 1 << 53;
        match (self, value) {
            (Self::Bool, Value::Integer(i)) => i == 0 || i == 1,
            (Self::Integer { .. }, Value::Integer(_)) => true,
            (Self::Integer { text: true }, Value::Text(t)) => is_number(t) && !t.contains(&b'.'),
            (Self::Number { .. }, Value::Integer(_) | Value::Real(_)) => true,
            (Self::Number { text: true }, Value::Text(t)) => is_number(t),
            (Self::Double { .. }, Value::Integer(i)) => i.unsigned_abs() <= WHOLE_MAX,
            (Self::Double { .. }, Value::Real(_)) => true,
            (Self::Double { text: true }, Value::Text(t)) => reads_as_real(t),
            (Self::Uuid, Value::Text(t)) => is_uuid(t),
            (Self::Blob, Value::Blob(_)) => true,
            (Self::Any, Value::Text(t)) => !reads_as_integer(t) && !reads_as_real(t),
            (Self::Any, Value::Integer(_) | Value::Real(_)) => true,
            _ => false,
        }
    }
}

fn is_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let points = digits.iter().filter(|b| **b == b'.').count();
    points <= 1 && digits.iter().all(|b| b.is_ascii_digit() || *b == b'.')
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Whether an integer would be written as this text.
fn reads_as_integer(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse::<i64>().is_ok_and(|i| i.to_string() == text)
}

/// Whether another number would be.
fn reads_as_real(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse::<f64>().is_ok_and(|r| real(r) == text)
}

/// Why a value cannot be written as text; says nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) &'static str);

/// Calls `then` with a value's text; `None` for NULL. An unchanged value is never asked for.
#[inline]
pub(super) fn with_text<R>(
    form: Form,
    value: Value<'_>,
    then: impl FnOnce(Option<&[u8]>) -> R,
) -> Result<R, Unfit> {
    let form = match form {
        Form::Key(exact) if !exact.takes(value) => {
            return Err(Unfit("a value of the key could be taken for another key in its column"));
        }
        Form::Key(Exact::Blob) => Form::Bytes,
        Form::Key(_) => Form::Foreign,
        form => form,
    };
    match (value, form) {
        (Value::Text(text), Form::Native) => Ok(then(Some(text))),
        (Value::Null | Value::Unchanged, _) => Ok(then(None)),
        (Value::Text(text), Form::Foreign) => {
            if text.contains(&0) {
                return Err(Unfit("a text holds a NUL byte, which PostgreSQL cannot store"));
            }
            match std::str::from_utf8(text) {
                Ok(_) => Ok(then(Some(text))),
                Err(_) => Err(Unfit("a text is not UTF-8")),
            }
        }
        (Value::Text(text), Form::Bytes) if is_hex(text) => Ok(then(Some(text))),
        (Value::Text(_) | Value::Integer(_) | Value::Real(_), Form::Bytes) => {
            Err(Unfit("a bytea column takes blobs only"))
        }
        (Value::Blob(_), Form::Foreign) => Err(Unfit("a blob needs a bytea column")),
        (Value::Blob(blob), Form::Bytes | Form::Native) => Ok(then(Some(&hex(blob)))),
        (Value::Integer(i), Form::Native | Form::Foreign) => {
            Ok(then(Some(i.to_string().as_bytes())))
        }
        (Value::Real(r), Form::Native | Form::Foreign) => Ok(then(Some(real(r).as_bytes()))),
        (_, Form::Key(_)) => Err(Unfit("a value of the key has no text")),
    }
}

fn is_hex(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"\\x");
    digits.is_some_and(|d| d.len() % 2 == 0 && d.iter().all(u8::is_ascii_hexdigit))
}

fn hex(blob: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(2 + blob.len() * 2);
    text.extend_from_slice(b"\\x");
    for byte in blob {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

/// The shortest text that reads back as the same number, with a point, so that an integer column
/// refuses it instead of taking it for an integer.
fn real(r: f64) -> String {
    if r.is_infinite() {
        return if r > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write!(text, "{r:?}");
    text
}

/// One text parameter, whatever the type the server takes it for.
pub(super) struct Param<'a>(Option<std::borrow::Cow<'a, [u8]>>);

impl<'a> Param<'a> {
    pub(super) fn new(form: Form, value: Value<'a>) -> Result<Self, Unfit> {
        match (value, form) {
            (Value::Text(text), Form::Native) => Ok(Self(Some(text.into()))),
            _ => with_text(form, value, |t| Self(t.map(|t| t.to_vec().into()))),
        }
    }
}

impl fmt::Debug for Param<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.put_slice(text);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// How a column's values of a whole set travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// A binary array of the column's own type.
    Binary(Binary),
    /// A binary `text[]`; the statement casts each element.
    Elements,
    /// The text of an array of the column's own type: for types whose cast from text does not do
    /// what reading them does. Holds what stands between two elements.
    Literal(u8),
}

const HEADER: usize = 20;
const TEXT_OID: u32 = 25;

/// One column's values of a set.
pub(super) struct ArrayParam {
    wire: Wire,
    buffer: Vec<u8>,
    rows: u32,
    nulls: bool,
}

impl ArrayParam {
    pub(super) fn new(wire: Wire, capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER + capacity);
        match wire {
            Wire::Binary(_) | Wire::Elements => buffer.resize(HEADER, 0),
            Wire::Literal(_) => buffer.push(b'{'),
        }
        Self { wire, buffer, rows: 0, nulls: false }
    }

    /// Says no when the text cannot travel as bytes.
    #[must_use]
    pub(super) fn push(&mut self, text: Option<&[u8]>) -> bool {
        self.rows += 1;
        match self.wire {
            Wire::Binary(binary) => {
                self.nulls |= text.is_none();
                return copy_bytes(binary, text, &mut self.buffer);
            }
            Wire::Elements => self.element(text),
            Wire::Literal(delimiter) => self.literal(text, delimiter),
        }
        true
    }

    fn element(&mut self, text: Option<&[u8]>) {
        match text {
            None => {
                self.nulls = true;
                self.buffer.extend_from_slice(&(-1i32).to_be_bytes());
            }
            Some(text) => {
                self.buffer.extend_from_slice(&(text.len() as u32).to_be_bytes());
                self.buffer.extend_from_slice(text);
            }
        }
    }

    fn literal(&mut self, text: Option<&[u8]>, delimiter: u8) {
        // This row is counted already.
        if self.rows > 1 {
            self.buffer.push(delimiter);
        }
        let Some(text) = text else { return self.buffer.extend_from_slice(b"NULL") };
        self.buffer.push(b'"');
        for &byte in text {
            if byte == b'"' || byte == b'\\' {
                self.buffer.push(b'\\');
            }
            self.buffer.push(byte);
        }
        self.buffer.push(b'"');
    }

    pub(super) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Ends the array; nothing may be pushed behind it.
    pub(super) fn finish(mut self) -> Self {
        let element = match self.wire {
            Wire::Literal(_) => {
                self.buffer.push(b'}');
                return self;
            }
            Wire::Binary(binary) => binary.oid(),
            Wire::Elements => TEXT_OID,
        };
        let head = [1, u32::from(self.nulls), element, self.rows, 1];
        for (at, word) in head.into_iter().enumerate() {
            self.buffer[at * 4..at * 4 + 4].copy_from_slice(&word.to_be_bytes());
        }
        self
    }
}

impl fmt::Debug for ArrayParam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "*** {} values", self.rows)
    }
}

impl ToSql for ArrayParam {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.buffer);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.wire {
            Wire::Binary(_) | Wire::Elements => Format::Binary,
            Wire::Literal(_) => Format::Text,
        }
    }

    to_sql_checked!();
}

/// Appends one value with its length before it, as `COPY`'s binary format and arrays have it. Says no
/// when the text cannot travel as bytes.
#[inline]
#[must_use]
pub(super) fn copy_bytes(binary: Binary, text: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    let Some(text) = text else {
        out.extend_from_slice(&(-1i32).to_be_bytes());
        return true;
    };
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    if binary.write(text, out).is_none() {
        return false;
    }
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    true
}

/// Appends one field in `COPY`'s text format.
#[inline]
pub(super) fn copy_field(text: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(mut rest) = text else { return out.extend_from_slice(b"\\N") };
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'\n' | b'\r' | b'\t')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(form: Form, value: Value<'_>) -> Result<Option<String>, Unfit> {
        with_text(form, value, |t| t.map(|t| String::from_utf8_lossy(t).into_owned()))
    }

    #[test]
    fn foreign_values_become_texts_that_read_back() {
        let good = |form, value| text(form, value).unwrap().unwrap();
        assert_eq!(good(Form::Foreign, Value::Integer(i64::MIN)), i64::MIN.to_string());
        assert_eq!(good(Form::Foreign, Value::Real(3.0)), "3.0");
        assert_eq!(good(Form::Foreign, Value::Real(f64::NEG_INFINITY)), "-Infinity");
        assert_eq!(good(Form::Foreign, Value::Real(5e-324)).parse::<f64>().unwrap(), 5e-324);
        assert_eq!(good(Form::Bytes, Value::Blob(&[0, 0xff])), "\\x00ff");
        assert_eq!(text(Form::Foreign, Value::Null), Ok(None));
    }

    #[test]
    fn what_would_be_mangled_is_refused() {
        assert!(text(Form::Foreign, Value::Text(b"a\0b")).is_err());
        assert!(text(Form::Foreign, Value::Text(b"\xff")).is_err());
        assert!(text(Form::Foreign, Value::Blob(b"x")).is_err());
        assert!(text(Form::Bytes, Value::Text(b"\\x1")).is_err());
        assert!(text(Form::Bytes, Value::Integer(1)).is_err());
    }

    #[test]
    fn an_array_as_text_has_a_delimiter_between_its_elements_only() {
        let literal = |delimiter, texts: &[Option<&str>]| {
            let mut array = ArrayParam::new(Wire::Literal(delimiter), 0);
            assert!(texts.iter().all(|text| array.push(text.map(str::as_bytes))));
            String::from_utf8(array.finish().buffer).unwrap()
        };
        assert_eq!(literal(b',', &[]), "{}");
        assert_eq!(literal(b',', &[Some("a")]), r#"{"a"}"#);
        assert_eq!(literal(b',', &[None, Some("a\"\\"), Some("")]), r#"{NULL,"a\"\\",""}"#);
        assert_eq!(literal(b';', &[Some("(1,1),(0,0)"), None]), r#"{"(1,1),(0,0)";NULL}"#);
    }

    #[test]
    fn a_copy_field_escapes_what_ends_a_field() {
        let mut out = Vec::new();
        copy_field(Some(b"a\tb\\.\n\r"), &mut out);
        copy_field(None, &mut out);
        assert_eq!(out, b"a\\tb\\\\.\\n\\r\\N");
    }
}
