//! One SQLite file as a service's database.

use crate::check;
use crate::file::{self, FILE_HELP, Meaning, meaning, source_error};
use crate::sink::SqliteSink;
use crate::source::{self, SqliteSource, published_table};
use crate::table::Table;
use crate::view::{SqliteCopies, SqliteView};
use async_trait::async_trait;
use rowcast_core::{
    CopyView, Database, DatabaseError, Epoch, Finding, Listed, Offer, Point, Retained, RouteId,
    ServiceName, Shape, Sink, SinkSpec, Source, SourceError, SourceSpec, SourceView, TableColumn,
    quote,
};
use rusqlite::{Connection, Error};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a text is no SQLite address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no SQLite file: write sqlite:customers.db or sqlite:/var/lib/customers.db")]
pub struct UrlError(String);

/// One service's SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteDatabase {
    service: ServiceName,
    path: PathBuf,
}

impl SqliteDatabase {
    /// The database of `service` in the file at `path`, which need not be there yet.
    pub fn new(service: ServiceName, path: impl Into<PathBuf>) -> Self {
        Self { service, path: path.into() }
    }

    /// The database that an address names: `sqlite:customers.db`, relative to the current folder,
    /// `sqlite:/var/lib/customers.db`, or the same with `//` after the colon.
    pub fn from_url(service: ServiceName, url: &str) -> Result<Self, UrlError> {
        let bad = || UrlError(url.into());
        let path = url.strip_prefix("sqlite:").ok_or_else(bad)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.ends_with('/') || path.starts_with(':') {
            return Err(bad());
        }
        Ok(Self::new(service, path))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        ask: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let path = self.path.clone();
        let asked = blocking(move || ask(&mut file::open(&path)?)).await;
        asked.map_err(|error| self.refused(what, error))
    }

    fn refused(&self, what: &str, error: Error) -> DatabaseError {
        let address = self.address();
        match meaning(&error) {
            Meaning::Outage | Meaning::Setup => {
                DatabaseError::Unreachable { address, help: FILE_HELP, source: error.into() }
            }
            Meaning::Constraint | Meaning::Statement => {
                let what = what.into();
                DatabaseError::Refused { address, what, help: FILE_HELP, source: error.into() }
            }
        }
    }
}

