//! Walks a segment's frames, proving on the way that each follows the one before.

use crate::files::frame::{BadHeader, HEADER, Header};
use bytes::Bytes;
use rowcast_core::Position;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why a walk cannot go on.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// The system did not give us the bytes.
    Io(io::Error),
    /// The bytes are not what was written.
    Bad {
        /// Where the frame begins.
        at: u64,
        /// How it shows.
        what: String,
        /// A crash may have left it so. No crash makes a good checksum over nonsense.
        torn: bool,
    },
}

impl Flaw {
    /// Bytes that a crash may have left.
    pub(crate) fn torn(at: u64, what: impl Into<String>) -> Self {
        Self::Bad { at, what: what.into(), torn: true }
    }

    /// Bytes that no crash leaves.
    pub(crate) fn nonsense(at: u64, what: impl Into<String>) -> Self {
        Self::Bad { at, what: what.into(), torn: false }
    }
}

impl From<io::Error> for Flaw {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// What the next frame must connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) next: u64,
    pub(crate) position: Option<Position>,
}

/// A frame's place and header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) at: u64,
    pub(crate) header: Header,
}

/// Frames of one file, one after another.
#[derive(Debug)]
pub(crate) struct Walk {
    file: File,
    /// Where the next frame begins.
    pub(crate) at: u64,
    /// Nothing is read from here on.
    end: u64,
    window: Bytes,
    window_at: u64,
    window_len: usize,
    /// `None` believes the first frame.
    pub(crate) link: Option<Link>,
}

/// Read at once when only headers are looked at, and when bodies are too.
pub(crate) const HEADERS: usize = 32 << 10;
pub(crate) const BODIES: usize = 1 << 20;

impl Walk {
    /// Frames in `at..end` of a file, read in pieces of about `window` bytes.
    pub(crate) fn open(path: &Path, at: u64, end: u64, window: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let (window_len, window) = (window, Bytes::new());
        Ok(Self { file, at, end, window, window_at: 0, window_len, link: None })
    }

    /// The next frame's header, checked and linked; steps over its body. `None` at the end.
    pub(crate) fn header(&mut self) -> Result<Option<Frame>, Flaw> {
        let at = self.at;
        if at == self.end {
            return Ok(None);
        }
        let short = || Flaw::torn(at, "the file ends inside of a frame");
        if self.end - at < HEADER as u64 {
            return Err(short());
        }
        // Little, in case the body is larger than a window: that is read by itself, and all of it again.
        let bytes = self.bytes(at, HEADER, HEADERS.min(self.window_len))?;
        let bytes = bytes.first_chunk().expect("as many as asked for");
        let header = Header::decode(bytes).map_err(|e| match e {
            BadHeader::Magic | BadHeader::Checksum => Flaw::torn(at, e.to_string()),
            BadHeader::Version(_) | BadHeader::Content => Flaw::nonsense(at, e.to_string()),
        })?;
        if self.end - at < header.frame_len() {
            return Err(short());
        }
        if let Some(link) = self.link {
            connects(&header, link).map_err(|what| Flaw::torn(at, what))?;
        }
        self.link = Some(Link { next: header.end(), position: header.until });
        self.at += header.frame_len();
        Ok(Some(Frame { at, header }))
    }

    /// The body of a frame that [`header`](Self::header) gave, with its checksum proved.
    pub(crate) fn body(&mut self, frame: &Frame) -> Result<Bytes, Flaw> {
        let body =
            self.bytes(frame.at + HEADER as u64, frame.header.body as usize, self.window_len)?;
        if crc32c::crc32c(&body) == frame.header.body_crc {
            return Ok(body);
        }
        Err(Flaw::torn(frame.at, "the body's checksum does not match"))
    }

    /// The next place from `from` on where a frame with a good header begins, whatever it links to.
    pub(crate) fn find(&mut self, from: u64) -> Result<Option<Frame>, Flaw> {
        let mut at = from;
        while at + HEADER as u64 <= self.end {
            let len = (self.end - at).min(BODIES as u64) as usize;
            let bytes = self.bytes(at, len, len)?;
            for i in 0..=len - HEADER {
                if !Header::begins_at(&bytes[i..]) {
                    continue;
                }
                let head = bytes[i..].first_chunk().expect("a header lies before the end");
                match Header::decode(head) {
                    Ok(header) => return Ok(Some(Frame { at: at + i as u64, header })),
                    Err(
                        BadHeader::Magic
                        | BadHeader::Checksum
                        | BadHeader::Version(_)
                        | BadHeader::Content,
                    ) => {}
                }
            }
            at += (len - HEADER + 1) as u64;
        }
        Ok(None)
    }

    /// Goes on at a frame that [`find`](Self::find) gave, believing it.
    pub(crate) fn go_to(&mut self, frame: &Frame) {
        self.at = frame.at;
        self.link = None;
    }

    /// `len` bytes; where they have to be read, `window` bytes are.
    fn bytes(&mut self, at: u64, len: usize, window: usize) -> Result<Bytes, Flaw> {
        let inside = |start: u64, have: usize| {
            at >= start && at + len as u64 <= start + have as u64 && at - start <= have as u64
        };
        if !inside(self.window_at, self.window.len()) {
            let rest = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let mut fresh = vec![0; len.max(window).min(rest.max(len))];
            self.file.read_exact_at(&mut fresh, at).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Flaw::torn(at, "the file ends before what was durable")
                }
                _ => Flaw::Io(e),
            })?;
            self.window = fresh.into();
            self.window_at = at;
        }
        let start = (at - self.window_at) as usize;
        Ok(self.window.slice(start..start + len))
    }
}

fn connects(header: &Header, link: Link) -> Result<(), String> {
    let print = |p: Option<Position>| p.map_or("the beginning".to_string(), |p| p.to_string());
    if header.base != link.next {
        return Err(format!("it begins at offset {}, not {}", header.base, link.next));
    }
    if header.prev != link.position {
        let (prev, position) = (print(header.prev), print(link.position));
        return Err(format!("it follows position {prev}, but the frame before ends at {position}"));
    }
    Ok(())
}
