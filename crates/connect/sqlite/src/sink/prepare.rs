//! Target tables: made when missing, compared when present, widened when columns came.

use super::values::stored;
use super::{held, member};
use crate::file::sink_error;
use crate::table::{self, Table};
use crate::types::{self, DIALECT, affinity, keeps, mangles};
use rowcast_core::{
    Kind, RouteId, ServiceName, Shape, ShapeColumn, ShapeUse, SinkError, Value, quote,
};
use rusqlite::{Connection, Error};
use std::collections::HashMap;
use std::sync::Arc;

/// A table that is ready for a shape's rows.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) shape: Arc<Shape>,
    /// The table's name, quoted.
    pub(super) table: String,
    /// Writes a whole row.
    pub(super) upsert: String,
    /// Which row: `"id" = ?`, in key order.
    pub(super) condition: String,
    /// Removes a row.
    pub(super) delete: String,
}

/// Tables that were looked at. Everything here is forgotten when a table changes.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By schema, subscription, and how many columns of the schema are written.
    ready: HashMap<(u64, usize, usize), Arc<Target>>,
    schema_version: Option<i64>,
    /// The build tables that take the rows of these tables, named as subscriptions do.
    beside: HashMap<String, String>,
}

/// A target, and whether its entity's snapshot is still arriving.
pub(super) struct Place {
    pub(super) target: Arc<Target>,
    pub(super) settling: bool,
}

impl Targets {
    /// Where rows of these tables go instead of into them.
    pub(super) fn beside(&mut self, builds: HashMap<String, String>) {
        self.beside = builds;
    }

    /// Looks at every table anew: what was made for them may have been taken back.
    pub(super) fn forget(&mut self) {
        self.ready.clear();
        self.schema_version = None;
    }

    /// The targets of these shapes, in their order.
    pub(super) fn prepare(
        &mut self,
        c: &Connection,
        route: &RouteId,
        shapes: &[ShapeUse],
    ) -> Result<Vec<Place>, SinkError> {
        let service = &route.to;
        let version = || c.query_row("PRAGMA schema_version", [], |row| row.get(0));
        let refused = |e| sink_error(service, "looking at its tables", e);
        let now = Some(version().map_err(refused)?);
        if self.schema_version != now {
            self.ready.clear();
        }
        let mut places = Vec::with_capacity(shapes.len());
        for used in shapes {
            let shape = &used.shape;
            let id = (shape.schema.0, shape.subscription, shape.columns.len());
            let target = match self.ready.get(&id) {
                Some(target) => target.clone(),
                None => {
                    let build = self.beside.get(&used.shape.into);
                    let shape =
                        build.map_or_else(|| used.shape.clone(), |b| beside(&used.shape, b));
                    if let Some(build) = build {
                        let missing = Table::find(c, build).map_err(refused)?.is_none();
                        if missing && member::was_made(c, build).map_err(refused)? {
                            return Err(member::gone(service));
                        }
                    }
                    let unmarked = build.is_none() && held::compare(c, route, &shape.into)?;
                    if let Some(build) = build {
                        build_fits(c, service, (&used.shape, &shape, build))?;
                    }
                    let target = Arc::new(prepare(c, service, &shape)?);
                    if let Some(build) = build {
                        member::remember(c, &used.shape.into, build).map_err(refused)?;
                    } else if unmarked {
                        held::remember(c, route, &shape.into)?;
                    }
                    self.ready.insert(id, target.clone());
                    target
                }
            };
            places.push(Place { target, settling: used.settling });
        }
        self.schema_version = Some(version().map_err(refused)?);
        Ok(places)
    }
}

/// What has to be done to a target before its first row.
#[derive(Debug)]
pub(crate) enum Wanted<'a> {
    /// Nothing.
    Nothing,
    /// It is missing.
    Table,
    /// Columns are missing that may be added.
    Columns(Vec<&'a ShapeColumn>),
}

