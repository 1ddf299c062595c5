//! Retention and trimming.

use super::disk::ScriptedDisk;
use crate::files::segment;
use crate::{FileLog, Keep, LogConfig};
use rowcast_core::{Batch, ByteSize, EventLog, LogError, Offset};
use rowcast_testkit::log_suite::{batch, position, put, read_all, service};
use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

const PLENTY: ByteSize = ByteSize::mib(64);

fn small() -> LogConfig {
    LogConfig { segment: ByteSize(1500), ..LogConfig::default() }
}

#[tokio::test]
async fn what_is_young_is_kept_as_it_is() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let log = FileLog::open(root.path(), small()).unwrap();
    for n in 1..=50 {
        put(&log, &s, batch(1, n, 2)).await.unwrap();
    }
    assert_eq!(read_all(&log, &s, Offset(0), Offset(100), PLENTY).await.len(), 50);
}

#[tokio::test]
async fn by_size_the_oldest_segments_go_as_new_ones_begin() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let config = LogConfig { keep: Keep::Recent, keep_size: Some(ByteSize(5000)), ..small() };
    let log = FileLog::open(root.path(), config).unwrap();
    for n in 1..=100 {
        put(&log, &s, batch(1, n, 2)).await.unwrap();
    }
    let tail = log.tail(&s).await.unwrap();
    assert!(tail.first > Offset(100) && tail.bytes <= 5000 + 2000, "{tail:?}");
    let files = segment::list(&root.path().join("shop")).unwrap().segments;
    assert_eq!(files.iter().map(|(_, _, len)| len).sum::<u64>(), tail.bytes);
    read_all(&log, &s, tail.first, Offset(200), PLENTY).await;
    let gone = log.read(&s, Offset(0), PLENTY).await;
    assert!(matches!(gone, Err(LogError::Trimmed { .. })), "{gone:?}");
}

#[tokio::test]
async fn by_age_segments_go_whose_newest_event_is_too_old() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let log = FileLog::open(root.path(), small()).unwrap();
    for n in 1..=20 {
        put(&log, &s, batch(1, n, 2)).await.unwrap();
    }
    drop(log);
    let files = segment::list(&root.path().join("shop")).unwrap().segments;
    assert!(files.len() >= 4);
    let long_ago = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(7200));
    for (_, path, _) in &files[..2] {
        File::options().write(true).open(path).unwrap().set_times(long_ago).unwrap();
    }
    let hour = Some(Duration::from_secs(3600));
    let config = LogConfig { keep: Keep::Recent, keep_age: hour, ..small() };
    let log = FileLog::open(root.path(), config).unwrap();
    let tail = log.tail(&s).await.unwrap();
    assert_eq!(tail.first.0, files[2].0);
    assert!(!files[1].1.exists() && files[2].1.exists());
}

#[tokio::test]
async fn a_reader_inside_of_what_is_trimmed_hears_of_it() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let log = FileLog::open(root.path(), LogConfig { cache: ByteSize(0), ..small() }).unwrap();
    for n in 1..=40 {
        put(&log, &s, batch(1, n, 2)).await.unwrap();
    }
    let chunk = log.read(&s, Offset(0), ByteSize(1)).await.unwrap();
    log.trim(&s, Offset(60)).await.unwrap();
    let first = log.tail(&s).await.unwrap().first;
    assert!(Offset(2) < first && first <= Offset(60));
    let gone = log.read(&s, chunk.next, PLENTY).await;
    assert!(matches!(gone, Err(LogError::Trimmed { at: Offset(2), .. })), "{gone:?}");
    drop(log);
    let log = FileLog::open(root.path(), small()).unwrap();
    assert_eq!(log.tail(&s).await.unwrap().first, first, "and after a restart");
}

#[tokio::test]
async fn a_stream_of_nothing_but_heartbeats_does_not_grow_for_ever() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let log = FileLog::open(root.path(), small()).unwrap();
    put(&log, &s, batch(1, 1, 2)).await.unwrap();
    for n in 2..=200 {
        put(&log, &s, Batch::empty(position(1, n))).await.unwrap();
    }
    let tail = log.tail(&s).await.unwrap();
    assert_eq!((tail.next, tail.position), (Offset(2), Some(position(1, 200))));
    assert!(tail.bytes < 5000, "{tail:?}");
    assert_eq!(fs::read_dir(root.path().join("shop")).unwrap().count(), 3);
    put(&log, &s, batch(1, 201, 2)).await.unwrap();
    drop(log);
    let log = FileLog::open(root.path(), small()).unwrap();
    assert_eq!(read_all(&log, &s, Offset(0), Offset(4), PLENTY).await.len(), 2);
}

#[tokio::test]
async fn a_trim_that_the_disk_refuses_can_be_repeated() {
    let (root, disk, s) = (tempfile::tempdir().unwrap(), ScriptedDisk::default(), service("shop"));
    let log = disk.log(root.path(), small());
    for n in 1..=20 {
        put(&log, &s, batch(1, n, 2)).await.unwrap();
    }
    disk.set(|d| d.dead = true);
    let refused = log.trim(&s, Offset(20)).await;
    assert!(matches!(refused, Err(LogError::Refused { .. })), "{refused:?}");
    disk.set(|d| d.dead = false);
    log.trim(&s, Offset(20)).await.unwrap();
    put(&log, &s, batch(1, 21, 2)).await.unwrap();
    drop(log);
    let log = disk.log(root.path(), small());
    log.trim(&s, Offset(20)).await.unwrap();
    let first = log.tail(&s).await.unwrap().first;
    assert!(first > Offset(0));
    read_all(&log, &s, first, Offset(42), PLENTY).await;
}
