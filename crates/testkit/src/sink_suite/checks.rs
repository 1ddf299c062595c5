//! The checks themselves.

use super::Word::{Is, Null, Unchanged};
use super::feed::{
    Feed, Said, all, cells, create, customer, delete, read, rekey, schema, truncate, update,
};
use super::{Cell, SinkHarness};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::{Fields, LogId, Offset, SinkError};
use std::collections::BTreeMap;

const COLUMNS: [&str; 3] = ["id", "name", "credit"];

fn key(id: &str) -> [super::Word<'_>; 3] {
    [Is(id), Unchanged, Unchanged]
}

/// Creates, reads, updates, deletes and truncates do what they say; repeating rows changes nothing.
pub async fn every_kind_of_change_arrives(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("10")]), read([Is("2"), Is("b"), Null])]).await;
    feed.apply(&[read([Is("1"), Is("a"), Is("10")]), create([Is("3"), Null, Null])]).await;
    feed.apply(&[update([Is("2"), Is("ü'\"\\"), Is("-5")]), delete(key("3"))]).await;
    feed.apply(&[delete(key("77"))]).await;
    let rows = [&[Some("1"), Some("a"), Some("10")][..], &[Some("2"), Some("ü'\"\\"), Some("-5")]];
    assert_eq!(feed.rows(&COLUMNS).await, cells(&rows));
    feed.apply(&[truncate(), create([Is("9"), Null, Null])]).await;
    assert_eq!(feed.rows(&COLUMNS).await, cells(&[&[Some("9"), None, None]]));
}

/// A value that the source did not say stays.
pub async fn unchanged_values_never_overwrite(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("long"), Is("10")])]).await;
    feed.apply(&[update([Is("1"), Unchanged, Is("11")])]).await;
    assert_eq!(feed.rows(&COLUMNS).await, cells(&[&[Some("1"), Some("long"), Some("11")]]));
    // Also within one step, and after a whole row.
    feed.apply(&[
        update([Is("1"), Is("longer"), Unchanged]),
        update([Is("1"), Unchanged, Null]),
        create([Is("2"), Is("x"), Is("1")]),
        update([Is("2"), Unchanged, Is("2")]),
    ])
    .await;
    let rows = [&[Some("1"), Some("longer"), None][..], &[Some("2"), Some("x"), Some("2")]];
    assert_eq!(feed.rows(&COLUMNS).await, cells(&rows));
}

/// Columns that the subscription does not name are the subscriber's.
pub async fn columns_of_the_subscriber_stay_untouched(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("10")])]).await;
    harness
        .execute(&["ALTER TABLE copy ADD COLUMN mine TEXT", "UPDATE copy SET mine = 'kept'"])
        .await;
    feed.apply(&[update([Is("1"), Is("b"), Is("11")]), update([Is("1"), Unchanged, Null])]).await;
    feed.apply(&[create([Is("2"), Null, Null]), read([Is("1"), Is("c"), Null])]).await;
    let rows = [&[Some("1"), Some("c"), Some("kept")][..], &[Some("2"), None, None]];
    assert_eq!(feed.rows(&["id", "name", "mine"]).await, cells(&rows));
}

/// Rows arrive in order per key.
pub async fn of_several_changes_to_a_key_the_last_counts(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[
        create([Is("1"), Is("a"), Is("1")]),
        update([Is("1"), Is("b"), Is("2")]),
        delete(key("1")),
        create([Is("1"), Is("c"), Is("3")]),
        create([Is("2"), Is("x"), Null]),
        delete(key("2")),
        update([Is("1"), Is("d"), Unchanged]),
    ])
    .await;
    assert_eq!(feed.rows(&COLUMNS).await, cells(&[&[Some("1"), Some("d"), Some("3")]]));
}

/// A key change with values that the source did not say.
pub async fn a_key_that_moves_takes_its_values_along(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")]), create([Is("2"), Is("b"), Is("2")])]).await;
    feed.apply(&[rekey(key("1"), [Is("10"), Unchanged, Is("5")])]).await;
    feed.apply(&[rekey(key("2"), [Is("20"), Is("whole"), Is("6")])]).await;
    let rows = [&[Some("10"), Some("a"), Some("5")][..], &[Some("20"), Some("whole"), Some("6")]];
    assert_eq!(feed.rows(&COLUMNS).await, cells(&rows));
}

