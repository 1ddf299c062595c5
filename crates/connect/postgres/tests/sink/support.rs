//! A publisher made by hand: it says what changed, and the sink under test writes it.

use rowcast_core::{
    BatchBuilder, Column, Epoch, Fields, Kind, LogId, Offset, Op, Point, Position, Progress,
    Projection, RowWriter, Rows, Schema, Sink, SinkError, SinkSpec, Stored, Subscription, Value,
};
use rowcast_postgres::PostgresSink;
use rowcast_testkit::postgres::{Server, Session, TextRows, shared};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const LOG: LogId = LogId(7);

/// A schema of PostgreSQL's dialect: `(name, native)`, the first `keys` of them the key.
pub(crate) fn schema(entity: &str, keys: usize, columns: &[(&str, &str)]) -> Arc<Schema> {
    let columns = columns.iter().enumerate().map(|(i, (name, native))| Column {
        name: (*name).into(),
        native: (*native).into(),
        kind: Kind::Other,
        key: (i < keys).then_some(i as u16),
        not_null: i < keys,
        fill: None,
    });
    Arc::new(Schema {
        entity: entity.parse().unwrap(),
        dialect: "postgres".into(),
        columns: columns.collect(),
        generated: vec![],
    })
}

pub(crate) fn all_fields(entity: &str, into: &str) -> Subscription {
    let entity = entity.parse().unwrap();
    Subscription {
        entity,
        into: into.into(),
        fields: Fields::All,
        create: true,
        filter: None,
        from: Default::default(),
    }
}

/// A change as the publisher says it.
pub(crate) struct Ev<'a> {
    pub(crate) schema: &'a Arc<Schema>,
    pub(crate) op: Op,
    pub(crate) before: Vec<Value<'a>>,
    pub(crate) after: Vec<Value<'a>>,
}

/// Text, or NULL, or unchanged when it reads `~`.
pub(crate) fn values<'a>(texts: &[Option<&'a str>]) -> Vec<Value<'a>> {
    let value = |t: &Option<&'a str>| match t {
        None => Value::Null,
        Some("~") => Value::Unchanged,
        Some(text) => Value::Text(text.as_bytes()),
    };
    texts.iter().map(value).collect()
}

fn texts<'a>(row: &[&'a str]) -> Vec<Value<'a>> {
    values(&row.iter().map(|t| Some(*t)).collect::<Vec<_>>())
}

impl<'a> Ev<'a> {
    pub(crate) fn whole(schema: &'a Arc<Schema>, op: Op, row: &[&'a str]) -> Self {
        Self { schema, op, before: vec![], after: texts(row) }
    }

    pub(crate) fn create(schema: &'a Arc<Schema>, row: &[&'a str]) -> Self {
        Self::whole(schema, Op::Create, row)
    }

    pub(crate) fn update(schema: &'a Arc<Schema>, row: &[&'a str]) -> Self {
        Self::whole(schema, Op::Update, row)
    }

    /// `key` is the old row, with `~` where it is no part of the key.
    pub(crate) fn rekey(schema: &'a Arc<Schema>, key: &[&'a str], row: &[&'a str]) -> Self {
        Self { schema, op: Op::Update, before: texts(key), after: texts(row) }
    }

    pub(crate) fn delete(schema: &'a Arc<Schema>, key: &[&'a str]) -> Self {
        Self { schema, op: Op::Delete, before: texts(key), after: vec![] }
    }

    pub(crate) fn bare(schema: &'a Arc<Schema>, op: Op) -> Self {
        Self { schema, op, before: vec![], after: vec![] }
    }
}

/// A publisher, a subscriber's database and the sink between them.
pub(crate) struct Bench {
    pub(crate) server: &'static Server,
    pub(crate) database: String,
    pub(crate) session: Session,
    pub(crate) spec: SinkSpec,
    pub(crate) sink: PostgresSink,
    projection: Projection,
    /// The checkpoint, as far as this publisher knows.
    pub(crate) next: Offset,
    /// Where the next piece goes on; ahead of `next` inside a transaction.
    at: Offset,
    /// Entities whose snapshot is still arriving.
    pub(crate) settling: bool,
    pub(crate) epoch: Epoch,
}

impl Bench {
    /// A fresh database; `setup` runs in it before the sink looks.
    pub(crate) async fn new(setup: &str, subscriptions: Vec<Subscription>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let server = shared().await;
        let database = format!("sink {}", COUNT.fetch_add(1, Ordering::Relaxed));
        server.create_database(&database).await;
        let session = server.session(&database).await;
        session.sql(setup).await;
        let spec = SinkSpec {
            route: "shop:copy".parse().unwrap(),
            subscriptions,
            track: Default::default(),
        };
        let mut bench = Self {
            sink: PostgresSink::at(&server.url(&database), spec.clone()).unwrap(),
            projection: Projection::new(
                spec.route.from.clone(),
                spec.route.to.clone(),
                spec.subscriptions.clone(),
            ),
            server,
            database,
            session,
            spec,
            next: Offset(0),
            at: Offset(0),
            settling: false,
            epoch: Epoch { identity: 1, birth: 1 },
        };
        bench.wants().await.unwrap();
        bench
    }

    /// Begins anew from what the target says.
    pub(crate) async fn wants(&mut self) -> Result<Offset, SinkError> {
        self.next = self.sink.wants(LOG).await?.next;
        self.at = self.next;
        Ok(self.next)
    }

    /// Another sink for the same route.
    pub(crate) fn twin(&self) -> PostgresSink {
        PostgresSink::at(&self.server.url(&self.database), self.spec.clone()).unwrap()
    }

    pub(crate) fn rows(&mut self, events: &[Ev<'_>], commit: bool) -> (Rows, Progress) {
        let mut builder = BatchBuilder::new();
        builder.begin(Point::Lsn(self.at.0), 0);
        for event in events {
            let schema = builder.schema(event.schema.id(), event.schema);
            let write = |values: &[Value<'_>], into: &mut Vec<u8>| {
                let mut row = RowWriter::new(into);
                values.iter().for_each(|v| row.push(*v));
            };
            builder.push(
                event.op,
                schema,
                |into| write(&event.before, into),
                |into| write(&event.after, into),
            );
        }
        let end = Offset(self.at.0 + events.len() as u64);
        let position = Position::new(self.epoch, Point::Lsn(end.0));
        let batch = Arc::new(builder.finish(position, commit));
        let stored = Stored { base: self.at, batch };
        let settling = self.settling;
        let rows = self.projection.rows(&[stored], self.at, end, |_, _| settling).unwrap();
        (rows, Progress { from: self.next, next: end, position, commit })
    }

    pub(crate) async fn try_apply(
        &mut self,
        events: &[Ev<'_>],
        commit: bool,
    ) -> Result<(), SinkError> {
        let (rows, progress) = self.rows(events, commit);
        self.sink.apply(&rows, progress).await?;
        self.at = progress.next;
        if commit {
            self.next = self.at;
        }
        Ok(())
    }

    pub(crate) async fn apply(&mut self, events: &[Ev<'_>]) {
        self.try_apply(events, true).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    }

    pub(crate) async fn sql(&self, sql: &str) -> TextRows {
        self.session.sql(sql).await
    }

    /// The first column of the first row.
    pub(crate) async fn one(&self, sql: &str) -> String {
        self.sql(sql).await[0][0].clone().unwrap_or_else(|| "NULL".into())
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &SinkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        text.push_str(&format!(": {e}"));
        cause = e.source();
    }
    text
}
