//! The source: a PostgreSQL database's committed changes, by logical replication.
//!
//! [`capture`] is the loop; [`flow`] says what each message does, [`assemble`] makes batches of it;
//! [`prepare`] decides where to begin; [`snapshot`] copies what was there before.

mod assemble;
mod capture;
pub(crate) mod catalog;
pub(crate) mod column_list;
mod copy;
mod cursor;
mod expression;
mod flow;
mod hidden;
pub(crate) mod holders;
mod kinds;
mod leaves;
pub(crate) mod needs;
mod pgoutput;
pub(crate) mod prepare;
pub(crate) mod publication;
mod reshape;
pub(crate) mod retained;
pub(crate) mod rows;
pub(crate) mod shape;
pub(crate) mod slot;
mod snapshot;
mod timeline;
pub(crate) mod trouble;
pub(crate) mod view;
pub(crate) mod wire;
mod withdraw;

use crate::connect::Address;
use async_trait::async_trait;
pub(crate) use capture::emit;
use capture::{Confirmed, Outlet, Package, Task};
use rowcast_core::{Batch, Position, Source, SourceError, SourceSpec, Start};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use trouble::Trouble;

/// Batches that may wait to be taken, in multiples of the largest.
const WAITING_BATCHES: u64 = 4;

/// Reads one database.
#[derive(Debug)]
pub(crate) struct PostgresSource {
    address: Address,
    spec: SourceSpec,
    running: Option<Running>,
}

impl PostgresSource {
    /// A source that is not connected yet.
    pub(crate) fn new(address: Address, spec: SourceSpec) -> Self {
        Self { address, spec, running: None }
    }

    fn trouble(&self) -> Trouble {
        Trouble(self.spec.service.clone())
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn start(&mut self, from: Start) -> Result<(), SourceError> {
        self.running = None;
        let (running, started) = Running::begin(&self.address, &self.spec, from).map_err(|e| {
            SourceError::Unreachable { service: self.spec.service.clone(), source: Box::new(e) }
        })?;
        self.running = Some(running);
        let started = started.await;
        started.map_err(|_| self.trouble().bug("the capturing thread ended"))?
    }

    async fn next(&mut self) -> Result<Batch, SourceError> {
        let Some(running) = &mut self.running else {
            return Err(self.trouble().bug("asked for changes before it was started"));
        };
        match running.batches.recv().await {
            Some(Ok((batch, _room))) => Ok(batch),
            Some(Err(error)) => Err(error),
            None => Err(self.trouble().lost("capture has ended")),
        }
    }

    async fn confirm(&mut self, upto: &Position) -> Result<(), SourceError> {
        if let Some(running) = &self.running {
            running.confirmed.set(upto.point.value());
        }
        Ok(())
    }
}

/// A thread that captures. It ends when this is dropped.
#[derive(Debug)]
struct Running {
    batches: mpsc::Receiver<Package>,
    confirmed: Arc<Confirmed>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn begin(
        address: &Address,
        spec: &SourceSpec,
        from: Start,
    ) -> io::Result<(Self, oneshot::Receiver<Result<(), SourceError>>)> {
        let (outlet, batches) = Outlet::new(spec.batch_bytes_max.0.max(1 << 20) * WAITING_BATCHES);
        let confirmed = Arc::new(Confirmed::default());
        let (say, started) = oneshot::channel();
        let stop = CancellationToken::new();
        let task = Task {
            address: address.clone(),
            spec: spec.clone(),
            outlet,
            confirmed: confirmed.clone(),
            stop: stop.clone(),
            peeks: true,
            handed: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = move || {
            runtime.block_on(task.run(from, say));
            // A name that is being resolved must not hold up the end.
            runtime.shutdown_background();
        };
        let name = format!("capture {}", spec.service);
        let thread = Some(std::thread::Builder::new().name(name).spawn(body)?);
        Ok((Self { batches, confirmed, stop, thread }, started))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        // It waits for nothing but what the token ends, so this takes no longer than a batch does.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
