//! Checks of lanes: several transactions of one route, each with a checkpoint of its own.

use super::Word::Is;
use super::feed::{Feed, all, cells, create, delete, update};
use super::{Arc, SinkHarness};
use rowcast_core::{
    BatchBuilder, Lane, Lanes, LogId, Offset, Op, Point, Position, Progress, Projection, Rows,
    Sink, SinkError, SinkSpec, Stored, Track,
};

/// Whole rows with these keys, as a lane gets them.
fn rows(feed: &Feed<'_>, keys: &[&str], name: &str) -> Rows {
    let mut batch = BatchBuilder::new();
    let schema = batch.schema(feed.schema.id(), &feed.schema);
    batch.begin(Point::Sequence(0), 0);
    for key in keys {
        let values = [Is(key), Is(name), Is("1")];
        batch.push(Op::Update, schema, |_| {}, |into| super::feed::pack(&values, into));
    }
    let until = Position::new(feed.epoch, Point::Sequence(0));
    let stored = Stored { base: Offset(0), batch: Arc::new(batch.finish(until, true)) };
    let (route, end) = (feed.spec().route, stored.end());
    let mut projection = Projection::new(route.from, route.to, vec![feed.subscription()]);
    let rows = projection.rows(&[stored], Offset(0), end, |_, _| false);
    rows.unwrap_or_else(|e| panic!("a suite's own subscription fits: {e:?}"))
}

fn progress(feed: &Feed<'_>, from: u64, next: u64, commit: bool) -> Progress {
    let position = Position::new(feed.epoch, Point::Sequence(next));
    Progress { from: Offset(from), next: Offset(next), position, commit }
}

async fn claim(sink: &mut dyn Sink, count: u16) -> Lanes {
    let lanes = sink.lanes(count).await;
    lanes.unwrap_or_else(|e| panic!("lanes are claimed: {e:?}"))
}

async fn lane(feed: &Feed<'_>, database: &dyn SinkHarness, lanes: &Lanes, n: u16) -> Box<dyn Sink> {
    let track = Track::Lane(Lane { index: n, of: lanes.count(), claim: lanes.claim });
    let mut sink = database.database().sink(SinkSpec { track, ..feed.spec() });
    let found = sink.wants(feed.log).await.unwrap_or_else(|e| panic!("a lane connects: {e:?}"));
    assert_eq!(found.next, lanes.places[usize::from(n)]);
    sink
}

async fn written(sink: &mut dyn Sink, rows: &Rows, progress: Progress) {
    sink.apply(rows, progress).await.unwrap_or_else(|e| panic!("a lane writes: {e:?}"));
}

fn is_refused(result: Result<(), SinkError>) -> bool {
    matches!(result, Err(SinkError::Checkpoint { .. } | SinkError::Unreachable { .. }))
}

/// Lanes write at once, each with its place; the route follows. What one has written and not committed
/// nobody sees, and a crash of some leaves the places of the others.
pub async fn lanes_write_at_once_and_keep_their_places(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")]), create([Is("2"), Is("a"), Is("1")])]).await;
    let lanes = claim(feed.sink.as_mut(), 2).await;
    assert_eq!(lanes.places, [feed.at, feed.at]);
    let mut one = lane(&feed, harness, &lanes, 0).await;
    let mut two = lane(&feed, harness, &lanes, 1).await;
    written(one.as_mut(), &rows(&feed, &["1"], "b"), progress(&feed, 2, 9, false)).await;
    written(two.as_mut(), &rows(&feed, &["2"], "b"), progress(&feed, 2, 9, false)).await;
    let before = [&[Some("1"), Some("a")][..], &[Some("2"), Some("a")]];
    assert_eq!(feed.rows(&["id", "name"]).await, cells(&before));
    written(one.as_mut(), &Rows::default(), progress(&feed, 2, 9, true)).await;
    drop(two);
    let half = [&[Some("1"), Some("b")][..], &[Some("2"), Some("a")]];
    assert_eq!(feed.rows(&["id", "name"]).await, cells(&half));
    // After a crash: the route stands where it was, one lane is ahead, and another count of lanes
    // has to wait.
    let found = feed.reconnect().await;
    assert_eq!(found.next, Offset(2));
    let lanes = claim(feed.sink.as_mut(), 3).await;
    assert_eq!(lanes.places, [Offset(9), Offset(2)]);
    assert!(lanes.is_ahead(found.next));
    // The route comes as far, and lanes are what is wanted.
    let (late, step) = (rows(&feed, &["2"], "b"), progress(&feed, 2, 9, true));
    written(feed.sink.as_mut(), &late, step).await;
    let lanes = claim(feed.sink.as_mut(), 3).await;
    assert_eq!(lanes.places, [Offset(9); 3]);
    let after = [&[Some("1"), Some("b")][..], &[Some("2"), Some("b")]];
    assert_eq!(feed.rows(&["id", "name"]).await, cells(&after));
    assert_eq!(claim(feed.sink.as_mut(), 1).await.places, []);
}

