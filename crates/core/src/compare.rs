//! The seam for comparing a copy with its source: the rows of one database as they were at one
//! moment, beside whoever goes on writing there.

use crate::{
    Checkpoint, EntityName, LogId, Malformed, Masker, Pending, Point, Position, Row, RowWriter,
    Schema, Shape, SinkError, SourceError,
};
use async_trait::async_trait;
use std::sync::Arc;

/// Packed rows, one after another.
#[derive(Debug, Clone, Default)]
pub struct RowSet {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl RowSet {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a row, which `write` packs. A set must be handed on before it holds 1 GiB.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The row at a place.
    ///
    /// # Panics
    /// When there is none.
    pub fn row(&self, at: usize) -> Row<'_> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Row(&self.bytes[start..self.ends[at] as usize])
    }

    /// The same rows with their values masked, by the masks of the fields in order: what is
    /// compared with a copy, or written into one, is what left the publisher.
    pub fn masked(self, masks: &[Option<Masker>]) -> Result<Self, Malformed> {
        if masks.iter().all(Option::is_none) {
            return Ok(self);
        }
        let (mut out, mut scratch) = (Self::new(), Vec::new());
        for row in self.rows() {
            let mut whole = Ok(());
            out.push(|into| {
                let mut writer = RowWriter::new(into);
                for (i, value) in row.values().enumerate() {
                    match (value, masks.get(i)) {
                        (Ok(value), Some(Some(masker))) => {
                            masker.push(value, &mut scratch, &mut writer);
                        }
                        (Ok(value), _) => writer.push(value),
                        (Err(malformed), _) => whole = Err(malformed),
                    }
                }
            });
            whole?;
        }
        Ok(out)
    }

    /// All rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.len()).map(|at| self.row(at))
    }
}

/// A publisher's rows as they were at one point of its history: everything that committed before
/// [`point`](Self::point) is in them, and nothing that committed later. Dropping it lets go.
#[async_trait]
pub trait SourceView: Send {
    /// Where in the source's history the rows were seen.
    fn point(&self) -> Point;

    /// Whether everything up to a position that was logged is part of that history.
    fn has_history_of(&self, logged: &Position) -> bool;

    /// What an entity's rows look like; `None` for one that the view was not made for.
    fn schema(&self, entity: &EntityName) -> Option<&Arc<Schema>>;

    /// Begins to read an entity's rows, from the first on, in any order. What was left of an
    /// earlier reading is skipped.
    async fn begin(&mut self, entity: &EntityName) -> Result<(), SourceError>;

    /// Some rows, whole, in the form that events carry them; `None` at the end.
    async fn next(&mut self) -> Result<Option<RowSet>, SourceError>;

    /// Whether changes of published tables committed after `logged` and before this view, for as
    /// long as nobody captures; while somebody does, the answer may be yes without reason.
    async fn has_unlogged(&mut self, logged: &Position) -> Result<bool, SourceError>;
}

/// A subscriber's copies as they were at one checkpoint.
#[async_trait]
pub trait CopyView: Send {
    /// Looks again: from now on everything read here is as it was at this moment, checkpoint and
    /// rows alike. `None` when the route has never written here.
    async fn look(&mut self) -> Result<Option<(LogId, Checkpoint)>, SinkError>;

    /// Which of a shape's columns the copy has.
    ///
    /// # Errors
    /// [`SinkError::Schema`] when there is no such table.
    async fn columns(&mut self, shape: &Shape) -> Result<Vec<bool>, SinkError>;

    /// What the copy makes of the columns that a shape says it computes, in their order.
    ///
    /// # Errors
    /// As [`columns`](CopyView::columns).
    async fn computed(&mut self, shape: &Shape) -> Result<Vec<Computed>, SinkError>;

    /// Begins to read a copy's rows, from the first on, in any order. What was left of an earlier
    /// reading is skipped.
    async fn begin(&mut self, shape: &Arc<Shape>) -> Result<(), SinkError>;

    /// Some rows: the shape's columns, as this database shows them; `None` at the end.
    async fn next(&mut self) -> Result<Option<RowSet>, SinkError>;

    /// What is left to do for the keys that the route has parked of the copy `into`, at the same
    /// moment.
    async fn parked(&mut self, into: &str) -> Result<Vec<Pending>, SinkError>;

    /// What foretells the copy's rows from the source's.
    async fn foresight(&mut self, shape: &Arc<Shape>) -> Result<Box<dyn Foresight>, SinkError>;
}

/// What a copy makes of a column that its source computes and does not send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Computed {
    /// It computes the column by the same expression.
    Alike,
    /// It computes the column in its own way, which is this.
    Otherwise(String),
    /// It has a plain column, to which nobody gives values.
    Plain,
    /// It has no such column, or one of its own whose expression cannot be compared.
    Missing,
}

/// Tells how a source's rows look in a copy of one shape.
#[async_trait]
pub trait Foresight: Send {
    /// The rows that [`CopyView::next`] would give once these rows were applied, in order. A row
    /// that the copy cannot hold is empty. Unchanged values count as NULL.
    async fn rows(&mut self, source: &RowSet) -> Result<RowSet, SinkError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RowWriter, Value};

    #[test]
    fn rows_come_back_one_by_one() {
        let mut set = RowSet::new();
        set.push(|into| RowWriter::new(into).push(Value::Text(b"a")));
        set.push(|_| {});
        set.push(|into| RowWriter::new(into).push(Value::Null));
        let widths: Vec<_> = set.rows().map(|r| r.values().count()).collect();
        assert_eq!((set.len(), widths), (3, vec![1, 0, 1]));
    }
}
