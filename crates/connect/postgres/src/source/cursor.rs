//! What the log remembers of an entity's snapshot: of which table, with which fields, and up to
//! which key. A table that was made anew is another table; a field that is published only now is
//! missing in the rows that were read before, and one that is masked otherwise is there as it must
//! not be any more. A masked key is sealed: what the log holds of it is no clear value.

use super::catalog::{Table, TableColumn};
use super::leaves::Noted;
use super::shape::Shape;
use bytes::Bytes;
use rowcast_core::{MaskKey, Publish, Row, RowWriter, Snapshot, Value};

/// A snapshot's note, as [`Snapshot::cursor`] holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The table's oid.
    pub(crate) oid: u32,
    /// The fields that were published, sorted; `None` for all.
    pub(crate) fields: Option<Vec<String>>,
    /// The masked fields and notes of their masks, by name.
    pub(crate) masks: Vec<(String, String)>,
    /// Names of the key's columns; none before the first row.
    pub(crate) key: Vec<String>,
    /// Their values in the last row that is in the log.
    pub(crate) after: Vec<Vec<u8>>,
    /// What the table was like; `None` when an earlier Rowcast wrote the note.
    pub(crate) made: Option<Made>,
    /// The mark of what published it, [`Published::mark`](super::catalog::Published); `None` when an
    /// earlier Rowcast wrote the note.
    pub(crate) published: Option<String>,
}

/// What tells whether rows got other values without the stream saying so: an `ALTER TABLE` that
/// writes a table anew is no change of its rows to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// [`Table::file`].
    file: i64,
    columns: Vec<MadeColumn>,
    /// Of a partitioned table; `None` when an earlier Rowcast wrote the note, too.
    leaves: Option<Noted>,
}

/// A column as the catalog had it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MadeColumn {
    number: u32,
    changed: u32,
    name: String,
    /// The server computes it, so no row in the log has a value of it.
    computed: bool,
    /// [`TableColumn::labels`].
    labels: Vec<i64>,
}

impl Made {
    fn of(table: &Table) -> Self {
        let column = |c: &TableColumn| MadeColumn {
            number: c.number,
            changed: c.changed,
            name: c.name.clone(),
            computed: c.generated.is_some(),
            labels: c.labels.clone(),
        };
        let leaves = (table.kind == 'p').then(|| table.leaves.noted());
        Self { file: table.file, columns: table.columns.iter().map(column).collect(), leaves }
    }

    /// [`Table::file`].
    pub(crate) fn file(&self) -> i64 {
        self.file
    }

    /// What a partitioned table's partitions were.
    pub(crate) fn leaves(&self) -> Option<&Noted> {
        self.leaves.as_ref()
    }

    /// Whether the log's rows have the values that the column has in the table now, those that the
    /// stream brings set aside.
    fn knows(&self, table: &Table, column: &TableColumn) -> bool {
        let anew = self.file != table.file;
        match self.columns.iter().find(|c| c.name == column.name) {
            // Of another number it is another column. One that was changed while the table was
            // written anew may have been computed (`ALTER COLUMN … TYPE … USING …`).
            Some(known) => {
                let labelled = known.labels.iter().all(|l| column.labels.binary_search(l).is_ok());
                known.number == column.number
                    && !known.computed
                    && !(anew && known.changed != column.changed)
                    // A new label is in no row yet; one that is gone was renamed in all of them.
                    && labelled
            }
            // A new column holds its default in old rows, which the schema says; not when that was
            // computed for each row. A renamed one is not new.
            None => {
                let newest = self.columns.iter().map(|c| c.number).max().unwrap_or(0);
                column.number > newest && !(anew && column.fill.is_none())
            }
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut row = RowWriter::new(&mut bytes);
        row.push(Value::Integer(self.file));
        for column in &self.columns {
            // Below zero: computed.
            let number = i64::from(column.number);
            row.push(Value::Integer(if column.computed { -number } else { number }));
            row.push(Value::Integer(i64::from(column.changed)));
            row.push(Value::Text(column.name.as_bytes()));
        }
        for column in self.columns.iter().filter(|c| !c.labels.is_empty()) {
            let labels: Vec<u8> = column.labels.iter().flat_map(|l| l.to_le_bytes()).collect();
            row.push(Value::Integer(i64::from(column.number)));
            row.push(Value::Null);
            row.push(Value::Blob(&labels));
        }
        bytes
    }

    fn read(row: &[u8]) -> Option<Self> {
        let mut values = Vec::new();
        Row(row).unpack(&mut values).ok()?;
        let (&Value::Integer(file), columns) = values.split_first()? else { return None };
        let mut made = Self { file, columns: Vec::new(), leaves: None };
        for part in columns.chunks(3) {
            match *part {
                [Value::Integer(number), Value::Integer(changed), Value::Text(name)] => {
                    made.columns.push(MadeColumn {
                        number: u32::try_from(number.unsigned_abs()).ok()?,
                        computed: number < 0,
                        changed: u32::try_from(changed).ok()?,
                        name: String::from_utf8(name.to_vec()).ok()?,
                        labels: Vec::new(),
                    });
                }
                [Value::Integer(number), Value::Null, Value::Blob(labels)] => {
                    let of = |c: &&mut MadeColumn| i64::from(c.number) == number;
                    let (labels, rest) = labels.as_chunks::<8>();
                    let column = made.columns.iter_mut().find(of).filter(|_| rest.is_empty())?;
                    column.labels = labels.iter().map(|l| i64::from_le_bytes(*l)).collect();
                }
                _ => return None,
            }
        }
        Some(made)
    }
}

impl Cursor {
    /// The beginning of a table.
    pub(crate) fn begin(table: &Table, publish: &Publish) -> Self {
        let fields = publish.fields.clone().map(|mut fields| {
            fields.sort_unstable();
            fields
        });
        let masks = &publish.masks;
        let note = |(field, _): (&str, _)| Some((field.to_string(), masks.note(field)?));
        let masks = masks.fields().filter_map(note).collect();
        let made = Some(Made::of(table));
        let published = table.published.as_ref().map(|p| p.mark.clone());
        Self { oid: table.oid, fields, masks, key: Vec::new(), after: Vec::new(), made, published }
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
        // What came later is left out where there is none of it, as it was before.
        if !self.masks.is_empty() || self.made.is_some() {
            let masks = self.masks.iter().flat_map(|(field, note)| [field, note]);
            row.push(Value::Blob(&texts(&mut masks.map(|t| t.as_bytes()))));
        }
        if let Some(made) = &self.made {
            row.push(Value::Blob(&made.write()));
            if let Some(published) = &self.published {
                row.push(Value::Text(published.as_bytes()));
            }
        }
        if let Some(leaves) = self.made.as_ref().and_then(Made::leaves) {
            row.push(Value::Blob(&leaves.write()));
        }
        bytes.into()
    }

