//! Makes the file ready to be captured, and ready again whenever its tables change.
//!
//! Law: whatever could have passed unseen leads to the entity being read again; nothing else does.

use super::ledger::{self, Capture, Identity};
use super::masked::{self, Masked, withheld};
use super::trigger::op;
use crate::file::source_error;
use crate::table::{self, Table, TableColumn};
use crate::turn::Turn;
use crate::types::{self, Affinity};
use rowcast_core::{
    Column, EntityName, Epoch, Kind, Point, Position, Publish, Resume, Schema, ServiceName,
    SourceError, SourceSpec, Start,
};
use rusqlite::{Connection, Error, TransactionBehavior};

/// A file that is ready, and how capture of it begins.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) epoch: Epoch,
    /// The first change that was not handed out yet.
    pub(super) next: u64,
    /// All captures whose changes may come.
    pub(super) captures: Vec<Capture>,
    /// `PRAGMA schema_version` for which all this holds.
    pub(super) schema_version: i64,
}

/// Checks the history against `start` and makes everything ready, in one transaction.
pub(super) fn install(
    connection: &mut Connection,
    spec: &SourceSpec,
    start: &Start,
) -> Result<Installed, SourceError> {
    let refused = |error| source_error(&spec.service, "making the database ready", error);
    let _turn = Turn::of(connection).map_err(refused)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = transaction.map_err(refused)?;
    let ready = Install { connection: &transaction, spec };
    let (epoch, next) = match start {
        Start::After(resume) => ready.resume(resume)?,
        Start::Beginning | Start::Afresh => ready.begin().map_err(refused)?,
    };
    let known: Vec<_> = match start {
        Start::After(resume) => resume.snapshots.iter().map(|s| s.entity.clone()).collect(),
        Start::Beginning | Start::Afresh => Vec::new(),
    };
    let masked = ready.captures(next, &known)?;
    ready
        .finish(epoch, next, &masked)
        .and_then(|installed| transaction.commit().map(|()| installed))
        .map_err(refused)
}

/// Looks at all tables again after some table changed.
pub(super) fn reinstall(
    connection: &mut Connection,
    spec: &SourceSpec,
    epoch: Epoch,
    next: u64,
) -> Result<Installed, SourceError> {
    let refused = |error| source_error(&spec.service, "looking at changed tables", error);
    let _turn = Turn::of(connection).map_err(refused)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = transaction.map_err(refused)?;
    let ready = Install { connection: &transaction, spec };
    let same = ledger::identity(&transaction).map_err(refused)?.is_some_and(|i| i.epoch == epoch);
    if !same {
        return Err(lost(&spec.service, "the capture's own tables were removed from the file"));
    }
    let known: Vec<_> = spec.entities.iter().map(|p| p.entity.clone()).collect();
    let masked = ready.captures(next, &known)?;
    ready
        .finish(epoch, next, &masked)
        .and_then(|installed| transaction.commit().map(|()| installed))
        .map_err(refused)
}

/// The history is not the one the log follows.
pub(super) fn lost(service: &ServiceName, what: &str) -> SourceError {
    SourceError::Epoch {
        service: service.clone(),
        what: what.into(),
        help: format!(
            "changes may be missing: stop `rowcast run` and start it as `rowcast run --resnapshot \
             {service}` to begin a new history and read every published table again"
        ),
    }
}

/// The history that we ended ourselves.
fn released(service: &ServiceName) -> SourceError {
    SourceError::Released {
        service: service.clone(),
        what: "more changes waited in the file than its `retain` limit allows, and they were let \
               go of: what came since is not captured"
            .into(),
        help: format!(
            "`action = \"release\"` in the service's `retain` begins a new history by itself; \
             without it run `rowcast run --resnapshot {service}`"
        ),
    }
}

struct Install<'a> {
    connection: &'a Connection,
    spec: &'a SourceSpec,
}

