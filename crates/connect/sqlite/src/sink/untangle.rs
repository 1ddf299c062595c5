//! The same step again, for when a unique rule forbids the rows in between but not those at the
//! end: two rows that swap a value, say. All rows that the step concerns are taken out, changed in
//! memory and put back; columns that are the subscriber's own come back as they were.

use super::apply::{Failed, Writer, all, at, key};
use super::prepare::Target;
use crate::file::sink_error;
use crate::table::{Table, named};
use rowcast_core::{Change, ChangeOp, Rows, SinkError, Value, quote};
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, params_from_iter};
use std::collections::HashMap;
use std::sync::Arc;

/// A row by the copy's columns; `None` where the table's own default applies.
type Cells = Vec<Option<Owned>>;

/// One row that the step concerns.
struct Slot {
    target: Arc<Target>,
    /// The change that concerned it last; errors are about it.
    last: Change,
    key: Vec<Owned>,
    /// It was there before the step.
    was: bool,
    now: Option<Cells>,
}

struct Untangle<'a> {
    writer: &'a Writer<'a>,
    rows: &'a Rows,
    slots: Vec<Slot>,
    by_key: HashMap<String, usize>,
    columns: HashMap<String, Arc<[String]>>,
}

/// Does the whole step, inside the savepoint that is open.
pub(super) fn untangle(writer: &Writer<'_>, rows: &Rows) -> Result<(), SinkError> {
    let mut all = Untangle {
        writer,
        rows,
        slots: Vec::new(),
        by_key: HashMap::new(),
        columns: HashMap::new(),
    };
    for change in &rows.changes {
        all.change(change).map_err(|failed| writer.failed(rows, change, failed))?;
    }
    all.take_out().map_err(|e| sink_error(writer.service, "writing", e))?;
    all.put_back()
}

