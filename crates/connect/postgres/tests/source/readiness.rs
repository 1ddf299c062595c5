//! What `rowcast check` says, before anything goes wrong.

use crate::support::{Harness, NAME};
use rowcast_core::{Database, Finding, Severity, SourceError, Start};
use rowcast_postgres::PostgresDatabase;
use rowcast_testkit::postgres::{Server, ServerOptions};
use rowcast_testkit::source_suite::{Capture, SourceHarness, spec};

fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|f| f.severity).max().expect("a finding")
}

fn errors(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|f| f.severity == Severity::Error).collect()
}

#[tokio::test]
async fn a_database_that_is_ready_has_nothing_but_good_findings() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let findings = harness.database().check_source(&spec(&harness, &["t"], 1 << 20)).await;
    assert_eq!(worst(&findings), Severity::Good, "{findings:#?}");
}

#[tokio::test]
async fn every_table_that_cannot_be_published_says_why_and_what_to_run() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE no_key (id int); CREATE VIEW a_view AS SELECT 1 AS id; \
             CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING; \
             CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY); \
             CREATE TABLE fields (id int PRIMARY KEY, a int)",
        )
        .await;
    let tables = ["no_key", "a_view", "nothing", "unlogged", "fields", "missing"];
    let mut spec = spec(&harness, &tables, 1 << 20);
    spec.entities[4].fields = Some(vec!["a".into()]);
    let findings = harness.database().check_source(&spec).await;
    let errors = errors(&findings);
    assert_eq!(errors.iter().map(|f| f.subject.as_str()).collect::<Vec<_>>(), tables);
    assert!(errors.iter().all(|f| !f.help.is_empty()), "{errors:#?}");
    let fix = errors[2].fix.as_ref().unwrap();
    assert!(fix.safe);
    harness.database().fix(&fix.statements).await.unwrap();
    spec.entities = vec![spec.entities[2].clone()];
    assert_eq!(worst(&harness.database().check_source(&spec).await), Severity::Good);
    let schemas = harness.database().offer(&spec).await.unwrap().schemas;
    assert_eq!(schemas[0].0.as_str(), "nothing");
}

#[tokio::test]
async fn the_values_of_enums_are_part_of_what_is_offered() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TYPE mood AS ENUM ('sad', 'o''k'); ALTER TYPE mood ADD VALUE 'b' BEFORE 'sad'; \
             CREATE DOMAIN moody AS mood; \
             CREATE TABLE t (id int PRIMARY KEY, a mood, b mood, c mood[], d moody, e text, f point)",
        )
        .await;
    let offer = harness.database().offer(&spec(&harness, &["t"], 1 << 20)).await.unwrap();
    let column = |name: &str| {
        let columns = &offer.schemas[0].1.columns;
        columns.iter().find(|c| c.name == name).unwrap().native.clone()
    };
    let mut listed: Vec<_> = offer.listed.iter().map(|l| l.native.clone()).collect();
    let mut natives = vec![column("a"), column("c"), column("d")];
    listed.sort();
    natives.sort();
    assert_eq!(listed, natives);
    for one in &offer.listed {
        assert_eq!(
            (&one.name, &one.values[..]),
            (&column("a"), &["b", "sad", "o'k"].map(String::from)[..])
        );
    }
}

#[tokio::test]
async fn a_server_without_logical_wal_is_refused_with_the_statement_to_run() {
    let server = Server::start_with(&[("wal_level", "replica")]).await;
    let harness = Harness::on(server).await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let spec = spec(&harness, &["t"], 1 << 20);
    let findings = harness.database().check_source(&spec).await;
    let errors = errors(&findings);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0].subject, "wal_level");
    let started = Capture::start(&harness, spec, Start::Beginning).await;
    assert!(matches!(started.err(), Some(SourceError::Setup { .. })));
}

#[tokio::test]
async fn a_service_whose_slot_is_another_database_s_is_told_so_and_does_not_wait_for_it() {
    let harness = Harness::fresh().await;
    let table = "CREATE TABLE t (id int PRIMARY KEY)";
    harness.sql(table).await;
    let url = harness.server.create_database("other").await;
    harness.server.sql("other", table).await;
    let other = PostgresDatabase::from_url(&url).unwrap();
    let spec = spec(&harness, &["t"], 1 << 20);
    // Held by a capture, and then by nobody.
    let mut held = Some(Capture::begin(&harness, &["t"], 1 << 20).await);
    for _ in 0..2 {
        let findings = other.check_source(&spec).await;
        let errors = errors(&findings);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].message.contains("Database \"Shop \"\"1\"\"\" of"), "{errors:#?}");
        let started = other.source(spec.clone()).start(Start::Beginning).await.unwrap_err();
        assert!(matches!(started, SourceError::Setup { .. }), "{started:?}");
        assert!(started.to_string().contains("of the same server has a replication slot"));
        held.take();
    }
}

