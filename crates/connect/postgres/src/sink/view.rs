//! A route's copies as they were at one checkpoint, and what a source's rows look like in them.

use super::checkpoint::read_epoch;
use super::encode::{Unfit, with_text};
use super::errors::Who;
use super::fit;
use super::lanes;
use super::table::TableName;
use super::target::form;
use super::types;
use crate::connect::{Address, Fault};
use crate::source::catalog::literal;
use crate::source::rows::CopyOut;
use crate::source::wire::{Purpose, Rows, Wire, WireError};
use async_trait::async_trait;
use rowcast_core::{
    Checkpoint, Computed, CopyView, Foresight, Generated, LogId, Offset, Pending, Position,
    RouteId, Row, RowSet, RowWriter, Shape, SinkError, Value, quote,
};

use std::sync::Arc;

/// What [`CopyView::look`] tells.
type Seen = Option<(LogId, Checkpoint)>;

const READING: &str = "reading the copies";

/// Reads one route's copies.
#[derive(Debug)]
pub(crate) struct PostgresCopies {
    address: Address,
    who: Who,
    rows: Option<CopyOut>,
}

impl PostgresCopies {
    /// Connects in [`CopyView::look`].
    pub(crate) fn new(address: Address, route: RouteId) -> Self {
        Self { address, who: Who { route }, rows: None }
    }

    fn rows(&mut self) -> Result<&mut CopyOut, SinkError> {
        self.rows.as_mut().ok_or_else(|| self.who.bug("copies are read before a look"))
    }

    async fn ask(&mut self, sql: &str) -> Result<Rows, SinkError> {
        let answer = self.rows()?.query(sql).await;
        answer.map_err(|e| self.who.wire(READING, e))
    }
}

#[async_trait]
impl CopyView for PostgresCopies {
    async fn look(&mut self) -> Result<Option<(LogId, Checkpoint)>, SinkError> {
        if self.rows.is_none() {
            let wire = Wire::connect(&self.address, "rowcast verify", Purpose::Sql).await;
            self.rows = Some(CopyOut::new(wire.map_err(|e| self.who.wire(READING, e))?));
        }
        for _ in 0..lanes::LOOKS_MAX {
            if let Some(seen) = self.glance().await? {
                return Ok(seen);
            }
            tokio::time::sleep(lanes::LOOK).await;
        }
        Err(lanes::uneven(&self.who))
    }

    async fn columns(&mut self, shape: &Shape) -> Result<Vec<bool>, SinkError> {
        let there = self.types(shape).await?;
        Ok(there.iter().map(Option::is_some).collect())
    }

    async fn computed(&mut self, shape: &Shape) -> Result<Vec<Computed>, SinkError> {
        let table = self.table(shape)?;
        let sql = format!(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), \
                    CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE n.nspname = {} AND c.relname = {}",
            literal(&table.schema),
            literal(&table.table)
        );
        let found = self.ask(&sql).await?;
        let of = |generated: &Generated| {
            let row = found.iter().find(|r| r[0].as_deref() == Some(generated.name.as_str()));
            row.map(|r| (r[1].as_deref().unwrap_or_default(), r[2].as_deref()))
        };
        Ok(shape.generated.iter().map(|g| fit::computed(g, of(g))).collect())
    }

    async fn begin(&mut self, shape: &Arc<Shape>) -> Result<(), SinkError> {
        let table = self.table(shape)?;
        let columns: Vec<_> = shape.columns.iter().map(|c| quote(&c.name)).collect();
        let select = format!("SELECT {} FROM {}", columns.join(", "), table.sql());
        let begun = self.rows()?.begin(&select, columns.len()).await;
        begun.map_err(|e| self.who.wire(READING, e))
    }

    async fn next(&mut self) -> Result<Option<RowSet>, SinkError> {
        let next = self.rows()?.next().await;
        next.map_err(|e| self.who.wire(READING, e))
    }

    async fn parked(&mut self, into: &str) -> Result<Vec<Pending>, SinkError> {
        let there = self.ask("SELECT to_regclass('rowcast.parked') IS NOT NULL").await?;
        if cell(&there, 0) != Some("t") {
            return Ok(Vec::new());
        }
        let select = format!(
            "SELECT encode(pending, 'hex') FROM rowcast.parked WHERE route = {} AND into_table = {}",
            literal(&self.who.route.to_string()),
            literal(into)
        );
        let found = self.ask(&select).await?;
        let pending = found.iter().map(|row| {
            let bytes = row.first().and_then(Option::as_deref).and_then(unhex);
            bytes.and_then(|bytes| Pending::decode(&bytes).ok()).ok_or_else(|| {
                let help = "a newer version wrote it: use that one; or delete the row";
                self.who.setup("rowcast.parked holds something unknown", help, None)
            })
        });
        pending.collect()
    }

    async fn foresight(&mut self, shape: &Arc<Shape>) -> Result<Box<dyn Foresight>, SinkError> {
        if types::is_native(shape) {
            return Ok(Box::new(Native { who: self.who.clone(), shape: shape.clone() }));
        }
        let types = self.types(shape).await?.into_iter();
        let types = types.map(|t| t.unwrap_or_else(|| "text".into())).collect();
        let wire = Wire::connect(&self.address, "rowcast verify", Purpose::Sql).await;
        let wire = wire.map_err(|e| self.who.wire(READING, e))?;
        Ok(Box::new(Foreign { who: self.who.clone(), shape: shape.clone(), types, wire }))
    }
}

