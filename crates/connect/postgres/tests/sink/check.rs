//! What `check` finds at a target, and that its statements mend it.

use crate::support::{Bench, Ev, all_fields, schema};
use rowcast_core::{
    Database, Finding, Kind, Listed, Projection, Schema, Severity, Shape, SinkError, Subscription,
};
use rowcast_postgres::PostgresDatabase;
use std::sync::Arc;

fn shapes(bench: &Bench, subscriptions: &[Subscription], schema: &Schema) -> Vec<Arc<Shape>> {
    let route = bench.spec.route.clone();
    Projection::new(route.from, route.to, subscriptions.to_vec()).shapes(schema).unwrap()
}

async fn check(bench: &Bench, url: &str, schema: &Schema) -> Vec<Finding> {
    check_listed(bench, url, schema, &[]).await
}

async fn check_listed(
    bench: &Bench,
    url: &str,
    schema: &Schema,
    listed: &[Listed],
) -> Vec<Finding> {
    let database = PostgresDatabase::from_url(url).unwrap();
    let shapes = shapes(bench, &bench.spec.subscriptions, schema);
    database.check_sink(&bench.spec, &shapes, listed).await
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
    // Each of our tables counts: without this one the first bad row would pause the route.
    bench.sql("REVOKE INSERT ON rowcast.parked FROM weak").await;
    let findings = check(&bench, &url, &t).await;
    let lacking = findings.iter().find(|f| f.severity == Severity::Error).unwrap();
    let statements = &lacking.fix.as_ref().unwrap().statements;
    assert!(statements.iter().any(|s| s.contains("rowcast.parked")), "{statements:?}");
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

#[tokio::test]
async fn an_enum_that_lacks_values_of_the_source_s_is_warned_of_and_its_statements_mend_it() {
    let columns =
        [("id", "bigint"), ("v", "public.mood"), ("w", "public.mood[]"), ("x", "public.moody")];
    let t = schema("t", 1, &columns);
    let setup = "CREATE TYPE mood AS ENUM ('ok', 'its''s'); CREATE DOMAIN moody AS mood;
        CREATE TABLE t (id bigint PRIMARY KEY, v mood, w mood[], x moody)";
    let listed: Vec<_> = ["public.mood", "public.mood[]", "public.moody"]
        .map(|native| Listed {
            native: native.into(),
            name: "public.mood".into(),
            values: ["sad", "ok", "its's", "merry"].map(String::from).into(),
            create: Vec::new(),
        })
        .into();
    // A copy that is there, one that is to be made, and one whose column is text.
    for (setup, lacks) in [
        (setup.to_string(), 1),
        (setup.replace("TABLE t ", "TABLE other "), 1),
        (setup.replace("v mood, w mood[], x moody", "v text, w text, x text"), 0),
    ] {
        let bench = Bench::new(&setup, vec![all_fields("t", "t")]).await;
        let url = bench.server.url(&bench.database);
        let findings = check_listed(&bench, &url, &t, &listed).await;
        let warned: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Warning).collect();
        assert_eq!(warned.len(), lacks, "{findings:?}");
        let Some(warned) = warned.first() else { continue };
        assert!(warned.message.contains("lacks 'sad', 'merry'"), "{warned:?}");
        let fix = warned.fix.as_ref().unwrap();
        assert!(fix.safe);
        let database = PostgresDatabase::from_url(&url).unwrap();
        database.fix(&fix.statements).await.unwrap();
        let there = "SELECT string_agg(v::text, ' ') FROM unnest(enum_range(NULL::mood)) v";
        assert_eq!(bench.one(there).await, "sad ok its's merry");
        let findings = check_listed(&bench, &url, &t, &listed).await;
        assert!(findings.iter().all(|f| f.severity == Severity::Good), "{findings:?}");
    }
}

#[tokio::test]
async fn an_enum_that_is_missing_is_made_by_the_statement_that_is_printed() {
    let t = schema("t", 1, &[("id", "bigint"), ("v", "public.mood"), ("w", "public.mood[]")]);
    let listed: Vec<_> = ["public.mood", "public.mood[]"]
        .map(|native| Listed {
            native: native.into(),
            name: "public.mood".into(),
            values: vec!["sad".into(), "ok".into()],
            create: vec![(
                "public.mood".into(),
                "CREATE TYPE public.mood AS ENUM ('sad', 'ok')".into(),
            )],
        })
        .into();
    let bench = Bench::new("", vec![all_fields("t", "t")]).await;
    let url = bench.server.url(&bench.database);
    let findings = check_listed(&bench, &url, &t, &listed).await;
    let bad = bad(&findings);
    assert_eq!(bad.len(), 1, "{findings:?}");
    let fix = bad[0].fix.as_ref().unwrap();
    assert_eq!(fix.statements, ["CREATE TYPE public.mood AS ENUM ('sad', 'ok')"]);
    PostgresDatabase::from_url(&url).unwrap().fix(&fix.statements).await.unwrap();
    let findings = check_listed(&bench, &url, &t, &listed).await;
    assert!(findings.iter().all(|f| f.severity == Severity::Good), "{findings:?}");
}

