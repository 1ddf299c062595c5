//! Looks at a log without changing it, whether an instance is running on it or not. A running one
//! may be in the middle of a write: that is reported as unfinished, not as damage.

use crate::files::codec::{SchemaTable, decode, schemas_of};
use crate::files::durable::Durable;
use crate::files::frame::Flags;
use crate::files::recover::{RecoverError, proves_damage, recover};
use crate::files::segment::{self, Listing, read_head};
use crate::files::walk::{BODIES, Flaw, Frame, HEADERS, Link, Walk};
use crate::track::Track;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

/// What one stream holds.
#[derive(Debug, Clone, Serialize)]
pub struct StreamStat {
    /// The publishing service.
    pub stream: String,
    /// Identity of the log.
    pub log: String,
    /// Number of segment files.
    pub segments: usize,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// The oldest offset that can be read.
    pub first: u64,
    /// The next free offset.
    pub next: u64,
    /// Before this offset only every key's latest state is left; `first` when nothing was compacted.
    pub compacted: u64,
    /// Events that are left before `compacted`.
    pub compacted_events: u64,
    /// From this offset on every delete is there.
    pub complete_history: u64,
    /// The source's position after the last event.
    pub position: Option<String>,
    /// The source's history that the position counts in.
    pub epoch: Option<String>,
    /// Every entity that has a schema or a snapshot.
    pub entities: Vec<EntityStat>,
    /// Bytes at the end of an unfinished write.
    pub unfinished: u64,
    /// Why the stream cannot be opened; everything else is empty then.
    pub error: Option<String>,
}

/// What a stream says about one of its entities.
#[derive(Debug, Clone, Serialize)]
pub struct EntityStat {
    /// Its name.
    pub entity: String,
    /// Number of fields of its newest schema.
    pub fields: usize,
    /// Identity of its newest schema.
    pub schema: Option<String>,
    /// How far its snapshot came.
    pub snapshot: Option<SnapshotStat>,
}

/// How far a snapshot came.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotStat {
    /// Rows in the log.
    pub rows: u64,
    /// The source's estimate of all rows.
    pub rows_estimate: Option<u64>,
    /// Nothing is left to read.
    pub done: bool,
    /// The offset after the newest word on it.
    pub at: u64,
}

/// What a check of one stream found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StreamCheck {
    /// The publishing service.
    pub stream: String,
    /// Number of segment files.
    pub segments: usize,
    /// Good frames.
    pub frames: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes at the end of an unfinished write; opening the log cuts them off.
    pub unfinished: u64,
    /// What is wrong, in the order of the files. Empty when the stream is good.
    pub problems: Vec<Problem>,
}

/// One damaged place.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub byte: u64,
    /// The first offset that cannot be read.
    pub offset: u64,
    /// The offset from which on the file can be read again; `None` when nothing follows in it.
    pub until: Option<u64>,
    /// How it shows.
    pub what: String,
    /// What a person can do.
    pub help: String,
}

/// What every stream below `root` holds, by name.
///
/// # Errors
/// When `root` cannot be read; a stream that cannot be read says so itself.
pub fn stat(root: impl AsRef<Path>) -> io::Result<Vec<StreamStat>> {
    streams(root.as_ref())?.into_iter().map(|(name, dir)| Ok(stat_stream(name, &dir))).collect()
}

/// Proves every frame of every stream below `root`: checksums, order without gaps, content.
///
/// # Errors
/// When a file cannot be read at all.
pub fn check(root: impl AsRef<Path>) -> io::Result<Vec<StreamCheck>> {
    streams(root.as_ref())?.into_iter().map(|(name, dir)| check_stream(name, &dir)).collect()
}

