use super::*;
use rowcast_core::{Batch, BatchBuilder, Column, Epoch, Kind, Position, RowWriter, Schema, Value};
use std::sync::Arc;

fn schema(entity: &str) -> Arc<Schema> {
    let id = Column {
        name: "id".into(),
        native: "text".into(),
        kind: Kind::Text,
        key: Some(0),
        not_null: true,
        fill: None,
    };
    let entity = entity.parse().unwrap();
    Arc::new(Schema { entity, dialect: "test".into(), columns: vec![id], generated: vec![] })
}

/// Transactions, each with its point and the entities that its events change.
fn batch(transactions: &[(u64, &[&str])], whole: bool) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut until = 0;
    for (at, entities) in transactions {
        builder.begin(Point::Sequence(*at), 0);
        for entity in *entities {
            let schema = schema(entity);
            let index = builder.schema(schema.id(), &schema);
            let row = |into: &mut Vec<u8>| RowWriter::new(into).push(Value::Text(b"1"));
            builder.push(Op::Create, index, |_| {}, row);
        }
        until = at + 1;
    }
    builder.finish(Position::new(Epoch::default(), Point::Sequence(until)), whole)
}

/// Searches batches one after the other; where the window begins and what it needs, and after how
/// many batches that was known.
fn search(point: u64, batches: Vec<Batch>) -> (usize, u64, u64) {
    let entities = HashSet::from(["t".parse().unwrap()]);
    let mut search = Search { point: Point::Sequence(point), start: None, needed: Offset(0) };
    let (mut base, count) = (0, batches.len());
    for (number, batch) in batches.into_iter().enumerate() {
        let stored = Stored { base: Offset(base), batch: Arc::new(batch) };
        if search.is_done_with(&stored, Offset(0), &entities) {
            let Window { start, needed } = search.window(stored.end());
            return (number + 1, start.0, needed.0);
        }
        base = stored.end().0;
    }
    let Window { start, needed } = search.window(Offset(base));
    (count + 1, start.0, needed.0)
}

#[test]
fn what_ends_before_the_point_is_needed_and_what_follows_the_next_is_not() {
    let all: &[(u64, &[&str])] = &[(1, &["t"]), (5, &["t", "t"]), (7, &["t"]), (8, &["t"])];
    assert_eq!(search(6, vec![batch(all, true)]), (1, 3, 4));
}

#[test]
fn a_run_of_transactions_that_began_before_the_point_is_needed() {
    let run: &[(u64, &[&str])] = &[(3, &["t"]), (9, &["t", "other", "t"])];
    assert_eq!(search(6, vec![batch(run, true)]), (1, 1, 4));
    // To its end, in however many batches it comes.
    let head: &[(u64, &[&str])] = &[(9, &["other"])];
    let tail: &[(u64, &[&str])] = &[(9, &["t"]), (10, &["t"])];
    assert_eq!(search(6, vec![batch(head, false), batch(tail, true)]), (2, 0, 2));
    assert_eq!(search(6, vec![batch(head, false), batch(head, true)]), (2, 0, 0));
}

#[test]
fn a_log_without_a_later_change_is_searched_to_its_end() {
    assert_eq!(search(6, vec![batch(&[(1, &["t"]), (5, &["other"])], true)]), (2, 2, 1));
}