/// Where the copy's key takes two of the source's for one, check and the first row refuse it alike.
#[tokio::test]
async fn a_key_that_compares_more_coarsely_than_the_source_s_is_refused() {
    let ci = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
              CREATE COLLATION \"Exact\" (provider = icu, locale = 'und'); \
              CREATE DOMAIN folded AS text COLLATE ci; ";
    let operators = "CREATE FUNCTION low_cmp(text, text) RETURNS int IMMUTABLE LANGUAGE sql \
            AS 'SELECT bttextcmp(lower($1), lower($2))'; \
        CREATE FUNCTION low_eq(text, text) RETURNS bool IMMUTABLE LANGUAGE sql \
            AS 'SELECT lower($1) = lower($2)'; \
        CREATE OPERATOR =~= (FUNCTION = low_eq, LEFTARG = text, RIGHTARG = text); \
        CREATE OPERATOR CLASS low FOR TYPE text USING btree AS OPERATOR 3 =~=, FUNCTION 1 low_cmp(text, text); ";
    let coarse = [
        "CREATE TABLE t (id text COLLATE ci PRIMARY KEY, v text)",
        "CREATE TABLE t (id text COLLATE ci UNIQUE, v text)",
        "CREATE TABLE t (id varchar COLLATE ci, v text, PRIMARY KEY (id))",
        "CREATE TABLE t (id text NOT NULL, v text); CREATE UNIQUE INDEX ON t (id COLLATE ci)",
        // `ON CONFLICT (id)` goes by this index too.
        "CREATE TABLE t (id text PRIMARY KEY, v text); CREATE UNIQUE INDEX ON t (id COLLATE ci)",
        "CREATE TABLE t (id text COLLATE ci NOT NULL, v text); CREATE UNIQUE INDEX ON t (id COLLATE \"C\")",
        "CREATE TABLE t (id text NOT NULL, v text); CREATE UNIQUE INDEX ON t (id low)",
    ];
    let exact = [
        "CREATE TABLE t (id text COLLATE \"Exact\" PRIMARY KEY, v text COLLATE ci UNIQUE)",
        "CREATE TABLE t (id varchar NOT NULL, v text); CREATE UNIQUE INDEX ON t (id varchar_pattern_ops)",
    ];
    let t = schema("t", 1, &[("id", "text"), ("v", "text")]);
    let tables = coarse.iter().map(|t| (t, true)).chain(exact.iter().map(|t| (t, false)));
    for (table, refused) in tables {
        let mut bench =
            Bench::new(&format!("{ci}{operators}{table}"), vec![all_fields("t", "t")]).await;
        let url = bench.server.url(&bench.database);
        let found = check(&bench, &url, &t).await;
        assert_eq!(bad(&found).len(), usize::from(refused), "{table}: {found:?}");
        let rows = [Ev::create(&t, &["abc", "a"]), Ev::create(&t, &["ABC", "b"])];
        let applied = bench.try_apply(&rows, true).await;
        if !refused {
            applied.unwrap();
            assert_eq!(bench.one("SELECT count(*) FROM t").await, "2", "{table}");
            continue;
        }
        let SinkError::Schema { what, .. } = applied.unwrap_err() else { panic!("{table}") };
        assert!(what.contains("may be one row here") && bad(&found)[0].message.contains(&what));
        assert_eq!(bench.one("SELECT count(*) FROM t").await, "0", "{table}");
        let Some(fix) = &bad(&found)[0].fix else { continue };
        for statement in &fix.statements {
            bench.sql(statement).await;
        }
        assert!(bad(&check(&bench, &url, &t).await).is_empty(), "{table}");
        bench.apply(&rows).await;
        assert_eq!(bench.one("SELECT count(*) FROM t").await, "2", "{table}");
    }
    // A number is written in one way only, whatever it compares by.
    let bench = Bench::new(
        &format!("{ci}CREATE TABLE t (id text COLLATE ci PRIMARY KEY, v text)"),
        vec![all_fields("t", "t")],
    )
    .await;
    let mut t = (*schema("t", 1, &[("id", "bigint"), ("v", "text")])).clone();
    t.columns[0].kind = Kind::Int64;
    assert!(bad(&check(&bench, &bench.server.url(&bench.database), &t).await).is_empty());
}

