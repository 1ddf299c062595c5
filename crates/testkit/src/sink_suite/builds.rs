//! Checks of members, side tracks and joins.

use super::Word::{Is, Null};
use super::feed::{Feed, all, cells, create, customer, delete, read, schema, truncate, update};
use super::{Cell, SinkHarness};
use rowcast_core::{
    Fields, Join, Mark, Member, Membership, Offset, Point, Position, Projection, Roll, SideMark,
    SinkError, Subscription, Track,
};

fn member(feed: &Feed<'_>, subscription: &Subscription, state: Membership) -> Member {
    Member {
        into: subscription.into.clone(),
        entity: subscription.entity.clone(),
        definition: subscription.definition(),
        state,
        start: Offset(0),
        log: feed.log,
    }
}

async fn mark(feed: &mut Feed<'_>, members: Vec<Member>, side: SideMark) {
    let mark = Mark { at: feed.stored, members, side };
    let marked = feed.sink.mark(&mark).await;
    marked.unwrap_or_else(|e| panic!("a sink marks: {e:?}"));
}

/// A route that is live with rows 1, 2 and 3, and a side track that is to build it once more.
async fn rebuilt<'a>(
    harness: &'a dyn SinkHarness,
    subscription: &Subscription,
) -> (Feed<'a>, Feed<'a>) {
    let mut main = Feed::connect(harness, subscription.clone()).await;
    main.apply(&[
        create([Is("1"), Is("a"), Is("1")]),
        create([Is("2"), Is("b"), Is("2")]),
        create([Is("3"), Is("c"), Is("3")]),
    ])
    .await;
    let live = member(&main, subscription, Membership::Live);
    mark(&mut main, vec![live.clone()], SideMark::Leave).await;
    let beside = Member { state: Membership::Beside, ..live };
    mark(&mut main, vec![beside], SideMark::Open(Offset(0))).await;
    let side = Feed::connect_track(harness, subscription.clone(), Track::Side).await;
    (main, side)
}

fn joining(main: &Feed<'_>, side: &Feed<'_>, subscription: &Subscription) -> Join {
    let route: rowcast_core::RouteId = "shop:office".parse().expect("a suite's own name");
    let mut projection = Projection::new(route.from, route.to, vec![subscription.clone()]);
    let shapes = projection.shapes(&side.schema).unwrap_or_else(|e| panic!("it fits: {e}"));
    let position = Position::new(side.epoch, Point::Sequence(side.at.0 + 1));
    Join { from: main.stored, next: side.at, position, shapes }
}

async fn join(main: &mut Feed<'_>, side: &mut Feed<'_>, subscription: &Subscription) {
    let join = joining(main, side, subscription);
    let joined = side.sink.join(&join).await;
    joined.unwrap_or_else(|e| panic!("a side track joins: {e:?}"));
    let found = main.reconnect().await;
    assert_eq!((found.next, found.position), (join.next, Some(join.position)));
}

async fn roll(feed: &mut Feed<'_>) -> Roll {
    feed.sink.roll().await.unwrap_or_else(|e| panic!("a sink tells its roll: {e:?}"))
}

/// A target remembers what became of every copy, and where its side track stands.
pub async fn a_target_remembers_its_members(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let mut feed = Feed::connect(harness, subscription.clone()).await;
    assert_eq!(roll(&mut feed).await, Roll::default());
    let one = member(&feed, &subscription, Membership::New);
    let mut odd = member(&feed, &subscription, Membership::Stale);
    (odd.into, odd.start) = ("\"Odd 'name'\"".into(), Offset(77));
    mark(&mut feed, vec![one.clone(), odd.clone()], SideMark::Leave).await;
    feed.reconnect().await;
    let mut members = roll(&mut feed).await.members;
    members.sort_by_key(|m| m.start);
    assert_eq!(members, [one.clone(), odd.clone()]);
    let one = Member { state: Membership::Direct, ..one };
    mark(&mut feed, vec![one.clone()], SideMark::Open(Offset(5))).await;
    mark(&mut feed, vec![], SideMark::Open(Offset(6))).await;
    let found = roll(&mut feed).await;
    assert_eq!((found.side, found.members.len()), (Some(Offset(5)), 2));
    assert!(found.members.contains(&one) && found.members.contains(&odd));
    mark(&mut feed, vec![], SideMark::Drop).await;
    assert_eq!(roll(&mut feed).await.side, None);
    feed.apply(&[create([Is("1"), Null, Null])]).await;
}

