//! How fast a backlog leaves a server, into a consumer that discards it.
//!
//! `cargo bench -p rowcast-postgres --bench capture -- URL [EVENTS] [EVENTS PER TRANSACTION]`
//! makes a table `capture_bench` in that database, and a slot that it drops again. Without a URL it
//! does nothing, so that a run of all benches needs no server.

use rowcast_core::{
    ByteSize, Database, Op, Point, Position, Publish, Resume, Source, SourceSpec, Start,
};
use rowcast_postgres::PostgresDatabase;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let Some(url) = arguments.first() else {
        println!("give the URL of a database with wal_level=logical");
        return;
    };
    let number = |i: usize, or: u64| arguments.get(i).and_then(|n| n.parse().ok()).unwrap_or(or);
    let (events, each) = (number(1, 200_000), number(2, 1).max(1));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(url, events, each));
}

async fn measure(url: &str, events: u64, each: u64) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    let background = async { drop(connection.await) };
    tokio::select! {
        () = background => panic!("the connection ended"),
        () = run(&client, url, events, each) => {}
    }
}

async fn run(client: &Client, url: &str, events: u64, each: u64) {
    let table = "DROP TABLE IF EXISTS capture_bench; CREATE TABLE capture_bench (id bigint PRIMARY \
                 KEY, name text, email text, credit_limit int, status text, address jsonb, \
                 updated_at timestamptz)";
    client.batch_execute(table).await.expect("a table");
    let database = PostgresDatabase::from_url(url).expect("an address");
    let spec = SourceSpec {
        service: "capture-bench".parse().expect("a name"),
        entities: vec![Publish {
            entity: "capture_bench".parse().expect("a name"),
            table: "public.capture_bench".into(),
            fields: None,
            masks: Default::default(),
        }],
        batch_bytes_max: ByteSize::mib(1),
    };
    let mut resume = copy(&database, &spec, client, 0).await;
    let insert = format!(
        "DO $$ BEGIN FOR t IN 1..{} LOOP INSERT INTO capture_bench SELECT i, 'name ' || i, \
         'someone' || i || '@example.org', i % 10000, 'active', \
         jsonb_build_object('city', 'Springfield', 'street', 'Evergreen Terrace ' || i, 'zip', i), \
         now() FROM generate_series((t - 1) * {each} + 1, t * {each}) i; COMMIT; END LOOP; END $$",
        events / each
    );
    for (what, sql) in [
        ("inserts", insert),
        ("updates", "UPDATE capture_bench SET credit_limit = credit_limit + 1".to_string()),
    ] {
        client.batch_execute("SET synchronous_commit = off").await.expect("a setting");
        client.batch_execute(&sql).await.expect("a backlog");
        let (seen, took, reached) = drain(&database, &spec, resume.clone()).await;
        report(what, seen, took);
        resume.position = reached;
    }
    let began = Instant::now();
    copy(&database, &spec, client, events).await;
    report("copied rows", events / each * each, began.elapsed());
    let session =
        client.batch_execute("DROP TABLE capture_bench; DROP PUBLICATION rowcast_capture_bench");
    session.await.expect("nothing stays");
    drop_slot(client).await;
}

fn report(what: &str, count: u64, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    println!("{what}: {count} in {:.2} s, {rate:.0} a second", took.as_secs_f64());
}

async fn drop_slot(client: &Client) {
    let sql = "SELECT pg_drop_replication_slot('rowcast_capture_bench') FROM pg_replication_slots \
               WHERE slot_name = 'rowcast_capture_bench'";
    while client.batch_execute(sql).await.is_err() {
        tokio::task::yield_now().await;
    }
}

async fn started(database: &PostgresDatabase, spec: &SourceSpec, start: Start) -> Box<dyn Source> {
    let mut source = database.source(spec.clone());
    // The last one's connection may still be dying.
    while let Err(error) = source.start(start.clone()).await {
        assert!(matches!(error, rowcast_core::SourceError::Busy { .. }), "{error:?}");
    }
    source
}

/// Takes a first copy and tells where the stream goes on.
async fn copy(
    database: &PostgresDatabase,
    spec: &SourceSpec,
    client: &Client,
    rows: u64,
) -> Resume {
    drop_slot(client).await;
    let mut source = started(database, spec, Start::Afresh).await;
    let mut seen = 0;
    loop {
        let batch = source.next().await.expect("a batch");
        seen += batch.events.iter().filter(|e| e.op == Op::Read).count() as u64;
        if batch.snapshots.iter().any(|s| s.done) {
            assert!(seen >= rows.min(1), "rows were there");
            return Resume { position: batch.until, snapshots: batch.snapshots };
        }
    }
}

async fn drain(
    database: &PostgresDatabase,
    spec: &SourceSpec,
    resume: Resume,
) -> (u64, Duration, Position) {
    let mark: Point = database.mark(&spec.service).await.expect("a mark");
    let began = Instant::now();
    let mut source = started(database, spec, Start::After(resume)).await;
    let mut seen = 0;
    loop {
        let batch = source.next().await.expect("a batch");
        seen += batch.events.len() as u64;
        if batch.until.covers(mark) {
            return (seen, began.elapsed(), batch.until);
        }
    }
}
