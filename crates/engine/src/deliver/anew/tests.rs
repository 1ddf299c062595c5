use super::*;
use rowcast_core::{
    Batch, BatchBuilder, Column, Epoch, Fields, Kind, Op, Point, Position, Schema, Stored,
};
use std::sync::Arc;

/// A transaction's events: of which entity, and whether it is read again.
type Said<'a> = &'a [(&'a str, bool)];

fn batch(base: u64, transactions: &[Said<'_>], whole: bool) -> Stored {
    let mut b = BatchBuilder::new();
    for (i, events) in transactions.iter().enumerate() {
        b.begin(Point::Sequence(base + i as u64), 0);
        for (entity, anew) in *events {
            let schema = Arc::new(Schema {
                entity: entity.parse().unwrap(),
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
            let schema = b.schema(schema.id(), &schema);
            if *anew {
                b.push_anew(schema);
            } else {
                b.push(Op::Truncate, schema, |_| {}, |_| {});
            }
        }
    }
    let batch: Batch = b.finish(Position::new(Epoch::default(), Point::Sequence(base)), whole);
    Stored { base: Offset(base), batch: Arc::new(batch) }
}

fn found(at: u64, batches: Vec<Stored>) -> Option<(u64, Vec<(String, u64)>)> {
    let live = ["a", "b"].map(|entity| Subscription {
        entity: entity.parse().unwrap(),
        into: entity.into(),
        fields: Fields::All,
        create: true,
        filter: None,
        from: Default::default(),
    });
    let next = batches.last().unwrap().end();
    let anew = first(&Chunk { batches, next, complete_history: Offset(0) }, Offset(at), &live)?;
    let entities = anew.entities.iter().map(|(e, o)| (e.to_string(), o.0)).collect();
    Some((anew.begins.0, entities))
}

#[test]
fn a_users_truncate_and_what_nobody_takes_are_left_alone() {
    let none = batch(10, &[&[("a", false), ("b", false)], &[("c", true)]], true);
    assert_eq!(found(10, vec![none]), None);
    let before = batch(10, &[&[("a", true), ("b", false)]], true);
    assert_eq!(found(11, vec![before]), None);
}

#[test]
fn all_entities_of_the_first_such_transaction_give_way_together() {
    let batches = batch(
        10,
        &[&[("a", false)], &[("b", false), ("a", true), ("b", true), ("a", true)], &[("a", true)]],
        true,
    );
    let both = vec![("a".into(), 12), ("b".into(), 13)];
    assert_eq!(found(10, vec![batches]), Some((11, both)));
}

#[test]
fn a_transaction_is_followed_over_batches_to_where_it_begins() {
    let batches = vec![
        batch(10, &[&[("a", false)], &[("a", false), ("a", false)]], false),
        batch(13, &[&[("a", false)]], false),
        batch(14, &[&[("b", true)], &[("a", true)]], true),
    ];
    assert_eq!(found(10, batches), Some((11, vec![("b".into(), 14)])));
}
