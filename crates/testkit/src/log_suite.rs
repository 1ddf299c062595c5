//! Conformance of event logs: one check for each law of the seam. [`log_suite!`](crate::log_suite!)
//! makes a test of each for one implementation.
#![expect(clippy::unwrap_used, reason = "a check is a test, wherever it stands")]

mod compaction;

pub use compaction::{
    assert_same_copies, compaction_keeps_offsets_and_the_tails_words, states,
    what_compaction_leaves_builds_the_same_copies, what_compaction_leaves_is_whole_only_at_its_end,
    whole_ends,
};

use crate::wait::LONG;
use async_trait::async_trait;
use rowcast_core::{
    Batch, BatchBuilder, ByteSize, Column, Epoch, EventLog, Kind, LogError, Offset, Op, Point,
    Position, RowWriter, Schema, ServiceName, Snapshot, Stored, Value,
};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Makes the logs that the checks are run on.
#[async_trait]
pub trait Logs: Send + Sync {
    /// A log without streams.
    async fn open(&self) -> Box<dyn EventLog>;

    /// Ends `log` and opens what it left; `None` when it leaves nothing.
    async fn reopen(&self, log: Box<dyn EventLog>) -> Option<Box<dyn EventLog>>;
}

/// A test for each law, on logs made by an expression of a type that is [`Logs`].
#[macro_export]
macro_rules! log_suite {
    ($logs:expr) => {
        $crate::log_suite! { @each $logs;
            a_stream_begins_empty_and_keeps_its_identity
            offsets_are_dense_one_per_event
            what_was_appended_reads_back_the_same
            what_was_durable_stays_across_a_restart
            a_reader_may_begin_at_any_offset
            a_read_returns_one_batch_even_when_it_is_larger_than_asked_for
            a_read_waits_at_the_tail
            a_cancelled_read_loses_nothing
            readers_at_the_tail_see_every_event_once_in_order
            a_read_after_the_tail_is_refused
            another_epoch_is_refused_unless_the_batch_is_fresh
            a_position_before_the_tail_is_refused
            an_unsound_batch_is_refused
            a_batch_without_events_moves_the_position_only
            commits_resolve_in_order
            the_tail_knows_the_newest_snapshots_and_schemas
            a_new_history_forgets_old_snapshots
            trimming_keeps_what_it_is_told_to_keep
            what_compaction_leaves_builds_the_same_copies
            compaction_keeps_offsets_and_the_tails_words
            what_compaction_leaves_is_whole_only_at_its_end
            streams_do_not_see_each_other
        }
    };
    (@each $logs:expr; $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::log_suite::$check(&$logs).await;
            }
        )*
    };
}

const PLENTY: ByteSize = ByteSize::mib(64);

/// A service's name for tests.
pub fn service(name: &str) -> ServiceName {
    name.parse().expect("a test's name is good")
}

/// A schema of an `id` and a `name`.
pub fn schema(entity: &str) -> Arc<Schema> {
    let column = |name: &str, kind, key| Column {
        name: name.into(),
        native: "text".into(),
        kind,
        key,
        not_null: key.is_some(),
        fill: None,
    };
    Arc::new(Schema {
        entity: entity.parse().expect("a test's name is good"),
        dialect: "test".into(),
        columns: vec![column("id", Kind::Int64, Some(0)), column("name", Kind::Text, None)],
        generated: vec![],
    })
}

/// Position `at` in a history.
pub fn position(epoch: u64, at: u64) -> Position {
    Position::new(Epoch { identity: epoch, birth: 0 }, Point::Sequence(at))
}

/// A transaction of so many events that ends at `at`; what is in it follows from the arguments.
pub fn batch(epoch: u64, at: u64, events: u64) -> Batch {
    let mut b = BatchBuilder::new();
    let schema = schema("thing");
    let index = b.schema(schema.id(), &schema);
    b.begin(Point::Sequence(at), 1_700_000_000_000_000 + at as i64);
    for n in 0..events {
        let after = |row: &mut Vec<u8>| {
            let mut row = RowWriter::new(row);
            row.push(Value::Text((at * 1000 + n).to_string().as_bytes()));
            row.push(Value::Text("a name that is long enough to be one".as_bytes()));
        };
        let before = |row: &mut Vec<u8>| {
            let mut row = RowWriter::new(row);
            row.push(Value::Integer(n as i64));
            row.push(Value::Unchanged);
        };
        match n % 3 {
            0 => b.push(Op::Create, index, |_| {}, after),
            1 => b.push(Op::Update, index, before, after),
            _ => b.push(Op::Delete, index, before, |_| {}),
        }
    }
    b.finish(position(epoch, at), true)
}