/// Something that needs a table's schema in the path, and a function of the same fault.
const AUDIT: &str = "CREATE TABLE audit (id bigint); CREATE FUNCTION known(text) RETURNS bool IMMUTABLE \
        LANGUAGE plpgsql AS $$ BEGIN RETURN length($1) < 9; END $$; ";

/// Tables each with one function that names a table or function without its schema, and its name.
fn lost_functions() -> [(String, &'static str); 5] {
    let audit = AUDIT;
    let function = |body: &str| {
        format!(
            "CREATE FUNCTION fails(text) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN {body} END $$; "
        )
    };
    let named = function("RETURN known($1);");
    let trigger = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO audit VALUES (NEW.id); RETURN NEW; END $$; \
        CREATE TABLE t (id bigint PRIMARY KEY, v text); \
        CREATE TRIGGER tg AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fails()";
    [
        (format!("{audit}{trigger}"), "fails()"),
        (
            format!(
                "{audit}{named}CREATE TABLE t (id bigint PRIMARY KEY, v text CHECK (fails(v)))"
            ),
            "fails(text)",
        ),
        (
            format!(
                "{audit}{named}CREATE DOMAIN d AS text CHECK (fails(VALUE)); \
            CREATE TABLE t (id bigint PRIMARY KEY, v text, w d DEFAULT 'x')"
            ),
            "fails(text)",
        ),
        (
            format!(
                "{audit}{named}CREATE TABLE t (id bigint PRIMARY KEY, v text, \
            w bool GENERATED ALWAYS AS (fails(v)) STORED)"
            ),
            "fails(text)",
        ),
        (
            format!(
                "{audit}{named}CREATE TABLE t (id bigint PRIMARY KEY, v text); \
            CREATE INDEX ON t (fails(v))"
            ),
            "fails(text)",
        ),
    ]
}

/// Check names each function that cannot work for us and the statement that mends it; the error at run
/// time says the same.
#[tokio::test]
async fn a_function_that_needs_a_search_path_is_named_by_check_and_by_the_first_row() {
    let t = schema("t", 1, &[("id", "bigint"), ("v", "text")]);
    for (setup, fails) in lost_functions() {
        let mut bench = Bench::new(&setup, vec![all_fields("t", "t")]).await;
        let url = bench.server.url(&bench.database);
        let found = check(&bench, &url, &t).await;
        let [misfit] = bad(&found)[..] else { panic!("{setup}: {found:?}") };
        let fix = format!("ALTER FUNCTION public.{fails} SET search_path = \"public\", pg_temp");
        assert_eq!(misfit.fix.as_ref().unwrap().statements, [fix], "{misfit:?}");
        let rows = [Ev::create(&t, &["1", "a"])];
        let error = bench.try_apply(&rows, true).await.unwrap_err();
        let SinkError::Schema { what, help, .. } = &error else { panic!("{setup}: {error:?}") };
        assert!(what.contains(&format!("public.{fails}")), "{what}");
        assert!(help.contains(&format!("ALTER FUNCTION public.{fails} SET search_path")), "{help}");
        for statement in &misfit.fix.as_ref().unwrap().statements {
            bench.sql(statement).await;
        }
        assert!(bad(&check(&bench, &url, &t).await).is_empty(), "{setup}");
        bench.apply(&rows).await;
    }
    // What says where its names are is left alone.
    let good = "CREATE FUNCTION works() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        NEW.v := lower(NEW.v); INSERT INTO public.audit VALUES (NEW.id); RETURN NEW; END $$; \
        CREATE TABLE t (id bigint PRIMARY KEY, v text); \
        CREATE TRIGGER tg BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION works()";
    let mut bench = Bench::new(&format!("{AUDIT}{good}"), vec![all_fields("t", "t")]).await;
    let found = check(&bench, &bench.server.url(&bench.database), &t).await;
    assert!(bad(&found).is_empty(), "{found:?}");
    bench.apply(&[Ev::create(&t, &["1", "A"])]).await;
    assert_eq!(bench.one("SELECT v FROM t").await, "a");
}
