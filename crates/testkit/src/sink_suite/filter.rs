//! Checks of what a filter makes of a copy.

use super::Word::{Is, Unchanged};
use super::feed::{Feed, Said, all, cells, create, delete, read, rekey, update};
use super::{Cell, SinkHarness};
use rowcast_core::Subscription;

fn rich(harness: &dyn SinkHarness) -> Subscription {
    let filter = "credit > 100".parse();
    let filter = filter.unwrap_or_else(|e| panic!("a suite's own filter is one: {e}"));
    Subscription { filter: Some(filter), ..all(harness) }
}

fn key(id: &str) -> [super::Word<'_>; 3] {
    [Is(id), Unchanged, Unchanged]
}

async fn names(feed: &Feed<'_>) -> Vec<Vec<Cell>> {
    feed.rows(&["id", "name"]).await
}

/// A row that begins to pass comes whole, one that ceases to pass goes, and neither minds whether
/// it was there before.
pub async fn rows_come_and_go_with_a_filter(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, rich(harness)).await;
    feed.apply(&[
        create([Is("1"), Is("a"), Is("500")]),
        create([Is("2"), Is("b"), Is("5")]),
        read([Is("3"), Is("c"), Is("500")]),
        read([Is("4"), Is("d"), Is("5")]),
    ])
    .await;
    let two = [&[Some("1"), Some("a")][..], &[Some("3"), Some("c")]];
    assert_eq!(names(&feed).await, cells(&two));
    feed.apply(&[
        update([Is("1"), Is("a"), Is("5")]),
        update([Is("2"), Is("b"), Is("500")]),
        update([Is("4"), Is("dd"), Is("5")]),
    ])
    .await;
    let two = [&[Some("2"), Some("b")][..], &[Some("3"), Some("c")]];
    assert_eq!(names(&feed).await, cells(&two));
    // With another key, too.
    feed.apply(&[
        rekey(key("2"), [Is("20"), Is("b"), Is("600")]),
        rekey(key("3"), [Is("30"), Is("c"), Is("1")]),
        rekey(key("4"), [Is("40"), Is("d"), Is("600")]),
    ])
    .await;
    let two = [&[Some("20"), Some("b")][..], &[Some("40"), Some("d")]];
    assert_eq!(names(&feed).await, cells(&two));
    // What a row leaves out does not keep it; a row that was read before and passes no more goes.
    feed.apply(&[update([Is("20"), Unchanged, Is("7")]), read([Is("40"), Is("d"), Is("7")])]).await;
    assert!(names(&feed).await.is_empty());
    feed.apply(&[update([Is("20"), Is("b"), Is("700")]), delete(key("40"))]).await;
    assert_eq!(names(&feed).await, cells(&[&[Some("20"), Some("b")]]));
}

/// As one by one, so in a large step, in which changes to one key become its last state.
pub async fn many_rows_come_and_go_with_a_filter_at_once(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, rich(harness)).await;
    let ids: Vec<String> = (100..700).map(|n| n.to_string()).collect();
    let row = |i: usize, credit| [Is(ids[i].as_str()), Is("x"), Is(credit)];
    let step: Vec<Said<'_>> = (0..600).map(|i| create(row(i, "500"))).collect();
    feed.apply(&step).await;
    let mut step = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        match i % 4 {
            0 => step.push(update(row(i, "1"))),
            1 => step.extend([update(row(i, "1")), update(row(i, "900"))]),
            2 => step.extend([delete(key(id)), create(row(i, "2"))]),
            _ => step.extend([update(row(i, "1")), delete(key(id)), create(row(i, "300"))]),
        }
    }
    feed.apply(&step).await;
    let kept: Vec<_> =
        ids.iter().enumerate().filter(|(i, _)| i % 2 == 1).map(|(_, id)| id).collect();
    let found = feed.rows(&["id"]).await;
    let kept: Vec<Vec<Cell>> = kept.into_iter().map(|id| vec![Some(id.as_str().into())]).collect();
    assert_eq!(found, kept);
}
