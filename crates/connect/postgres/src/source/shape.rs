//! From a table, or from what the stream says of it, to an entity's schema.

use super::catalog::{OddKey, Table, TableColumn};
use super::expression::reads;
use super::leaves;
use super::pgoutput::Relation;
use rowcast_core::{Column, Fix, Generated, Kind, Masker, Publish, Schema, SchemaId, quote};
use std::sync::Arc;

/// What [`Schema::dialect`] says.
pub(crate) const DIALECT: &str = "postgres";

/// What a column of a tuple is to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Not published.
    Skip,
    /// A field.
    Field,
    /// A field of the key.
    Key,
}

/// How to make an entity's rows from a relation's tuples.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// What the rows look like.
    pub(crate) schema: Arc<Schema>,
    /// Its identity.
    pub(crate) id: SchemaId,
    /// One per column of the tuple. Fields keep the order of the tuple, so rows are made in one
    /// pass.
    pub(crate) parts: Vec<Part>,
    /// What masks each field's values, in the order of the schema's columns; empty when nothing does.
    pub(crate) masks: Arc<[Option<Masker>]>,
}

impl Shape {
    /// What masks the values of the field at this place.
    pub(crate) fn mask(&self, field: usize) -> Option<&Masker> {
        self.masks.get(field)?.as_ref()
    }
}

/// A table that cannot be published as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// What does not fit.
    pub(crate) what: String,
    /// What to do, in words.
    pub(crate) help: String,
    /// What to run.
    pub(crate) fix: Option<Fix>,
}

impl Unfit {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), fix: None }
    }

    /// The remedy with its statements, as one text.
    pub(crate) fn help_with_fix(&self) -> String {
        match &self.fix {
            Some(fix) => format!("{}: {}", self.help, fix.statements.join("; ")),
            None => self.help.clone(),
        }
    }
}

/// The shape that a table has now.
pub(crate) fn of_table(table: &Table, publish: &Publish) -> Result<Shape, Unfit> {
    fits(table)?;
    let key = key_names(table)?;
    leaves::fit(table, &key)?;
    let sent: Vec<_> = table.columns.iter().filter(|c| c.generated.is_none()).collect();
    shape(table, publish, &sent, &key)
}

/// Whether tables of this kind are in the stream at all.
fn fits(table: &Table) -> Result<(), Unfit> {
    let name = table.sql();
    let kind = match table.kind {
        'r' | 'p' if table.is_partition => {
            return Err(Unfit::new(
                format!("{name} is a partition of another table"),
                "publish the partitioned table itself",
            ));
        }
        'r' | 'p' if table.permanent => return Ok(()),
        'r' | 'p' => "a temporary or unlogged table, whose changes are not in the server's log",
        'v' => "a view",
        'm' => "a materialized view",
        'f' => "a foreign table",
        _ => "no table",
    };
    Err(Unfit::new(format!("{name} is {kind}"), "publish a plain or a partitioned table"))
}

/// The key's columns in order.
fn key_names(table: &Table) -> Result<Vec<String>, Unfit> {
    if let Some(index) = table.key() {
        return Ok(index.columns.iter().map(|(name, _)| name.clone()).collect());
    }
    let name = table.sql();
    if let Some(odd) = table.odd_key.as_ref().filter(|_| matches!(table.identity, 'd' | 'f')) {
        return Err(odd_key(&name, odd));
    }
    let primary = table.indexes.iter().any(|i| i.primary);
    let mut unfit = match table.identity {
        'n' => Unfit::new(
            format!("{name} has REPLICA IDENTITY NOTHING, so updates and deletes cannot be told"),
            "let its primary key tell its rows apart",
        ),
        'f' => Unfit::new(
            format!("{name} has neither a primary key nor a unique index without nulls"),
            "give it a key",
        ),
        'i' => Unfit::new(
            format!("{name}'s replica identity names an index that is gone"),
            "let its primary key tell its rows apart",
        ),
        _ => Unfit::new(format!("{name} has no primary key"), "give it one"),
    };
    let statement = if primary {
        format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT")
    } else {
        unfit.help = "give it a primary key of columns that tell its rows apart, or name a unique \
                      index without nulls as its replica identity"
            .into();
        format!("ALTER TABLE {name} ADD PRIMARY KEY (…)")
    };
    unfit.fix = Some(Fix { statements: vec![statement], safe: primary });
    Err(unfit)
}

