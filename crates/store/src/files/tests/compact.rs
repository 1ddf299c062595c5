//! Compaction of files: the same copies, whatever fails and whoever reads.

use super::disk::ScriptedDisk;
use crate::files::segment;
use crate::{FileLog, Follower, LogConfig, inspect};
use proptest::prelude::*;
use rowcast_core::{ByteSize, Chunk, EventLog, Offset, ServiceName, Stored};
use rowcast_testkit::history::{Copies, History};
use rowcast_testkit::log_suite::{assert_same_copies, put, read_all, service, states, whole_ends};
use rowcast_testkit::wait::LONG;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PLENTY: ByteSize = ByteSize::mib(64);
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

fn small() -> LogConfig {
    LogConfig {
        segment: ByteSize(4000),
        cache: ByteSize(0),
        compact_memory: ByteSize(3000),
        ..LogConfig::default()
    }
}

async fn everything(log: &dyn EventLog) -> Vec<Stored> {
    let tail = log.tail(&service("shop")).await.unwrap();
    read_all(log, &service("shop"), tail.first, tail.next, PLENTY).await
}

async fn write(log: &dyn EventLog, history: &mut History, batches: usize) {
    for _ in 0..batches {
        put(log, &service("shop"), history.batch()).await.unwrap();
    }
}

fn check(root: &Path) {
    let report = inspect::check(root).unwrap();
    assert!(report.iter().all(|r| r.problems.is_empty() && r.unfinished == 0), "{report:?}");
}

/// Compactions at random places while the stream grows, with deletes that become too old on the way.
async fn lives(seed: u64, memory: u64, compress: bool, days: i64) {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let config = LogConfig { compact_memory: ByteSize(memory), compress, ..small() };
    let mut log = FileLog::open(root.path(), config.clone()).unwrap();
    // A day of the source passes from one part to the next.
    let mut history = History::new(seed, now() - days * DAY);
    let mut was: Vec<Stored> = Vec::new();
    for part in 0..4u64 {
        write(&log, &mut history, 60).await;
        history.now += DAY;
        let tail = log.tail(&s).await.unwrap();
        let from = was.last().map_or(Offset(0), Stored::end);
        was.extend(read_all(&log, &s, from, tail.next, PLENTY).await);
        let ends = whole_ends(&was);
        let pick = (seed.wrapping_mul(31).wrapping_add(part * 7)) as usize % ends.len();
        let upto = if part == 3 { tail.next } else { ends[pick] };
        let compacted = log.compact(&s, upto).await.unwrap();
        assert!(compacted <= upto.max(tail.compacted));
        let after = log.tail(&s).await.unwrap();
        assert_eq!(
            (after.next, after.position, &after.snapshots, &after.schemas),
            (tail.next, tail.position, &tail.snapshots, &tail.schemas)
        );
        assert!(after.complete_history <= compacted && after.compacted == compacted);
        assert_same_copies(&was, &everything(&log).await, after.complete_history);
        check(root.path());
        if part == 1 {
            drop(log);
            log = FileLog::open(root.path(), config.clone()).unwrap();
        }
    }
    let files = segment::list(&root.path().join("shop")).unwrap().segments.len();
    let all = fs::read_dir(root.path().join("shop")).unwrap().count();
    assert_eq!(all, files + 1, "segments and a mark");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_copy_built_from_what_is_left_is_the_same(
        seed in any::<u64>(),
        memory in prop_oneof![Just(1u64), 500u64..20_000, Just(64 << 20)],
        compress in any::<bool>(),
        days in 0i64..14,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lives(seed, memory, compress, days));
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_death_at_any_step_leaves_the_old_or_the_new() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let mut history = History::new(5, now());
    let was = {
        let log = FileLog::open(root.path(), small()).unwrap();
        write(&log, &mut history, 25).await;
        everything(&log).await
    };
    let (mut steps, mut old, mut new) = (0, 0, 0);
    loop {
        let (copy, disk) = (tempfile::tempdir().unwrap(), ScriptedDisk::default());
        copy_dir(&root.path().join("shop"), &copy.path().join("shop"));
        let log = disk.log(copy.path(), small());
        log.tail(&s).await.unwrap();
        disk.set(|d| d.steps_left = Some(steps));
        let answer = log.compact(&s, Offset(u64::MAX)).await;
        let survived = disk.revive();
        drop(log);
        let log = FileLog::open(copy.path(), small()).unwrap();
        let tail = log.tail(&s).await.unwrap();
        assert!(answer.is_err() || tail.compacted == *answer.as_ref().unwrap());
        *(if tail.compacted > Offset(0) { &mut new } else { &mut old }) += 1;
        assert_same_copies(&was, &everything(&log).await, Offset(0));
        check(copy.path());
        let left: Vec<_> = fs::read_dir(copy.path().join("shop")).unwrap().collect();
        let files = segment::list(&copy.path().join("shop")).unwrap();
        assert_eq!(left.len(), files.segments.len() + 1, "nothing is left over: {left:?}");
        // And it goes on.
        log.compact(&s, Offset(u64::MAX)).await.unwrap();
        assert_same_copies(&was, &everything(&log).await, Offset(0));
        if survived {
            break;
        }
        steps += 1;
    }
    assert!(old > 5 && new > 2, "{old} old, {new} new");
}

