//! A shape and its table: the statements that write the one into the other.

use super::binary::Binary;
use super::encode::{Exact, Form, Wire};
use super::table::{Column, Key, Table};
use super::types;
use crate::connect::Session;
use rowcast_core::{Shape, quote};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::{Error, Statement};

/// Which columns a statement sets; one bit for each column of the shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Mask(Vec<u64>);

impl Mask {
    pub(super) fn set(&mut self, column: usize) {
        let word = column / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (column % 64);
    }

    pub(super) fn has(&self, column: usize) -> bool {
        self.0.get(column / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// A column of the copy, ready to be written.
#[derive(Debug, Clone)]
pub(super) struct TargetColumn {
    /// Where its value stands in the source's row.
    pub(super) source: usize,
    pub(super) form: Form,
    pub(super) wire: Wire,
    /// Quoted.
    name: String,
    base: String,
    /// Part of some unique rule beside the key, and may be null.
    unique: bool,
    /// Set for a part of the key: the operator by which it is equal.
    equals: Option<String>,
}

/// What a statement does. Each is prepared once for a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// One whole row: inserts it or replaces it.
    Upsert,
    /// A set of whole rows.
    UpsertSet,
    /// The row with this key.
    Delete,
    /// The rows with these keys.
    DeleteSet,
    /// Some columns of one row; `strict` makes a missing row an error.
    Patch { mask: Mask, strict: bool },
    /// The same columns of a set of rows; the last parameter is how many there have to be.
    PatchSet { mask: Mask, strict: bool },
    /// Sets these columns of a set of rows to NULL.
    Free(Mask),
    /// Whole rows that are new.
    Copy,
}

/// A shape's table and the statements for it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) shape: Arc<Shape>,
    pub(super) oid: u32,
    /// The table's name, quoted.
    pub(super) table: String,
    pub(super) columns: Vec<TargetColumn>,
    /// Indexes into `columns`, in the shape's key order.
    pub(super) key: Vec<usize>,
    /// Where the key's values stand in the source's row.
    pub(super) key_sources: Vec<usize>,
    /// Removes all rows.
    pub(super) clear: String,
    /// `COPY` may write into it.
    pub(super) copies: bool,
    /// How many more times to leave `COPY` alone because a key turned out to exist.
    pub(super) copy_rests: u32,
    pub(super) copy_rest_next: u32,
    /// Rows of one `COPY`: fewer when some turned out not to fit.
    pub(super) copy_piece: usize,
    statements: HashMap<Job, Statement>,
}

impl Target {
    /// Fits a shape to its table, which was compared before.
    pub(super) fn new(shape: &Arc<Shape>, name: String, table: &Table, key: &Key) -> Self {
        let columns: Vec<_> = shape
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let there = table.column(&c.name).expect("the table was compared with the shape");
                let equals = key.columns.iter().find(|(n, _)| *n == c.name);
                TargetColumn {
                    source: c.source,
                    form: form(shape, i, &there.base),
                    wire: wire(shape, there),
                    name: quote(&c.name),
                    base: there.base.clone(),
                    unique: !there.not_null && equals.is_none() && table.is_unique(&c.name),
                    equals: equals.map(|(_, operator)| operator.clone()),
                }
            })
            .collect();
        let clear = if table.needs_delete { "DELETE FROM" } else { "TRUNCATE" };
        Self {
            oid: table.oid,
            clear: format!("{clear} {name}"),
            table: name,
            key: shape.key.clone(),
            key_sources: shape.key.iter().map(|&k| shape.columns[k].source).collect(),
            columns,
            copies: table.copies,
            copy_rests: 0,
            copy_rest_next: 20,
            copy_piece: usize::MAX,
            statements: HashMap::new(),
            shape: shape.clone(),
        }
    }

    /// How each column travels in a binary `COPY`; `None` when one of them cannot.
    pub(super) fn copies_binary(&self) -> Option<Vec<Binary>> {
        let binary = |column: &TargetColumn| match column.wire {
            Wire::Binary(binary) => Some(binary),
            Wire::Elements | Wire::Literal(_) => None,
        };
        self.columns.iter().map(binary).collect()
    }

    /// From now on a column's values travel as text: one of them could not as bytes.
    pub(super) fn as_text(&mut self, column: usize) {
        self.columns[column].wire = Wire::Elements;
        self.statements.clear();
    }

    /// The prepared statement; costs a round trip the first time.
    pub(super) async fn statement(
        &mut self,
        session: &Session,
        form: &Job,
    ) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(form) {
            return Ok(statement.clone());
        }
        let statement = session.prepare(&self.sql(form)).await?;
        self.statements.insert(form.clone(), statement.clone());
        Ok(statement)
    }

    pub(super) fn sql(&self, form: &Job) -> String {
        let table = &self.table;
        match form {
            Job::Upsert => {
                let values: Vec<_> = (1..=self.columns.len()).map(|n| format!("${n}")).collect();
                let values = values.join(", ");
                format!(
                    "INSERT INTO {table} ({}) VALUES ({values}) {}",
                    self.names(),
                    self.conflict()
                )
            }
            Job::UpsertSet => {
                let all: Vec<_> = (0..self.columns.len()).collect();
                let values: Vec<_> = all.iter().map(|&c| self.element(c)).collect();
                format!(
                    "INSERT INTO {table} ({}) SELECT {} FROM {} {}",
                    self.names(),
                    values.join(", "),
                    self.set(&all),
                    self.conflict()
                )
            }
            Job::Delete => {
                let key: Vec<_> = (1..).zip(&self.key).map(|(n, &k)| self.is(k, n)).collect();
                format!("DELETE FROM {table} AS t WHERE {}", key.join(" AND "))
            }
            Job::DeleteSet => {
                format!(
                    "DELETE FROM {table} AS t USING {} WHERE {}",
                    self.set(&self.key),
                    self.is_in_set()
                )
            }
            Job::Patch { mask, strict } => self.patch(mask, *strict),
            Job::PatchSet { mask, strict } => self.patch_set(mask, *strict),
            Job::Free(mask) => {
                let sets = self.masked(mask).map(|c| format!("{} = NULL", self.columns[c].name));
                let sets: Vec<_> = sets.collect();
                let (set, is) = (self.set(&self.key), self.is_in_set());
                format!("UPDATE {table} AS t SET {} FROM {set} WHERE {is}", sets.join(", "))
            }
            Job::Copy => {
                let format = if self.copies_binary().is_some() { " (FORMAT binary)" } else { "" };
                format!("COPY {table} ({}) FROM STDIN{format}", self.names())
            }
        }
    }

    fn patch(&self, mask: &Mask, strict: bool) -> String {
        let set: Vec<_> = self.masked(mask).collect();
        let sets = (1..).zip(&set).map(|(n, &c)| format!("{} = ${n}", self.columns[c].name));
        let sets: Vec<_> = sets.collect();
        let key = (1 + set.len()..).zip(&self.key).map(|(n, &k)| self.is(k, n));
        let key: Vec<_> = key.collect();
        let update = format!(
            "UPDATE {} AS t SET {} WHERE {}",
            self.table,
            sets.join(", "),
            key.join(" AND ")
        );
        // Dividing by zero is the only error that plain SQL can raise by itself. It has to be one,
        // because what follows was sent already, up to the commit.
        if strict {
            format!("WITH u AS ({update} RETURNING 1) SELECT 1 / count(*) FROM u")
        } else {
            update
        }
    }

    fn patch_set(&self, mask: &Mask, strict: bool) -> String {
        let mut columns = self.key.clone();
        columns.extend(self.masked(mask));
        let sets =
            self.masked(mask).map(|c| format!("{} = {}", self.columns[c].name, self.element(c)));
        let sets: Vec<_> = sets.collect();
        let update = format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {}",
            self.table,
            sets.join(", "),
            self.set(&columns),
            self.is_in_set()
        );
        if !strict {
            return update;
        }
        let expected = columns.len() + 1;
        format!(
            "WITH u AS ({update} RETURNING 1) \
             SELECT 1 / (count(*) = ${expected}::text::bigint)::int FROM u"
        )
    }

    /// All columns.
    pub(super) fn all(&self) -> Mask {
        let mut mask = Mask::default();
        (0..self.columns.len()).for_each(|c| mask.set(c));
        mask
    }

    /// Those of the columns that hold unique values; `None` when there are none.
    pub(super) fn unique(&self, among: &Mask) -> Option<Mask> {
        let mut mask = Mask::default();
        self.masked(among).filter(|&c| self.columns[c].unique).for_each(|c| mask.set(c));
        (!mask.is_empty()).then_some(mask)
    }

    /// Which columns a patch's set carries, in the order of its parameters.
    pub(super) fn patch_columns(&self, mask: &Mask) -> Vec<usize> {
        self.key.iter().copied().chain(self.masked(mask)).collect()
    }

    fn masked<'a>(&'a self, mask: &'a Mask) -> impl Iterator<Item = usize> + 'a {
        (0..self.columns.len()).filter(|c| mask.has(*c))
    }

    fn names(&self) -> String {
        self.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn conflict(&self) -> String {
        let names = |columns: &[usize]| -> Vec<_> {
            columns.iter().map(|&c| self.columns[c].name.clone()).collect()
        };
        let others: Vec<_> = (0..self.columns.len()).filter(|c| !self.key.contains(c)).collect();
        let sets: Vec<_> = names(&others).iter().map(|n| format!("{n} = EXCLUDED.{n}")).collect();
        let key = names(&self.key).join(", ");
        if sets.is_empty() {
            format!("ON CONFLICT ({key}) DO NOTHING")
        } else {
            format!("ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(", "))
        }
    }

    /// `unnest` of one array for each column. Without a type's modifiers, because a cast to
    /// `varchar(3)` would cut where the column itself says no.
    fn set(&self, columns: &[usize]) -> String {
        let arrays = (1..).zip(columns).map(|(n, &c)| match self.columns[c].wire {
            Wire::Binary(_) => format!("${n}::{}[]", self.columns[c].base),
            Wire::Elements => format!("${n}::text[]"),
            Wire::Literal(_) => format!("${n}::text::{}[]", self.columns[c].base),
        });
        let arrays: Vec<_> = arrays.collect();
        let names: Vec<_> = columns.iter().map(|c| format!("c{c}")).collect();
        format!("unnest({}) AS u ({})", arrays.join(", "), names.join(", "))
    }

    fn element(&self, column: usize) -> String {
        match self.columns[column].wire {
            Wire::Elements => format!("u.c{column}::{}", self.columns[column].base),
            Wire::Binary(_) | Wire::Literal(_) => format!("u.c{column}"),
        }
    }

    fn is(&self, key: usize, parameter: usize) -> String {
        let TargetColumn { name, base, equals, .. } = &self.columns[key];
        let equals = equals.as_deref().unwrap_or("=");
        format!("t.{name} {equals} ${parameter}::{base}")
    }

    fn is_in_set(&self) -> String {
        let is = self.key.iter().map(|&k| {
            let TargetColumn { name, equals, .. } = &self.columns[k];
            format!("t.{name} {} {}", equals.as_deref().unwrap_or("="), self.element(k))
        });
        is.collect::<Vec<_>>().join(" AND ")
    }
}

fn wire(shape: &Shape, column: &Column) -> Wire {
    let binary = types::is_native(shape).then(|| Binary::of(column.oid)).flatten();
    match binary {
        Some(binary) => Wire::Binary(binary),
        None if column.cast_differs => Wire::Literal(column.delimiter),
        None => Wire::Elements,
    }
}

/// How the values of the shape's column at `index` become text of a column of type `base`.
pub(super) fn form(shape: &Shape, index: usize, base: &str) -> Form {
    if types::is_native(shape) {
        return Form::Native;
    }
    let kind = shape.columns[index].column.kind;
    let exact = shape.key.contains(&index).then(|| Exact::of(kind, base)).flatten();
    match (exact, base) {
        (Some(exact), _) => Form::Key(exact),
        (None, "bytea") => Form::Bytes,
        (None, _) => Form::Foreign,
    }
}