/// Whether a table has rows, and whether there is one.
pub async fn a_table_is_empty_without_rows_or_at_all(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let mut feed = Feed::connect(harness, subscription.clone()).await;
    for (said, empty) in
        [(None, true), (Some(schema()), true), (Some(create([Is("1"), Null, Null])), false)]
    {
        if let Some(said) = said {
            feed.apply(&[said]).await;
        }
        let found = feed.sink.is_empty(&subscription.into).await;
        assert_eq!(found.unwrap_or_else(|e| panic!("a sink looks: {e:?}")), empty);
    }
}

/// Until the join a reader sees the old copy, after it the new one: vanished rows are gone, and what
/// the subscriber keeps beside ours stays.
pub async fn a_copy_that_is_built_beside_is_seen_with_its_join(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let (mut main, mut side) = rebuilt(harness, &subscription).await;
    harness.execute(&["ALTER TABLE copy ADD COLUMN mine TEXT", "UPDATE copy SET mine = 'm'"]).await;
    side.apply(&[read([Is("9"), Is("early"), Null])]).await;
    side.apply(&[truncate(), read([Is("1"), Is("a"), Is("1")]), read([Is("2"), Is("B"), Null])])
        .await;
    side.reconnect().await;
    side.apply(&[read([Is("4"), Is("d"), Is("4")])]).await;
    let old = [&[Some("1"), Some("a")][..], &[Some("2"), Some("b")], &[Some("3"), Some("c")]];
    assert_eq!(main.rows(&["id", "name"]).await, cells(&old));
    join(&mut main, &mut side, &subscription).await;
    let new = [
        &[Some("1"), Some("a"), Some("1"), Some("m")][..],
        &[Some("2"), Some("B"), None, Some("m")],
        &[Some("4"), Some("d"), Some("4"), None],
    ];
    assert_eq!(main.rows(&["id", "name", "credit", "mine"]).await, cells(&new));
    let found = roll(&mut main).await;
    assert_eq!((found.side, found.members[0].state), (None, Membership::Live));
    main.apply(&[update([Is("1"), Is("A"), Is("1")]), delete([Is("4"), Null, Null])]).await;
    let rows: [&[Option<&str>]; 2] = [&[Some("A")], &[Some("B")]];
    assert_eq!(main.rows(&["name"]).await, cells(&rows));
}

/// A copy that nobody relies on yet is filled where it is.
pub async fn a_first_copy_is_built_in_its_own_table(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let mut main = Feed::connect(harness, subscription.clone()).await;
    let direct = member(&main, &subscription, Membership::Direct);
    mark(&mut main, vec![direct], SideMark::Open(Offset(0))).await;
    let mut side = Feed::connect_track(harness, subscription.clone(), Track::Side).await;
    side.apply(&[read([Is("1"), Is("a"), Null])]).await;
    assert_eq!(main.rows(&["id"]).await, cells(&[&[Some("1")]]));
    join(&mut main, &mut side, &subscription).await;
    main.apply(&[create([Is("2"), Null, Null])]).await;
    assert_eq!(main.rows(&["id"]).await, cells(&[&[Some("1")], &[Some("2")]]));
}

