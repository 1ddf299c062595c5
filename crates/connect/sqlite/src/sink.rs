//! Writes copies into one SQLite file.
//!
//! Law: rows and checkpoint move in one transaction. That makes it safe to sync less often than
//! every commit where there is a write-ahead log: what a power cut takes, it takes from both, and
//! the event log gives it again.

mod apply;
mod checkpoint;
mod held;
mod member;
mod parked;
mod prepare;
mod untangle;
mod values;

pub(crate) use checkpoint::read as checkpoint_of;
pub(crate) use held::lost as lost_copies;
pub(crate) use parked::read as parked_of;
pub(crate) use prepare::{Wanted, create_statement};
pub(crate) use values::stored as stored_value;

use crate::database::blocking;
use crate::file::{self, sink_error};
use crate::locked;
use crate::turn::Turn;
use apply::Writer;
use async_trait::async_trait;
use prepare::Targets;
use rowcast_core::{
    Checkpoint, Join, Lanes, LogId, Mark, Offset, Parked, Progress, Roll, Rows, ServiceName, Shape,
    Sink, SinkError, SinkSpec, Track,
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
    /// Held while a transaction is open; let go after the connection.
    turn: Option<Turn>,
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
        blocking(move || {
            let mut inner = match inner.lock() {
                Ok(inner) => inner,
                Err(poisoned) => {
                    let mut inner = PoisonError::into_inner(poisoned);
                    inner.open = None;
                    inner
                }
            };
            run(&mut inner).map_err(|error| locked::explained(&inner.path, error))
        })
        .await
    }
}

#[async_trait]
impl Sink for SqliteSink {
    async fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        self.run(move |inner| inner.wants(log)).await
    }

    async fn parked(&mut self) -> Result<Vec<Parked>, SinkError> {
        self.run(|inner| inner.parked()).await
    }

    async fn hold(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        self.run(move |inner| inner.hold(log)).await
    }

    async fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        let rows = rows.clone();
        self.run(move |inner| inner.apply(&rows, progress)).await
    }

    async fn roll(&mut self) -> Result<Roll, SinkError> {
        let ask = |inner: &mut Inner| {
            let open = inner.connected()?;
            let roll = member::roll(&open.connection, &inner.spec.route);
            roll.map_err(|e| inner.refused("reading the members", e))
        };
        self.run(ask).await
    }

    async fn look(&mut self) -> Result<(), SinkError> {
        self.run(|inner| {
            let lost = held::lost(&inner.connected()?.connection, &inner.spec.route, "'live'");
            let lost = lost.map_err(|e| inner.refused("looking at its tables", e))?;
            if lost.is_empty() { Ok(()) } else { Err(held::gone(&inner.service)) }
        })
        .await
    }

    async fn is_empty(&mut self, into: &str) -> Result<bool, SinkError> {
        let into = into.to_string();
        self.run(move |inner| {
            let empty = member::is_empty(&inner.connected()?.connection, &into);
            empty.map_err(|e| inner.refused("looking at its tables", e))
        })
        .await
    }

    async fn mark(&mut self, mark: &Mark) -> Result<(), SinkError> {
        let mark = mark.clone();
        let work = move |inner: &Inner, open: &Open| {
            let (c, route) = (&open.connection, &inner.spec.route);
            inner.compare(open, Track::Main, mark.at)?;
            let marked = member::mark(c, route, open.log, &mark);
            marked.map_err(|e| inner.refused("writing the members", e))
        };
        self.run(move |inner| inner.alone(work)).await
    }

    async fn seed(&mut self, shapes: &[Arc<Shape>]) -> Result<(), SinkError> {
        let shapes = shapes.to_vec();
        let work = move |inner: &Inner, open: &Open| {
            let (c, route) = (&open.connection, &inner.spec.route);
            shapes.iter().try_for_each(|shape| member::seed(c, route, shape))
        };
        self.run(move |inner| inner.alone(work)).await
    }

    async fn lanes(&mut self, count: u16) -> Result<Lanes, SinkError> {
        if count <= 1 {
            return Ok(Lanes::default());
        }
        self.run(|inner| {
            Err(SinkError::Setup {
                service: inner.service.clone(),
                what: "a SQLite file has one writer at a time, so lanes would wait for each other"
                    .into(),
                help: "take `lanes` out of the configuration".into(),
                source: None,
            })
        })
        .await
    }

    async fn join(&mut self, join: &Join) -> Result<(), SinkError> {
        let join = join.clone();
        let work = move |inner: &Inner, open: &Open| {
            inner.compare(open, Track::Main, join.from)?;
            inner.compare(open, Track::Side, join.next)?;
            member::join(&open.connection, &inner.spec.route, open.log, &join)
        };
        self.run(move |inner| inner.alone(work)).await
    }
}

impl Inner {
    fn refused(&self, doing: &str, error: Error) -> SinkError {
        sink_error(&self.service, doing, error)
    }

    fn key(&self) -> String {
        member::key(&self.spec.route, self.spec.track)
    }

    fn connected(&self) -> Result<&Open, SinkError> {
        self.open.as_ref().ok_or_else(|| self.unconnected())
    }

    fn unconnected(&self) -> SinkError {
        SinkError::Unreachable {
            service: self.service.clone(),
            source: "the sink has to be connected again".into(),
        }
    }

    /// Refuses when a track's checkpoint is not where it should be.
    fn compare(&self, open: &Open, track: Track, at: Offset) -> Result<(), SinkError> {
        let route = &self.spec.route;
        let here = checkpoint::read(&open.connection, &member::key(route, track));
        let here = here.map_err(|e| self.refused("reading the checkpoint", e))?;
        let none = Checkpoint { next: Offset(0), position: None };
        let known = here.map_or(none, |(_, checkpoint)| checkpoint);
        checkpoint::compare(route, here, (open.log, known), at)
    }

