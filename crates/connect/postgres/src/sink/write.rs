//! Writing changes: one by one in order, or merged and in sets. Sends; waiting is the pipe's.

use super::copy::{Halt, copy_rows, unfit_at};
use super::encode::{ArrayParam, Param, Unfit, with_text};
use super::merge::{Entry, Image, Merged, Sets, Unmerged, patch_mask};
use super::pipe::{At, Fail, Pipe};
use super::spare::Spared;
use super::target::{Job, Target};
use super::targets::Targets;
use crate::connect::{Fault, fault};
use rowcast_core::{ChangeOp, Malformed, Rows};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, SimpleQueryMessage};

/// Rows of a set; more gains nothing.
const SET_ROWS_MAX: usize = 1_000;
/// Bytes of a set.
const SET_BYTES_MAX: usize = 2 << 20;
/// New rows from which on `COPY`'s extra round trips pay.
const COPY_ROWS_MIN: usize = 400;
/// Rows of a `COPY` after one that met a row that does not fit; doubles with each success.
const COPY_PIECE_MIN: usize = 2_000;
/// Longest that a table is left without `COPY`, in sets of new rows.
const COPY_REST_MAX: u32 = 5_000;

/// The target of each shape of the rows; none where it is not ensured yet.
pub(super) type ByShape = Vec<Option<usize>>;

/// Writes the changes of a range one by one, in order.
pub(super) async fn in_order<'a>(
    pipe: &mut Pipe<'a>,
    targets: &mut Targets,
    by_shape: &ByShape,
    rows: &'a Rows,
    range: std::ops::Range<u32>,
) -> Result<(), Fail> {
    let mut image = Image::default();
    for index in range {
        let shape = rows.changes[index as usize].shape as usize;
        let Some(target) = by_shape[shape] else {
            return Err(Unmerged::Tangled.into());
        };
        one(pipe, &mut targets.list[target], &mut image, rows, index).await?;
    }
    Ok(())
}

/// Writes one change by itself.
pub(super) async fn one<'a>(
    pipe: &mut Pipe<'a>,
    target: &mut Target,
    image: &mut Image<'a>,
    rows: &'a Rows,
    index: u32,
) -> Result<(), Fail> {
    let change = &rows.changes[index as usize];
    let at = At::Change(index);
    if change.op == ChangeOp::Truncate {
        return pipe.simple(at, target.clear.clone()).await;
    }
    let strict = !rows.shapes[change.shape as usize].settling;
    let Some((job, params)) = single(image, target, rows, index, strict)? else {
        return Ok(());
    };
    let statement = pipe.statement(target, &job, at).await?;
    let session = pipe.session;
    let bytes = rows.event(change).after.len as usize + 64;
    pipe.send(at, bytes, async move { session.execute_raw(&statement, params).await }).await
}

/// What one change needs; nothing when it changes nothing that is subscribed to.
fn single<'a>(
    image: &mut Image<'a>,
    target: &Target,
    rows: &'a Rows,
    index: u32,
    strict: bool,
) -> Result<Option<(Job, Vec<Param<'a>>)>, Fail> {
    let change = &rows.changes[index as usize];
    let unfit = |Unfit(what)| Fail::Unfit { change: index, what };
    let mut params = Vec::with_capacity(target.columns.len() + target.key.len());
    let mut key_of = None;
    let job = match change.op {
        ChangeOp::Delete | ChangeOp::Leave => {
            key_of = Some(rows.found_by(change));
            Job::Delete
        }
        ChangeOp::Create | ChangeOp::Read | ChangeOp::Update | ChangeOp::Truncate => {
            image.load_row(rows.after(change))?;
            for column in &target.columns {
                let value = *image.values.get(column.source).ok_or(Unmerged::Malformed)?;
                params.push(Param::new(column.form, value).map_err(unfit)?);
            }
            Job::Upsert
        }
        ChangeOp::Patch | ChangeOp::Rekey => {
            let rekey = change.op == ChangeOp::Rekey;
            image.load_row(rows.after(change))?;
            let mask = patch_mask(target, &image.values, rekey);
            if mask.is_empty() {
                return Ok(None);
            }
            for (i, column) in target.columns.iter().enumerate() {
                if mask.has(i) {
                    let value = image.values[column.source];
                    params.push(Param::new(column.form, value).map_err(unfit)?);
                }
            }
            key_of = Some(rows.found_by(change));
            Job::Patch { mask, strict }
        }
    };
    if let Some(row) = key_of {
        image.load_row(row)?;
        for &k in &target.key {
            let column = &target.columns[k];
            let value = *image.values.get(column.source).ok_or(Unmerged::Malformed)?;
            params.push(Param::new(column.form, value).map_err(unfit)?);
        }
    }
    Ok(Some((job, params)))
}

