//! What an entity's `fields` leave out does not leave the database, and the publisher's own statements
//! go on whatever becomes of its keys.

use crate::support::{Harness, NAME};
use async_trait::async_trait;
use rowcast_core::{Database, Op, Row, RowWriter, Severity, SourceError, SourceSpec, Start};
use rowcast_postgres::PostgresDatabase;
use rowcast_testkit::source_suite::{Capture, Cell, SourceHarness, spec};
use rowcast_testkit::wait::{LONG, eventually};
use std::sync::Arc;
use std::time::Duration;

const LARGE: u64 = 4 << 20;
const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, secret text, v text, n int NOT NULL); \
                    INSERT INTO t SELECT i, 'clear', 'v' || i, i FROM generate_series(1, 50) i; \
                    CREATE TABLE other (id int PRIMARY KEY)";
const PARTS: &str = "CREATE TABLE t (id int PRIMARY KEY, secret text, v text, n int NOT NULL) \
                     PARTITION BY RANGE (id); \
                     CREATE TABLE t1 (n int NOT NULL, v text, id int NOT NULL PRIMARY KEY, secret text); \
                     ALTER TABLE t ATTACH PARTITION t1 DEFAULT; \
                     INSERT INTO t SELECT i, 'clear', 'v' || i, i FROM generate_series(1, 50) i; \
                     CREATE TABLE other (id int PRIMARY KEY)";

/// `t` without its column `secret`, and `other` whole.
fn fields(harness: &Harness) -> SourceSpec {
    let mut spec = spec(harness, &["t", "other"], LARGE);
    spec.entities[0].fields = Some(vec!["id".into(), "v".into()]);
    spec
}

async fn begin(harness: &Harness) -> Capture<'_> {
    let begun = Capture::start(harness, fields(harness), Start::Beginning).await;
    let mut capture = begun.unwrap_or_else(|e| panic!("{e:?}"));
    capture.catch_up().await;
    capture
}

