//! Writes copies into one SQLite file.
//!
//! Law: rows and checkpoint move in one transaction. That makes it safe to sync less often than
//! every commit where there is a write-ahead log: what a power cut takes, it takes from both, and
//! the event log gives it again.

mod apply;
mod checkpoint;
mod prepare;
mod untangle;
mod values;

pub(crate) use prepare::{Wanted, create_statement};

use crate::database::blocking;
use crate::file::{self, sink_error};
use apply::Writer;
use async_trait::async_trait;
use prepare::Targets;
use rowcast_core::{
    Checkpoint, LogId, Offset, Progress, Rows, ServiceName, Sink, SinkError, SinkSpec,
};
use rusqlite::{Connection, Error};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes one route's rows.
pub(crate) struct SqliteSink {
    inner: Arc<Mutex<Inner>>,
}

/// What the blocking side works on. A dropped `apply` runs to its end; the next call waits for it.
struct Inner {
    path: PathBuf,
    service: ServiceName,
    spec: SinkSpec,
    open: Option<Open>,
}

/// A connected target.
struct Open {
    connection: Connection,
    log: LogId,
    /// The checkpoint as we know it; somebody else's would differ.
    checkpoint: Checkpoint,
    targets: Targets,
    /// A transaction of the target is open, with rows that are not whole yet.
    half: bool,
}

impl SqliteSink {
    pub(crate) fn new(path: PathBuf, service: ServiceName, spec: SinkSpec) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { path, service, spec, open: None })) }
    }

    async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Inner) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let inner = self.inner.clone();
        // After a panic the connection is not trusted: `wants` opens another one.
        blocking(move || match inner.lock() {
            Ok(mut inner) => run(&mut inner),
            Err(poisoned) => {
                let mut inner = PoisonError::into_inner(poisoned);
                inner.open = None;
                run(&mut inner)
            }
        })
        .await
    }
}

#[async_trait]
impl Sink for SqliteSink {
    async fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        self.run(move |inner| inner.wants(log)).await
    }

    async fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        let rows = rows.clone();
        self.run(move |inner| inner.apply(&rows, progress)).await
    }
}

impl Inner {
    fn refused(&self, doing: &str, error: Error) -> SinkError {
        sink_error(&self.service, doing, error)
    }

    fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        // A new connection forgets whatever the old one was about to do.
        self.open = None;
        let connection = connect(&self.path).map_err(|e| self.refused("opening it", e))?;
        let read = checkpoint::make_table(&connection)
            .and_then(|()| checkpoint::read(&connection, &self.spec.route));
        let read = read.map_err(|e| self.refused("reading the checkpoint", e))?;
        let checkpoint = match read {
            None => Checkpoint { next: Offset(0), position: None },
            Some((found, checkpoint)) if found == log => checkpoint,
            Some(_) => return Err(checkpoint::of_another_log(&self.spec.route)),
        };
        let targets = Targets::default();
        self.open = Some(Open { connection, log, checkpoint, targets, half: false });
        Ok(checkpoint)
    }

    fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        let Some(mut open) = self.open.take() else {
            return Err(SinkError::Unreachable {
                service: self.service.clone(),
                source: "the sink has to be connected again".into(),
            });
        };
        // Only what went well is kept: dropping the connection undoes what was half done.
        self.apply_to(&mut open, rows, progress)?;
        self.open = Some(open);
        Ok(())
    }

    fn apply_to(&self, open: &mut Open, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        let refused = |e| self.refused("writing", e);
        if !open.half {
            open.connection.execute_batch("BEGIN IMMEDIATE").map_err(refused)?;
        }
        let route = &self.spec.route;
        let here = checkpoint::read(&open.connection, route).map_err(refused)?;
        checkpoint::compare(route, here, (open.log, open.checkpoint), progress.from)?;
        let places = open.targets.prepare(&open.connection, &self.service, &rows.shapes)?;
        Writer::new(&open.connection, &self.service, &places).write(rows)?;
        if progress.commit {
            open.checkpoint =
                checkpoint::write(&open.connection, route, open.log, &progress).map_err(refused)?;
            open.connection.execute_batch("COMMIT").map_err(refused)?;
        }
        open.half = !progress.commit;
        Ok(())
    }
}

fn connect(path: &std::path::Path) -> Result<Connection, Error> {
    let connection = file::open_or_make(path)?;
    if file::has_wal(&connection)? {
        connection.pragma_update(None, "synchronous", "normal")?;
    }
    // The publisher has checked its references already; a copy may hold only some of the tables,
    // and a unit's rows may come in any order. A subscriber's own references to a copy must not
    // stop the copy either.
    connection.pragma_update(None, "foreign_keys", false)?;
    Ok(connection)
}
