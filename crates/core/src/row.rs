//! Rows as packed bytes. A value keeps the bytes its source gave; nobody parses it on the way.
//!
//! Packing: each value is a varint header `length << 3 | kind`, then `length` bytes. Integers and
//! reals are eight bytes, little endian. The layout is part of the log's format: never change a
//! kind's number.

use std::fmt;

/// One value, borrowed from a packed row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// The source did not say; the value is what it was. Never overwrites anything.
    Unchanged,
    /// The source's text of the value, in the canonical form its [`Kind`](crate::Kind) documents.
    Text(&'a [u8]),
    /// A 64-bit integer from a source without declared types.
    Integer(i64),
    /// A double from a source without declared types.
    Real(f64),
    /// Raw bytes.
    Blob(&'a [u8]),
}

const NULL: u64 = 0;
const UNCHANGED: u64 = 1;
const TEXT: u64 = 2;
const INTEGER: u64 = 3;
const REAL: u64 = 4;
const BLOB: u64 = 5;

/// The bytes do not follow the packing. Only damage that a checksum missed leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packed row is malformed at byte {at}")]
pub struct Malformed {
    /// Where reading stopped making sense.
    pub at: usize,
}

/// Appends packed values to a buffer.
#[derive(Debug)]
pub struct RowWriter<'a>(&'a mut Vec<u8>);

impl<'a> RowWriter<'a> {
    /// Writes at the end of `into`.
    pub fn new(into: &'a mut Vec<u8>) -> Self {
        Self(into)
    }

    /// Appends one value.
    pub fn push(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.0.push(NULL as u8),
            Value::Unchanged => self.0.push(UNCHANGED as u8),
            Value::Text(b) => self.bytes(TEXT, b),
            Value::Integer(i) => self.bytes(INTEGER, &i.to_le_bytes()),
            Value::Real(r) => self.bytes(REAL, &r.to_le_bytes()),
            Value::Blob(b) => self.bytes(BLOB, b),
        }
    }

    fn bytes(&mut self, kind: u64, bytes: &[u8]) {
        let mut header = (bytes.len() as u64) << 3 | kind;
        while header >= 0x80 {
            self.0.push(header as u8 | 0x80);
            header >>= 7;
        }
        self.0.push(header as u8);
        self.0.extend_from_slice(bytes);
    }
}

/// A packed row, borrowed from its batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Row<'a>(pub &'a [u8]);

impl<'a> Row<'a> {
    /// Reads values one after another.
    pub fn values(self) -> Values<'a> {
        Values { bytes: self.0, at: 0 }
    }

    /// Replaces `into` by this row's values.
    pub fn unpack(self, into: &mut Vec<Value<'a>>) -> Result<(), Malformed> {
        into.clear();
        for value in self.values() {
            into.push(value?);
        }
        Ok(())
    }

    /// Whether some value is [`Value::Unchanged`]. A malformed row says no; unpacking it will fail.
    pub fn has_unchanged(self) -> bool {
        self.values().any(|v| matches!(v, Ok(Value::Unchanged)))
    }
}

impl fmt::Debug for Row<'_> {
    /// Values are the user's; only their number and size is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} values, {} bytes)", self.values().count(), self.0.len())
    }
}

/// Iterates over a packed row; ends after the first error.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Values<'a> {
    fn header(&mut self) -> Option<u64> {
        let mut header = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            header |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(header);
            }
        }
        None
    }

    fn value(&mut self) -> Option<Value<'a>> {
        let header = self.header()?;
        let length = usize::try_from(header >> 3).ok()?;
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        let value = match header & 7 {
            NULL if length == 0 => Value::Null,
            UNCHANGED if length == 0 => Value::Unchanged,
            TEXT => Value::Text(bytes),
            INTEGER => Value::Integer(i64::from_le_bytes(bytes.try_into().ok()?)),
            REAL => Value::Real(f64::from_le_bytes(bytes.try_into().ok()?)),
            BLOB => Value::Blob(bytes),
            _ => return None,
        };
        self.at = end;
        Some(value)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Value<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        let value = self.value();
        if value.is_none() {
            self.at = self.bytes.len();
        }
        Some(value.ok_or(Malformed { at: start }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Owned {
        Null,
        Unchanged,
        Text(Vec<u8>),
        Integer(i64),
        Real(f64),
        Blob(Vec<u8>),
    }

    impl Owned {
        fn value(&self) -> Value<'_> {
            match self {
                Self::Null => Value::Null,
                Self::Unchanged => Value::Unchanged,
                Self::Text(b) => Value::Text(b),
                Self::Integer(i) => Value::Integer(*i),
                Self::Real(r) => Value::Real(*r),
                Self::Blob(b) => Value::Blob(b),
            }
        }
    }

    fn owned() -> impl Strategy<Value = Owned> {
        prop_oneof![
            Just(Owned::Null),
            Just(Owned::Unchanged),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Owned::Text),
            any::<i64>().prop_map(Owned::Integer),
            (-1e300..1e300).prop_map(Owned::Real),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Owned::Blob),
        ]
    }

    proptest! {
        #[test]
        fn a_row_reads_back_what_was_written(values in prop::collection::vec(owned(), 0..20)) {
            let mut bytes = Vec::new();
            let mut writer = RowWriter::new(&mut bytes);
            values.iter().for_each(|v| writer.push(v.value()));
            let mut read = Vec::new();
            Row(&bytes).unpack(&mut read).unwrap();
            prop_assert_eq!(&read, &values.iter().map(Owned::value).collect::<Vec<_>>());
            prop_assert_eq!(Row(&bytes).has_unchanged(), read.contains(&Value::Unchanged));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (Row(&bytes).values().count(), Row(&bytes).has_unchanged());
        }
    }
}
