//! A TCP proxy with scripted faults: it can stall, cut, refuse and delay.

use crate::postgres::free_port;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client: stalling it holds the replies.
    ToClient,
}

#[derive(Debug, Clone, Default)]
struct Faults {
    refuse: bool,
    stalled: [bool; 2],
    delay: Duration,
    /// How many bytes may still pass before every connection is cut, once.
    cut_after: [Option<usize>; 2],
    /// Counts cuts: a connection made before the newest one ends.
    cuts: u64,
}

/// A proxy on a local port in front of one server. It ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    faults: watch::Sender<Faults>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of 127.0.0.1:`server`.
    pub async fn to(server: u16) -> Self {
        let (port, listener) = loop {
            let port = free_port();
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                break (port, listener);
            }
        };
        let (faults, _) = watch::channel(Faults::default());
        let open = Arc::new(AtomicUsize::new(0));
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server));
        let task = run(accept(listener, server, faults.clone(), open.clone()));
        Self { port, faults, open, task }
    }

    /// The port to connect to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets nothing more through in one direction; nothing is lost, all is late.
    pub fn stall(&self, direction: Direction) {
        self.faults.send_modify(|faults| faults.stalled[direction as usize] = true);
    }

    /// Stalls both directions: what a pulled cable looks like for a while.
    pub fn stall_both(&self) {
        self.faults.send_modify(|faults| faults.stalled = [true; 2]);
    }

    /// Closes every open connection. New ones are welcome.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Lets `bytes` more through in one direction, then cuts every connection, once. With
    /// [`Direction::ToClient`] and 0, the server does what it is asked and its reply gets lost.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        self.faults.send_modify(|faults| faults.cut_after[direction as usize] = Some(bytes));
    }

    /// Closes every open connection and refuses new ones: the server is down.
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| {
            faults.refuse = true;
            faults.cuts += 1;
        });
    }

    /// Holds every piece of data for so long.
    pub fn delay(&self, by: Duration) {
        self.faults.send_modify(|faults| faults.delay = by);
    }

    /// Ends all faults: what was stalled flows, and new connections are accepted.
    pub fn heal(&self) {
        self.faults
            .send_modify(|faults| *faults = Faults { cuts: faults.cuts, ..Faults::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "the proxy owns the task and aborts it on drop")]
fn run(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    faults: watch::Sender<Faults>,
    open: Arc<AtomicUsize>,
) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut watched = faults.subscribe();
    let mut connections = JoinSet::new();
    loop {
        if faults.borrow().refuse {
            // A closed port refuses; an open one that hangs up at once is something else.
            listener = None;
            if watched.wait_for(|faults| !faults.refuse).await.is_err() {
                return;
            }
        }
        let waiting = match listener.take() {
            Some(waiting) => waiting,
            None => match TcpListener::bind(address).await {
                Ok(bound) => bound,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        tokio::select! {
            accepted = waiting.accept() => {
                if let Ok((client, _)) = accepted {
                    let guard = Open::new(&open);
                    connections.spawn(serve(client, server, faults.clone(), guard));
                }
            }
            _ = watched.wait_for(|faults| faults.refuse) => {}
        }
        while connections.try_join_next().is_some() {}
        listener = Some(waiting);
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(client: TcpStream, server: SocketAddr, faults: watch::Sender<Faults>, _open: Open) {
    let born = faults.borrow().cuts;
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut watched = faults.subscribe();
    tokio::select! {
        // An error on one side is the end of both; an orderly end is passed on.
        _ = async {
            tokio::try_join!(
                pump(from_client, to_server, Direction::ToServer, &faults),
                pump(from_server, to_client, Direction::ToClient, &faults),
            )
        } => {}
        _ = watched.wait_for(|faults| faults.cuts > born) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    faults: &watch::Sender<Faults>,
) -> io::Result<()> {
    let way = direction as usize;
    let mut watched = faults.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        let delay = match watched.wait_for(|faults| !faults.stalled[way]).await {
            Ok(faults) => faults.delay,
            Err(_) => return Ok(()),
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let (pass, cut) = allowed(faults, way, read);
        to.write_all(&buffer[..pass]).await?;
        if cut {
            to.flush().await?;
            faults.send_modify(|faults| faults.cuts += 1);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if read == 0 {
            return to.shutdown().await;
        }
    }
}

/// How much of `read` bytes may pass, and whether the connections are to be cut then.
fn allowed(faults: &watch::Sender<Faults>, way: usize, read: usize) -> (usize, bool) {
    let mut answer = (read, false);
    faults.send_if_modified(|faults| {
        let Some(left) = faults.cut_after[way] else { return false };
        answer = if read > left { (left, true) } else { (read, false) };
        faults.cut_after[way] = if answer.1 { None } else { Some(left - read) };
        false
    });
    answer
}
