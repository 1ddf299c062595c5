//! The one thread that writes a stream. It takes everything that waits, writes it, syncs once, and
//! only then lets readers and callers know.

use crate::config::{Keep, LogConfig};
use crate::files::codec::{Encoder, Head, SchemaTable};
use crate::files::disk::{Disk, DiskFile, write_all_at};
use crate::files::durable::{self, Durable};
use crate::files::frame::{BODY_MAX, Flags, HEADER, Header};
use crate::files::queue::{Append, Next, Queue, Switch};
use crate::files::segment::{Index, Segment, file_name};
use crate::files::view::Shared;
use crate::track::Track;
use rowcast_core::{LogError, Offset, Position};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bytes gathered before they are handed to the disk.
const GATHER: usize = 1 << 20;
/// Bytes of the buffer that stay between groups; a larger one is made anew when it is needed.
const BUFFER_KEPT: usize = 4 * GATHER;
/// How often retention looks, when nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What went wrong on the way to the disk.
#[derive(Debug)]
enum WriteError {
    /// Nothing of it remains.
    Refused(io::Error),
    /// What remains is unknown.
    Failed(io::Error),
}

/// Frames that were written and not yet synced.
#[derive(Debug, Default)]
struct Written {
    /// Bytes of the segment, with them.
    len: u64,
    /// Offset and place of each frame.
    frames: Vec<(u64, u64)>,
    schemas: SchemaTable,
}

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    disk: Arc<dyn Disk>,
    config: LogConfig,
    file: Box<dyn DiskFile>,
    mark: Option<Box<dyn DiskFile>>,
    segment: Arc<Segment>,
    /// The stream's end with what was written last, synced or not.
    track: Track,
    encoder: Encoder,
    out: Vec<u8>,
    /// A sync failed: what the disk holds is unknown, and nothing is built on it until restart.
    failed: bool,
}