    /// `None` when it does not read: then nothing is known of the snapshot.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut values = Vec::new();
        Row(bytes).unpack(&mut values).ok()?;
        let (&[Value::Integer(oid), fields, Value::Blob(key), Value::Blob(after)], later) =
            values.split_first_chunk::<4>()?
        else {
            return None;
        };
        let (masks, made, published) = match later {
            [] => (vec![], None, None),
            [Value::Blob(masks)] => (pairs(names(masks)?), None, None),
            [Value::Blob(masks), Value::Blob(made), rest @ ..] => {
                let (published, leaves) = match *rest {
                    [] => (None, None),
                    [Value::Text(published)] => (Some(published), None),
                    [Value::Blob(leaves)] => (None, Some(leaves)),
                    [Value::Text(published), Value::Blob(leaves)] => {
                        (Some(published), Some(leaves))
                    }
                    _ => return None,
                };
                let leaves = match leaves {
                    Some(leaves) => Some(Noted::read(leaves)?),
                    None => None,
                };
                let published = match published {
                    Some(published) => Some(String::from_utf8(published.to_vec()).ok()?),
                    None => None,
                };
                (pairs(names(masks)?), Some(Made { leaves, ..Made::read(made)? }), published)
            }
            _ => return None,
        };
        let fields = match fields {
            Value::Null => None,
            Value::Blob(fields) => Some(names(fields)?),
            _ => return None,
        };
        let oid = u32::try_from(oid).ok()?;
        let after = texts(after)?.into_iter().map(<[u8]>::to_vec).collect();
        Some(Self { oid, fields, masks, key: names(key)?, after, made, published })
    }

    /// Whether the rows that the log holds do for `table` as it is published now.
    pub(crate) fn serves(&self, table: &Table, shape: &Shape, publish: &Publish) -> bool {
        let published = |name: &String| self.fields.as_ref().is_none_or(|f| f.contains(name));
        let noted = |name: &str| self.masks.iter().find(|(n, _)| n == name).map(|(_, note)| note);
        let masked_alike = |name: &str| noted(name) == publish.masks.note(name).as_ref();
        let knows = |name: &str| match (&self.made, table.column(name)) {
            (Some(made), Some(column)) => made.knows(table, column),
            _ => true,
        };
        let mut columns = shape.schema.columns.iter();
        self.oid == table.oid
            && self.has_key_of(shape)
            && columns.all(|c| published(&c.name) && masked_alike(&c.name) && knows(&c.name))
    }

    /// The note of rows that are not to be believed, whatever this one, if there is one, says of them:
    /// they serve no table.
    pub(crate) fn outdated(known: Option<Self>) -> Self {
        let (key, after) = (Vec::new(), Vec::new());
        let made = known.and_then(|known| known.made);
        Self { oid: 0, fields: None, masks: Vec::new(), key, after, made, published: None }
    }

    /// Whether rows are told apart by the same columns as when they were read.
    fn has_key_of(&self, shape: &Shape) -> bool {
        let is = |k: usize| self.key.contains(&shape.schema.columns[k].name);
        let key = shape.schema.key();
        self.key.is_empty() || (key.len() == self.key.len() && key.into_iter().all(is))
    }

