//! Files and directories that only their owner may read, whatever the umask is and whatever was
//! there before: they hold other people's rows.

use std::fs::{DirBuilder, OpenOptions, Permissions, read_dir, set_permissions, symlink_metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const OTHERS: u32 = 0o077;

/// Something that others may still read.
#[derive(Debug, thiserror::Error)]
#[error("{} may be read by other users, and cannot be closed to them", .path.display())]
pub struct StillOpen {
    /// The file or directory.
    pub path: PathBuf,
    /// In the system's words.
    pub source: io::Error,
}

/// Makes a directory, and those above it that are missing, for their owner only. One that is there
/// stays as it is.
///
/// # Errors
/// The system's.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// How a new file is opened that only its owner may read. One that is there keeps its mode.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Takes from everybody but the owner whatever right there is on a file or a directory. A link is
/// not followed: what lies elsewhere is not ours to change.
///
/// # Errors
/// When others still have a right.
pub fn close(path: &Path) -> Result<(), StillOpen> {
    let closed = || {
        let found = symlink_metadata(path)?;
        let mode = found.permissions().mode();
        if found.is_symlink() || mode & OTHERS == 0 {
            return Ok(());
        }
        let owners = if found.is_dir() { 0o700 } else { 0o600 };
        set_permissions(path, Permissions::from_mode(owners))
    };
    match closed() {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StillOpen { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// [`close`] for a directory and everything in it. Tries all, and says what could not be closed
/// first.
///
/// # Errors
/// When others still have a right on something.
pub fn close_all(path: &Path) -> Result<(), StillOpen> {
    let mut first = close(path);
    let entries = match symlink_metadata(path) {
        Ok(found) if found.is_dir() => read_dir(path).into_iter().flatten().flatten(),
        _ => return first,
    };
    for entry in entries {
        first = first.and(close_all(&entry.path()));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, metadata, write};
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn everything_is_closed_to_others_and_a_link_is_not_followed() {
        let room = tempfile::tempdir().unwrap();
        let (data, beside) = (room.path().join("data"), room.path().join("beside"));
        create_dir(&data).unwrap();
        create_dir(data.join("log")).unwrap();
        for file in [&data.join("log/1"), &beside] {
            write(file, "x").unwrap();
            set_permissions(file, Permissions::from_mode(0o666)).unwrap();
        }
        set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
        symlink(&beside, data.join("link")).unwrap();
        close_all(&data).unwrap();
        assert_eq!((mode(&data), mode(&data.join("log/1"))), (0o700, 0o600));
        assert_eq!(mode(&beside), 0o666);
        close_all(&data.join("not there")).unwrap();
    }
}