/// How far the snapshot of an entity came, for tests.
pub fn snapshot(entity: &str, rows: u64, done: bool) -> Snapshot {
    let entity = entity.parse().expect("a test's name is good");
    let cursor = rows.to_le_bytes().to_vec().into();
    Snapshot { entity, cursor, rows, rows_estimate: rows.checked_mul(2), done }
}

/// A batch of nothing but a word about a snapshot.
pub fn snapshot_batch(epoch: u64, at: u64, word: Snapshot) -> Batch {
    let mut b = BatchBuilder::new();
    b.snapshot(word);
    b.finish(position(epoch, at), true)
}

/// Appends and waits until it is durable.
pub async fn put(
    log: &dyn EventLog,
    stream: &ServiceName,
    batch: Batch,
) -> Result<Offset, LogError> {
    log.append(stream, batch).await?.await
}

/// Reads everything in `from..to`, in reads of about `max`, and proves that nothing is missing or
/// repeated.
pub async fn read_all(
    log: &dyn EventLog,
    stream: &ServiceName,
    from: Offset,
    to: Offset,
    max: ByteSize,
) -> Vec<Stored> {
    let mut at = from;
    let mut all: Vec<Stored> = Vec::new();
    while at < to {
        let chunk = log.read(stream, at, max).await.expect("it can be read");
        let first = chunk.batches.first().expect("a chunk holds a batch");
        assert!(first.base <= at && first.end() > at, "it holds the offset asked for");
        for stored in chunk.batches {
            assert!(stored.batch.span() > 0, "batches that stand for no offset are left out");
            if let Some(before) = all.last() {
                assert_eq!(stored.base, before.end(), "no gap, no repetition");
            }
            all.push(stored);
        }
        assert_eq!(chunk.next, all.last().expect("just added").end());
        at = chunk.next;
    }
    all
}

/// Whether a future has nothing yet, when asked once.
pub async fn is_pending(future: &mut std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Fails a test that would hang.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it comes to an end")
}

/// A stream that nobody wrote has offset 0 next, no position, and one identity.
pub async fn a_stream_begins_empty_and_keeps_its_identity(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    let tail = log.tail(&s).await.unwrap();
    assert_eq!((tail.first, tail.next, tail.position), (Offset(0), Offset(0), None));
    assert!(tail.snapshots.is_empty() && tail.schemas.is_empty());
    assert_eq!(log.tail(&s).await.unwrap().log, tail.log);
    if let Some(log) = logs.reopen(log).await {
        let again = log.tail(&s).await.unwrap();
        assert_eq!((again.log, again.next, again.position), (tail.log, Offset(0), None));
    }
}

/// Each event takes one offset; a batch's commit is the offset after it.
pub async fn offsets_are_dense_one_per_event(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    assert_eq!(put(&*log, &s, batch(1, 1, 3)).await.unwrap(), Offset(3));
    assert_eq!(put(&*log, &s, batch(1, 2, 1)).await.unwrap(), Offset(4));
    assert_eq!(put(&*log, &s, batch(1, 3, 10)).await.unwrap(), Offset(14));
    assert_eq!(log.tail(&s).await.unwrap().next, Offset(14));
}

fn odd_batch() -> Batch {
    let mut odd = batch(1, 9, 4);
    // Rows that share bytes, lie out of turn or leave some unused.
    odd.events.swap(0, 3);
    odd.events[1].after = odd.events[2].before;
    odd.transactions[0].at = Point::Lsn(u64::MAX);
    odd.transactions[0].committed = i64::MIN;
    odd.snapshots = vec![snapshot("thing", 7, false)];
    odd.whole = false;
    odd.fresh = true;
    odd.until.index = 3;
    odd
}