    /// Does something in a transaction of its own. After an error the connection is not trusted.
    fn alone(
        &mut self,
        work: impl FnOnce(&Inner, &Open) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let open = self.open.take().ok_or_else(|| self.unconnected())?;
        let refused = |e| self.refused("writing", e);
        let _turn = Turn::of(&open.connection).map_err(refused)?;
        open.connection.execute_batch("BEGIN IMMEDIATE").map_err(refused)?;
        work(self, &open)?;
        open.connection.execute_batch("COMMIT").map_err(refused)?;
        self.open = Some(open);
        Ok(())
    }

    fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        let checkpoint = self.connect(log)?;
        if let (Track::Main, Some(open)) = (self.spec.track, &mut self.open) {
            let renewed = held::renew(&mut open.connection, &self.spec.route);
            renewed.map_err(|e| self.refused("looking at its tables", e))?;
        }
        Ok(checkpoint)
    }

    fn connect(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        // A new connection forgets whatever the old one was about to do.
        self.open = None;
        let mut connection = connect(&self.path).map_err(|e| self.refused("opening it", e))?;
        let first = crate::table::Table::find(&connection, "_rowcast_parked");
        let first = first.map_err(|e| self.refused("opening it", e))?.is_none();
        let turn = first.then(|| Turn::of(&connection)).transpose();
        let turn = turn.map_err(|e| self.refused("opening it", e))?;
        let read = checkpoint::make_table(&connection)
            .and_then(|()| member::make_table(&connection))
            .and_then(|()| parked::make_table(&connection))
            .and_then(|()| checkpoint::read(&connection, &self.key()));
        drop(turn);
        let read = read.map_err(|e| self.refused("reading the checkpoint", e))?;
        let checkpoint = match read {
            None => Checkpoint { next: Offset(0), position: None },
            Some((found, checkpoint)) if found == log => checkpoint,
            Some((found, _)) => {
                return Err(checkpoint::of_another_log(&self.spec.route, found, log));
            }
        };
        let mut targets = Targets::default();
        if self.spec.track == Track::Side {
            let kept = member::give_up_lost(&mut connection, &self.spec.route);
            kept.map_err(|e| self.refused("looking for build tables", e))?;
            let beside = member::beside(&connection, &self.spec.route);
            let beside = beside.map_err(|e| self.refused("reading the members", e))?;
            let route = &self.spec.route;
            let build = |into: String| (into.clone(), member::build(route, &into));
            targets.beside(beside.into_iter().map(build).collect());
        }
        self.open = Some(Open { connection, log, checkpoint, targets, half: false, turn: None });
        Ok(checkpoint)
    }

    /// Nobody else writes to the file from now on, so the checkpoint stays where it is.
    fn hold(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        self.connect(log)?;
        let turn = self.open.as_ref().map(|open| Turn::of(&open.connection));
        let turn = turn.transpose().map_err(|e| self.refused("holding the checkpoint", e))?;
        let held = match &self.open {
            Some(open) => open
                .connection
                .execute_batch("BEGIN IMMEDIATE")
                .and_then(|()| checkpoint::read(&open.connection, &self.key())),
            None => Ok(None),
        };
        let found = held.map_err(|e| self.refused("holding the checkpoint", e))?;
        let nothing = Checkpoint { next: Offset(0), position: None };
        let checkpoint = match found {
            Some((other, _)) if other != log => {
                return Err(checkpoint::of_another_log(&self.spec.route, other, log));
            }
            found => found.map_or(nothing, |(_, checkpoint)| checkpoint),
        };
        if let Some(open) = &mut self.open {
            (open.checkpoint, open.half, open.turn) = (checkpoint, true, turn);
        }
        Ok(checkpoint)
    }

    fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        let mut open = self.open.take().ok_or_else(|| self.unconnected())?;
        // Only what went well is kept: dropping the connection undoes what was half done. Bad data
        // says nothing against the connection.
        let applied = self.apply_to(&mut open, rows, progress);
        match &applied {
            Ok(()) | Err(SinkError::LeftOut { .. }) => self.open = Some(open),
            Err(SinkError::Data { .. }) if open.connection.execute_batch("ROLLBACK").is_ok() => {
                (open.half, open.turn) = (false, None);
                open.targets.forget();
                self.open = Some(open);
            }
            Err(_) => {}
        }
        applied
    }

    fn parked(&mut self) -> Result<Vec<Parked>, SinkError> {
        let read = parked::read(&self.connected()?.connection, &self.key());
        read.map_err(|e| self.refused("reading _rowcast_parked", e))
    }

    fn apply_to(&self, open: &mut Open, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        let refused = |e| self.refused("writing", e);
        if !open.half {
            open.turn = Some(Turn::of(&open.connection).map_err(refused)?);
            open.connection.execute_batch("BEGIN IMMEDIATE").map_err(refused)?;
        }
        let route = &self.spec.route;
        let here = checkpoint::read(&open.connection, &self.key()).map_err(refused)?;
        checkpoint::compare(route, here, (open.log, open.checkpoint), progress.from)?;
        let places = open.targets.prepare(&open.connection, route, &rows.shapes)?;
        let left = Writer::new(&open.connection, &self.service, &places).write(rows)?;
        if !left.is_empty() {
            open.half = true;
            return Err(left.into_error());
        }
        parked::write(&open.connection, &self.key(), &rows.parks).map_err(refused)?;
        if progress.commit {
            open.checkpoint = checkpoint::write(&open.connection, &self.key(), open.log, &progress)
                .map_err(refused)?;
            open.connection.execute_batch("COMMIT").map_err(refused)?;
        }
        open.half = !progress.commit;
        if progress.commit {
            open.turn = None;
        }
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
