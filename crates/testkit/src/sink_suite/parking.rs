//! The checks about bad data and parked keys.

use super::SinkHarness;
use super::Word::{Is, Null};
use super::feed::{Feed, all, cells, create, customer, update};
use rowcast_core::{Offset, ParkEdit, Parked, Pending, PendingOp, RowWriter, SinkError, Value};
use std::sync::Arc;

const TABLE: &str = "CREATE TABLE copy (id INTEGER NOT NULL PRIMARY KEY, name TEXT, \
                     credit INTEGER CHECK (credit < 100))";

fn parked(harness: &dyn SinkHarness, key: &[u8], events: u64) -> Parked {
    let mut after = Vec::new();
    let mut row = RowWriter::new(&mut after);
    for value in [Value::Text(b"33"), Value::Null, Value::Text(b"333"), Value::Blob(&[0, 255])] {
        row.push(value);
    }
    Parked {
        table: harness.table("copy"),
        key: key.to_vec(),
        shown: "33, \"ü\'".into(),
        code: "SINK-DATA".into(),
        message: "credit is too high".into(),
        words: "the database said \'no\'".into(),
        since: 1_700_000_000_000_000,
        first: Offset(7),
        last: Offset(9),
        events,
        pending: Pending {
            op: PendingOp::Whole,
            schema: customer(&[("note", Some("none"))]),
            before: Vec::new(),
            after,
        },
    }
}

