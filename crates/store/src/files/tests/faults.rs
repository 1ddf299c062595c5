//! A disk that is full, slow or broken.

use super::disk::ScriptedDisk;
use crate::{FileLog, LogConfig, inspect};
use rowcast_core::{Batch, ByteSize, EventLog, LogError, Offset, ServiceName};
use rowcast_testkit::log_suite::{batch, is_pending, position, put, read_all, service};
use std::pin::pin;
use tempfile::TempDir;

const PLENTY: ByteSize = ByteSize::mib(64);

async fn open() -> (TempDir, ScriptedDisk, FileLog, ServiceName) {
    let (dir, disk, s) = (tempfile::tempdir().unwrap(), ScriptedDisk::default(), service("shop"));
    let log = disk.log(dir.path(), LogConfig::default());
    put(&log, &s, batch(1, 1, 1)).await.unwrap();
    (dir, disk, log, s)
}

fn refused<T: std::fmt::Debug>(result: Result<T, LogError>) {
    assert!(matches!(result, Err(LogError::Refused { .. })), "{result:?}");
}

#[tokio::test]
async fn one_sync_covers_everything_that_waits() {
    let (_dir, disk, log, s) = open().await;
    disk.set(|d| d.hold_syncs = true);
    let before = disk.syncs();
    let mut commits = vec![log.append(&s, batch(1, 2, 1)).await.unwrap()];
    disk.wait_held();
    for n in 3..=50 {
        commits.push(log.append(&s, batch(1, n, 1)).await.unwrap());
    }
    disk.set(|d| d.hold_syncs = false);
    for commit in commits {
        commit.await.unwrap();
    }
    assert_eq!(disk.syncs() - before, 2);
}

#[tokio::test]
async fn nothing_is_delivered_before_it_is_durable() {
    let (_dir, disk, log, s) = open().await;
    disk.set(|d| d.hold_syncs = true);
    let mut commit = pin!(log.append(&s, batch(1, 2, 1)).await.unwrap());
    disk.wait_held();
    let mut read = pin!(log.read(&s, Offset(1), PLENTY));
    assert!(is_pending(&mut read).await && is_pending(&mut commit).await);
    disk.set(|d| d.hold_syncs = false);
    assert_eq!(read.await.unwrap().next, Offset(2));
    assert_eq!(commit.await.unwrap(), Offset(2));
}

#[tokio::test]
async fn the_tail_waits_for_what_is_under_way() {
    let (_dir, disk, log, s) = open().await;
    disk.set(|d| d.hold_syncs = true);
    drop(log.append(&s, batch(1, 2, 1)).await.unwrap());
    disk.wait_held();
    let mut tail = pin!(log.tail(&s));
    assert!(is_pending(&mut tail).await, "going on from here would append the batch again");
    disk.set(|d| d.hold_syncs = false);
    assert_eq!(tail.await.unwrap().next, Offset(2));
}

#[tokio::test]
async fn heartbeats_that_wait_are_written_as_one() {
    let (dir, disk, log, s) = open().await;
    disk.set(|d| d.hold_syncs = true);
    let mut commits = vec![log.append(&s, batch(1, 2, 1)).await.unwrap()];
    disk.wait_held();
    for n in 3..=20 {
        commits.push(log.append(&s, Batch::empty(position(1, n))).await.unwrap());
    }
    commits.push(log.append(&s, batch(1, 21, 1)).await.unwrap());
    for n in 22..=30 {
        commits.push(log.append(&s, Batch::empty(position(1, n))).await.unwrap());
    }
    disk.set(|d| d.hold_syncs = false);
    for commit in commits {
        commit.await.unwrap();
    }
    assert_eq!(log.tail(&s).await.unwrap().position, Some(position(1, 30)));
    let report = inspect::check(dir.path()).unwrap().remove(0);
    // The head, three batches, one heartbeat.
    assert_eq!((report.frames, report.events), (5, 3));
    assert!(report.problems.is_empty(), "{report:?}");
}