/// A lane that is ahead, that comes late, or whose route has gone on, writes nothing.
pub async fn a_lane_out_of_place_writes_nothing(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")]), create([Is("2"), Is("a"), Is("1")])]).await;
    let lanes = claim(feed.sink.as_mut(), 2).await;
    let mut one = lane(&feed, harness, &lanes, 0).await;
    written(one.as_mut(), &rows(&feed, &["1"], "b"), progress(&feed, 2, 5, true)).await;
    // It is ahead: the same again is refused.
    assert!(is_refused(one.apply(&rows(&feed, &["1"], "x"), progress(&feed, 2, 5, true)).await));
    let lanes = claim(feed.sink.as_mut(), 2).await;
    assert_eq!(lanes.places, [Offset(5), Offset(2)]);
    let (rest, step) = (rows(&feed, &["2"], "b"), progress(&feed, 2, 5, true));
    written(feed.sink.as_mut(), &rest, step).await;
    // The route has gone on: what a late lane has is old.
    let mut late = lane(&feed, harness, &lanes, 1).await;
    assert!(is_refused(late.apply(&rows(&feed, &["2"], "x"), progress(&feed, 2, 5, true)).await));
    let rows = [&[Some("1"), Some("b")][..], &[Some("2"), Some("b")]];
    assert_eq!(feed.rows(&["id", "name"]).await, cells(&rows));
}

/// Who claims the lanes last writes; the others are refused, their route's own sink too.
pub async fn lanes_have_one_owner(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")]), create([Is("2"), Is("a"), Is("1")])]).await;
    let old = claim(feed.sink.as_mut(), 2).await;
    let mut old_lane = lane(&feed, harness, &old, 0).await;
    let mut other = Feed::connect(harness, all(harness)).await;
    let new = claim(other.sink.as_mut(), 2).await;
    let stale = old_lane.apply(&rows(&feed, &["1"], "x"), progress(&feed, 2, 5, true)).await;
    assert!(is_refused(stale));
    let stale = feed.step(&[update([Is("1"), Is("x"), Is("1")])], true).await;
    assert!(matches!(stale, Err(SinkError::Checkpoint { .. })), "{stale:?}");
    let mut lane = lane(&other, harness, &new, 0).await;
    written(lane.as_mut(), &rows(&other, &["1"], "b"), progress(&other, 2, 5, true)).await;
    let seen = [&[Some("1"), Some("b")][..], &[Some("2"), Some("a")]];
    assert_eq!(other.rows(&["id", "name"]).await, cells(&seen));
}

/// A mend waits until lanes stand at one place: it must not take what some have for all there is.
pub async fn a_mend_waits_for_lanes(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")]), delete([Is("2"), Is("a"), Is("1")])]).await;
    let lanes = claim(feed.sink.as_mut(), 2).await;
    let mut one = lane(&feed, harness, &lanes, 0).await;
    written(one.as_mut(), &rows(&feed, &["1"], "b"), progress(&feed, 2, 5, true)).await;
    let database = harness.database();
    let mut mender = database.sink(feed.spec());
    let mut copies = database.copy_view(&feed.spec().route);
    let (late, next) = (rows(&feed, &["2"], "b"), progress(&feed, 2, 5, true));
    let log: LogId = feed.log;
    let follow = async {
        // Others look first: they find the lanes uneven.
        tokio::task::yield_now().await;
        written(feed.sink.as_mut(), &late, next).await;
    };
    let (held, seen, ()) = tokio::join!(mender.hold(log), copies.look(), follow);
    assert_eq!(held.unwrap_or_else(|e| panic!("a sink holds: {e:?}")).next, Offset(5));
    let seen = seen.unwrap_or_else(|e| panic!("a copy is looked at: {e:?}"));
    assert_eq!(seen.map(|(_, at)| at.next), Some(Offset(5)));
}
