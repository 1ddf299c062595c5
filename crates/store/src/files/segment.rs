//! Segments: files of frames, named by the offset of their first event. A segment begins with a
//! head that repeats what a reader needs of the segments before, so each can be opened alone.
//!
//! The index is a cache in memory: rebuilt from the frames' headers whenever it is missing.

use crate::files::codec::{Compacted, Head, SchemaTable, plain_body, schemas_of};
use crate::files::frame::{Flags, Header};
use crate::files::walk::{Flaw, HEADERS, Walk};
use rowcast_core::Position;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a segment between two entries of its index.
const INDEX_EVERY: u64 = 256 << 10;

/// One file of frames.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Offset of its first event, as its name says.
    pub(crate) base: u64,
    /// Position at the end of the segment before; known of the last segment.
    pub(crate) follows: Option<Position>,
    /// What it stands for, when compaction made it.
    pub(crate) compacted: Option<Compacted>,
    /// Bytes that are durable; nobody reads further.
    len: AtomicU64,
    index: Mutex<Option<Index>>,
}

/// Where to begin to look for an offset, and the schemas to read frames with.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Offset and place of some frames, in order.
    marks: Vec<(u64, u64)>,
    pub(crate) schemas: Arc<SchemaTable>,
}

impl Index {
    /// Notes a frame at the end.
    pub(crate) fn note(&mut self, offset: u64, at: u64) {
        if self.marks.last().is_none_or(|(_, last)| at - last >= INDEX_EVERY) {
            self.marks.push((offset, at));
        }
    }

    fn place(&self, offset: u64) -> u64 {
        let after = self.marks.partition_point(|(o, _)| *o <= offset);
        // Frames without events share their offset with the next one: any of them will do.
        after.checked_sub(1).map_or(0, |i| self.marks[i].1)
    }
}

/// Where a read of a segment begins and ends.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) schemas: Arc<SchemaTable>,
}

impl Segment {
    /// A segment that nobody looked into yet.
    pub(crate) fn unread(path: PathBuf, base: u64, len: u64) -> Self {
        let (follows, compacted, index) = (None, None, Mutex::new(None));
        Self { path, base, follows, compacted, len: len.into(), index }
    }

    /// The same segment, with what its head says of compaction.
    pub(crate) fn with(self, compacted: Option<Compacted>) -> Self {
        Self { compacted, ..self }
    }

    /// A segment whose frames are known.
    pub(crate) fn known(path: PathBuf, head: &Header, len: u64, index: Index) -> Self {
        let (base, follows) = (head.base, head.prev);
        let index = Mutex::new(Some(index));
        Self { path, base, follows, compacted: None, len: len.into(), index }
    }

    fn index(&self) -> MutexGuard<'_, Option<Index>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn schemas(&self) -> Arc<SchemaTable> {
        self.index().as_ref().map(|i| i.schemas.clone()).unwrap_or_default()
    }

    /// Frames became durable: their offsets and places, and the schemas they brought.
    pub(crate) fn grow(&self, len: u64, frames: &[(u64, u64)], added: SchemaTable) {
        let mut index = self.index();
        if let Some(index) = index.as_mut() {
            for (offset, at) in frames {
                index.note(*offset, *at);
            }
            if !added.is_empty() {
                Arc::make_mut(&mut index.schemas).extend(added);
            }
        }
        // Under the lock, so that whoever sees the length also sees the schemas.
        self.len.store(len, Ordering::Release);
    }

    /// Where the frame that holds `offset` is found, after at most a few others.
    pub(crate) fn locate(&self, offset: u64) -> Result<Place, Flaw> {
        let mut index = self.index();
        let len = self.len();
        let index = match index.as_mut() {
            Some(index) => index,
            None => index.insert(build_index(&self.path, self.base, len)?),
        };
        Ok(Place { at: index.place(offset), len, schemas: index.schemas.clone() })
    }
}