#[tokio::test]
async fn short_writes_are_finished() {
    let (_dir, disk, log, s) = open().await;
    disk.set(|d| d.write_max = Some(7));
    put(&log, &s, batch(1, 2, 100)).await.unwrap();
    drop(log);
    disk.set(|d| d.write_max = None);
    let log = disk.log(_dir.path(), LogConfig { cache: ByteSize(0), ..LogConfig::default() });
    assert_eq!(read_all(&log, &s, Offset(0), Offset(101), PLENTY).await.len(), 2);
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_what_is_durable() {
    let (dir, disk, log, s) = open().await;
    let before = log.tail(&s).await.unwrap();
    for left in [0, 1, 50, 111, 112, 113, 200] {
        disk.set(|d| d.bytes_left = Some(left));
        refused(put(&log, &s, batch(1, 2, 20)).await);
        let tail = log.tail(&s).await.unwrap();
        assert_eq!(
            (tail.next, tail.position, tail.bytes),
            (Offset(1), before.position, before.bytes)
        );
    }
    disk.set(|d| d.bytes_left = None);
    assert_eq!(put(&log, &s, batch(1, 2, 20)).await.unwrap(), Offset(21));
    drop(log);
    let report = inspect::check(dir.path()).unwrap().remove(0);
    assert!(report.problems.is_empty() && report.unfinished == 0, "{report:?}");
    let log = disk.log(dir.path(), LogConfig::default());
    read_all(&log, &s, Offset(0), Offset(21), PLENTY).await;
}

#[tokio::test]
async fn what_was_on_its_way_behind_a_refused_batch_never_takes_its_place() {
    let (_dir, disk, log, s) = open().await;
    disk.set(|d| d.hold_syncs = true);
    let taken = log.append(&s, batch(1, 2, 1)).await.unwrap();
    disk.wait_held();
    let third = log.append(&s, batch(1, 3, 1)).await.unwrap();
    let fourth = log.append(&s, batch(1, 4, 1)).await.unwrap();
    disk.set(|d| (d.hold_syncs, d.bytes_left) = (false, Some(10)));
    assert_eq!(taken.await.unwrap(), Offset(2));
    refused(third.await);
    disk.set(|d| d.bytes_left = None);
    // There is room again, but the third is missing: the fifth must not follow the second.
    refused(log.append(&s, batch(1, 5, 1)).await);
    // Somebody else asks for the tail while a refusal is still unread.
    log.tail(&s).await.unwrap();
    refused(log.append(&s, batch(1, 5, 1)).await);
    refused(fourth.await);
    refused(log.append(&s, batch(1, 5, 1)).await);
    // The capture begins again: it asks where, and goes on from there.
    assert_eq!(log.tail(&s).await.unwrap().position, Some(position(1, 2)));
    assert_eq!(put(&log, &s, batch(1, 3, 1)).await.unwrap(), Offset(3));
}

#[tokio::test]
async fn a_new_segment_that_finds_no_room_refuses_and_leaves_nothing() {
    let (dir, disk, s) = (tempfile::tempdir().unwrap(), ScriptedDisk::default(), service("shop"));
    let log = disk.log(dir.path(), LogConfig { segment: ByteSize(1), ..LogConfig::default() });
    put(&log, &s, batch(1, 1, 1)).await.unwrap();
    disk.set(|d| d.bytes_left = Some(20));
    refused(put(&log, &s, batch(1, 2, 1)).await);
    let names = || std::fs::read_dir(dir.path().join("shop")).unwrap();
    assert!(names().all(|e| !e.unwrap().file_name().to_str().unwrap().ends_with(".new")));
    disk.set(|d| d.bytes_left = None);
    log.tail(&s).await.unwrap();
    put(&log, &s, batch(1, 2, 1)).await.unwrap();
    read_all(&log, &s, Offset(0), Offset(2), PLENTY).await;
}

#[tokio::test]
async fn after_a_failed_sync_every_append_is_refused_until_restart() {
    let (dir, disk, log, s) = open().await;
    disk.set(|d| d.syncs_fail = true);
    let failed = |r: Result<Offset, LogError>| {
        assert!(matches!(r, Err(LogError::Failed { .. })), "{r:?}");
    };
    failed(put(&log, &s, batch(1, 2, 1)).await);
    disk.set(|d| d.syncs_fail = false);
    assert_eq!(log.tail(&s).await.unwrap().next, Offset(1));
    failed(put(&log, &s, batch(1, 2, 1)).await);
    failed(put(&log, &s, Batch::empty(position(1, 9))).await);
    read_all(&log, &s, Offset(0), Offset(1), PLENTY).await;
    drop(log);
    let log = disk.log(dir.path(), LogConfig::default());
    let tail = log.tail(&s).await.unwrap();
    // Nobody knows whether it is there; capture goes on from what the tail says.
    let at = tail.position.unwrap().point.value();
    assert!(matches!((at, tail.next), (1, Offset(1)) | (2, Offset(2))), "{tail:?}");
    put(&log, &s, batch(1, at + 1, 1)).await.unwrap();
}

#[tokio::test]
async fn an_append_waits_for_room_in_the_queue() {
    let (dir, disk, s) = (tempfile::tempdir().unwrap(), ScriptedDisk::default(), service("shop"));
    let log = disk.log(dir.path(), LogConfig { queue: ByteSize::kib(64), ..LogConfig::default() });
    log.tail(&s).await.unwrap();
    disk.set(|d| d.hold_syncs = true);
    let mut commits = Vec::new();
    let mut n = 1;
    let waiting = loop {
        let mut append = Box::pin(log.append(&s, batch(1, n, 100)));
        n += 1;
        if is_pending(&mut append.as_mut()).await {
            break append;
        }
        commits.push(append);
        assert!(n < 100, "the queue has no bound");
    };
    assert!(commits.len() > 2);
    disk.set(|d| d.hold_syncs = false);
    waiting.await.unwrap().await.unwrap();
}

#[tokio::test]
async fn closing_writes_what_waits_and_ends_every_wait() {
    let (dir, disk, log, s) = open().await;
    disk.set(|d| d.hold_syncs = true);
    let commit = log.append(&s, batch(1, 2, 1)).await.unwrap();
    disk.wait_held();
    let behind = log.append(&s, batch(1, 3, 1)).await.unwrap();
    let mut read = pin!(log.read(&s, Offset(1), PLENTY));
    assert!(is_pending(&mut read).await);
    let mut close = pin!(log.close());
    assert!(is_pending(&mut close).await);
    disk.set(|d| d.hold_syncs = false);
    close.await;
    assert_eq!((commit.await.unwrap(), behind.await.unwrap()), (Offset(2), Offset(3)));
    assert_eq!(read.await.unwrap().batches[0].base, Offset(1));
    let closed = |e: LogError| assert!(matches!(e, LogError::Closed { .. }), "{e:?}");
    closed(log.append(&s, batch(1, 4, 1)).await.unwrap_err());
    closed(log.read(&s, Offset(3), PLENTY).await.unwrap_err());
    closed(log.tail(&s).await.unwrap_err());
    closed(log.moved(&s, Some(position(1, 3))).await.unwrap_err());
    let again = FileLog::open(dir.path(), LogConfig::default()).unwrap();
    assert_eq!(again.tail(&s).await.unwrap().next, Offset(3));
}
