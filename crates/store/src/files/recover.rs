//! Opening a stream: what the last segment says about its end, and what a crash left there.
//!
//! A crash may leave anything after the last sync: half a frame, or a later frame without an
//! earlier one, since nothing orders writes between two syncs. All of that was never acknowledged
//! and is cut off. A frame that *was* durable and is unreadable now is damage, and nothing is
//! touched. What tells them apart:
//!
//! - every frame says how many bytes of its segment were durable when it was written, so a later
//!   good frame whose number lies beyond the bad one proves damage, while frames of one torn write
//!   prove nothing;
//! - the mark beside the segments says the same for the last frames, which no later one can prove.

use crate::files::codec::{Compacted, Head, SchemaTable, decode};
use crate::files::durable::Durable;
use crate::files::frame::{Flags, Header};
use crate::files::segment::{self, Index, Listing, Segment, read_head};
use crate::files::walk::{BODIES, Flaw, Frame, HEADERS, Walk};
use crate::track::Track;
use rowcast_core::LogId;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A stream as its files say.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) id: LogId,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) track: Track,
    /// Bytes of the last segment to keep, when there are more.
    pub(crate) cut: Option<u64>,
    /// Bytes of the last segment's file.
    pub(crate) last_len: u64,
    /// What crashes left: segments that were never begun, and those that a compacted one stands for.
    pub(crate) leftovers: Vec<PathBuf>,
}

/// Why a stream cannot be opened.
#[derive(Debug)]
pub(crate) enum RecoverError {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for RecoverError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Reads a stream's directory and its last segment; changes nothing. `None` when there is no
/// stream yet.
pub(crate) fn recover(dir: &Path) -> Result<Option<Recovered>, RecoverError> {
    // The mark first: a running instance only moves it on.
    let mark = Durable::read(dir)?;
    let Listing { segments: mut files, replaced, unborn } = segment::list(dir)?;
    let leftovers = unborn.into_iter().chain(replaced).collect();
    let Some((base, path, len)) = files.pop() else {
        return match mark {
            None => Ok(None),
            Some(_) => Err(RecoverError::Damaged(format!(
                "{} holds no segments, but held some: bring the directory back from a backup, or \
                 remove it to begin a new log, which every copy will refuse",
                dir.display()
            ))),
        };
    };
    if let Some(mark) = mark
        && mark.base > base
    {
        let gone = dir.join(segment::file_name(mark.base));
        return Err(RecoverError::Damaged(format!("{} is missing", gone.display())));
    }
    let durable = mark.filter(|m| m.base == base).map_or(0, |m| m.len);
    let end = scan(&path, base, len, durable)?;
    let mut segments = Vec::with_capacity(files.len() + 1);
    for (base, path, len) in files {
        let compacted = compacted(&path, base, len)?;
        segments.push(Arc::new(Segment::unread(path, base, len).with(compacted)));
    }
    segments.push(Arc::new(Segment::known(path, &end.head, end.len, end.index)));
    let cut = (end.len < len).then_some(end.len);
    Ok(Some(Recovered { id: end.id, segments, track: end.track, cut, last_len: len, leftovers }))
}

/// What the head of a segment says of compaction, when its name says that it is compacted.
fn compacted(path: &Path, base: u64, len: u64) -> Result<Option<Compacted>, RecoverError> {
    let Some(until) = segment::until_of(path) else { return Ok(None) };
    let mut walk = Walk::open(path, 0, len, HEADERS)?;
    match read_head(&mut walk, base) {
        Ok((_, Head { compacted: Some(compacted), .. }, _)) if compacted.until == until => {
            Ok(Some(compacted))
        }
        Ok(_) => {
            let file = path.display();
            Err(RecoverError::Damaged(format!("{file} does not say what it stands for")))
        }
        Err(Flaw::Io(e)) => Err(RecoverError::Io(e)),
        Err(Flaw::Bad { at, what, .. }) => {
            Err(RecoverError::Damaged(format!("{} at byte {at}: {what}", path.display())))
        }
    }
}

/// The end of a last segment.
struct End {
    id: LogId,
    head: Header,
    track: Track,
    index: Index,
    len: u64,
}

fn scan(path: &Path, base: u64, len: u64, durable: u64) -> Result<End, RecoverError> {
    let damaged = |flaw| match flaw {
        Flaw::Io(e) => RecoverError::Io(e),
        Flaw::Bad { at, what, .. } => {
            RecoverError::Damaged(format!("{} at byte {at}: {what}", path.display()))
        }
    };
    let mut walk = Walk::open(path, 0, len, BODIES)?;
    let (header, head, mut schemas) = read_head(&mut walk, base).map_err(damaged)?;
    let track =
        Track::restore(rowcast_core::Offset(base), header.until, head.snapshots, head.schemas);
    let mut end = End { id: head.log, head: header, track, index: Index::default(), len: walk.at };
    end.index.note(base, 0);
    loop {
        match next(&mut walk, &mut schemas, &mut end.track) {
            Ok(Some(frame)) => {
                end.index.note(frame.header.base, frame.at);
                end.len = walk.at;
            }
            Ok(None) => break,
            Err(Flaw::Bad { at, what, torn }) => {
                let proof = proves_damage(&mut walk, at, torn, durable).map_err(damaged)?;
                if let Some(proof) = proof {
                    let next = end.track.next;
                    return Err(RecoverError::Damaged(format!(
                        "{} at byte {at}, from offset {next} on: {what}; {proof}",
                        path.display()
                    )));
                }
                break;
            }
            Err(flaw) => return Err(damaged(flaw)),
        }
    }
    if end.len < durable {
        return Err(RecoverError::Damaged(format!(
            "{} ends at byte {}, from offset {} on: {durable} bytes were durable",
            path.display(),
            end.len,
            end.track.next
        )));
    }
    end.index.schemas = Arc::new(schemas);
    Ok(end)
}

/// Proves the next frame and carries the stream's end behind it.
fn next(
    walk: &mut Walk,
    schemas: &mut SchemaTable,
    track: &mut Track,
) -> Result<Option<Frame>, Flaw> {
    let Some(frame) = walk.header()? else { return Ok(None) };
    let header = frame.header;
    let body = walk.body(&frame)?;
    let bad = |what: String| Flaw::nonsense(frame.at, what);
    if header.flags.has(Flags::HEAD) {
        return Err(bad("a head stands inside of a segment".into()));
    }
    if header.flags.has(Flags::SCHEMAS) {
        crate::files::codec::schemas_of(&header, body.clone(), schemas).map_err(bad)?;
    }
    if header.flags.has(Flags::NOTES) {
        track.advance(&decode(&header, body, schemas).map_err(bad)?);
    } else {
        track.next.0 = header.end();
        track.position = header.until;
    }
    Ok(Some(frame))
}

/// Whether the unreadable frame at `at` was durable once; if so, how we know.
pub(crate) fn proves_damage(
    walk: &mut Walk,
    at: u64,
    torn: bool,
    durable: u64,
) -> Result<Option<String>, Flaw> {
    if !torn {
        return Ok(Some("its checksum is good, so no crash left it so".into()));
    }
    if durable > at {
        return Ok(Some(format!("the mark says that {durable} bytes were durable")));
    }
    let mut from = at + 1;
    while let Some(later) = walk.find(from)? {
        // Of a later frame only its word about durability counts; a number beyond its own place is
        // the content of a row that looks like a frame.
        if later.header.durable > at && later.header.durable <= later.at {
            let Frame { at, header } = later;
            return Ok(Some(format!("a good frame at offset {}, byte {at}, follows", header.base)));
        }
        from = later.at + 1;
    }
    Ok(None)
}
