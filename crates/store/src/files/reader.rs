//! Reads from disk for readers that are behind the cache. Every frame is proved before it is
//! handed on: checksum, link to the frame before, and soundness.

use crate::files::codec::decode;
use crate::files::segment::Segment;
use crate::files::walk::{BODIES, Flaw, Link, Walk};
use rowcast_core::{ByteSize, Offset, Stored};
use std::path::PathBuf;
use std::sync::Arc;

/// A flaw, and the file that has it.
#[derive(Debug)]
pub(crate) struct ReadError {
    pub(crate) path: PathBuf,
    pub(crate) flaw: Flaw,
}

/// The most that one read gathers, whatever was asked for.
const READ_MAX: usize = 16 << 20;

/// Batches from `at` on, about `max` bytes, at least one. `segments` are in order, and the first one
/// holds `at`. Blocks.
pub(crate) fn read(
    segments: &[Arc<Segment>],
    at: Offset,
    max: ByteSize,
) -> Result<Vec<Stored>, ReadError> {
    let max = max.as_usize().min(READ_MAX);
    let mut gathered = Gathered { batches: Vec::new(), bytes: 0, max, next: at };
    let mut link = None;
    for segment in segments {
        let named = |flaw| ReadError { path: segment.path.clone(), flaw };
        if gathered.read_segment(segment, &mut link).map_err(named)? {
            break;
        }
    }
    Ok(gathered.batches)
}

struct Gathered {
    batches: Vec<Stored>,
    bytes: usize,
    max: usize,
    next: Offset,
}

impl Gathered {
    /// Says whether enough was read.
    fn read_segment(&mut self, segment: &Segment, link: &mut Option<Link>) -> Result<bool, Flaw> {
        let place = segment.locate(self.next.0)?;
        let window = self.max.saturating_sub(self.bytes).clamp(64 << 10, BODIES);
        let mut walk = Walk::open(&segment.path, place.at, place.len, window)?;
        // A walk that begins behind a segment's head has nothing to compare with.
        walk.link = link.filter(|_| place.at == 0);
        while let Some(frame) = walk.header()? {
            let header = frame.header;
            // Also a frame without events may stand for offsets.
            if header.end() <= self.next.0 {
                continue;
            }
            let body = walk.body(&frame)?;
            let batch = decode(&header, body, &place.schemas)
                .map_err(|what| Flaw::nonsense(frame.at, what))?;
            let size = batch.size();
            if !self.batches.is_empty() && self.bytes + size > self.max {
                return Ok(true);
            }
            self.bytes += size;
            self.next = Offset(header.end());
            self.batches.push(Stored { base: Offset(header.base), batch: Arc::new(batch) });
            if self.bytes >= self.max {
                return Ok(true);
            }
        }
        *link = walk.link;
        Ok(false)
    }
}
