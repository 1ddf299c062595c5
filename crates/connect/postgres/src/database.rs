//! One PostgreSQL database as a service's database.

use crate::check;
use crate::connect::{Address, AddressError, Fault};
use crate::enums;
use crate::making;
use crate::sink::{self, PostgresCopies, PostgresSink};
use crate::source::catalog::{Which, tables};
use crate::source::prepare::place;
use crate::source::publication::slot_name;
use crate::source::trouble::Trouble;
use crate::source::view::PostgresView;
use crate::source::wire::{Purpose, Wire, WireError};
use crate::source::{PostgresSource, emit, holders, retained, shape};
use async_trait::async_trait;
use rowcast_core::{
    CopyView, Database, DatabaseError, Epoch, Finding, Listed, Offer, Point, Retained, RouteId,
    Schema, ServiceName, Shape, Sink, SinkSpec, Source, SourceError, SourceSpec, SourceView, Table,
    TableColumn, quote,
};
use std::sync::Arc;
use tokio::sync::Mutex;

/// One service's PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresDatabase {
    address: Address,
    /// A session for what is asked again and again; made when it is first needed.
    asking: Arc<Mutex<Option<Wire>>>,
}

/// What looks like a table and cannot be published.
const LEFT_OUT: &str = "SELECT n.nspname, c.relname, CASE c.relkind WHEN 'v' THEN 'a view' \
    WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table' ELSE 'an unlogged table' END \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE (c.relkind IN ('v', 'm', 'f') OR c.relkind IN ('r', 'p') AND c.relpersistence = 'u') \
      AND NOT c.relispartition AND n.nspname NOT IN ('rowcast', 'information_schema') \
      AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend d \
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY n.nspname, c.relname";

/// For a question without an answer.
const SERVER_HELP: &str =
    "is the server running, and are the database's address, user and password right?";

impl PostgresDatabase {
    /// The database at a `postgres://` address. Connects only when it is asked something.
    ///
    /// # Errors
    /// When the address is none. The error does not repeat it: it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, AddressError> {
        Address::parse(url).map(|address| Self { address, asking: Arc::default() })
    }

    async fn connect(&self) -> Result<Wire, DatabaseError> {
        let wire = Wire::connect(&self.address, "rowcast", Purpose::Sql).await;
        wire.map_err(|e| self.refused("a session", e))
    }

    fn refused(&self, what: &str, error: WireError) -> DatabaseError {
        let (address, source) = (self.address.to_string(), Box::new(error));
        match source.fault() {
            Fault::Outage => DatabaseError::Unreachable { address, help: SERVER_HELP, source },
            Fault::Setup | Fault::Schema | Fault::Data => {
                DatabaseError::Refused { address, what: what.into(), help: SERVER_HELP, source }
            }
        }
    }
}

/// A name as the configuration writes it: quoted only where it could be misread.
fn written(schema: &str, name: &str) -> String {
    let part = |p: &str| {
        let plain = !p.is_empty() && !p.contains(['.', '"']) && p.trim() == p;
        if plain { p.to_owned() } else { quote(p) }
    };
    format!("{}.{}", part(schema), part(name))
}

#[async_trait]
impl Database for PostgresDatabase {
    fn address(&self) -> String {
        self.address.to_string()
    }

    async fn tables(&self) -> Result<Vec<Table>, DatabaseError> {
        let mut wire = self.connect().await?;
        let found = tables(&mut wire, Which::All).await;
        let found = found.map_err(|e| self.refused("its tables", e))?;
        let table = |t: &crate::source::catalog::Table| {
            let key = t.key();
            let in_key = |name: &str| key.is_some_and(|k| k.columns.iter().any(|(n, _)| n == name));
            let column = |c: &crate::source::catalog::TableColumn| TableColumn {
                name: c.name.clone(),
                native: c.native.clone(),
                key: in_key(&c.name),
            };
            Table {
                name: written(&t.schema, &t.name),
                columns: t.columns.iter().map(column).collect(),
                rows_estimate: t.rows_estimate,
                left_out: None,
            }
        };
        let mut all: Vec<_> = found.iter().map(table).collect();
        let rows = wire.query(LEFT_OUT).await.map_err(|e| self.refused("its views", e))?;
        all.extend(rows.into_iter().filter_map(|row| {
            let [schema, name, why]: [Option<String>; 3] = row.try_into().ok()?;
            let name = written(&schema?, &name?);
            Some(Table { name, columns: Vec::new(), rows_estimate: None, left_out: why })
        }));
        Ok(all)
    }

    async fn check_source(&self, spec: &SourceSpec) -> Vec<Finding> {
        check::source(&self.address, spec).await
    }