    /// Remembers the key of a row, in clear or sealed.
    pub(crate) fn set_after(&mut self, key: Vec<Vec<u8>>, seal: Option<&MaskKey>) {
        self.after = match seal {
            Some(seal) => {
                let mut row = Vec::new();
                let mut writer = RowWriter::new(&mut row);
                key.iter().for_each(|value| writer.push(Value::Text(value)));
                vec![seal.seal(&row, rand::random())]
            }
            None => key,
        };
    }

    /// The key that was remembered; empty when there is none, or it does not read.
    pub(crate) fn after(&self, seal: Option<&MaskKey>) -> Vec<Vec<u8>> {
        let opened = |seal: &MaskKey| {
            let row = seal.open(self.after.first()?)?;
            Some(texts(&row)?.into_iter().map(<[u8]>::to_vec).collect())
        };
        match seal {
            Some(seal) => opened(seal).unwrap_or_default(),
            None => self.after.clone(),
        }
    }
}

/// The key to seal an entity's cursors with, when a part of its key is masked.
pub(crate) fn seal(shape: &Shape, publish: &Publish) -> Option<MaskKey> {
    let mut key = shape.schema.key().into_iter();
    key.any(|k| shape.mask(k).is_some()).then(|| publish.masks.key().cloned()).flatten()
}

/// The word on an entity that is complete, when there is news: it is published with fewer fields
/// than before, so the others miss changes from here on and publishing them again later has to read
/// them again (what was masked of them is forgotten with them); or its table was altered in a way that
/// the log's rows bear, and the next time it is compared with what it is now; or we altered what
/// publishes it.
pub(crate) fn news(known: &Snapshot, table: &Table, publish: &Publish) -> Option<Snapshot> {
    let old = Cursor::read(&known.cursor)?;
    let begin = Cursor::begin(table, publish);
    let new = Cursor { key: old.key.clone(), after: old.after.clone(), ..begin };
    (old != new).then(|| Snapshot { cursor: new.write(), ..known.clone() })
}

fn texts(row: &[u8]) -> Option<Vec<&[u8]>> {
    let text = |value| match value {
        Ok(Value::Text(t)) => Some(t),
        _ => None,
    };
    Row(row).values().map(text).collect()
}

fn pairs(flat: Vec<String>) -> Vec<(String, String)> {
    let pair = |p: &[String]| Some((p.first()?.clone(), p.get(1)?.clone()));
    flat.chunks(2).filter_map(pair).collect()
}

fn names(row: &[u8]) -> Option<Vec<String>> {
    texts(row)?.into_iter().map(|t| String::from_utf8(t.to_vec()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::leaves::LeafNote;

    #[test]
    fn a_cursor_reads_back_and_garbage_does_not() {
        let cursor = Cursor {
            oid: 4_294_967_295,
            fields: Some(vec!["a".into(), "ü".into()]),
            masks: vec![("ü".into(), "sha256 00ff".into()), ("z".into(), "null".into())],
            key: vec!["a".into()],
            after: vec![b"7'\xff".to_vec()],
            made: Some(Made {
                file: 1 << 40,
                columns: [(1, false, vec![]), (2, true, vec![i64::MIN, 7])]
                    .map(|(number, computed, labels)| MadeColumn {
                        number,
                        changed: u32::MAX,
                        name: "ü".into(),
                        computed,
                        labels,
                    })
                    .into(),
                leaves: Some(Noted {
                    horizon: 1 << 33,
                    list: vec![LeafNote { oid: 7, file: 8, attached: i64::MIN, seen: u64::MAX }],
                }),
            }),
            published: Some("16400 733|16402 735|".into()),
        };
        let early = Cursor { published: None, ..cursor.clone() };
        assert_eq!(Cursor::read(&early.write()), Some(early));
        let early = Cursor { made: None, published: None, ..cursor.clone() };
        assert_eq!(Cursor::read(&early.write()), Some(early));
        assert_eq!(Cursor::read(&cursor.write()), Some(cursor.clone()));
        let all = Cursor {
            fields: None,
            masks: vec![],
            key: vec![],
            after: vec![],
            made: None,
            published: None,
            ..cursor
        };
        assert_eq!(Cursor::read(&all.write()), Some(all.clone()));
        let mut sealed = all.clone();
        let seal = MaskKey::new(b"sixteen bytes and more").unwrap();
        sealed.set_after(vec![b"clear key".to_vec(), vec![]], Some(&seal));
        assert!(!sealed.write().windows(5).any(|w| w == b"clear"));
        assert_eq!(sealed.after(Some(&seal)), [b"clear key".to_vec(), vec![]]);
        let other = MaskKey::new(b"sixteen other bytes").unwrap();
        assert_ne!(sealed.after(Some(&other)), [b"clear key".to_vec(), vec![]]);
        for garbage in [&b""[..], &[0xff, 0xff], &[0], b"\x0a7"] {
            assert_eq!(Cursor::read(garbage), None);
        }
    }
}
