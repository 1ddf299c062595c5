//! The proxy's faults, each on a server that echoes.

use rowcast_testkit::proxy::{Direction, Proxy};
use rowcast_testkit::wait::{LONG, eventually};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

struct Echo {
    port: u16,
    _tasks: JoinSet<()>,
}

async fn echo() -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a local port");
    let port = listener.local_addr().expect("bound").port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Echo { port, _tasks: tasks }
}

async fn ask(stream: &mut TcpStream, text: &str) -> Option<String> {
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.ok()?;
    String::from_utf8(answer).ok()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("the proxy listens")
}

#[tokio::test]
async fn what_is_stalled_arrives_late_and_whole() {
    let server = echo().await;
    let proxy = Proxy::to(server.port).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "one").await.as_deref(), Some("one"));
    proxy.stall(Direction::ToClient);
    stream.write_all(b"two").await.unwrap();
    let mut answer = [0; 3];
    let waited = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut answer)).await;
    assert!(waited.is_err());
    proxy.heal();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"two");
}

#[tokio::test]
async fn a_cut_ends_open_connections_and_new_ones_work() {
    let server = echo().await;
    let proxy = Proxy::to(server.port).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "one").await.as_deref(), Some("one"));
    proxy.cut();
    assert_eq!(ask(&mut stream, "two").await, None);
    assert_eq!(ask(&mut connect(&proxy).await, "three").await.as_deref(), Some("three"));
    eventually(LONG, "the connections are closed", async || proxy.connections() == 0).await;
}

#[tokio::test]
async fn a_cut_after_some_bytes_lets_exactly_those_through() {
    let server = echo().await;
    let proxy = Proxy::to(server.port).await;
    let mut stream = connect(&proxy).await;
    proxy.cut_after(Direction::ToClient, 4);
    stream.write_all(b"abcdefgh").await.unwrap();
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    assert_eq!(got, b"abcd");
    assert_eq!(ask(&mut connect(&proxy).await, "again").await.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_refused_connection_is_refused_until_healed() {
    let server = echo().await;
    let proxy = Proxy::to(server.port).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "one").await.as_deref(), Some("one"));
    proxy.refuse();
    assert_eq!(ask(&mut stream, "two").await, None);
    let address = ("127.0.0.1", proxy.port());
    eventually(LONG, "the port is closed", async || TcpStream::connect(address).await.is_err())
        .await;
    proxy.heal();
    eventually(LONG, "the port is open", async || TcpStream::connect(address).await.is_ok()).await;
    assert_eq!(ask(&mut connect(&proxy).await, "three").await.as_deref(), Some("three"));
}

#[tokio::test]
async fn a_delay_holds_data_at_least_that_long() {
    let server = echo().await;
    let proxy = Proxy::to(server.port).await;
    proxy.delay(Duration::from_millis(30));
    let mut stream = connect(&proxy).await;
    let began = std::time::Instant::now();
    assert_eq!(ask(&mut stream, "one").await.as_deref(), Some("one"));
    assert!(began.elapsed() >= Duration::from_millis(60));
}