/// Reads the headers of a whole segment, and the bodies that bring schemas.
fn build_index(path: &Path, base: u64, len: u64) -> Result<Index, Flaw> {
    let mut walk = Walk::open(path, 0, len, HEADERS)?;
    let (_, _, mut schemas) = read_head(&mut walk, base)?;
    let mut index = Index::default();
    index.note(base, 0);
    while let Some(frame) = walk.header()? {
        if frame.header.flags.has(Flags::SCHEMAS) {
            let body = walk.body(&frame)?;
            schemas_of(&frame.header, body, &mut schemas)
                .map_err(|what| Flaw::nonsense(frame.at, what))?;
        }
        index.note(frame.header.base, frame.at);
    }
    index.schemas = Arc::new(schemas);
    Ok(index)
}

/// Reads the head with which a segment begins.
pub(crate) fn read_head(walk: &mut Walk, base: u64) -> Result<(Header, Head, SchemaTable), Flaw> {
    let bad = |what: &str| Flaw::nonsense(0, what);
    let frame = walk.header()?.ok_or(bad("the file is empty"))?;
    let header = frame.header;
    if !header.flags.has(Flags::HEAD) || header.count != 0 {
        return Err(bad("the file does not begin with a head"));
    }
    if header.base != base {
        return Err(bad(&format!(
            "it begins at offset {}, not at the one in its name",
            header.base
        )));
    }
    let body = walk.body(&frame)?;
    let (head, table) =
        plain_body(&header, body).and_then(Head::decode).map_err(|what| Flaw::nonsense(0, what))?;
    Ok((header, head, table))
}

/// The file of the segment that begins at `base`.
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:020}.log")
}

/// The file of the compacted segment that stands for the offsets from `base` to before `until`.
pub(crate) fn compacted_name(base: u64, until: u64) -> String {
    format!("{base:020}-{until:020}.log")
}

/// What a name says: where the segment begins, and where it ends when it is a compacted one.
fn parse_name(name: &str) -> Option<(u64, Option<u64>)> {
    let stem = name.strip_suffix(".log")?;
    let Some((base, until)) = stem.split_once('-') else {
        let base = stem.parse().ok()?;
        return (file_name(base) == name).then_some((base, None));
    };
    let (base, until) = (base.parse().ok()?, until.parse().ok()?);
    (compacted_name(base, until) == name && base < until).then_some((base, Some(until)))
}

/// Where a compacted segment ends, by its name; `None` for a plain one.
pub(crate) fn until_of(path: &Path) -> Option<u64> {
    parse_name(path.file_name()?.to_str()?)?.1
}

/// What a stream's directory holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Base, file and length of each segment, in order.
    pub(crate) segments: Vec<(u64, PathBuf, u64)>,
    /// Segments that a compacted one stands for: it was finished, and they were not yet removed.
    pub(crate) replaced: Vec<PathBuf>,
    /// What crashes left of segments that were never begun.
    pub(crate) unborn: Vec<PathBuf>,
}

pub(crate) fn list(dir: &Path) -> io::Result<Listing> {
    let Listing { mut segments, replaced, mut unborn } = Listing::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".new") {
            unborn.push(entry.path());
        } else if let Some((base, _)) = parse_name(name) {
            match entry.metadata() {
                Ok(meta) => segments.push((base, entry.path(), meta.len())),
                // Retention of a running instance was faster than our look.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    segments.sort_unstable();
    Ok(without_replaced(Listing { segments, replaced, unborn }))
}

/// A compacted segment stands for everything that begins where it holds offsets. Of two that begin
/// at one place, the longer one is the newer one.
fn without_replaced(listing: Listing) -> Listing {
    let Listing { segments, mut replaced, unborn } = listing;
    let mut kept: Vec<(u64, PathBuf, u64)> = Vec::with_capacity(segments.len());
    for segment in segments {
        let Some(last) = kept.last() else {
            kept.push(segment);
            continue;
        };
        let (stands_until, until) = (until_of(&last.1), until_of(&segment.1));
        if segment.0 == last.0 && until > stands_until {
            replaced.extend(kept.pop().map(|(_, path, _)| path));
            kept.push(segment);
        } else if stands_until.is_some_and(|end| segment.0 < end) {
            replaced.push(segment.1);
        } else {
            kept.push(segment);
        }
    }
    Listing { segments: kept, replaced, unborn }
}
