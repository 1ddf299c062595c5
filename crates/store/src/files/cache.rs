//! The newest durable batches of a stream, for readers that are at its end. They share what was
//! appended; nothing is encoded or copied for them.

use rowcast_core::{ByteSize, Offset, Stored};
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Cache {
    batches: VecDeque<Stored>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub(crate) fn new(max: ByteSize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, bytes_max: max.as_usize() }
    }

    /// Adds the newest batch; the oldest ones make room.
    pub(crate) fn push(&mut self, stored: Stored) {
        if stored.batch.events.is_empty() {
            return;
        }
        self.bytes += stored.batch.size();
        self.batches.push_back(stored);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.batch.size();
        }
    }

    /// Lets go of what lies before `upto`: compaction stands for it now, and a reader of what
    /// compaction left must not go on with what was there before.
    pub(crate) fn forget_before(&mut self, upto: Offset) {
        while let Some(oldest) = self.batches.pop_front_if(|s| s.base < upto) {
            self.bytes -= oldest.batch.size();
        }
    }

    /// About `max` bytes from `at` on, at least one batch; nothing when `at` is not held.
    pub(crate) fn read(&self, at: Offset, max: ByteSize) -> Vec<Stored> {
        if self.batches.front().is_none_or(|oldest| oldest.base > at) {
            return Vec::new();
        }
        let from = self.batches.partition_point(|s| s.end() <= at);
        let mut bytes = 0;
        let fits = |s: &&Stored| {
            let first = bytes == 0;
            bytes += s.batch.size();
            first || bytes <= max.as_usize()
        };
        self.batches.range(from..).take_while(fits).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_testkit::log_suite::batch;
    use std::sync::Arc;

    fn filled(batches: u64, hold: u64) -> Cache {
        let size = batch(1, 10, 2).size() as u64;
        let mut cache = Cache::new(ByteSize(size * hold));
        for n in 0..batches {
            cache.push(Stored { base: Offset(n * 2), batch: Arc::new(batch(1, 10 + n, 2)) });
        }
        cache
    }

    #[test]
    fn the_oldest_batches_make_room() {
        let cache = filled(10, 4);
        assert_eq!(cache.batches.len(), 4);
        assert!(cache.read(Offset(11), ByteSize::mib(1)).is_empty());
        let read = cache.read(Offset(13), ByteSize::mib(1));
        assert_eq!(read.iter().map(|s| s.base.0).collect::<Vec<_>>(), [12, 14, 16, 18]);
    }

    #[test]
    fn a_read_returns_one_batch_even_when_it_is_larger_than_asked_for() {
        assert_eq!(filled(10, 4).read(Offset(14), ByteSize(1)).len(), 1);
    }

    #[test]
    fn a_cache_of_nothing_holds_nothing() {
        let mut cache = Cache::new(ByteSize(0));
        cache.push(Stored { base: Offset(0), batch: Arc::new(batch(1, 0, 2)) });
        assert!(cache.read(Offset(0), ByteSize::mib(1)).is_empty());
        assert_eq!(cache.bytes, 0);
    }
}
