//! A publication that somebody else alters: nothing that it hid meanwhile is missing for long.

use crate::schema_change::settle;
use crate::support::Harness;
use rowcast_core::{Op, Severity};
use rowcast_testkit::source_suite::{Capture, SourceHarness, Stopped, spec};

const LARGE: u64 = 4 << 20;

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, n int, d numeric); \
                    INSERT INTO t SELECT i, 'v' || i, i, i / 7.0 FROM generate_series(1, 50) i; \
                    CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)";
const PARTS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, n int, d numeric) \
                     PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t DEFAULT; \
                     INSERT INTO t SELECT i, 'v' || i, i, i / 7.0 FROM generate_series(1, 50) i; \
                     CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)";
const WRITES: &str = "UPDATE t SET n = n + 1000 WHERE id < 20; DELETE FROM t WHERE id > 40; \
                      INSERT INTO t VALUES (60, 'new', 1, 1)";

/// One way to alter a publication so that it hides changes.
struct Case {
    what: &'static str,
    rows: &'static str,
    alter: &'static str,
    back: &'static str,
    since: u32,
}

const CASES: [Case; 8] = [
    Case {
        what: "operations left out",
        rows: ROWS,
        alter: "ALTER PUBLICATION rowcast_shop SET (publish = 'insert')",
        back: "ALTER PUBLICATION rowcast_shop SET (publish = 'insert, update, delete, truncate')",
        since: 14,
    },
    Case {
        what: "partitions under their own names",
        rows: PARTS,
        alter: "ALTER PUBLICATION rowcast_shop SET (publish_via_partition_root = false)",
        back: "ALTER PUBLICATION rowcast_shop SET (publish_via_partition_root = true)",
        since: 14,
    },
    Case {
        what: "a row filter",
        rows: ROWS,
        alter: "ALTER PUBLICATION rowcast_shop SET TABLE ONLY t WHERE (id > 15), ONLY other",
        back: "ALTER PUBLICATION rowcast_shop SET TABLE ONLY t, ONLY other",
        since: 15,
    },
    Case {
        what: "a column list",
        rows: ROWS,
        alter: "ALTER PUBLICATION rowcast_shop SET TABLE ONLY t (id, v), ONLY other",
        back: "ALTER PUBLICATION rowcast_shop SET TABLE ONLY t, ONLY other",
        since: 15,
    },
    Case {
        what: "a table taken out",
        rows: ROWS,
        alter: "ALTER PUBLICATION rowcast_shop DROP TABLE t",
        back: "ALTER PUBLICATION rowcast_shop ADD TABLE ONLY t",
        since: 14,
    },
    Case {
        what: "renamed away",
        rows: ROWS,
        alter: "ALTER PUBLICATION rowcast_shop RENAME TO away",
        back: "ALTER PUBLICATION away RENAME TO rowcast_shop",
        since: 14,
    },
    Case {
        what: "dropped and made again",
        rows: ROWS,
        alter: "DROP PUBLICATION rowcast_shop",
        back: "CREATE PUBLICATION rowcast_shop FOR TABLE ONLY t, ONLY other \
               WITH (publish_via_partition_root = true)",
        since: 14,
    },
    Case {
        what: "other tables in it instead",
        rows: ROWS,
        alter: "ALTER PUBLICATION rowcast_shop SET TABLE ONLY other",
        back: "ALTER PUBLICATION rowcast_shop ADD TABLE ONLY t",
        since: 14,
    },
];

/// When it is altered: behind a capture that runs, or that is stopped; and whether it is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Running,
    RunningAndBack,
    Stopped,
    StoppedAndBack,
}

async fn alter(harness: &Harness, case: &Case, back: bool) {
    harness.sql(case.alter).await;
    harness.sql(WRITES).await;
    if back {
        harness.sql(case.back).await;
    }
}

async fn nothing_is_missing(case: &Case, when: When) {
    let harness = Harness::fresh().await;
    if harness.server.version() < case.since {
        return println!("{}: not before {}", case.what, case.since);
    }
    harness.sql(case.rows).await;
    let mut capture = Capture::begin(&harness, &["t", "other"], LARGE).await;
    capture.catch_up().await;
    harness.sql("UPDATE t SET v = 'before' WHERE id = 1").await;
    capture.catch_up().await;
    let began = capture.batches.len();
    let back = matches!(when, When::RunningAndBack | When::StoppedAndBack);
    if matches!(when, When::Running | When::RunningAndBack) {
        alter(&harness, case, back).await;
    } else {
        let stopped: Stopped<'_> = capture.stop();
        alter(&harness, case, back).await;
        capture = stopped.go_on().await;
    }
    // More behind it, which alone would look as if all were well.
    harness.sql("UPDATE t SET d = 1 WHERE id = 2").await;
    settle(&mut capture, &harness).await;
    let dropped = capture.batches[began..].iter().any(|b| {
        let mut schemas = b.events.iter().filter(|e| e.op == Op::Schema).map(|e| b.schema(e));
        schemas.any(|s| s.entity.as_str() == "t" && s.columns.len() < 4)
    });
    assert!(!dropped, "{}: the source dropped no column", case.what);
    // It goes on, is read once and not over and over, and a restart believes what it has.
    for restart in [false, true] {
        capture.catch_up().await;
        let n = capture.batches.len();
        if restart {
            capture = capture.restart_after(n).await;
        }
        harness.sql("UPDATE t SET n = n + 1 WHERE id < 10").await;
        settle(&mut capture, &harness).await;
        let again = capture.batches[n..].iter().any(|b| b.events.iter().any(|e| e.op == Op::Read));
        assert!(!again, "{}: read once (restarted: {restart})", case.what);
    }
}

macro_rules! altered {
    ($($name:ident: $when:expr,)*) => {
        $(#[tokio::test]
        async fn $name() {
            for case in &CASES {
                println!("{} {:?}", case.what, $when);
                nothing_is_missing(case, $when).await;
            }
        })*
    };
}

altered! {
    what_an_altered_publication_hides_is_read_again: When::Running,
    what_it_hid_before_it_was_put_back_is_read_again: When::RunningAndBack,
    what_it_hides_since_a_stop_is_read_again: When::Stopped,
    what_it_hid_during_a_stop_is_read_again: When::StoppedAndBack,
}

#[tokio::test]
async fn check_tells_what_an_altered_publication_hides() {
    for case in &CASES {
        let harness = Harness::fresh().await;
        if harness.server.version() < case.since {
            continue;
        }
        println!("{}", case.what);
        harness.sql(case.rows).await;
        let mut capture = Capture::begin(&harness, &["t", "other"], LARGE).await;
        capture.catch_up().await;
        drop(capture);
        let spec = spec(&harness, &["t", "other"], LARGE);
        let told = async || {
            let findings = harness.database().check_source(&spec).await;
            let of = findings.into_iter().filter(|f| f.subject == "rowcast_shop");
            of.filter(|f| f.severity > Severity::Good).collect::<Vec<_>>()
        };
        assert_eq!(told().await, []);
        harness.sql(case.alter).await;
        let findings = told().await;
        if findings.is_empty() {
            // One that is gone is made at the next start, which reads everything again.
            let there = harness.sql("SELECT FROM pg_publication WHERE pubname = 'rowcast_shop'");
            assert!(there.await.is_empty(), "{}", case.what);
            continue;
        }
        for finding in &findings {
            let fix = finding.fix.as_ref().expect("a statement");
            assert!(fix.safe && !finding.help.is_empty(), "{finding:?}");
            harness.database().fix(&fix.statements).await.unwrap();
        }
        assert_eq!(told().await, [], "{}", case.what);
    }
}
