//! Private servers start, restart, crash and vanish as told.

use rowcast_testkit::postgres::{Authority, Server, ServerOptions, shared};
use rowcast_testkit::wait::LONG;

fn text(rows: &[Vec<Option<String>>]) -> Vec<&str> {
    rows.iter().map(|row| row[0].as_deref().unwrap_or("NULL")).collect()
}

#[tokio::test]
async fn a_server_runs_logical_replication_and_vanishes_when_dropped() {
    let server = Server::start().await;
    let dir = server.socket_dir().to_owned();
    assert_eq!(text(&server.sql("postgres", "SHOW wal_level").await), ["logical"]);
    let version = server.sql("postgres", "SHOW server_version_num").await;
    assert!(text(&version)[0].starts_with(&server.version().to_string()));
    drop(server);
    assert!(!dir.exists());
}

#[tokio::test]
async fn the_shared_server_gives_every_test_a_database_of_any_name() {
    let url = shared().await.create_database("Ünder \"quotes\" / 100%").await;
    let (client, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
    let ask = async { client.query_one("SELECT current_database()::text", &[]).await };
    tokio::select! {
        row = ask => assert_eq!(row.unwrap().get::<_, String>(0), "Ünder \"quotes\" / 100%"),
        end = connection => panic!("{end:?}"),
    }
}

#[tokio::test]
async fn the_socket_url_connects() {
    let server = shared().await;
    let url = server.socket_url("postgres");
    let (client, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
    let ask = async { client.query_one("SELECT inet_server_addr() IS NULL", &[]).await };
    tokio::select! {
        row = ask => assert!(row.unwrap().get::<_, bool>(0)),
        end = connection => panic!("{end:?}"),
    }
}

#[tokio::test]
async fn committed_rows_outlive_restart_and_kill_9_and_uncommitted_ones_do_not() {
    let mut server = Server::start().await;
    server.sql("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await;
    server.restart().await;
    server.sql("postgres", "INSERT INTO t VALUES (2)").await;
    let open = server.session("postgres").await;
    open.sql("BEGIN; INSERT INTO t VALUES (3)").await;
    server.kill_9().await;
    assert!(open.try_sql("COMMIT").await.is_err());
    assert!(server.try_sql("postgres", "SELECT 1").await.is_err());
    server.start_again().await;
    assert_eq!(text(&server.sql("postgres", "SELECT n FROM t ORDER BY n").await), ["1", "2"]);
    assert!(server.log().contains("was not properly shut down"));
}

#[tokio::test]
async fn a_setting_is_in_force_when_set_returns() {
    let server = Server::start_with(&[("work_mem", "3MB")]).await;
    assert_eq!(text(&server.sql("postgres", "SHOW work_mem").await), ["3MB"]);
    server.set("synchronous_standby_names", "nobody").await;
    let stalled = server.session("postgres").await;
    assert_eq!(text(&stalled.sql("SHOW synchronous_standby_names").await), ["nobody"]);
    let pid = stalled.backend().await;
    let waits = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
    let watch = server.session("postgres").await;
    tokio::select! {
        done = stalled.try_sql("CREATE TABLE t (n int)") => panic!("committed: {done:?}"),
        () = watch.until(LONG, &waits, "SyncRep") => {}
    }
}

#[tokio::test]
async fn a_password_and_tls_are_asked_for_over_tcp() {
    let authority = Authority::new();
    let server = Server::start_options(ServerOptions {
        password: Some("p@ss'w/rd".to_owned()),
        tls: Some(authority.server(true)),
        ..ServerOptions::default()
    })
    .await;
    assert!(authority.root().is_file());
    assert_eq!(text(&server.sql("postgres", "SHOW ssl").await), ["on"]);
    let url = server.url("postgres");
    let refused = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(|_| ());
    let message = refused.expect_err("no TLS").to_string();
    assert!(!message.is_empty());
    if server.client_command("psql", "postgres").is_some() {
        let told = format!("{url}?sslmode=verify-full&sslrootcert={}", authority.root().display());
        let said = server.psql("postgres", &["-Atc", "SELECT 'in'", "-d", &told]).await;
        assert_eq!(said.as_deref(), Some("in"));
    }
}

#[tokio::test]
#[should_panic(expected = "unrecognized configuration parameter")]
async fn a_server_that_cannot_start_shows_its_log() {
    Server::start_with(&[("no_such_setting", "1")]).await;
}