fn streams(root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && name.parse::<rowcast_core::ServiceName>().is_ok()
            && entry.file_type()?.is_dir()
        {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn stat_stream(stream: String, dir: &Path) -> StreamStat {
    let empty = StreamStat {
        stream,
        log: String::new(),
        segments: 0,
        bytes: 0,
        first: 0,
        next: 0,
        compacted: 0,
        compacted_events: 0,
        complete_history: 0,
        position: None,
        epoch: None,
        entities: Vec::new(),
        unfinished: 0,
        error: None,
    };
    let found = match patiently(|| recover(dir)) {
        Ok(Some(found)) => found,
        Ok(None) => return empty,
        Err(RecoverError::Io(e)) => return StreamStat { error: Some(e.to_string()), ..empty },
        Err(RecoverError::Damaged(what)) => return StreamStat { error: Some(what), ..empty },
    };
    let first = found.segments.first().map_or(0, |s| s.base);
    let oldest = found.segments.first().and_then(|s| Some((s, s.compacted?)));
    let (compacted, complete_history) =
        oldest.map_or((first, first), |(_, c)| (c.until, c.complete_history));
    let compacted_events = match oldest.map_or(Ok(0), |(s, _)| events(&s.path, s.len())) {
        Ok(events) => events,
        Err(flaw) => {
            let what = match flaw {
                Flaw::Io(e) => e.to_string(),
                Flaw::Bad { what, .. } => what,
            };
            return StreamStat { error: Some(what), ..empty };
        }
    };
    let last = found.segments.last().map_or(0, |s| s.len());
    let unfinished = found.cut.map_or(0, |_| found.last_len - last);
    StreamStat {
        log: found.id.to_string(),
        segments: found.segments.len(),
        bytes: found.segments.iter().map(|s| s.len()).sum(),
        first,
        next: found.track.next.0,
        compacted,
        compacted_events,
        complete_history,
        position: found.track.position.map(|p| p.to_string()),
        epoch: found.track.position.map(|p| p.epoch.to_string()),
        entities: entities(&found.track),
        unfinished,
        ..empty
    }
}

fn entities(track: &Track) -> Vec<EntityStat> {
    let snapshots = track.snapshots();
    let mut entities: Vec<EntityStat> = Vec::new();
    for schema in track.schemas() {
        entities.push(EntityStat {
            entity: schema.entity.to_string(),
            fields: schema.columns.len(),
            schema: Some(schema.id().to_string()),
            snapshot: None,
        });
    }
    for (word, at) in snapshots {
        let name = word.entity.to_string();
        let (rows, rows_estimate, done) = (word.rows, word.rows_estimate, word.done);
        let snapshot = Some(SnapshotStat { rows, rows_estimate, done, at: at.0 });
        match entities.iter_mut().find(|e| e.entity == name) {
            Some(entity) => entity.snapshot = snapshot,
            None => entities.push(EntityStat { entity: name, fields: 0, schema: None, snapshot }),
        }
    }
    entities
}

/// Looks again when a running instance took a file away between two looks.
fn patiently<T>(look: impl Fn() -> Result<T, RecoverError>) -> Result<T, RecoverError> {
    for _ in 0..4 {
        match look() {
            Err(RecoverError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
            looked => return looked,
        }
    }
    look()
}

/// Number of events in a file, by its frames' headers.
fn events(path: &Path, len: u64) -> Result<u64, Flaw> {
    let mut walk = Walk::open(path, 0, len, HEADERS)?;
    let mut events = 0;
    while let Some(frame) = walk.header()? {
        events += u64::from(frame.header.count);
    }
    Ok(events)
}

fn check_stream(stream: String, dir: &Path) -> io::Result<StreamCheck> {
    let mark = Durable::read(dir)?;
    let Listing { segments, .. } = segment::list(dir)?;
    let mut report = StreamCheck { stream, segments: segments.len(), ..StreamCheck::default() };
    let last = segments.last().map(|(base, ..)| *base);
    if let Some(mark) = mark
        && last.is_none_or(|last| mark.base > last)
    {
        let file = dir.join(segment::file_name(mark.base));
        report.problem(&file, 0, mark.base, None, true, "the file is missing".into());
    }
    let mut link = None;
    for (base, path, len) in &segments {
        let durable = mark.filter(|m| m.base == *base).map_or(0, |m| m.len);
        let segment = Checked { path, base: *base, len: *len, last: Some(*base) == last, durable };
        match segment.check(&mut report, link) {
            Ok(after) => link = after,
            // Retention of a running instance was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => {
                report.segments -= 1;
                link = None;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(report)
}

impl StreamCheck {
    fn problem(
        &mut self,
        file: &Path,
        byte: u64,
        offset: u64,
        until: Option<u64>,
        last: bool,
        what: String,
    ) {
        let help = if last {
            "bring the stream's directory back from a backup; without one, move it away to begin a \
             new log, and rebuild the copies"
        } else {
            "bring the file back from a backup; without one, once every copy has applied what this \
             file holds, stop `rowcast run` and remove this file and all older ones"
        };
        let (file, help) = (file.to_path_buf(), help.to_string());
        self.problems.push(Problem { file, byte, offset, until, what, help });
    }
}

/// A segment under examination.
struct Checked<'a> {
    path: &'a Path,
    base: u64,
    len: u64,
    last: bool,
    durable: u64,
}

impl Checked<'_> {
    /// Examines the whole file; returns what the next segment must connect to.
    fn check(&self, report: &mut StreamCheck, before: Option<Link>) -> io::Result<Option<Link>> {
        let mut walk = Walk::open(self.path, 0, self.len, BODIES)?;
        report.bytes += self.len;
        let mut next = self.base;
        let mut schemas = SchemaTable::new();
        let mut flaw = match read_head(&mut walk, self.base) {
            Ok((header, _, table)) => {
                schemas = table;
                report.frames += 1;
                let here = Link { next: header.base, position: header.prev };
                self.check_link(report, before, here);
                None
            }
            Err(flaw) => Some(flaw),
        };
        loop {
            match flaw.take() {
                Some(Flaw::Io(e)) => return Err(e),
                Some(Flaw::Bad { at, what, torn }) => {
                    let goes_on = self.after_flaw(report, &mut walk, (at, torn, next), what)?;
                    if !goes_on {
                        return Ok(None);
                    }
                }
                None => {}
            }
            match step(&mut walk, &mut schemas) {
                Ok(Some(frame)) => {
                    report.frames += 1;
                    report.events += u64::from(frame.header.count);
                    next = frame.header.end();
                }
                Ok(None) => break,
                Err(found) => flaw = Some(found),
            }
        }
        if let Some(until) = segment::until_of(self.path)
            && next != until
        {
            let what = format!("it ends at offset {next}, not at {until} as its name says");
            report.problem(self.path, walk.at, next, Some(until), self.last, what);
        }
        if self.last && walk.at < self.durable {
            let what = format!("{} bytes were durable, and the file ends here", self.durable);
            report.problem(self.path, walk.at, next, None, true, what);
        }
        Ok(walk.link)
    }

    fn check_link(&self, report: &mut StreamCheck, before: Option<Link>, here: Link) {
        let Some(before) = before.filter(|before| *before != here) else { return };
        let what = if before.next == here.next {
            "it follows another position than the one at which the file before ends".to_string()
        } else {
            format!("the file before ends at offset {}", before.next)
        };
        report.problem(self.path, 0, before.next, Some(here.next), self.last, what);
    }

    /// Reports a bad frame, unless it is only unfinished, and goes on behind it. Says whether
    /// there is something to go on with.
    fn after_flaw(
        &self,
        report: &mut StreamCheck,
        walk: &mut Walk,
        (at, torn, offset): (u64, bool, u64),
        what: String,
    ) -> io::Result<bool> {
        let io = |flaw| match flaw {
            Flaw::Io(e) => e,
            Flaw::Bad { what, .. } => io::Error::other(what),
        };
        // A segment without its head is never the work of a crash: it gets its name afterwards.
        let proof = at == 0 || proves_damage(walk, at, torn, self.durable).map_err(io)?.is_some();
        if self.last && !proof {
            report.unfinished = self.len - at;
            return Ok(false);
        }
        let later = walk.find(at + 1).map_err(io)?;
        let until = later.map(|f| f.header.base);
        report.problem(self.path, at, offset, until, self.last, what);
        if let Some(frame) = &later {
            walk.go_to(frame);
        }
        Ok(later.is_some())
    }
}

/// Proves the next frame and all of its content.
fn step(walk: &mut Walk, schemas: &mut SchemaTable) -> Result<Option<Frame>, Flaw> {
    let Some(frame) = walk.header()? else { return Ok(None) };
    let bad = |what: String| Flaw::nonsense(frame.at, what);
    let body = walk.body(&frame)?;
    if frame.header.flags.has(Flags::HEAD) {
        return Err(bad("a head stands inside of a segment".into()));
    }
    if frame.header.flags.has(Flags::SCHEMAS) {
        schemas_of(&frame.header, body.clone(), schemas).map_err(bad)?;
    }
    decode(&frame.header, body, schemas).map_err(bad)?;
    Ok(Some(frame))
}
