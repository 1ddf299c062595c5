//! A route's copies in a file at one checkpoint, and what a source's rows look like in them.

use super::{Reading, Sets, next, value};
use crate::database::blocking;
use crate::file::sink_error;
use crate::sink::{checkpoint_of, parked_of, stored_value};
use crate::table::{self, Table};
use crate::types::DIALECT;
use async_trait::async_trait;
use rowcast_core::{
    Checkpoint, Computed, CopyView, Foresight, Generated, LogId, Pending, RouteId, Row, RowSet,
    RowWriter, Shape, SinkError, Value, quote,
};
use rusqlite::{Connection, Error, params_from_iter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Reads one route's copies.
pub(crate) struct SqliteCopies {
    path: PathBuf,
    route: RouteId,
    reading: Option<Reading>,
    sets: Option<Sets>,
}

impl SqliteCopies {
    /// Connects in [`CopyView::look`].
    pub(crate) fn new(path: PathBuf, route: RouteId) -> Self {
        Self { path, route, reading: None, sets: None }
    }

    fn refused(&self, error: Error) -> SinkError {
        sink_error(&self.route.to, "reading the copies", error)
    }

    fn reading(&self) -> Result<&Reading, SinkError> {
        self.reading.as_ref().ok_or_else(|| SinkError::Bug {
            service: self.route.to.clone(),
            what: "copies are read before a look".into(),
        })
    }

    async fn table(&mut self, shape: &Shape) -> Result<Table, SinkError> {
        let name = table::named(&shape.into).ok().flatten();
        let name = name.unwrap_or_else(|| shape.into.clone());
        self.sets = None;
        let found = self.reading()?.ask(move |c| Table::find(c, &name)).await;
        found.map_err(|e| self.refused(e))?.ok_or_else(|| SinkError::Schema {
            service: self.route.to.clone(),
            table: shape.into.clone(),
            what: "it is missing".into(),
            help: "start `rowcast run`: it makes the table, or says why it may not".into(),
        })
    }
}

#[async_trait]
impl CopyView for SqliteCopies {
    async fn look(&mut self) -> Result<Option<(LogId, Checkpoint)>, SinkError> {
        self.sets = None;
        if self.reading.is_none() {
            let path = self.path.clone();
            let opened = blocking(move || Reading::open(&path)).await;
            self.reading = Some(opened.map_err(|e| self.refused(e))?);
        }
        let route = self.route.clone();
        let look = move |c: &Connection| {
            if !c.is_autocommit() {
                c.execute_batch("ROLLBACK")?;
            }
            c.execute_batch("BEGIN")?;
            match Table::find(c, "_rowcast_checkpoint")? {
                Some(_) => checkpoint_of(c, &route.to_string()),
                None => Ok(None),
            }
        };
        self.reading()?.ask(look).await.map_err(|e| self.refused(e))
    }

    async fn columns(&mut self, shape: &Shape) -> Result<Vec<bool>, SinkError> {
        let table = self.table(shape).await?;
        Ok(shape.columns.iter().map(|c| table.column(&c.name).is_some()).collect())
    }

    async fn computed(&mut self, shape: &Shape) -> Result<Vec<Computed>, SinkError> {
        let table = self.table(shape).await?;
        let of = |g: &Generated| match table.column(&g.name) {
            Some(here) if !here.generated => Computed::Plain,
            // Expressions of another product cannot be compared with those here.
            Some(_) | None => Computed::Missing,
        };
        Ok(shape.generated.iter().map(of).collect())
    }

    async fn begin(&mut self, shape: &Arc<Shape>) -> Result<(), SinkError> {
        let table = self.table(shape).await?;
        let columns: Vec<_> = shape.columns.iter().map(|c| quote(&c.name)).collect();
        let select = format!("SELECT {} FROM {}", columns.join(", "), quote(&table.name));
        self.sets = Some(self.reading()?.select(select));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RowSet>, SinkError> {
        next(&mut self.sets).await.map_err(|e| self.refused(e))
    }

    async fn parked(&mut self, into: &str) -> Result<Vec<Pending>, SinkError> {
        let (route, table) = (self.route.to_string(), into.to_string());
        let read = move |c: &Connection| match Table::find(c, "_rowcast_parked")? {
            Some(_) => parked_of(c, &route),
            None => Ok(Vec::new()),
        };
        self.sets = None;
        let all = self.reading()?.ask(read).await.map_err(|e| self.refused(e))?;
        Ok(all.into_iter().filter(|p| p.table == table).map(|p| p.pending).collect())
    }

    async fn foresight(&mut self, shape: &Arc<Shape>) -> Result<Box<dyn Foresight>, SinkError> {
        let table = self.table(shape).await?;
        let (route, shape) = (self.route.clone(), shape.clone());
        let mirror = if *shape.dialect == *DIALECT {
            None
        } else {
            Some(Arc::new(Mutex::new(mirror(&shape, &table).map_err(|e| self.refused(e))?)))
        };
        Ok(Box::new(Ahead { route, shape, mirror }))
    }
}

/// An empty table in memory with the copy's declared types, which do to values what the copy does.
fn mirror(shape: &Shape, table: &Table) -> Result<Connection, Error> {
    let connection = Connection::open_in_memory()?;
    let declared = |name: &str| table.column(name).map_or("", |c| c.declared.as_str());
    let columns = shape.columns.iter().enumerate();
    let columns: Vec<_> = columns.map(|(i, c)| format!("c{i} {}", declared(&c.name))).collect();
    connection.execute_batch(&format!("CREATE TABLE mirror ({})", columns.join(", ")))?;
    Ok(connection)
}

/// What a source's rows look like in one copy.
struct Ahead {
    route: RouteId,
    shape: Arc<Shape>,
    /// For values of another product; a column keeps those of its own in their storage class.
    mirror: Option<Arc<Mutex<Connection>>>,
}

#[async_trait]
impl Foresight for Ahead {
    async fn rows(&mut self, source: &RowSet) -> Result<RowSet, SinkError> {
        let Some(mirror) = self.mirror.clone() else { return self.as_they_are(source) };
        let (source, shape) = (source.clone(), self.shape.clone());
        let mirrored = blocking(move || {
            let connection = mirror.lock().unwrap_or_else(PoisonError::into_inner);
            mirrored(&connection, &shape, &source)
        });
        mirrored.await.map_err(|e| sink_error(&self.route.to, "foretelling rows", e))
    }
}

impl Ahead {
    fn as_they_are(&self, source: &RowSet) -> Result<RowSet, SinkError> {
        let mut set = RowSet::new();
        let mut values = Vec::new();
        for row in source.rows() {
            row.unpack(&mut values).map_err(|e| SinkError::Bug {
                service: self.route.to.clone(),
                what: e.to_string(),
            })?;
            set.push(|into| {
                let mut writer = RowWriter::new(into);
                for column in &self.shape.columns {
                    writer.push(match values.get(column.source) {
                        Some(Value::Unchanged) | None => Value::Null,
                        Some(value) => *value,
                    });
                }
            });
        }
        Ok(set)
    }
}

fn mirrored(c: &Connection, shape: &Shape, source: &RowSet) -> Result<RowSet, Error> {
    let width = shape.columns.len();
    let marks = vec!["?"; width].join(", ");
    let mut set = RowSet::new();
    let look = c.unchecked_transaction()?;
    let mut insert = c.prepare_cached(&format!("INSERT INTO mirror VALUES ({marks})"))?;
    let mut select = c.prepare_cached("SELECT * FROM mirror WHERE rowid = last_insert_rowid()")?;
    for row in source.rows() {
        let fits = match stored(shape, row) {
            Some(values) => insert.execute(params_from_iter(values)).map(|_| true)?,
            None => false,
        };
        if !fits {
            set.push(|_| {});
            continue;
        }
        select.query_row([], |row| {
            set.push(|into| {
                let mut writer = RowWriter::new(into);
                (0..width).for_each(|i| writer.push(row.get_ref(i).map_or(Value::Null, value)));
            });
            Ok(())
        })?;
    }
    drop((insert, select));
    look.rollback()?;
    Ok(set)
}

/// What the sink would store; `None` when it would refuse the row.
fn stored<'v>(shape: &Shape, row: Row<'v>) -> Option<Vec<rusqlite::types::ToSqlOutput<'v>>> {
    let mut values = Vec::new();
    row.unpack(&mut values).ok()?;
    let one = |c: &rowcast_core::ShapeColumn| {
        let value = values.get(c.source).copied().unwrap_or(Value::Null);
        stored_value(value, c.column.kind, &shape.dialect).ok()
    };
    shape.columns.iter().map(one).collect()
}