impl PostgresCopies {
    /// One look; nothing at a moment when some lanes are ahead of others.
    async fn glance(&mut self) -> Result<Option<Seen>, SinkError> {
        self.ask("ROLLBACK").await?;
        // A policy that hides rows from us has to be an error, not rows that seem to be missing.
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL row_security = off; \
                     SELECT to_regclass('rowcast.checkpoint') IS NOT NULL";
        let there = self.ask(begin).await?;
        if cell(&there, 0) != Some("t") {
            return Ok(Some(None));
        }
        let route = self.who.route.to_string();
        let select = format!(
            "SELECT log, next, epoch, position, EXISTS (SELECT FROM rowcast.checkpoint AS lane \
             WHERE starts_with(lane.route, {}) AND lane.log = at.log AND lane.next > at.next) \
             FROM rowcast.checkpoint AS at WHERE route = {}",
            literal(&lanes::names(&self.who.route)),
            literal(&route)
        );
        let found = self.ask(&select).await?;
        if found.is_empty() {
            return Ok(Some(None));
        }
        if cell(&found, 4) == Some("t") {
            return Ok(None);
        }
        let log = cell(&found, 0).and_then(|log| u64::from_str_radix(log, 16).ok());
        let next = cell(&found, 1).and_then(|next| next.parse().ok()).unwrap_or(0);
        let epoch = cell(&found, 2).and_then(read_epoch);
        let position = epoch.and_then(|e| Position::parse(e, cell(&found, 3)?).ok());
        let checkpoint = Checkpoint { next: Offset(next), position };
        Ok(Some(Some((LogId(log.unwrap_or(0)), checkpoint))))
    }

    fn table(&self, shape: &Shape) -> Result<TableName, SinkError> {
        TableName::read(&shape.into).map_err(|what| self.who.table_name(&shape.into, what))
    }

    /// The type of each of the shape's columns, without modifiers; `None` for one that is missing.
    async fn types(&mut self, shape: &Shape) -> Result<Vec<Option<String>>, SinkError> {
        let table = self.table(shape)?;
        let sql = format!(
            "SELECT c.oid, a.attname, format_type(a.atttypid, -1) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE n.nspname = {} AND c.relname = {}",
            literal(&table.schema),
            literal(&table.table)
        );
        let found = self.ask(&sql).await?;
        if found.is_empty() {
            let help = "start `rowcast run`: it makes the table, or says why it may not";
            return Err(self.who.schema(&table.sql(), "it is missing", help));
        }
        let of = |name: &str| {
            let row = found.iter().find(|r| r[1].as_deref() == Some(name))?;
            row[2].clone()
        };
        Ok(shape.columns.iter().map(|c| of(&c.name)).collect())
    }
}