#[tokio::test]
async fn a_role_that_may_nothing_is_told_what_it_lacks() {
    let harness = Harness::fresh().await;
    harness.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE poor LOGIN").await;
    let url = harness.server.url(NAME).replace("postgres@", "poor@");
    let database = PostgresDatabase::from_url(&url).unwrap();
    let spec = spec(&harness, &["t"], 1 << 20);
    let findings = database.check_source(&spec).await;
    let said: Vec<_> = errors(&findings).iter().map(|f| f.message.clone()).collect();
    assert!(said.iter().any(|m| m.contains("may not replicate")), "{said:?}");
    assert!(said.iter().any(|m| m.contains("may not read")), "{said:?}");
    let started = database.source(spec).start(Start::Beginning).await.unwrap_err();
    assert!(matches!(started, SourceError::Setup { .. }), "{started:?}");
}

#[tokio::test]
async fn tables_that_a_service_could_publish_are_listed_as_they_are_written() {
    let harness = Harness::fresh().await;
    harness
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE SCHEMA rowcast; \
             CREATE TABLE rowcast.checkpoint (id int); CREATE TABLE \"A.b\" (x int); \
             CREATE TABLE p (id int) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p DEFAULT",
        )
        .await;
    let tables = harness.database().tables().await.unwrap();
    let names: Vec<_> = tables.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["public.\"A.b\"", "public.p", "public.t"]);
    assert!(tables[2].columns[0].key && !tables[2].columns[1].key);
}

/// Check and run refuse a key that does not tell rows apart with the same words, and what is printed
/// mends it.
#[tokio::test]
async fn a_deferrable_key_is_called_what_it_is_by_check_and_by_run() {
    let harness = Harness::fresh().await;
    harness
        .sql("CREATE TABLE t (b int, a int, CONSTRAINT \"T k\" PRIMARY KEY (a, b) DEFERRABLE)")
        .await;
    let wanted = spec(&harness, &["t"], 1 << 20);
    let findings = harness.database().check_source(&wanted).await;
    let [found] = errors(&findings)[..] else { panic!("{findings:#?}") };
    assert!(found.message.contains("primary key \"T k\" is DEFERRABLE"), "{found:?}");
    let refused = Capture::start(&harness, wanted.clone(), Start::Beginning).await.err().unwrap();
    let SourceError::Schema { what, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(what, found.message.trim_end_matches('.'));
    harness.database().fix(&found.fix.as_ref().unwrap().statements).await.unwrap();
    let findings = harness.database().check_source(&wanted).await;
    assert_eq!(worst(&findings), Severity::Good, "{findings:#?}");
}

#[tokio::test]
async fn a_temporal_key_is_refused_by_check_and_by_run() {
    let server = Server::start_options(ServerOptions::of_major(18)).await;
    let harness = Harness::on(server).await;
    harness
        .sql(
            "CREATE EXTENSION btree_gist; \
             CREATE TABLE t (id int, during tstzrange, n int NOT NULL, \
             PRIMARY KEY (id, during WITHOUT OVERLAPS))",
        )
        .await;
    let wanted = spec(&harness, &["t"], 1 << 20);
    let findings = harness.database().check_source(&wanted).await;
    let [found] = errors(&findings)[..] else { panic!("{findings:#?}") };
    assert!(found.message.contains("primary key is temporal"), "{found:?}");
    let refused = Capture::start(&harness, wanted.clone(), Start::Beginning).await.err().unwrap();
    let SourceError::Schema { what, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(what, found.message.trim_end_matches('.'));
    harness
        .sql("CREATE UNIQUE INDEX by_n ON t (n); ALTER TABLE t REPLICA IDENTITY USING INDEX by_n")
        .await;
    let findings = harness.database().check_source(&wanted).await;
    assert_eq!(worst(&findings), Severity::Good, "{findings:#?}");
}
