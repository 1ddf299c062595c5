//! One process for each data directory.

use crate::report::Failure;
use rowcast_core::Code;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Keeps other processes out of a data directory for as long as it lives, however we end: the
/// system lets go of it with the process.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("{} uses {} already", holder(.pid), .data.display())]
    Held { data: PathBuf, pid: Option<u32> },
    #[error("{} cannot be used", .data.display())]
    Unusable { data: PathBuf, source: io::Error },
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".into(),
    }
}

impl DataLock {
    /// Makes the directory when it is missing, for its owner only.
    pub(crate) fn take(data: &Path) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { data: data.into(), source };
        // What the log holds is nobody else's business.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
        made.map_err(unusable)?;
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data.join("lock"));
        let mut file = open.map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { data: data.into(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        // Only for people and for the message above; the lock itself is the system's.
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match &error {
            LockError::Held { .. } => Failure::new(
                error.to_string(),
                "stop it first, or give this one a directory of its own: `data = \"…\"`",
            )
            .with_code(Code::DataLocked),
            LockError::Unusable { source, .. } => {
                let help =
                    "make it a directory that we may write to, or name another one: `data = \"…\"`";
                Failure::usage(error.to_string(), help).because(source)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = DataLock::take(&data).unwrap();
        let refused = DataLock::take(&data).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} uses", std::process::id())), "{refused}");
        drop(first);
        DataLock::take(&data).unwrap();
    }
}