/// Why a table does not fit, and what to do.
pub(crate) type Misfit = (String, String);

impl<'a> Wanted<'a> {
    /// Compares a shape with what is there.
    pub(crate) fn of(shape: &'a Shape, found: Option<&Table>) -> Result<Self, Misfit> {
        twins(shape)?;
        let Some(found) = found else {
            return if shape.create {
                Ok(Self::Table)
            } else {
                Err(("it is missing, and `create = false`".into(), create_statement(shape)))
            };
        };
        if !found.ordinary {
            let help = "name an ordinary table with `into = \"…\"`";
            return Err(("it is a view or a virtual table".into(), help.into()));
        }
        for column in &shape.columns {
            compare(shape, found, column)?;
        }
        keys_fit(shape, found)?;
        computed(shape, found)?;
        let missing = |c: &&ShapeColumn| found.column(&c.name).is_none();
        let missing: Vec<_> = shape.columns.iter().filter(missing).collect();
        if missing.is_empty() {
            Ok(Self::Nothing)
        } else if shape.create && shape.all_fields {
            Ok(Self::Columns(missing))
        } else {
            let names: Vec<_> = missing.iter().map(|c| format!("{:?}", c.name)).collect();
            let add: Vec<_> = missing.iter().map(|c| add_column(shape, c)).collect();
            let help = format!("add what is missing: {}", add.join("; "));
            Err((format!("it has no column {}", names.join(", ")), help))
        }
    }
}

/// Names that differ in the case of their letters alone are one name here.
fn twins(shape: &Shape) -> Result<(), Misfit> {
    for (i, column) in shape.columns.iter().enumerate() {
        let mut before = shape.columns[..i].iter();
        if let Some(twin) = before.find(|c| c.name.eq_ignore_ascii_case(&column.name)) {
            let what = format!(
                "its columns {:?} and {:?} have the same name: SQLite does not tell upper from \
                 lower case in names",
                twin.name, column.name
            );
            let help = format!(
                "name the fields in the subscription, and give one of them another name: \
                 `fields = {{ {:?} = {:?}, … }}`",
                format!("{}_2", column.name),
                column.column.name
            );
            return Err((what, help));
        }
    }
    Ok(())
}

/// Columns that the publisher's database computes and does not send are none that rows could fill.
fn computed(shape: &Shape, found: &Table) -> Result<(), Misfit> {
    let plain = |name: &str| found.column(name).is_some_and(|here| !here.generated);
    match shape.generated.iter().find(|g| plain(&g.name)) {
        None => Ok(()),
        Some(generated) => Err((
            format!(
                "its column {:?} is a plain one, but the source computes it and does not send it, \
                 so the copy would hold NULL",
                generated.name
            ),
            format!(
                "make it a generated column that computes what the source does, which is {}; or \
                 name the wanted fields, without this one, in the subscription's `fields`",
                generated.expression
            ),
        )),
    }
}

fn compare(shape: &Shape, found: &Table, column: &ShapeColumn) -> Result<(), Misfit> {
    let Some(here) = found.column(&column.name) else { return Ok(()) };
    if here.generated {
        let what = format!("column {:?} is generated", here.name);
        return Err((what, "leave the field out, or make it a plain column".into()));
    }
    let (kind, native) = (column.column.kind, &column.column.native);
    let stays = if *shape.dialect == *DIALECT {
        keeps(affinity(native), affinity(&here.declared))
    } else {
        !mangles(kind, affinity(&here.declared))
    };
    if !stays {
        let what = format!(
            "column {:?} is declared {:?}, which would change values of type {native:?}",
            here.name, here.declared
        );
        let fits = declared(shape, column);
        let fits = if fits.is_empty() { "no type".into() } else { fits };
        return Err((what, format!("declare the column with {fits}")));
    }
    Ok(())
}

