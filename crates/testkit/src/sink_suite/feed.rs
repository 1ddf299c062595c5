//! Gives a sink what a route would give it, from a few words per event.

use super::{Arc, Cell, SinkHarness};
use rowcast_core::{
    BatchBuilder, Checkpoint, Column, Epoch, Fields, Kind, LogId, Offset, Op, ParkEdit, Point,
    Position, Progress, Projection, RowWriter, Schema, Sink, SinkError, SinkSpec, Stored,
    Subscription, Track, Value,
};

/// One value of a test's event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word<'a> {
    /// This text, in the canonical form of the column's kind.
    Is(&'a str),
    /// NULL.
    Null,
    /// Not said.
    Unchanged,
}

/// One event of a test.
#[derive(Debug, Clone)]
pub struct Said<'a> {
    /// What happened.
    pub op: Op,
    /// The row before; empty for none.
    pub before: Vec<Word<'a>>,
    /// The row after; empty for none.
    pub after: Vec<Word<'a>>,
}

/// A row that came to be.
pub fn create<'a>(after: impl IntoIterator<Item = Word<'a>>) -> Said<'a> {
    Said { op: Op::Create, before: Vec::new(), after: after.into_iter().collect() }
}

/// A row that a snapshot saw.
pub fn read<'a>(after: impl IntoIterator<Item = Word<'a>>) -> Said<'a> {
    Said { op: Op::Read, ..create(after) }
}

/// A row that changed.
pub fn update<'a>(after: impl IntoIterator<Item = Word<'a>>) -> Said<'a> {
    Said { op: Op::Update, ..create(after) }
}

/// A row whose key changed.
pub fn rekey<'a>(
    before: impl IntoIterator<Item = Word<'a>>,
    after: impl IntoIterator<Item = Word<'a>>,
) -> Said<'a> {
    Said { before: before.into_iter().collect(), ..update(after) }
}

/// A row that went; everything but its key is unchanged.
pub fn delete<'a>(before: impl IntoIterator<Item = Word<'a>>) -> Said<'a> {
    Said { op: Op::Delete, before: before.into_iter().collect(), after: Vec::new() }
}

/// All rows went.
pub fn truncate() -> Said<'static> {
    Said { op: Op::Truncate, before: Vec::new(), after: Vec::new() }
}

/// The schema, and nothing else.
pub fn schema() -> Said<'static> {
    Said { op: Op::Schema, ..truncate() }
}

/// An entity `customer (id, name, credit)` and further text columns.
pub fn customer(further: &[(&str, Option<&str>)]) -> Arc<Schema> {
    let column = |name: &str, kind, key, fill: Option<&str>| Column {
        name: name.into(),
        native: "as in the test".into(),
        kind,
        key,
        not_null: key.is_some(),
        fill: fill.map(Into::into),
    };
    let mut columns = vec![
        column("id", Kind::Int64, Some(0), None),
        column("name", Kind::Text, None, None),
        column("credit", Kind::Int32, None, None),
    ];
    columns.extend(further.iter().map(|(name, fill)| column(name, Kind::Text, None, *fill)));
    let entity = "customer".parse().expect("a suite's own name is a name");
    Arc::new(Schema { entity, dialect: "test".into(), columns, generated: Vec::new() })
}

/// A route's place at one sink.
pub struct Feed<'a> {
    harness: &'a dyn SinkHarness,
    /// The sink.
    pub sink: Box<dyn Sink>,
    spec: SinkSpec,
    /// Which log it speaks for.
    pub log: LogId,
    /// Which history.
    pub epoch: Epoch,
    /// Where it stands.
    pub at: Offset,
    /// Where the target stands.
    pub stored: Offset,
    /// The entity's snapshot is still arriving.
    pub settling: bool,
    /// The schema that events follow.
    pub schema: Arc<Schema>,
    /// What the next step notes of parked keys.
    pub parks: Vec<ParkEdit>,
    /// Steps may leave out rows that do not fit.
    pub leave_out: bool,
}

/// A subscription to all of `customer`, into the table `copy`.
pub fn all(harness: &dyn SinkHarness) -> Subscription {
    Subscription {
        entity: "customer".parse().expect("a suite's own name is a name"),
        into: harness.table("copy"),
        fields: Fields::All,
        create: true,
        filter: None,
        from: Default::default(),
    }
}

impl<'a> Feed<'a> {
    /// A route with one subscription, connected.
    pub async fn connect(harness: &'a dyn SinkHarness, subscription: Subscription) -> Self {
        Self::connect_track(harness, subscription, Track::Main).await
    }

