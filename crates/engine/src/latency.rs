//! How long changes take from their commit at the source to their commit at a target.

use rowcast_core::{Offset, Op, Stored};
use std::time::{SystemTime, UNIX_EPOCH};

/// Upper bounds of the buckets, in microseconds.
const BOUNDS: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
];

/// How many transactions took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency {
    /// One count for each bound; what took longer is only in `count`.
    within: [u64; BOUNDS.len()],
    /// Transactions.
    pub count: u64,
    /// Microseconds that they took together.
    pub micros: u64,
}

impl Latency {
    /// For each bound in microseconds, how many took no longer.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0;
        BOUNDS.iter().zip(&self.within).map(move |(bound, n)| {
            sum += n;
            (*bound, sum)
        })
    }

    fn observe(&mut self, micros: u64) {
        self.count += 1;
        self.micros = self.micros.saturating_add(micros);
        if let Some(place) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.within[place] += 1;
        }
    }

    /// The whole transactions that end after `from` and until `until` are visible at the target now.
    /// A snapshot's rows are none: nobody committed them just now.
    pub(crate) fn arrived(&mut self, batches: &[Stored], from: Offset, until: Offset) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        for stored in batches.iter().filter(|s| s.batch.sparse.is_none()) {
            let mut at = stored.base.0;
            let mut events = &stored.batch.events[..];
            let last = stored.batch.transactions.len().saturating_sub(1);
            for (index, transaction) in stored.batch.transactions.iter().enumerate() {
                at += u64::from(transaction.events);
                let own;
                (own, events) = events.split_at(transaction.events as usize);
                let whole = index < last || stored.batch.until.index == 0;
                let is_change = own.first().is_some_and(|e| {
                    matches!(e.op, Op::Create | Op::Update | Op::Delete | Op::Truncate)
                });
                if whole && is_change && from.0 < at && at <= until.0 {
                    let committed = u128::try_from(transaction.committed).unwrap_or_default();
                    self.observe(u64::try_from(now.saturating_sub(committed)).unwrap_or(u64::MAX));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_took_no_longer() {
        let mut latency = Latency::default();
        for micros in [500, 1_000, 1_001, 7_000_000, u64::MAX] {
            latency.observe(micros);
        }
        let buckets: Vec<_> = latency.buckets().collect();
        assert_eq!(buckets[0], (1_000, 2));
        assert_eq!(buckets[1], (2_500, 3));
        assert_eq!(buckets[12], (10_000_000, 4));
        assert_eq!(buckets[15], (3_600_000_000, 4));
        assert_eq!(latency.count, 5);
    }
}
