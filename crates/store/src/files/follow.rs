//! Reads a stream's events from its files without changing them, beside a running instance or
//! without one. For looking at a log; routes read through the log itself.

use crate::files::codec::{SchemaTable, decode, schemas_of};
use crate::files::durable::Durable;
use crate::files::frame::Flags;
use crate::files::segment::{self, read_head};
use crate::files::walk::{BODIES, Flaw, Frame, Link, Walk};
use rowcast_core::{ByteSize, LogError, Offset, Position, ServiceName, Stored};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Follows one stream. What a power cut left behind the last mark shows once an instance has
/// recovered it.
#[derive(Debug)]
pub struct Follower {
    stream: ServiceName,
    dir: PathBuf,
    next: Offset,
    place: Option<Place>,
}

/// Where in which segment to go on.
#[derive(Debug)]
struct Place {
    base: u64,
    path: PathBuf,
    at: u64,
    link: Option<Link>,
    schemas: SchemaTable,
}

impl Follower {
    /// A follower of `stream`, in the log below `root`, from an offset on.
    pub fn new(root: impl AsRef<Path>, stream: ServiceName, from: Offset) -> Self {
        let dir = root.as_ref().join(stream.as_str());
        Self { stream, dir, next: from, place: None }
    }

    /// What follows, about `max` bytes of it; nothing at the end. Blocks.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] when retention forgot what would follow, [`LogError::Damaged`] and
    /// [`LogError::Unreadable`] as a log that is open.
    pub fn read(&mut self, max: ByteSize) -> Result<Vec<Stored>, LogError> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        loop {
            let listing = segment::list(&self.dir).map_err(|e| self.unreadable(e))?;
            let segments = listing.segments;
            let Some(base) = self.segment(&segments)? else { return Ok(batches) };
            let here = |s: &(u64, PathBuf, u64)| {
                s.0 == base && self.place.as_ref().is_none_or(|place| place.path == s.1)
            };
            let Some(index) = segments.iter().position(here) else {
                // Retention or compaction was faster than our look: look again.
                self.place = None;
                continue;
            };
            let (_, path, len) = &segments[index];
            let later = segments.get(index + 1).map(|(b, path, _)| (*b, path));
            let read = self.read_segment(base, path, *len, &mut batches, &mut bytes, max);
            match read {
                Ok(()) => {}
                Err(Flaw::Io(e)) if e.kind() == io::ErrorKind::NotFound => self.place = None,
                Err(Flaw::Io(e)) => return Err(self.unreadable(e)),
                // At the very end it is only unfinished.
                Err(Flaw::Bad { torn: true, .. }) if later.is_none() => return Ok(batches),
                Err(Flaw::Bad { at, what, .. }) => {
                    let what = format!("{} at byte {at}: {what}", path.display());
                    return Err(LogError::Damaged { stream: self.stream.clone(), what });
                }
            }
            let full = bytes >= max.as_usize();
            match later {
                Some((base, path)) if !full && self.place.is_some() => {
                    self.place = Some(Place::begin(base, path));
                }
                Some(_) if !full => {}
                _ => return Ok(batches),
            }
        }
    }

    /// The offset that [`read`](Self::read) goes on with.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The source's position at the end of what was read; frames without events move it too.
    pub fn position(&self) -> Option<Position> {
        self.place.as_ref()?.link?.position
    }

    fn unreadable(&self, e: io::Error) -> LogError {
        LogError::Unreadable { stream: self.stream.clone(), source: Arc::new(e) }
    }

    /// The segment to read now; `None` when there is none yet.
    fn segment(&mut self, segments: &[(u64, PathBuf, u64)]) -> Result<Option<u64>, LogError> {
        if let Some(place) = &self.place {
            return Ok(Some(place.base));
        }
        let Some((first, ..)) = segments.first() else { return Ok(None) };
        let at = self.next;
        let holding = segments.iter().rev().find(|(base, ..)| *base <= at.0);
        let Some((base, path, _)) = holding else {
            let first = Offset(*first);
            return Err(LogError::Trimmed { stream: self.stream.clone(), at, first });
        };
        self.place = Some(Place::begin(*base, path));
        Ok(Some(*base))
    }

    fn read_segment(
        &mut self,
        base: u64,
        path: &Path,
        len: u64,
        batches: &mut Vec<Stored>,
        bytes: &mut usize,
        max: ByteSize,
    ) -> Result<(), Flaw> {
        let Some(place) = &mut self.place else { return Ok(()) };
        // Nobody shows what no sync covered yet.
        let mark = Durable::read(&self.dir)?.filter(|m| m.base == base);
        let end = mark.map_or(len, |m| m.len.min(len));
        if end <= place.at {
            return Ok(());
        }
        let mut walk = Walk::open(path, place.at, end, BODIES)?;
        if place.at == 0 {
            (_, _, place.schemas) = read_head(&mut walk, base)?;
        } else {
            walk.link = place.link;
        }
        (place.at, place.link) = (walk.at, walk.link);
        while *bytes < max.as_usize() {
            let Some(frame) = walk.header()? else { break };
            if let Some(stored) = place.open(&mut walk, &frame, self.next)? {
                self.next = stored.end();
                *bytes += stored.batch.size();
                batches.push(stored);
            }
            (place.at, place.link) = (walk.at, walk.link);
        }
        Ok(())
    }
}

