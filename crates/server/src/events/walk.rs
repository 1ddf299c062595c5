//! The events of a stored batch, one after another, each with its transaction.

use rowcast_core::{Batch, Event, Offset, Stored, Transaction};

/// A place in a stored batch.
pub(crate) struct Walk {
    stored: Stored,
    index: usize,
    /// The transaction of the next event, and the index after its last one.
    run: usize,
    run_end: usize,
}

impl Walk {
    /// Begins at the first event that is not before `from`.
    pub(crate) fn new(stored: Stored, from: Offset) -> Self {
        let index = stored.index_at(from);
        let run_end = stored.batch.transactions.first().map_or(0, |t| t.events as usize);
        Self { stored, index, run: 0, run_end }
    }

    /// The next event and its offset.
    pub(crate) fn next(&mut self) -> Option<(u64, &Batch, &Event, &Transaction)> {
        let batch = &*self.stored.batch;
        let event = batch.events.get(self.index)?;
        while self.run_end <= self.index {
            self.run += 1;
            self.run_end += batch.transactions.get(self.run)?.events as usize;
        }
        let offset = self.stored.offset(self.index).0;
        self.index += 1;
        Some((offset, batch, event, batch.transactions.get(self.run)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_core::{BatchBuilder, Column, Epoch, Kind, Op, Point, Position, Schema};
    use std::sync::Arc;

    #[test]
    fn every_event_comes_with_its_own_transaction() {
        let id = Column {
            name: "id".into(),
            native: "x".into(),
            kind: Kind::Int64,
            key: Some(0),
            not_null: true,
            fill: None,
        };
        let schema = Arc::new(Schema {
            entity: "e".parse().unwrap(),
            dialect: "test".into(),
            columns: vec![id],
            generated: vec![],
        });
        let mut builder = BatchBuilder::new();
        let index = builder.schema(schema.id(), &schema);
        for (at, events) in [(1, 2), (2, 1), (3, 3)] {
            builder.begin(Point::Sequence(at), 0);
            (0..events).for_each(|_| builder.push(Op::Truncate, index, |_| {}, |_| {}));
        }
        let batch = builder.finish(Position::new(Epoch::default(), Point::Sequence(4)), true);
        let stored = Stored { base: Offset(10), batch: Arc::new(batch) };
        let walked = |from| {
            let mut walk = Walk::new(stored.clone(), Offset(from));
            let mut seen = Vec::new();
            while let Some((offset, _, _, at)) = walk.next() {
                seen.push((offset, at.at.value()));
            }
            seen
        };
        let all = [(10, 1), (11, 1), (12, 2), (13, 3), (14, 3), (15, 3)];
        assert_eq!(walked(0), all);
        assert_eq!(walked(12), all[2..]);
        assert_eq!(walked(15), all[5..]);
        assert_eq!(walked(16), []);
    }
}
