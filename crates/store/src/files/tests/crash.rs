//! What a crash may leave behind, and what recovery makes of it.

use super::disk::ScriptedDisk;
use crate::files::durable;
use crate::files::frame::HEADER;
use crate::files::recover::{RecoverError, recover};
use crate::files::segment::file_name;
use crate::{FileLog, LogConfig, inspect};
use rowcast_core::{Batch, ByteSize, EventLog, Offset};
use rowcast_testkit::log_suite::{
    batch, position, put, read_all, service, snapshot, snapshot_batch,
};
use std::fs;
use std::path::{Path, PathBuf};

const PLENTY: ByteSize = ByteSize::mib(64);

/// A stream of one segment with frames of several kinds. Returns its directory, its file, and the
/// length and next offset after each append.
async fn small_stream(root: &Path) -> (PathBuf, PathBuf, Vec<(u64, u64)>) {
    let s = service("shop");
    let log = FileLog::open(root, LogConfig::default()).unwrap();
    let dir = root.join("shop");
    let file = dir.join(file_name(0));
    log.tail(&s).await.unwrap();
    let mut ends = vec![(fs::metadata(&file).unwrap().len(), 0)];
    let batches = [
        batch(1, 1, 2),
        Batch::empty(position(1, 2)),
        batch(1, 3, 5),
        snapshot_batch(1, 3, snapshot("thing", 3, true)),
        batch(1, 4, 1),
    ];
    for b in batches {
        let next = put(&log, &s, b).await.unwrap();
        ends.push((fs::metadata(&file).unwrap().len(), next.0));
    }
    drop(log);
    (dir, file, ends)
}

#[tokio::test]
async fn a_segment_cut_at_any_byte_keeps_every_whole_frame() {
    let root = tempfile::tempdir().unwrap();
    let (dir, file, ends) = small_stream(root.path()).await;
    fs::remove_file(dir.join(durable::FILE)).unwrap();
    let whole = fs::read(&file).unwrap();
    for len in ends[0].0..=whole.len() as u64 {
        fs::write(&file, &whole[..len as usize]).unwrap();
        let found = recover(&dir).unwrap().unwrap();
        let (end, next) = *ends.iter().rfind(|(end, _)| *end <= len).unwrap();
        assert_eq!((found.track.next.0, found.cut), (next, (end < len).then_some(end)), "{len}");
    }
    for len in 0..ends[0].0 {
        fs::write(&file, &whole[..len as usize]).unwrap();
        let found = recover(&dir);
        assert!(matches!(found, Err(RecoverError::Damaged(_))), "a head is never torn: {len}");
    }
}

#[tokio::test]
async fn appends_go_on_behind_a_torn_tail_that_was_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let (dir, file, ends) = small_stream(root.path()).await;
    let whole = fs::read(&file).unwrap();
    let s = service("shop");
    for len in [ends[4].0 + 1, ends[4].0 + HEADER as u64, whole.len() as u64 - 1] {
        fs::write(&file, &whole[..len as usize]).unwrap();
        let _ = fs::remove_file(dir.join(durable::FILE));
        let log = FileLog::open(root.path(), LogConfig::default()).unwrap();
        assert_eq!(log.tail(&s).await.unwrap().next, Offset(7));
        assert_eq!(put(&log, &s, batch(1, 9, 1)).await.unwrap(), Offset(8));
        drop(log);
        let report = inspect::check(root.path()).unwrap().remove(0);
        assert!(report.problems.is_empty() && report.unfinished == 0, "{report:?}");
    }
}

#[tokio::test]
async fn a_later_frame_of_the_same_unfinished_write_is_no_proof_of_damage() {
    let (root, disk, s) = (tempfile::tempdir().unwrap(), ScriptedDisk::default(), service("shop"));
    let log = disk.log(root.path(), LogConfig::default());
    put(&log, &s, batch(1, 1, 1)).await.unwrap();
    disk.set(|d| d.hold_syncs = true);
    let mut commits = vec![log.append(&s, batch(1, 2, 1)).await.unwrap()];
    disk.wait_held();
    for n in 3..=5 {
        commits.push(log.append(&s, batch(1, n, 1)).await.unwrap());
    }
    disk.set(|d| d.hold_syncs = false);
    for commit in commits {
        commit.await.unwrap();
    }
    drop(log);
    // The power went before the last sync returned: of its three frames only the later ones
    // reached the disk, and the mark is still the one before.
    let dir = root.path().join("shop");
    let file = dir.join(file_name(0));
    let mut bytes = fs::read(&file).unwrap();
    let frames: Vec<usize> =
        (0..bytes.len() - 4).filter(|i| bytes[*i..].starts_with(b"RwCf")).collect();
    assert_eq!(frames.len(), 6);
    let torn = frames[3];
    bytes[torn..frames[4]].fill(0);
    fs::write(&file, &bytes).unwrap();
    fs::remove_file(dir.join(durable::FILE)).unwrap();
    let found = recover(&dir).unwrap().unwrap();
    assert_eq!((found.cut, found.track.next), (Some(torn as u64), Offset(2)));
    // A frame that a later write followed was durable.
    bytes[frames[2]..torn].fill(0);
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(recover(&dir), Err(RecoverError::Damaged(_))));
}

#[tokio::test]
async fn a_segment_that_was_never_begun_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let (dir, ..) = small_stream(root.path()).await;
    let unborn = dir.join(file_name(8)).with_extension("new");
    fs::write(&unborn, b"half a head").unwrap();
    let log = FileLog::open(root.path(), LogConfig::default()).unwrap();
    assert_eq!(log.tail(&service("shop")).await.unwrap().next, Offset(8));
    assert!(!unborn.exists());
}

#[tokio::test]
async fn a_machine_that_dies_at_any_byte_loses_nothing_that_was_acknowledged() {
    let s = service("shop");
    // Small segments, so that some deaths hit the making of a segment.
    let config = LogConfig { segment: ByteSize(700), ..LogConfig::default() };
    for bytes in (0..2600).step_by(37) {
        let (root, disk) = (tempfile::tempdir().unwrap(), ScriptedDisk::default());
        disk.set(|d| (d.bytes_left, d.dies) = (Some(bytes), true));
        let log = disk.log(root.path(), config.clone());
        let mut acknowledged = 0;
        for n in 1..=10 {
            match put(&log, &s, batch(1, n, 2)).await {
                Ok(next) => acknowledged = next.0,
                Err(_) => break,
            }
        }
        drop(log);
        let log = FileLog::open(root.path(), config.clone()).unwrap();
        let tail = log.tail(&s).await.unwrap();
        assert!((acknowledged..=acknowledged + 2).contains(&tail.next.0), "{bytes}: {tail:?}");
        let read = read_all(&log, &s, Offset(0), tail.next, PLENTY).await;
        for (n, stored) in (1..).zip(read) {
            assert_eq!(*stored.batch, batch(1, n, 2));
        }
        let at = tail.next.0 / 2 + 1;
        put(&log, &s, batch(1, at, 2)).await.unwrap();
    }
}
