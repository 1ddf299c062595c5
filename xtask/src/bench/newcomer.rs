//! What those who are there notice of one more who comes: the publisher, and three subscribers that
//! are live under a steady load while a fourth is built.
//!
//! No reader polls. Both servers keep the time of every commit, and have one clock: a row's way is
//! the time between its commit here and its commit there, read when all is over. The native one
//! gives its commits the time of the source's, so its copies note themselves when a row is written;
//! the commit, one row's, follows at once.

use super::Peer;
use super::backlog::{arrived, fill, mark};
use super::contender::{Contender, Setup};
use super::lab::{Lab, SOURCE};
use super::measure::finish;
use super::report::{Metric, Sample};
use anyhow::{Context, Result, ensure};
use rowcast_testkit::postgres::{Server, Session};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LIVE: usize = 3;
/// Transactions a second.
const RATE: u32 = 1_000;
/// How long a stranger works at a time, and how often.
const STRANGER_WORKS: Duration = Duration::from_micros(1_250);
const STRANGER_COMES: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SETTINGS: &[(&str, &str)] = &[("track_commit_timestamp", "on"), ("log_connections", "on")];
const STATEMENTS: (&str, &str) = ("shared_preload_libraries", "pg_stat_statements");

/// How much of it.
pub(super) struct Size {
    /// Rows that are there when it begins.
    pub(super) rows: u64,
    /// Time before it, and after.
    pub(super) window: Duration,
}

/// Measures it once for each peer, on servers of its own.
pub(super) async fn run(lab: &Lab, peers: &[Peer], size: &Size) -> Result<Vec<Sample>> {
    let found = "SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements'";
    let counts = !lab.source.sql("postgres", found).await.is_empty();
    let settings = [SETTINGS, if counts { &[STATEMENTS] } else { &[] }].concat();
    let lab = Lab::start_with(lab.binary.clone(), &settings).await?;
    let mut samples = Vec::new();
    for peer in peers {
        lab.fresh().await?;
        if counts {
            lab.source.sql(SOURCE, "CREATE EXTENSION pg_stat_statements").await;
        }
        samples.extend(measure(&lab, *peer, size, counts).await?);
    }
    Ok(samples)
}

async fn measure(lab: &Lab, peer: Peer, size: &Size, counts: bool) -> Result<Vec<Sample>> {
    fill(&lab.source.session(SOURCE).await, size.rows).await;
    let setup = Setup { subscribers: LIVE, ..Setup::ONE };
    let mut contender = Contender::with_newcomer(peer, lab, setup).await?;
    contender.copy().await?;
    let mut databases: Vec<String> = contender.databases()[..LIVE].to_vec();
    if peer == Peer::Native {
        on_each(lab, &databases, "ALTER TABLE customers ADD seen timestamptz").await;
        let note = "ALTER TABLE customers ALTER seen SET DEFAULT clock_timestamp()";
        on_each(lab, &databases, note).await;
    }
    lab.settle(&databases).await;
    contender.resume().await;
    let watch = lab.watch(&databases).await;
    lab.source.sql(SOURCE, &mark(-2)).await;
    super::backlog::arrived_at(lab, &watch, -2).await?;
    drop(watch);

    let newcomer = format!("bench_{}_{LIVE}", peer.name());
    let stop = AtomicBool::new(false);
    let session = lab.source.session(SOURCE).await;
    let publisher = Publisher { server: &lab.source, session, counts };
    let seen = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(lab, size.rows, &stop));
        let seen = tokio::task::block_in_place(|| {
            let here = tokio::runtime::Handle::current();
            here.block_on(watch_it_come(&publisher, &mut contender, &newcomer, size.window))
        });
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().ok().context("the writer panicked")?;
        written.and(seen)
    })?;
    let live = databases.clone();
    databases.push(newcomer);
    lab.source.sql(SOURCE, &mark(-1)).await;
    arrived(lab, &lab.watch(&databases).await).await?;
    let mut values = counted(&seen);
    values.extend(ways(lab, peer, size.rows, &seen, &live).await?);
    contender.pause().await?;
    if peer == Peer::Native {
        on_each(lab, &live, "ALTER TABLE customers DROP seen").await;
    }
    lab.compare(&databases).await?;
    finish(vec![contender]).await?;
    Ok(values.into_iter().map(|(metric, value)| Sample::new(peer, metric, value)).collect())
}

async fn on_each(lab: &Lab, databases: &[String], statement: &str) {
    for name in databases {
        lab.target.sql(name, statement).await;
    }
}

