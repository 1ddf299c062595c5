//! Writes changes one after another, with statements that SQLite has prepared already.

use super::prepare::{Place, Target};
use super::untangle::untangle;
use super::values::{Unfit, stored};
use crate::file::{Meaning, meaning, sink_error};
use rowcast_core::{
    Change, ChangeOp, LeftOut, Malformed, Row, Rows, ServiceName, SinkError, Value, quote,
};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error, params_from_iter};

/// Writes the changes of one step.
pub(super) struct Writer<'a> {
    pub(super) connection: &'a Connection,
    pub(super) service: &'a ServiceName,
    pub(super) places: &'a [Place],
}

/// What became of one change.
pub(super) enum Wrote {
    /// It is written.
    Well,
    /// A row with this key should be there and is not.
    NoRow,
}

/// Why a change could not be written.
pub(super) enum Failed {
    /// SQLite's answer.
    Sql(Error),
    /// A value that the copy cannot hold.
    Unfit(Unfit),
    /// Our own packing is damaged.
    Malformed(Malformed),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Malformed> for Failed {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        service: &'a ServiceName,
        places: &'a [Place],
    ) -> Self {
        Self { connection, service, places }
    }

    /// Writes all changes, in order. When a unique rule stands in the way of one, because another
    /// row that holds its value changes later in the same step, the step is done again as a whole.
    /// Tells what was left out where that is allowed: a statement that fails undoes only itself.
    pub(super) fn write(&self, rows: &Rows) -> Result<LeftOut, SinkError> {
        let c = self.connection;
        let refused = |e| sink_error(self.service, "writing", e);
        let malformed =
            |e: Malformed| SinkError::Bug { service: self.service.clone(), what: e.to_string() };
        c.execute_batch("SAVEPOINT step").map_err(refused)?;
        let mut left = LeftOut::default();
        for (index, change) in (0..).zip(&rows.changes) {
            match left.skips(rows, index).map_err(malformed)? {
                Some(true) => continue,
                Some(false) => {}
                None => return Err(left.first().expect("something was left out")),
            }
            let unfit = match self.one(rows, change) {
                Ok(Wrote::Well) => continue,
                Ok(Wrote::NoRow) if self.place(change).settling => continue,
                Ok(Wrote::NoRow) => return Err(self.no_row(rows, change)),
                Err(Failed::Sql(e)) if is_unique(&e) => {
                    c.execute_batch("ROLLBACK TO step").map_err(refused)?;
                    untangle(self, rows)?;
                    left = LeftOut::default();
                    break;
                }
                Err(failed) => self.failed(rows, change, failed),
            };
            // A rule may say that it takes back the whole transaction (`ON CONFLICT ROLLBACK`).
            if !rows.leave_out || c.is_autocommit() {
                return Err(unfit);
            }
            left.note(rows, index, unfit)?;
        }
        c.execute_batch("RELEASE step").map_err(refused)?;
        Ok(left)
    }

    pub(super) fn place(&self, change: &Change) -> &Place {
        &self.places[change.shape as usize]
    }

    fn one(&self, rows: &Rows, change: &Change) -> Result<Wrote, Failed> {
        let target = &self.place(change).target;
        let mut row = Vec::new();
        match change.op {
            ChangeOp::Create | ChangeOp::Read | ChangeOp::Update => {
                rows.after(change).unpack(&mut row)?;
                let values = all(target, &row)?;
                self.run(&target.upsert, values)?;
                Ok(Wrote::Well)
            }
            ChangeOp::Patch => {
                rows.after(change).unpack(&mut row)?;
                self.patch(target, &row, &row)
            }
            ChangeOp::Rekey => {
                rows.after(change).unpack(&mut row)?;
                let mut before = Vec::new();
                rows.before(change).unpack(&mut before)?;
                self.patch(target, &row, &before)
            }
            ChangeOp::Delete | ChangeOp::Leave => {
                rows.found_by(change).unpack(&mut row)?;
                self.run(&target.delete, key(target, &row)?)?;
                Ok(Wrote::Well)
            }
            ChangeOp::Truncate => {
                self.run(&format!("DELETE FROM {}", target.table), Vec::new())?;
                Ok(Wrote::Well)
            }
        }
    }