impl Untangle<'_> {
    fn change(&mut self, change: &Change) -> Result<(), Failed> {
        let place = self.writer.place(change);
        let target = place.target.clone();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        match change.op {
            ChangeOp::Create | ChangeOp::Read | ChangeOp::Update => {
                self.rows.after(change).unpack(&mut after)?;
                let values = all(&target, &after)?;
                let slot = self.slot(&target, change, key(&target, &after)?)?;
                let columns = self.columns(&target)?;
                let now = self.slots[slot].now.get_or_insert_with(|| vec![None; columns.len()]);
                for (column, value) in target.shape.columns.iter().zip(values) {
                    set(&columns, now, &column.name, value);
                }
            }
            ChangeOp::Patch | ChangeOp::Rekey => {
                self.rows.after(change).unpack(&mut after)?;
                self.rows.found_by(change).unpack(&mut before)?;
                self.patch(&target, change, (&before, &after))?;
            }
            ChangeOp::Delete | ChangeOp::Leave => {
                self.rows.found_by(change).unpack(&mut before)?;
                let slot = self.slot(&target, change, key(&target, &before)?)?;
                self.slots[slot].now = None;
            }
            ChangeOp::Truncate => {
                let here = |s: &&mut Slot| s.target.table == target.table;
                self.slots.iter_mut().filter(here).for_each(|s| s.now = None);
                self.writer.connection.execute(&format!("DELETE FROM {}", target.table), [])?;
            }
        }
        Ok(())
    }

    fn patch(
        &mut self,
        target: &Arc<Target>,
        change: &Change,
        (before, after): (&[Value<'_>], &[Value<'_>]),
    ) -> Result<(), Failed> {
        let from = self.slot(target, change, key(target, before)?)?;
        let to = self.slot(target, change, key(target, after)?)?;
        // A row that is not there is being read still, or the first try has told.
        let Some(mut now) = self.slots[from].now.take() else { return Ok(()) };
        let columns = self.columns(target)?;
        for (i, column) in target.shape.columns.iter().enumerate() {
            let value = at(after, column.source);
            if value != Value::Unchanged {
                let kind = target.shape.columns[i].column.kind;
                let value = super::values::stored(value, kind, &target.shape.dialect);
                set(&columns, &mut now, &column.name, value.map_err(Failed::Unfit)?);
            }
        }
        self.slots[to].now = Some(now);
        Ok(())
    }

    /// The slot of a key, with the row as the target has it when the key is new to us.
    fn slot(
        &mut self,
        target: &Arc<Target>,
        change: &Change,
        key: Vec<ToSqlOutput<'_>>,
    ) -> Result<usize, Failed> {
        let key: Vec<Owned> = key.into_iter().map(owned).collect();
        let name = format!("{} {key:?}", target.table);
        if let Some(&slot) = self.by_key.get(&name) {
            self.slots[slot].last = *change;
            return Ok(slot);
        }
        let columns = self.columns(target)?;
        let now = find(self.writer.connection, target, &columns, &key)?;
        let was = now.is_some();
        self.slots.push(Slot { target: target.clone(), last: *change, key, was, now });
        self.by_key.insert(name, self.slots.len() - 1);
        Ok(self.slots.len() - 1)
    }

    /// The columns of a table that can be written.
    fn columns(&mut self, target: &Target) -> Result<Arc<[String]>, Failed> {
        if let Some(known) = self.columns.get(&target.table) {
            return Ok(known.clone());
        }
        let name = named(&target.shape.into).ok().flatten().unwrap_or_default();
        let table = Table::find(self.writer.connection, &name)?;
        let columns = table.map(|t| t.columns).unwrap_or_default();
        let columns: Arc<[String]> =
            columns.into_iter().filter(|c| !c.generated).map(|c| c.name).collect();
        self.columns.insert(target.table.clone(), columns.clone());
        Ok(columns)
    }

    fn take_out(&self) -> Result<(), Error> {
        for slot in self.slots.iter().filter(|s| s.was) {
            let mut delete = self.writer.connection.prepare_cached(&slot.target.delete)?;
            delete.execute(params_from_iter(&slot.key))?;
        }
        Ok(())
    }

    fn put_back(&self) -> Result<(), SinkError> {
        for slot in &self.slots {
            let Some(now) = &slot.now else { continue };
            let columns = &self.columns[&slot.target.table];
            let said = || columns.iter().zip(now).filter_map(|(c, v)| Some((c, v.as_ref()?)));
            let names: Vec<_> = said().map(|(c, _)| quote(c)).collect();
            let insert = format!(
                "INSERT INTO {} ({}) VALUES ({})",
                slot.target.table,
                names.join(", "),
                vec!["?"; names.len()].join(", ")
            );
            let put = self.writer.connection.prepare_cached(&insert);
            let put = put.and_then(|mut i| i.execute(params_from_iter(said().map(|(_, v)| v))));
            put.map_err(|e| self.writer.failed(self.rows, &slot.last, Failed::Sql(e)))?;
        }
        Ok(())
    }
}

fn find(
    c: &Connection,
    target: &Target,
    columns: &[String],
    key: &[Owned],
) -> Result<Option<Cells>, Error> {
    let names: Vec<_> = columns.iter().map(|c| quote(c)).collect();
    let (names, condition) = (names.join(", "), &target.condition);
    let find = format!("SELECT {names} FROM {} WHERE {condition}", target.table);
    let mut find = c.prepare_cached(&find)?;
    let row = find.query_row(params_from_iter(key), |row| {
        (0..columns.len()).map(|i| Ok(Some(row.get::<_, Owned>(i)?))).collect()
    });
    row.optional()
}

fn set(columns: &[String], now: &mut Cells, name: &str, value: ToSqlOutput<'_>) {
    if let Some(i) = columns.iter().position(|c| c.eq_ignore_ascii_case(name)) {
        now[i] = Some(owned(value));
    }
}

fn owned(value: ToSqlOutput<'_>) -> Owned {
    match value {
        ToSqlOutput::Owned(value) => value,
        ToSqlOutput::Borrowed(ValueRef::Integer(i)) => Owned::Integer(i),
        ToSqlOutput::Borrowed(ValueRef::Real(r)) => Owned::Real(r),
        ToSqlOutput::Borrowed(ValueRef::Text(t)) => {
            Owned::Text(String::from_utf8_lossy(t).into_owned())
        }
        ToSqlOutput::Borrowed(ValueRef::Blob(b)) => Owned::Blob(b.to_vec()),
        _ => Owned::Null,
    }
}