/// Every part of a batch comes back, also of an unusual one.
pub async fn what_was_appended_reads_back_the_same(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    let wrote = [batch(1, 1, 3), odd_batch(), batch(1, 10, 500)];
    for b in &wrote {
        put(&*log, &s, b.clone()).await.unwrap();
    }
    let read = read_all(&*log, &s, Offset(0), Offset(507), PLENTY).await;
    assert!(read.iter().map(|r| &*r.batch).eq(wrote.iter()));
    if let Some(log) = logs.reopen(log).await {
        let read = read_all(&*log, &s, Offset(0), Offset(507), PLENTY).await;
        assert!(read.iter().map(|r| &*r.batch).eq(wrote.iter()), "and after a restart");
    }
}

/// Offsets, position, snapshots, schemas and events are there after a restart, and appends go on.
pub async fn what_was_durable_stays_across_a_restart(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    for n in 1..=20 {
        put(&*log, &s, batch(1, n, n)).await.unwrap();
    }
    put(&*log, &s, snapshot_batch(1, 20, snapshot("thing", 5, true))).await.unwrap();
    put(&*log, &s, Batch::empty(position(1, 30))).await.unwrap();
    let before = log.tail(&s).await.unwrap();
    let Some(log) = logs.reopen(log).await else { return };
    let after = log.tail(&s).await.unwrap();
    assert_eq!((after.log, after.first, after.next), (before.log, before.first, before.next));
    assert_eq!(after.position, Some(position(1, 30)));
    assert_eq!(after.snapshots, before.snapshots);
    assert_eq!(after.schemas, before.schemas);
    assert_eq!(read_all(&*log, &s, Offset(0), Offset(210), PLENTY).await.len(), 20);
    let refused = put(&*log, &s, batch(1, 29, 1)).await;
    assert!(matches!(refused, Err(LogError::Misplaced { .. })), "{refused:?}");
    assert_eq!(put(&*log, &s, batch(1, 31, 1)).await.unwrap(), Offset(211));
}

/// The first batch holds the offset asked for, wherever it lies.
pub async fn a_reader_may_begin_at_any_offset(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    for n in 1..=15 {
        put(&*log, &s, batch(1, n, n)).await.unwrap();
    }
    for from in 0..120 {
        let read = read_all(&*log, &s, Offset(from), Offset(120), PLENTY).await;
        assert!(read[0].base.0 <= from && from < read[0].end().0);
    }
}

/// What is asked for is a wish; a batch is never cut.
pub async fn a_read_returns_one_batch_even_when_it_is_larger_than_asked_for(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    for n in 1..=5 {
        put(&*log, &s, batch(1, n, 50)).await.unwrap();
    }
    let chunk = log.read(&s, Offset(60), ByteSize(1)).await.unwrap();
    assert_eq!(chunk.batches.len(), 1);
    assert_eq!((chunk.batches[0].base, chunk.next), (Offset(50), Offset(100)));
    assert_eq!(read_all(&*log, &s, Offset(0), Offset(250), ByteSize(1)).await.len(), 5);
}

/// A read of the next free offset is pending until something is durable there.
pub async fn a_read_waits_at_the_tail(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    put(&*log, &s, batch(1, 1, 2)).await.unwrap();
    let mut read = pin!(log.read(&s, Offset(2), PLENTY));
    assert!(is_pending(&mut read).await);
    put(&*log, &s, Batch::empty(position(1, 2))).await.unwrap();
    assert!(is_pending(&mut read).await, "a batch without events is nothing to return");
    put(&*log, &s, batch(1, 3, 2)).await.unwrap();
    let chunk = soon(read).await.unwrap();
    assert_eq!((chunk.batches[0].base, chunk.next), (Offset(2), Offset(4)));
}

/// Dropping a read that waits costs nothing.
pub async fn a_cancelled_read_loses_nothing(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    log.tail(&s).await.unwrap();
    for n in 0..20 {
        {
            let mut read = pin!(log.read(&s, Offset(n), PLENTY));
            assert!(is_pending(&mut read).await);
        }
        put(&*log, &s, batch(1, n + 1, 1)).await.unwrap();
    }
    assert_eq!(read_all(&*log, &s, Offset(0), Offset(20), PLENTY).await.len(), 20);
}

