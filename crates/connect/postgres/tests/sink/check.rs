//! What `check` finds at a target, and that its statements mend it.

use crate::support::{Bench, all_fields, schema};
use rowcast_core::{Database, Finding, Projection, Schema, Severity, Shape, Subscription};
use rowcast_postgres::PostgresDatabase;
use std::sync::Arc;

fn shapes(bench: &Bench, subscriptions: &[Subscription], schema: &Schema) -> Vec<Arc<Shape>> {
    let route = bench.spec.route.clone();
    Projection::new(route.from, route.to, subscriptions.to_vec()).shapes(schema).unwrap()
}

async fn check(bench: &Bench, url: &str, schema: &Schema) -> Vec<Finding> {
    let database = PostgresDatabase::from_url(url).unwrap();
    let shapes = shapes(bench, &bench.spec.subscriptions, schema);
    database.check_sink(&bench.spec, &shapes).await
}

fn bad(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|f| f.severity == Severity::Error).collect()
}

#[tokio::test]
async fn a_target_that_is_ready_has_good_findings_only() {
    let t = schema("t", 1, &[("id", "bigint"), ("v", "text")]);
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, v text)";
    for (setup, checkpoint) in [(setup, true), ("", true), ("", false)] {
        let bench = Bench::new(setup, vec![all_fields("t", "t")]).await;
        if !checkpoint {
            bench.sql("DROP SCHEMA rowcast CASCADE").await;
        }
        let findings = check(&bench, &bench.server.url(&bench.database), &t).await;
        assert_eq!((findings.len(), bad(&findings).len()), (3, 0), "{findings:?}");
    }
}

#[tokio::test]
async fn every_misfit_is_found_at_once_and_its_statements_mend_it() {
    let t = schema("t", 1, &[("id", "bigint"), ("v", "text"), ("w", "numeric(5,2)")]);
    let setup = "CREATE TABLE t (id integer, v varchar(3), w numeric(5,2), x int NOT NULL)";
    let bench = Bench::new(setup, vec![all_fields("t", "t")]).await;
    let url = bench.server.url(&bench.database);
    let findings = check(&bench, &url, &t).await;
    assert_eq!(bad(&findings).len(), 4, "{findings:?}");
    for finding in bad(&findings) {
        for statement in &finding.fix.as_ref().unwrap().statements {
            bench.sql(statement).await;
        }
    }
    assert!(bad(&check(&bench, &url, &t).await).is_empty());
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_to_grant() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY); CREATE ROLE weak LOGIN;
        REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    let bench = Bench::new(setup, vec![all_fields("t", "t"), all_fields("t", "u")]).await;
    let url = bench.server.url(&bench.database).replace("postgres@", "weak@");
    let findings = check(&bench, &url, &t).await;
    let bad = bad(&findings);
    assert_eq!(bad.len(), 3, "{findings:?}");
    let grants: Vec<_> = bad.iter().flat_map(|f| &f.fix.as_ref().unwrap().statements).collect();
    assert!(
        grants.iter().any(|s| s.contains("GRANT SELECT, INSERT, UPDATE, DELETE")),
        "{grants:?}"
    );
    for statement in grants {
        bench.sql(statement).await;
    }
    bench.sql("GRANT ALL ON u TO weak").await;
    let findings = check(&bench, &url, &t).await;
    assert!(findings.iter().all(|f| f.severity == Severity::Good), "{findings:?}");
}

#[tokio::test]
async fn a_missing_type_is_found_before_the_first_run() {
    let t = schema("t", 1, &[("id", "bigint"), ("v", "\"Odd\".mood"), ("w", "numeric(5,2)[]")]);
    let bench = Bench::new("", vec![all_fields("t", "t")]).await;
    let findings = check(&bench, &bench.server.url(&bench.database), &t).await;
    let bad = bad(&findings);
    assert_eq!(bad.len(), 1, "{findings:?}");
    assert!(bad[0].message.contains("\"Odd\".mood") && !bad[0].message.contains("numeric"));
}

#[tokio::test]
async fn an_unreachable_target_is_one_finding() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let bench = Bench::new("", vec![all_fields("t", "t")]).await;
    let findings = check(&bench, "postgres://postgres:s3cret@127.0.0.1:1/x", &t).await;
    assert_eq!((findings.len(), findings[0].severity), (1, Severity::Error));
    assert!(!format!("{findings:?}").contains("s3cret"));
}
