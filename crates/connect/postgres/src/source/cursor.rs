//! What the log remembers of an entity's snapshot: of which table, with which fields, and up to
//! which key. A table that was made anew is another table; a field that is published only now is
//! missing in the rows that were read before.

use super::catalog::Table;
use super::shape::Shape;
use bytes::Bytes;
use rowcast_core::{Publish, Row, RowWriter, Snapshot, Value};

/// A snapshot's note, as [`Snapshot::cursor`] holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The table's oid.
    pub(crate) oid: u32,
    /// The fields that were published, sorted; `None` for all.
    pub(crate) fields: Option<Vec<String>>,
    /// Names of the key's columns; none before the first row.
    pub(crate) key: Vec<String>,
    /// Their values in the last row that is in the log.
    pub(crate) after: Vec<Vec<u8>>,
}

impl Cursor {
    /// The beginning of a table.
    pub(crate) fn begin(table: &Table, publish: &Publish) -> Self {
        let fields = publish.fields.clone().map(|mut fields| {
            fields.sort_unstable();
            fields
        });
        Self { oid: table.oid, fields, key: Vec::new(), after: Vec::new() }
    }

    pub(crate) fn write(&self) -> Bytes {
        let texts = |values: &mut dyn Iterator<Item = &[u8]>| {
            let mut bytes = Vec::new();
            let mut row = RowWriter::new(&mut bytes);
            values.for_each(|v| row.push(Value::Text(v)));
            bytes
        };
        let fields = self.fields.as_ref().map(|f| texts(&mut f.iter().map(String::as_bytes)));
        let key = texts(&mut self.key.iter().map(String::as_bytes));
        let after = texts(&mut self.after.iter().map(Vec::as_slice));
        let mut bytes = Vec::new();
        let mut row = RowWriter::new(&mut bytes);
        row.push(Value::Integer(i64::from(self.oid)));
        row.push(fields.as_deref().map_or(Value::Null, Value::Blob));
        row.push(Value::Blob(&key));
        row.push(Value::Blob(&after));
        bytes.into()
    }

    /// `None` when it does not read: then nothing is known of the snapshot.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut values = Vec::new();
        Row(bytes).unpack(&mut values).ok()?;
        let [Value::Integer(oid), fields, Value::Blob(key), Value::Blob(after)] = values[..] else {
            return None;
        };
        let fields = match fields {
            Value::Null => None,
            Value::Blob(fields) => Some(names(fields)?),
            _ => return None,
        };
        let oid = u32::try_from(oid).ok()?;
        let after = texts(after)?.into_iter().map(<[u8]>::to_vec).collect();
        Some(Self { oid, fields, key: names(key)?, after })
    }

    /// Whether the rows that the log holds do for `table` as it is published now.
    pub(crate) fn serves(&self, table: &Table, shape: &Shape) -> bool {
        let published = |name: &String| self.fields.as_ref().is_none_or(|f| f.contains(name));
        self.oid == table.oid && shape.schema.columns.iter().all(|c| published(&c.name))
    }
}

/// The word on an entity that is complete but published with fewer fields than before: from here on
/// the others miss changes, so publishing them again later has to read them again.
pub(crate) fn narrowed(known: &Snapshot, table: &Table, publish: &Publish) -> Option<Snapshot> {
    let old = Cursor::read(&known.cursor)?;
    let fields = Cursor::begin(table, publish).fields;
    if old.fields == fields {
        return None;
    }
    Some(Snapshot { cursor: Cursor { fields, ..old }.write(), ..known.clone() })
}

fn texts(row: &[u8]) -> Option<Vec<&[u8]>> {
    let text = |value| match value {
        Ok(Value::Text(t)) => Some(t),
        _ => None,
    };
    Row(row).values().map(text).collect()
}

fn names(row: &[u8]) -> Option<Vec<String>> {
    texts(row)?.into_iter().map(|t| String::from_utf8(t.to_vec()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_garbage_does_not() {
        let cursor = Cursor {
            oid: 4_294_967_295,
            fields: Some(vec!["a".into(), "ü".into()]),
            key: vec!["a".into()],
            after: vec![b"7'\xff".to_vec()],
        };
        assert_eq!(Cursor::read(&cursor.write()), Some(cursor.clone()));
        let all = Cursor { fields: None, key: vec![], after: vec![], ..cursor };
        assert_eq!(Cursor::read(&all.write()), Some(all));
        for garbage in [&b""[..], &[0xff, 0xff], &[0], b"\x0a7"] {
            assert_eq!(Cursor::read(garbage), None);
        }
    }
}
