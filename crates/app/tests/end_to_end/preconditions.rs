//! What a start needs: `check` finds it lacking, `run` refuses it for the same reason and leaves nothing
//! behind, and once it is mended both are content.

use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::{LONG, eventually};
use std::net::TcpListener;
use std::process::{Child, Command};

#[derive(Clone, Copy, PartialEq)]
enum At {
    Source,
    Target,
}
use At::{Source, Target};

/// One thing that is lacking, what `check` and `run` say of it, and what mends it.
struct Lack {
    at: At,
    how: &'static str,
    says: &'static str,
    mend: &'static str,
}

const fn lack(at: At, how: &'static str, says: &'static str, mend: &'static str) -> Lack {
    Lack { at, how, says, mend }
}

const LACKS: &[Lack] = &[
    lack(
        Source,
        "REVOKE USAGE ON SCHEMA app FROM carrier",
        "lacks USAGE on schema app",
        "GRANT USAGE ON SCHEMA app TO carrier",
    ),
    lack(
        Source,
        "REVOKE SELECT ON app.item FROM carrier",
        "may not read the published fields",
        "GRANT SELECT ON app.item TO carrier",
    ),
    lack(
        Source,
        "ALTER TABLE app.item ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "hides rows",
        "ALTER TABLE app.item DISABLE ROW LEVEL SECURITY",
    ),
    lack(
        Source,
        "ALTER DATABASE source SET default_transaction_read_only = on",
        "default_transaction_read_only is on",
        "ALTER DATABASE source SET default_transaction_read_only = off",
    ),
    lack(
        Source,
        "ALTER ROLE carrier NOREPLICATION",
        "may not replicate",
        "ALTER ROLE carrier REPLICATION",
    ),
    lack(
        Source,
        "ALTER TABLE app.item OWNER TO postgres; GRANT SELECT ON app.item TO carrier",
        "wnership",
        "ALTER TABLE app.item OWNER TO carrier",
    ),
    lack(
        Target,
        "ALTER DATABASE target SET default_transaction_read_only = on",
        "default_transaction_read_only is on",
        "ALTER DATABASE target SET default_transaction_read_only = off",
    ),
    lack(
        Target,
        "REVOKE USAGE ON SCHEMA copies FROM carrier",
        "lacks USAGE on schema copies",
        "GRANT USAGE ON SCHEMA copies TO carrier",
    ),
    lack(
        Target,
        "REVOKE CREATE ON SCHEMA copies FROM carrier",
        "may not make",
        "GRANT CREATE ON SCHEMA copies TO carrier",
    ),
    lack(
        Target,
        "REVOKE CREATE ON DATABASE target FROM carrier",
        "may not make",
        "GRANT CREATE ON DATABASE target TO carrier",
    ),
    lack(Target, "DROP DOMAIN app.price", "cannot be made", "fix"),
];

fn config(server: &Server, port: u16, more: &str) -> String {
    let url = |db: &str| {
        let url = server.url_at(db, port);
        url.replacen("postgres://postgres", "postgres://carrier", 1)
    };
    format!(
        "{more}\n[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = \"{}\"\n\
         [service.shop.publish.item]\ntable = \"app.item\"\n[service.order]\ndatabase = \"{}\"\n\
         [service.order.subscribe.\"shop.item\"]\ninto = \"copies.item\"\n",
        url("source"),
        url("target")
    )
}

/// Two databases whose role has just what it needs.
async fn databases() -> Server {
    let server = Server::start().await;
    let all = "CREATE ROLE carrier LOGIN REPLICATION";
    server.sql("postgres", all).await;
    for name in ["source", "target"] {
        server.create_database(name).await;
        let grant = format!("GRANT CREATE ON DATABASE {name} TO carrier");
        server.sql("postgres", &grant).await;
    }
    for statement in [
        "CREATE SCHEMA app",
        "GRANT USAGE ON SCHEMA app TO carrier",
        "CREATE DOMAIN app.price AS numeric(10,2) CONSTRAINT positive CHECK (VALUE >= 0)",
        "CREATE TYPE app.place AS (street text, price app.price)",
        "CREATE TABLE app.item (id int PRIMARY KEY, price app.price)",
        "ALTER TABLE app.item OWNER TO carrier",
        "INSERT INTO app.item VALUES (1, 1.50), (2, NULL), (3, 0)",
    ] {
        server.sql("source", statement).await;
    }
    for statement in [
        "CREATE SCHEMA copies",
        "GRANT USAGE, CREATE ON SCHEMA copies TO carrier",
        "CREATE SCHEMA app",
        "GRANT USAGE, CREATE ON SCHEMA app TO carrier",
        "CREATE DOMAIN app.price AS numeric(10,2) CONSTRAINT positive CHECK (VALUE >= 0)",
    ] {
        server.sql("target", statement).await;
    }
    server
}

