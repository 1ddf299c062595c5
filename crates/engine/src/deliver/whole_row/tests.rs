use super::*;
use rowcast_core::{
    BatchBuilder, ChangeOp, Column, Epoch, Fields, Kind, Point, Position, Subscription,
};
use rowcast_store::MemoryLog;
use std::collections::BTreeMap;

/// `(id, note, credit)`, and perhaps a column that came later.
fn schema(later: Option<&str>) -> Arc<Schema> {
    let column = |name: &str, kind, key, fill: Option<&str>| Column {
        name: name.into(),
        native: "text".into(),
        kind,
        key,
        not_null: false,
        fill: fill.map(Into::into),
    };
    let mut columns = vec![
        column("id", Kind::Int64, Some(0), None),
        column("note", Kind::Text, None, None),
        column("credit", Kind::Int64, None, None),
    ];
    columns.extend(later.map(|fill| column("later", Kind::Text, None, Some(fill))));
    let entity = "customer".parse().unwrap();
    Arc::new(Schema { entity, dialect: "test".into(), columns, generated: vec![] })
}

/// `-` is NULL, `?` unchanged.
fn pack(words: &str, into: &mut Vec<u8>) {
    let mut row = RowWriter::new(into);
    for word in words.split_whitespace() {
        row.push(match word {
            "-" => Value::Null,
            "?" => Value::Unchanged,
            text => Value::Text(text.as_bytes()),
        });
    }
}

struct World {
    log: MemoryLog,
    stream: ServiceName,
    next: u64,
    schema: Arc<Schema>,
}

impl World {
    fn new() -> Self {
        let (log, stream) = (MemoryLog::new(), "shop".parse().unwrap());
        Self { log, stream, next: 0, schema: schema(None) }
    }

    /// Appends one batch of events, each with its row before and after.
    async fn say(&mut self, events: &[(Op, &str, &str)]) -> Stored {
        let mut b = BatchBuilder::new();
        let s = b.schema(self.schema.id(), &self.schema);
        b.begin(Point::Sequence(self.next), 0);
        for (op, before, after) in events {
            b.push(*op, s, |w| pack(before, w), |w| pack(after, w));
        }
        let base = Offset(self.next);
        self.next += events.len() as u64;
        let until = Position::new(Epoch::default(), Point::Sequence(self.next));
        let batch = b.finish(until, true);
        self.log.tail(&self.stream).await.unwrap();
        self.log.append(&self.stream, batch.clone()).await.unwrap().await.unwrap();
        Stored { base, batch: Arc::new(batch) }
    }

    async fn try_whole(&self, chunk: &[Stored], bytes_max: u64) -> Result<Whole, Trouble> {
        let log = History {
            log: &self.log,
            stream: &self.stream,
            bytes_max: ByteSize(bytes_max),
            completes: Vec::new(),
        };
        let (at, end) = (chunk[0].base, chunk.last().unwrap().end());
        log.whole(&mut projection(), chunk, at, end).await
    }

    /// What becomes of a chunk: the changes' operations, with the notes of rows that are written.
    async fn changes(&self, chunk: &[Stored]) -> Vec<(ChangeOp, Option<String>)> {
        let whole = self.try_whole(chunk, 1 << 20).await.unwrap();
        let rows = projection().rows(&whole.batches, chunk[0].base, whole.end, |_, _| false);
        let rows = rows.unwrap();
        let note = |row: Row<'_>| match row.values().nth(1) {
            Some(Ok(Value::Text(t))) => Some(String::from_utf8_lossy(t).into_owned()),
            _ => None,
        };
        rows.changes.iter().map(|c| (c.op, note(rows.after(c)))).collect()
    }
}

fn projection() -> Projection {
    projected(subscription())
}

fn projected(subscription: Subscription) -> Projection {
    Projection::new("shop".parse().unwrap(), "office".parse().unwrap(), vec![subscription])
}

fn subscription() -> Subscription {
    Subscription {
        entity: "customer".parse().unwrap(),
        into: "copy".into(),
        fields: Fields::All,
        create: true,
        filter: Some("credit > 100 AND note <> 'hidden'".parse().unwrap()),
        from: Default::default(),
    }
}

fn written(op: ChangeOp, note: &str) -> (ChangeOp, Option<String>) {
    (op, Some(note.into()))
}

