//! Routing and projecting, as pure functions: stored batches in, the changes one subscriber wants
//! out. Rows are not copied; a change points into its batch and a shape says which values to take.

mod error;

use crate::{
    Batch, Begin, Bound, Column, EntityName, Event, Filter, Generated, Offset, Op, ParkEdit, Row,
    Schema, SchemaId, ServiceName, Stored,
};
pub use error::ProjectError;
use std::collections::HashMap;
use std::sync::Arc;

mod filtered;
mod settle;

/// Which fields a subscription takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fields {
    /// All, also those that come later.
    All,
    /// These, as (name in the copy, published name).
    Named(Vec<(String, String)>),
}

/// A service's durable interest in one entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// The entity, of the route's publisher.
    pub entity: EntityName,
    /// The table in the subscriber's database, as written: `customer_copy`, `"Odd"."Name"`.
    pub into: String,
    /// Which fields.
    pub fields: Fields,
    /// The table may be made when it is missing.
    pub create: bool,
    /// Which rows; all of them when there is none.
    pub filter: Option<Filter>,
    /// Where the copy begins.
    pub from: Begin,
}

/// A column of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeColumn {
    /// Its name in the copy.
    pub name: String,
    /// Where its value stands in the source's row.
    pub source: usize,
    /// What it is at the source.
    pub column: Column,
}

/// What one subscription makes of one schema: the copy's columns and where their values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Index of the subscription in its route.
    pub subscription: usize,
    /// The entity.
    pub entity: EntityName,
    /// The subscriber's table, as written.
    pub into: String,
    /// It may be made, and may be given columns that came later.
    pub create: bool,
    /// All fields are wanted, also later ones; or the copy is still growing towards those it names.
    pub all_fields: bool,
    /// The schema it was made from.
    pub schema: SchemaId,
    /// Which product's types the columns speak of.
    pub dialect: Arc<str>,
    /// The copy's columns.
    pub columns: Vec<ShapeColumn>,
    /// Indexes into `columns` of the key, in key order; never empty.
    pub key: Vec<usize>,
    /// Columns the copy computes itself, under their published names; only those whose inputs
    /// might be there, which the target has to see for itself.
    pub generated: Vec<Generated>,
    /// Which rows; all of them when there is none.
    pub filter: Option<Bound>,
}

/// What to do to a copy's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeOp {
    /// Write the whole row; its key is new, as far as the source knows.
    Create,
    /// Write the whole row; a snapshot saw it.
    Read,
    /// Write the whole row; its key was there.
    Update,
    /// Write the values that are not unchanged; the key was there.
    Patch,
    /// The key changed and some values are unchanged: the row at the `before` key becomes `after`.
    Rekey,
    /// Remove the row with the `before` key.
    Delete,
    /// Remove the row with the `after` key, if it is there: it does not pass the filter.
    Leave,
    /// Remove all rows.
    Truncate,
}

/// One change to one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What to do.
    pub op: ChangeOp,
    /// Index into [`Rows::shapes`].
    pub shape: u32,
    /// Index into [`Rows::batches`].
    pub batch: u32,
    /// Index into the batch's events.
    pub event: u32,
}

/// A shape in use.
#[derive(Debug, Clone)]
pub struct ShapeUse {
    /// The shape.
    pub shape: Arc<Shape>,
    /// The entity's snapshot is still arriving: a [`Patch`](ChangeOp::Patch) of a row that is not
    /// there yet is nothing to worry about, its `Read` follows.
    pub settling: bool,
}

/// The changes of a chunk, for one sink.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The shapes in use; also those without a change here, so that their tables can be made.
    pub shapes: Vec<ShapeUse>,
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// What they point into.
    pub batches: Vec<Arc<Batch>>,
    /// What to note about keys that are set aside, in the same transaction.
    pub parks: Vec<ParkEdit>,
    /// Look at rules that may wait for the commit with each change, so that an error names its change.
    pub at_once: bool,
    /// Rows that do not fit may be left out: see [`SinkError::LeftOut`](crate::SinkError::LeftOut).
    pub leave_out: bool,
    /// Each change is a whole row or a delete of a key of its own, and they may refer to each other
    /// whatever their order: a target that enforces references writes them as one.
    pub together: bool,
}

impl Rows {
    /// The event behind a change.
    pub fn event(&self, change: &Change) -> &Event {
        &self.batches[change.batch as usize].events[change.event as usize]
    }

    /// The source's row before a change: its key, everything else unchanged.
    pub fn before(&self, change: &Change) -> Row<'_> {
        self.batches[change.batch as usize].before(self.event(change))
    }

    /// The source's row after a change.
    pub fn after(&self, change: &Change) -> Row<'_> {
        self.batches[change.batch as usize].after(self.event(change))
    }

    /// The source's row whose key finds the copy's row that a change is about, before the change.
    pub fn found_by(&self, change: &Change) -> Row<'_> {
        match change.op {
            ChangeOp::Delete | ChangeOp::Rekey => self.before(change),
            ChangeOp::Create
            | ChangeOp::Read
            | ChangeOp::Update
            | ChangeOp::Patch
            | ChangeOp::Leave
            | ChangeOp::Truncate => self.after(change),
        }
    }

    /// The shape of a change.
    pub fn shape(&self, change: &Change) -> &Arc<Shape> {
        &self.shapes[change.shape as usize].shape
    }
}