/// Steps without `commit` show nothing until the one with it.
pub async fn half_a_transaction_is_never_seen(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("before"), Null])]).await;
    for i in 2..5 {
        let id = i.to_string();
        let step = [create([Is(&id), Null, Null]), update([Is("1"), Is(&id), Null])];
        feed.step(&step, false).await.unwrap_or_else(|e| panic!("half a transaction: {e:?}"));
        let seen = feed.rows(&["id", "name"]).await;
        assert_eq!(seen, cells(&[&[Some("1"), Some("before")]]));
    }
    feed.apply(&[delete(key("2"))]).await;
    let ids = [&[Some("1"), Some("4")][..], &[Some("3"), None], &[Some("4"), None]];
    assert_eq!(feed.rows(&["id", "name"]).await, cells(&ids));
}

/// A sink that goes away between two steps of a transaction leaves nothing of it.
pub async fn half_a_transaction_leaves_nothing(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Null])]).await;
    let next = feed.stored;
    for anew in [true, false] {
        let half = feed.step(&[create([Is("2"), Null, Null]), delete(key("1"))], false).await;
        half.unwrap_or_else(|e| panic!("half a transaction: {e:?}"));
        let found = if anew {
            feed.reconnect().await
        } else {
            let found = feed.wants().await.unwrap_or_else(|e| panic!("it connects: {e:?}"));
            (feed.at, feed.stored) = (found.next, found.next);
            found
        };
        assert_eq!(found.next, next);
        assert_eq!(feed.rows(&["id", "name"]).await, cells(&[&[Some("1"), Some("a")]]));
    }
    feed.apply(&[create([Is("3"), Null, Null])]).await;
    assert_eq!(feed.rows(&["id"]).await, cells(&[&[Some("1")], &[Some("3")]]));
}

/// The target is the truth about what it has, also without rows.
pub async fn a_target_remembers_its_checkpoint(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    let found = feed.wants().await.unwrap_or_else(|e| panic!("it connects: {e:?}"));
    assert_eq!((found.next, found.epoch()), (Offset(0), None));
    feed.apply(&[create([Is("1"), Null, Null]), create([Is("2"), Null, Null])]).await;
    let found = feed.reconnect().await;
    assert_eq!((found.next, found.epoch()), (Offset(2), Some(feed.epoch)));
    // A new history of the same log goes on from there.
    feed.epoch.identity ^= 1;
    feed.apply(&[truncate()]).await;
    let found = feed.reconnect().await;
    assert_eq!((found.next, found.epoch()), (Offset(3), Some(feed.epoch)));
}

/// Two writers of one copy: the one that is behind fails, and writes nothing.
pub async fn a_stale_writer_is_refused(harness: &dyn SinkHarness) {
    let mut first = Feed::connect(harness, all(harness)).await;
    first.apply(&[create([Is("1"), Is("a"), Null])]).await;
    let mut second = Feed::connect(harness, all(harness)).await;
    second.apply(&[update([Is("1"), Is("second"), Null])]).await;
    let stale = first.step(&[update([Is("1"), Is("first"), Null])], true).await;
    assert!(matches!(stale, Err(SinkError::Checkpoint { .. })), "{stale:?}");
    assert_eq!(second.rows(&["name"]).await, cells(&[&[Some("second")]]));
    second.apply(&[update([Is("1"), Is("third"), Null])]).await;
}

/// Offsets of another log mean nothing here.
pub async fn another_log_is_refused(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Null, Null])]).await;
    feed.log = LogId(feed.log.0 ^ 1);
    let wants = feed.wants().await;
    assert!(matches!(wants, Err(SinkError::Checkpoint { .. })), "{wants:?}");
}

/// Also when no row comes with the schema.
pub async fn a_table_is_made_before_its_first_row(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[schema()]).await;
    harness.execute(&["INSERT INTO copy (id, name, credit) VALUES (1, 'n', 2)"]).await;
    assert_eq!(feed.rows(&COLUMNS).await, cells(&[&[Some("1"), Some("n"), Some("2")]]));
}

