//! Partitions: each tells its rows apart in its own way, and comes and goes without a word in the
//! stream.

use crate::support::{Harness, NAME};
use rowcast_core::{Diagnose, Op, Severity, SourceError, Start};
use rowcast_testkit::source_suite::{Capture, SourceHarness, spec};
use rowcast_testkit::wait::LONG;
use std::time::Duration;

const LARGE: u64 = 4 << 20;

/// Two months and a subpartitioned one, with rows in all of them.
const ROWS: &str = "CREATE TABLE t (id int, at date, v text, PRIMARY KEY (id, at)) \
                      PARTITION BY RANGE (at); \
     CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2026-02-01'); \
     CREATE TABLE t2 PARTITION OF t FOR VALUES FROM ('2026-02-01') TO ('2026-03-01'); \
     CREATE TABLE m PARTITION OF t FOR VALUES FROM ('2026-03-01') TO ('2026-04-01') \
       PARTITION BY RANGE (id); \
     CREATE TABLE m1 PARTITION OF m DEFAULT; \
     INSERT INTO t SELECT i, '2026-01-01'::date + i, 'v' FROM generate_series(0, 85) i";

/// Takes batches until the copy of `t` is what the table is.
async fn settle(capture: &mut Capture<'_>, harness: &Harness) {
    let settled = async {
        loop {
            capture.step_within(Duration::from_millis(100)).await;
            if capture.copies.is_open() || !capture.copies.is_complete("t") {
                continue;
            }
            let schema = capture.copies.newest_schema("t").expect("it is complete");
            let columns: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
            let mut is = capture.copies.visible("t");
            let mut should = harness.rows("t", &columns).await;
            is.sort();
            should.sort();
            if is == should {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, settled).await.expect("the copy follows");
}

/// The error that capture ends with.
async fn ends(capture: &mut Capture<'_>) -> SourceError {
    let ended = async {
        loop {
            match capture.source.next().await {
                Ok(batch) => {
                    capture.copies.fold(&batch);
                    capture.batches.push(batch);
                }
                Err(error) => return error,
            }
        }
    };
    tokio::time::timeout(LONG, ended).await.expect("capture ends")
}

fn reads(capture: &Capture<'_>, from: usize) -> usize {
    let events = capture.batches[from..].iter().flat_map(|b| &b.events);
    events.filter(|e| e.op == Op::Read).count()
}

/// What keeps a partitioned table from being published, and what mends it.
const UNFIT: [(&str, &str, &str); 5] = [
    (
        "REPLICA IDENTITY NOTHING",
        "ALTER TABLE t1 REPLICA IDENTITY NOTHING",
        "ALTER TABLE \"public\".\"t1\" REPLICA IDENTITY DEFAULT",
    ),
    (
        "(n)",
        "ALTER TABLE t ADD n serial NOT NULL; CREATE UNIQUE INDEX other ON m1 (n); \
         ALTER TABLE m1 REPLICA IDENTITY USING INDEX other",
        "ALTER TABLE \"public\".\"m1\" REPLICA IDENTITY DEFAULT",
    ),
    (
        "no primary key",
        "CREATE UNIQUE INDEX i ON t (id, at); ALTER TABLE t REPLICA IDENTITY USING INDEX i; \
         ALTER TABLE t1 REPLICA IDENTITY FULL; ALTER TABLE m1 REPLICA IDENTITY FULL; \
         ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ALTER id SET NOT NULL, ALTER at SET NOT NULL",
        "ALTER TABLE \"public\".\"t2\" REPLICA IDENTITY USING INDEX \"t2_id_at_idx\"",
    ),
    (
        "an index which is gone",
        "CREATE UNIQUE INDEX other ON t2 (at, id); ALTER TABLE t2 REPLICA IDENTITY USING INDEX other; \
         DROP INDEX other",
        "ALTER TABLE \"public\".\"t2\" REPLICA IDENTITY DEFAULT",
    ),
    ("unlogged", "ALTER TABLE t2 SET UNLOGGED", "ALTER TABLE \"public\".\"t2\" SET LOGGED"),
];

#[tokio::test]
async fn a_partition_that_cannot_be_told_is_refused_before_anything_is_published() {
    for (said, alter, mend) in &UNFIT {
        println!("{said}");
        let harness = Harness::fresh().await;
        harness.sql(&format!("{ROWS}; {alter}")).await;
        let spec = spec(&harness, &["t"], LARGE);
        let findings = harness.database().check_source(&spec).await;
        let error = findings.iter().find(|f| f.severity == Severity::Error);
        let error = error.unwrap_or_else(|| panic!("{said}: {findings:#?}"));
        assert!(error.message.contains(said), "{error:?}");
        let fix = error.fix.clone().unwrap().statements;
        assert_eq!(fix, [mend.to_string()]);
        let started = Capture::start(&harness, spec.clone(), Start::Beginning).await;
        let refused = started.err().expect("it does not start");
        assert!(matches!(&refused, SourceError::Schema { what, .. } if what.contains(said)));
        assert!(refused.help().contains(mend), "{}", refused.help());
        let published = harness.sql("SELECT count(*) FROM pg_publication_rel").await;
        assert_eq!(published[0][0].as_deref(), Some("0"));
        harness.database().fix(&fix).await.unwrap();
        let findings = harness.database().check_source(&spec).await;
        assert!(findings.iter().all(|f| f.severity == Severity::Good), "{findings:#?}");
        let mut capture = Capture::start(&harness, spec, Start::Beginning).await.unwrap();
        capture.catch_up().await;
        // The publisher's own writes go on, and all of them are told.
        harness.sql("UPDATE t SET id = -id, v = 'w'; DELETE FROM t WHERE id % 3 = 0").await;
        settle(&mut capture, &harness).await;
    }
}

#[tokio::test]
async fn a_partition_that_stops_being_told_is_taken_out_and_read_again_when_it_is_mended() {
    let plain = ("no primary key", "ALTER TABLE t DROP CONSTRAINT t_pkey", "");
    for (i, (said, alter, mend)) in UNFIT.iter().chain([&plain]).enumerate() {
        println!("{said}");
        let harness = Harness::fresh().await;
        // The last one is no partitioned table at all.
        if i < 5 {
            harness.sql(ROWS).await;
        } else {
            harness
                .sql(
                    "CREATE TABLE t (id int, at date, v text, PRIMARY KEY (id, at)); \
                     INSERT INTO t SELECT i, '2026-01-01', 'v' FROM generate_series(0, 85) i",
                )
                .await;
        }
        let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
        capture.catch_up().await;
        harness.sql(alter).await;
        let error = ends(&mut capture).await;
        assert!(
            matches!(&error, SourceError::Schema { what, .. } if what.contains(said)),
            "{error:?}"
        );
        assert!(error.help().contains("stays out of publication"), "{}", error.help());
        // The publisher's own writes go on.
        harness
            .sql("UPDATE t SET v = 'changed' WHERE id % 2 = 0; DELETE FROM t WHERE id < 9")
            .await;
        let mend = if i < 5 { mend } else { "ALTER TABLE t ADD PRIMARY KEY (id, at)" };
        harness.sql(mend).await;
        let mut capture = capture.stop().go_on().await;
        settle(&mut capture, &harness).await;
        harness.sql("UPDATE t SET id = -id; DELETE FROM t WHERE id % 3 = 0").await;
        settle(&mut capture, &harness).await;
    }
}

/// What brings rows, or takes some, without a word in the stream.
const UNTOLD: [(&str, &str); 9] = [
    ("truncated", "TRUNCATE t1"),
    ("truncated and filled", "TRUNCATE m1; INSERT INTO t VALUES (3, '2026-03-03', 'after')"),
    ("detached", "ALTER TABLE t DETACH PARTITION t2"),
    ("dropped", "DROP TABLE m"),
    (
        "attached with rows",
        "CREATE TABLE t3 (LIKE t INCLUDING ALL); INSERT INTO t3 VALUES (1, '2026-05-01', 'was there'); \
         ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01')",
    ),
    (
        "attached at once with rows",
        "BEGIN; CREATE TABLE t3 (LIKE t INCLUDING ALL); \
         INSERT INTO t3 VALUES (1, '2026-05-01', 'was there'); \
         ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01'); COMMIT",
    ),
    (
        "changed while it was detached",
        "ALTER TABLE t DETACH PARTITION t2; UPDATE t2 SET v = 'changed' WHERE id % 2 = 0; \
         ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    ),
    (
        "a whole branch changed while it was detached",
        "ALTER TABLE t DETACH PARTITION m; DELETE FROM m WHERE id % 2 = 0; \
         ALTER TABLE t ATTACH PARTITION m FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')",
    ),
    (
        "here for a moment",
        "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM ('2026-05-01') TO ('2026-06-01'); \
         INSERT INTO t VALUES (1, '2026-05-01', 'for a moment'); DROP TABLE t3",
    ),
];

#[tokio::test]
async fn what_partitions_bring_and_take_is_followed() {
    for (what, change) in UNTOLD {
        for away in [false, true] {
            println!("{what}, {away}");
            let harness = Harness::fresh().await;
            harness.sql(ROWS).await;
            let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
            capture.catch_up().await;
            if away {
                let stopped = capture.stop();
                harness.sql(change).await;
                capture = stopped.go_on().await;
            } else {
                harness.sql(change).await;
            }
            capture.catch_up().await;
            settle(&mut capture, &harness).await;
            let n = capture.batches.len();
            harness.sql("UPDATE t SET v = 'w'; DELETE FROM t WHERE id % 3 = 0").await;
            settle(&mut capture, &harness).await;
            capture = capture.restart_after(usize::MAX).await;
            harness.sql("UPDATE t SET v = 'x'").await;
            settle(&mut capture, &harness).await;
            // 14 does not tell of what was attached, so it is read until the stream is known to tell.
            if harness.server.version() > 14 {
                assert_eq!(reads(&capture, n), 0, "{what}: it was read once, not over and over");
            }
        }
    }
}

#[tokio::test]
async fn what_leaves_a_partition_s_rows_as_they_are_reads_nothing_again() {
    let harness = Harness::fresh().await;
    harness.sql(ROWS).await;
    let mut capture = Capture::begin(&harness, &["t"], LARGE).await;
    capture.catch_up().await;
    let n = capture.batches.len();
    for (i, change) in [
        "VACUUM FULL t1",
        "CLUSTER m1 USING m1_pkey",
        "VACUUM FULL",
        "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM ('2026-05-01') TO ('2026-06-01'); \
         INSERT INTO t VALUES (1, '2026-05-01', 'told')",
        "CREATE TABLE t4 (LIKE t INCLUDING ALL); \
         ALTER TABLE t ATTACH PARTITION t4 FOR VALUES FROM ('2026-06-01') TO ('2026-07-01')",
        "INSERT INTO t VALUES (1, '2026-06-01', 'told')",
        "CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10000) TO (20000)",
        "INSERT INTO t VALUES (10000, '2026-03-03', 'told')",
        "CREATE INDEX ON t (v)",
    ]
    .into_iter()
    .enumerate()
    {
        println!("{change}");
        harness.server.sql(NAME, change).await;
        harness.sql(&format!("INSERT INTO t VALUES ({}, '2026-02-02', 'more')", 1000 + i)).await;
        settle(&mut capture, &harness).await;
        if i % 2 == 0 {
            capture = capture.restart_after(usize::MAX).await;
            capture.catch_up().await;
        }
    }
    // Longer than it takes to look at the tables.
    let looked = tokio::time::Instant::now() + Duration::from_secs(11);
    while tokio::time::Instant::now() < looked {
        capture.step_within(Duration::from_millis(200)).await;
    }
    settle(&mut capture, &harness).await;
    assert_eq!(reads(&capture, n), 0);
}