/// Makes shapes for a route and turns stored batches into its changes.
#[derive(Debug, Clone)]
pub struct Projection {
    from: ServiceName,
    to: ServiceName,
    subscriptions: Vec<Subscription>,
    by_entity: HashMap<EntityName, Vec<usize>>,
    shapes: HashMap<SchemaId, Vec<Arc<Shape>>>,
    growing: bool,
}

impl Projection {
    /// A projection for a route's subscriptions.
    pub fn new(from: ServiceName, to: ServiceName, subscriptions: Vec<Subscription>) -> Self {
        let mut by_entity: HashMap<_, Vec<usize>> = HashMap::new();
        for (i, s) in subscriptions.iter().enumerate() {
            by_entity.entry(s.entity.clone()).or_default().push(i);
        }
        Self { from, to, subscriptions, by_entity, shapes: HashMap::new(), growing: false }
    }

    /// For copies that are being built from history: a named field that a schema does not have yet
    /// is left out, and its column is added when a later schema has it.
    pub fn growing(mut self) -> Self {
        self.growing = true;
        self
    }

    /// The shapes that the route's subscriptions make of a schema; none when nobody subscribed.
    pub fn shapes(&mut self, schema: &Schema) -> Result<Vec<Arc<Shape>>, ProjectError> {
        let id = schema.id();
        if let Some(shapes) = self.shapes.get(&id) {
            return Ok(shapes.clone());
        }
        let wanted = self.by_entity.get(&schema.entity).map_or(&[][..], Vec::as_slice);
        let shapes: Vec<_> = wanted
            .iter()
            .map(|&i| self.shape(i, schema, id).map(Arc::new))
            .collect::<Result<_, _>>()?;
        self.shapes.insert(id, shapes.clone());
        Ok(shapes)
    }

    /// What the subscription with this table makes of a schema, without its filter, which may hang on
    /// fields that the schema leaves out; `None` when there is no such subscription any more.
    pub fn shape_for(
        &self,
        into: &str,
        schema: &Schema,
    ) -> Result<Option<Arc<Shape>>, ProjectError> {
        let wanted = self.by_entity.get(&schema.entity).map_or(&[][..], Vec::as_slice);
        let index = wanted.iter().find(|&&i| self.subscriptions[i].into == into);
        let shape = index.map(|&i| self.unfiltered(i, schema, schema.id()));
        shape.map(|shape| shape.map(Arc::new)).transpose()
    }

    fn shape(&self, index: usize, schema: &Schema, id: SchemaId) -> Result<Shape, ProjectError> {
        let filter = self.subscriptions[index].filter.as_ref();
        let filter = filter.map(|f| self.bound(f, schema)).transpose()?;
        Ok(Shape { filter, ..self.unfiltered(index, schema, id)? })
    }

    fn unfiltered(
        &self,
        index: usize,
        schema: &Schema,
        id: SchemaId,
    ) -> Result<Shape, ProjectError> {
        let subscription = &self.subscriptions[index];
        let columns = self.columns(subscription, schema)?;
        let mut key = Vec::new();
        for source in schema.key() {
            let at = columns.iter().position(|c| c.source == source);
            key.push(at.ok_or_else(|| ProjectError::NoKey {
                from: self.from.clone(),
                to: self.to.clone(),
                entity: schema.entity.clone(),
                field: schema.columns[source].name.clone(),
            })?);
        }
        let all_fields = subscription.fields == Fields::All;
        Ok(Shape {
            subscription: index,
            entity: schema.entity.clone(),
            into: subscription.into.clone(),
            create: subscription.create,
            all_fields: all_fields || self.growing,
            schema: id,
            dialect: schema.dialect.clone(),
            columns,
            key,
            generated: if all_fields { schema.generated.clone() } else { Vec::new() },
            filter: None,
        })
    }

    fn bound(&self, filter: &Filter, schema: &Schema) -> Result<Bound, ProjectError> {
        filter.bind(schema).map_err(|error| ProjectError::Filter {
            from: self.from.clone(),
            to: self.to.clone(),
            entity: schema.entity.clone(),
            help: format!("{}\n{}", error.shown(filter.as_str()), error.help).trim_end().into(),
            error,
        })
    }