/// A primary key that PostgreSQL does not tell rows apart by, or that means more than equal values.
fn odd_key(name: &str, key: &OddKey) -> Unfit {
    let columns: Vec<_> = key.columns.iter().map(|c| quote(c)).collect();
    let (columns, constraint) = (columns.join(", "), quote(&key.name));
    if key.temporal {
        return Unfit::new(
            format!(
                "{name}'s primary key is temporal: with WITHOUT OVERLAPS it forbids ranges that \
                 overlap, and a copy tells rows apart by equal values only"
            ),
            format!(
                "make a unique index over plain columns without nulls that tell rows apart, and \
                 name it as the replica identity: ALTER TABLE {name} REPLICA IDENTITY USING INDEX \
                 the_index"
            ),
        );
    }
    let mut unfit = Unfit::new(
        format!(
            "{name}'s primary key {constraint} is DEFERRABLE, and PostgreSQL does not tell rows apart \
             by such a key in its log"
        ),
        "make the key anew, not deferrable (foreign keys that refer to it have to be dropped and \
         made again); or name a unique index without nulls as the table's replica identity",
    );
    let statement = format!(
        "ALTER TABLE {name} DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} PRIMARY KEY \
         ({columns})"
    );
    unfit.fix = Some(Fix { statements: vec![statement], safe: false });
    unfit
}

/// The shape that the stream says. The catalog may be newer than the stream: of columns, their types
/// and the key the stream has the word; names of types come from the catalog, or from `strangers`
/// in the order of the columns that the catalog does not know this way.
pub(crate) fn of_relation(
    relation: &Relation,
    table: &Table,
    strangers: &[(String, Kind)],
    publish: &Publish,
) -> Result<Shape, Unfit> {
    let mut strangers = strangers.iter();
    let columns: Vec<TableColumn> = relation
        .columns
        .iter()
        .map(|c| match known(table, c.name.as_str(), c.type_oid, c.type_modifier) {
            Some(column) => column.clone(),
            None => {
                let (native, kind) =
                    strangers.next().cloned().unwrap_or(("???".into(), Kind::Other));
                TableColumn {
                    name: c.name.clone(),
                    number: 0,
                    changed: 0,
                    type_oid: c.type_oid,
                    type_modifier: c.type_modifier,
                    native,
                    kind,
                    not_null: c.identity && relation.identity != b'f',
                    fill: None,
                    generated: None,
                    inputs: vec![],
                    may_select: true,
                    labels: vec![],
                }
            }
        })
        .collect();
    let identity: Vec<&str> =
        relation.columns.iter().filter(|c| c.identity).map(|c| c.name.as_str()).collect();
    let catalog = table.key().map(|i| i.columns.iter().map(|(name, _)| name.clone()).collect());
    let key: Vec<String> = match (relation.identity, catalog) {
        (b'f', Some(key)) => key,
        (b'd' | b'i', Some(key)) if same(&key, &identity) => key,
        (b'd' | b'i', _) if !identity.is_empty() => identity.iter().map(|n| (*n).into()).collect(),
        _ => key_names(table)?,
    };
    let sent: Vec<_> = columns.iter().collect();
    shape(table, publish, &sent, &key)
}

/// The types of a relation's columns that the catalog does not know this way.
pub(crate) fn strangers(relation: &Relation, table: &Table) -> Vec<(u32, i32)> {
    let strange = relation
        .columns
        .iter()
        .filter(|c| known(table, &c.name, c.type_oid, c.type_modifier).is_none());
    strange.map(|c| (c.type_oid, c.type_modifier)).collect()
}

fn known<'a>(table: &'a Table, name: &str, oid: u32, modifier: i32) -> Option<&'a TableColumn> {
    let column = table.column(name)?;
    (column.type_oid == oid && column.type_modifier == modifier).then_some(column)
}

/// Whether a relation tells rows apart by the key that we know its table has. One that is sent whole
/// says nothing of a key.
pub(crate) fn has_key_of(relation: &Relation, table: &Table) -> bool {
    let identity: Vec<&str> =
        relation.columns.iter().filter(|c| c.identity).map(|c| c.name.as_str()).collect();
    let key = table.key().map(|i| i.columns.iter().map(|(name, _)| name.clone()).collect());
    relation.identity == b'f' || key.is_some_and(|key: Vec<String>| same(&key, &identity))
}

fn same(key: &[String], identity: &[&str]) -> bool {
    key.len() == identity.len() && key.iter().all(|k| identity.contains(&k.as_str()))
}

