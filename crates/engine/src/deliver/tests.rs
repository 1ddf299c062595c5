use super::*;
use rowcast_core::{BatchBuilder, Column, Epoch, Kind, Op, Point, Schema};

fn stored(base: u64, transactions: &[u32], whole: bool) -> Stored {
    let schema = Arc::new(Schema {
        entity: "customer".parse().unwrap(),
        dialect: "test".into(),
        columns: vec![Column {
            name: "id".into(),
            native: "int".into(),
            kind: Kind::Int64,
            key: Some(0),
            not_null: true,
            fill: None,
        }],
        generated: vec![],
    });
    let mut b = BatchBuilder::new();
    let s = b.schema(schema.id(), &schema);
    for (i, n) in transactions.iter().enumerate() {
        b.begin(Point::Sequence(base * 100 + i as u64), 0);
        for _ in 0..*n {
            b.push(Op::Delete, s, |_| {}, |_| {});
        }
    }
    let until = Position::new(Epoch::default(), Point::Sequence(base * 100 + 99));
    Stored { base: Offset(base), batch: Arc::new(b.finish(until, whole)) }
}

#[test]
fn a_chunk_is_cut_after_its_last_whole_transaction() {
    assert_eq!(whole_until(&[stored(10, &[2, 3], true)]), Offset(15));
    assert_eq!(whole_until(&[stored(10, &[2, 3], false)]), Offset(12));
    assert_eq!(whole_until(&[stored(10, &[2, 3], false), stored(15, &[4], true)]), Offset(19));
}

#[test]
fn an_unfinished_transaction_reaches_back_over_batches() {
    let batches = [stored(10, &[2, 3], false), stored(15, &[4], false), stored(19, &[1], false)];
    assert_eq!(whole_until(&batches), Offset(12));
    assert_eq!(whole_until(&batches[1..]), Offset(15));
    let then = [stored(10, &[2, 3], true), stored(15, &[4], false)];
    assert_eq!(whole_until(&then), Offset(15));
}

#[test]
fn the_position_inside_a_batch_is_where_the_next_transaction_commits() {
    let batches = [stored(10, &[2, 3], false)];
    assert_eq!(position_at(&batches, Offset(12)).point, Point::Sequence(1001));
    assert_eq!(position_at(&batches, Offset(13)).point, Point::Sequence(1001), "not all of it yet");
    assert_eq!(position_at(&batches, Offset(15)).point, Point::Sequence(1099));
}

#[test]
fn what_compaction_left_is_whole_only_at_its_end() {
    let compacted = |base, span, whole| {
        let mut stored = stored(base, &[1, 1], whole);
        let sparse = rowcast_core::Sparse { places: vec![3, 7], span };
        Arc::make_mut(&mut stored.batch).sparse = Some(Box::new(sparse));
        stored
    };
    let (first, second, last) =
        (compacted(10, 20, false), compacted(30, 9, false), compacted(39, 8, true));
    assert_eq!(whole_until(&[first.clone(), second.clone()]), Offset(10));
    assert_eq!(whole_until(&[second.clone(), last.clone(), stored(47, &[2], false)]), Offset(47));
    assert_eq!(whole_until(&[first.clone(), second, last]), Offset(47));
    assert_eq!((first.offset(1), first.index_at(Offset(14))), (Offset(17), 1));
    assert_eq!(position_at(&[first], Offset(12)).point, Point::Sequence(1099));
}
