//! One frame: a fixed header and a body. The header alone is enough to walk a segment, and says
//! what must have come before it.
//!
//! The layout is documented in `docs/log-format.md`; numbers here never change their meaning.

use rowcast_core::{Epoch, Point, Position};

/// Bytes of a header.
pub(crate) const HEADER: usize = 112;
/// The format of a frame as it was appended.
pub(crate) const PLAIN: u8 = 1;
/// The format of a frame that compaction made: its events have gaps between their offsets.
pub(crate) const COMPACTED: u8 = 2;
const MAGIC: [u8; 4] = *b"RwCf";

/// The longest body that is written or believed.
pub(crate) const BODY_MAX: usize = 0x7000_0000;

/// Yes-or-no facts about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    /// The last transaction ends with this batch.
    pub(crate) const WHOLE: Self = Self(1);
    /// The body is compressed.
    pub(crate) const LZ4: Self = Self(2);
    /// The first frame of a segment: it repeats what a reader needs of the segments before.
    pub(crate) const HEAD: Self = Self(4);
    /// A new history begins.
    pub(crate) const FRESH: Self = Self(8);
    /// The body holds schemas that later frames of the segment refer to.
    pub(crate) const SCHEMAS: Self = Self(16);
    /// The newest schemas or snapshots change with this batch.
    pub(crate) const NOTES: Self = Self(32);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn with(self, flag: Self, on: bool) -> Self {
        if on { Self(self.0 | flag.0) } else { self }
    }
}

/// What a frame says about itself and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: Flags,
    /// Bytes of the body as it lies on disk.
    pub(crate) body: u32,
    /// Bytes of the body before compression.
    pub(crate) plain: u32,
    /// Offset of the first event.
    pub(crate) base: u64,
    /// Number of events.
    pub(crate) count: u32,
    /// crc32c of the body.
    pub(crate) body_crc: u32,
    /// So many bytes of this segment were known to be durable when this frame was written. A frame
    /// with a greater mark proves that everything before the mark was there once.
    pub(crate) durable: u64,
    /// Position after this frame; `None` only in the head of a new stream.
    pub(crate) until: Option<Position>,
    /// Position after the frame before: what chains the frames.
    pub(crate) prev: Option<Position>,
    /// Of a frame that compaction made: so many offsets it stands for beside those of its events.
    pub(crate) skipped: Option<u32>,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// They do not begin as one.
    Magic,
    /// They begin as one, and its checksum does not match.
    Checksum,
    /// A good header of another format.
    Version(u8),
    /// The checksum matches and the content makes no sense.
    Content,
}

impl std::fmt::Display for BadHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Magic => f.write_str("no frame begins here"),
            Self::Checksum => f.write_str("the header's checksum does not match"),
            Self::Version(v) => write!(
                f,
                "it is in format {v}, and this release reads formats {PLAIN} and {COMPACTED}: use \
                 the release that wrote it, or a newer one"
            ),
            Self::Content => f.write_str("the header makes no sense"),
        }
    }
}

impl Header {
    /// The offset after the last one that the frame stands for.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.span()
    }

    fn span(&self) -> u64 {
        u64::from(self.count) + u64::from(self.skipped.unwrap_or(0))
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.body)
    }

    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        let format = if self.skipped.is_some() { COMPACTED } else { PLAIN };
        put(&[format, self.flags.0, point_tag(self.until), point_tag(self.prev)]);
        put(&self.body.to_le_bytes());
        put(&self.plain.to_le_bytes());
        put(&self.base.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&self.body_crc.to_le_bytes());
        put(&self.durable.to_le_bytes());
        for position in [self.until, self.prev] {
            for number in position_numbers(position) {
                put(&number.to_le_bytes());
            }
        }
        put(&self.skipped.unwrap_or(0).to_le_bytes());
        let crc = crc32c::crc32c(&out[..HEADER - 4]);
        out[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Result<Self, BadHeader> {
        if bytes[..4] != MAGIC {
            return Err(BadHeader::Magic);
        }
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if crc32c::crc32c(&bytes[..HEADER - 4]) != short(HEADER - 4) {
            return Err(BadHeader::Checksum);
        }
        let skipped = match bytes[4] {
            PLAIN => None,
            COMPACTED => Some(short(104)),
            other => return Err(BadHeader::Version(other)),
        };
        let position = |tag: u8, at: usize| {
            position_from(tag, [long(at), long(at + 8), long(at + 16), long(at + 24)])
        };
        let header = Self {
            flags: Flags(bytes[5]),
            body: short(8),
            plain: short(12),
            base: long(16),
            count: short(24),
            body_crc: short(28),
            durable: long(32),
            until: position(bytes[6], 40).ok_or(BadHeader::Content)?,
            prev: position(bytes[7], 72).ok_or(BadHeader::Content)?,
            skipped,
        };
        let sizes = header.body as usize <= BODY_MAX && header.plain as usize <= BODY_MAX;
        let offsets = header.base.checked_add(header.span()).is_some();
        let span = u32::try_from(header.span()).is_ok();
        if sizes && offsets && span { Ok(header) } else { Err(BadHeader::Content) }
    }

    /// Whether bytes may begin a frame, for looking past damage.
    pub(crate) fn begins_at(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }
}

fn point_tag(position: Option<Position>) -> u8 {
    match position.map(|p| p.point) {
        None => 0,
        Some(point) => point_number(point),
    }
}

/// The number of a kind of point, as stored.
pub(crate) fn point_number(point: Point) -> u8 {
    match point {
        Point::Lsn(_) => 1,
        Point::Sequence(_) => 2,
    }
}

/// The point with this number and value.
pub(crate) fn point_from(number: u8, value: u64) -> Option<Point> {
    match number {
        1 => Some(Point::Lsn(value)),
        2 => Some(Point::Sequence(value)),
        _ => None,
    }
}

fn position_numbers(position: Option<Position>) -> [u64; 4] {
    position.map_or([0; 4], |p| [p.epoch.identity, p.epoch.birth, p.point.value(), p.index])
}

fn position_from(tag: u8, [identity, birth, value, index]: [u64; 4]) -> Option<Option<Position>> {
    if tag == 0 {
        return Some(None);
    }
    let point = point_from(tag, value)?;
    Some(Some(Position { epoch: Epoch { identity, birth }, point, index }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn a_header() -> Header {
        Header {
            flags: Flags::WHOLE.with(Flags::FRESH, true),
            body: 77,
            plain: 99,
            base: 1 << 40,
            count: 12,
            body_crc: 0xdead_beef,
            durable: 4096,
            until: Some(Position {
                epoch: Epoch { identity: u64::MAX, birth: 3 },
                point: Point::Lsn(55),
                index: 9,
            }),
            prev: None,
            skipped: None,
        }
    }

    #[test]
    fn a_header_reads_back() {
        assert_eq!(Header::decode(&a_header().encode()), Ok(a_header()));
        let compacted = Header { skipped: Some(70_000), ..a_header() };
        assert_eq!(Header::decode(&compacted.encode()), Ok(compacted));
        assert_eq!(compacted.end(), a_header().end() + 70_000);
    }

    #[test]
    fn a_header_of_another_format_says_so() {
        let mut bytes = a_header().encode();
        bytes[4] = 9;
        let crc = crc32c::crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(BadHeader::Version(9)));
    }

    proptest! {
        #[test]
        fn every_flipped_bit_of_a_header_is_seen(bit in 0..HEADER * 8) {
            let mut bytes = a_header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes).is_err());
        }
    }
}