/// Neither track's work is lost to a writer that knows an older place of the other.
pub async fn marks_and_joins_compare_the_checkpoints(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let (mut main, mut side) = rebuilt(harness, &subscription).await;
    side.apply(&[read([Is("1"), Is("new"), Null])]).await;
    let good = joining(&main, &side, &subscription);
    let wrong = [
        Join { from: Offset(good.from.0 + 1), ..good.clone() },
        Join { next: Offset(good.next.0 + 1), ..good.clone() },
    ];
    for join in wrong {
        let refused = side.sink.join(&join).await;
        assert!(matches!(refused, Err(SinkError::Checkpoint { .. })), "{refused:?}");
        side.reconnect().await;
    }
    let mark = Mark { at: Offset(1), members: vec![], side: SideMark::Drop };
    let refused = main.sink.mark(&mark).await;
    assert!(matches!(refused, Err(SinkError::Checkpoint { .. })), "{refused:?}");
    main.reconnect().await;
    assert_eq!(roll(&mut main).await.side, Some(side.at));
    assert_eq!(main.rows(&["name"]).await.len(), 3, "nothing was swapped in");
    join(&mut main, &mut side, &subscription).await;
    assert_eq!(main.rows(&["name"]).await, cells(&[&[Some("new")]]));
}

/// A build that is given up leaves nothing for the next one.
pub async fn a_build_that_is_given_up_leaves_nothing(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let (mut main, mut side) = rebuilt(harness, &subscription).await;
    side.apply(&[read([Is("7"), Is("left over"), Null])]).await;
    let stale = member(&main, &subscription, Membership::Stale);
    mark(&mut main, vec![stale.clone()], SideMark::Drop).await;
    let late = side.step(&[read([Is("8"), Null, Null])], true).await;
    assert!(matches!(late, Err(SinkError::Checkpoint { .. })), "{late:?}");
    assert_eq!(main.rows(&["id"]).await.len(), 3);
    let beside = Member { state: Membership::Beside, ..stale };
    mark(&mut main, vec![beside], SideMark::Open(Offset(0))).await;
    side.reconnect().await;
    side.apply(&[read([Is("1"), Is("new"), Null])]).await;
    join(&mut main, &mut side, &subscription).await;
    assert_eq!(main.rows(&["id", "name"]).await, cells(&[&[Some("1"), Some("new")]]));
}

/// A live copy's table that somebody drops, replaces or renames is not made again and written on, as if
/// nothing were missing: its copy waits to be built again, and then goes on.
pub async fn a_copy_whose_table_is_lost_is_built_again(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let mut main = Feed::connect(harness, subscription.clone()).await;
    main.apply(&[create([Is("1"), Is("a"), Is("1")]), create([Is("2"), Is("b"), Is("2")])]).await;
    let live = member(&main, &subscription, Membership::Live);
    mark(&mut main, vec![live.clone()], SideMark::Leave).await;
    main.reconnect().await;
    let anew = "CREATE TABLE copy (id INTEGER NOT NULL PRIMARY KEY, name TEXT, credit INTEGER)";
    for (number, meddling) in [
        &["DROP TABLE copy"][..],
        &["DROP TABLE copy", anew, "INSERT INTO copy VALUES (7, 'mine', 7)"],
        &["ALTER TABLE copy RENAME TO old"],
    ]
    .iter()
    .enumerate()
    {
        main.sink.look().await.unwrap_or_else(|e| panic!("nothing happened yet: {e:?}"));
        harness.execute(meddling).await;
        let refused = main.step(&[update([Is("1"), Is("A"), Is("1")])], true).await;
        assert!(matches!(refused, Err(SinkError::Unreachable { .. })), "{refused:?}");
        let wrote = main.rows(&["name"]).await;
        assert!(!wrote.contains(&vec![Some("A".into())]), "{wrote:?}");
        main.reconnect().await;
        let stale = Member { state: Membership::Stale, ..live.clone() };
        assert_eq!(roll(&mut main).await.members, [stale]);
        let beside = Member { state: Membership::Beside, ..live.clone() };
        mark(&mut main, vec![beside], SideMark::Open(Offset(0))).await;
        let mut side = Feed::connect_track(harness, subscription.clone(), Track::Side).await;
        side.apply(&[truncate(), read([Is("1"), Is("A"), Null]), read([Is("2"), Is("B"), Null])])
            .await;
        join(&mut main, &mut side, &subscription).await;
        main.sink.look().await.unwrap_or_else(|e| panic!("it is whole: {e:?}"));
        main.apply(&[update([Is("2"), Is("C"), Null])]).await;
        let rows = [&[Some("1"), Some("A")][..], &[Some("2"), Some("C")]];
        assert_eq!(main.rows(&["id", "name"]).await, cells(&rows), "{number}");
    }
}

