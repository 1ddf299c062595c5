//! Makes one compacted segment of the oldest segments of a stream.
//!
//! The files it reads do not change, and the file it writes has no name that a reader looks at, so a
//! crash at any moment leaves the stream as it was. Before the new segment may take their place, it
//! is compared with what the next segment's head says of everything before it.

use crate::compact::{Fault, Limits, Original, Scratch, Sieve, Survivors, Weaver};
use crate::files::codec::{Compacted, Encoder, Head, SchemaTable, decode, schemas_of};
use crate::files::disk::{Disk, DiskFile, write_all_at};
use crate::files::frame::{BODY_MAX, Flags, HEADER, Header};
use crate::files::segment::{Index, Segment, compacted_name, read_head};
use crate::files::walk::{BODIES, Flaw, HEADERS, Link, Walk};
use crate::track::Track;
use rowcast_core::{EntityName, Offset, Position, Snapshot, Stored};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to compact, and with what.
pub(crate) struct Job<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) disk: &'a Arc<dyn Disk>,
    /// In order, and at least one.
    pub(crate) inputs: &'a [Arc<Segment>],
    /// The segment that follows them.
    pub(crate) next: &'a Segment,
    /// Deletes that were committed before go, in microseconds since 1970.
    pub(crate) horizon: i64,
    /// Bytes of rows to hold in memory.
    pub(crate) memory: usize,
    pub(crate) compress: bool,
    /// Called with the bytes that were read or written; waits, or ends the compaction.
    pub(crate) spend: &'a (dyn Fn(u64) -> Result<(), Fault> + Send + Sync),
}

/// A compacted segment, durable, and still without its name.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) unborn: PathBuf,
    pub(crate) segment: Segment,
}

/// Scratch files to spread keys over, at most.
const PARTS_MAX: u64 = 128;

