//! A minute of random trouble: at the end the copies are what their source is, or a code says why not.

use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use std::time::Duration;

/// Longest for a run: the trouble, and the copies that settle again and again on a busy machine.
const WITHIN: Duration = Duration::from_secs(1500);

async fn tortured(from: &str, to: &str, time: &str) {
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), "");
    let arguments = ["torture", "--from", from, "--to", to, "--for", time];
    let ended = rowcast.run(WITHIN, &arguments).await;
    println!("{}", ended.said());
    ended.good();
}

#[tokio::test]
async fn a_minute_of_trouble_between_two_servers() {
    let (from, to) = (Server::start().await, Server::start().await);
    tortured(&from.url("postgres"), &to.url("postgres"), "60s").await;
}

#[tokio::test]
async fn some_trouble_between_a_server_and_a_file() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let file = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
    tortured(&server.url("postgres"), &file("to.db"), "15s").await;
    tortured(&file("from.db"), &server.create_database("copies").await, "15s").await;
    tortured(&file("a.db"), &file("b.db"), "10s").await;
}

#[tokio::test]
async fn a_database_with_tables_of_its_own_is_left_alone() {
    let server = Server::start().await;
    server.sql("postgres", "CREATE TABLE precious (id int PRIMARY KEY)").await;
    let empty = server.create_database("empty").await;
    let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), "");
    for (from, to) in [(server.url("postgres"), empty.clone()), (empty, server.url("postgres"))] {
        let refused = rowcast.run(WITHIN, &["torture", "--from", &from, "--to", &to]).await;
        assert_eq!(refused.code(), Some(1), "{}", refused.said());
        assert!(refused.stderr.contains("public.precious"), "{}", refused.said());
    }
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM precious").await.len(), 1);
}