/// Runs what blocks where it blocks nobody.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away; whoever waits goes with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[async_trait]
impl Database for SqliteDatabase {
    fn address(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    async fn tables(&self) -> Result<Vec<rowcast_core::Table>, DatabaseError> {
        self.ask("reading the tables", |c| {
            let mut tables = Vec::new();
            for name in Table::names(c)? {
                if let Some(table) = Table::find(c, &name)? {
                    tables.push(shown(c, &table)?);
                }
            }
            tables.extend(left_out(c)?);
            Ok(tables)
        })
        .await
    }

    async fn check_source(&self, spec: &SourceSpec) -> Vec<Finding> {
        let (path, spec) = (self.path.clone(), spec.clone());
        blocking(move || check::source(&path, &spec)).await
    }

    async fn offer(&self, spec: &SourceSpec) -> Result<Offer, DatabaseError> {
        let spec = spec.clone();
        self.ask("reading the published tables", move |c| {
            let published = |p| published_table(c, &spec.service, p).ok();
            let schemas = spec.entities.iter().filter_map(published);
            let schemas = schemas.map(|(_, schema)| (schema.entity.clone(), schema)).collect();
            Ok(Offer { schemas, listed: Vec::new() })
        })
        .await
    }

    async fn check_sink(
        &self,
        spec: &SinkSpec,
        shapes: &[Arc<Shape>],
        _: &[Listed],
    ) -> Vec<Finding> {
        let (path, spec, shapes) = (self.path.clone(), spec.clone(), shapes.to_vec());
        blocking(move || check::sink(&path, &spec, &shapes)).await
    }

    async fn fix(&self, statements: &[String]) -> Result<(), DatabaseError> {
        let (path, statements) = (self.path.clone(), statements.to_vec());
        let mended = blocking(move || {
            let mut connection = file::open_or_make(&path)?;
            // A pragma works outside of transactions only.
            let (pragmas, others): (Vec<_>, Vec<_>) =
                statements.iter().partition(|s| s.trim_start().starts_with("PRAGMA"));
            pragmas.iter().try_for_each(|s| connection.execute_batch(s))?;
            let transaction = connection.transaction()?;
            others.iter().try_for_each(|s| transaction.execute_batch(s))?;
            transaction.commit()
        });
        mended.await.map_err(|error| self.refused("mending it", error))
    }

    async fn mark(&self, service: &ServiceName) -> Result<Point, SourceError> {
        let (path, service) = (self.path.clone(), service.clone());
        let asked = blocking(move || source::mark(&file::open(&path)?)).await;
        asked.map_err(|e| source_error(&service, "asking for the newest change", e))
    }

    async fn retained(&self, _: &ServiceName) -> Result<Option<Retained>, DatabaseError> {
        let kept = self.ask("reading how much waits to be captured", source::waiting).await?;
        Ok(kept.map(|bytes| Retained { bytes, behind: bytes }))
    }

    /// A beginning waits for the one transaction that writes, and no longer than any other write.
    async fn waits_for(&self, _: &ServiceName) -> Option<String> {
        None
    }

    async fn release(&self, _: &ServiceName, of: Option<Epoch>) -> Result<(), DatabaseError> {
        let release = move |c: &mut Connection| source::release(c, of);
        self.ask("letting go of what waits to be captured", release).await
    }

    async fn left_behind(&self, service: &ServiceName) -> Vec<Finding> {
        let service = service.clone();
        let asked = self.ask("looking for triggers", move |c| source::left_behind(c, &service));
        asked.await.ok().flatten().into_iter().collect()
    }

    fn source(&self, spec: SourceSpec) -> Box<dyn Source> {
        Box::new(SqliteSource::new(self.path.clone(), spec))
    }

    fn sink(&self, spec: SinkSpec) -> Box<dyn Sink> {
        Box::new(SqliteSink::new(self.path.clone(), self.service.clone(), spec))
    }

    async fn source_view(&self, spec: &SourceSpec) -> Result<Box<dyn SourceView>, SourceError> {
        Ok(Box::new(SqliteView::open(self.path.clone(), spec.clone()).await?))
    }

    fn copy_view(&self, route: &RouteId) -> Box<dyn CopyView> {
        Box::new(SqliteCopies::new(self.path.clone(), route.clone()))
    }
}

fn shown(c: &Connection, table: &Table) -> Result<rowcast_core::Table, Error> {
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    let name = &table.name;
    let column = |c: &crate::table::TableColumn| TableColumn {
        name: c.name.clone(),
        native: c.declared.clone(),
        key: c.key.is_some(),
    };
    Ok(rowcast_core::Table {
        name: if name.chars().all(plain) { name.clone() } else { quote(name) },
        columns: table.columns.iter().map(column).collect(),
        rows_estimate: Some(table.rows_estimate(c)?),
        left_out: None,
    })
}

/// Views and virtual tables, which have no rows of their own.
fn left_out(c: &Connection) -> Result<Vec<rowcast_core::Table>, Error> {
    let sql = "SELECT name, type FROM sqlite_schema WHERE type = 'view' \
               OR type = 'table' AND sql LIKE 'CREATE VIRTUAL%' ORDER BY name";
    let mut ask = c.prepare(sql)?;
    let found = ask.query_map([], |row| {
        let kind: String = row.get(1)?;
        let why = if kind == "view" { "a view" } else { "a virtual table" };
        Ok(rowcast_core::Table {
            name: row.get(0)?,
            columns: Vec::new(),
            rows_estimate: None,
            left_out: Some(why.into()),
        })
    })?;
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_files() {
        let path = |url| {
            let made = SqliteDatabase::from_url("shop".parse().unwrap(), url);
            made.map(|d| d.path().display().to_string())
        };
        assert_eq!(path("sqlite:a.db").unwrap(), "a.db");
        assert_eq!(path("sqlite:///var/a.db").unwrap(), "/var/a.db");
        assert_eq!(path("sqlite://data/a.db").unwrap(), "data/a.db");
        for bad in ["sqlite:", "sqlite::memory:", "postgres:a", "sqlite:dir/"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