fn cell(rows: &Rows, column: usize) -> Option<&str> {
    rows.first()?.get(column)?.as_deref()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Values of the same product: they arrive as they are.
struct Native {
    who: Who,
    shape: Arc<Shape>,
}

#[async_trait]
impl Foresight for Native {
    async fn rows(&mut self, source: &RowSet) -> Result<RowSet, SinkError> {
        let mut set = RowSet::new();
        let mut values = Vec::with_capacity(self.shape.columns.len());
        for row in source.rows() {
            row.unpack(&mut values).map_err(|e| self.who.bug(e.to_string()))?;
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

/// Values of another product: the server reads and prints them.
struct Foreign {
    who: Who,
    shape: Arc<Shape>,
    types: Vec<String>,
    wire: Wire,
}

#[async_trait]
impl Foresight for Foreign {
    async fn rows(&mut self, source: &RowSet) -> Result<RowSet, SinkError> {
        let mut tuples = Vec::with_capacity(source.len());
        for row in source.rows() {
            tuples.push(self.tuple(row)?);
        }
        let good: Vec<_> = tuples.iter().flatten().map(String::as_str).collect();
        let mut shown = match self.show(&good).await {
            Ok(shown) => shown.into_iter().map(Some).collect::<Vec<_>>(),
            Err(e) if e.fault() == Fault::Data => {
                // Some row does not fit, and the server says not which.
                let mut shown = Vec::with_capacity(good.len());
                for tuple in good {
                    shown.push(match self.show(&[tuple]).await {
                        Ok(mut one) => one.pop(),
                        Err(e) if e.fault() == Fault::Data => None,
                        Err(e) => return Err(self.who.wire(READING, e)),
                    });
                }
                shown
            }
            Err(e) => return Err(self.who.wire(READING, e)),
        }
        .into_iter();
        let mut set = RowSet::new();
        for tuple in tuples {
            let row = tuple.and_then(|_| shown.next().flatten());
            set.push(|into| {
                let mut writer = RowWriter::new(into);
                for value in row.iter().flatten() {
                    writer.push(value.as_ref().map_or(Value::Null, |v| Value::Text(v.as_bytes())));
                }
            });
        }
        Ok(set)
    }
}

impl Foreign {
    /// A row as a tuple of literals; `None` when the sink would refuse it.
    fn tuple(&self, row: Row<'_>) -> Result<Option<String>, SinkError> {
        let mut values = Vec::new();
        row.unpack(&mut values).map_err(|e| self.who.bug(e.to_string()))?;
        let mut literals = Vec::with_capacity(self.types.len());
        for (i, (column, base)) in self.shape.columns.iter().zip(&self.types).enumerate() {
            let form = form(&self.shape, i, base);
            let value = values.get(column.source).copied().unwrap_or(Value::Null);
            let text = |t: Option<&[u8]>| t.map(|t| literal(&String::from_utf8_lossy(t)));
            match with_text(form, value, text) {
                Ok(text) => literals.push(text.unwrap_or_else(|| "NULL".into())),
                Err(Unfit(_)) => return Ok(None),
            }
        }
        Ok(Some(literals.join(",")))
    }

    /// Tuples as the columns' types print them.
    async fn show(&mut self, tuples: &[&str]) -> Result<Rows, WireError> {
        if tuples.is_empty() {
            return Ok(Vec::new());
        }
        // `concat` prints as a query does; a cast to text would not for every type.
        let columns = self.types.iter().enumerate().map(|(i, base)| {
            format!("CASE WHEN c{i} IS NULL THEN NULL ELSE concat(c{i}::text::{base}) END")
        });
        let columns: Vec<_> = columns.collect();
        let names: Vec<_> = (0..self.types.len()).map(|i| format!("c{i}")).collect();
        let rows = tuples.iter().enumerate().map(|(n, tuple)| format!("({n},{tuple})"));
        let sql = format!(
            "SELECT {} FROM (VALUES {}) AS v (n, {}) ORDER BY n",
            columns.join(", "),
            rows.collect::<Vec<_>>().join(","),
            names.join(", ")
        );
        self.wire.query(&sql).await
    }
}

impl Who {
    fn wire(&self, doing: &str, error: WireError) -> SinkError {
        match error.fault() {
            Fault::Outage => self.unreachable(error),
            Fault::Setup | Fault::Schema | Fault::Data => {
                let help = "give the user of the service's `database` address SELECT on the copies \
                            and on rowcast.checkpoint; `rowcast check` says what it needs";
                self.setup(format!("{doing} was refused"), help, Some(error.into()))
            }
        }
    }
}
