//! From the moment a commit returns at the source to the moment a reader of the target sees it.

use super::lab::{Lab, SOURCE};
use anyhow::{Context, Result, bail, ensure};
use rowcast_testkit::postgres::{Server, Session};
use std::thread;
use std::time::{Duration, Instant};

/// Pause of the reader between looks. With the look itself it is the resolution of the result.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// How long the last row may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long each row took.
pub(super) struct Times {
    pub(super) written: i64,
    /// Sorted; the first tenth of the time is left out.
    took: Vec<Duration>,
}

impl Times {
    /// In milliseconds.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let last = self.took.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }
}

/// Inserts rows from key `first` on, `rate` a second for `time`, and watches them appear in
/// `database`. Blocks: writer and reader have a thread each.
pub(super) fn measure(
    lab: &Lab,
    database: &str,
    first: i64,
    rate: u32,
    time: Duration,
) -> Result<Times> {
    let count = (f64::from(rate) * time.as_secs_f64()) as usize;
    let (written, seen) = thread::scope(|scope| {
        let reader = scope.spawn(|| read(&lab.target, database, first, count));
        let writer = scope.spawn(|| write(&lab.source, first, count, rate));
        (writer.join(), reader.join())
    });
    let written = written.ok().context("the writer panicked")??;
    let seen = seen.ok().context("the reader panicked")??;
    // A reader may see a row before its writer is told: then the reply was the slower one.
    let pairs = written.iter().zip(&seen).skip(count / 10);
    let mut took: Vec<_> =
        pairs.map(|(done, seen)| seen.saturating_duration_since(*done)).collect();
    took.sort_unstable();
    Ok(Times { written: i64::try_from(count)?, took })
}

fn write(source: &Server, first: i64, count: usize, rate: u32) -> Result<Vec<Instant>> {
    alone(source, SOURCE, async |session| {
        let insert = "INSERT INTO customers VALUES ($1, 'Customer', 'customer@mail.example.com', \
                      100, 'active', '{\"street\": \"1 Long Winding Street\"}', now())";
        let insert = session.client().prepare(insert).await?;
        let mut done = Vec::with_capacity(count);
        let began = Instant::now();
        for (key, turn) in (first..).zip(0..u32::try_from(count)?) {
            let due = began + Duration::from_secs(1) * turn / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            session.client().execute(&insert, &[&key]).await?;
            done.push(Instant::now());
        }
        let reached = count as f64 / began.elapsed().as_secs_f64();
        if reached < f64::from(rate) * 0.95 {
            eprintln!("    (the source managed only {reached:.0} transactions a second)");
        }
        Ok(done)
    })
}

fn read(target: &Server, database: &str, first: i64, count: usize) -> Result<Vec<Instant>> {
    alone(target, database, async |session| {
        let look = "SELECT id FROM customers WHERE id > $1 ORDER BY id";
        let look = session.client().prepare(look).await?;
        let mut seen = Vec::with_capacity(count);
        let mut last = first - 1;
        let mut news = Instant::now();
        while seen.len() < count {
            let rows = session.client().query(&look, &[&last]).await?;
            let now = Instant::now();
            for row in &rows {
                let key: i64 = row.get(0);
                if key != last + 1 {
                    bail!("row {} is missing before row {key}", last + 1);
                }
                last = key;
                seen.push(now);
                news = now;
            }
            ensure!(news.elapsed() < PATIENCE, "row {} does not arrive", last + 1);
            thread::sleep(LOOK_EVERY);
        }
        Ok(seen)
    })
}

/// Runs something on a connection whose runtime is this thread and nobody else's.
fn alone<T>(
    server: &Server,
    database: &str,
    work: impl AsyncFnOnce(&Session) -> Result<T>,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let session = server.session(database).await;
        work(&session).await
    })
}
