//! One process for each data directory.

use crate::report::Failure;
use rowcast_core::Code;
use rowcast_store::private;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keeps other processes out of a data directory for as long as it lives, however we end: the
/// system lets go of it with the process.
#[derive(Debug)]
pub(crate) struct DataLock {
    data: PathBuf,
    file: File,
}

/// How often a data directory is looked at.
const LOOK: Duration = Duration::from_secs(2);

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
        private::create_dir_all(data).map_err(unusable)?;
        close_to_others(data);
        let open = private::options()
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
        Ok(Self { data: data.into(), file })
    }

    /// Waits until the directory that is locked is no longer the one at its path: it was removed or
    /// moved away, and what is written is found by nobody again. Cancel safe.
    pub(crate) async fn gone(&self) -> Failure {
        while self.is_there() {
            tokio::time::sleep(LOOK).await;
        }
        let message =
            format!("the data directory {} was removed or moved away", self.data.display());
        let help = "what was captured since then is lost with it: put the directory back as it was \
                    before `rowcast run` stopped; without it the next start says [SOURCE-EPOCH], and \
                    `rowcast run --resnapshot SERVICE` reads everything again";
        Failure::new(message, help).with_code(Code::LogFailed)
    }

    fn is_there(&self) -> bool {
        let of = |m: std::fs::Metadata| (m.dev(), m.ino());
        match (self.file.metadata(), std::fs::metadata(self.data.join("lock"))) {
            (Ok(held), Ok(found)) => of(held) == of(found),
            (_, Err(e)) => e.kind() != io::ErrorKind::NotFound,
            (Err(_), _) => true,
        }
    }
}

/// What we keep in a data directory.
const OURS: [&str; 8] = [
    "log",
    "lock",
    "run.json",
    "run.json.new",
    "registry.db",
    "registry.db-wal",
    "registry.db-shm",
    "registry.db-journal",
];

/// Takes from other users what a careless start or an earlier version left them. A directory that
/// holds more than what is ours stays open: others may need what else is in it.
fn close_to_others(data: &Path) {
    let mut closed = Ok(());
    for name in OURS {
        closed = closed.and(private::close_all(&data.join(name)));
    }
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let foreign = entries.map(|e| e.file_name()).find(|n| !OURS.iter().any(|o| n == o));
    if foreign.is_none() {
        // The path itself may be a link; what it leads to is ours.
        closed = closed.and(private::close(&data.canonicalize().unwrap_or_else(|_| data.into())));
    }
    if let Err(e) = closed {
        tracing::warn!(
            "{e}: {}\n  help: it holds published rows; let its owner run \
             `chmod -R go= {}`",
            e.source,
            data.display()
        );
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