#[tokio::test]
async fn a_row_that_begins_to_pass_gets_the_values_that_its_update_left_out() {
    let mut world = World::new();
    world.say(&[(Op::Read, "", "1 long 5"), (Op::Create, "", "2 hidden 5")]).await;
    for n in 0..5_000 {
        world.say(&[(Op::Create, "", &format!("{} x 1", n + 10))]).await;
    }
    let chunk = [world.say(&[(Op::Update, "", "1 ? 500"), (Op::Update, "", "2 ? 500")]).await];
    let changes = world.changes(&chunk).await;
    assert_eq!(changes[0], written(ChangeOp::Update, "long"));
    assert_eq!(changes[1].0, ChangeOp::Leave);
}

#[tokio::test]
async fn a_copy_that_may_lack_rows_gets_them_whole_and_does_without_what_nobody_knows() {
    let mut world = World::new();
    world.say(&[(Op::Read, "", "1 long 5")]).await;
    let chunk = [world.say(&[(Op::Update, "", "1 ? 500"), (Op::Update, "", "9 ? 500")]).await];
    for (completes, first) in [(true, ChangeOp::Update), (false, ChangeOp::Patch)] {
        let mut projection = projected(Subscription { filter: None, ..subscription() });
        let history = History {
            log: &world.log,
            stream: &world.stream,
            bytes_max: ByteSize(1 << 20),
            completes: vec![completes],
        };
        let (at, end) = (chunk[0].base, chunk[0].end());
        let whole = history.whole(&mut projection, &chunk, at, end).await.unwrap();
        let rows = projection.rows(&whole.batches, at, end, |_, _| false).unwrap();
        let found: Vec<_> = rows.changes.iter().map(|c| c.op).collect();
        assert_eq!(found, [first, ChangeOp::Patch]);
    }
}

#[tokio::test]
async fn values_are_found_through_changes_of_the_key_and_the_newest_counts() {
    let mut world = World::new();
    world
        .say(&[
            (Op::Create, "", "1 old 5"),
            (Op::Update, "", "1 newer 5"),
            (Op::Create, "", "7 other 5"),
            (Op::Update, "1 ? ?", "2 ? 6"),
            (Op::Update, "7 ? ?", "1 ? 6"),
        ])
        .await;
    let chunk = [world.say(&[(Op::Update, "2 ? ?", "3 ? 500"), (Op::Update, "", "1 ? 500")]).await];
    let changes = world.changes(&chunk).await;
    assert_eq!(changes[0].0, ChangeOp::Delete);
    assert_eq!(changes[1], written(ChangeOp::Create, "newer"));
    assert_eq!(changes[2], written(ChangeOp::Update, "other"));
}

#[tokio::test]
async fn a_row_that_went_gives_nothing_to_one_that_came_later() {
    let mut world = World::new();
    world.say(&[(Op::Create, "", "1 gone 5"), (Op::Delete, "1 ? ?", "")]).await;
    world.say(&[(Op::Create, "", "2 gone 5"), (Op::Truncate, "", "")]).await;
    let chunk = [world.say(&[(Op::Update, "", "1 ? 500"), (Op::Update, "", "2 ? 500")]).await];
    let whole = world.try_whole(&chunk, 1 << 20).await.unwrap();
    let batch = &whole.batches[0].batch;
    assert!(batch.events.iter().all(|e| batch.after(e).has_unchanged()));
    let (at, end) = (chunk[0].base, whole.end);
    let told = projection().rows(&whole.batches, at, end, |_, _| false);
    assert!(matches!(told, Err(ProjectError::Unknowable { .. })), "{told:?}");
    // While the snapshot runs, the row is on its way.
    assert!(projection().rows(&whole.batches, at, end, |_, _| true).unwrap().changes.is_empty());
}

#[tokio::test]
async fn a_column_that_came_later_has_the_value_that_rows_got_then() {
    let mut world = World::new();
    world.say(&[(Op::Create, "", "1 long 5")]).await;
    world.schema = schema(Some("filled"));
    let chunk = [world.say(&[(Op::Update, "", "1 ? 500 ?")]).await];
    let whole = world.try_whole(&chunk, 1 << 20).await.unwrap();
    let batch = &whole.batches[0].batch;
    let mut values = Vec::new();
    batch.after(&batch.events[0]).unpack(&mut values).unwrap();
    assert_eq!(values[1..], [b"long", &b"500"[..], b"filled"].map(Value::Text));
}

