//! A disk that fails as scripted.

use crate::files::disk::{Disk, DiskFile, RealDisk};
use crate::{FileLog, LogConfig};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[derive(Debug, Default)]
pub(super) struct Script {
    /// Bytes of segments that may still be written; the write that goes beyond is cut short.
    pub(super) bytes_left: Option<u64>,
    /// Once the bytes are used up, nothing works any more: the machine is gone.
    pub(super) dies: bool,
    /// So many more steps of any kind; then the machine is gone.
    pub(super) steps_left: Option<usize>,
    pub(super) dead: bool,
    pub(super) syncs_fail: bool,
    pub(super) hold_syncs: bool,
    /// Writers that wait in a held sync.
    pub(super) held: usize,
    /// The most that one call writes.
    pub(super) write_max: Option<usize>,
    /// Syncs of segments that were begun.
    pub(super) syncs: usize,
}

#[derive(Debug, Default)]
struct Inner {
    script: Mutex<Script>,
    changed: Condvar,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ScriptedDisk(Arc<Inner>);

impl ScriptedDisk {
    pub(super) fn log(&self, root: &Path, config: LogConfig) -> FileLog {
        FileLog::with_disk(root, config, Arc::new(self.clone())).unwrap()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script());
        self.0.changed.notify_all();
    }

    /// Lets it live on; says whether it had not died.
    pub(super) fn revive(&self) -> bool {
        let mut script = self.script();
        script.steps_left = None;
        !std::mem::take(&mut script.dead)
    }

    pub(super) fn syncs(&self) -> usize {
        self.script().syncs
    }

    /// Waits until the writer is inside of a held sync.
    pub(super) fn wait_held(&self) {
        let held = self.0.changed.wait_while(self.script(), |s| s.held == 0);
        drop(held.unwrap());
    }

    fn alive(&self) -> io::Result<()> {
        let mut script = self.script();
        match &mut script.steps_left {
            Some(0) => script.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if script.dead { Err(io::Error::other("the machine is gone")) } else { Ok(()) }
    }

    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let segment = path.extension().is_some();
        Box::new(ScriptedFile { disk: self.clone(), segment, file })
    }
}

impl Disk for ScriptedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.alive()?;
        Ok(self.wrap(path, RealDisk.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.alive()?;
        Ok(self.wrap(path, RealDisk.open(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive()?;
        RealDisk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.alive()?;
        RealDisk.sync_dir(path)
    }
}

#[derive(Debug)]
struct ScriptedFile {
    disk: ScriptedDisk,
    segment: bool,
    file: Box<dyn DiskFile>,
}

impl DiskFile for ScriptedFile {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.disk.alive()?;
        if !self.segment {
            return self.file.write_at(bytes, at);
        }
        let mut script = self.disk.script();
        let mut len = bytes.len().min(script.write_max.unwrap_or(usize::MAX));
        if let Some(left) = &mut script.bytes_left {
            if *left == 0 {
                script.dead = script.dies;
                return Err(io::ErrorKind::StorageFull.into());
            }
            len = len.min(*left as usize);
            *left -= len as u64;
        }
        drop(script);
        self.file.write_at(&bytes[..len], at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.alive()?;
        let mut script = self.disk.script();
        script.syncs += usize::from(self.segment);
        script.held += 1;
        self.disk.0.changed.notify_all();
        script = self.disk.0.changed.wait_while(script, |s| s.hold_syncs).unwrap();
        script.held -= 1;
        if script.syncs_fail {
            return Err(io::Error::other("the platter is scratched"));
        }
        drop(script);
        self.file.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.alive()?;
        self.file.truncate(len)
    }
}