impl Place {
    fn begin(base: u64, path: &Path) -> Self {
        Self { base, path: path.into(), at: 0, link: None, schemas: SchemaTable::new() }
    }

    /// A frame's batch; `None` when it holds no event from `next` on.
    fn open(
        &mut self,
        walk: &mut Walk,
        frame: &Frame,
        next: Offset,
    ) -> Result<Option<Stored>, Flaw> {
        let header = frame.header;
        let brings_schemas = header.flags.has(Flags::SCHEMAS);
        let wanted = header.end() > next.0;
        if !brings_schemas && !wanted {
            return Ok(None);
        }
        let bad = |what: String| Flaw::nonsense(frame.at, what);
        let body = walk.body(frame)?;
        if brings_schemas {
            schemas_of(&header, body.clone(), &mut self.schemas).map_err(bad)?;
        }
        if !wanted {
            return Ok(None);
        }
        let batch = decode(&header, body, &self.schemas).map_err(bad)?;
        Ok(Some(Stored { base: Offset(header.base), batch: Arc::new(batch) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileLog, LogConfig};
    use rowcast_core::{
        Batch, BatchBuilder, Column, Epoch, EventLog, Kind, Op, Point, Position, RowWriter, Schema,
        Value,
    };

    fn batch(number: u64, bytes: usize) -> Batch {
        let schema = Arc::new(Schema {
            entity: "t".parse().unwrap(),
            dialect: "test".into(),
            columns: vec![Column {
                name: "id".into(),
                native: "text".into(),
                kind: Kind::Text,
                key: Some(0),
                not_null: true,
                fill: None,
            }],
            generated: vec![],
        });
        let mut builder = BatchBuilder::new();
        let index = builder.schema(schema.id(), &schema);
        builder.begin(Point::Sequence(number), 0);
        let text = vec![b'x'; bytes];
        let row = |into: &mut Vec<u8>| RowWriter::new(into).push(Value::Text(&text));
        builder.push(Op::Create, index, |_| {}, row);
        builder.finish(Position::new(Epoch::default(), Point::Sequence(number)), true)
    }

    async fn append(log: &FileLog, shop: &ServiceName, number: u64, bytes: usize) {
        log.append(shop, batch(number, bytes)).await.unwrap().await.unwrap();
    }

    fn offsets(follower: &mut Follower) -> Vec<u64> {
        follower.read(ByteSize::mib(64)).unwrap().iter().map(|s| s.base.0).collect()
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_durable_once_across_segments_and_beside_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let shop: ServiceName = "shop".parse().unwrap();
        let config = LogConfig { segment: ByteSize::mib(1), ..LogConfig::default() };
        let log = FileLog::open(dir.path(), config).unwrap();
        log.tail(&shop).await.unwrap();
        let mut all = Follower::new(dir.path(), shop.clone(), Offset(0));
        let mut late = Follower::new(dir.path(), shop.clone(), Offset(4));
        assert_eq!(offsets(&mut all), [] as [u64; 0]);
        for number in 0..6 {
            append(&log, &shop, number, 400 << 10).await;
        }
        assert_eq!(offsets(&mut all), [0, 1, 2, 3, 4, 5]);
        assert_eq!(offsets(&mut late), [4, 5]);
        append(&log, &shop, 6, 10).await;
        assert_eq!(offsets(&mut all), [6]);
        assert_eq!(offsets(&mut all), [] as [u64; 0]);
        let mut small = Follower::new(dir.path(), shop.clone(), Offset(0));
        let two = small.read(ByteSize::kib(500)).unwrap();
        assert_eq!(two.iter().map(|s| s.base.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(offsets(&mut small), [2, 3, 4, 5, 6]);
        let at = |number| Some(Position::new(Epoch::default(), Point::Sequence(number)));
        assert_eq!((small.next(), small.position()), (Offset(7), at(6)));
        let quiet = Batch::empty(Position::new(Epoch::default(), Point::Sequence(9)));
        log.append(&shop, quiet).await.unwrap().await.unwrap();
        assert_eq!(offsets(&mut small), [] as [u64; 0]);
        assert_eq!((small.next(), small.position()), (Offset(7), at(9)));
    }

    #[tokio::test]
    async fn what_retention_forgot_is_said_to_be_gone() {
        let dir = tempfile::tempdir().unwrap();
        let shop: ServiceName = "shop".parse().unwrap();
        let config = LogConfig { segment: ByteSize::mib(1), ..LogConfig::default() };
        let log = FileLog::open(dir.path(), config).unwrap();
        for number in 0..9 {
            append(&log, &shop, number, 400 << 10).await;
        }
        log.trim(&shop, Offset(7)).await.unwrap();
        let first = log.tail(&shop).await.unwrap().first;
        assert!(first > Offset(0));
        let gone = Follower::new(dir.path(), shop.clone(), Offset(0)).read(ByteSize::mib(1));
        assert!(matches!(gone, Err(LogError::Trimmed { first: f, .. }) if f == first), "{gone:?}");
        assert_eq!(offsets(&mut Follower::new(dir.path(), shop, first)).last(), Some(&8));
    }
}