/// A key by which two rows of the publisher can be one: they would overwrite each other, and a delete
/// of one would take both.
fn coarse_key<'t>(shape: &Shape, unique: &'t table::Unique) -> Option<&'t str> {
    // Here a column may hold a text whatever it is declared; elsewhere a number or a date has one
    // spelling only.
    let text = |name: &str| {
        let column = shape.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name));
        let kinds = [Kind::Text, Kind::Any, Kind::Other];
        *shape.dialect == *DIALECT || column.is_some_and(|c| kinds.contains(&c.column.kind))
    };
    let coarse = unique.columns.iter().find(|(name, collation)| {
        collation != "BINARY" && name.as_ref().is_some_and(|name| text(name))
    });
    coarse.map(|(_, collation)| collation.as_str())
}

fn keys_fit(shape: &Shape, found: &Table) -> Result<(), Misfit> {
    let key: Vec<_> = shape.key.iter().map(|k| shape.columns[*k].name.as_str()).collect();
    let covers = |columns: Vec<&str>| {
        columns.len() == key.len()
            && key.iter().all(|k| columns.iter().any(|c| c.eq_ignore_ascii_case(k)))
    };
    let primary = found.key().iter().map(|c| c.name.as_str()).collect();
    let unique = |u: &table::Unique| {
        let names: Option<Vec<_>> = u.columns.iter().map(|(n, _)| n.as_deref()).collect();
        u.condition.is_none() && names.is_some_and(covers)
    };
    let mut over = found.uniques.iter().filter(|u| unique(u));
    if let Some(collation) = over.find_map(|u| coarse_key(shape, u)) {
        let what = format!(
            "its key compares by the collation {collation}, so two rows with different keys at the \
             source, such as 'abc' and 'ABC', may be one row here"
        );
        let help = "make the table with a key that compares byte by byte (COLLATE BINARY, which is \
                    the default), then have the copy built again with `rowcast replay`: rows may be \
                    missing from it already";
        return Err((what, help.into()));
    }
    if covers(primary) || found.uniques.iter().any(unique) {
        return Ok(());
    }
    let columns: Vec<_> = key.iter().map(|k| quote(k)).collect();
    let what = format!("its rows are not unique by {}", key.join(", "));
    let index = format!(
        "CREATE UNIQUE INDEX {} ON {} ({})",
        quote(&format!("{}_key", found.name)),
        quote(&found.name),
        columns.join(", ")
    );
    Err((what, format!("give it a key: {index}")))
}

fn declared(shape: &Shape, column: &ShapeColumn) -> String {
    // The publisher's own type: it does to values here what it did there.
    if *shape.dialect == *DIALECT {
        column.column.native.clone()
    } else {
        types::declared(column.column.kind).to_string()
    }
}

/// The statement that makes a shape's table.
pub(crate) fn create_statement(shape: &Shape) -> String {
    let name = table::named(&shape.into).ok().flatten().unwrap_or_else(|| shape.into.clone());
    let mut parts: Vec<String> = Vec::new();
    for (i, column) in shape.columns.iter().enumerate() {
        let not_null = if shape.key.contains(&i) { " NOT NULL" } else { "" };
        let name = quote(&column.name);
        parts.push(format!("{name} {}{not_null}", declared(shape, column)).trim_end().to_string());
    }
    let key: Vec<_> = shape.key.iter().map(|k| quote(&shape.columns[*k].name)).collect();
    parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    format!("CREATE TABLE {} ({})", quote(&name), parts.join(", "))
}

fn add_column(shape: &Shape, column: &ShapeColumn) -> String {
    let name = table::named(&shape.into).ok().flatten().unwrap_or_else(|| shape.into.clone());
    let add = format!(
        "ALTER TABLE {} ADD COLUMN {} {}",
        quote(&name),
        quote(&column.name),
        declared(shape, column)
    );
    add.trim_end().to_string()
}

