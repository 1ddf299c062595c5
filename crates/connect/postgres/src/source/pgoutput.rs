//! Reads the messages of `pgoutput`, protocol version 1. Tuples are checked once as a whole and then
//! walked without a copy; nothing a server sends makes this panic.

/// What is wrong with a message; never what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed message of pgoutput: {0}")]
pub(crate) struct Malformed(&'static str);

/// One value of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    /// SQL NULL; in an old key also every column that is no part of the key.
    Null,
    /// A TOASTed value that the change did not touch.
    Unchanged,
    /// The value's text.
    Text(&'a [u8]),
}

/// A row as the server sent it. Its bytes were checked: walking it yields `columns` cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    /// Number of columns.
    pub(crate) columns: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Walks the cells.
    pub(crate) fn cells(self) -> Cells<'a> {
        Cells { rest: self.bytes }
    }
}

/// Walks a tuple.
#[derive(Debug, Clone)]
pub(crate) struct Cells<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        let (cell, rest) = cell(self.rest)?;
        self.rest = rest;
        Some(cell)
    }
}

fn cell(bytes: &[u8]) -> Option<(Cell<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    match kind {
        b'n' => Some((Cell::Null, rest)),
        b'u' => Some((Cell::Unchanged, rest)),
        b't' => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            Some((Cell::Text(value), rest))
        }
        _ => None,
    }
}

/// A column of a relation, as it was when the change was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    /// Part of the replica identity.
    pub(crate) identity: bool,
    /// Its name.
    pub(crate) name: String,
    /// Oid of its type.
    pub(crate) type_oid: u32,
    /// Modifier of its type; -1 for none.
    pub(crate) type_modifier: i32,
}

/// A relation, as it was when the change was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    /// Its oid.
    pub(crate) oid: u32,
    /// Its schema; empty for `pg_catalog`.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// `d`, `n`, `f` or `i`.
    pub(crate) identity: u8,
    /// The columns that rows carry, in order.
    pub(crate) columns: Vec<RelationColumn>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A transaction begins; it commits at `commit`.
    Begin {
        /// LSN of the commit record.
        commit: u64,
        /// When, in microseconds since 2000.
        at: i64,
        /// Its number.
        xid: u32,
    },
    /// It ends.
    Commit {
        /// LSN of the commit record.
        commit: u64,
        /// LSN after the commit record.
        end: u64,
    },
    /// Speaks of a relation, before the first change of it.
    Relation(Relation),
    /// A row came to be.
    Insert {
        /// Whose.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row changed.
    Update {
        /// Whose.
        relation: u32,
        /// Its old key or its old self.
        old: Option<Tuple<'a>>,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row went.
    Delete {
        /// Whose.
        relation: u32,
        /// Its old key or its old self.
        old: Tuple<'a>,
    },
    /// Tables were emptied.
    Truncate {
        /// Which.
        relations: Vec<u32>,
    },
    /// Somebody's own message.
    Logical {
        /// Where it stands.
        lsn: u64,
        /// Whose it is.
        prefix: &'a [u8],
    },
    /// What we have no use for: types' names, origins.
    Other,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (chunk, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.chunk::<1>()?[0])
    }
    fn u16(&mut self) -> Result<u16, Malformed> {
        self.chunk().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Result<u32, Malformed> {
        self.chunk().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Result<u64, Malformed> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn zero_ended(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.0).ok_or(Malformed("a name does not end"))?;
        let (name, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(name)
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let name = self.zero_ended()?;
        let name = std::str::from_utf8(name).map_err(|_| Malformed("a name is not UTF-8"))?;
        Ok(name.to_owned())
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        let columns = self.u16()?;
        let mut rest = self.0;
        for _ in 0..columns {
            (_, rest) = cell(rest).ok_or(Malformed("a row that is cut short"))?;
        }
        let bytes = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Ok(Tuple { columns, bytes })
    }
}

/// Reads one message.
pub(crate) fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut r = Reader(bytes);
    Ok(match r.u8()? {
        b'B' => Message::Begin { commit: r.u64()?, at: r.u64()? as i64, xid: r.u32()? },
        b'C' => {
            r.u8()?;
            Message::Commit { commit: r.u64()?, end: r.u64()? }
        }
        b'R' => Message::Relation(relation(&mut r)?),
        b'I' => {
            let relation = r.u32()?;
            expect(&mut r, b'N')?;
            Message::Insert { relation, new: r.tuple()? }
        }
        b'U' => {
            let relation = r.u32()?;
            let mut old = None;
            let mut kind = r.u8()?;
            if matches!(kind, b'K' | b'O') {
                old = Some(r.tuple()?);
                kind = r.u8()?;
            }
            if kind != b'N' {
                return Err(Malformed("an update without a new row"));
            }
            Message::Update { relation, old, new: r.tuple()? }
        }
        b'D' => {
            let relation = r.u32()?;
            if !matches!(r.u8()?, b'K' | b'O') {
                return Err(Malformed("a delete without an old row"));
            }
            Message::Delete { relation, old: r.tuple()? }
        }
        b'T' => {
            let count = r.u32()?;
            r.u8()?;
            let relations = (0..count).map(|_| r.u32()).collect::<Result<_, _>>()?;
            Message::Truncate { relations }
        }
        b'M' => {
            r.u8()?;
            Message::Logical { lsn: r.u64()?, prefix: r.zero_ended()? }
        }
        b'O' | b'Y' => Message::Other,
        _ => return Err(Malformed("of a kind that version 1 does not have")),
    })
}

fn expect(r: &mut Reader<'_>, kind: u8) -> Result<(), Malformed> {
    if r.u8()? == kind { Ok(()) } else { Err(Malformed("a row of an unexpected kind")) }
}

fn relation(r: &mut Reader<'_>) -> Result<Relation, Malformed> {
    let (oid, namespace, name, identity) = (r.u32()?, r.name()?, r.name()?, r.u8()?);
    let mut columns = Vec::new();
    for _ in 0..r.u16()? {
        columns.push(RelationColumn {
            identity: r.u8()? & 1 == 1,
            name: r.name()?,
            type_oid: r.u32()?,
            type_modifier: r.u32()? as i32,
        });
    }
    Ok(Relation { oid, namespace, name, identity, columns })
}

#[cfg(test)]
mod tests;
