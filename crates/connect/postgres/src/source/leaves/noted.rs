//! What the log remembers of a table's partitions.

use rowcast_core::{Row, RowWriter, Value};

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeafNote {
    pub(crate) oid: u32,
    /// [`Leaf::file`](super::Leaf).
    pub(crate) file: i64,
    /// [`Leaf::attached`](super::Leaf).
    pub(crate) attached: i64,
    /// [`Leaf::seen`](super::Leaf).
    pub(crate) seen: u64,
}

/// When it was seen is no part of what is compared: time alone is no news.
impl PartialEq for LeafNote {
    fn eq(&self, other: &Self) -> bool {
        (self.oid, self.file, self.attached) == (other.oid, other.file, other.attached)
    }
}

/// All of them, as they were at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    /// Every transaction with a lower number had ended at that moment.
    pub(crate) horizon: u64,
    pub(crate) list: Vec<LeafNote>,
}

impl PartialEq for Noted {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Noted {}

impl Noted {
    pub(crate) fn find(&self, oid: u32) -> Option<&LeafNote> {
        self.list.iter().find(|l| l.oid == oid)
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut row = RowWriter::new(&mut bytes);
        row.push(Value::Integer(self.horizon as i64));
        for leaf in &self.list {
            row.push(Value::Integer(i64::from(leaf.oid)));
            row.push(Value::Integer(leaf.file));
            row.push(Value::Integer(leaf.attached));
            row.push(Value::Integer(leaf.seen as i64));
        }
        bytes
    }

    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let mut values = Vec::new();
        Row(row).unpack(&mut values).ok()?;
        let (&Value::Integer(horizon), leaves) = values.split_first()? else { return None };
        let leaf = |l: &[Value<'_>]| match *l {
            [
                Value::Integer(oid),
                Value::Integer(file),
                Value::Integer(attached),
                Value::Integer(seen),
            ] => {
                let (oid, seen) = (u32::try_from(oid).ok()?, seen as u64);
                Some(LeafNote { oid, file, attached, seen })
            }
            _ => None,
        };
        let list = leaves.chunks(4).map(leaf).collect::<Option<_>>()?;
        Some(Self { horizon: horizon as u64, list })
    }
}
