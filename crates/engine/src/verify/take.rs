//! Which of the source's rows a subscription takes, and what they look like in its copy.

use super::overlay::{Key, Overlay};
use super::sums::{Mark, Marker};
use super::{Copy, Stop, VerifyError};
use rowcast_core::{
    BatchBuilder, ChangeOp, Epoch, Foresight, Offset, Op, Pending, Point, Position, Projection,
    RouteId, Row, RowSet, Schema, Shape, Stored,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Keys looked at in one step.
const KEYS: usize = 2_000;

/// Takes rows of one entity for one subscription.
pub(super) struct Taker {
    pub(super) projection: Projection,
    pub(super) schema: Arc<Schema>,
    pub(super) shape: Arc<Shape>,
    foresight: Box<dyn Foresight>,
    marker: Marker,
    source_key: Vec<usize>,
}

/// Rows that were taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// As the source has them.
    pub(super) source: RowSet,
    /// As the copy is to have them; an empty one does not fit.
    pub(super) expected: RowSet,
}

impl Taker {
    pub(super) fn new(route: &RouteId, copy: &Copy, foresight: Box<dyn Foresight>) -> Self {
        let subscriptions = vec![copy.subscription.clone()];
        Self {
            projection: Projection::new(route.from.clone(), route.to.clone(), subscriptions),
            schema: copy.schema.clone(),
            source_key: copy.schema.key(),
            shape: copy.shape.clone(),
            foresight,
            marker: Marker::default(),
        }
    }

    /// The rows that the subscription takes, and what they become.
    pub(super) async fn take(&mut self, rows: RowSet) -> Result<Taken, Stop> {
        let source = self.wanted(rows)?;
        let expected = self.foresight.rows(&source).await?;
        Ok(Taken { source, expected })
    }

    /// Goes through the projection itself, so that whatever decides about events decides here.
    fn wanted(&mut self, set: RowSet) -> Result<RowSet, VerifyError> {
        let mut batch = BatchBuilder::new();
        let schema = batch.schema(self.shape.schema, &self.schema);
        batch.begin(Point::Sequence(0), 0);
        for row in set.rows() {
            batch.push(Op::Read, schema, |_| {}, |into| into.extend_from_slice(row.0));
        }
        let nowhere = Position::new(Epoch::default(), Point::Sequence(0));
        let stored = Stored { base: Offset(0), batch: Arc::new(batch.finish(nowhere, true)) };
        let end = stored.end();
        let rows = self.projection.rows(&[stored], Offset(0), end, |_, _| true)?;
        let writes = |op| matches!(op, ChangeOp::Create | ChangeOp::Read | ChangeOp::Update);
        let kept = rows.changes.iter().filter(|c| writes(c.op));
        if kept.clone().count() == set.len() {
            return Ok(set);
        }
        let mut wanted = RowSet::new();
        kept.for_each(|c| wanted.push(|into| into.extend_from_slice(rows.after(c).0)));
        Ok(wanted)
    }

    /// The packed key of a source's row.
    pub(super) fn source_key(&mut self, row: Row<'_>) -> &[u8] {
        self.marker.key(row, &self.source_key)
    }

    /// The mark of a row that the copy is to have.
    pub(super) fn mark(&mut self, source: Row<'_>, expected: Row<'_>) -> Mark {
        if expected.0.is_empty() {
            // It fits nowhere, so it equals nothing.
            return self.marker.mark(source, &self.source_key);
        }
        self.marker.mark(expected, &self.shape.key)
    }

    /// The mark of a row that the copy has.
    pub(super) fn found(&mut self, row: Row<'_>) -> Mark {
        self.marker.mark(row, &self.shape.key)
    }

    /// The hashes that parked keys have, in the copy and in the source.
    pub(super) async fn parked(&mut self, parked: &[Pending]) -> Result<HashSet<u128>, Stop> {
        let mut hashes = HashSet::new();
        for some in parked.chunks(KEYS) {
            let mut set = RowSet::new();
            for pending in some {
                let rows = pending.key_rows(&self.schema).map_err(super::overlay::Lost::from)?;
                rows.iter().for_each(|row| set.push(|into| into.extend_from_slice(row)));
            }
            let shown = self.foresight.rows(&set).await?;
            for (row, shown) in set.rows().zip(shown.rows()) {
                hashes.insert(self.mark(row, shown).key);
                // As what fits the copy nowhere is marked.
                hashes.insert(self.mark(row, Row(&[])).key);
            }
        }
        Ok(hashes)
    }

    /// The changed keys of an overlay by the hashes that they have in the copy.
    pub(super) async fn changed(&mut self, overlay: &Overlay) -> Result<HashMap<u128, Key>, Stop> {
        let keys: Vec<&Key> = overlay.keys().collect();
        let mut changed = HashMap::with_capacity(keys.len());
        for some in keys.chunks(KEYS) {
            let mut set = RowSet::new();
            for key in some {
                let row = overlay.key_row(key).map_err(super::overlay::Lost::from)?;
                set.push(|into| into.extend_from_slice(&row));
            }
            let shown = self.foresight.rows(&set).await?;
            for ((key, row), shown) in some.iter().zip(set.rows()).zip(shown.rows()) {
                changed.insert(self.mark(row, shown).key, (*key).clone());
            }
        }
        Ok(changed)
    }
}
