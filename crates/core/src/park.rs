//! What is set aside because it does not fit its copy: one pending state per key, merged from every
//! event that came for the key since. Pure: events in, the state out.
//!
//! Law: a pending state says no more than the events did. A value that none of them said stays
//! unchanged, and a later event always wins.

use crate::{
    Batch, BatchBuilder, Column, Epoch, Generated, Kind, Malformed, Offset, Op, Point, Position,
    Row, RowWriter, Schema, Shape, Value,
};
use std::sync::Arc;

/// How the message of a row begins that waits for another one, which it refers to.
pub const REFERENCE: &str = "foreign key ";

/// Longest key that is kept as it is; longer ones are cut and told apart by a hash.
const KEY_BYTES_MAX: usize = 512;

/// What is left to do to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingOp {
    /// Write the whole row; the row at the `before` key, if there is one, goes.
    Whole,
    /// Write the values that are not unchanged.
    Patch,
    /// Move the row at the `before` key, and write the values that are not unchanged.
    Rekey,
    /// Remove the row with the `before` key.
    Delete,
}

/// The merged state of a parked key, with all that is needed to read it when the log has forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// What is left to do.
    pub op: PendingOp,
    /// The columns that the subscription takes, and no others.
    pub schema: Arc<Schema>,
    /// The packed key before; empty unless the operation needs it.
    pub before: Vec<u8>,
    /// The packed row after; empty for a delete.
    pub after: Vec<u8>,
}

/// A key that is set aside, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The subscription's table, as written.
    pub table: String,
    /// The key's identity, as [`key_of`] makes it.
    pub key: Vec<u8>,
    /// The key for a person.
    pub shown: String,
    /// The code of the error's page.
    pub code: String,
    /// Which rule the row breaks, without values.
    pub message: String,
    /// The database's own words, which may hold values: for `parked show`, never for logs.
    pub words: String,
    /// When it was first set aside, in microseconds since 1970 UTC.
    pub since: i64,
    /// The first event that did not fit.
    pub first: Offset,
    /// The newest event that is merged into `pending`.
    pub last: Offset,
    /// How many events are.
    pub events: u64,
    /// What is left to do.
    pub pending: Pending,
}

/// A change to what is set aside; written in the transaction that writes the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParkEdit {
    /// Set aside, or replace what was.
    Put(Arc<Parked>),
    /// Nothing is left to do for this key.
    Remove {
        /// The subscription's table.
        table: String,
        /// The key's identity.
        key: Vec<u8>,
    },
}

/// How a shape's part of a row is kept: only what the subscription takes.
#[derive(Debug, Clone)]
pub struct Narrow {
    /// The schema of kept rows.
    pub schema: Arc<Schema>,
    /// Which of the source's columns they hold.
    sources: Vec<usize>,
}

impl Narrow {
    /// For rows of `schema`, as `shape` takes them.
    pub fn new(shape: &Shape, schema: &Schema) -> Self {
        let mut sources: Vec<_> = shape.columns.iter().map(|c| c.source).collect();
        sources.sort_unstable();
        sources.dedup();
        let columns = sources.iter().map(|&s| schema.columns[s].clone()).collect();
        let generated = shape.generated.clone();
        let (entity, dialect) = (schema.entity.clone(), schema.dialect.clone());
        Self { schema: Arc::new(Schema { entity, dialect, columns, generated }), sources }
    }

    /// The part of a row that is kept; an empty row stays empty.
    pub fn pack(&self, row: Row<'_>) -> Result<Vec<u8>, Malformed> {
        let mut kept = Vec::with_capacity(row.0.len());
        if row.0.is_empty() {
            return Ok(kept);
        }
        let mut values = Vec::new();
        row.unpack(&mut values)?;
        let mut writer = RowWriter::new(&mut kept);
        for &source in &self.sources {
            writer.push(*values.get(source).ok_or(Malformed { at: row.0.len() })?);
        }
        Ok(kept)
    }
}