/// How merged changes are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Unique values are given up before they are given anew.
    pub(super) untangle: bool,
    /// Each row by itself, so that an error names its change.
    pub(super) singly: bool,
    /// Every set may be taken back, so that what does not fit can be found and left out.
    pub(super) sparing: bool,
    /// What stays is written before anything goes, and every set is one statement: for rows that refer
    /// to each other, whose rules are looked at when a statement ends.
    pub(super) together: bool,
}

/// Merges the changes of a range and writes what is left in sets: what goes first, children before
/// parents; then what stays, parents before children; the other way round when told to write them
/// together. When told to untangle, unique values are given up before they are given anew. What
/// `spared` collects is left out.
pub(super) async fn merged<'a>(
    pipe: &mut Pipe<'a>,
    targets: &mut Targets,
    run: &Run<'_, 'a>,
    way: Way,
    mut spared: Option<&mut Spared>,
) -> Result<(), Fail> {
    let rows = run.rows;
    let mut tables: Vec<Option<(Merged<'_>, bool)>> = Vec::new();
    tables.resize_with(targets.list.len(), || None);
    for index in run.range.clone() {
        let shape = rows.changes[index as usize].shape as usize;
        let Some(target) = run.by_shape[shape] else { return Err(Unmerged::Tangled.into()) };
        let strict = !rows.shapes[shape].settling;
        let (merged, _) = tables[target].get_or_insert_with(|| (Merged::default(), strict));
        merged.push(rows, index, &targets.list[target])?;
    }
    let mut sets = Vec::with_capacity(tables.len());
    for (target, table) in targets.list.iter().zip(&mut tables) {
        sets.push(match table {
            Some((merged, _)) => {
                if !may_come_as_they_are(target, merged, way) {
                    merged.by_key(rows, target)?;
                }
                merged.sets(rows, target)?
            }
            None => Sets::default(),
        });
    }
    let stay = targets.parents_first.iter().map(|&t| (t, false));
    let go = targets.parents_first.iter().rev().map(|&t| (t, true));
    let order: Vec<_> =
        if way.together { stay.chain(go).collect() } else { go.chain(stay).collect() };
    for (t, goes) in order {
        let target = &mut targets.list[t];
        let spared = spared.as_deref_mut();
        let writer = Writer { pipe, target, number: t, run, way, spared };
        match &mut tables[t] {
            Some(_) if goes => writer.deletes(&sets[t].deletes).await?,
            Some((merged, strict)) => writer.rows(merged, &mut sets[t], *strict).await?,
            None => {}
        }
    }
    Ok(())
}

/// Whether one `COPY` of new rows as they came is worth a try: nothing went wrong with one lately.
fn may_come_as_they_are(target: &Target, merged: &Merged<'_>, way: Way) -> bool {
    let plain = !way.sparing && !way.untangle && !way.together;
    let calm = plain && target.copies && target.copy_rests == 0;
    calm && (COPY_ROWS_MIN..=target.copy_piece).contains(&merged.len())
}

/// Changes that merge.
pub(super) struct Run<'s, 'r> {
    pub(super) rows: &'r Rows,
    pub(super) by_shape: &'s ByShape,
    pub(super) range: std::ops::Range<u32>,
}

/// Writes sets into one target.
pub(super) struct Writer<'w, 'r> {
    pub(super) pipe: &'w mut Pipe<'r>,
    pub(super) target: &'w mut Target,
    pub(super) number: usize,
    pub(super) run: &'w Run<'w, 'r>,
    pub(super) way: Way,
    pub(super) spared: Option<&'w mut Spared>,
}

impl<'r> Writer<'_, 'r> {
    async fn deletes(mut self, changes: &[u32]) -> Result<(), Fail> {
        let columns = self.target.key.clone();
        let rows = self.run.rows;
        self.set(&Job::DeleteSet, &columns, changes.len(), |image, i| {
            let change = &rows.changes[changes[i] as usize];
            image.load_row(rows.found_by(change)).map(|()| changes[i])
        })
        .await
    }

    /// What stays of a table's rows.
    async fn rows(
        mut self,
        merged: &mut Merged<'r>,
        sets: &mut Sets,
        strict: bool,
    ) -> Result<(), Fail> {
        if !merged.is_by_key() {
            if self.copy_piece(merged, &sets.fresh).await?.is_ok() {
                return Ok(());
            }
            // A key may have come twice.
            merged.by_key(self.run.rows, self.target)?;
            *sets = merged.sets(self.run.rows, self.target)?;
        }
        let mut fresh = std::mem::take(&mut sets.fresh);
        if self.way.untangle {
            (sets.fresh, fresh) = (fresh, Vec::new());
            self.freed(merged, sets).await?;
            fresh.append(&mut sets.fresh);
        } else {
            let copied = self.copied(merged, &fresh).await?;
            fresh.drain(..copied);
        }
        fresh.append(&mut sets.upserts);
        self.upserts(merged, &fresh).await?;
        let rows = self.run.rows;
        for (mask, entries) in &sets.patches {
            let job = Job::PatchSet { mask: mask.clone(), strict };
            let columns = self.target.patch_columns(mask);
            self.set(&job, &columns, entries.len(), |image, i| {
                image.load(rows, merged, &entries[i]).map(|()| entries[i].change(merged))
            })
            .await?;
        }
        Ok(())
    }

    /// Takes the unique values from all rows that get new ones.
    async fn freed(&mut self, merged: &Merged<'_>, sets: &Sets) -> Result<(), Fail> {
        let rows = self.run.rows;
        let columns = self.target.key.clone();
        let whole = [(self.target.all(), &sets.fresh), (self.target.all(), &sets.upserts)];
        let partial = sets.patches.iter().map(|(mask, entries)| (mask.clone(), entries));
        for (mask, entries) in whole.into_iter().chain(partial) {
            let Some(mask) = self.target.unique(&mask) else { continue };
            self.set(&Job::Free(mask), &columns, entries.len(), |image, i| {
                image.load(rows, merged, &entries[i]).map(|()| entries[i].change(merged))
            })
            .await?;
        }
        Ok(())
    }

    async fn upserts(&mut self, merged: &Merged<'_>, entries: &[Entry]) -> Result<(), Fail> {
        let columns: Vec<_> = (0..self.target.columns.len()).collect();
        let rows = self.run.rows;
        self.set(&Job::UpsertSet, &columns, entries.len(), |image, i| {
            image.load(rows, merged, &entries[i]).map(|()| entries[i].change(merged))
        })
        .await
    }

    /// Sends `count` rows in sets. `load` puts row `i` into the image and tells its change.
    async fn set(
        &mut self,
        job: &Job,
        columns: &[usize],
        count: usize,
        load: impl Fn(&mut Image<'r>, usize) -> Result<u32, Malformed>,
    ) -> Result<(), Fail> {
        let rows_max = match self.way {
            Way { singly: true, .. } => 1,
            Way { together: true, .. } => count,
            Way { .. } => SET_ROWS_MAX,
        };
        let mut next = 0;
        while next < count {
            let end = count.min(next + rows_max);
            next = if self.way.sparing {
                self.sparing_set(job, columns, next..end, &load).await?
            } else {
                self.send_set(job, columns, next..end, &load).await?
            };
        }
        Ok(())
    }

    /// Sends a set of the rows in a range, as many of them as it holds; where to go on.
    pub(super) async fn send_set(
        &mut self,
        job: &Job,
        columns: &[usize],
        range: std::ops::Range<usize>,
        load: &impl Fn(&mut Image<'r>, usize) -> Result<u32, Malformed>,
    ) -> Result<usize, Fail> {
        let counted = matches!(job, Job::PatchSet { strict: true, .. });
        let mut at = At::Set(self.number);
        let (statement, arrays, next, change) = loop {
            let statement = self.pipe.statement(self.target, job, at).await?;
            match self.arrays(columns, range.clone(), load) {
                Ok((arrays, next, change)) => break (statement, arrays, next, change),
                // Once more, with this column as text.
                Err(Halt::Unprinted(column)) => self.target.as_text(column),
                Err(Halt::Server(error)) => return Err(Fail::Server { at, error }),
                Err(Halt::Fail(fail)) => return Err(fail),
            }
        };
        if self.way.singly {
            at = At::Change(change);
        }
        let bytes = arrays.iter().map(ArrayParam::bytes).sum();
        let mut params: Vec<Box<dyn ToSql + Sync + Send>> = Vec::with_capacity(arrays.len() + 1);
        params.extend(arrays.into_iter().map(|a| Box::new(a.finish()) as Box<_>));
        if counted {
            params.push(Box::new((next - range.start).to_string()));
        }
        let session = self.pipe.session;
        let answer = async move { session.execute_raw(&statement, params).await };
        self.pipe.send(at, bytes, answer).await?;
        Ok(next)
    }

    /// The rows of a set in a range, as many of them as it holds; the row it ends before, and the
    /// change of its last row.
    fn arrays(
        &self,
        columns: &[usize],
        range: std::ops::Range<usize>,
        load: &impl Fn(&mut Image<'r>, usize) -> Result<u32, Malformed>,
    ) -> Result<(Vec<ArrayParam>, usize, u32), Halt> {
        let mut image = Image::default();
        let room = 16 * range.len();
        let array = |&c: &usize| ArrayParam::new(self.target.columns[c].wire, room);
        let mut arrays: Vec<_> = columns.iter().map(array).collect();
        let (mut next, mut bytes, mut change) = (range.start, 0, 0);
        while next < range.end && (bytes < SET_BYTES_MAX || self.way.together) {
            change = load(&mut image, next)?;
            bytes = 0;
            for (array, &c) in arrays.iter_mut().zip(columns) {
                let column = &self.target.columns[c];
                let value = *image.values.get(column.source).ok_or(Malformed { at: 0 })?;
                let pushed = with_text(column.form, value, |text| array.push(text))
                    .map_err(|unfit| unfit_at(change, unfit))?;
                if !pushed {
                    return Err(Halt::Unprinted(c));
                }
                bytes += array.bytes();
            }
            next += 1;
        }
        Ok((arrays, next, change))
    }

    /// Writes new rows by `COPY`, as far as that goes; tells how many of them are seen to.
    async fn copied(&mut self, merged: &Merged<'_>, entries: &[Entry]) -> Result<usize, Fail> {
        let plain = !self.way.sparing && !self.way.together;
        let worth = entries.len() >= COPY_ROWS_MIN && plain;
        if !worth || !self.target.copies {
            return Ok(0);
        }
        if self.target.copy_rests > 0 {
            self.target.copy_rests -= 1;
            return Ok(0);
        }
        let mut done = 0;
        while done < entries.len() {
            let some = &entries[done..entries.len().min(done + self.target.copy_piece)];
            let Err(error) = self.copy_piece(merged, some).await? else {
                done += some.len();
                self.target.copy_piece = self.target.copy_piece.saturating_mul(2);
                continue;
            };
            if let Some(line) = self.spare_line(&error).filter(|line| *line < some.len()) {
                self.target.copy_piece = COPY_PIECE_MIN;
                if line > 0 && self.copy_piece(merged, &some[..line]).await?.is_err() {
                    // It said the wrong line.
                    return Ok(done);
                }
                self.spare(some[line].change(merged)).await?;
                done += line + 1;
                continue;
            }
            let rests = self.target.copy_rest_next;
            self.target.copy_rests = rests;
            self.target.copy_rest_next = (rests * 2).min(COPY_REST_MAX);
            break;
        }
        Ok(done)
    }

    /// Writes rows by one `COPY`; all of them or none. The inner error is one that says something
    /// about a row: a key that exists, or a value that does not fit.
    async fn copy_piece(
        &mut self,
        merged: &Merged<'_>,
        entries: &[Entry],
    ) -> Result<Result<(), Error>, Fail> {
        const UNDO: &str = "ROLLBACK TO rowcast_copy; RELEASE rowcast_copy";
        let at = At::Set(self.number);
        loop {
            let statement = self.pipe.statement(self.target, &Job::Copy, at).await?;
            self.pipe.simple(at, "SAVEPOINT rowcast_copy".into()).await?;
            // A `COPY` that is refused before it began leaves the session out of step, so nothing
            // that can fail may be on its way.
            self.pipe.drain().await?;
            let refused = |error| Fail::Copy { target: self.number, error };
            let copy = self.pipe.session.copy_in(&statement).await.map_err(refused)?;
            return match copy_rows(self.target, self.run.rows, copy, merged, entries).await {
                Ok(()) => {
                    self.pipe.simple(at, "RELEASE rowcast_copy".into()).await?;
                    Ok(Ok(()))
                }
                // Once more, with this column as text.
                Err(Halt::Unprinted(column)) => {
                    self.target.as_text(column);
                    self.pipe.simple(at, UNDO.into()).await?;
                    continue;
                }
                // The session is sound, and writing the rows in another way shows which.
                Err(Halt::Server(error)) if matches!(class(&error), Some("22" | "23")) => {
                    self.pipe.simple(at, UNDO.into()).await?;
                    self.pipe.drain().await?;
                    // Refused before its first row, a `COPY` is answered once too often: what follows
                    // would take the answers of what went before.
                    let word = self.pipe.session.simple_query("SELECT 1").await;
                    let in_step = |m: &_| matches!(m, SimpleQueryMessage::Row(_));
                    match word {
                        Ok(messages) if messages.iter().any(in_step) => Ok(Err(error)),
                        Ok(_) | Err(_) => Err(Fail::Copy { target: self.number, error }),
                    }
                }
                Err(Halt::Server(error)) if fault(&error) == Fault::Outage => {
                    Err(Fail::Server { at, error })
                }
                Err(Halt::Server(error)) => Err(Fail::Copy { target: self.number, error }),
                Err(Halt::Fail(fail)) => Err(fail),
            };
        }
    }
}

pub(super) fn class(error: &Error) -> Option<&str> {
    error.code().and_then(|c| c.code().get(..2))
}