/// While a writer appends, four readers read along.
pub async fn readers_at_the_tail_see_every_event_once_in_order(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    let write = async {
        let mut commits = Vec::new();
        for n in 1..=200 {
            commits.push(log.append(&s, batch(1, n, 1 + n % 5)).await.unwrap());
        }
        for commit in commits {
            commit.await.unwrap();
        }
    };
    let read = || read_all(&*log, &s, Offset(0), Offset(600), ByteSize::kib(1));
    let ((), a, b, c, d) =
        soon(async { tokio::join!(write, read(), read(), read(), read()) }).await;
    for seen in [&a, &b, &c, &d] {
        let points: Vec<u64> = seen.iter().map(|r| r.batch.until.point.value()).collect();
        assert!(points.iter().copied().eq(1..=200));
    }
}

/// Nobody reads what was never written.
pub async fn a_read_after_the_tail_is_refused(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    put(&*log, &s, batch(1, 1, 2)).await.unwrap();
    let ahead = log.read(&s, Offset(3), PLENTY).await;
    assert!(
        matches!(ahead, Err(LogError::Ahead { at: Offset(3), next: Offset(2), .. })),
        "{ahead:?}"
    );
}

/// A history is never silently continued by another one.
pub async fn another_epoch_is_refused_unless_the_batch_is_fresh(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    put(&*log, &s, batch(1, 100, 2)).await.unwrap();
    let refused = put(&*log, &s, batch(2, 200, 2)).await;
    assert!(matches!(refused, Err(LogError::Misplaced { .. })), "{refused:?}");
    let fresh = Batch { fresh: true, ..batch(2, 5, 1) };
    assert_eq!(put(&*log, &s, fresh).await.unwrap(), Offset(3));
    assert_eq!(put(&*log, &s, batch(2, 6, 1)).await.unwrap(), Offset(4));
    let tail = log.tail(&s).await.unwrap();
    assert_eq!(tail.position, Some(position(2, 6)));
}

/// What the log has is not taken again; a batch at the same position is.
pub async fn a_position_before_the_tail_is_refused(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    put(&*log, &s, batch(1, 100, 2)).await.unwrap();
    let refused = put(&*log, &s, batch(1, 99, 2)).await;
    assert!(matches!(refused, Err(LogError::Misplaced { .. })), "{refused:?}");
    assert_eq!(log.tail(&s).await.unwrap().next, Offset(2));
    assert_eq!(put(&*log, &s, batch(1, 100, 2)).await.unwrap(), Offset(4));
}

/// A batch whose events point outside of it never enters.
pub async fn an_unsound_batch_is_refused(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    let mut unsound = batch(1, 1, 2);
    unsound.events[1].schema = 7;
    let refused = put(&*log, &s, unsound).await;
    assert!(matches!(refused, Err(LogError::Misplaced { .. })), "{refused:?}");
    assert_eq!(log.tail(&s).await.unwrap().next, Offset(0));
}

/// Heartbeats carry the position forward, and whoever waits for that hears of it.
pub async fn a_batch_without_events_moves_the_position_only(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    put(&*log, &s, batch(1, 1, 2)).await.unwrap();
    let mut moved = pin!(log.moved(&s, Some(position(1, 1))));
    assert!(is_pending(&mut moved).await);
    assert_eq!(put(&*log, &s, Batch::empty(position(1, 7))).await.unwrap(), Offset(2));
    assert_eq!(soon(moved).await.unwrap(), (Offset(2), Some(position(1, 7))));
    let tail = log.tail(&s).await.unwrap();
    assert_eq!((tail.next, tail.position), (Offset(2), Some(position(1, 7))));
    let at_once = soon(log.moved(&s, None)).await.unwrap();
    assert_eq!(at_once, (Offset(2), Some(position(1, 7))));
}

