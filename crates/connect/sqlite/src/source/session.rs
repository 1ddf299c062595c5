//! One connected capture: the connection, and what it does with its file.

use super::install::{install, lost, reinstall};
use super::ledger;
use super::reader::{Looked, Reader};
use crate::file::{self, Meaning, meaning, source_error};
use rowcast_core::{Batch, Point, Position, SourceError, SourceSpec, Start};
use rusqlite::{Connection, Error};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Changes taken out of the file in one transaction: few enough that no writer waits long.
const PURGE_AT_ONCE: u64 = 5_000;

/// Confirmed changes that are worth a transaction while there is other work.
const PURGE_BACKLOG: u64 = 20_000;

/// A connected capture.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    path: PathBuf,
    /// Which file the path named when it was opened.
    file: Option<(u64, u64)>,
    spec: SourceSpec,
    reader: Reader,
    data_version: i64,
    /// The log holds everything before this.
    confirmed: u64,
    /// And the file nothing before this.
    purged: u64,
}

impl Session {
    /// Opens the file and makes it ready.
    pub(super) fn begin(path: &Path, spec: SourceSpec, start: Start) -> Result<Self, SourceError> {
        let refused = |error| source_error(&spec.service, "opening the database", error);
        let mut connection = file::open(path).map_err(refused)?;
        let installed = install(&mut connection, &spec, &start)?;
        let next = installed.next;
        let reader = Reader::new(installed, &spec, start);
        // Never the real data version: the first look is due.
        let (confirmed, purged, data_version) = (0, next, -1);
        let (path, file) = (path.to_path_buf(), identity(path));
        Ok(Self { connection, path, file, spec, reader, data_version, confirmed, purged })
    }

    /// Whether somebody committed since the last call.
    pub(super) fn has_news(&mut self) -> Result<bool, SourceError> {
        if identity(&self.path) != self.file {
            // Whoever starts again sees whether the new file goes on with the old history.
            let other = std::io::Error::other("the file was moved, removed or replaced");
            let service = self.spec.service.clone();
            return Err(SourceError::Unreachable { service, source: other.into() });
        }
        let version = self.connection.query_row("PRAGMA data_version", [], |row| row.get(0));
        let version = version.map_err(|e| self.refused("looking for news", e))?;
        let news = self.data_version != version;
        self.data_version = version;
        Ok(news)
    }

    fn refused(&self, doing: &str, error: Error) -> SourceError {
        source_error(&self.spec.service, doing, error)
    }

    /// The next batch, if there is anything to say.
    pub(super) fn look(&mut self) -> Result<Option<Batch>, SourceError> {
        if self.confirmed.saturating_sub(self.purged) > PURGE_BACKLOG {
            self.purge()?;
        }
        loop {
            let looked = self.read().map_err(|e| self.refused("reading changes", e))?;
            match looked {
                Looked::Batch(batch) => return Ok(batch),
                Looked::TablesChanged => {
                    let (epoch, next) = (self.reader.epoch, self.reader.next);
                    let again = reinstall(&mut self.connection, &self.spec, epoch, next)?;
                    self.reader.reinstalled(again);
                }
            }
        }
    }

    fn read(&mut self) -> Result<Looked, Error> {
        let transaction = self.connection.transaction()?;
        let looked = self.reader.look(&transaction)?;
        transaction.rollback()?;
        Ok(looked)
    }

    /// The log holds everything before `upto`.
    pub(super) fn confirm(&mut self, upto: &Position) -> Result<(), SourceError> {
        let Point::Sequence(upto_number) = upto.point else {
            return Err(lost(&self.spec.service, "the log follows another kind of database"));
        };
        // A word from before a new history says nothing about this one.
        if upto.epoch == self.reader.epoch {
            self.confirmed = self.confirmed.max(upto_number.min(self.reader.next));
        }
        Ok(())
    }

    /// Whether confirmed changes are still in the file.
    pub(super) fn can_purge(&self) -> bool {
        self.confirmed > self.purged
    }

    /// Takes some of what the log holds out of the file. Gives way to any other writer.
    pub(super) fn purge(&mut self) -> Result<(), SourceError> {
        let waits = |c: &Connection, wait| c.busy_timeout(wait);
        let run = |c: &Connection, upto| {
            waits(c, Duration::ZERO)?;
            let more = ledger::purge(c, upto, PURGE_AT_ONCE);
            waits(c, file::BUSY)?;
            more
        };
        match run(&self.connection, self.confirmed) {
            Ok(false) => self.purged = self.confirmed,
            Ok(true) => {}
            Err(e) if meaning(&e) == Meaning::Outage => {}
            Err(e) => return Err(self.refused("taking out what the log holds", e)),
        }
        Ok(())
    }
}

/// Which file a path names.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Elsewhere an open file cannot be replaced.
#[cfg(not(unix))]
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.exists().then_some((0, 0))
}