/// The first segment of a new stream.
pub(crate) fn begin(disk: &dyn Disk, shared: &Shared, track: &Track) -> io::Result<Segment> {
    let (segment, _) = new_segment(disk, shared, track, None).map_err(|e| match e {
        WriteError::Refused(e) | WriteError::Failed(e) => e,
    })?;
    Ok(segment)
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        disk: Arc<dyn Disk>,
        config: LogConfig,
    ) -> io::Result<Self> {
        let segment = shared.last_segment();
        let track = shared.track();
        let file = disk.open(&segment.path)?;
        let mark = shared.dir.join(durable::FILE);
        let mark = disk.open(&mark).or_else(|_| disk.create(&mark)).ok();
        let (encoder, out, failed) = (Encoder::default(), Vec::new(), false);
        let mut writer =
            Self { shared, queue, disk, config, file, mark, segment, track, encoder, out, failed };
        writer.mark_durable();
        Ok(writer)
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        self.retain();
        loop {
            match self.queue.next(self.group_max(), LOOK_EVERY) {
                Next::Group(group) => self.append(group),
                Next::Settle(done) => drop(done.send(())),
                Next::Trim(keep, done) => drop(done.send(self.trim(keep))),
                Next::Switch(switch) => self.switch(switch),
                Next::Roll(done) => drop(done.send(self.roll_now())),
                Next::Idle => self.retain(),
                Next::End => return,
            }
        }
    }

    /// Bytes that may be written at once: a segment grows beyond its size by one batch at most.
    fn group_max(&self) -> usize {
        let left = self.config.segment.0.saturating_sub(self.segment.len());
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    fn append(&mut self, group: Vec<Append>) {
        match self.roll_if_full().and_then(|()| self.write(&group)) {
            Ok(written) => self.publish(group, written),
            Err(WriteError::Refused(e)) => match self.file.truncate(self.segment.len()) {
                Ok(()) => self.refuse(group, e),
                Err(e) => self.fail(group, e),
            },
            Err(WriteError::Failed(e)) => self.fail(group, e),
        }
        self.out.shrink_to(BUFFER_KEPT);
    }

    fn refuse(&mut self, group: Vec<Append>, e: io::Error) {
        self.track = self.shared.track();
        let (stream, source) = (self.shared.name.clone(), Arc::new(e));
        self.queue.refuse(group, LogError::Refused { stream, source }, self.track.position);
    }

    fn fail(&mut self, group: Vec<Append>, e: io::Error) {
        self.failed = true;
        let (stream, source) = (self.shared.name.clone(), Arc::new(e));
        self.queue.fail(group, LogError::Failed { stream, source });
    }

    fn write(&mut self, group: &[Append]) -> Result<Written, WriteError> {
        let durable = self.segment.len();
        let known = self.segment.schemas();
        let mut written = Written { len: durable, ..Written::default() };
        self.out.clear();
        for (i, append) in group.iter().enumerate() {
            let batch = &append.batch;
            let moves_only = batch.events.is_empty()
                && batch.snapshots.is_empty()
                && batch.whole
                && !batch.fresh;
            // The next batch says where the source is, too.
            if moves_only && group.get(i + 1).is_some_and(|next| !next.batch.fresh) {
                continue;
            }
            let at = written.len + self.out.len() as u64;
            let start = self.out.len();
            self.out.resize(start + HEADER, 0);
            let added = &mut written.schemas;
            let compress = self.config.compress;
            let (flags, plain) = self.encoder.encode(batch, &known, added, compress, &mut self.out);
            let (base, prev) = (self.track.next.0, self.track.position);
            let noted = self.track.advance(batch);
            let body = &self.out[start + HEADER..];
            if plain.max(body.len()) > BODY_MAX {
                return Err(WriteError::Refused(io::ErrorKind::FileTooLarge.into()));
            }
            let header = Header {
                flags: flags.with(Flags::NOTES, noted),
                body: body.len() as u32,
                plain: plain as u32,
                base,
                count: batch.events.len() as u32,
                body_crc: crc32c::crc32c(body),
                durable,
                until: Some(batch.until),
                prev,
                skipped: None,
            };
            self.out[start..start + HEADER].copy_from_slice(&header.encode());
            written.frames.push((base, at));
            if self.out.len() >= GATHER {
                self.flush(&mut written)?;
            }
        }
        self.flush(&mut written)?;
        self.file.sync().map_err(WriteError::Failed)?;
        Ok(written)
    }

    fn flush(&mut self, written: &mut Written) -> Result<(), WriteError> {
        write_all_at(self.file.as_mut(), &self.out, written.len).map_err(WriteError::Refused)?;
        written.len += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Everything in `group` is durable: readers may have it, and callers hear of it, in order.
    fn publish(&mut self, group: Vec<Append>, written: Written) {
        self.segment.grow(written.len, &written.frames, written.schemas);
        let mut settled = Vec::with_capacity(group.len());
        let stored = group.into_iter().map(|Append { batch, done, room }| {
            settled.push((done, room));
            Arc::new(batch)
        });
        let ends = self.shared.publish(stored.collect());
        // Routes are on their way already: the mark is for a later start.
        self.mark_durable();
        for ((done, room), end) in settled.into_iter().zip(ends) {
            // Nobody may be listening; the batch is durable all the same.
            let _ = done.send(Ok(end));
            drop(room);
        }
    }

    fn mark_durable(&mut self) {
        let mark = Durable { base: self.segment.base, len: self.segment.len() };
        // A mark that cannot be written, or only in part, is as good as none.
        if self.mark.as_mut().is_some_and(|file| mark.write(file.as_mut()).is_err()) {
            self.mark = None;
            let _ = self.disk.remove(&self.shared.dir.join(durable::FILE));
        }
    }

    fn roll_if_full(&mut self) -> Result<(), WriteError> {
        if self.segment.len() < self.config.segment.0 {
            return Ok(());
        }
        self.roll()
    }

    fn roll_now(&mut self) -> Result<(), LogError> {
        if self.segment.base == self.track.next.0 {
            return Ok(());
        }
        let rolled = if self.failed { Err(WriteError::Refused(unsynced())) } else { self.roll() };
        rolled.map_err(|e| match e {
            WriteError::Refused(e) | WriteError::Failed(e) => {
                LogError::Refused { stream: self.shared.name.clone(), source: Arc::new(e) }
            }
        })
    }

    fn roll(&mut self) -> Result<(), WriteError> {
        // A segment without events is replaced, and its successor follows what it followed.
        let replaced = self.segment.base == self.track.next.0;
        let follows = if replaced { self.segment.follows } else { self.track.position };
        let (segment, file) = new_segment(self.disk.as_ref(), &self.shared, &self.track, follows)?;
        self.file = file;
        self.segment = Arc::new(segment);
        self.shared.add_segment(self.segment.clone());
        self.mark_durable();
        self.retain();
        Ok(())
    }

    /// Gives a compacted segment its name, which at once makes it stand for the others, then shows
    /// it to readers. The others' files are removed by whoever made it.
    fn switch(&mut self, switch: Switch) {
        let Switch { inputs, unborn, segment, done } = switch;
        let take_place = || {
            if self.failed {
                return Err(unsynced());
            }
            if !self.shared.begins_with(&inputs) {
                return Ok(false);
            }
            self.disk.rename(&unborn, &segment.path)?;
            self.disk.sync_dir(&self.shared.dir)?;
            Ok(self.shared.replace(&inputs, &segment))
        };
        // Nobody may be listening; the next open removes what is left over.
        let _ = done.send(take_place());
    }

    /// Removes what the configuration does not keep.
    fn retain(&mut self) {
        if self.config.keep != Keep::Recent {
            return;
        }
        let segments = self.shared.segments();
        let mut bytes: u64 = segments.iter().map(|s| s.len()).sum();
        let mut keep = None;
        for pair in segments.windows(2) {
            let too_large = self.config.keep_size.is_some_and(|max| bytes > max.0);
            if !too_large && !self.too_old(&pair[0]) {
                break;
            }
            bytes -= pair[0].len();
            keep = Some(Offset(pair[1].base));
        }
        let Some(keep) = keep else { return };
        match self.trim(keep) {
            Ok(()) => tracing::info!(stream = %self.shared.name, first = %keep, "retention"),
            Err(e) => {
                let cause = std::error::Error::source(&e).map(ToString::to_string);
                tracing::warn!(stream = %self.shared.name, cause, "retention failed: {e}");
            }
        }
    }

    /// Whether even the newest event of a finished segment is older than what is kept.
    fn too_old(&self, segment: &Segment) -> bool {
        let Some(age) = self.config.keep_age else { return false };
        let written = std::fs::metadata(&segment.path).and_then(|m| m.modified());
        let now = SystemTime::now();
        written.is_ok_and(|w| now.duration_since(w).is_ok_and(|since| since > age))
    }

    /// Removes the segments that end at or before `keep`; the last one stays.
    fn trim(&mut self, keep: Offset) -> Result<(), LogError> {
        let gone = self.shared.forget_before(keep);
        if gone.is_empty() {
            return Ok(());
        }
        let remove = || {
            for segment in &gone {
                match self.disk.remove(&segment.path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            self.disk.sync_dir(&self.shared.dir)
        };
        let stream = self.shared.name.clone();
        remove().map_err(|e| LogError::Refused { stream, source: Arc::new(e) })
    }
}

fn unsynced() -> io::Error {
    io::Error::other("a sync of the log failed before")
}

/// Makes the segment that follows `track`. It appears under its name only when all of it is
/// durable. One without events has the name of its successor, which takes its place.
fn new_segment(
    disk: &dyn Disk,
    shared: &Shared,
    track: &Track,
    follows: Option<Position>,
) -> Result<(Segment, Box<dyn DiskFile>), WriteError> {
    let head = Head {
        log: shared.id,
        schemas: track.schemas(),
        snapshots: track.snapshots(),
        compacted: None,
    };
    let body = head.encode();
    let header = Header {
        flags: Flags::default().with(Flags::HEAD, true).with(Flags::WHOLE, true),
        body: body.len() as u32,
        plain: body.len() as u32,
        base: track.next.0,
        count: 0,
        body_crc: crc32c::crc32c(&body),
        durable: 0,
        until: track.position,
        prev: follows,
        skipped: None,
    };
    let bytes = [header.encode().as_slice(), &body].concat();
    let path = shared.dir.join(file_name(track.next.0));
    let unborn = path.with_extension("new");
    let write = || {
        let mut file = disk.create(&unborn).map_err(WriteError::Refused)?;
        write_all_at(file.as_mut(), &bytes, 0).map_err(WriteError::Refused)?;
        file.sync().map_err(WriteError::Failed)?;
        disk.rename(&unborn, &path).map_err(WriteError::Refused)?;
        disk.sync_dir(&shared.dir).map_err(WriteError::Failed)?;
        Ok(file)
    };
    match write() {
        Ok(file) => {
            let mut index = Index::default();
            index.note(track.next.0, 0);
            index.schemas = Arc::new(head.schemas.iter().map(|s| (s.id().0, s.clone())).collect());
            Ok((Segment::known(path, &header, bytes.len() as u64, index), file))
        }
        Err(e) => {
            let _ = disk.remove(&unborn);
            Err(e)
        }
    }
}