    fn columns(
        &self,
        subscription: &Subscription,
        schema: &Schema,
    ) -> Result<Vec<ShapeColumn>, ProjectError> {
        let column = |name: &str, source: usize| ShapeColumn {
            name: name.to_string(),
            source,
            column: schema.columns[source].clone(),
        };
        let named = match &subscription.fields {
            Fields::All => {
                let all = schema.columns.iter().enumerate();
                return Ok(all.map(|(i, c)| column(&c.name, i)).collect());
            }
            Fields::Named(named) => named,
        };
        let mut columns: Vec<ShapeColumn> = Vec::with_capacity(named.len());
        for (local, published) in named {
            let source = match schema.column(published) {
                Some(source) => source,
                None if self.growing => continue,
                None => {
                    if let Some(computed) = schema.computed(published) {
                        return Err(self.computed(schema, computed));
                    }
                    return Err(ProjectError::NoField {
                        from: self.from.clone(),
                        to: self.to.clone(),
                        entity: schema.entity.clone(),
                        field: published.clone(),
                    });
                }
            };
            if columns.iter().any(|c| c.name == *local) {
                return Err(ProjectError::Twice {
                    from: self.from.clone(),
                    to: self.to.clone(),
                    entity: schema.entity.clone(),
                    field: local.clone(),
                });
            }
            columns.push(column(local, source));
        }
        Ok(columns)
    }

    fn computed(&self, schema: &Schema, computed: &Generated) -> ProjectError {
        let field = computed.name.clone();
        ProjectError::Computed {
            from: self.from.clone(),
            to: self.to.clone(),
            entity: schema.entity.clone(),
            help: format!(
                "take {field:?} out of the subscription's `fields`, and let the copy compute it from \
                 the fields that arrive, as its publisher does: {}; a subscription without \
                 `fields` takes all of them, and its copy gets such a column where the \
                 subscriber's database can compute it",
                computed.expression
            ),
            field,
        }
    }

    /// The changes of `batches` from offset `at` on and before offset `end`. `settling` says of an
    /// entity whether its snapshot is still arriving at an offset.
    pub fn rows(
        &mut self,
        batches: &[Stored],
        at: Offset,
        end: Offset,
        settling: impl Fn(&EntityName, Offset) -> bool,
    ) -> Result<Rows, ProjectError> {
        let mut rows = Rows::default();
        let mut uses: HashMap<SchemaId, Vec<u32>> = HashMap::new();
        for stored in batches {
            let number = rows.batches.len() as u32;
            rows.batches.push(stored.batch.clone());
            // One look-up per schema and batch, not per event.
            let mut local: Vec<Option<Vec<u32>>> = vec![None; stored.batch.schemas.len()];
            let (first, after) = (stored.index_at(at), stored.index_at(end));
            for (i, event) in stored.batch.events.iter().enumerate().take(after).skip(first) {
                let offset = stored.offset(i);
                let slot = &mut local[event.schema as usize];
                if slot.is_none() {
                    let schema = stored.batch.schema(event);
                    *slot = Some(self.uses(&mut rows, &mut uses, schema, offset, &settling)?);
                }
                for &shape in slot.as_deref().unwrap_or_default() {
                    let place = Place { shape, batch: number, event: i as u32 };
                    if rows.shapes[shape as usize].shape.filter.is_none() {
                        push(&mut rows, stored, event, place);
                    } else if !filtered::push(&mut rows, stored, event, place) {
                        return Err(self.unknowable(&stored.batch.schema(event).entity));
                    }
                }
            }
        }
        settle::settle(&mut rows);
        Ok(rows)
    }

    fn unknowable(&self, entity: &EntityName) -> ProjectError {
        let (from, to) = (self.from.clone(), self.to.clone());
        ProjectError::Unknowable { from, entity: entity.clone(), to }
    }

    fn uses(
        &mut self,
        rows: &mut Rows,
        uses: &mut HashMap<SchemaId, Vec<u32>>,
        schema: &Schema,
        offset: Offset,
        settling: &impl Fn(&EntityName, Offset) -> bool,
    ) -> Result<Vec<u32>, ProjectError> {
        let id = schema.id();
        if let Some(known) = uses.get(&id) {
            return Ok(known.clone());
        }
        let mut indexes = Vec::new();
        for shape in self.shapes(schema)? {
            indexes.push(rows.shapes.len() as u32);
            let settling = settling(&shape.entity, offset);
            rows.shapes.push(ShapeUse { shape, settling });
        }
        uses.insert(id, indexes.clone());
        Ok(indexes)
    }
}

#[derive(Clone, Copy)]
struct Place {
    shape: u32,
    batch: u32,
    event: u32,
}

fn push(rows: &mut Rows, stored: &Stored, event: &Event, place: Place) {
    let Place { shape, batch, event: index } = place;
    let mut change = |op| rows.changes.push(Change { op, shape, batch, event: index });
    match event.op {
        Op::Create => change(ChangeOp::Create),
        Op::Read => change(ChangeOp::Read),
        Op::Delete => change(ChangeOp::Delete),
        Op::Truncate => change(ChangeOp::Truncate),
        Op::Update => {
            let partial = stored.batch.after(event).has_unchanged();
            match (event.before.len > 0, partial) {
                (false, false) => change(ChangeOp::Update),
                (false, true) => change(ChangeOp::Patch),
                (true, true) => change(ChangeOp::Rekey),
                // A key change is a delete of the old key and a create of the new one.
                (true, false) => {
                    change(ChangeOp::Delete);
                    change(ChangeOp::Create);
                }
            }
        }
        Op::Schema | Op::Complete | Op::End => {}
    }
}

#[cfg(test)]
mod tests;