impl Install<'_> {
    fn begin(&self) -> Result<(Epoch, u64), Error> {
        ledger::make_tables(self.connection)?;
        for old in ledger::captures(self.connection)? {
            ledger::retire(self.connection, old.id)?;
        }
        let next = ledger::forget_changes(self.connection)?;
        let epoch = Epoch { identity: rand::random::<u64>(), birth: next };
        ledger::set_identity(self.connection, self.spec.service.as_str(), epoch)?;
        Ok((epoch, next))
    }

    fn resume(&self, resume: &Resume) -> Result<(Epoch, u64), SourceError> {
        let service = &self.spec.service;
        let refused = |error| source_error(service, "reading the capture's own tables", error);
        let Position { epoch, point, .. } = resume.position;
        let Point::Sequence(next) = point else {
            return Err(lost(service, "the log follows another kind of database"));
        };
        if ledger::was_released(self.connection, epoch).map_err(refused)? {
            return Err(released(service));
        }
        let found = ledger::identity(self.connection).map_err(refused)?;
        let Some(Identity { format, epoch: here, purged }) = found else {
            let what = "the file holds no record of this capture: its tables were made anew";
            return Err(lost(service, what));
        };
        if format != ledger::FORMAT {
            return Err(SourceError::Setup {
                service: service.clone(),
                what: format!("its capture tables have format {format}"),
                help: "a newer version of Rowcast made them; use that version".into(),
                source: None,
            });
        }
        if here != epoch {
            return Err(lost(service, "the file was replaced, or another log captured it since"));
        }
        if purged > next {
            let what = format!(
                "the log ends before change {next}, but changes before {purged} were already \
                 taken out of the file: this log is an old copy"
            );
            return Err(lost(service, &what));
        }
        let newest = ledger::next_number(self.connection).map_err(refused)?;
        if newest < next {
            let what = format!(
                "the log holds changes up to {next}, the file only up to {newest}: it was \
                 restored from a backup"
            );
            return Err(lost(service, &what));
        }
        ledger::make_tables(self.connection).map_err(refused)?;
        ledger::forget_released(self.connection).map_err(refused)?;
        Ok((epoch, next))
    }

    /// Brings the captures in line with what is published. Of the entities in `known` the log holds
    /// something already. Returns how each entity is masked.
    fn captures(&self, next: u64, known: &[EntityName]) -> Result<Vec<Masked>, SourceError> {
        let service = &self.spec.service;
        let refused = |error| source_error(service, "making triggers", error);
        let there = ledger::captures(self.connection).map_err(refused)?;
        let published =
            |c: &Capture| self.spec.entities.iter().any(|p| p.entity == c.schema.entity);
        for gone in there.iter().filter(|c| c.active && !published(c)) {
            ledger::retire(self.connection, gone.id).map_err(refused)?;
        }
        let mut masked = Vec::new();
        for publish in &self.spec.entities {
            let (table, schema) = published_table(self.connection, service, publish)?;
            let old = there.iter().find(|c| c.active && c.schema.entity == publish.entity);
            let known = known.contains(&publish.entity);
            let masks = publish.masks.notes();
            self.capture((&table, &masks), schema, old, known.then_some(next)).map_err(refused)?;
            masked.push(Masked::of(&table, publish));
        }
        ledger::forget_read_captures(self.connection).map_err(refused)?;
        Ok(masked)
    }

    /// `next` is the first change that was not handed out, when the log knows the entity.
    fn capture(
        &self,
        (table, masks): (&Table, &str),
        mut schema: Schema,
        old: Option<&Capture>,
        next: Option<u64>,
    ) -> Result<(), Error> {
        let Some(old) = old else {
            let new = ledger::add(self.connection, table, &schema, masks)?;
            return match next {
                Some(_) => ledger::note(self.connection, Some(new.id), op::AGAIN),
                None => Ok(()),
            };
        };
        let intact = old.is_intact(self.connection, table)?;
        let same = old.masks == masks
            && old.schema.columns.iter().zip(&schema.columns).all(|(a, b)| alike(a, b));
        let (was, is) = (old.schema.columns.len(), schema.columns.len());
        if intact && same && was == is {
            if old.complete && !ledger::covers(table, &schema) {
                ledger::is_incomplete(self.connection, old.id)?;
            }
            return Ok(());
        }
        // A column that was there but not published has values that nobody captured.
        let mut filled = intact && same && was < is && old.complete && masks.is_empty();
        for column in &mut schema.columns[was.min(is)..] {
            let fill = table.column(&column.name).and_then(|c| fill(self.connection, c));
            filled &= fill.is_some();
            column.fill = fill.flatten();
        }
        // Values that stay keep what they were filled with, so that the schema's id stays too.
        if filled {
            schema.columns[..was].clone_from_slice(&old.schema.columns);
        } else {
            schema.columns.iter_mut().for_each(|c| c.fill = None);
        }
        ledger::retire(self.connection, old.id)?;
        let new = ledger::add(self.connection, table, &schema, masks)?;
        match next {
            Some(next) if filled => {
                ledger::note(self.connection, Some(new.id), op::SCHEMA)?;
                ledger::repeat(self.connection, old, &new, next)
            }
            Some(_) => ledger::note(self.connection, Some(new.id), op::AGAIN),
            None => Ok(()),
        }
    }

    fn finish(&self, epoch: Epoch, next: u64, masked: &[Masked]) -> Result<Installed, Error> {
        let mut captures = ledger::captures(self.connection)?;
        masked::prepare(&mut captures, masked);
        let schema_version = ledger::note_look(self.connection)?;
        Ok(Installed { epoch, next, captures, schema_version })
    }
}

fn alike(a: &Column, b: &Column) -> bool {
    (&a.name, &a.native, a.key, a.not_null) == (&b.name, &b.native, b.key, b.not_null)
}

