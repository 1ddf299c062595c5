//! All targets of a route, and the order in which to write them.

use super::ensure;
use super::errors::Who;
use super::table::TableName;
use super::target::Target;
use crate::connect::Session;
use rowcast_core::{SchemaId, Shape, SinkError};
use std::collections::HashMap;
use std::sync::Arc;
use tracing::info;

/// The targets that this session has looked at.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) list: Vec<Target>,
    /// By schema, subscription, and how many columns of the schema are written.
    by_shape: HashMap<(SchemaId, usize, usize), usize>,
    /// Indexes into `list`, parents before children.
    pub(super) parents_first: Vec<usize>,
    /// Some constraint of some table may wait for the commit.
    pub(super) deferrable: bool,
    /// Rows of one table refer to others of it, or tables to each other in a circle.
    pub(super) circular: bool,
    /// The build tables that take the rows of these tables, named as subscriptions do.
    pub(super) beside: HashMap<String, TableName>,
}

const FOREIGN_KEYS: &str = "
    SELECT conrelid, confrelid, condeferrable, contype = 'f' FROM pg_constraint
    WHERE conrelid = ANY ($1) AND (contype = 'f' OR condeferrable)";

impl Targets {
    /// Nothing looked at yet.
    pub(super) fn anew(&self) -> Self {
        Self { beside: self.beside.clone(), ..Self::default() }
    }

    /// The target of a shape that was ensured.
    pub(super) fn known(&self, shape: &Shape) -> Option<usize> {
        self.by_shape.get(&shape_id(shape)).copied()
    }

    /// The target of a shape: its table made, brought up, and compared.
    pub(super) async fn ensure(
        &mut self,
        session: &Session,
        shape: &Arc<Shape>,
        who: &Who,
    ) -> Result<usize, SinkError> {
        if let Some(known) = self.known(shape) {
            return Ok(known);
        }
        let beside = self.beside.get(&shape.into);
        let target = ensure::target(session, shape, beside, who).await?;
        self.tell_gone(shape);
        self.list.push(target);
        let index = self.list.len() - 1;
        self.by_shape.insert(shape_id(shape), index);
        self.sort(session).await.map_err(|e| who.statement("looking at foreign keys", e))?;
        Ok(index)
    }

    /// A column that its source dropped stays in the copy, and somebody should know.
    fn tell_gone(&self, shape: &Shape) {
        let last = self.list.iter().rev().find(|t| t.shape.subscription == shape.subscription);
        let Some(last) = last else { return };
        for column in &last.shape.columns {
            if !shape.columns.iter().any(|c| c.name == column.name) {
                info!(
                    table = last.table,
                    column = column.name,
                    "the source dropped a column; the copy keeps it with the values it has"
                );
            }
        }
    }

    async fn sort(&mut self, session: &Session) -> Result<(), tokio_postgres::Error> {
        let oids: Vec<u32> = self.list.iter().map(|t| t.oid).collect();
        (self.parents_first, self.deferrable, self.circular) = order(session, &oids).await?;
        Ok(())
    }
}

fn shape_id(shape: &Shape) -> (SchemaId, usize, usize) {
    (shape.schema, shape.subscription, shape.columns.len())
}

/// Indexes of tables, parents before children; whether some constraint of theirs may wait for the
/// commit; and whether references go round in a circle.
pub(super) async fn order(
    session: &Session,
    oids: &[u32],
) -> Result<(Vec<usize>, bool, bool), tokio_postgres::Error> {
    let mut references = Vec::new();
    let mut deferrable = false;
    for row in session.query(FOREIGN_KEYS, &[&oids]).await? {
        deferrable |= row.get::<_, bool>(2);
        if row.get(3) {
            references.push((row.get::<_, u32>(0), row.get::<_, u32>(1)));
        }
    }
    let order = parents_first(oids, &references);
    let place = |oid: u32| order.iter().position(|&i| oids[i] == oid);
    let circular = references.iter().any(|(child, parent)| {
        place(*parent).is_some_and(|parent| place(*child).is_some_and(|child| child <= parent))
    });
    Ok((order, deferrable, circular))
}

/// Indexes of tables, each after those it refers to; where references go round in a circle, in the
/// order given.
fn parents_first(oids: &[u32], references: &[(u32, u32)]) -> Vec<usize> {
    let mut order = Vec::with_capacity(oids.len());
    let mut left: Vec<usize> = (0..oids.len()).collect();
    while !left.is_empty() {
        let waits = |&i: &usize| {
            references.iter().any(|(child, parent)| {
                *child == oids[i] && parent != child && left.iter().any(|&l| oids[l] == *parent)
            })
        };
        let mut ready: Vec<_> = left.iter().copied().filter(|i| !waits(i)).collect();
        if ready.is_empty() {
            ready.push(left[0]);
        }
        left.retain(|i| !ready.contains(i));
        order.extend(ready);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_circles_do_not_hang() {
        assert_eq!(parents_first(&[1, 2, 3], &[(1, 2), (2, 3), (1, 1)]), [2, 1, 0]);
        assert_eq!(parents_first(&[1, 2], &[(1, 2), (2, 1)]).len(), 2);
        assert_eq!(parents_first(&[1, 2, 3], &[(1, 2), (2, 1), (3, 1)])[0], 0);
    }
}
