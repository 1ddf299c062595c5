//! Ways in: password, TLS, socket.

use crate::support::NAME;
use rowcast_core::{Database, SourceError, SourceSpec, Start};
use rowcast_postgres::PostgresDatabase;
use rowcast_testkit::postgres::{Authority, Server, ServerOptions};
use rowcast_testkit::wait::LONG;

fn spec() -> SourceSpec {
    SourceSpec {
        service: "shop".parse().expect("a name"),
        entities: vec![rowcast_core::Publish {
            entity: "t".parse().expect("a name"),
            table: "t".into(),
            fields: None,
            masks: Default::default(),
        }],
        batch_bytes_max: rowcast_core::ByteSize::mib(1),
    }
}

async fn starts(url: &str) -> Result<(), SourceError> {
    let database = PostgresDatabase::from_url(url).expect("an address");
    let mut source = database.source(spec());
    source.start(Start::Afresh).await?;
    let first = tokio::time::timeout(LONG, source.next()).await;
    assert!(first.expect("a batch").expect("no error").fresh);
    Ok(())
}

/// Afresh needs the slot, which the last connection may still hold for a moment.
async fn starts_soon(url: &str) -> Result<(), SourceError> {
    loop {
        match starts(url).await {
            Err(SourceError::Busy { .. }) => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

async fn server(options: ServerOptions) -> Server {
    let server = Server::start_options(options).await;
    server.create_database(NAME).await;
    server.sql(NAME, "CREATE TABLE t (id int PRIMARY KEY)").await;
    server
}

#[tokio::test]
async fn a_password_lets_in_and_a_wrong_one_is_a_matter_for_a_person() {
    let password = Some("geheim: ü@/?".to_string());
    let server = server(ServerOptions { password, ..ServerOptions::default() }).await;
    starts_soon(&server.url(NAME)).await.unwrap();
    starts_soon(&server.socket_url(NAME)).await.unwrap();
    let wrong = format!("postgres://postgres:nonsense@127.0.0.1:{}/x", server.port());
    let error = starts(&wrong).await.unwrap_err();
    assert!(matches!(error, SourceError::Setup { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("nonsense"));
}

#[tokio::test]
async fn tls_is_used_and_verified_as_asked() {
    let authority = Authority::new();
    let options = ServerOptions { tls: Some(authority.server(true)), ..ServerOptions::default() };
    let server = server(options).await;
    let url = server.url(NAME);
    let root = authority.root().display().to_string().replace('/', "%2F");
    starts_soon(&format!("{url}?sslmode=require")).await.unwrap();
    starts_soon(&format!("{url}?sslmode=allow")).await.unwrap();
    starts_soon(&format!("{url}?sslmode=verify-full&sslrootcert={root}")).await.unwrap();
    let plain = starts(&format!("{url}?sslmode=disable")).await.unwrap_err();
    assert!(matches!(plain, SourceError::Setup { .. }), "{plain:?}");
    let stranger =
        starts(&format!("{url}?sslmode=verify-full&sslrootcert=system")).await.unwrap_err();
    assert!(matches!(stranger, SourceError::Setup { .. }), "{stranger:?}");
}

#[tokio::test]
async fn nobody_at_home_is_an_outage() {
    let error = starts("postgres://postgres@127.0.0.1:1/x").await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn of_several_hosts_the_one_that_is_what_was_asked_for_is_taken() {
    let (standby, primary) =
        (server(ServerOptions::default()).await, server(ServerOptions::default()).await);
    standby.sql(NAME, "ALTER ROLE postgres SET default_transaction_read_only = on").await;
    let (first, second) = (format!(":{}", standby.port()), format!(":{}", primary.port()));
    let hosts = format!("{first},127.0.0.1{second}");
    let url = standby.url(NAME).replace(&first, &hosts);
    let both = format!("{url}?target_session_attrs=read-write");
    starts_soon(&both).await.unwrap();
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(standby.sql(NAME, slots).await, [[Some("0".to_string())]]);
    assert_eq!(primary.sql(NAME, slots).await, [[Some("1".to_string())]]);
    let alone = format!("{}?target_session_attrs=read-write", standby.url(NAME));
    let error = starts(&alone).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "a fail-over may mend it: {error:?}");
}

#[tokio::test]
async fn a_promise_about_the_channel_that_cannot_be_kept_is_refused() {
    let server = server(ServerOptions::default()).await;
    let error = starts(&format!("{}?channel_binding=require", server.url(NAME))).await.unwrap_err();
    assert!(matches!(error, SourceError::Setup { .. }), "{error:?}");
}
