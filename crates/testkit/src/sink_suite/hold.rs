//! Checks of mending beside a route: the checkpoint is held, rows are written, and it stays.

use super::Word::{Is, Null, Unchanged};
use super::feed::{Feed, all, cells, create, delete, update};
use super::{Arc, SinkHarness};
use rowcast_core::{
    BatchBuilder, Offset, Op, Point, Position, Progress, Projection, RouteId, RowWriter, Rows,
    Stored, Value,
};

/// A whole row as a mend writes it.
fn row(feed: &Feed<'_>, op: Op, values: [Value<'_>; 3]) -> Rows {
    let mut batch = BatchBuilder::new();
    let schema = batch.schema(feed.schema.id(), &feed.schema);
    batch.begin(Point::Sequence(0), 0);
    let pack = |into: &mut Vec<u8>| {
        let mut writer = RowWriter::new(into);
        values.iter().for_each(|v| writer.push(*v));
    };
    match op {
        Op::Delete => batch.push(op, schema, pack, |_| {}),
        _ => batch.push(op, schema, |_| {}, pack),
    }
    let until = Position::new(feed.epoch, Point::Sequence(0));
    let stored = Stored { base: Offset(0), batch: Arc::new(batch.finish(until, true)) };
    let route = "shop:office".parse::<RouteId>().expect("a suite's own name");
    let mut projection = Projection::new(route.from, route.to, vec![feed.subscription()]);
    let rows = projection.rows(&[stored], Offset(0), Offset(1), |_, _| false);
    rows.unwrap_or_else(|e| panic!("a suite's own subscription fits: {e:?}"))
}

/// A mend writes rows and leaves the checkpoint where it is; the route goes on as if nothing were.
pub async fn a_mend_leaves_the_checkpoint_where_it_is(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("10")]), create([Is("2"), Is("b"), Null])]).await;
    let before = feed.at;
    harness.execute(&["UPDATE copy SET name = 'tampered'", "DELETE FROM copy WHERE id = 2"]).await;
    harness.execute(&["INSERT INTO copy (id, name) VALUES (3, 'extra')"]).await;
    let mends = [
        row(&feed, Op::Delete, [Value::Text(b"3"), Value::Unchanged, Value::Unchanged]),
        row(&feed, Op::Update, [Value::Text(b"1"), Value::Text(b"a"), Value::Text(b"10")]),
        row(&feed, Op::Update, [Value::Text(b"2"), Value::Text(b"b"), Value::Null]),
    ];
    for rows in &mends {
        let mut mender = harness.database().sink(feed.spec());
        let held = mender.hold(feed.log).await.unwrap_or_else(|e| panic!("a sink holds: {e:?}"));
        assert_eq!(held.next, before);
        let position = held.position.expect("something was applied");
        let progress = Progress { from: held.next, next: held.next, position, commit: true };
        let mended = mender.apply(rows, progress).await;
        mended.unwrap_or_else(|e| panic!("a held sink applies: {e:?}"));
    }
    let rows = [&[Some("1"), Some("a"), Some("10")][..], &[Some("2"), Some("b"), None]];
    assert_eq!(feed.rows(&["id", "name", "credit"]).await, cells(&rows));
    // The route's own sink, connected all the while, goes on.
    feed.apply(&[update([Is("2"), Is("c"), Unchanged]), delete([Is("1"), Unchanged, Unchanged])])
        .await;
    let rows = [&[Some("2"), Some("c"), None][..]];
    assert_eq!(feed.rows(&["id", "name", "credit"]).await, cells(&rows));
}

/// What was held and not applied is let go with the sink.
pub async fn a_dropped_hold_lets_go(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("10")])]).await;
    let mut mender = harness.database().sink(feed.spec());
    let held = mender.hold(feed.log).await.unwrap_or_else(|e| panic!("a sink holds: {e:?}"));
    assert_eq!(held.next, feed.at);
    drop(mender);
    feed.apply(&[update([Is("1"), Is("b"), Is("11")])]).await;
    let rows = [&[Some("1"), Some("b"), Some("11")][..]];
    assert_eq!(feed.rows(&["id", "name", "credit"]).await, cells(&rows));
}