/// `run` refuses to go on, and says `says` of it.
async fn refuses(rowcast: &Rowcast, says: &str) {
    let mut running = rowcast.start(&["run"]);
    eventually(LONG, says, async || !running.is_running() || running.stderr().contains(says)).await;
    if running.is_running() {
        let status = rowcast.run(LONG, &["status", "--json"]).await.good();
        assert!(status.stdout.contains("\"paused\""), "{says}: {}", status.said());
        running.terminate(LONG).await.good();
        return;
    }
    let ended = running.wait(LONG).await;
    assert_ne!(ended.code(), Some(0), "{}", ended.said());
    assert!(ended.stderr.contains(says), "{}", ended.said());
}

#[tokio::test]
async fn check_and_run_refuse_the_same_and_a_refusal_leaves_nothing() {
    let server = databases().await;
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config(&server, server.port(), ""));
    for lack in LACKS {
        let database = if lack.at == Source { "source" } else { "target" };
        for statement in lack.how.split("; ") {
            server.sql(database, statement).await;
        }
        let checked = rowcast.run(LONG, &["check"]).await;
        assert_eq!(checked.code(), Some(1), "{}: {}", lack.how, checked.said());
        assert!(checked.stdout.contains(lack.says), "{}: {}", lack.how, checked.said());
        refuses(&rowcast, lack.says).await;
        if lack.at == Source {
            let slots =
                server.sql("source", "SELECT count(*)::text FROM pg_replication_slots").await;
            assert_eq!(slots[0][0].as_deref(), Some("0"), "{}", lack.how);
        }
        if lack.mend == "fix" {
            rowcast.run(LONG, &["check", "--fix"]).await.good();
        } else {
            // From elsewhere: this one may take no writes.
            let from = if lack.mend.starts_with("ALTER DATABASE") { "postgres" } else { database };
            server.sql(from, lack.mend).await;
        }
        // The next one begins from nothing.
        if lack.at == Target {
            rowcast.run(LONG, &["check"]).await.good();
            rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
            let copied = server.sql("target", "SELECT count(*)::text FROM copies.item").await;
            assert_eq!(copied[0][0].as_deref(), Some("3"), "{}", lack.how);
            server.sql("target", "DROP SCHEMA rowcast CASCADE").await;
            server.sql("target", "DROP TABLE copies.item").await;
        } else {
            rowcast.run(LONG, &["check"]).await.good();
        }
    }
}

#[tokio::test]
async fn a_machine_that_lacks_something_is_told_in_one_round_by_check_and_run() {
    let server = databases().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = format!("listen = \"{}\"", taken.local_addr().unwrap());
    let good = config(&server, server.port(), "");
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &good);
    std::fs::write(rowcast.path("rowcast-data"), "a file").unwrap();
    rowcast.configure(&good.replace("listen = \"127.0.0.1:0\"", &wanted));
    server.sql("source", "REVOKE USAGE ON SCHEMA app FROM carrier").await;
    server.sql("source", "REVOKE SELECT ON app.item FROM carrier").await;
    server.sql("source", "ALTER TABLE app.item OWNER TO postgres").await;
    let all = [
        "rowcast-data cannot hold Rowcast's data",
        "cannot be listened on",
        "lacks USAGE",
        "may not read",
        "wnership",
    ];
    let checked = rowcast.run(LONG, &["check"]).await;
    assert_eq!(checked.code(), Some(1), "{}", checked.said());
    for says in all {
        assert!(checked.stdout.contains(says), "{says}: {}", checked.said());
    }
    let ran = rowcast.run(LONG, &["run"]).await;
    assert_eq!(ran.code(), Some(2), "{}", ran.said());
    for says in &all[..2] {
        assert!(ran.stderr.contains(says), "{says}: {}", ran.said());
    }
    assert_eq!(std::fs::read_to_string(rowcast.path("rowcast-data")).unwrap(), "a file");

    // Mended, and the port of our own running instance is no trouble.
    std::fs::remove_file(rowcast.path("rowcast-data")).unwrap();
    drop(taken);
    server.sql("source", "GRANT USAGE ON SCHEMA app TO carrier").await;
    server.sql("source", "ALTER TABLE app.item OWNER TO carrier").await;
    server.sql("source", "GRANT SELECT ON app.item TO carrier").await;
    let checked = rowcast.run(LONG, &["check"]).await.good();
    assert!(!checked.stdout.contains("built again"), "{}", checked.said());
    assert!(!rowcast.path("rowcast-data").exists(), "looking leaves nothing");
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route shop:order: live").await;
    rowcast.run(LONG, &["check"]).await.good();
    running.terminate(LONG).await.good();
}

