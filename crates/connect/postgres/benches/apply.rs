//! How fast rows get into a table, for each way the sink has. Takes the address of a scratch database:
//!
//! ```text
//! cargo bench -p rowcast-postgres --bench apply -- postgres://postgres@localhost/scratch [ROWS]
//! ```

use rowcast_core::{
    BatchBuilder, Column, Epoch, Fields, Kind, LogId, Offset, Op, Point, Position, Progress,
    Projection, RowWriter, Rows, Schema, Sink, SinkSpec, Stored, Subscription, Value,
};
use rowcast_postgres::PostgresSink;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

const COLUMNS: [(&str, &str); 7] = [
    ("id", "bigint"),
    ("name", "text"),
    ("email", "text"),
    ("credit_limit", "integer"),
    ("status", "text"),
    ("address", "jsonb"),
    ("updated_at", "timestamp with time zone"),
];

/// Makes batches of changes and gives them to a sink.
struct Feed {
    sink: PostgresSink,
    projection: Projection,
    schema: Arc<Schema>,
    next: Offset,
}

impl Feed {
    async fn new(url: &str) -> Outcome<Self> {
        let column = |(i, (name, native)): (usize, &(&str, &str))| Column {
            name: (*name).into(),
            native: (*native).into(),
            kind: Kind::Other,
            key: (i == 0).then_some(0),
            not_null: i == 0,
            fill: None,
        };
        let schema = Schema {
            entity: "customers".parse()?,
            dialect: "postgres".into(),
            columns: COLUMNS.iter().enumerate().map(column).collect(),
            generated: vec![],
        };
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let subscription = Subscription {
            entity: "customers".parse()?,
            into: format!("bench_{run}"),
            fields: Fields::All,
            create: true,
            filter: None,
            from: Default::default(),
        };
        let route = format!("bench:r{run}").parse()?;
        let spec = SinkSpec { route, subscriptions: vec![subscription], track: Default::default() };
        let projection = Projection::new(
            spec.route.from.clone(),
            spec.route.to.clone(),
            spec.subscriptions.clone(),
        );
        let mut sink = PostgresSink::at(url, spec)?;
        let next = sink.wants(LogId(u64::try_from(run)?)).await?.next;
        Ok(Self { sink, projection, schema: Arc::new(schema), next })
    }

    fn rows(
        &mut self,
        op: Op,
        keys: impl Iterator<Item = u64>,
        mark: &str,
    ) -> Outcome<(Rows, Progress)> {
        let mut builder = BatchBuilder::new();
        builder.begin(Point::Lsn(self.next.0), 0);
        let schema = builder.schema(self.schema.id(), &self.schema);
        let mut events = 0;
        for key in keys {
            let unchanged = mark == "patch";
            builder.push(
                op,
                schema,
                |into| {
                    if op == Op::Delete {
                        key_row(into, key);
                    }
                },
                |into| {
                    if op != Op::Delete {
                        whole_row(into, key, mark, unchanged);
                    }
                },
            );
            events += 1;
        }
        let end = Offset(self.next.0 + events);
        let position = Position::new(Epoch::default(), Point::Lsn(end.0));
        let stored = Stored { base: self.next, batch: Arc::new(builder.finish(position, true)) };
        let rows = self.projection.rows(&[stored], self.next, end, |_, _| false)?;
        let progress = Progress { from: self.next, next: end, position, commit: true };
        self.next = end;
        Ok((rows, progress))
    }

    /// Applies `keys` in batches and says how long that took, making the batches not counted.
    async fn run(&mut self, op: Op, keys: &[u64], batch: usize, mark: &str) -> Outcome<Duration> {
        let mut took = Duration::ZERO;
        for keys in keys.chunks(batch) {
            let (rows, progress) = self.rows(op, keys.iter().copied(), mark)?;
            let began = Instant::now();
            self.sink.apply(&rows, progress).await?;
            took += began.elapsed();
        }
        Ok(took)
    }
}

fn key_row(into: &mut Vec<u8>, key: u64) {
    let mut row = RowWriter::new(into);
    row.push(Value::Text(key.to_string().as_bytes()));
    (1..COLUMNS.len()).for_each(|_| row.push(Value::Unchanged));
}

fn whole_row(into: &mut Vec<u8>, key: u64, mark: &str, unchanged: bool) {
    let address = format!(
        "{{\"zip\": \"{key:05}\", \"city\": \"A town of some length\", \"street\": \"{mark} {key}\"}}"
    );
    let texts = [
        key.to_string(),
        format!("Customer {key} {mark}"),
        format!("customer{key}@example.com"),
        (key % 10_000).to_string(),
        "active".to_string(),
        address,
        "2026-11-20 12:34:56.789012+00".to_string(),
    ];
    let mut row = RowWriter::new(into);
    for (i, text) in texts.iter().enumerate() {
        let hidden = unchanged && i == 5;
        row.push(if hidden { Value::Unchanged } else { Value::Text(text.as_bytes()) });
    }
}

fn print(what: &str, rows: usize, took: Duration) {
    println!("{what:44} {:>9.0} rows/s", rows as f64 / took.as_secs_f64());
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let Some(url) = args.next() else {
        println!("give the address of a scratch database, and perhaps a number of rows");
        return Ok(());
    };
    let count: u64 = args.next().map_or(Ok(200_000), |n| n.parse())?;
    let all: Vec<u64> = (1..=count).collect();
    let few = &all[..all.len().min(20_000)];
    let mut feed = Feed::new(&url).await?;
    let n = all.len();
    print("new keys by COPY, 5,000 a batch", n, feed.run(Op::Create, &all, 5_000, "a").await?);
    print("known keys in sets, 5,000 a batch", n, feed.run(Op::Update, &all, 5_000, "b").await?);
    print("patches in sets, 5,000 a batch", n, feed.run(Op::Update, &all, 5_000, "patch").await?);
    print("known keys in sets, 300 a batch", n, feed.run(Op::Update, &all, 300, "c").await?);
    let hot: Vec<u64> = (0..count).map(|i| i * 7919 % (count / 20 + 1) + 1).collect();
    print("hot keys, merged, 20,000 a batch", n, feed.run(Op::Update, &hot, 20_000, "d").await?);
    print("known keys, 20 a batch", few.len(), feed.run(Op::Update, few, 20, "e").await?);
    print("known keys, 1 a batch", few.len(), feed.run(Op::Update, few, 1, "f").await?);
    print("deletes in sets, 5,000 a batch", n, feed.run(Op::Delete, &all, 5_000, "").await?);
    Ok(())
}