async fn found(feed: &mut Feed<'_>) -> Vec<Parked> {
    let mut found = feed.sink.parked().await.unwrap_or_else(|e| panic!("it is read: {e:?}"));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// The error says which change does not fit, and the next step needs no new connection.
pub async fn after_bad_data_a_sink_goes_on_without_being_asked(harness: &dyn SinkHarness) {
    harness.execute(&[TABLE]).await;
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")])]).await;
    for many in [3_u32, 60] {
        let texts: Vec<_> = (10..10 + many).map(|i| i.to_string()).collect();
        let mut said: Vec<_> = texts.iter().map(|t| create([Is(t), Null, Is("5")])).collect();
        said[2] = create([Is("99"), Null, Is("500")]);
        for half in [false, true] {
            if half {
                let first = feed.step(&[update([Is("1"), Is("half"), Null])], false).await;
                first.unwrap_or_else(|e| panic!("half a transaction: {e:?}"));
            }
            let failed = feed.step(&said, true).await;
            let Err(SinkError::Data { change, .. }) = failed else { panic!("{failed:?}") };
            assert_eq!(change, Some(2));
            feed.at = feed.stored;
            assert_eq!(feed.rows(&["id", "name"]).await, cells(&[&[Some("1"), Some("a")]]));
        }
    }
    feed.apply(&[create([Is("2"), Is("b"), Is("2")])]).await;
    assert_eq!(feed.rows(&["id"]).await, cells(&[&[Some("1")], &[Some("2")]]));
}

/// What is put is found, whoever looks; a second put replaces; what is removed is gone.
pub async fn parked_keys_are_noted_with_the_rows(harness: &dyn SinkHarness) {
    harness.execute(&[TABLE]).await;
    let mut feed = Feed::connect(harness, all(harness)).await;
    let (one, two) = (parked(harness, &[1, 0, 255], 1), parked(harness, &[2], 1));
    feed.parks = [&one, &two].map(|p| ParkEdit::Put(Arc::new(p.clone()))).into();
    feed.apply(&[create([Is("1"), Null, Null])]).await;
    assert_eq!(found(&mut feed).await, [one.clone(), two.clone()]);
    let again = parked(harness, &[2], 5);
    feed.parks = vec![
        ParkEdit::Put(Arc::new(again.clone())),
        ParkEdit::Remove { table: one.table.clone(), key: one.key.clone() },
    ];
    feed.apply(&[]).await;
    feed.reconnect().await;
    assert_eq!(found(&mut feed).await, std::slice::from_ref(&again));
    // With rows that do not fit, nothing is noted.
    feed.parks = vec![ParkEdit::Remove { table: again.table.clone(), key: again.key.clone() }];
    let failed = feed.step(&[create([Is("5"), Null, Is("500")])], true).await;
    assert!(matches!(failed, Err(SinkError::Data { .. })), "{failed:?}");
    assert_eq!(found(&mut feed).await, [again]);
}

/// Steps without `commit` park nothing until the one with it.
pub async fn what_half_a_transaction_parks_goes_with_it(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.parks = vec![ParkEdit::Put(Arc::new(parked(harness, &[1], 1)))];
    let half = feed.step(&[create([Is("1"), Null, Null])], false).await;
    half.unwrap_or_else(|e| panic!("half a transaction: {e:?}"));
    feed.reconnect().await;
    assert_eq!(found(&mut feed).await, []);
    let one = parked(harness, &[1], 1);
    feed.parks = vec![ParkEdit::Put(Arc::new(one.clone()))];
    let half = feed.step(&[create([Is("1"), Null, Null])], false).await;
    half.unwrap_or_else(|e| panic!("half a transaction: {e:?}"));
    feed.apply(&[create([Is("2"), Null, Null])]).await;
    feed.reconnect().await;
    assert_eq!(found(&mut feed).await, [one]);
}

/// Everything that fits is written, once what does not is noted; nothing is seen before.
pub async fn rows_that_do_not_fit_are_left_out(harness: &dyn SinkHarness) {
    harness.execute(&[TABLE]).await;
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")]), create([Is("2"), Is("b"), Is("2")])]).await;
    feed.leave_out = true;
    for (round, half) in [false, true].into_iter().enumerate() {
        let texts: Vec<_> = (0..900).map(|i| (1000 * (round + 1) + i).to_string()).collect();
        let mut said: Vec<_> = texts.iter().map(|t| create([Is(t), Null, Is("5")])).collect();
        // A new row, one that fits first, an old row's update, and rows at both ends.
        for (at, id) in [(0, "50"), (400, "51"), (401, "52"), (899, "53")] {
            said[at] = create([Is(id), Null, Is("500")]);
        }
        said[100] = create([Is("54"), Is("fits"), Is("7")]);
        said[300] = update([Is("54"), Is("too much"), Is("700")]);
        said[500] = update([Is("54"), Is("behind it"), Is("800")]);
        said[600] = update([Is("2"), Is("never"), Is("1000")]);
        if half {
            let first = feed.step(&[update([Is("1"), Is("half"), Is("1")])], false).await;
            first.unwrap_or_else(|e| panic!("half a transaction: {e:?}"));
        }
        let before = feed.rows(&["id", "name"]).await;
        let left = feed.step(&said, true).await;
        let Err(SinkError::LeftOut { mut changes, errors }) = left else { panic!("{left:?}") };
        changes.sort_unstable();
        assert_eq!(changes, [0, 300, 400, 401, 500, 600, 899]);
        let mut first: Vec<_> = errors
            .iter()
            .map(|e| match e {
                SinkError::Data { change: Some(change), .. } => *change,
                other => panic!("{other:?}"),
            })
            .collect();
        first.sort_unstable();
        assert_eq!(first, [0, 300, 400, 401, 600, 899]);
        assert_eq!(feed.rows(&["id", "name"]).await, before, "half of it shows");
        feed.at = Offset(feed.at.0 + said.len() as u64);
        feed.parks = vec![ParkEdit::Put(Arc::new(parked(harness, &[round as u8], 1)))];
        feed.apply(&[]).await;
        let rows = feed.rows(&["id", "name"]).await;
        assert_eq!(rows.len(), 3 + (round + 1) * 892);
        for row in [["54", "fits"], ["2", "b"], ["1", if half { "half" } else { "a" }]] {
            let row = row.map(|cell| Some(cell.to_string())).to_vec();
            assert!(rows.contains(&row), "{row:?} is not there");
        }
        assert_eq!(found(&mut feed).await.len(), round + 1);
    }
    // Whoever does not note what was left out has written nothing.
    let rows = feed.rows(&["id"]).await;
    let texts: Vec<_> = (5000..5100).map(|i| i.to_string()).collect();
    let mut said: Vec<_> = texts.iter().map(|t| create([Is(t), Null, Is("5")])).collect();
    said[70] = create([Is("55"), Null, Is("500")]);
    let left = feed.step(&said, true).await;
    assert!(matches!(left, Err(SinkError::LeftOut { .. })), "{left:?}");
    feed.reconnect().await;
    assert_eq!(feed.rows(&["id"]).await, rows);
}