    /// One of the route's tracks, connected. A side track's copies grow towards their fields.
    pub async fn connect_track(
        harness: &'a dyn SinkHarness,
        subscription: Subscription,
        track: Track,
    ) -> Self {
        let spec = SinkSpec {
            route: "shop:office".parse().expect("a suite's own name is a name"),
            subscriptions: vec![subscription],
            track,
        };
        let mut feed = Self {
            harness,
            sink: harness.database().sink(spec.clone()),
            spec,
            log: LogId(0xfeed_0123_4567_89ab),
            epoch: Epoch { identity: 0xfedc_ba98_7654_3210, birth: 7 },
            at: Offset(0),
            stored: Offset(0),
            settling: false,
            schema: customer(&[]),
            parks: Vec::new(),
            leave_out: false,
        };
        let found = feed.wants().await.unwrap_or_else(|e| panic!("a sink connects: {e:?}"));
        (feed.at, feed.stored) = (found.next, found.next);
        feed
    }

    /// Asks the target, over the same sink.
    pub async fn wants(&mut self) -> Result<Checkpoint, SinkError> {
        self.sink.wants(self.log).await
    }

    /// What another sink of this route is made from.
    pub fn spec(&self) -> SinkSpec {
        self.spec.clone()
    }

    /// The route's subscription.
    pub fn subscription(&self) -> Subscription {
        self.spec.subscriptions[0].clone()
    }

    /// Drops the sink and takes another one.
    pub async fn reconnect(&mut self) -> Checkpoint {
        self.sink = self.harness.database().sink(self.spec.clone());
        let found = self.wants().await.unwrap_or_else(|e| panic!("a sink connects again: {e:?}"));
        (self.at, self.stored) = (found.next, found.next);
        found
    }

    /// Applies events as one step of a transaction.
    pub async fn step(&mut self, said: &[Said<'_>], commit: bool) -> Result<(), SinkError> {
        let stored = self.batch(said, commit);
        let end = stored.end();
        let position = stored.batch.until;
        let mut projection = Projection::new(
            self.spec.route.from.clone(),
            self.spec.route.to.clone(),
            self.spec.subscriptions.clone(),
        );
        if self.spec.track == Track::Side {
            projection = projection.growing();
        }
        let settling = self.settling;
        let rows = projection.rows(&[stored], self.at, end, |_, _| settling);
        let mut rows = rows.unwrap_or_else(|e| panic!("a suite's own subscription fits: {e:?}"));
        rows.parks = std::mem::take(&mut self.parks);
        rows.leave_out = self.leave_out;
        let progress = Progress { from: self.stored, next: end, position, commit };
        self.sink.apply(&rows, progress).await?;
        self.at = end;
        if commit {
            self.stored = end;
        }
        Ok(())
    }

    /// Applies one whole transaction, and must.
    pub async fn apply(&mut self, said: &[Said<'_>]) {
        let applied = self.step(said, true).await;
        applied.unwrap_or_else(|e| panic!("a sink applies: {e:?}"));
    }

    fn batch(&self, said: &[Said<'_>], whole: bool) -> Stored {
        let mut b = BatchBuilder::new();
        let schema = b.schema(self.schema.id(), &self.schema);
        b.begin(Point::Sequence(self.at.0 + 1), 0);
        for said in said {
            b.push(said.op, schema, |w| pack(&said.before, w), |w| pack(&said.after, w));
        }
        let point = Point::Sequence(self.at.0 + 1 + said.len() as u64);
        let until = Position::new(self.epoch, point);
        Stored { base: self.at, batch: Arc::new(b.finish(until, whole)) }
    }

    /// The copy's rows.
    pub async fn rows(&self, columns: &[&str]) -> Vec<Vec<Cell>> {
        let mut rows = self.harness.rows("copy", columns).await;
        rows.sort();
        rows
    }
}

pub(super) fn pack(words: &[Word<'_>], into: &mut Vec<u8>) {
    let mut writer = RowWriter::new(into);
    for word in words {
        writer.push(match word {
            Word::Is(text) => Value::Text(text.as_bytes()),
            Word::Null => Value::Null,
            Word::Unchanged => Value::Unchanged,
        });
    }
}

/// Rows as a test writes them.
pub fn cells(rows: &[&[Option<&str>]]) -> Vec<Vec<Cell>> {
    rows.iter().map(|row| row.iter().map(|c| c.map(Into::into)).collect()).collect()
}
