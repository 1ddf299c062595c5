//! `inspect`, on stopped and running logs.

use super::disk::ScriptedDisk;
use crate::{FileLog, LogConfig, inspect};
use rowcast_core::{Batch, EventLog};
use rowcast_testkit::log_suite::{batch, position, put, service, snapshot, snapshot_batch};

#[tokio::test]
async fn a_look_tells_what_a_stream_holds_while_it_runs_and_afterwards() {
    let root = tempfile::tempdir().unwrap();
    let log = FileLog::open(root.path(), LogConfig::default()).unwrap();
    let s = service("shop");
    put(&log, &s, batch(1, 1, 3)).await.unwrap();
    put(&log, &s, snapshot_batch(1, 1, snapshot("thing", 7, true))).await.unwrap();
    put(&log, &s, snapshot_batch(1, 1, snapshot("other", 2, false))).await.unwrap();
    put(&log, &s, Batch::empty(position(1, 9))).await.unwrap();
    put(&log, &service("bank"), batch(2, 1, 1)).await.unwrap();
    let tail = log.tail(&s).await.unwrap();
    let running = inspect::stat(root.path()).unwrap();
    drop(log);
    let stopped = inspect::stat(root.path()).unwrap();
    for stat in [running, stopped] {
        let [bank, shop] = stat.as_slice() else { panic!("{stat:?}") };
        assert_eq!((bank.stream.as_str(), bank.next), ("bank", 1));
        assert_eq!((shop.first, shop.next, shop.segments), (0, 3, 1));
        assert_eq!((shop.bytes, shop.unfinished), (tail.bytes, 0));
        assert_eq!(shop.log, tail.log.to_string());
        assert_eq!(shop.position.as_deref(), Some("9"));
        let [thing, other] = shop.entities.as_slice() else { panic!("{shop:?}") };
        assert_eq!((thing.entity.as_str(), thing.fields), ("thing", 2));
        assert!(thing.snapshot.as_ref().is_some_and(|s| s.done && s.rows == 7 && s.at == 3));
        assert!(other.schema.is_none() && other.snapshot.as_ref().is_some_and(|s| !s.done));
    }
    let report = inspect::check(root.path()).unwrap();
    assert_eq!(report.iter().map(|r| r.events).collect::<Vec<_>>(), [1, 3]);
    assert!(report.iter().all(|r| r.problems.is_empty()));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json[1]["stream"], "shop");
}

#[tokio::test]
async fn a_write_under_way_is_unfinished_and_no_damage() {
    let (root, disk, s) = (tempfile::tempdir().unwrap(), ScriptedDisk::default(), service("shop"));
    let log = disk.log(root.path(), LogConfig::default());
    put(&log, &s, batch(1, 1, 3)).await.unwrap();
    disk.set(|d| (d.bytes_left, d.dies) = (Some(150), true));
    assert!(put(&log, &s, batch(1, 2, 3)).await.is_err());
    let report = inspect::check(root.path()).unwrap().remove(0);
    assert_eq!((report.unfinished, report.events), (150, 3));
    assert!(report.problems.is_empty(), "{report:?}");
    let stat = inspect::stat(root.path()).unwrap().remove(0);
    assert_eq!((stat.unfinished, stat.next, stat.error), (150, 3, None));
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_says_why_and_the_others_are_shown() {
    let root = tempfile::tempdir().unwrap();
    {
        let log = FileLog::open(root.path(), LogConfig::default()).unwrap();
        put(&log, &service("bank"), batch(2, 1, 1)).await.unwrap();
        put(&log, &service("shop"), batch(2, 1, 1)).await.unwrap();
    }
    let file = root.path().join("bank/00000000000000000000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let stat = inspect::stat(root.path()).unwrap();
    assert!(stat[0].error.as_ref().is_some_and(|e| e.contains("00000000000000000000.log")));
    assert_eq!((stat[1].next, &stat[1].error), (1, &None));
    let report = inspect::check(root.path()).unwrap();
    assert_eq!((report[0].problems.len(), report[1].problems.len()), (1, 0));
}