impl Job<'_> {
    /// Compacts. Leaves no file behind when it fails.
    pub(crate) fn run(&self) -> Result<Product, Fault> {
        let mut untouched = BTreeSet::new();
        let survivors = loop {
            match self.sift(&untouched) {
                Err(Fault::NoKey(entity)) if untouched.insert(entity.clone()) => {
                    tracing::info!(%entity, "compaction leaves this entity as it is");
                }
                other => break other?,
            }
        };
        let (base, until) = (self.inputs[0].base, self.next.base);
        let path = self.dir.join(compacted_name(base, until));
        let unborn = path.with_extension("new");
        let file = self.disk.create(&unborn)?;
        let written = self.write(survivors, file, path);
        if written.is_err() {
            let _ = self.disk.remove(&unborn);
        }
        Ok(Product { unborn, segment: written? })
    }

    fn sift(&self, untouched: &BTreeSet<EntityName>) -> Result<Survivors, Fault> {
        let bytes: u64 = self.inputs.iter().map(|s| s.len()).sum();
        // Rows take more room in memory than in files, and compressed ones much more.
        let parts = (bytes.saturating_mul(3) / self.memory.max(1) as u64).clamp(4, PARTS_MAX);
        let scratch = Scratch {
            disk: self.disk.clone(),
            dir: self.dir.into(),
            memory: self.memory,
            parts: parts as usize,
        };
        let limits = Limits { horizon: self.horizon, scratch: Some(scratch), spend: self.spend };
        let mut sieve = Sieve::new(limits, untouched.clone());
        let mut number = 0;
        let mut link = None;
        for segment in self.inputs {
            let mut walk = Walk::open(&segment.path, 0, segment.len(), BODIES)?;
            let unreadable = |flaw| unreadable(segment, flaw);
            walk.link = link;
            let (_, head, mut schemas) = read_head(&mut walk, segment.base).map_err(unreadable)?;
            sieve.repeat(&head.snapshots, number);
            while let Some(frame) = walk.header().map_err(unreadable)? {
                let header = frame.header;
                (self.spend)(header.frame_len())?;
                number += 1;
                if header.count == 0 && !header.flags.has(Flags::NOTES) {
                    continue;
                }
                let body = walk.body(&frame).map_err(unreadable)?;
                let bad = |what: String| unreadable(Flaw::nonsense(frame.at, what));
                if header.flags.has(Flags::SCHEMAS) {
                    schemas_of(&header, body.clone(), &mut schemas).map_err(bad)?;
                }
                let batch = Arc::new(decode(&header, body, &schemas).map_err(bad)?);
                sieve.push(&Stored { base: Offset(header.base), batch }, number)?;
            }
            link = walk.link;
            number += 1;
        }
        sieve.finish()
    }

    fn write(
        &self,
        survivors: Survivors,
        file: Box<dyn DiskFile>,
        path: PathBuf,
    ) -> Result<Segment, Fault> {
        let first = &self.inputs[0];
        let mut walk = Walk::open(&first.path, 0, first.len(), HEADERS)?;
        let (header, head, known) =
            read_head(&mut walk, first.base).map_err(|flaw| unreadable(first, flaw))?;
        let before = first.compacted.map_or(first.base, |c| c.complete_history);
        let compacted =
            Compacted { until: self.next.base, complete_history: before.max(survivors.forgotten) };
        let log = head.log;
        let (schemas, snapshots) = (head.schemas, head.snapshots);
        let track =
            Track::restore(Offset(first.base), header.until, snapshots.clone(), schemas.clone());
        let mut out = Output::new(self, file, track, known);
        out.head(&Head { log, schemas, snapshots, compacted: Some(compacted) }, &header)?;
        let mut weaver = Weaver::new(survivors, Offset(first.base));
        let (mut number, mut epoch) = (0, None);
        for segment in self.inputs {
            let mut walk = Walk::open(&segment.path, 0, segment.len(), HEADERS)?;
            let unreadable = |flaw| unreadable(segment, flaw);
            let (head, _, _) = read_head(&mut walk, segment.base).map_err(unreadable)?;
            if number > 0
                && let Some(until) = head.until
            {
                // It stands for what came without an event after the segment before.
                let fresh = epoch.is_some_and(|epoch| epoch != until.epoch);
                let original = Original { end: head.base, until, fresh, number };
                weaver.over(&original, &mut |stored| out.frame(&stored))?;
            }
            while let Some(frame) = walk.header().map_err(unreadable)? {
                number += 1;
                let (header, nowhere) = (frame.header, || "a batch without a position".to_string());
                let until = header.until.ok_or_else(nowhere).map_err(Fault::Unreadable)?;
                let (end, fresh) = (header.end(), header.flags.has(Flags::FRESH));
                let original = Original { end, until, fresh, number };
                weaver.over(&original, &mut |stored| out.frame(&stored))?;
                epoch = Some(until.epoch);
            }
            // The next segment's head.
            number += 1;
        }
        weaver.finish(&mut |stored| out.frame(&stored))?;
        self.compare(&out)?;
        let segment = out.finish(path, &header)?;
        Ok(segment.with(Some(compacted)))
    }

    /// Whether the next segment goes on where the compacted one ends, and finds the same words there.
    fn compare(&self, out: &Output<'_>) -> Result<(), Fault> {
        let unreadable = |flaw| unreadable(self.next, flaw);
        let mut walk = Walk::open(&self.next.path, 0, self.next.len(), HEADERS)?;
        walk.link = out.link;
        let (header, head, _) = read_head(&mut walk, self.next.base).map_err(unreadable)?;
        let ours = out.track.snapshots();
        // Words that came without an event stand in the next head alone, and so does a new history.
        let said = |word: &(Snapshot, Offset)| word.1.0 == header.base || ours.contains(word);
        let there = |(ours, _): &(Snapshot, Offset)| {
            head.snapshots.iter().any(|(word, _)| word.entity == ours.entity)
        };
        let epoch = |position: Option<Position>| position.map(|p| p.epoch);
        let same = head.snapshots.iter().all(said) && ours.iter().all(there);
        if !same && epoch(header.until) == epoch(out.prev) {
            return Err(Fault::Defect("it would end with other words on snapshots".into()));
        }
        if head.schemas != out.track.schemas() {
            return Err(Fault::Defect("it would end with other schemas".into()));
        }
        Ok(())
    }
}