#[tokio::test]
async fn rows_that_do_not_fit_together_are_completed_in_turn() {
    let mut world = World::new();
    let note = "n".repeat(3_000);
    for n in 0..20 {
        world.say(&[(Op::Create, "", &format!("{n} {note} 5"))]).await;
    }
    let updates: Vec<String> = (0..20).map(|n| format!("{n} ? 500")).collect();
    let updates: Vec<_> = updates.iter().map(|u| (Op::Update, "", u.as_str())).collect();
    let chunk = [world.say(&updates).await];
    let (mut at, end, mut turns) = (chunk[0].base, chunk[0].end(), 0);
    while at < end {
        let history = History {
            log: &world.log,
            stream: &world.stream,
            bytes_max: ByteSize(10_000),
            completes: Vec::new(),
        };
        let whole = history.whole(&mut projection(), &chunk, at, end).await.unwrap();
        let rows = projection().rows(&whole.batches, at, whole.end, |_, _| false).unwrap();
        assert!(rows.changes.iter().all(|c| c.op == ChangeOp::Update), "{:?}", rows.changes);
        assert!(whole.end > at);
        (at, turns) = (whole.end, turns + 1);
    }
    assert!(turns > 3, "{turns} turns");
}

/// A repeatable source of numbers.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Key to note and credit.
type Table = BTreeMap<u64, (String, u64)>;

/// One random change of a table, as its source would tell it.
fn change(dice: &mut Dice, table: &mut Table) -> (Op, String, String) {
    let (id, other) = (dice.throw(12), dice.throw(12));
    let (note, credit) = (format!("n{}", dice.throw(3)), dice.throw(200));
    let Some(old) = table.get(&id).cloned() else {
        table.insert(id, (note.clone(), credit));
        return (Op::Create, String::new(), format!("{id} {note} {credit}"));
    };
    let unchanged = dice.throw(3) > 0;
    let said = if unchanged { "?" } else { &note };
    let row = (if unchanged { old.0 } else { note.clone() }, credit);
    match dice.throw(8) {
        0 => {
            table.remove(&id);
            (Op::Delete, format!("{id} ? ?"), String::new())
        }
        1 if dice.throw(20) == 0 => {
            table.clear();
            (Op::Truncate, String::new(), String::new())
        }
        2 | 3 if !table.contains_key(&other) => {
            table.remove(&id);
            table.insert(other, row);
            (Op::Update, format!("{id} ? ?"), format!("{other} {said} {credit}"))
        }
        _ => {
            table.insert(id, row);
            (Op::Update, String::new(), format!("{id} {said} {credit}"))
        }
    }
}

/// What a sink makes of a route's changes.
fn apply(copy: &mut Table, rows: &rowcast_core::Rows) {
    let word = |row: Row<'_>, at: usize| match row.values().nth(at) {
        Some(Ok(Value::Text(t))) => String::from_utf8_lossy(t).into_owned(),
        other => panic!("{other:?} is no text"),
    };
    let number = |row: Row<'_>, at| word(row, at).parse::<u64>().unwrap();
    for change in &rows.changes {
        let after = rows.after(change);
        match change.op {
            ChangeOp::Create | ChangeOp::Read | ChangeOp::Update => {
                copy.insert(number(after, 0), (word(after, 1), number(after, 2)));
            }
            ChangeOp::Delete | ChangeOp::Leave => {
                copy.remove(&number(rows.found_by(change), 0));
            }
            ChangeOp::Truncate => copy.clear(),
            ChangeOp::Patch | ChangeOp::Rekey => panic!("{change:?} says too little"),
        }
    }
}

#[tokio::test]
async fn whatever_happens_the_copy_holds_what_passes() {
    for seed in 1..40 {
        let (mut dice, mut world, mut table) = (Dice(seed), World::new(), Table::new());
        let mut copy = Table::new();
        let mut chunk = Vec::new();
        for _ in 0..60 {
            let events: Vec<_> =
                (0..=dice.throw(9)).map(|_| change(&mut dice, &mut table)).collect();
            let events: Vec<_> =
                events.iter().map(|(op, b, a)| (*op, b.as_str(), a.as_str())).collect();
            chunk.push(world.say(&events).await);
            if dice.throw(3) > 0 {
                continue;
            }
            let (mut at, end) = (chunk[0].base, chunk[chunk.len() - 1].end());
            while at < end {
                let bytes_max = ByteSize([1, 60, 100_000][dice.throw(3) as usize]);
                let history = History {
                    log: &world.log,
                    stream: &world.stream,
                    bytes_max,
                    completes: Vec::new(),
                };
                let whole = history.whole(&mut projection(), &chunk, at, end).await.unwrap();
                let rows = projection().rows(&whole.batches, at, whole.end, |_, _| false);
                apply(&mut copy, &rows.unwrap());
                at = whole.end;
            }
            chunk.clear();
            let passes = |(_, (_, credit)): &(&u64, &(String, u64))| *credit > 100;
            let expected: Table =
                table.iter().filter(passes).map(|(k, v)| (*k, v.clone())).collect();
            assert_eq!(copy, expected, "seed {seed}");
        }
    }
}