/// A copy that is being filled in its own table, and loses that, has to be filled from the beginning.
pub async fn a_first_copy_whose_table_is_lost_begins_once_more(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let mut main = Feed::connect(harness, subscription.clone()).await;
    let direct = member(&main, &subscription, Membership::Direct);
    mark(&mut main, vec![direct], SideMark::Open(Offset(0))).await;
    let mut side = Feed::connect_track(harness, subscription.clone(), Track::Side).await;
    side.apply(&[read([Is("1"), Is("a"), Null])]).await;
    harness.execute(&["DROP TABLE copy"]).await;
    let refused = side.step(&[read([Is("2"), Is("b"), Null])], true).await;
    assert!(matches!(refused, Err(SinkError::Unreachable { .. })), "{refused:?}");
    side.sink.wants(side.log).await.unwrap_or_else(|e| panic!("a sink connects: {e:?}"));
    assert_eq!(roll(&mut main).await.side, None, "nothing is built any more");
}

/// A part of the log is applied again beside the copy: until the join nobody sees it.
pub async fn a_copy_that_is_built_again_begins_with_its_rows(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let mut main = Feed::connect(harness, subscription.clone()).await;
    main.apply(&[
        create([Is("1"), Is("a"), Is("1")]),
        create([Is("2"), Is("b"), Is("2")]),
        create([Is("3"), Null, Is("3")]),
    ])
    .await;
    harness.execute(&["ALTER TABLE copy ADD COLUMN mine TEXT", "UPDATE copy SET mine = 'm'"]).await;
    let again = member(&main, &subscription, Membership::Again);
    mark(&mut main, vec![again], SideMark::Open(Offset(0))).await;
    let mut side = Feed::connect_track(harness, subscription.clone(), Track::Side).await;
    let shapes = joining(&main, &side, &subscription).shapes;
    for _ in 0..2 {
        let seeded = side.sink.seed(&shapes).await;
        seeded.unwrap_or_else(|e| panic!("a build table begins: {e:?}"));
        side.reconnect().await;
    }
    side.apply(&[update([Is("2"), Is("B"), Is("2")]), delete([Is("1"), Null, Null])]).await;
    side.sink.seed(&shapes).await.unwrap_or_else(|e| panic!("it is there: {e:?}"));
    let old = [&[Some("1"), Some("a")][..], &[Some("2"), Some("b")], &[Some("3"), None]];
    assert_eq!(main.rows(&["id", "name"]).await, cells(&old));
    join(&mut main, &mut side, &subscription).await;
    let new = [
        &[Some("2"), Some("B"), Some("2"), Some("m")][..],
        &[Some("3"), None, Some("3"), Some("m")],
    ];
    assert_eq!(main.rows(&["id", "name", "credit", "mine"]).await, cells(&new));
}