/// Who takes all fields gets later ones too, with what old rows hold there.
pub async fn a_later_column_is_added_with_its_fill(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Null, Null])]).await;
    feed.schema = customer(&[("city", Some("here")), ("note", None)]);
    feed.apply(&[schema()]).await;
    feed.apply(&[create([Is("2"), Null, Null, Is("there"), Is("x")])]).await;
    let rows = [&[Some("1"), Some("here"), None][..], &[Some("2"), Some("there"), Some("x")]];
    assert_eq!(feed.rows(&["id", "city", "note"]).await, cells(&rows));
}

/// A table that lacks a column, or whose rows are not unique by the key, is refused before the
/// first row; and taken once it fits.
pub async fn a_table_that_does_not_fit_is_refused(harness: &dyn SinkHarness) {
    harness.execute(&["CREATE TABLE copy (id INTEGER NOT NULL, name TEXT)"]).await;
    let mut subscription = all(harness);
    subscription.create = false;
    let mut feed = Feed::connect(harness, subscription).await;
    for mend in ["ALTER TABLE copy ADD COLUMN credit INTEGER", "CREATE UNIQUE INDEX k ON copy (id)"]
    {
        let step = feed.step(&[create([Is("1"), Null, Null])], true).await;
        let Err(SinkError::Schema { help, .. }) = step else { panic!("it does not fit: {step:?}") };
        assert!(!help.is_empty());
        feed.reconnect().await;
        harness.execute(&[mend]).await;
    }
    feed.apply(&[create([Is("1"), Null, Null])]).await;
    feed.apply(&[update([Is("1"), Is("x"), Null])]).await;
    assert_eq!(feed.rows(&["name"]).await, cells(&[&[Some("x")]]));
}

/// A subscription may name its columns as it likes.
pub async fn fields_may_have_other_names(harness: &dyn SinkHarness) {
    let mut subscription = all(harness);
    let named = [("Odd \"name\"", "name"), ("customer id", "id")];
    let named = named.iter().map(|(local, published)| (local.to_string(), published.to_string()));
    subscription.fields = Fields::Named(named.collect());
    let mut feed = Feed::connect(harness, subscription).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("5")]), create([Is("2"), Is("b"), Is("5")])]).await;
    feed.apply(&[update([Is("1"), Is("c"), Is("6")]), delete(key("2"))]).await;
    let rows = feed.rows(&["customer id", "Odd \"name\""]).await;
    assert_eq!(rows, cells(&[&[Some("1"), Some("c")]]));
}

/// A unique rule of the copy holds at the end of a step, not between its rows.
pub async fn rows_that_swap_a_unique_value_arrive(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")]), create([Is("2"), Is("b"), Is("2")])]).await;
    harness
        .execute(&[
            "CREATE UNIQUE INDEX one_name ON copy (name)",
            "ALTER TABLE copy ADD COLUMN mine TEXT",
            "UPDATE copy SET mine = 'mine'",
        ])
        .await;
    feed.reconnect().await;
    feed.apply(&[update([Is("1"), Is("b"), Is("1")]), update([Is("2"), Is("a"), Is("2")])]).await;
    let rows = [&[Some("1"), Some("b"), Some("mine")][..], &[Some("2"), Some("a"), Some("mine")]];
    assert_eq!(feed.rows(&["id", "name", "mine"]).await, cells(&rows));
    feed.apply(&[create([Is("3"), Is("a"), Null]), delete(key("2"))]).await;
    let rows = [&[Some("1"), Some("b")][..], &[Some("3"), Some("a")]];
    assert_eq!(feed.rows(&["id", "name"]).await, cells(&rows));
}

/// A row that breaks a rule of the copy fails its whole step; the next one starts clean.
pub async fn bad_data_leaves_nothing_and_names_its_row(harness: &dyn SinkHarness) {
    let table = "CREATE TABLE copy (id INTEGER NOT NULL PRIMARY KEY, name TEXT, \
                 credit INTEGER CHECK (credit < 100))";
    harness.execute(&[table]).await;
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.apply(&[create([Is("1"), Is("a"), Is("1")])]).await;
    let step = [create([Is("2"), Is("b"), Is("2")]), create([Is("33"), Is("secret"), Is("333")])];
    let failed = feed.step(&step, true).await;
    let Err(error) = failed else { panic!("a rule is broken") };
    assert!(!error.to_string().contains("secret"), "values stay out of messages");
    let SinkError::Data { key, help, .. } = error else { panic!("bad data: {error:?}") };
    assert!(key.is_none_or(|k| k.contains("33")) && !help.is_empty());
    let found = feed.reconnect().await;
    assert_eq!(found.next, Offset(1));
    assert_eq!(feed.rows(&["id"]).await, cells(&[&[Some("1")]]));
    feed.apply(&[create([Is("2"), Is("b"), Is("2")])]).await;
}