/// The publisher before, while, and after the fourth came.
struct Watched {
    /// When it began, a stranger came, the fourth subscribed, it was live, and when it ended; by the
    /// server's clock.
    times: [f64; 5],
    /// What the publisher did at the beginning, and while the fourth came.
    quiet: Load,
    busy: Load,
}

async fn watch_it_come(
    publisher: &Publisher<'_>,
    contender: &mut Contender<'_>,
    newcomer: &str,
    window: Duration,
) -> Result<Watched> {
    tokio::time::sleep(window / 4).await;
    let (began, quiet) = publisher.during(tokio::time::sleep(window)).await?;
    let stranger = publisher.now().await?;
    beside_a_stranger(window).await?;
    let (joined, busy) = publisher.during(contender.join(newcomer)).await?;
    busy.result?;
    let live = publisher.now().await?;
    tokio::time::sleep(window).await;
    let ended = publisher.now().await?;
    Ok(Watched {
        times: [began, stranger, joined, live, ended],
        quiet: quiet.load,
        busy: busy.load,
    })
}

/// Lets something pass that has nothing to do with the subscribers, and takes an eighth of a core in
/// short turns. What the others notice of that is what this machine lets them notice of anything.
async fn beside_a_stranger(window: Duration) -> Result<()> {
    let stranger = std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < window {
            let turn = Instant::now();
            while turn.elapsed() < STRANGER_WORKS {
                std::hint::spin_loop();
            }
            std::thread::sleep(STRANGER_COMES.saturating_sub(turn.elapsed()));
        }
    });
    tokio::time::sleep(window).await;
    stranger.join().ok().context("the stranger panicked")
}

/// What a publisher's server says of itself.
struct Publisher<'a> {
    server: &'a Server,
    session: Session,
    /// Whether it counts statements.
    counts: bool,
}

/// What a publisher did in some time.
#[derive(Debug)]
struct Load {
    /// The most connections at any look, and the most slots.
    connections: i64,
    slots: i64,
    /// Connections that were made over TCP, however short.
    sessions: i64,
    /// Seconds that it took.
    took: f64,
    /// How often each statement that was run at all was run; not the writer's, not ours. `None`
    /// when the server does not count them.
    calls: Option<BTreeMap<String, i64>>,
}

/// What something returned, and the publisher's load meanwhile.
struct During<T> {
    result: T,
    load: Load,
}

impl Publisher<'_> {
    /// Does something. Also says when it began.
    async fn during<T>(&self, work: impl Future<Output = T>) -> Result<(f64, During<T>)> {
        let (before, sessions) = (self.calls().await?, self.sessions());
        let (began, ..) = self.look().await?;
        let (mut connections, mut slots) = (0, 0);
        let mut work = std::pin::pin!(work);
        let result = loop {
            let (_, connected, kept) = self.look().await?;
            (connections, slots) = (connections.max(connected), slots.max(kept));
            tokio::select! {
                result = &mut work => break result,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        let (ended, ..) = self.look().await?;
        let mut calls = self.calls().await?;
        for (statement, calls) in &mut calls {
            *calls -= before.get(statement).copied().unwrap_or_default();
        }
        calls.retain(|_, calls| *calls > 0);
        let calls = self.counts.then_some(calls);
        let (sessions, took) = (self.sessions() - sessions, ended - began);
        let load = Load { connections, slots, sessions, took, calls };
        Ok((began, During { result, load }))
    }

    fn sessions(&self) -> i64 {
        let log = self.server.log();
        i64::try_from(log.matches("connection received: host=127.0.0.1").count())
            .unwrap_or(i64::MAX)
    }

    async fn now(&self) -> Result<f64> {
        self.look().await.map(|(now, ..)| now)
    }

    /// Its clock, connections over TCP, and slots.
    async fn look(&self) -> Result<(f64, i64, i64)> {
        let look = "SELECT extract(epoch FROM clock_timestamp()) AS bench_look, \
                    (SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL), \
                    (SELECT count(*) FROM pg_replication_slots)";
        let rows = self.session.try_sql(look).await?;
        let number = |at: usize| rows[0][at].as_deref().unwrap_or_default().parse::<i64>();
        let now = rows[0][0].as_deref().unwrap_or_default().parse()?;
        Ok((now, number(1)?, number(2)?))
    }

    async fn calls(&self) -> Result<BTreeMap<String, i64>> {
        if !self.counts {
            return Ok(BTreeMap::new());
        }
        let calls = "SELECT queryid, sum(calls)::bigint AS bench_look FROM pg_stat_statements \
                     WHERE query NOT LIKE 'INSERT INTO customers%' \
                     AND query NOT LIKE '%bench_look%' GROUP BY 1";
        let rows = self.session.try_sql(calls).await?;
        let pair = |row: Vec<Option<String>>| {
            let calls = row[1].as_deref().unwrap_or_default().parse()?;
            Ok((row[0].clone().unwrap_or_default(), calls))
        };
        rows.into_iter().map(pair).collect()
    }
}

/// Inserts rows at the rate until told to stop.
fn write(lab: &Lab, rows: u64, stop: &AtomicBool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let session = lab.source.session(SOURCE).await;
        let insert = "INSERT INTO customers VALUES ($1, 'Customer', 'customer@mail.example.com', \
                      100, 'active', '{\"street\": \"1 Long Winding Street\"}', now())";
        let insert = session.client().prepare(insert).await?;
        let began = Instant::now();
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let due = began + Duration::from_secs(1) * turn / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            turn += 1;
            let key = i64::try_from(rows)? + i64::from(turn);
            session.client().execute(&insert, &[&key]).await?;
        }
        let reached = f64::from(turn) / began.elapsed().as_secs_f64();
        if reached < f64::from(RATE) * 0.95 {
            eprintln!("    (the source managed only {reached:.0} transactions a second)");
        }
        Ok(())
    })
}