impl Pending {
    /// This state after `later` happened to the same row.
    pub fn then(&self, later: Self) -> Result<Self, Malformed> {
        use PendingOp::{Delete, Patch, Rekey, Whole};
        // A row that still stands at an older key is carried along until something removes it.
        let carried = match self.op {
            Whole | Rekey => remap(&self.before, &self.schema, &later.schema, false)?,
            Patch | Delete => Vec::new(),
        };
        let op = match (self.op, later.op) {
            (_, Delete) if !carried.is_empty() => return Ok(Self { before: carried, ..later }),
            (_, Whole) => return Ok(Self { before: carried, ..later }),
            (_, Delete) | (Delete, Patch | Rekey) => return Ok(later),
            (Whole, Patch | Rekey) => Whole,
            (Patch, Patch) => Patch,
            (Rekey, Patch | Rekey) | (Patch, Rekey) => Rekey,
        };
        let before = match (op, self.op) {
            (Rekey, Patch) => later.before.clone(),
            _ => carried,
        };
        let base = remap(&self.after, &self.schema, &later.schema, true)?;
        Ok(Self { op, before, after: lay_over(&base, &later.after)?, schema: later.schema })
    }

    /// The keys that this is about, each in a row as wide as `schema`'s with everything else unchanged:
    /// the row's own, and the one where it still stands.
    pub fn key_rows(&self, schema: &Schema) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut rows = Vec::new();
        for row in [&self.before, &self.after] {
            let mut values = Vec::new();
            Row(row).unpack(&mut values)?;
            if values.is_empty() {
                continue;
            }
            let mut packed = Vec::new();
            let mut writer = RowWriter::new(&mut packed);
            for column in &schema.columns {
                let here = column.key.and_then(|_| self.schema.column(&column.name));
                writer.push(here.and_then(|i| values.get(i).copied()).unwrap_or(Value::Unchanged));
            }
            rows.push(packed);
        }
        Ok(rows)
    }

    /// Where the row still stands when that is not its own key, as [`key_of`] makes it.
    pub fn carries(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        if self.before.is_empty() {
            return Ok(None);
        }
        let mut at = Vec::new();
        key_of(Row(&self.before), Row(&[]), &self.schema.key(), &mut at)?;
        Ok((at != key).then_some(at))
    }

    /// This state when the row at the older key is no longer ours to move; `None` when nothing is
    /// left to do.
    pub fn without_carried(&self) -> Option<Self> {
        let op = match self.op {
            PendingOp::Delete => return None,
            PendingOp::Whole => PendingOp::Whole,
            PendingOp::Patch | PendingOp::Rekey => PendingOp::Patch,
        };
        Some(Self { op, before: Vec::new(), ..self.clone() })
    }

    /// A batch of this one event, to apply it from.
    pub fn batch(&self) -> Batch {
        let mut batch = BatchBuilder::new();
        let schema = batch.schema(self.schema.id(), &self.schema);
        batch.begin(Point::Sequence(0), 0);
        let op = if self.op == PendingOp::Delete { Op::Delete } else { Op::Update };
        batch.push(
            op,
            schema,
            |b| b.extend_from_slice(&self.before),
            |b| b.extend_from_slice(&self.after),
        );
        batch.finish(Position::new(Epoch::default(), Point::Sequence(0)), true)
    }

    /// Column names and values as text, for a person; `None` for NULL. Unchanged ones are left out.
    pub fn shown(&self) -> Vec<(String, Option<String>)> {
        let row = if self.op == PendingOp::Delete { &self.before } else { &self.after };
        let named = self.schema.columns.iter().zip(Row(row).values());
        let shown = named.filter_map(|(c, value)| match value.ok()? {
            Value::Unchanged => None,
            Value::Null => Some((c.name.clone(), None)),
            value => Some((c.name.clone(), Some(text(value)))),
        });
        shown.collect()
    }

    /// Bytes this holds in memory, near enough for budgets.
    pub fn size(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

/// A row of one schema as a row of another. What the other has beyond it holds what old rows hold
/// there when `fill`, and is unchanged otherwise.
fn remap(row: &[u8], from: &Schema, to: &Schema, fill: bool) -> Result<Vec<u8>, Malformed> {
    if row.is_empty() || from == to {
        return Ok(row.to_vec());
    }
    let mut values = Vec::new();
    Row(row).unpack(&mut values)?;
    let mut out = Vec::with_capacity(row.len());
    let mut writer = RowWriter::new(&mut out);
    for column in &to.columns {
        let here = from.column(&column.name);
        let known = here.and_then(|i| values.get(i).copied());
        writer.push(match (known, &column.fill) {
            (Some(value), _) => value,
            (None, Some(text)) if fill => Value::Text(text.as_bytes()),
            (None, None) if fill => Value::Null,
            (None, _) => Value::Unchanged,
        });
    }
    Ok(out)
}

/// A row with the said values of a later one.
fn lay_over(base: &[u8], later: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (mut values, mut news) = (Vec::new(), Vec::new());
    Row(base).unpack(&mut values)?;
    Row(later).unpack(&mut news)?;
    values.resize(news.len(), Value::Unchanged);
    let mut out = Vec::with_capacity(base.len().max(later.len()));
    let mut writer = RowWriter::new(&mut out);
    for (old, new) in values.into_iter().zip(news) {
        writer.push(if new == Value::Unchanged { old } else { new });
    }
    Ok(out)
}

/// Puts the identity of a row's key into `into`: its packed values. `sources` says where they stand;
/// what `row` does not say is taken from `or`.
pub fn key_of(
    row: Row<'_>,
    or: Row<'_>,
    sources: &[usize],
    into: &mut Vec<u8>,
) -> Result<(), Malformed> {
    into.clear();
    let (mut values, mut others) = (Vec::new(), Vec::new());
    row.unpack(&mut values)?;
    or.unpack(&mut others)?;
    let mut writer = RowWriter::new(into);
    for &source in sources {
        let said = values.get(source).filter(|v| **v != Value::Unchanged);
        let value = said.or(others.get(source)).ok_or(Malformed { at: row.0.len() })?;
        writer.push(*value);
    }
    if into.len() > KEY_BYTES_MAX {
        let hash = xxhash_rust::xxh3::xxh3_128(into);
        into.truncate(KEY_BYTES_MAX - 16);
        into.extend_from_slice(&hash.to_le_bytes());
    }
    Ok(())
}

/// A key for a person: its values, with commas.
pub fn key_shown(row: Row<'_>, or: Row<'_>, sources: &[usize]) -> Result<String, Malformed> {
    let (mut values, mut others) = (Vec::new(), Vec::new());
    row.unpack(&mut values)?;
    or.unpack(&mut others)?;
    let said = |s: &usize| values.get(*s).filter(|v| **v != Value::Unchanged).or(others.get(*s));
    let parts: Vec<_> = sources.iter().filter_map(said).map(|v| text(*v)).collect();
    Ok(parts.join(", "))
}

fn text(value: Value<'_>) -> String {
    match value {
        Value::Null | Value::Unchanged => "NULL".into(),
        Value::Text(t) => String::from_utf8_lossy(t).into_owned(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => r.to_string(),
        Value::Blob(b) => b.iter().fold("\\x".to_string(), |s, b| s + &format!("{b:02x}")),
    }
}

/// The layout of a stored pending state: its first value says which.
const LAYOUT: i64 = 1;

impl Pending {
    /// As bytes, to be stored at the target. Packed like a row: layout, operation, rows, then the
    /// schema column by column.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size() + 64 * self.schema.columns.len());
        let mut to = RowWriter::new(&mut bytes);
        to.push(Value::Integer(LAYOUT));
        to.push(Value::Integer(match self.op {
            PendingOp::Whole => 1,
            PendingOp::Patch => 2,
            PendingOp::Rekey => 3,
            PendingOp::Delete => 4,
        }));
        to.push(Value::Blob(&self.before));
        to.push(Value::Blob(&self.after));
        to.push(Value::Text(self.schema.entity.as_str().as_bytes()));
        to.push(Value::Text(self.schema.dialect.as_bytes()));
        to.push(Value::Integer(self.schema.columns.len() as i64));
        for c in &self.schema.columns {
            to.push(Value::Text(c.name.as_bytes()));
            to.push(Value::Text(c.native.as_bytes()));
            to.push(Value::Integer(c.kind as i64));
            to.push(c.key.map_or(Value::Null, |k| Value::Integer(i64::from(k))));
            to.push(Value::Integer(i64::from(c.not_null)));
            to.push(c.fill.as_ref().map_or(Value::Null, |f| Value::Text(f.as_bytes())));
        }
        for g in &self.schema.generated {
            to.push(Value::Text(g.name.as_bytes()));
            to.push(Value::Text(g.native.as_bytes()));
            to.push(Value::Text(g.expression.as_bytes()));
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When somebody else wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields { values: Row(bytes).values(), size: bytes.len() };
        if fields.number()? != LAYOUT {
            return Err(fields.wrong());
        }
        let op = match fields.number()? {
            1 => PendingOp::Whole,
            2 => PendingOp::Patch,
            3 => PendingOp::Rekey,
            4 => PendingOp::Delete,
            _ => return Err(fields.wrong()),
        };
        let (before, after) = (fields.blob()?, fields.blob()?);
        let entity = fields.text()?.parse().map_err(|_| fields.wrong())?;
        let dialect = fields.text()?.into();
        let columns = fields.number()?;
        let columns = (0..columns).map(|_| fields.column()).collect::<Result<_, _>>()?;
        let mut generated = Vec::new();
        while let Some(name) = fields.values.next() {
            let Value::Text(name) = name? else { return Err(fields.wrong()) };
            let name = String::from_utf8_lossy(name).into_owned();
            let (native, expression) = (fields.text()?, fields.text()?);
            generated.push(Generated { name, native, expression });
        }
        let schema = Arc::new(Schema { entity, dialect, columns, generated });
        let sound = |row: &[u8]| {
            let mut values = Vec::new();
            Row(row).unpack(&mut values).is_ok()
                && (row.is_empty() || values.len() == schema.columns.len())
        };
        if !sound(&before) || !sound(&after) || schema.key().is_empty() {
            return Err(fields.wrong());
        }
        Ok(Self { op, schema, before, after })
    }
}

struct Fields<'a> {
    values: crate::row::Values<'a>,
    size: usize,
}

impl<'a> Fields<'a> {
    fn wrong(&self) -> Malformed {
        Malformed { at: self.size }
    }

    fn next(&mut self) -> Result<Value<'a>, Malformed> {
        self.values.next().unwrap_or(Err(Malformed { at: self.size }))
    }

    fn number(&mut self) -> Result<i64, Malformed> {
        match self.next()? {
            Value::Integer(i) => Ok(i),
            _ => Err(self.wrong()),
        }
    }

    fn blob(&mut self) -> Result<Vec<u8>, Malformed> {
        match self.next()? {
            Value::Blob(b) => Ok(b.to_vec()),
            _ => Err(self.wrong()),
        }
    }

    fn text(&mut self) -> Result<String, Malformed> {
        match self.next()? {
            Value::Text(t) => Ok(String::from_utf8_lossy(t).into_owned()),
            _ => Err(self.wrong()),
        }
    }

    fn column(&mut self) -> Result<Column, Malformed> {
        let (name, native) = (self.text()?, self.text()?);
        let kind = u8::try_from(self.number()?).ok().and_then(Kind::from_number);
        let kind = kind.ok_or_else(|| self.wrong())?;
        let key = match self.next()? {
            Value::Null => None,
            Value::Integer(k) => Some(u16::try_from(k).map_err(|_| self.wrong())?),
            _ => return Err(self.wrong()),
        };
        let not_null = self.number()? != 0;
        let fill = match self.next()? {
            Value::Null => None,
            Value::Text(t) => Some(String::from_utf8_lossy(t).into_owned()),
            _ => return Err(self.wrong()),
        };
        Ok(Column { name, native, kind, key, not_null, fill })
    }
}

#[cfg(test)]
mod tests;