fn shape(
    table: &Table,
    publish: &Publish,
    sent: &[&TableColumn],
    key: &[String],
) -> Result<Shape, Unfit> {
    let name = table.sql();
    let is_sent = |n: &str| sent.iter().any(|c| c.name == n);
    let published = |n: &str| publish.fields.as_ref().is_none_or(|f| f.iter().any(|f| f == n));
    fields_fit(table, publish, sent)?;
    for column in key {
        if !is_sent(column) {
            return Err(Unfit::new(
                format!("{name}'s key column {} is not in the stream", quote(column)),
                "a key must consist of plain columns",
            ));
        }
        if !published(column) {
            return Err(Unfit::new(
                format!(
                    "{} is part of {name}'s key but not among the published fields",
                    quote(column)
                ),
                format!("add \"{column}\" to the entity's `fields`"),
            ));
        }
    }
    masks_fit(table, publish, sent, key)?;
    let place = |n: &str| key.iter().position(|k| k == n).map(|i| i as u16);
    let parts = sent.iter().map(|c| match (published(&c.name), place(&c.name)) {
        (false, _) => Part::Skip,
        (true, None) => Part::Field,
        (true, Some(_)) => Part::Key,
    });
    let columns = sent.iter().filter(|c| published(&c.name)).map(|c| {
        publish.masks.column(Column {
            name: c.name.clone(),
            native: c.native.clone(),
            kind: c.kind,
            key: place(&c.name),
            not_null: c.not_null,
            fill: c.fill.clone(),
        })
    });
    let masked = sent.iter().filter(|c| published(&c.name));
    let masks: Vec<_> = masked.map(|c| publish.masks.masker(&c.name, c.kind)).collect();
    let masks = if publish.masks.is_empty() { Arc::default() } else { masks.into() };
    let computed = table.columns.iter().filter(|c| published(&c.name) && !is_sent(&c.name));
    let generated = computed.filter_map(|c| {
        let expression = c.generated.clone().filter(|_| carries(c, publish))?;
        Some(Generated { name: c.name.clone(), native: c.native.clone(), expression })
    });
    let schema = Schema {
        entity: publish.entity.clone(),
        dialect: DIALECT.into(),
        columns: columns.collect(),
        generated: generated.collect(),
    };
    Ok(Shape { id: schema.id(), parts: parts.collect(), masks, schema: Arc::new(schema) })
}

/// Whether every published field that is named is a column whose values come along.
fn fields_fit(table: &Table, publish: &Publish, sent: &[&TableColumn]) -> Result<(), Unfit> {
    let name = table.sql();
    let is_sent = |n: &str| sent.iter().any(|c| c.name == n);
    for field in publish.fields.iter().flatten() {
        if is_sent(field) {
            continue;
        }
        if let Some(computed) = table.column(field).filter(|c| c.generated.is_some()) {
            inputs_fit(table, computed, publish)?;
        } else {
            return Err(Unfit::new(
                format!("{name} has no column {}", quote(field)),
                "add the column, or take it out of the entity's `fields`; subscribers that name it \
                 have to let it go first",
            ));
        }
    }
    Ok(())
}

/// Whether copies can compute a column that is named among the published fields. The server does not
/// send it.
fn inputs_fit(table: &Table, computed: &TableColumn, publish: &Publish) -> Result<(), Unfit> {
    let (name, column) = (table.sql(), quote(&computed.name));
    if publish.masks.of(&computed.name).is_none() && !carries(computed, publish) {
        return Err(Unfit::new(
            format!("{name}'s column {column} is computed from masked fields, so no copy has it"),
            format!("take \"{}\" out of the entity's `fields`", computed.name),
        ));
    }
    let inputs = table.columns.iter().filter(|c| computed.inputs.contains(&c.number));
    let published = |n: &String| publish.fields.as_ref().is_none_or(|f| f.contains(n));
    let lacking: Vec<_> = inputs.map(|c| &c.name).filter(|n| !published(n)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let from: Vec<_> = lacking.iter().map(|n| quote(n)).collect();
    let fields: Vec<_> = lacking.iter().map(|n| format!("{n:?}")).collect();
    Err(Unfit::new(
        format!(
            "{name}'s column {column} is computed by the server, which does not send it, and copies \
             cannot compute it: {} is not among the published fields",
            from.join(", ")
        ),
        format!(
            "add {} to the entity's `fields`, so that copies can compute it, or take {:?} out of them",
            fields.join(", "),
            computed.name
        ),
    ))
}

/// Every mask names a published column, and none makes two keys one.
fn masks_fit(
    table: &Table,
    publish: &Publish,
    sent: &[&TableColumn],
    key: &[String],
) -> Result<(), Unfit> {
    let computed = table.columns.iter().filter(|c| c.generated.is_some());
    let there = sent.iter().copied().chain(computed).map(|c| c.name.as_str());
    let public = |n: &&str| publish.fields.as_ref().is_none_or(|f| f.iter().any(|f| f == n));
    let published: Vec<&str> = there.filter(public).collect();
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    match publish.masks.misfit(&published, &key) {
        Some((what, help)) => Err(Unfit::new(format!("{}: {what}", table.sql()), help)),
        None => Ok(()),
    }
}

/// Whether a copy may compute a generated column: not from masked values, which it does not have.
pub(crate) fn carries(column: &TableColumn, publish: &Publish) -> bool {
    let Some(expression) = &column.generated else { return true };
    let mut masked = publish.masks.fields();
    !masked.any(|(field, _)| field == column.name || reads(expression, field))
}
