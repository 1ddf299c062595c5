//! What an event costs on its way into the log and out of it: `cargo bench -p rowcast-store`.
//!
//! Rows are about 200 bytes. Wall time is what syncs cost; our own processor time is
//! what this room is answerable for; the kernel's is mostly pages that are touched for the first
//! time.

use rowcast_core::{
    Batch, BatchBuilder, ByteSize, Column, Epoch, EventLog, Kind, Offset, Op, Point, Position,
    RowWriter, Schema, ServiceName, Value,
};
use rowcast_store::{FileLog, LogConfig};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVENTS: u64 = 1_000_000;
const READ: ByteSize = ByteSize::mib(4);

fn schema() -> Arc<Schema> {
    let column = |n: usize| Column {
        name: format!("column_{n}"),
        native: "text".into(),
        kind: Kind::Text,
        key: (n == 0).then_some(0),
        not_null: n == 0,
        fill: None,
    };
    Arc::new(Schema {
        entity: "thing".parse().expect("a good name"),
        dialect: "bench".into(),
        columns: (0..8).map(column).collect(),
        generated: vec![],
    })
}

/// A batch of so many events, each a transaction of its own, as from single-row commits.
fn batch(schema: &Arc<Schema>, first: u64, events: u64) -> Batch {
    let mut b = BatchBuilder::new();
    let index = b.schema(schema.id(), schema);
    for n in first..first + events {
        b.begin(Point::Lsn(n * 300), 1_700_000_000_000_000 + n as i64);
        b.push(
            Op::Create,
            index,
            |_| {},
            |row| {
                let mut row = RowWriter::new(row);
                row.push(Value::Text(n.to_string().as_bytes()));
                for word in ["a-name", "2026-11-20 12:34:56.789+00", "1234.56", "t"] {
                    row.push(Value::Text(word.as_bytes()));
                }
                row.push(Value::Text(noise(n).as_bytes()));
                row.push(Value::Text(b"somebody@example.com, 12 Long Street"));
                row.push(Value::Null);
            },
        );
    }
    let epoch = Epoch { identity: 1, birth: 1 };
    b.finish(Position::new(epoch, Point::Lsn((first + events) * 300)), true)
}

/// A hundred characters that hardly compress.
fn noise(n: u64) -> String {
    let mut state = n;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        format!("{state:016x}")
    };
    (0..6).map(|_| word()).collect()
}

/// Processor time of the whole process so far: its own, and the kernel's for it.
fn processor() -> [Duration; 2] {
    // Fields 14 and 15, in ticks of 10 ms; the name before them may hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
    [(); 2].map(|()| {
        let ticks: u64 = fields.next().and_then(|f| f.parse().ok()).unwrap_or_default();
        Duration::from_millis(ticks * 10)
    })
}

struct Clock(Instant, [Duration; 2]);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), processor())
    }

    fn print(self, what: &str, per_batch: u64, events: u64) {
        let wall = self.0.elapsed();
        let now = processor();
        let each = |d: Duration| d.as_nanos() as f64 / events as f64;
        println!(
            "{what:<28} {per_batch:>6} {:>12.0} {:>10.1} {:>10.1} {:>10.1}",
            events as f64 / wall.as_secs_f64(),
            each(wall),
            each(now[0].saturating_sub(self.1[0])),
            each(now[1].saturating_sub(self.1[1]))
        );
    }
}

async fn append(
    log: &FileLog,
    s: &ServiceName,
    batches: Vec<Batch>,
    ahead: usize,
) -> Result<(), Box<dyn Error>> {
    let mut commits = std::collections::VecDeque::new();
    for batch in batches {
        commits.push_back(log.append(s, batch).await?);
        if commits.len() > ahead
            && let Some(commit) = commits.pop_front()
        {
            commit.await?;
        }
    }
    for commit in commits {
        commit.await?;
    }
    Ok(())
}

async fn read(log: &FileLog, s: &ServiceName, from: u64, to: u64) -> Result<(), Box<dyn Error>> {
    let mut at = Offset(from);
    while at.0 < to {
        at = log.read(s, at, READ).await?.next;
    }
    Ok(())
}

async fn round(root: &Path, per_batch: u64, compress: bool) -> Result<(), Box<dyn Error>> {
    let schema = schema();
    let events = EVENTS.min(per_batch * 4000) / per_batch * per_batch;
    let batches = || (0..events / per_batch).map(|n| batch(&schema, n * per_batch, per_batch));
    let with = if compress { ", lz4" } else { "" };
    let config = LogConfig { compress, ..LogConfig::default() };
    let s: ServiceName = "bench".parse()?;
    for (name, ahead) in [("append, one at a time", 0), ("append, pipelined", 64)] {
        let dir = root.join(format!("{per_batch}-{ahead}-{compress}"));
        let log = FileLog::open(&dir, config.clone())?;
        log.tail(&s).await?;
        let made: Vec<Batch> = batches().collect();
        let clock = Clock::start();
        append(&log, &s, made, ahead).await?;
        clock.print(&format!("{name}{with}"), per_batch, events);
        if ahead == 0 {
            continue;
        }
        let made: Vec<Batch> = (events / per_batch..2 * events / per_batch)
            .map(|n| batch(&schema, n * per_batch, per_batch))
            .collect();
        let clock = Clock::start();
        tokio::try_join!(append(&log, &s, made, ahead), read(&log, &s, events, 2 * events))?;
        clock.print(&format!("append + tail read{with}"), per_batch, events);
        log.close().await;
        let log = FileLog::open(&dir, config.clone())?;
        let clock = Clock::start();
        log.tail(&s).await?;
        clock.print(&format!("open{with}"), per_batch, 2 * events);
        let clock = Clock::start();
        read(&log, &s, 0, 2 * events).await?;
        clock.print(&format!("disk read{with}"), per_batch, 2 * events);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::temp_dir().join(format!("rowcast-bench-log-{}", std::process::id()));
    println!(
        "{:<28} {:>6} {:>12} {:>10} {:>10} {:>10}",
        "", "batch", "events/s", "wall ns", "our ns", "kernel ns"
    );
    for (per_batch, compress) in [(100, false), (500, false), (5000, false), (5000, true)] {
        round(&root, per_batch, compress).await?;
    }
    std::fs::remove_dir_all(&root)?;
    Ok(())
}