#[tokio::test]
async fn a_full_disk_ends_a_compaction_and_changes_nothing() {
    let (root, disk, s) = (tempfile::tempdir().unwrap(), ScriptedDisk::default(), service("shop"));
    let log = disk.log(root.path(), small());
    write(&log, &mut History::new(9, now()), 100).await;
    let (was, files) = (everything(&log).await, log.tail(&s).await.unwrap().bytes);
    for left in [0, 100, 3000] {
        disk.set(|d| d.bytes_left = Some(left));
        assert!(log.compact(&s, Offset(u64::MAX)).await.is_err());
        disk.set(|d| d.bytes_left = None);
        let names = fs::read_dir(root.path().join("shop")).unwrap();
        let new = |n: &fs::DirEntry| n.file_name().to_str().unwrap().ends_with(".new");
        assert_eq!(names.filter(|n| new(n.as_ref().unwrap())).count(), 0);
    }
    assert!(everything(&log).await.iter().map(|s| &s.batch).eq(was.iter().map(|s| &s.batch)));
    assert!(log.compact(&s, Offset(u64::MAX)).await.unwrap() > Offset(0));
    assert!(log.tail(&s).await.unwrap().bytes < files);
    assert_same_copies(&was, &everything(&log).await, Offset(0));
}

/// Reads from the beginning as a route does: begins again when deletes that it needs are gone.
async fn follow(log: &FileLog, s: &ServiceName, until: Offset) -> Copies {
    let (mut at, mut copies, mut history) = (Offset(0), Copies::default(), None);
    while at < until {
        let Chunk { batches, next, complete_history } = log.read(s, at, ByteSize(1)).await.unwrap();
        if history.is_some_and(|known| known != complete_history) && at < complete_history {
            (at, copies, history) = (Offset(0), Copies::default(), None);
            continue;
        }
        history = Some(complete_history);
        batches.iter().for_each(|stored| copies.apply(stored, at));
        at = next;
        tokio::task::yield_now().await;
    }
    copies
}