/// Refuses a build table that was made for an earlier shape. Nobody else has to do with such a table,
/// so nobody is asked to mend it.
fn build_fits(
    c: &Connection,
    service: &ServiceName,
    (copy, shape, build): (&Shape, &Shape, &str),
) -> Result<(), SinkError> {
    let found = Table::find(c, build);
    let found = found.map_err(|e| sink_error(service, "looking at its tables", e))?;
    let Some(found) = found else { return Ok(()) };
    let typed = |column: &ShapeColumn| {
        let here = found.column(&column.name);
        here.is_none_or(|here| affinity(&here.declared) == affinity(&declared(shape, column)))
    };
    if Wanted::of(shape, Some(&found)).is_ok() && shape.columns.iter().all(typed) {
        return Ok(());
    }
    Err(SinkError::Outdated { service: service.clone(), into: copy.into.clone() })
}

/// The shape of a build table.
fn beside(shape: &Shape, build: &str) -> Arc<Shape> {
    Arc::new(Shape { into: quote(build), create: true, all_fields: true, ..shape.clone() })
}

fn prepare(c: &Connection, service: &ServiceName, shape: &Arc<Shape>) -> Result<Target, SinkError> {
    let name = ready(c, service, shape)?;
    Ok(target(shape.clone(), name))
}

/// Makes a shape's table when it is missing, widens it when columns came, and refuses one that does
/// not fit. Its name, quoted.
pub(super) fn ready(
    c: &Connection,
    service: &ServiceName,
    shape: &Shape,
) -> Result<String, SinkError> {
    let refused = |e| sink_error(service, "making a table", e);
    let misfit = |(what, help)| SinkError::Schema {
        service: service.clone(),
        table: shape.into.clone(),
        what,
        help,
    };
    let name = match table::named(&shape.into) {
        Ok(Some(name)) => name,
        Ok(None) | Err(_) => {
            let help = "write `into = \"table\"`: SQLite has one namespace";
            return Err(misfit(("that is no table name here".into(), help.into())));
        }
    };
    let found = Table::find(c, &name).map_err(refused)?;
    match Wanted::of(shape, found.as_ref()).map_err(misfit)? {
        Wanted::Nothing => {}
        Wanted::Table => {
            c.execute(&create_statement(shape), []).map_err(refused)?;
        }
        Wanted::Columns(columns) => {
            for column in columns {
                add(c, &name, shape, column).map_err(refused)?;
            }
        }
    }
    Ok(quote(&name))
}

fn add(c: &Connection, table: &str, shape: &Shape, column: &ShapeColumn) -> Result<(), Error> {
    c.execute(&add_column(shape, column), [])?;
    let Some(fill) = &column.column.fill else { return Ok(()) };
    // The text form of the kind, whatever the dialect: that is what a fill is.
    let fill = Value::Text(fill.as_bytes());
    let Ok(fill) = stored(fill, column.column.kind, "") else { return Ok(()) };
    c.execute(&format!("UPDATE {} SET {} = ?1", quote(table), quote(&column.name)), [fill])?;
    Ok(())
}

fn target(shape: Arc<Shape>, table: String) -> Target {
    let names: Vec<_> = shape.columns.iter().map(|c| quote(&c.name)).collect();
    let key: Vec<_> = shape.key.iter().map(|k| names[*k].clone()).collect();
    let others = names.iter().enumerate().filter(|(i, _)| !shape.key.contains(i));
    let set: Vec<_> = others.map(|(_, n)| format!("{n} = excluded.{n}")).collect();
    let then =
        if set.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", set.join(", ")) };
    let upsert = format!(
        "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT ({}) DO {then}",
        names.join(", "),
        vec!["?"; names.len()].join(", "),
        key.join(", ")
    );
    let equal: Vec<_> = key.iter().map(|k| format!("{k} = ?")).collect();
    let condition = equal.join(" AND ");
    let delete = format!("DELETE FROM {table} WHERE {condition}");
    Target { shape, table, upsert, condition, delete }
}
