//! The registry as one file: an embedded database, because a catalog is small, changes seldom, and
//! each change must be there as a whole after a crash.

use crate::private;
use crate::registry::words;
use async_trait::async_trait;
use rowcast_core::{
    BoxError, Catalog, Edit, Entry, Pause, Registry, RegistryError, RouteId, Subscription, Version,
};
use rusqlite::{Connection, Error, ErrorCode, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// "Rowc": tells our file from others'.
const APPLICATION: i32 = 0x526f_7763;
/// The form of the tables. A newer one is refused.
const FORMAT: i32 = 1;
/// Longest to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE version (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);
    INSERT INTO version VALUES (1, 0);
    CREATE TABLE subscription (
        place INTEGER PRIMARY KEY, subscriber TEXT NOT NULL, publisher TEXT NOT NULL,
        entity TEXT NOT NULL, target TEXT NOT NULL, origin TEXT NOT NULL, definition TEXT NOT NULL,
        UNIQUE (subscriber, publisher, entity, target));
    CREATE TABLE pause (
        publisher TEXT NOT NULL, subscriber TEXT NOT NULL, paused_by TEXT NOT NULL, why TEXT,
        PRIMARY KEY (publisher, subscriber));";

/// Subscriptions in an SQLite file, written ahead with full synchronisation: an edit that returned
/// is on the disk. Only edits through the same handle wake [`changed`](Registry::changed); another
/// process's are seen by the next load or edit.
#[derive(Debug)]
pub struct SqliteRegistry {
    inner: Arc<Inner>,
    newest: watch::Sender<Version>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteRegistry {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When the file is damaged, not ours, or a newer version's; or the system refuses.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let path = path.into();
        // Made here, because SQLite would leave its mode to the umask; its other files take the mode
        // of this one.
        let made = private::options().append(true).create(true).open(&path);
        made.map_err(|source| {
            let place = path.display().to_string();
            RegistryError::Unusable { place, source: Box::new(source) }
        })?;
        let mut connection = Connection::open(&path).map_err(|e| failed(&path, e))?;
        connection.busy_timeout(BUSY).map_err(|e| failed(&path, e))?;
        prepare(&path, &mut connection)?;
        let inner = Inner { path, connection: Mutex::new(connection) };
        let (version, _) = inner.read(load)?;
        Ok(Self { inner: Arc::new(inner), newest: watch::Sender::new(version) })
    }

    /// Runs off the tasks' threads: a sync takes as long as the disk likes.
    async fn off<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| {
            let place = self.inner.path.display().to_string();
            Err(RegistryError::Unusable { place, source: e.into() })
        })
    }
}

#[async_trait]
impl Registry for SqliteRegistry {
    async fn load(&self) -> Result<(Version, Catalog), RegistryError> {
        self.off(|inner| inner.read(load)).await
    }

    async fn edit(&self, seen: Version, edit: Edit) -> Result<Version, RegistryError> {
        let made =
            self.off(move |inner| inner.write(|t, path| change(t, path, seen, edit))).await?;
        self.newest.send_if_modified(|newest| {
            let newer = made > *newest;
            *newest = made.max(*newest);
            newer
        });
        Ok(made)
    }

    async fn changed(&self, seen: Version) -> Result<Version, RegistryError> {
        let mut newest = self.newest.subscribe();
        let newer = newest.wait_for(|version| *version > seen).await;
        Ok(*newer.expect("we hold the sender"))
    }
}

