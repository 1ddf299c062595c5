//! An event as a CloudEvent 1.0 in JSON. Written straight into the text, so that values keep the
//! digits and the form that their source gave them.

use super::time::rfc3339;
use rowcast_core::{Batch, Column, Event, Kind, Op, Row, Schema, ServiceName, Transaction, Value};
use serde::Serialize;
use serde::de::IgnoredAny;

/// One event of a service as a CloudEvent, on one line. Values:
///
/// - booleans, integers, floats and JSON are JSON, with the source's own digits;
/// - everything else is text: decimals, which most readers of JSON would round, times, bytes as `\x`
///   and hexadecimal digits; and what JSON has no number for, such as `NaN`;
/// - NULL is `null`; a field that the source did not send because it did not change is left out.
pub fn cloud_event(
    service: &ServiceName,
    offset: u64,
    batch: &Batch,
    event: &Event,
    at: &Transaction,
) -> String {
    let mut text = Vec::with_capacity(256);
    write_event(&mut text, service, offset, batch, event, at);
    String::from_utf8(text).expect("all that is written is UTF-8")
}

pub(crate) fn write_event(
    out: &mut Vec<u8>,
    service: &ServiceName,
    offset: u64,
    batch: &Batch,
    event: &Event,
    at: &Transaction,
) {
    let schema = batch.schema(event);
    let mut object = Object::begin(out);
    object.text("specversion", "1.0");
    object.text("id", &format!("{service}/{offset}"));
    object.text("source", &format!("/rowcast/{service}"));
    object.text("type", &format!("rowcast.{}.{}", schema.entity, event.op.name()));
    let (before, after) = (batch.before(event), batch.after(event));
    let row = if after.0.is_empty() { before } else { after };
    let subject = subject(schema, row);
    if !subject.is_empty() {
        object.text("subject", &subject);
    }
    object.text("time", &rfc3339(at.committed, 6));
    // Texts, because a number among the attributes has no more than 32 bits.
    object.text("offset", &offset.to_string());
    object.text("position", &at.at.to_string());
    if event.op == Op::Update && !before.0.is_empty() {
        object.text("oldkey", &self::subject(schema, before));
    }
    match event.op {
        Op::Create | Op::Update | Op::Read | Op::Delete => {
            object.text("datacontenttype", "application/json");
            fields(object.value("data"), schema, row);
        }
        Op::Schema => {
            object.text("datacontenttype", "application/json");
            columns(object.value("data"), schema);
        }
        Op::Truncate | Op::Complete | Op::End => {}
    }
    object.end();
}

/// The values of the key, with what could be mistaken for their separator written as in a URL.
fn subject(schema: &Schema, row: Row<'_>) -> String {
    let mut parts: Vec<(u16, String)> = schema
        .columns
        .iter()
        .zip(row.values().map_while(Result::ok))
        .filter_map(|(column, value)| Some((column.key?, plain(value))))
        .collect();
    parts.sort_by_key(|(place, _)| *place);
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join("/")
}

fn plain(value: Value<'_>) -> String {
    let text = match value {
        Value::Null | Value::Unchanged => return String::new(),
        Value::Integer(i) => return i.to_string(),
        Value::Real(r) => return real(r),
        Value::Blob(bytes) => return hex(bytes),
        Value::Text(bytes) => String::from_utf8_lossy(bytes),
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => out.push_str("%25"),
            '/' => out.push_str("%2F"),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                c.encode_utf8(&mut bytes).bytes().for_each(|b| out.push_str(&format!("%{b:02X}")));
            }
            c => out.push(c),
        }
    }
    out
}

fn fields(out: &mut Vec<u8>, schema: &Schema, row: Row<'_>) {
    let mut object = Object::begin(out);
    for (column, value) in schema.columns.iter().zip(row.values().map_while(Result::ok)) {
        if value != Value::Unchanged {
            json_value(object.value(&column.name), column, value);
        }
    }
    object.end();
}

fn columns(out: &mut Vec<u8>, schema: &Schema) {
    #[derive(Serialize)]
    struct Field<'a> {
        name: &'a str,
        r#type: &'a str,
        key: Option<u16>,
    }
    let field =
        |c: &Column| serde_json::json!(Field { name: &c.name, r#type: &c.native, key: c.key });
    let fields: Vec<_> = schema.columns.iter().map(field).collect();
    write_json(out, &serde_json::json!({ "fields": fields }));
}

fn json_value(out: &mut Vec<u8>, column: &Column, value: Value<'_>) {
    match value {
        Value::Null | Value::Unchanged => out.extend_from_slice(b"null"),
        Value::Integer(i) => write_json(out, &i),
        Value::Real(r) if r.is_finite() => write_json(out, &r),
        Value::Real(r) => write_json(out, &real(r)),
        Value::Blob(bytes) => write_json(out, &hex(bytes)),
        Value::Text(bytes) => text_value(out, column.kind, &String::from_utf8_lossy(bytes)),
    }
}

fn text_value(out: &mut Vec<u8>, kind: Kind, text: &str) {
    match kind {
        Kind::Bool if text == "t" => out.extend_from_slice(b"true"),
        Kind::Bool if text == "f" => out.extend_from_slice(b"false"),
        Kind::Int16 | Kind::Int32 | Kind::Int64 | Kind::Float32 | Kind::Float64
            if is_number(text) =>
        {
            out.extend_from_slice(text.as_bytes());
        }
        Kind::Json if is_json(text) => {
            // Only the space between tokens may hold line ends, and there a blank is as good.
            out.extend(text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
        }
        Kind::Bool
        | Kind::Int16
        | Kind::Int32
        | Kind::Int64
        | Kind::Float32
        | Kind::Float64
        | Kind::Json
        | Kind::Decimal
        | Kind::Text
        | Kind::Bytes
        | Kind::Date
        | Kind::Time
        | Kind::TimeTz
        | Kind::Timestamp
        | Kind::TimestampTz
        | Kind::Interval
        | Kind::Uuid
        | Kind::Any
        | Kind::Other => write_json(out, text),
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        && is_json(text)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Reals that are no JSON number have the names that texts of floats have.
fn real(r: f64) -> String {
    match r {
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        r => r.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    let mut out = String::with_capacity(2 + bytes.len() * 2);
    out.push_str("\\x");
    bytes.iter().for_each(|b| out.extend([digit(b >> 4), digit(*b)]));
    out
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("memory takes everything, and keys are texts");
}

/// A JSON object on its way into a text.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Where a key's value goes.
    fn value(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        write_json(self.out, key);
        self.out.push(b':');
        self.out
    }

    fn text(&mut self, key: &str, text: &str) {
        write_json(self.value(key), text);
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