fn counted(seen: &Watched) -> Vec<(Metric, f64)> {
    let (quiet, busy) = (&seen.quiet, &seen.busy);
    let [.., joined, live, _] = seen.times;
    let mut values = vec![
        (Metric::JoinSeconds, live - joined),
        (Metric::MoreConnections, (busy.connections - quiet.connections) as f64),
        (Metric::MoreSlots, (busy.slots - quiet.slots) as f64),
        (Metric::SessionsBefore, quiet.sessions as f64),
        (Metric::SessionsDuring, busy.sessions as f64),
    ];
    if let (Some(before), Some(during)) = (&quiet.calls, &busy.calls) {
        let new = during.keys().filter(|statement| !before.contains_key(*statement));
        let rate = |calls: &BTreeMap<String, i64>, took| calls.values().sum::<i64>() as f64 / took;
        values.extend([
            (Metric::NewStatements, new.count() as f64),
            (Metric::StatementsBefore, rate(before, quiet.took)),
            (Metric::StatementsDuring, rate(during, busy.took)),
        ]);
    }
    values
}

/// How long the three took to see what was committed before, while, and after the fourth came.
async fn ways(
    lab: &Lab,
    peer: Peer,
    rows: u64,
    seen: &Watched,
    databases: &[String],
) -> Result<Vec<(Metric, f64)>> {
    const COMMIT: &str = "pg_xact_commit_timestamp(xmin)";
    let written = times(&lab.source.session(SOURCE).await, COMMIT, rows).await?;
    let arrival = if peer == Peer::Native { "seen" } else { COMMIT };
    let mut took: [Vec<f64>; 4] = Default::default();
    let [began, stranger, joined, live, ended] = seen.times;
    let windows: [Range<f64>; 4] = [began..stranger, stranger..joined, joined..live, live..ended];
    for name in databases {
        let visible = times(&lab.target.session(name).await, arrival, rows).await?;
        for (key, committed) in &written {
            let visible = visible.get(key).with_context(|| format!("{name} lacks row {key}"))?;
            if let Some(at) = windows.iter().position(|window| window.contains(committed)) {
                took[at].push((visible - committed) * 1e3);
            }
        }
    }
    let metrics = [
        [Metric::BeforeP50, Metric::BeforeP99],
        [Metric::StrangerP50, Metric::StrangerP99],
        [Metric::DuringP50, Metric::DuringP99],
        [Metric::AfterP50, Metric::AfterP99],
    ];
    let mut values = Vec::new();
    for (metrics, took) in metrics.into_iter().zip(&mut took) {
        ensure!(!took.is_empty(), "nothing was written in one of the windows");
        took.sort_unstable_by(f64::total_cmp);
        for (metric, share) in metrics.into_iter().zip([0.5, 0.99]) {
            values.push((metric, took[((took.len() - 1) as f64 * share).round() as usize]));
        }
    }
    Ok(values)
}

/// A time of each row beyond the first `rows`, by key.
async fn times(session: &Session, time: &str, rows: u64) -> Result<BTreeMap<i64, f64>> {
    let query = format!("SELECT id, extract(epoch FROM {time}) FROM customers WHERE id > {rows}");
    let mut times = BTreeMap::new();
    for row in session.try_sql(&query).await? {
        let text = |at: usize| row[at].as_deref().context("a row without its time");
        times.insert(text(0)?.parse()?, text(1)?.parse()?);
    }
    Ok(times)
}