fn unreadable(segment: &Segment, flaw: Flaw) -> Fault {
    match flaw {
        Flaw::Io(e) => Fault::Io(e),
        Flaw::Bad { at, what, .. } => {
            Fault::Unreadable(format!("{} at byte {at}: {what}", segment.path.display()))
        }
    }
}

/// Whether the segment's last transaction ends in it.
pub(crate) fn ends_whole(segment: &Segment) -> Result<bool, Fault> {
    let mut walk = Walk::open(&segment.path, 0, segment.len(), HEADERS)?;
    let mut whole = true;
    while let Some(frame) = walk.header().map_err(|flaw| unreadable(segment, flaw))? {
        whole = frame.header.flags.has(Flags::WHOLE);
    }
    Ok(whole)
}

/// Bytes gathered before they are handed to the disk, and between two syncs.
const GATHER: usize = 1 << 20;
const SYNC_EVERY: u64 = 16 << 20;

/// The file under way.
struct Output<'a> {
    job: &'a Job<'a>,
    file: Box<dyn DiskFile>,
    track: Track,
    schemas: SchemaTable,
    index: Index,
    encoder: Encoder,
    buffer: Vec<u8>,
    /// Bytes handed to the disk, and of them those that are durable.
    len: u64,
    synced: u64,
    /// What the next frame connects to.
    link: Option<Link>,
    prev: Option<Position>,
}

impl<'a> Output<'a> {
    fn new(job: &'a Job<'a>, file: Box<dyn DiskFile>, track: Track, schemas: SchemaTable) -> Self {
        Self {
            job,
            file,
            prev: track.position,
            track,
            schemas,
            index: Index::default(),
            encoder: Encoder::default(),
            buffer: Vec::new(),
            len: 0,
            synced: 0,
            link: None,
        }
    }

    fn head(&mut self, head: &Head, first: &Header) -> Result<(), Fault> {
        let body = head.encode();
        let header = Header {
            body: body.len() as u32,
            plain: body.len() as u32,
            body_crc: crc32c::crc32c(&body),
            ..*first
        };
        self.index.note(first.base, 0);
        self.buffer.extend_from_slice(&header.encode());
        self.buffer.extend_from_slice(&body);
        self.link = Some(Link { next: header.end(), position: header.until });
        Ok(())
    }

    fn frame(&mut self, stored: &Stored) -> Result<(), Fault> {
        let batch = &*stored.batch;
        let start = self.buffer.len();
        self.index.note(stored.base.0, self.len + start as u64);
        self.buffer.resize(start + HEADER, 0);
        let mut added = SchemaTable::new();
        let compress = self.job.compress;
        let (flags, plain) =
            self.encoder.encode(batch, &self.schemas, &mut added, compress, &mut self.buffer);
        self.schemas.extend(added);
        let body = &self.buffer[start + HEADER..];
        if plain.max(body.len()) > BODY_MAX {
            return Err(Fault::Defect("a frame is too large".into()));
        }
        let count = batch.events.len() as u32;
        let noted = self.track.advance(batch);
        let header = Header {
            flags: flags.with(Flags::NOTES, noted),
            body: body.len() as u32,
            plain: plain as u32,
            base: stored.base.0,
            count,
            body_crc: crc32c::crc32c(body),
            durable: 0,
            until: Some(batch.until),
            prev: self.prev,
            skipped: Some(batch.span() as u32 - count),
        };
        self.buffer[start..start + HEADER].copy_from_slice(&header.encode());
        self.prev = header.until;
        self.link = Some(Link { next: header.end(), position: header.until });
        if self.buffer.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        write_all_at(self.file.as_mut(), &self.buffer, self.len)?;
        self.len += self.buffer.len() as u64;
        (self.job.spend)(self.buffer.len() as u64)?;
        self.buffer.clear();
        // One sync at the end of a large file would hold up the writer's own.
        if self.len - self.synced >= SYNC_EVERY {
            self.file.sync()?;
            self.synced = self.len;
        }
        Ok(())
    }

    fn finish(mut self, path: PathBuf, first: &Header) -> Result<Segment, Fault> {
        self.flush()?;
        self.file.sync()?;
        self.index.schemas = Arc::new(self.schemas);
        Ok(Segment::known(path, first, self.len, self.index))
    }
}