/// A PgBouncer in transaction mode before a server; killed with the test.
struct Bouncer(Child);

impl Bouncer {
    fn start(rowcast: &Rowcast, server: &Server, port: u16, ignored: &str) -> Self {
        let file = rowcast.path("pgbouncer.ini");
        let at =
            |name: &str| format!("{name} = user=carrier host=127.0.0.1 port={}\n", server.port());
        let text = format!(
            "[databases]\n{}{}[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = transaction\nunix_socket_dir =\n{ignored}\n",
            at("source"),
            at("target")
        );
        std::fs::write(&file, text).unwrap();
        let debian = "/usr/sbin/pgbouncer";
        let there = std::path::Path::new(debian).is_file();
        let mut command = Command::new(if there { debian } else { "pgbouncer" });
        command.args(["-q", "-u", "postgres"]).arg(&file);
        Self(command.spawn().expect("the tests need pgbouncer"))
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_transaction_pooler_is_recognised_and_is_no_matter_of_rights() {
    let server = databases().await;
    let ignore = "ignore_startup_parameters = options,IntervalStyle,extra_float_digits,search_path,\
                  lc_monetary,bytea_output,xmloption,array_nulls,quote_all_identifiers,statement_timeout,\
                  idle_in_transaction_session_timeout,default_transaction_isolation,\
                  default_transaction_deferrable,timezone_abbreviations,wal_sender_timeout";
    for ignored in ["", ignore] {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), &config(&server, port, ""));
        let _bouncer = Bouncer::start(&rowcast, &server, port, ignored);
        eventually(LONG, "the pooler", async || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        let checked = rowcast.run(LONG, &["check"]).await;
        assert_eq!(checked.code(), Some(1), "{}", checked.said());
        let says = "onnection pooler such as PgBouncer in transaction mode answers there";
        let said = checked.stdout.matches(says).count();
        assert!(said >= 2, "at the source and at the target: {}", checked.said());
        for wrong in ["may not", "GRANT", "user and password"] {
            assert!(!checked.stdout.contains(wrong), "{}", checked.said());
        }
        refuses(&rowcast, says).await;
    }
}

#[tokio::test]
async fn init_says_what_it_does_not_know_and_takes_the_address_from_the_environment() {
    let server = databases().await;
    server.sql("source", "CREATE VIEW app.short AS SELECT id FROM app.item").await;
    server.sql("source", "ALTER ROLE carrier PASSWORD 'geheim'").await;
    let url = server.url("source").replacen("postgres://postgres", "postgres://carrier:geheim", 1);
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), "").variable("ROWCAST_FROM", &url);
    let unseen = rowcast.run(LONG, &["init", "-c", "unseen.toml"]).await.good();
    assert!(unseen.stdout.contains("SOURCE_PASSWORD"), "{}", unseen.said());
    assert!(!unseen.said().contains("list of processes"), "{}", unseen.said());
    let text = std::fs::read_to_string(rowcast.path("unseen.toml")).unwrap();
    assert!(!text.contains("geheim"), "{text}");
    assert!(text.contains("# An unknown number of rows"), "{text}");
    assert!(text.contains("# app.short is a view, which cannot be published"), "{text}");
    server.sql("source", "ANALYZE app.item").await;
    let seen = rowcast.run(LONG, &["init", "-c", "seen.toml", "--from", &url]).await.good();
    assert!(seen.stderr.contains("list of processes"), "{}", seen.said());
    assert!(!seen.said().contains("geheim"), "{}", seen.said());
    let text = std::fs::read_to_string(rowcast.path("seen.toml")).unwrap();
    assert!(text.contains("# About 3 rows"), "{text}");
}
