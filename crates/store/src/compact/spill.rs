//! Scratch files: records in the order in which they were written, each with a checksum. They end in
//! `.new`, so what a crash leaves of them goes when the stream is opened.

use super::record::{Fault, Record};
use crate::files::disk::{Disk, DiskFile, write_all_at};
use rowcast_core::{Op, Point};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// A scratch file, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Spill {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    len: u64,
    buffer: Vec<u8>,
    buffer_max: usize,
}

impl Spill {
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        buffer_max: usize,
    ) -> Result<Self, Fault> {
        let file = disk.create(&path)?;
        Ok(Self { disk: disk.clone(), path, file, len: 0, buffer: Vec::new(), buffer_max })
    }

    /// Adds a record, with its key where the reader needs one. Returns the bytes it takes.
    pub(crate) fn push(&mut self, key: &[u8], record: &Record) -> Result<u64, Fault> {
        let start = self.buffer.len();
        encode(key, record, &mut self.buffer);
        let bytes = (self.buffer.len() - start) as u64;
        if self.buffer.len() >= self.buffer_max {
            self.flush()?;
        }
        Ok(bytes)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        write_all_at(self.file.as_mut(), &self.buffer, self.len)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends writing; reads what was written.
    pub(crate) fn read(mut self, buffer: usize) -> Result<SpillReader, Fault> {
        self.flush()?;
        self.buffer = Vec::new();
        let file = BufReader::with_capacity(buffer, File::open(&self.path)?);
        Ok(SpillReader { left: self.len, file, _spill: self })
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // What stays goes when the stream is opened next.
        let _ = self.disk.remove(&self.path);
    }
}

/// Reads a scratch file once.
#[derive(Debug)]
pub(crate) struct SpillReader {
    left: u64,
    file: BufReader<File>,
    /// The file goes with its reader.
    _spill: Spill,
}

/// A key and a record of it.
pub(crate) type Keyed = (Box<[u8]>, Record);

const FIXED: usize = 4 + 4 + 4 + 8 + 1 + 8 + 8 + 1 + 1 + 4;

fn encode(key: &[u8], r: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    for len in [key.len(), r.before.len(), r.after.len()] {
        out.extend_from_slice(&(len as u32).to_le_bytes());
    }
    let (kind, point) = match r.at {
        Point::Lsn(at) => (1, at),
        Point::Sequence(at) => (2, at),
    };
    out.extend_from_slice(&r.offset.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&point.to_le_bytes());
    out.extend_from_slice(&r.committed.to_le_bytes());
    out.extend_from_slice(&[r.op as u8, u8::from(r.pinned) | u8::from(r.partial) << 1]);
    out.extend_from_slice(&r.schema.to_le_bytes());
    for bytes in [key, &r.before, &r.after] {
        out.extend_from_slice(bytes);
    }
    let crc = crc32c::crc32c(&out[start + 4..]).to_le_bytes();
    out[start..start + 4].copy_from_slice(&crc);
}

impl SpillReader {
    /// The next record and its key.
    pub(crate) fn next(&mut self) -> Result<Option<Keyed>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut fixed = [0; 4 + FIXED];
        self.file.read_exact(&mut fixed)?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| fixed[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| fixed[at + i]));
        let lens = [short(4), short(8), short(12)].map(|len| len as usize);
        let total = lens.iter().sum::<usize>() as u64 + fixed.len() as u64;
        let bad = || Fault::Unreadable("a scratch file of the compaction is damaged".into());
        self.left = self.left.checked_sub(total).ok_or_else(bad)?;
        let mut parts = lens.map(|len| vec![0; len].into_boxed_slice());
        let mut crc = crc32c::crc32c(&fixed[4..]);
        for part in &mut parts {
            self.file.read_exact(part)?;
            crc = crc32c::crc32c_append(crc, part);
        }
        let (point, flags) = (long(25), fixed[42]);
        let at = if fixed[24] == 1 { Point::Lsn(point) } else { Point::Sequence(point) };
        let op = Op::from_number(fixed[41]).filter(|_| crc == short(0)).ok_or_else(bad)?;
        let [key, before, after] = parts;
        let record = Record {
            offset: long(16),
            at,
            committed: long(33) as i64,
            op,
            schema: short(43),
            pinned: flags & 1 != 0,
            partial: flags & 2 != 0,
            before,
            after,
        };
        Ok(Some((key, record)))
    }
}
