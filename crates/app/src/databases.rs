//! The one place that knows which kinds of database there are.

use crate::config::Secret;
use crate::torture::{PostgresScratch, SqliteScratch};
use rowcast_core::{Database, ServiceName};
use rowcast_postgres::PostgresDatabase;
use rowcast_sqlite::SqliteDatabase;
use rowcast_torture::Scratch;
use std::path::Path;
use std::sync::Arc;

/// Why an address is none. Never holds the address: it may hold a password.
#[derive(Debug)]
pub(crate) struct WrongAddress {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl WrongAddress {
    fn new(message: impl Into<String>) -> Self {
        let help = "write `postgres://user@host/name` or `sqlite:file.db`";
        Self { message: message.into(), help: help.into() }
    }
}

/// A service's database; nothing is connected yet. Paths are relative to `base`.
pub(crate) fn open(
    service: &ServiceName,
    address: &Secret<String>,
    base: &Path,
) -> Result<Arc<dyn Database>, WrongAddress> {
    let address = address.reveal();
    match address.split_once(':').map_or("", |(scheme, _)| scheme) {
        "postgres" | "postgresql" => {
            let database = PostgresDatabase::from_url(address);
            Ok(Arc::new(database.map_err(|e| WrongAddress::new(e.to_string()))?))
        }
        "sqlite" => {
            let named = SqliteDatabase::from_url(service.clone(), address)
                .map_err(|e| WrongAddress::new(e.to_string()))?;
            Ok(Arc::new(SqliteDatabase::new(service.clone(), base.join(named.path()))))
        }
        _ => Err(WrongAddress::new("must be the address of a PostgreSQL or SQLite database")),
    }
}

/// A database to torture; nothing is connected yet. Paths are relative to `base`.
pub(crate) fn scratch(
    address: &Secret<String>,
    base: &Path,
) -> Result<Arc<dyn Scratch>, WrongAddress> {
    let service = "scratch".parse().expect("a name that services may have");
    open(&service, address, base)?;
    let address = address.reveal();
    Ok(match address.strip_prefix("sqlite:") {
        Some(_) => {
            let named = SqliteDatabase::from_url(service, address);
            let named = named.map_err(|e| WrongAddress::new(e.to_string()))?;
            Arc::new(SqliteScratch::new(&base.join(named.path())))
        }
        None => Arc::new(PostgresScratch::new(address)),
    })
}

/// Whether an address names a file that is not there yet: one is made when it gets copies.
pub(crate) fn is_made_later(service: &ServiceName, address: &Secret<String>, base: &Path) -> bool {
    let named = SqliteDatabase::from_url(service.clone(), address.reveal());
    address.reveal().starts_with("sqlite:")
        && named.is_ok_and(|named| !base.join(named.path()).exists())
}
