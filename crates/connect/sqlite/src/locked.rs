//! Who holds the lock that writers of a file wait for, as far as the system tells.

use rowcast_core::{Blocker, BoxError, SinkError};
use rusqlite::{Error, ErrorCode};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where SQLite's locks lie: the bytes of a database file that readers and writers lock, and the byte
/// beside a write-ahead log that its one writer locks.
const DATABASE_LOCKS: std::ops::Range<u64> = 0x4000_0000..0x4000_0200;
const LOG_WRITE_LOCK: u64 = 120;

/// A locked file, and who has locked it.
#[derive(Debug, thiserror::Error)]
#[error("the file is locked by {holders}")]
struct Locked {
    holders: String,
    source: BoxError,
}

/// Adds to an outage who has locked the file, when that is what it is.
pub(crate) fn explained(path: &Path, error: SinkError) -> SinkError {
    let SinkError::Unreachable { service, source } = error else { return error };
    let busy = source.downcast_ref::<Error>().and_then(Error::sqlite_error_code)
        == Some(ErrorCode::DatabaseBusy);
    let holders: Vec<_> = match busy {
        true => holders(path).iter().map(ToString::to_string).collect(),
        false => Vec::new(),
    };
    if holders.is_empty() {
        return SinkError::Unreachable { service, source };
    }
    let holders = holders.join(" and ");
    SinkError::Unreachable { service, source: Locked { holders, source }.into() }
}

/// The processes that hold a lock on the file; none where the system does not say.
fn holders(path: &Path) -> Vec<Blocker> {
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return Vec::new() };
    let inode = |path: &Path| fs::metadata(path).map(|m| m.ino()).ok();
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        inode(Path::new(&name))
    };
    let pids = pids(&locks, inode(path), beside("-shm"));
    pids.into_iter().map(holder).collect()
}

/// Who holds a lock on the database's inode, or the write lock on its log's index.
fn pids(locks: &str, database: Option<u64>, index: Option<u64>) -> BTreeSet<u32> {
    let held = |line: &str| {
        // `1: POSIX  ADVISORY  WRITE 4711 08:01:131 120 120`; who waits has an arrow behind the number.
        let mut words = line.split_whitespace().skip(1);
        let (kind, _, mode) = (words.next()?, words.next()?, words.next()?);
        let pid: u32 = words.next()?.parse().ok()?;
        let inode = words.next()?.rsplit(':').next()?.parse().ok();
        let first: u64 = words.next()?.parse().ok()?;
        let last: u64 = words.next()?.parse().unwrap_or(u64::MAX);
        let of_database = inode == database
            && first < DATABASE_LOCKS.end
            && last >= DATABASE_LOCKS.start
            // In a database with a log everybody who has it open holds a lock of readers.
            && (mode == "WRITE" || index.is_none());
        let of_log = inode == index && mode == "WRITE" && (first..=last).contains(&LOG_WRITE_LOCK);
        (matches!(kind, "POSIX" | "OFDLCK") && inode.is_some() && (of_database || of_log))
            .then_some(pid)
    };
    locks.lines().filter_map(held).collect()
}

fn holder(pid: u32) -> Blocker {
    let program = match pid == std::process::id() {
        true => "this Rowcast".to_string(),
        false => fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(),
    };
    Blocker {
        id: format!("process {pid}"),
        program: program.trim().to_string(),
        user: String::new(),
        state: String::new(),
        since_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_is_told_from_readers_and_from_those_who_wait() {
        let locks = "1: POSIX  ADVISORY  READ  10 08:01:5 1073741826 1073742335\n\
                     2: POSIX  ADVISORY  WRITE 11 08:01:6 120 120\n\
                     2: -> POSIX  ADVISORY  WRITE 12 08:01:6 120 120\n\
                     3: POSIX  ADVISORY  READ  13 08:01:6 123 123\n\
                     4: FLOCK  ADVISORY  WRITE 14 08:01:5 0 EOF\n\
                     5: POSIX  ADVISORY  WRITE 15 08:01:9 120 120";
        let found = |database, index| Vec::from_iter(pids(locks, Some(database), index));
        assert_eq!(found(5, Some(6)), [11]);
        assert_eq!(found(5, None), [10]);
        assert_eq!(found(7, None), []);
    }
}
