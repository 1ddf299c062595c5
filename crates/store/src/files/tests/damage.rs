//! Bytes that were durable and changed: never delivered, never cut off, always named.

use crate::files::durable;
use crate::files::recover::{RecoverError, recover};
use crate::files::segment::file_name;
use crate::{FileLog, LogConfig, inspect};
use rowcast_core::{ByteSize, EventLog, LogError, Offset};
use rowcast_testkit::log_suite::{batch, put, read_all, service};
use std::fs;
use std::path::{Path, PathBuf};

const PLENTY: ByteSize = ByteSize::mib(64);

fn config() -> LogConfig {
    LogConfig { segment: ByteSize(1500), cache: ByteSize(0), ..LogConfig::default() }
}

/// A stream of 40 events in several segments; returns their files.
async fn stream(root: &Path, config: LogConfig) -> Vec<PathBuf> {
    let (log, s) = (FileLog::open(root, config).unwrap(), service("shop"));
    for n in 1..=20 {
        put(&log, &s, batch(1, n, 2)).await.unwrap();
    }
    drop(log);
    let dir = root.join("shop");
    crate::files::segment::list(&dir).unwrap().segments.into_iter().map(|(_, p, _)| p).collect()
}

fn flip(file: &Path, byte: usize) -> Vec<u8> {
    let whole = fs::read(file).unwrap();
    let mut flipped = whole.clone();
    flipped[byte] ^= 1 << (byte % 8);
    fs::write(file, &flipped).unwrap();
    whole
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_the_last_segment_stops_the_stream() {
    let root = tempfile::tempdir().unwrap();
    let files = stream(root.path(), LogConfig::default()).await;
    let dir = root.path().join("shop");
    let len = fs::read(&files[0]).unwrap().len();
    for byte in 0..len {
        let whole = flip(&files[0], byte);
        match recover(&dir) {
            Err(RecoverError::Damaged(what)) => {
                assert!(what.contains(files[0].to_str().unwrap()) && what.contains("byte"));
            }
            other => panic!("a flip at byte {byte} went unseen: {other:?}"),
        }
        fs::write(&files[0], whole).unwrap();
    }
}

#[tokio::test]
async fn without_its_mark_only_the_last_frame_can_pass_for_torn() {
    let root = tempfile::tempdir().unwrap();
    let files = stream(root.path(), LogConfig::default()).await;
    let dir = root.path().join("shop");
    fs::remove_file(dir.join(durable::FILE)).unwrap();
    let whole = fs::read(&files[0]).unwrap();
    let last = (0..whole.len() - 4).rfind(|i| whole[*i..].starts_with(b"RwCf")).unwrap();
    for byte in (0..whole.len()).step_by(7) {
        flip(&files[0], byte);
        match recover(&dir) {
            Err(RecoverError::Damaged(_)) => assert!(byte < last, "{byte}"),
            Ok(Some(found)) => assert!(byte >= last && found.cut == Some(last as u64), "{byte}"),
            other => panic!("{byte}: {other:?}"),
        }
        fs::write(&files[0], &whole).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_than_what_was_durable_stops_the_stream() {
    let root = tempfile::tempdir().unwrap();
    let files = stream(root.path(), LogConfig::default()).await;
    let whole = fs::read(&files[0]).unwrap();
    let last = (0..whole.len() - 4).rfind(|i| whole[*i..].starts_with(b"RwCf")).unwrap();
    for len in [last, last + 1, whole.len() - 1] {
        fs::write(&files[0], &whole[..len]).unwrap();
        let found = recover(&root.path().join("shop"));
        assert!(matches!(found, Err(RecoverError::Damaged(_))), "{len}: {found:?}");
        let report = inspect::check(root.path()).unwrap().remove(0);
        assert_eq!(report.problems.len(), 1, "{len}: {report:?}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_an_old_segment_is_never_delivered_and_always_listed() {
    let root = tempfile::tempdir().unwrap();
    let files = stream(root.path(), config()).await;
    let s = service("shop");
    assert!(files.len() > 3);
    let old = &files[1];
    for byte in (0..fs::read(old).unwrap().len()).step_by(41) {
        let whole = flip(old, byte);
        let log = FileLog::open(root.path(), config()).unwrap();
        let mut at = Offset(0);
        let error = loop {
            match log.read(&s, at, ByteSize(1)).await {
                Ok(chunk) => {
                    for (n, stored) in (at.0 / 2 + 1..).zip(chunk.batches) {
                        assert_eq!(*stored.batch, batch(1, n, 2), "flipped at {byte}");
                    }
                    at = chunk.next;
                }
                Err(e) => break e,
            }
        };
        let LogError::Damaged { what, .. } = error else { panic!("{error:?}") };
        assert!(what.contains(old.to_str().unwrap()), "{what}");
        let report = inspect::check(root.path()).unwrap().remove(0);
        assert_eq!(report.problems[0].file, *old, "{report:?}");
        assert!(report.problems.iter().all(|p| p.offset < 40 && !p.help.is_empty()));
        // What lies behind the damaged file is as good as before.
        let behind = Offset(file_base(&files[2]));
        read_all(&log, &s, behind, Offset(40), PLENTY).await;
        fs::write(old, whole).unwrap();
    }
    let report = inspect::check(root.path()).unwrap().remove(0);
    assert!(report.problems.is_empty() && report.events == 40, "{report:?}");
}

fn file_base(file: &Path) -> u64 {
    file.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_missing_segment_is_damage() {
    let root = tempfile::tempdir().unwrap();
    let files = stream(root.path(), config()).await;
    let s = service("shop");
    let (gone, last) = (&files[2], files.last().unwrap());
    fs::rename(gone, root.path().join("aside")).unwrap();
    let log = FileLog::open(root.path(), config()).unwrap();
    let error = log.read(&s, Offset(file_base(gone)), PLENTY).await.unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    let report = inspect::check(root.path()).unwrap().remove(0);
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].offset, file_base(gone));
    assert_eq!(report.problems[0].until, Some(file_base(&files[3])));
    drop(log);
    fs::rename(root.path().join("aside"), gone).unwrap();
    fs::remove_file(last).unwrap();
    assert!(matches!(recover(&root.path().join("shop")), Err(RecoverError::Damaged(_))));
    assert_eq!(inspect::check(root.path()).unwrap()[0].problems.len(), 1);
}

#[tokio::test]
async fn a_segment_of_another_stream_does_not_fit() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = stream(a.path(), config()).await;
    {
        let (log, s) = (FileLog::open(b.path(), config()).unwrap(), service("shop"));
        for n in 1..=20 {
            put(&log, &s, batch(7, n, 2)).await.unwrap();
        }
    }
    let foreign = b.path().join("shop").join(files[1].file_name().unwrap());
    fs::copy(foreign, &files[1]).unwrap();
    let log = FileLog::open(a.path(), config()).unwrap();
    let s = service("shop");
    let read = log.read(&s, Offset(0), PLENTY).await;
    assert!(matches!(read, Err(LogError::Damaged { .. })), "{read:?}");
}

#[tokio::test]
async fn a_log_of_another_format_says_which() {
    let root = tempfile::tempdir().unwrap();
    let files = stream(root.path(), LogConfig::default()).await;
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[4] = 3;
    let crc = crc32c::crc32c(&bytes[..108]).to_le_bytes();
    bytes[108..112].copy_from_slice(&crc);
    fs::write(&files[0], bytes).unwrap();
    let log = FileLog::open(root.path(), LogConfig::default()).unwrap();
    let error = log.tail(&service("shop")).await.unwrap_err().to_string();
    assert!(error.contains("format 3") && error.contains("formats 1 and 2"), "{error}");
}

#[tokio::test]
async fn a_stream_that_lost_all_its_files_is_not_begun_again() {
    let root = tempfile::tempdir().unwrap();
    for file in stream(root.path(), config()).await {
        fs::remove_file(file).unwrap();
    }
    let log = FileLog::open(root.path(), config()).unwrap();
    let tail = log.tail(&service("shop")).await;
    assert!(matches!(tail, Err(LogError::Damaged { .. })), "{tail:?}");
    assert_eq!(file_name(0), "00000000000000000000.log");
}
