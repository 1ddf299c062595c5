//! Opening database files, and what SQLite's errors mean.

use rowcast_core::{BoxError, ServiceName, SinkError, SourceError};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for another connection's write to end.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// For a file that does not answer.
pub(crate) const FILE_HELP: &str = "is the path right (it is relative to the folder of the \
    configuration file), is the file an SQLite database, and may this user read and write it and its \
    folder?";

/// Opens a database that must be there.
pub(crate) fn open(path: &Path) -> Result<Connection, Error> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// Opens a database; makes it when it is missing. A new one gets a write-ahead log, so that its
/// readers never wait for us.
pub(crate) fn open_or_make(path: &Path) -> Result<Connection, Error> {
    let new = !path.exists();
    let create = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = connect(path, create)?;
    if new {
        connection.pragma_update(None, "journal_mode", "wal")?;
    }
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(512);
    Ok(connection)
}

/// Whether the database has a write-ahead log.
pub(crate) fn has_wal(connection: &Connection) -> Result<bool, Error> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A second try may work: locked, no space, a failing disk.
    Outage,
    /// The file is missing, is no database, or may not be used.
    Setup,
    /// A row breaks a rule.
    Constraint,
    /// A statement and the database's tables do not fit.
    Statement,
}

/// What SQLite's code asks for.
pub(crate) fn meaning(error: &Error) -> Meaning {
    use ErrorCode as E;
    match error.sqlite_error_code() {
        Some(E::DatabaseBusy | E::DatabaseLocked | E::SystemIoFailure | E::DiskFull) => {
            Meaning::Outage
        }
        Some(E::SchemaChanged | E::OperationInterrupted | E::OutOfMemory) => Meaning::Outage,
        Some(E::OperationAborted | E::FileLockingProtocolFailed) => Meaning::Outage,
        Some(E::CannotOpen | E::ReadOnly | E::NotADatabase | E::DatabaseCorrupt) => Meaning::Setup,
        Some(E::PermissionDenied | E::AuthorizationForStatementDenied) => Meaning::Setup,
        Some(E::ConstraintViolation | E::TypeMismatch | E::TooBig) => Meaning::Constraint,
        _ => Meaning::Statement,
    }
}

/// SQLite has no words for the ways in which a disk fails.
#[derive(Debug, thiserror::Error)]
#[error("{what} (SQLite's code {code})")]
struct Disk {
    what: &'static str,
    code: i32,
}

fn told(error: Error) -> BoxError {
    let Error::SqliteFailure(failure, _) = &error else { return error.into() };
    let code = failure.extended_code;
    let what = match failure.code {
        ErrorCode::DiskFull => "the disk is full",
        // It begins with room for the file that its readers and writers share.
        ErrorCode::SystemIoFailure if code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
            "a file beside it cannot grow, most likely because the disk is full"
        }
        ErrorCode::SystemIoFailure => "the disk fails or is full",
        _ => return error.into(),
    };
    Disk { what, code }.into()
}

/// An error at a source, said in the seam's words. Constraint messages name columns, never values.
pub(crate) fn source_error(service: &ServiceName, doing: &str, error: Error) -> SourceError {
    let service = service.clone();
    match meaning(&error) {
        Meaning::Outage => SourceError::Unreachable { service, source: told(error) },
        Meaning::Setup | Meaning::Constraint | Meaning::Statement => SourceError::Setup {
            service,
            what: format!("{doing} failed"),
            help: "is the file there, is it an SQLite database, and may this user write it and \
                   its folder?"
                .into(),
            source: Some(error.into()),
        },
    }
}

/// An error at a sink that concerns no single row.
pub(crate) fn sink_error(service: &ServiceName, doing: &str, error: Error) -> SinkError {
    let service = service.clone();
    let meant = meaning(&error);
    let source = told(error);
    match meant {
        Meaning::Outage => SinkError::Unreachable { service, source },
        _ => SinkError::Setup {
            service,
            what: format!("{doing} failed"),
            help: "is the file an SQLite database, and may this user write it and its folder?"
                .into(),
            source: Some(source),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn a_full_disk_is_said_in_words() {
        for (code, said) in [
            (ffi::SQLITE_FULL, "the disk is full (SQLite's code 13)"),
            (4874, "most likely because the disk is full (SQLite's code 4874)"),
            (ffi::SQLITE_IOERR_FSYNC, "the disk fails or is full"),
        ] {
            let error = Error::SqliteFailure(ffi::Error::new(code), None);
            let told = told(error).to_string();
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn what_surrounds_a_row_is_never_the_rows_fault() {
        let meant = |code: i32| meaning(&Error::SqliteFailure(ffi::Error::new(code), None));
        let outages = [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_FULL,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_INTERRUPT,
            ffi::SQLITE_ABORT,
            ffi::SQLITE_PROTOCOL,
            ffi::SQLITE_SCHEMA,
        ];
        let setups = [
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_PERM,
            ffi::SQLITE_AUTH,
        ];
        let rows = [
            ffi::SQLITE_CONSTRAINT_CHECK,
            ffi::SQLITE_CONSTRAINT_NOTNULL,
            ffi::SQLITE_CONSTRAINT_UNIQUE,
            ffi::SQLITE_CONSTRAINT_TRIGGER,
            ffi::SQLITE_MISMATCH,
            ffi::SQLITE_TOOBIG,
        ];
        let statements = [ffi::SQLITE_ERROR, ffi::SQLITE_INTERNAL, ffi::SQLITE_MISUSE];
        for (codes, meaning) in [
            (&outages[..], Meaning::Outage),
            (&setups, Meaning::Setup),
            (&rows, Meaning::Constraint),
            (&statements, Meaning::Statement),
        ] {
            for code in codes {
                assert_eq!(meant(*code), meaning, "code {code}");
            }
        }
        let service: ServiceName = "order".parse().unwrap();
        for code in outages.iter().chain(&setups).chain(&statements) {
            let error = Error::SqliteFailure(ffi::Error::new(*code), None);
            let error = sink_error(&service, "writing", error);
            assert!(!matches!(error, SinkError::Data { .. }), "code {code}: {error:?}");
        }
    }
}