/// Appends may run ahead of the disk; their commits keep the order.
pub async fn commits_resolve_in_order(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    let mut commits = Vec::new();
    for n in 1..=100 {
        commits.push(log.append(&s, batch(1, n, 1)).await.unwrap());
    }
    let last = commits.pop().expect("a hundred were made");
    assert_eq!(soon(last).await.unwrap(), Offset(100));
    for (n, commit) in commits.into_iter().enumerate() {
        let mut commit = pin!(commit);
        let done = std::future::poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx))).await;
        assert!(matches!(done, Poll::Ready(Ok(at)) if at.0 == n as u64 + 1), "{done:?}");
    }
}

/// What capture needs to go on stands at the tail, and in no other place.
pub async fn the_tail_knows_the_newest_snapshots_and_schemas(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    put(&*log, &s, batch(1, 1, 2)).await.unwrap();
    put(&*log, &s, snapshot_batch(1, 1, snapshot("thing", 10, false))).await.unwrap();
    put(&*log, &s, snapshot_batch(1, 2, snapshot("other", 1, true))).await.unwrap();
    let tail = log.tail(&s).await.unwrap();
    assert_eq!(tail.complete_from(&"thing".parse().unwrap()), None);
    assert_eq!(tail.complete_from(&"other".parse().unwrap()), Some(Offset(2)));
    put(&*log, &s, Batch { snapshots: vec![snapshot("thing", 20, true)], ..batch(1, 3, 3) })
        .await
        .unwrap();
    let tail = log.tail(&s).await.unwrap();
    assert_eq!(tail.complete_from(&"thing".parse().unwrap()), Some(Offset(5)));
    let thing = tail.snapshots.iter().find(|(w, _)| w.entity.as_str() == "thing");
    assert_eq!(thing, Some(&(snapshot("thing", 20, true), Offset(5))));
    assert_eq!(tail.schemas, [schema("thing")]);
}

/// The first batch of a new history empties every entity, so no copy built before it is whole.
pub async fn a_new_history_forgets_old_snapshots(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    put(&*log, &s, snapshot_batch(1, 1, snapshot("thing", 10, true))).await.unwrap();
    put(&*log, &s, Batch { fresh: true, ..batch(2, 1, 1) }).await.unwrap();
    assert!(log.tail(&s).await.unwrap().snapshots.is_empty());
    if let Some(log) = logs.reopen(log).await {
        assert!(log.tail(&s).await.unwrap().snapshots.is_empty(), "and after a restart");
    }
}

/// What lies before may go, as far as whole segments allow; the rest stays, at its offsets.
pub async fn trimming_keeps_what_it_is_told_to_keep(logs: &dyn Logs) {
    let (log, s) = (logs.open().await, service("shop"));
    for n in 1..=10 {
        put(&*log, &s, batch(1, n, 10)).await.unwrap();
    }
    for _ in 0..2 {
        log.trim(&s, Offset(55)).await.unwrap();
        let tail = log.tail(&s).await.unwrap();
        assert!(tail.first <= Offset(55));
        assert_eq!((tail.next, tail.position), (Offset(100), Some(position(1, 10))));
        read_all(&*log, &s, Offset(55), Offset(100), PLENTY).await;
        if tail.first > Offset(0) {
            let gone = log.read(&s, Offset(0), PLENTY).await;
            assert!(matches!(gone, Err(LogError::Trimmed { .. })), "{gone:?}");
        }
    }
    log.trim(&s, Offset(1000)).await.unwrap();
    assert_eq!(put(&*log, &s, batch(1, 11, 1)).await.unwrap(), Offset(101));
    read_all(&*log, &s, Offset(100), Offset(101), PLENTY).await;
}

/// Each publishing service has its own offsets, positions and identity.
pub async fn streams_do_not_see_each_other(logs: &dyn Logs) {
    let (log, a, b) = (logs.open().await, service("a"), service("b"));
    put(&*log, &a, batch(1, 9, 2)).await.unwrap();
    put(&*log, &b, batch(2, 1, 1)).await.unwrap();
    let (tail_a, tail_b) = (log.tail(&a).await.unwrap(), log.tail(&b).await.unwrap());
    assert_eq!((tail_a.next, tail_b.next), (Offset(2), Offset(1)));
    assert_ne!(tail_a.log, tail_b.log);
    assert_eq!(*log.read(&b, Offset(0), PLENTY).await.unwrap().batches[0].batch, batch(2, 1, 1));
}
