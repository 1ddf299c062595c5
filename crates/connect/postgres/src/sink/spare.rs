//! Leaving out rows that do not fit while everything else of an apply is written: the set that one
//! of them spoils is taken back and halved until it stands alone, or `COPY` names its line.
//!
//! Law: only what a row's own values cause is left out. What hangs on other rows (a reference, a
//! unique value) may fit in another order, which is not for here to say.

use super::merge::{Image, key};
use super::pipe::{At, Fail};
use super::target::Job;
use super::write::{Run, Writer, class, one};
use rowcast_core::{ChangeOp, Malformed};
use std::borrow::Cow;
use std::ops::Range;
use tokio_postgres::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct Spared {
    /// What was not written: changes that do not fit and later ones of their keys.
    pub(super) changes: Vec<u32>,
    /// Why, once for each key.
    pub(super) fails: Vec<Fail>,
    /// The changes, sorted by a hash of their key; filled once something does not fit. The keys
    /// themselves would take as much room as the rows.
    by_key: Vec<(u64, u32)>,
}

type Id<'r> = (Option<usize>, Cow<'r, [u8]>);

/// Rows that one apply leaves out. Where more do not fit, it is no row that is wrong.
const SPARED_MAX: usize = 1_000;

const UNDO: &str = "ROLLBACK TO rowcast_set; RELEASE rowcast_set";

impl<'r> Writer<'_, 'r> {
    /// The rows of a set in a range, as many of them as it holds, without those that do not fit;
    /// where to go on.
    pub(super) async fn sparing_set(
        &mut self,
        job: &Job,
        columns: &[usize],
        range: Range<usize>,
        load: &impl Fn(&mut Image<'r>, usize) -> Result<u32, Malformed>,
    ) -> Result<usize, Fail> {
        let at = At::Set(self.number);
        let mut todo = vec![range.clone()];
        let mut done = range.start;
        while let Some(some) = todo.pop() {
            self.pipe.simple(at, "SAVEPOINT rowcast_set".into()).await?;
            let sent = self.send_set(job, columns, some.clone(), load).await;
            let wrote = match sent {
                Ok(next) => self.pipe.drain().await.map(|()| next),
                Err(fail) => Err(self.pipe.earlier(fail).await),
            };
            match wrote {
                Ok(next) => {
                    self.pipe.simple(at, "RELEASE rowcast_set".into()).await?;
                    done = next;
                    if next < some.end {
                        todo.push(next..some.end);
                    }
                    continue;
                }
                Err(fail) if is_own(&fail) => self.pipe.simple(at, UNDO.into()).await?,
                Err(fail) => return Err(fail),
            }
            if some.len() == 1 {
                let change = load(&mut Image::default(), some.start)?;
                self.spare(change).await?;
                done = some.end;
                continue;
            }
            let half = some.start + some.len() / 2;
            todo.extend([half..some.end, some.start..half]);
        }
        Ok(done)
    }

    /// Which line of a `COPY` does not fit, counted from 0, where it may be left out.
    pub(super) fn spare_line(&self, error: &Error) -> Option<usize> {
        let own = self.spared.is_some() && is_own_error(error);
        let place = error.as_db_error().and_then(|e| e.where_()).filter(|_| own)?;
        line(place)
    }

    /// Writes the changes of one key one by one, for as long as they fit, and leaves out the rest.
    pub(super) async fn spare(&mut self, change: u32) -> Result<(), Fail> {
        let changes = self.of_key(change)?;
        let mut image = Image::default();
        for (i, &index) in changes.iter().enumerate() {
            self.pipe.simple(At::Set(self.number), "SAVEPOINT rowcast_set".into()).await?;
            let wrote = one(self.pipe, self.target, &mut image, self.run.rows, index).await;
            let wrote = match wrote {
                Ok(()) => self.pipe.drain().await,
                Err(fail) => Err(self.pipe.earlier(fail).await),
            };
            let undo = match &wrote {
                Ok(()) => "RELEASE rowcast_set",
                Err(_) => UNDO,
            };
            let Err(fail) = wrote else {
                self.pipe.simple(At::Set(self.number), undo.into()).await?;
                continue;
            };
            let ends = |i: &u32| {
                matches!(self.run.rows.changes[*i as usize].op, ChangeOp::Delete | ChangeOp::Leave)
            };
            let may = |s: &&mut Spared| is_own(&fail) && s.fails.len() < SPARED_MAX;
            let Some(spared) = self.spared.as_deref_mut().filter(may) else {
                return Err(fail);
            };
            // What ends a row that was set aside is not for here to weigh.
            if changes[i..].iter().any(ends) {
                return Err(fail);
            }
            spared.changes.extend(&changes[i..]);
            spared.fails.push(fail);
            return self.pipe.simple(At::Set(self.number), undo.into()).await;
        }
        Ok(())
    }

    /// All changes of the run to the key of one of them, in order.
    fn of_key(&mut self, change: u32) -> Result<Vec<u32>, Fail> {
        let run = self.run;
        let Some(spared) = self.spared.as_deref_mut() else { return Ok(vec![change]) };
        if spared.by_key.is_empty() {
            let mut by_key = Vec::with_capacity(run.range.len());
            for index in run.range.clone() {
                by_key.push((hash(&run.id(index)?), index));
            }
            by_key.sort_unstable();
            spared.by_key = by_key;
        }
        let id = run.id(change)?;
        let hash = hash(&id);
        let first = spared.by_key.partition_point(|(other, _)| *other < hash);
        let alike = spared.by_key[first..].iter().take_while(|(other, _)| *other == hash);
        let mut changes = Vec::new();
        for &(_, index) in alike {
            if run.id(index)? == id {
                changes.push(index);
            }
        }
        Ok(changes)
    }
}