    async fn offer(&self, spec: &SourceSpec) -> Result<Offer, DatabaseError> {
        let mut wire = self.connect().await?;
        let places: Vec<_> = spec.entities.iter().filter_map(|e| place(e).ok()).collect();
        let found = tables(&mut wire, Which::Named(&places)).await;
        let found = found.map_err(|e| self.refused("its tables", e))?;
        let schema = |publish: &rowcast_core::Publish| {
            let (schema, name) = place(publish).ok()?;
            let table = found.iter().find(|t| t.schema == schema && t.name == name)?;
            let shape = shape::of_table(table, publish).ok()?;
            Some((publish.entity.clone(), Schema::clone(&shape.schema)))
        };
        let schemas: Vec<_> = spec.entities.iter().filter_map(schema).collect();
        let types: Vec<u32> = found.iter().flat_map(|t| &t.columns).map(|c| c.type_oid).collect();
        let rows = wire.query(&enums::sql(&types)).await;
        let rows = rows.map_err(|e| self.refused("the values of its enums", e))?;
        let texts = rows.into_iter().filter_map(|row| {
            let texts: Option<Vec<String>> = row.into_iter().collect();
            texts?.try_into().ok()
        });
        let mut listed = enums::read(texts);
        let rows = wire.query(&making::sql(&types)).await;
        let rows = rows.map_err(|e| self.refused("how its types are made", e))?;
        let texts = rows.into_iter().filter_map(|row| {
            let texts: Option<Vec<String>> = row.into_iter().collect();
            texts?.try_into().ok()
        });
        making::add(&mut listed, texts);
        Ok(Offer { schemas, listed })
    }

    async fn check_sink(
        &self,
        spec: &SinkSpec,
        shapes: &[Arc<Shape>],
        listed: &[Listed],
    ) -> Vec<Finding> {
        sink::check(&self.address, spec, shapes, listed).await
    }

    async fn fix(&self, statements: &[String]) -> Result<(), DatabaseError> {
        let mut wire = self.connect().await?;
        wire.query("BEGIN").await.map_err(|e| self.refused("BEGIN", e))?;
        for statement in statements {
            wire.query(statement).await.map_err(|e| self.refused(statement, e))?;
        }
        wire.query("COMMIT").await.map_err(|e| self.refused("COMMIT", e))?;
        Ok(())
    }

    async fn mark(&self, service: &ServiceName) -> Result<Point, SourceError> {
        let trouble = Trouble(service.clone());
        let wire = Wire::connect(&self.address, "rowcast", Purpose::Sql).await;
        let mut wire = wire.map_err(|e| trouble.wire("no session", e))?;
        let at = emit(&mut wire).await;
        at.map(Point::Lsn).map_err(|e| trouble.wire("its log takes no message", e))
    }

    async fn retained(&self, service: &ServiceName) -> Result<Option<Retained>, DatabaseError> {
        let mut asking = self.asking.lock().await;
        // Kept only when it answered: one that was cut short, or broke, is not used again.
        let mut wire = match asking.take() {
            Some(wire) => wire,
            None => self.connect().await?,
        };
        let answer = retained::ask(&mut wire, service).await;
        let answer = answer.map_err(|e| self.refused("what its slot keeps", e))?;
        *asking = Some(wire);
        Ok(answer)
    }

    async fn waits_for(&self, service: &ServiceName) -> Option<String> {
        let mut wire = self.connect().await.ok()?;
        let making = holders::is_making(&mut wire, &slot_name(service)).await;
        if making.ok()? { holders::ask(&mut wire).await.ok().flatten() } else { None }
    }

    async fn release(&self, service: &ServiceName, of: Option<Epoch>) -> Result<(), DatabaseError> {
        let mut wire = self.connect().await?;
        let released = retained::release(&mut wire, service, of).await;
        released.map_err(|e| self.refused("to drop its slot", e))
    }

    async fn left_behind(&self, service: &ServiceName) -> Vec<Finding> {
        let Ok(mut wire) = self.connect().await else { return Vec::new() };
        retained::left_behind(&mut wire, service).await.into_iter().collect()
    }

    fn source(&self, spec: SourceSpec) -> Box<dyn Source> {
        Box::new(PostgresSource::new(self.address.clone(), spec))
    }

    fn sink(&self, spec: SinkSpec) -> Box<dyn Sink> {
        Box::new(PostgresSink::new(self.address.clone(), spec))
    }

    async fn source_view(&self, spec: &SourceSpec) -> Result<Box<dyn SourceView>, SourceError> {
        Ok(Box::new(PostgresView::open(&self.address, spec).await?))
    }

    fn copy_view(&self, route: &RouteId) -> Box<dyn CopyView> {
        Box::new(PostgresCopies::new(self.address.clone(), route.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_core::parse_path;

    #[test]
    fn a_name_is_written_so_that_it_reads_back() {
        for (schema, name) in
            [("public", "customers"), ("Odd schema", "a.b"), ("s", "q\"t"), ("🎉", " x")]
        {
            assert_eq!(parse_path(&written(schema, name)).unwrap(), [schema, name]);
        }
        assert_eq!(written("public", "customers"), "public.customers");
    }
}