    /// Sets what is not unchanged in the row with `before`'s key.
    fn patch(
        &self,
        target: &Target,
        after: &[Value<'_>],
        before: &[Value<'_>],
    ) -> Result<Wrote, Failed> {
        let mut set = Vec::new();
        let mut values = Vec::new();
        for (i, column) in target.shape.columns.iter().enumerate() {
            let value = at(after, column.source);
            if value != Value::Unchanged {
                set.push(format!("{} = ?", quote(&column.name)));
                values.push(one(target, i, value)?);
            }
        }
        let sql =
            format!("UPDATE {} SET {} WHERE {}", target.table, set.join(", "), target.condition);
        values.extend(key(target, before)?);
        let changed = self.run(&sql, values)?;
        Ok(if changed == 0 { Wrote::NoRow } else { Wrote::Well })
    }

    fn run(&self, sql: &str, values: Vec<ToSqlOutput<'_>>) -> Result<usize, Failed> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute(params_from_iter(values))?)
    }

    fn no_row(&self, rows: &Rows, change: &Change) -> SinkError {
        self.data(
            rows,
            change,
            "a change came for a row that the copy lacks".into(),
            "somebody else removed the row from the copy: delete the route's row in \
             _rowcast_checkpoint and resume the route, and the copy is built anew",
            None,
        )
    }

    pub(super) fn failed(&self, rows: &Rows, change: &Change, failed: Failed) -> SinkError {
        let help = "change the rule at the copy or the row at the publisher; nothing was skipped";
        match failed {
            Failed::Sql(e) if meaning(&e) == Meaning::Constraint => {
                let rule = rule(&e);
                self.data(rows, change, rule, help, Some(e))
            }
            Failed::Sql(e) => sink_error(self.service, "writing", e),
            Failed::Unfit(Unfit(kind)) => {
                let what = format!("a value is no {kind:?} as it should be");
                self.data(rows, change, what, help, None)
            }
            Failed::Malformed(e) => {
                SinkError::Bug { service: self.service.clone(), what: e.to_string() }
            }
        }
    }

    fn data(
        &self,
        rows: &Rows,
        change: &Change,
        what: String,
        help: &str,
        source: Option<Error>,
    ) -> SinkError {
        let target = &self.place(change).target;
        let row = rows.found_by(change);
        SinkError::Data {
            service: self.service.clone(),
            table: target.shape.into.clone(),
            key: shown_key(target, row),
            change: rows.changes.iter().position(|c| c == change).map(|i| i as u32),
            what,
            help: help.into(),
            source: source.map(Into::into),
        }
    }
}

/// Whether another row's value stands in the way.
pub(super) fn is_unique(error: &Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
    let extended = error.sqlite_error().map(|e| e.extended_code);
    matches!(extended, Some(SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY))
}

/// SQLite names rule and columns, never values.
fn rule(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

pub(super) fn at<'v>(row: &[Value<'v>], source: usize) -> Value<'v> {
    row.get(source).copied().unwrap_or(Value::Null)
}

fn one<'v>(target: &Target, column: usize, value: Value<'v>) -> Result<ToSqlOutput<'v>, Failed> {
    let kind = target.shape.columns[column].column.kind;
    stored(value, kind, &target.shape.dialect).map_err(Failed::Unfit)
}

/// A whole row's values, in the order of the shape's columns.
pub(super) fn all<'v>(target: &Target, row: &[Value<'v>]) -> Result<Vec<ToSqlOutput<'v>>, Failed> {
    let columns = target.shape.columns.iter().enumerate();
    columns.map(|(i, c)| one(target, i, at(row, c.source))).collect()
}

/// The key's values, in key order.
pub(super) fn key<'v>(target: &Target, row: &[Value<'v>]) -> Result<Vec<ToSqlOutput<'v>>, Failed> {
    let shape = &target.shape;
    shape.key.iter().map(|&k| one(target, k, at(row, shape.columns[k].source))).collect()
}

fn shown_key(target: &Target, row: Row<'_>) -> Option<String> {
    let mut values = Vec::new();
    row.unpack(&mut values).ok()?;
    let key = key(target, &values).ok()?;
    let shown = |v: &ToSqlOutput<'_>| match v {
        ToSqlOutput::Borrowed(ValueRef::Integer(i)) => i.to_string(),
        ToSqlOutput::Borrowed(ValueRef::Real(r)) => r.to_string(),
        ToSqlOutput::Borrowed(ValueRef::Text(t)) => String::from_utf8_lossy(t).into_owned(),
        _ => "?".into(),
    };
    Some(key.iter().map(shown).collect::<Vec<_>>().join(", "))
}
