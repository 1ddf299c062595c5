//! `rowcast torture` damages nothing that it did not make.

use rowcast_testkit::postgres::Server;
use rowcast_testkit::process::Rowcast;
use std::time::Duration;

/// Longest for an answer.
const WITHIN: Duration = Duration::from_secs(60);

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