/// What rows hold that were there before the column: `None` when a text cannot say it.
fn fill(connection: &Connection, column: &TableColumn) -> Option<Option<String>> {
    let exact = !matches!(types::kind(&column.declared), Kind::Any | Kind::Bytes);
    let Some(default) = column.default.as_deref().filter(|_| !column.generated) else {
        return (!column.generated).then_some(None);
    };
    // The default takes the column's type on the way in; casting does the same to a constant.
    let cast = match types::affinity(&column.declared) {
        Affinity::Integer | Affinity::Numeric => "NUMERIC",
        Affinity::Real => "REAL",
        Affinity::Text => "TEXT",
        Affinity::Blob => "BLOB",
    };
    let ask = format!("SELECT typeof(d), CAST(d AS TEXT) FROM (SELECT {default} AS d)");
    let found = connection.query_row(&ask, [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
    });
    match found.ok()? {
        (_, Some(text)) if types::kind(&column.declared) == Kind::Bool => match text.as_str() {
            "1" => Some(Some("t".into())),
            "0" => Some(Some("f".into())),
            _ => None,
        },
        (kind, None) if kind == "null" => Some(None),
        (kind, text) if exact && kind == "text" && cast == "TEXT" => Some(text),
        (kind, text) if exact && kind == "integer" && cast != "REAL" => Some(text),
        _ => None,
    }
}

/// The table and the schema of a published entity.
pub(crate) fn published_table(
    connection: &Connection,
    service: &ServiceName,
    publish: &Publish,
) -> Result<(Table, Schema), SourceError> {
    let unfit = |what: String, help: &str| SourceError::Schema {
        service: service.clone(),
        entity: publish.entity.clone(),
        what,
        help: help.into(),
    };
    let named = table::named(&publish.table)
        .map_err(|e| unfit(e.to_string(), "write the table's name as in the database"))?;
    let found = match &named {
        Some(name) => Table::find(connection, name)
            .map_err(|e| source_error(service, "reading the tables", e))?,
        None => None,
    };
    let Some(table) = found else {
        return Err(unfit(
            format!("there is no table {}", publish.table),
            "name an existing table with `table = \"…\"`, or take the entity out of `publish`; \
             the log keeps what it has",
        ));
    };
    if !table.ordinary {
        let what = format!("{} is a view or a virtual table", publish.table);
        return Err(unfit(what, "publish the table behind it"));
    }
    if table.key().is_empty() {
        let what = format!("{} has no primary key", publish.table);
        return Err(unfit(
            what,
            "give the table a PRIMARY KEY, so that its rows can be told apart",
        ));
    }
    if let Some(rule) = table.uniques.iter().find(|u| u.columns.iter().any(|(c, _)| c.is_none())) {
        let what = format!("unique index {} is on an expression", rule.name);
        return Err(unfit(
            what,
            "rows that it replaces cannot be seen: make it a unique index on a generated column \
             that holds the expression",
        ));
    }
    let schema = published_schema(&table, publish).map_err(|(what, help)| unfit(what, help))?;
    Ok((table, schema))
}

fn published_schema(table: &Table, publish: &Publish) -> Result<Schema, (String, &'static str)> {
    let never_null = table.without_rowid || table.key_is_rowid();
    let column = |c: &TableColumn| c.published(c.key, c.key.is_some() && never_null);
    let columns: Vec<Column> = match &publish.fields {
        None => {
            let withheld = withheld(table, &publish.masks);
            let leaves = |c: &&TableColumn| !withheld.contains(&c.name.as_str());
            table.columns.iter().filter(leaves).map(column).collect()
        }
        Some(fields) => {
            let find =
                |field: &String| {
                    table.column(field).map(column).ok_or_else(|| {
                let what = format!("{} has no column {field:?} any more, or never had", table.name);
                (what, "correct `fields`, or bring the column back; subscribers that name it wait")
            })
                };
            fields.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    for key in table.key() {
        if !columns.iter().any(|c| c.name == key.name) {
            let what = format!("`fields` leaves out the key column {:?}", key.name);
            return Err((what, "add it: without its key a row cannot be told from another"));
        }
    }
    let published: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let key: Vec<&str> = table.key().into_iter().map(|c| c.name.as_str()).collect();
    if let Some((what, help)) = publish.masks.misfit(&published, &key) {
        return Err((format!("{}: {what}", table.name), help));
    }
    if let Some(column) = withheld(table, &publish.masks).iter().find(|c| published.contains(c)) {
        let what = format!("{column:?} is computed, perhaps from a masked column, and not masked");
        return Err((what, "mask it too, or take it out of `fields`"));
    }
    let entity = publish.entity.clone();
    let columns = columns.into_iter().map(|c| publish.masks.column(c)).collect();
    Ok(Schema { entity, dialect: types::DIALECT.into(), columns, generated: Vec::new() })
}
