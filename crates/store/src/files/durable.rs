//! The mark: how much of a stream's last segment is known to be durable.
//!
//! It is written after every sync and never synced itself, so it may be old, or missing after a
//! power cut, but it is never ahead of the truth. With it, recovery tells a torn tail from damage
//! to the last frames, which no later frame could prove.

use crate::files::disk::{DiskFile, write_all_at};
use std::fs;
use std::io;
use std::path::Path;

/// The file's name in the stream's directory.
pub(crate) const FILE: &str = "durable";
const MAGIC: [u8; 4] = *b"RwDu";
const LEN: usize = 24;

/// What the mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Durable {
    /// The last segment.
    pub(crate) base: u64,
    /// Its durable bytes.
    pub(crate) len: u64,
}

impl Durable {
    fn encode(self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..4].copy_from_slice(&MAGIC);
        out[4..12].copy_from_slice(&self.base.to_le_bytes());
        out[12..20].copy_from_slice(&self.len.to_le_bytes());
        let crc = crc32c::crc32c(&out[..20]);
        out[20..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let crc = crc32c::crc32c(&bytes[..20]).to_le_bytes();
        let good = bytes[..4] == MAGIC && bytes[20..] == crc;
        good.then(|| Self { base: long(4), len: long(12) })
    }

    /// Writes the mark; nothing depends on whether that works.
    pub(crate) fn write(self, file: &mut dyn DiskFile) -> io::Result<()> {
        write_all_at(file, &self.encode(), 0)
    }

    /// The mark of a stream; `None` when there is none that makes sense.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(FILE)) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}