async fn everybody_at_once(tombstones: Duration) {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let config = LogConfig { tombstones, cache: ByteSize::kib(8), ..small() };
    let log = Arc::new(FileLog::open(root.path(), config).unwrap());
    let mut history = History::new(21, now());
    write(&*log, &mut history, 50).await;
    let mut was = everything(&*log).await;
    let mut readers = tokio::task::JoinSet::new();
    let (end, known) = tokio::sync::watch::channel(None);
    for _ in 0..4 {
        let (log, s, mut known) = (log.clone(), s.clone(), known.clone());
        readers.spawn(async move {
            let mut read = Vec::new();
            // From the beginning, again and again, while the log changes below.
            loop {
                let until = *known.borrow_and_update();
                let next = log.tail(&s).await.unwrap().next;
                read.push((until.unwrap_or(next), follow(&log, &s, until.unwrap_or(next)).await));
                if until.is_some() {
                    return read;
                }
            }
        });
    }
    for _ in 0..40 {
        let from = was.last().map_or(Offset(0), Stored::end);
        write(&*log, &mut history, 8).await;
        let next = log.tail(&s).await.unwrap().next;
        was.extend(read_all(&*log, &s, from, next, PLENTY).await);
        log.compact(&s, next).await.unwrap();
    }
    let next = was.last().unwrap().end();
    end.send(Some(next)).unwrap();
    let truth = states(&was, Offset(0), &Copies::default());
    while let Some(read) = readers.join_next().await {
        let (until, copies) = read.unwrap().pop().unwrap();
        assert_eq!(until, next);
        let (_, expected) = truth.last().unwrap();
        assert_eq!(copies, *expected);
    }
    drop(log);
    check(root.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_writer_and_compaction_do_not_disturb_each_other() {
    everybody_at_once(Duration::from_secs(100_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reader_learns_when_deletes_that_it_needs_were_forgotten() {
    everybody_at_once(Duration::ZERO).await;
}

#[tokio::test]
async fn a_follower_in_another_process_reads_on_across_a_compaction() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let log = FileLog::open(root.path(), small()).unwrap();
    let mut history = History::new(33, now());
    write(&log, &mut history, 100).await;
    let mut follower = Follower::new(root.path(), s.clone(), Offset(0));
    let first = follower.read(ByteSize(1)).unwrap();
    let compacted = log.compact(&s, Offset(u64::MAX)).await.unwrap();
    write(&log, &mut history, 10).await;
    let next = log.tail(&s).await.unwrap().next;
    let (mut at, mut sparse) = (first.last().unwrap().end(), 0);
    loop {
        let read = follower.read(ByteSize(1)).unwrap();
        if read.is_empty() {
            break;
        }
        for stored in read {
            assert!(stored.base <= at && at < stored.end(), "no gap, no repetition");
            sparse += usize::from(stored.batch.sparse.is_some());
            at = stored.end();
        }
    }
    assert!(sparse > 0 && compacted < next);
    assert_eq!(at, next);
    let stat = inspect::stat(root.path()).unwrap().remove(0);
    assert_eq!((stat.compacted, stat.complete_history), (compacted.0, 0));
    assert!(stat.compacted_events > 0 && stat.compacted_events < compacted.0 / 3, "{stat:?}");
}

#[tokio::test]
async fn what_is_due_is_compacted_without_being_told() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let soon = Duration::from_millis(20);
    let config = LogConfig { compact_after: soon, compact_within: soon, ..small() };
    let log = FileLog::open(root.path(), config).unwrap();
    write(&log, &mut History::new(40, now()), 100).await;
    let was = everything(&log).await;
    let end = log.tail(&s).await.unwrap().next;
    let whole = async {
        while log.tail(&s).await.unwrap().compacted < *whole_ends(&was).last().unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Also what the segment under way holds, because its time is up.
    tokio::time::timeout(LONG, whole).await.unwrap();
    assert_same_copies(&was, &everything(&log).await, Offset(0));
    assert_eq!(log.tail(&s).await.unwrap().next, end);
}

#[tokio::test]
async fn a_compacted_file_that_is_damaged_is_found() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let log = FileLog::open(root.path(), small()).unwrap();
    write(&log, &mut History::new(50, now()), 100).await;
    log.compact(&s, Offset(u64::MAX)).await.unwrap();
    drop(log);
    let (_, path, len) = segment::list(&root.path().join("shop")).unwrap().segments.remove(0);
    let good = fs::read(&path).unwrap();
    for at in [60, 150, len / 2, len - 1] {
        let mut bytes = good.clone();
        bytes[at as usize] ^= 4;
        fs::write(&path, bytes).unwrap();
        assert!(!inspect::check(root.path()).unwrap()[0].problems.is_empty(), "byte {at}");
    }
    fs::write(&path, &good[..good.len() - 200]).unwrap();
    assert!(!inspect::check(root.path()).unwrap()[0].problems.is_empty(), "it is too short");
}
