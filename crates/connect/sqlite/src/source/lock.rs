//! One capture per file: a lock beside it that the system releases with its holder.

use rowcast_core::{ServiceName, SourceError};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(super) struct CaptureLock {
    _file: File,
}

impl CaptureLock {
    /// Takes the lock, or says who holds it.
    pub(super) fn take(database: &Path, service: &ServiceName) -> Result<Self, SourceError> {
        let setup = |what: &str, source: std::io::Error| SourceError::Setup {
            service: service.clone(),
            what: what.into(),
            help: "is the path right, and may this user write the database's folder?".into(),
            source: Some(source.into()),
        };
        // Not the lock's folder but the file is what people mistype.
        std::fs::metadata(database).map_err(|e| setup("its file is not there", e))?;
        let path = lock_path(database);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(|e| setup("the lock beside its file cannot be opened", e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(&mut file, service)),
            Err(TryLockError::Error(e)) => return Err(setup("its file cannot be locked", e)),
        }
        let write = file.set_len(0).and_then(|()| file.rewind());
        let write = write.and_then(|()| writeln!(file, "{}", std::process::id()));
        write.map_err(|e| setup("the lock beside its file cannot be written", e))?;
        Ok(Self { _file: file })
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_os_string();
    path.push("-rowcast.lock");
    path.into()
}

fn busy(file: &mut File, service: &ServiceName) -> SourceError {
    let mut holder = String::new();
    let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
    let who = if known { format!("process {}", holder.trim()) } else { "another process".into() };
    SourceError::Busy {
        service: service.clone(),
        what: format!("{who} holds the lock"),
        help: "stop the other `rowcast run`; this one goes on by itself then".into(),
    }
}
