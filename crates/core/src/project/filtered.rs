//! Changes of a subscription with a filter: rows come and go as they begin and cease to pass.
//!
//! A copy may lack any row that it is told of, and may hold any that does not pass, because it may
//! have passed before. So a row that passes is written whole, and one that does not is removed.

use super::{Change, ChangeOp, Place, Rows, Shape};
use crate::{Event, Op, Row, Stored, Value, Verdict};

impl Shape {
    /// Whether more has to be known of a row after an update than it says: its filter hangs on an
    /// unchanged value, or the row passes and the copy takes a value that is unchanged.
    pub fn needs_whole(&self, after: Row<'_>) -> bool {
        let Some(filter) = &self.filter else { return false };
        let mut values = Vec::new();
        if after.unpack(&mut values).is_err() || !values.contains(&Value::Unchanged) {
            return false;
        }
        match filter.verdict_of(&values) {
            Verdict::No => false,
            Verdict::Depends => true,
            Verdict::Yes => !self.is_said(&values),
        }
    }

    /// Whether a row says every value that the copy takes.
    fn is_said(&self, values: &[Value<'_>]) -> bool {
        let said = |at: usize| values.get(at).is_some_and(|v| *v != Value::Unchanged);
        self.columns.iter().all(|c| said(c.source))
    }
}

/// Adds what an event means; false when that cannot be told.
pub(super) fn push(rows: &mut Rows, stored: &Stored, event: &Event, place: Place) -> bool {
    let Place { shape, batch, event: index } = place;
    let used = &rows.shapes[shape as usize];
    let Some(filter) = &used.shape.filter else { return false };
    let after = stored.batch.after(event);
    let mut ops: [Option<ChangeOp>; 2] = [None, None];
    match event.op {
        Op::Create | Op::Read => {
            let op = if event.op == Op::Read { ChangeOp::Read } else { ChangeOp::Create };
            let passes = filter.verdict(after) == Verdict::Yes;
            ops[0] = Some(if passes { op } else { ChangeOp::Leave });
        }
        Op::Delete => ops[0] = Some(ChangeOp::Delete),
        Op::Truncate => ops[0] = Some(ChangeOp::Truncate),
        Op::Update => {
            let moved = event.before.len > 0;
            match update(&used.shape, after) {
                Updated::Passes => {
                    ops[1] = Some(if moved { ChangeOp::Create } else { ChangeOp::Update });
                }
                Updated::Leaves => ops[1] = Some(ChangeOp::Leave),
                // Its row is on its way, as the snapshot found it later.
                Updated::Partial { .. } if used.settling => {}
                Updated::Partial { passes: true } if moved => ops[1] = Some(ChangeOp::Rekey),
                Updated::Partial { passes: true } => ops[1] = Some(ChangeOp::Patch),
                Updated::Partial { passes: false } => return false,
            }
            if moved && ops[1] != Some(ChangeOp::Rekey) {
                ops[0] = Some(ChangeOp::Delete);
            }
        }
        Op::Schema | Op::Complete | Op::End => {}
    }
    for op in ops.into_iter().flatten() {
        rows.changes.push(Change { op, shape, batch, event: index });
    }
    true
}

enum Updated {
    /// The whole row is there and passes.
    Passes,
    Leaves,
    /// It says too little; `passes` when it does so whatever is missing.
    Partial {
        passes: bool,
    },
}

fn update(shape: &Shape, after: Row<'_>) -> Updated {
    let Some(filter) = &shape.filter else { return Updated::Passes };
    let partial = shape.needs_whole(after);
    match (filter.verdict(after), partial) {
        (Verdict::No, _) => Updated::Leaves,
        (Verdict::Yes, false) => Updated::Passes,
        (Verdict::Yes, true) => Updated::Partial { passes: true },
        (Verdict::Depends, _) => Updated::Partial { passes: false },
    }
}
