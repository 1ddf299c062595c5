//! What kept an apply from being written, in the seam's words.

use super::{Live, is_zero_division};
use crate::sink::errors::{key_text, of_change};
use crate::sink::held::COPY_GONE;
use crate::sink::merge::Unmerged;
use crate::sink::pipe::{At, Fail};
use rowcast_core::{ChangeOp, Rows, SinkError};

impl Live {
    /// The failure in the seam's words; the error of a checkpoint that is not where it should be
    /// comes back as it is.
    pub(super) fn words(
        &self,
        rows: &Rows,
        fail: Fail,
    ) -> Result<SinkError, tokio_postgres::Error> {
        let who = &self.who;
        Ok(match fail {
            Fail::Server { at, error } => match at {
                At::Begin if is_zero_division(&error) => return Err(error),
                At::Begin => who.statement("moving the checkpoint", error),
                At::Held if is_zero_division(&error) => who.unreachable(COPY_GONE),
                At::Held => who.statement("looking at the tables of copies", error),
                At::Change(index) => {
                    let (table, key) = self.name(rows, index);
                    let op = rows.changes[index as usize].op;
                    if matches!(op, ChangeOp::Patch | ChangeOp::Rekey) && is_zero_division(&error) {
                        let what = "the copy lacks the row that a change was made to";
                        of_change(who.data(&table, key, what, None), index)
                    } else {
                        of_change(who.row(&table, key, error), index)
                    }
                }
                At::Set(target) => who.row(&self.targets.list[target].table, None, error),
                At::Commit => {
                    let table = error.as_db_error().and_then(|e| e.table()).map(str::to_string);
                    who.row(&table.unwrap_or_else(|| "(at commit)".into()), None, error)
                }
            },
            Fail::Unfit { change, what } => {
                let (table, key) = self.name(rows, change);
                of_change(who.data(&table, key, what, None), change)
            }
            Fail::Unmerged(Unmerged::Malformed) => who.bug("a packed row is malformed"),
            Fail::Unmerged(Unmerged::Tangled) => who.bug("changes in order do not apply in order"),
            Fail::Copy { error, .. } => who.unreachable(error),
            Fail::Sink(error) => *error,
        })
    }

    /// The table and the key of a change.
    fn name(&self, rows: &Rows, index: u32) -> (String, Option<String>) {
        let change = &rows.changes[index as usize];
        let shape = rows.shape(change);
        let row = rows.found_by(change);
        let sources: Vec<_> = shape.key.iter().map(|&k| shape.columns[k].source).collect();
        let table = self.targets.known(shape).map(|t| self.targets.list[t].table.clone());
        (table.unwrap_or_else(|| shape.into.clone()), key_text(row, &sources))
    }
}
