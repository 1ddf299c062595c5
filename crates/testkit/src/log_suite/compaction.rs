//! The laws of compaction.

use super::{Logs, PLENTY, put, read_all, service};
use crate::history::{Copies, History};
use rowcast_core::{EventLog, Offset, ServiceName, Stored};

const BATCHES: usize = 250;
/// A commit time that no clock has reached.
const LATER: i64 = 4_000_000_000_000_000;

async fn written(logs: &dyn Logs, seed: u64) -> (Box<dyn EventLog>, ServiceName, History) {
    let (log, s) = (logs.open().await, service(&format!("shop{seed}")));
    let mut history = History::new(seed, LATER);
    for n in 0.. {
        let batch = history.batch();
        let whole = batch.whole;
        put(&*log, &s, batch).await.unwrap();
        if n >= BATCHES && whole {
            break;
        }
    }
    (log, s, history)
}

async fn everything(log: &dyn EventLog, s: &ServiceName) -> Vec<Stored> {
    let tail = log.tail(s).await.unwrap();
    read_all(log, s, tail.first, tail.next, PLENTY).await
}

/// Places at which a reader may stand: behind whole transactions.
pub fn whole_ends(batches: &[Stored]) -> Vec<Offset> {
    batches.iter().filter(|s| s.batch.whole).map(Stored::end).collect()
}

/// The copies of a reader that stands at `from` with what it built, at each later whole place.
pub fn states(batches: &[Stored], from: Offset, built: &Copies) -> Vec<(Offset, Copies)> {
    let (mut copies, mut states) = (built.clone(), Vec::new());
    for stored in batches.iter().filter(|s| s.end() > from) {
        copies.apply(stored, from);
        if stored.batch.whole {
            states.push((stored.end(), copies.clone()));
        }
    }
    states
}

/// Asserts that whoever stands at a whole place of the log as it was builds the same copies from the
/// log as it is, at the end of what was compacted and everywhere behind it.
pub fn assert_same_copies(was: &[Stored], is: &[Stored], complete_history: Offset) {
    let truth = states(was, Offset(0), &Copies::default());
    let nothing = (Offset(0), Copies::default());
    let later = truth.iter().filter(|(at, _)| *at >= complete_history);
    // Every so many places are enough, and they differ from history to history.
    let step = truth.len() / 12 + 1;
    for (from, built) in [&nothing].into_iter().chain(later.step_by(step)) {
        for (at, copies) in states(is, *from, built) {
            let (_, expected) = truth.iter().find(|(end, _)| *end == at).expect("a place it had");
            assert!(
                copies == *expected,
                "a reader from {from} at {at}: {}",
                copies.differs(expected)
            );
        }
    }
}

/// What is left builds the same copies, for new readers and for those in between.
pub async fn what_compaction_leaves_builds_the_same_copies(logs: &dyn Logs) {
    for seed in 0..6 {
        let (log, s, _) = written(logs, seed).await;
        let was = everything(&*log, &s).await;
        let ends = whole_ends(&was);
        for upto in [ends[ends.len() / 3], ends[ends.len() - 1], Offset(u64::MAX)] {
            let compacted = log.compact(&s, upto).await.unwrap();
            assert!(compacted <= upto, "seed {seed}");
            let tail = log.tail(&s).await.unwrap();
            assert_eq!((tail.compacted, tail.complete_history), (compacted, Offset(0)));
            assert_same_copies(&was, &everything(&*log, &s).await, Offset(0));
        }
        let left: usize = everything(&*log, &s).await.iter().map(|s| s.batch.events.len()).sum();
        let before: usize = was.iter().map(|s| s.batch.events.len()).sum();
        assert!(left < before / 3, "seed {seed}: {left} of {before}");
    }
}

/// Events that stay keep their offsets, the tail says what it said, and appending goes on.
pub async fn compaction_keeps_offsets_and_the_tails_words(logs: &dyn Logs) {
    let (log, s, mut history) = written(logs, 77).await;
    let (was, before) = (everything(&*log, &s).await, log.tail(&s).await.unwrap());
    let compacted = log.compact(&s, before.next).await.unwrap();
    assert!(compacted > Offset(0));
    assert_eq!(log.compact(&s, before.next).await.unwrap(), compacted, "it has nothing more to do");
    let entity = |stored: &[Stored], at: Offset| {
        let holds = stored.iter().find(|s| s.base <= at && s.end() > at).expect("it is there");
        let index = holds.index_at(at);
        assert_eq!(holds.offset(index), at);
        holds.batch.schema(&holds.batch.events[index]).entity.clone()
    };
    for stored in &everything(&*log, &s).await {
        for (i, event) in stored.batch.events.iter().enumerate() {
            let at = stored.offset(i);
            assert_eq!(entity(&was, at), stored.batch.schema(event).entity);
        }
    }
    let mut log = log;
    for again in 0..2 {
        let tail = log.tail(&s).await.unwrap();
        assert_eq!(
            (tail.log, tail.first, tail.next, tail.position, &tail.snapshots, &tail.schemas),
            (
                before.log,
                before.first,
                before.next,
                before.position,
                &before.snapshots,
                &before.schemas
            ),
            "look {again}"
        );
        assert_eq!(tail.compacted, compacted);
        log = match logs.reopen(log).await {
            Some(log) => log,
            None => return,
        };
    }
    put(&*log, &s, history.batch()).await.unwrap();
    for from in 0..before.next.0 {
        let chunk = log.read(&s, Offset(from), rowcast_core::ByteSize(1)).await.unwrap();
        assert!(chunk.batches[0].base.0 <= from && chunk.next.0 > from);
    }
}

/// Between the first and the last of the batches that are left lies no state the source was in.
pub async fn what_compaction_leaves_is_whole_only_at_its_end(logs: &dyn Logs) {
    let (log, s, _) = written(logs, 3).await;
    let next = log.tail(&s).await.unwrap().next;
    let compacted = log.compact(&s, next).await.unwrap();
    for stored in everything(&*log, &s).await {
        let old = stored.end() <= compacted;
        assert_eq!(stored.batch.sparse.is_some(), old);
        assert!(!old || stored.batch.whole == (stored.end() == compacted));
    }
}
