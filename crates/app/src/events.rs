//! Events as people and scripts read them.

use crate::paint::Paint;
use rowcast_core::{Batch, Column, Event, Kind, Op, Row, Schema, ServiceName, Value};
use std::fmt::Write as _;

/// Longest text of one value in output for people.
const SHOWN: usize = 80;

/// An event with what is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) service: &'a ServiceName,
    pub(crate) offset: u64,
    pub(crate) batch: &'a Batch,
    pub(crate) event: &'a Event,
    /// The source's position and time of the commit.
    pub(crate) at: &'a rowcast_core::Transaction,
}

impl Told<'_> {
    fn schema(&self) -> &Schema {
        self.batch.schema(self.event)
    }

    fn rows(&self) -> (Row<'_>, Row<'_>) {
        (self.batch.before(self.event), self.batch.after(self.event))
    }

    /// One line for people: offset, entity, what happened, key and fields.
    pub(crate) fn line(&self, paint: Paint) -> String {
        let schema = self.schema();
        let name = format!("{}.{}", self.service, schema.entity);
        let op = format!("{:<8}", self.event.op.name());
        let op = match self.event.op {
            Op::Create | Op::Read => paint.green(&op),
            Op::Update => paint.cyan(&op),
            Op::Delete | Op::Truncate => paint.red(&op),
            Op::Schema | Op::Complete | Op::End => paint.dim(&op),
        };
        let offset = paint.dim(&format!("{:>8}", self.offset));
        let mut line = format!("{offset}  {}  {op}", paint.bold(&name));
        match self.event.op {
            Op::Schema => {
                let fields: Vec<_> =
                    schema.columns.iter().map(|c| format!("{} {}", c.name, c.native)).collect();
                let _ = write!(line, "  {}", paint.dim(&fields.join(", ")));
            }
            Op::Truncate if self.batch.is_anew(self.event) => {
                let _ = write!(line, "  {}", paint.dim("every row is read again"));
            }
            Op::Truncate | Op::Complete | Op::End => {}
            Op::Create | Op::Update | Op::Delete | Op::Read => self.fields(&mut line, paint),
        }
        line
    }

    fn fields(&self, line: &mut String, paint: Paint) {
        let (before, after) = self.rows();
        let key = |row: Row<'_>| {
            let key = self.pick(row, |c| c.key.is_some());
            key.into_iter().map(|(c, v)| shown(c, v)).collect::<Vec<_>>().join(" ")
        };
        match (before.0.is_empty(), after.0.is_empty()) {
            (false, false) => {
                let _ = write!(line, "  {} → {}", key(before), key(after));
            }
            (false, true) => {
                let _ = write!(line, "  {}", key(before));
            }
            (true, _) => {
                let _ = write!(line, "  {}", key(after));
            }
        }
        for (column, value) in self.pick(after, |c| c.key.is_none()) {
            if value != Value::Unchanged {
                let name = paint.dim(&format!("{}=", column.name));
                let _ = write!(line, "  {name}{}", shown(column, value));
            }
        }
    }

    fn pick<'r>(
        &'r self,
        row: Row<'r>,
        wanted: impl Fn(&Column) -> bool,
    ) -> Vec<(&'r Column, Value<'r>)> {
        let columns = self.schema().columns.iter();
        let values = row.values().map_while(Result::ok);
        columns.zip(values).filter(|(c, _)| wanted(c)).collect()
    }

    /// One object for scripts: a CloudEvent.
    pub(crate) fn json(&self) -> String {
        rowcast_server::cloud_event(self.service, self.offset, self.batch, self.event, self.at)
    }
}

fn shown(column: &Column, value: Value<'_>) -> String {
    let text = match value {
        Value::Null => return "NULL".into(),
        Value::Unchanged => return "(unchanged)".into(),
        Value::Integer(i) => return i.to_string(),
        Value::Real(r) => return r.to_string(),
        Value::Blob(bytes) => return cut(&hex(bytes)),
        Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    let bare = |c: char| c.is_alphanumeric() || "_-+:.@".contains(c);
    let number = !matches!(column.kind, Kind::Text | Kind::Any | Kind::Json | Kind::Other);
    if number || (!text.is_empty() && text.chars().all(bare)) {
        return cut(&text);
    }
    format!("{:?}", cut(&text))
}

/// As much of a text as fits on a line with others.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + bytes.len() * 2);
    out.push_str("\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_core::{BatchBuilder, Epoch, Point, Position, RowWriter};
    use std::sync::Arc;

    fn schema() -> Arc<Schema> {
        let column = |name: &str, kind, key| Column {
            name: name.into(),
            native: "x".into(),
            kind,
            key,
            not_null: false,
            fill: None,
        };
        Arc::new(Schema {
            entity: "customer".parse().unwrap(),
            dialect: "test".into(),
            columns: vec![
                column("id", Kind::Int64, Some(0)),
                column("name", Kind::Text, None),
                column("balance", Kind::Decimal, None),
                column("notes", Kind::Json, None),
            ],
            generated: vec![],
        })
    }

    fn one(op: Op, before: &[Value<'_>], after: &[Value<'_>]) -> (String, String) {
        let schema = schema();
        let mut builder = BatchBuilder::new();
        let index = builder.schema(schema.id(), &schema);
        builder.begin(Point::Lsn(0x16_0000_0001), 1_709_210_096_123_456);
        let write = |values: &[Value<'_>], into: &mut Vec<u8>| {
            let mut writer = RowWriter::new(into);
            values.iter().for_each(|v| writer.push(*v));
        };
        builder.push(op, index, |b| write(before, b), |b| write(after, b));
        let batch = builder.finish(Position::new(Epoch::default(), Point::Lsn(1)), true);
        let service = "shop".parse().unwrap();
        let (event, at) = (&batch.events[0], &batch.transactions[0]);
        let told = Told { service: &service, offset: 7, batch: &batch, event, at };
        (told.line(Paint::PLAIN), told.json())
    }

    #[test]
    fn an_update_shows_what_it_brings_and_what_stayed() {
        let after = [
            Value::Text(b"5"),
            Value::Text("Ada \"L\"".as_bytes()),
            Value::Text(b"12.50"),
            Value::Unchanged,
        ];
        let (line, json) = one(Op::Update, &[], &after);
        assert_eq!(
            line,
            "       7  shop.customer  update    5  name=\"Ada \\\"L\\\"\"  balance=12.50"
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["id"], &json["data"]["name"]), (&"shop/7".into(), &"Ada \"L\"".into()));
    }

    #[test]
    fn a_delete_shows_the_key() {
        let gone = [Value::Integer(5), Value::Unchanged, Value::Unchanged, Value::Unchanged];
        let (line, _) = one(Op::Delete, &gone, &[]);
        assert_eq!(line, "       7  shop.customer  delete    5");
    }

    #[test]
    fn odd_values_keep_to_one_line() {
        let after = [
            Value::Integer(1),
            Value::Text(b"two\nlines"),
            Value::Real(f64::INFINITY),
            Value::Text(b"{\n\"a\": [1, 2]}"),
        ];
        let (line, json) = one(Op::Create, &[], &after);
        assert!(!line.contains('\n') && !json.contains('\n'), "{line} {json}");
    }
}