impl Inner {
    fn read<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Path) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.within(TransactionBehavior::Deferred, work)
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Path) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.within(TransactionBehavior::Immediate, work)
    }

    fn within<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>, &Path) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        // A panic in between has rolled back.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(behavior);
        let transaction = transaction.map_err(|e| failed(&self.path, e))?;
        let done = work(&transaction, &self.path)?;
        transaction.commit().map_err(|e| failed(&self.path, e))?;
        Ok(done)
    }
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<(), RegistryError> {
    let failed = |e| failed(path, e);
    let place = path.display().to_string();
    let number = |c: &Connection, name: &str| c.pragma_query_value(None, name, |row| row.get(0));
    let application: i32 = number(connection, "application_id").map_err(failed)?;
    let format: i32 = number(connection, "user_version").map_err(failed)?;
    let objects = "SELECT count(*) FROM sqlite_schema";
    let objects: i64 = connection.query_row(objects, [], |row| row.get(0)).map_err(failed)?;
    let is_new = application == 0 && format == 0 && objects == 0;
    if !is_new && application != APPLICATION {
        let what = "it is another program's database".into();
        return Err(RegistryError::Damaged { place, what });
    }
    if format > FORMAT {
        let what = format!("it has format {format}, and this version knows {FORMAT}");
        return Err(RegistryError::Newer { place, what });
    }
    connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    if is_new {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    let sound: String =
        connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(failed)?;
    if sound == "ok" { Ok(()) } else { Err(RegistryError::Damaged { place, what: sound }) }
}

fn load(t: &Transaction<'_>, path: &Path) -> Result<(Version, Catalog), RegistryError> {
    let failed = |e| failed(path, e);
    let number: i64 =
        t.query_row("SELECT number FROM version", [], |row| row.get(0)).map_err(failed)?;
    let mut catalog = Catalog::default();
    let mut statement = t
        .prepare("SELECT subscriber, publisher, entity, target, origin, definition FROM subscription ORDER BY place")
        .map_err(failed)?;
    let rows = statement.query_map([], |row| {
        let text = |i: usize| row.get::<_, String>(i);
        Ok([text(0)?, text(1)?, text(2)?, text(3)?, text(4)?, text(5)?])
    });
    for row in rows.map_err(failed)? {
        let entry = entry(row.map_err(failed)?);
        let unknown = |what| RegistryError::Newer { place: path.display().to_string(), what };
        catalog.entries.push(entry.map_err(unknown)?);
    }
    let mut statement =
        t.prepare("SELECT publisher, subscriber, paused_by, why FROM pause").map_err(failed)?;
    let rows = statement.query_map([], |row| {
        let names: [String; 2] = [row.get(0)?, row.get(1)?];
        Ok((names, Pause { by: row.get(2)?, why: row.get(3)? }))
    });
    for row in rows.map_err(failed)? {
        let ([from, to], pause) = row.map_err(failed)?;
        let name = |text: &str| text.parse().map_err(|e| damaged(path, e));
        catalog.pauses.insert(RouteId { from: name(&from)?, to: name(&to)? }, pause);
    }
    Ok((Version(number.cast_unsigned()), catalog))
}

fn entry([to, from, entity, into, origin, definition]: [String; 6]) -> Result<Entry, String> {
    let subscription: Subscription = words::subscription(&entity, into, &definition)?;
    let name = |text: &str| text.parse().map_err(|e| format!("{e}"));
    let (to, from) = (name(&to)?, name(&from)?);
    Ok(Entry { to, from, subscription, origin: words::origin(&origin)? })
}

fn change(
    t: &Transaction<'_>,
    path: &Path,
    seen: Version,
    edit: Edit,
) -> Result<Version, RegistryError> {
    let (now, mut catalog) = load(t, path)?;
    if now != seen {
        return Err(RegistryError::Stale { seen, now });
    }
    if !catalog.edit(edit)? {
        return Ok(now);
    }
    let next = Version(now.0 + 1);
    store(t, next, &catalog).map_err(|e| failed(path, e))?;
    Ok(next)
}

/// A catalog is small: writing all of it anew leaves no room for a difference between memory and
/// disk.
fn store(t: &Transaction<'_>, version: Version, catalog: &Catalog) -> Result<(), Error> {
    t.execute("UPDATE version SET number = ?1", [version.0.cast_signed()])?;
    t.execute("DELETE FROM subscription", [])?;
    let mut insert = t.prepare(
        "INSERT INTO subscription (subscriber, publisher, entity, target, origin, definition) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for entry in &catalog.entries {
        let subscription = &entry.subscription;
        insert.execute(params![
            entry.to.as_str(),
            entry.from.as_str(),
            subscription.entity.as_str(),
            subscription.into,
            entry.origin.as_str(),
            words::definition(subscription),
        ])?;
    }
    t.execute("DELETE FROM pause", [])?;
    let mut insert = t.prepare(
        "INSERT INTO pause (publisher, subscriber, paused_by, why) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (route, pause) in &catalog.pauses {
        insert.execute(params![route.from.as_str(), route.to.as_str(), pause.by, pause.why])?;
    }
    Ok(())
}

fn failed(path: &Path, error: Error) -> RegistryError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, error),
        _ => RegistryError::Unusable { place: path.display().to_string(), source: told(error) },
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
        ErrorCode::SystemIoFailure if code == rusqlite::ffi::SQLITE_IOERR_WRITE => {
            "it cannot be written: the disk fails or is full"
        }
        ErrorCode::SystemIoFailure => "the disk fails or is full",
        _ => return error.into(),
    };
    Disk { what, code }.into()
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> RegistryError {
    RegistryError::Damaged { place: path.display().to_string(), what: error.to_string() }
}