/// Values that are not all said, for a row that is not there: its `Read` follows, or somebody
/// removed it.
pub async fn a_change_of_a_missing_row_is_told_unless_it_still_arrives(harness: &dyn SinkHarness) {
    let mut feed = Feed::connect(harness, all(harness)).await;
    feed.settling = true;
    feed.apply(&[update([Is("1"), Unchanged, Is("5")])]).await;
    feed.apply(&[rekey(key("1"), [Is("2"), Unchanged, Is("5")])]).await;
    feed.apply(&[read([Is("2"), Is("a"), Is("5")])]).await;
    assert_eq!(feed.rows(&COLUMNS).await, cells(&[&[Some("2"), Some("a"), Some("5")]]));
    feed.settling = false;
    feed.apply(&[update([Is("2"), Unchanged, Is("6")])]).await;
    harness.execute(&["DELETE FROM copy"]).await;
    let failed = feed.step(&[update([Is("2"), Unchanged, Is("7")])], true).await;
    assert!(matches!(failed, Err(SinkError::Data { .. })), "{failed:?}");
}

/// Random transactions in random steps, against a map.
pub async fn random_changes_end_in_the_same_rows(harness: &dyn SinkHarness) {
    let mut random = StdRng::seed_from_u64(11);
    let mut feed = Feed::connect(harness, all(harness)).await;
    let mut model: BTreeMap<u32, [Cell; 2]> = BTreeMap::new();
    for _ in 0..60 {
        let steps = random.random_range(1..4);
        for step in 1..=steps {
            let texts: Vec<[String; 4]> = (0..random.random_range(1..30))
                .map(|_| [(); 4].map(|()| random.random_range(0..40_u32).to_string()))
                .collect();
            let said: Vec<Said<'_>> =
                texts.iter().map(|t| random_change(&mut random, &mut model, t)).collect();
            let applied = feed.step(&said, step == steps).await;
            applied.unwrap_or_else(|e| panic!("a random step: {e:?}"));
        }
    }
    let mut should: Vec<Vec<Cell>> = model
        .into_iter()
        .map(|(id, [name, credit])| vec![Some(id.to_string()), name, credit])
        .collect();
    should.sort();
    assert_eq!(feed.rows(&COLUMNS).await, should);
}

fn random_change<'a>(
    random: &mut StdRng,
    model: &mut BTreeMap<u32, [Cell; 2]>,
    [id, other, name, credit]: &'a [String; 4],
) -> Said<'a> {
    let number = |text: &str| text.parse::<u32>().expect("a number that was printed");
    let row = [Some(name.clone()), Some(credit.clone())];
    let there = model.get(&number(id)).cloned();
    match (there, random.random_range(0..10)) {
        (None, _) => {
            model.insert(number(id), row);
            create([Is(id), Is(name), Is(credit)])
        }
        (Some(_), 0..3) => {
            model.remove(&number(id));
            delete(key(id))
        }
        (Some([old, _]), 3..5) => {
            model.insert(number(id), [old, Some(credit.clone())]);
            update([Is(id), Unchanged, Is(credit)])
        }
        (Some([_, old]), 5) if !model.contains_key(&number(other)) => {
            model.remove(&number(id));
            model.insert(number(other), [Some(name.clone()), old]);
            rekey(key(id), [Is(other), Is(name), Unchanged])
        }
        (Some(_), 6) if !model.contains_key(&number(other)) => {
            model.remove(&number(id));
            model.insert(number(other), row);
            rekey(key(id), [Is(other), Is(name), Is(credit)])
        }
        (Some(_), _) => {
            model.insert(number(id), row);
            update([Is(id), Is(name), Is(credit)])
        }
    }
}