/// Rows that trade a value which no two of them may have, some of it with a row that vanishes.
pub async fn a_swap_may_trade_unique_values(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let (mut main, mut side) = rebuilt(harness, &subscription).await;
    harness
        .execute(&[
            "CREATE UNIQUE INDEX one_name ON copy (name)",
            "ALTER TABLE copy ADD COLUMN mine TEXT",
            "UPDATE copy SET mine = 'm'",
        ])
        .await;
    side.apply(&[
        read([Is("1"), Is("b"), Is("1")]),
        read([Is("2"), Is("a"), Is("2")]),
        read([Is("4"), Is("c"), Is("3")]),
    ])
    .await;
    join(&mut main, &mut side, &subscription).await;
    let rows = [
        &[Some("1"), Some("b"), Some("m")][..],
        &[Some("2"), Some("a"), Some("m")],
        &[Some("4"), Some("c"), None],
    ];
    assert_eq!(main.rows(&["id", "name", "mine"]).await, cells(&rows));
}

/// Other fields: a column that the copy lacks is added; one that is no longer taken stays.
pub async fn a_swap_brings_columns_that_the_copy_lacks(harness: &dyn SinkHarness) {
    let named = |fields: &[&str]| {
        Fields::Named(fields.iter().map(|f| (f.to_string(), f.to_string())).collect())
    };
    let before = Subscription { fields: named(&["id", "name"]), ..all(harness) };
    let (mut main, _) = rebuilt(harness, &before).await;
    let after = Subscription { fields: named(&["id", "credit", "city"]), ..before };
    let mut side = Feed::connect_track(harness, after.clone(), Track::Side).await;
    // The city came later: what is older has what the source filled in.
    side.apply(&[read([Is("1"), Is("a"), Is("1")])]).await;
    side.schema = customer(&[("city", Some("here"))]);
    side.apply(&[schema(), create([Is("2"), Is("b"), Is("2"), Is("there")])]).await;
    join(&mut main, &mut side, &after).await;
    let rows: [&[Cell]; 2] = [
        &[Some("1".into()), Some("a".into()), Some("1".into()), Some("here".into())],
        &[Some("2".into()), Some("b".into()), Some("2".into()), Some("there".into())],
    ];
    let found = main.rows(&["id", "name", "credit", "city"]).await;
    assert_eq!(found, rows.map(<[Cell]>::to_vec));
}

/// A build table that somebody drops takes no row of the copy with it: the side track has nothing any
/// more, and what it was to build is built once more.
pub async fn a_build_table_that_is_dropped_is_not_swapped_in(harness: &dyn SinkHarness) {
    let subscription = all(harness);
    let (mut main, mut side) = rebuilt(harness, &subscription).await;
    side.apply(&[truncate(), read([Is("1"), Is("A"), Null]), read([Is("2"), Is("B"), Null])]).await;
    let joining = joining(&main, &side, &subscription);
    harness.drop_builds().await;
    let joined = side.sink.join(&joining).await;
    assert!(matches!(joined, Err(SinkError::Unreachable { .. })), "{joined:?}");
    let old = [&[Some("1"), Some("a")][..], &[Some("2"), Some("b")], &[Some("3"), Some("c")]];
    assert_eq!(main.rows(&["id", "name"]).await, cells(&old));
    side.sink.wants(side.log).await.unwrap_or_else(|e| panic!("a sink connects: {e:?}"));
    let roll = roll(&mut main).await;
    assert_eq!((roll.side, roll.members.len()), (None, 1), "nothing is built any more");
    let beside = member(&main, &subscription, Membership::Beside);
    let stale = Member { state: Membership::Stale, ..beside.clone() };
    mark(&mut main, vec![stale], SideMark::Drop).await;
    mark(&mut main, vec![beside], SideMark::Open(Offset(0))).await;
    let mut side = Feed::connect_track(harness, subscription.clone(), Track::Side).await;
    side.apply(&[truncate(), read([Is("1"), Is("A"), Null]), read([Is("2"), Is("B"), Null])]).await;
    join(&mut main, &mut side, &subscription).await;
    let new = [&[Some("1"), Some("A")][..], &[Some("2"), Some("B")]];
    assert_eq!(main.rows(&["id", "name"]).await, cells(&new));
}
