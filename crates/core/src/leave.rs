//! Leaving out rows that do not fit, for sinks that write changes one after another.

use crate::{Change, ChangeOp, Malformed, Rows, SinkError, key_of};
use std::collections::HashSet;

/// What an apply left out so far.
#[derive(Debug, Default)]
pub struct LeftOut {
    changes: Vec<u32>,
    errors: Vec<SinkError>,
    keys: HashSet<(String, Vec<u8>)>,
    key: Vec<u8>,
}

impl LeftOut {
    /// Whether a change is about a key that is left out, and so is left out as well. `None` when it
    /// ends, moves or empties what was left out: then the step has to go another way.
    ///
    /// # Errors
    /// When a packed row is malformed.
    pub fn skips(&mut self, rows: &Rows, index: u32) -> Result<Option<bool>, Malformed> {
        if self.keys.is_empty() {
            return Ok(Some(false));
        }
        let change = &rows.changes[index as usize];
        if matches!(change.op, ChangeOp::Truncate | ChangeOp::Rekey) {
            return Ok(None);
        }
        let id = self.id(rows, change)?;
        if !self.keys.contains(&id) {
            return Ok(Some(false));
        }
        if matches!(change.op, ChangeOp::Delete | ChangeOp::Leave) {
            return Ok(None);
        }
        self.changes.push(index);
        Ok(Some(true))
    }

    /// Leaves out a change, and what comes later for its key. The error comes back when the change
    /// is none that can be left out.
    ///
    /// # Errors
    /// The error, where the step has to go another way.
    pub fn note(&mut self, rows: &Rows, index: u32, error: SinkError) -> Result<(), SinkError> {
        let change = &rows.changes[index as usize];
        let leaves = matches!(
            change.op,
            ChangeOp::Create | ChangeOp::Read | ChangeOp::Update | ChangeOp::Patch
        );
        let (true, SinkError::Data { .. }) = (leaves, &error) else { return Err(error) };
        let Ok(id) = self.id(rows, change) else { return Err(error) };
        self.keys.insert(id);
        self.changes.push(index);
        self.errors.push(error);
        Ok(())
    }

    fn id(&mut self, rows: &Rows, change: &Change) -> Result<(String, Vec<u8>), Malformed> {
        let shape = rows.shape(change);
        let sources: Vec<_> = shape.key.iter().map(|&k| shape.columns[k].source).collect();
        let (row, or) = match change.op {
            ChangeOp::Delete => (rows.before(change), rows.after(change)),
            _ => (rows.after(change), rows.before(change)),
        };
        key_of(row, or, &sources, &mut self.key)?;
        Ok((shape.into.clone(), self.key.clone()))
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The first error alone, for a step that has to go another way after all.
    pub fn first(self) -> Option<SinkError> {
        self.errors.into_iter().next()
    }

    /// What the sink answers.
    pub fn into_error(self) -> SinkError {
        SinkError::LeftOut { changes: self.changes, errors: self.errors }
    }
}