fn hash((target, key): &Id<'_>) -> u64 {
    xxh3_64_with_seed(key, target.map_or(0, |t| t as u64))
}

impl<'r> Run<'_, 'r> {
    /// What tells the row that a change is about: its table and its key.
    fn id(&self, index: u32) -> Result<Id<'r>, Fail> {
        let change = &self.rows.changes[index as usize];
        let shape = self.rows.shape(change);
        let sources: Vec<_> = shape.key.iter().map(|&k| shape.columns[k].source).collect();
        let row = match change.op {
            ChangeOp::Delete => self.rows.before(change),
            _ => self.rows.after(change),
        };
        Ok((self.by_shape[change.shape as usize], key(row, &sources)?))
    }
}

/// Whether a row's own values are the cause, so that no other order of the same changes helps.
pub(super) fn is_own(fail: &Fail) -> bool {
    match fail {
        Fail::Server { at: At::Set(_) | At::Change(_), error } => is_own_error(error),
        Fail::Unfit { .. } => true,
        Fail::Server { .. } | Fail::Unmerged(_) | Fail::Copy { .. } | Fail::Sink(_) => false,
    }
}

fn is_own_error(error: &Error) -> bool {
    let state = error.code().map_or("", |c| c.code());
    class(error) == Some("22") || matches!(state, "23502" | "23514" | "44000")
}

/// The line in what the server says of a `COPY`: `COPY table, line 12: "…"`, in its own language.
fn line(place: &str) -> Option<usize> {
    let words = place.lines().rev().find_map(|l| l.strip_prefix("COPY "))?;
    // A table's name may have commas and digits in it, a row's value anything at all.
    let named = words.split(", ").skip(1).find_map(|part| {
        let number = part.split_once(' ')?.1;
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        number[..digits].parse::<usize>().ok()
    });
    named?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_copy_names_its_line_in_any_language() {
        assert_eq!(line("COPY customers, line 12: \"1\t2\""), Some(11));
        assert_eq!(line("COPY customers, line 3, column credit: \"x, line 9\""), Some(2));
        assert_eq!(line("COPY customers, Zeile 7: »1«"), Some(6));
        assert_eq!(line("PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 4: \"a\""), Some(3));
        for none in ["", "SQL statement \"x\"", "COPY t", "COPY t, line x", "COPY t, line 0"] {
            assert_eq!(line(none), None, "{none}");
        }
    }
}