/// Takes batches until the copy of `t` is what is published of the table.
async fn settle(capture: &mut Capture<'_>, harness: &Harness) {
    let settled = async {
        loop {
            capture.step_within(Duration::from_millis(100)).await;
            let Some(schema) = capture.copies.newest_schema("t").cloned() else { continue };
            if capture.copies.is_open() || !capture.copies.is_complete("t") {
                continue;
            }
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

/// Messages of the stream from here on that hold a text.
async fn in_the_stream(harness: &Harness, text: &str) -> String {
    let sql = format!(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('look', NULL, NULL, \
         'proto_version', '1', 'publication_names', 'rowcast_shop') \
         WHERE position('{text}'::bytea IN data) > 0"
    );
    harness.sql(&sql).await[0][0].clone().expect("a number")
}

async fn make_slot(harness: &Harness) {
    harness.sql("SELECT pg_create_logical_replication_slot('look', 'pgoutput')").await;
}

fn read_again(capture: &Capture<'_>, since: usize) -> bool {
    capture.batches[since..].iter().any(|b| b.events.iter().any(|e| e.op == Op::Read))
}

#[tokio::test]
async fn what_is_not_published_is_not_in_the_stream() {
    for rows in [ROWS, PARTS] {
        let harness = Harness::fresh().await;
        harness.sql(rows).await;
        let mut capture = begin(&harness).await;
        make_slot(&harness).await;
        harness
            .sql("UPDATE t SET secret = 'geheim', v = 'public'; DELETE FROM t WHERE id = 3")
            .await;
        settle(&mut capture, &harness).await;
        assert_ne!(in_the_stream(&harness, "public").await, "0");
        let seen = in_the_stream(&harness, "geheim").await;
        assert_eq!(seen == "0", harness.server.version() >= 15, "{seen}");
        let n = capture.batches.len();
        capture = capture.restart_after(n).await;
        harness.sql("INSERT INTO t VALUES (70, 'geheim', 'later', 70)").await;
        settle(&mut capture, &harness).await;
        assert!(!read_again(&capture, n));
    }
}

/// A publication as an earlier Rowcast made it, and what its log said.
#[tokio::test]
async fn a_publication_without_lists_gets_them_and_nothing_is_read_again() {
    let harness = Harness::fresh().await;
    harness.sql(ROWS).await;
    let capture = begin(&harness).await;
    let n = capture.batches.len();
    let stopped = capture.stop();
    harness.sql("ALTER PUBLICATION rowcast_shop SET TABLE ONLY t, ONLY other").await;
    let mut resume = stopped.copies.resume();
    for known in &mut resume.snapshots {
        let mut bytes = Vec::new();
        let mut early = RowWriter::new(&mut bytes);
        let row = Row(&known.cursor);
        row.values().take(6).for_each(|value| early.push(value.expect("a value")));
        assert!(bytes.len() < known.cursor.len(), "the log knows what published the rows");
        known.cursor = bytes.into();
    }
    let mut capture = stopped.start(Start::After(resume)).await;
    make_slot(&harness).await;
    harness.sql("UPDATE t SET secret = 'geheim', v = 'public'").await;
    settle(&mut capture, &harness).await;
    let seen = in_the_stream(&harness, "geheim").await;
    assert_eq!(seen == "0", harness.server.version() >= 15, "{seen}");
    assert!(!read_again(&capture, n), "nothing was hidden");
    // From here on it is known what published them.
    harness.sql("ALTER PUBLICATION rowcast_shop SET (publish = 'insert')").await;
    harness.sql("UPDATE t SET v = 'hidden' WHERE id = 4").await;
    settle(&mut capture, &harness).await;
}

#[tokio::test]
async fn another_choice_of_fields_is_another_list() {
    let harness = Harness::fresh().await;
    harness.sql(ROWS).await;
    let mut capture = begin(&harness).await;
    for fields in [Some(vec!["id", "v", "n"]), None, Some(vec!["id", "n"])] {
        let wanted = fields.map(|f| f.into_iter().map(String::from).collect());
        capture.spec.entities[0].fields = wanted;
        let n = capture.batches.len();
        capture = capture.restart_after(n).await;
        harness
            .sql("UPDATE t SET n = n + 1 WHERE id < 9; UPDATE t SET secret = 's' WHERE id = 1")
            .await;
        capture.catch_up().await;
        capture.assert_same("t").await;
    }
}

#[tokio::test]
async fn the_publishers_updates_go_on_when_its_key_is_another_one() {
    const KEYS: [&str; 2] = [
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (n)",
    ];
    for (rows, key) in KEYS.into_iter().flat_map(|key| [(ROWS, key), (PARTS, key)]) {
        if rows == PARTS && key == KEYS[1] {
            // A key of a partitioned table has to have the column that tells partitions apart.
            continue;
        }
        let harness = Harness::fresh().await;
        harness.sql(rows).await;
        let mut capture = begin(&harness).await;
        harness.sql(key).await;
        let update = "UPDATE t SET v = 'after' WHERE n = 7";
        eventually(LONG, "the server takes updates", async || {
            harness.server.try_sql(NAME, update).await.is_ok()
        })
        .await;
        if key == KEYS[0] {
            settle(&mut capture, &harness).await;
            continue;
        }
        // Its key is none of the published fields, which a person has to decide.
        let error = loop {
            match capture.source.next().await {
                Ok(batch) => capture.copies.fold(&batch),
                Err(error) => break error,
            }
        };
        let told = matches!(&error, SourceError::Schema { what, .. } if what.contains("\"n\""));
        assert!(told, "{error:?}");
        harness.sql("UPDATE t SET v = 'meanwhile' WHERE n = 8").await;
        let mut stopped = capture.stop();
        stopped.spec.entities[0].fields = Some(vec!["id".into(), "n".into(), "v".into()]);
        let mut capture = stopped.go_on().await;
        settle(&mut capture, &harness).await;
        harness.sql("UPDATE t SET v = 'later' WHERE n = 9").await;
        settle(&mut capture, &harness).await;
    }
}

#[tokio::test]
async fn check_finds_a_list_that_stops_the_publishers_updates() {
    let harness = Harness::fresh().await;
    harness.sql(ROWS).await;
    drop(begin(&harness).await);
    harness.sql("ALTER TABLE t REPLICA IDENTITY FULL").await;
    let update = "UPDATE t SET v = 'after' WHERE n = 7";
    let refused = harness.server.try_sql(NAME, update).await.is_err();
    assert_eq!(refused, harness.server.version() >= 15);
    let findings = harness.database().check_source(&fields(&harness)).await;
    let errors: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
    assert_eq!(errors.len(), usize::from(refused), "{errors:#?}");
    for finding in errors {
        assert!(finding.message.contains("updates and deletes of \"public\".\"t\""), "{finding:?}");
        let fix = finding.fix.as_ref().expect("a statement");
        assert!(fix.safe);
        harness.database().fix(&fix.statements).await.unwrap();
    }
    harness.sql(update).await;
}

#[tokio::test]
async fn a_publication_of_an_administrator_stays_as_it_is() {
    let whole = "WITH (publish_via_partition_root = true)";
    for (made, since) in [("FOR ALL TABLES", 14), ("FOR TABLES IN SCHEMA public", 15)] {
        for rows in [ROWS, PARTS] {
            let harness = Harness::fresh().await;
            if harness.server.version() < since {
                continue;
            }
            harness.sql(rows).await;
            harness.sql(&format!("CREATE PUBLICATION rowcast_shop {made} {whole}")).await;
            const LOOK: &str = "SELECT p.oid, p.xmin, (SELECT count(*) FROM pg_publication_rel) \
                                FROM pg_publication p";
            let before = harness.sql(LOOK).await;
            let findings = harness.database().check_source(&fields(&harness)).await;
            assert!(findings.iter().all(|f| f.severity == Severity::Good), "{findings:#?}");
            let mut capture = begin(&harness).await;
            let n = capture.batches.len();
            harness.sql("UPDATE t SET v = 'x', secret = 'y' WHERE id = 3").await;
            settle(&mut capture, &harness).await;
            capture = capture.restart_after(n).await;
            harness.sql("DELETE FROM t WHERE id = 4").await;
            settle(&mut capture, &harness).await;
            assert!(!read_again(&capture, n));
            assert_eq!(harness.sql(LOOK).await, before);
        }
    }
}

/// A database whose role may do less.
struct Poor {
    harness: Harness,
    database: Arc<PostgresDatabase>,
}

#[async_trait]
impl SourceHarness for Poor {
    fn database(&self) -> Arc<dyn Database> {
        self.database.clone()
    }

    async fn transaction(&self, statements: &[String]) {
        self.harness.transaction(statements).await;
    }

    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>> {
        self.harness.rows(table, columns).await
    }
}

#[tokio::test]
async fn a_role_that_may_read_the_published_columns_alone_is_enough() {
    let harness = Harness::fresh().await;
    harness.sql(ROWS).await;
    harness
        .sql(
            "CREATE ROLE poor LOGIN REPLICATION; GRANT SELECT ON other TO poor; \
             GRANT CREATE ON DATABASE \"Shop \"\"1\"\"\" TO poor",
        )
        .await;
    let url = harness.server.url(NAME).replace("postgres@", "poor@");
    let database = Arc::new(PostgresDatabase::from_url(&url).unwrap());
    let poor = Poor { harness, database };
    let spec = fields(&poor.harness);
    // What it lacks is what it needs and no more.
    for _ in 0..2 {
        for finding in poor.database().check_source(&spec).await {
            if let (Severity::Error, Some(fix)) = (finding.severity, finding.fix) {
                for statement in fix.statements {
                    poor.harness.sql(&statement).await;
                }
            }
        }
    }
    let findings = poor.database().check_source(&spec).await;
    assert!(findings.iter().all(|f| f.severity < Severity::Error), "{findings:#?}");
    let may = "SELECT has_column_privilege('poor', 't', 'secret', 'SELECT')";
    assert_eq!(poor.harness.sql(may).await[0][0].as_deref(), Some("f"));
    let started = Capture::start(&poor, spec, Start::Beginning).await;
    let mut capture = started.unwrap_or_else(|e| panic!("{e:?}"));
    capture.catch_up().await;
    capture.assert_same("t").await;
    poor.harness
        .sql("UPDATE t SET v = 'x', secret = 'y' WHERE id = 3; DELETE FROM t WHERE id = 4")
        .await;
    capture.catch_up().await;
    capture.assert_same("t").await;
}
