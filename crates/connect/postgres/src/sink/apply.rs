//! One apply: begin and step the checkpoint, write the rows, commit; sent without waiting where
//! nothing has to be known in between, so that a small batch costs one round trip.

mod words;

use super::checkpoint::{self, Place};
use super::errors::Who;
use super::held::{self, COPY_GONE, Wrote};
use super::merge::{Part, parts};
use super::parked;
use super::pipe::{At, Fail, Pipe};
use super::spare::{Spared, is_own};
use super::table::TableName;
use super::targets::Targets;
use super::together;
use super::write::{self, ByShape};
use crate::connect::{Fault, Session, fault};
use rowcast_core::{ChangeOp, Checkpoint, Parked, Progress, Rows, SinkError, Track};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// Changes up to which merging and sets cost more than they save.
const ONE_BY_ONE_MAX: usize = 24;

/// A session and what it knows.
#[derive(Debug)]
pub(super) struct Live {
    session: Session,
    pub(super) place: Place,
    who: Who,
    /// The checkpoint as it is committed.
    committed: Checkpoint,
    /// The checkpoint as this session sees it: ahead of `committed` inside a transaction.
    seen: Checkpoint,
    /// A transaction is open, with changes of earlier applies.
    open: bool,
    targets: Targets,
    /// Targets were looked at inside the open transaction; they go when it is rolled back.
    fresh_targets: bool,
    /// The copies that the transaction has written to.
    wrote: Wrote,
    broken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Several changes to a key become one, written in sets.
    Merged,
    /// One by one, as the source did it.
    InOrder,
    /// As merged, but first every row that gets a new unique value gives up its old one: for rows
    /// that trade values in one statement of the source, whose rules wait for its end.
    Untangled,
    /// As untangled, but row by row: names the row that does not fit.
    Singly,
    /// As merged, but what does not fit is looked for and left out.
    Sparing,
    /// As merged, but what stays is written before anything goes, and every set is one statement: for
    /// rows that refer to each other, where the rules do not wait for the commit.
    Together,
    /// In one statement for all tables, for rows that may refer to each other in a circle.
    Circle,
}

impl Live {
    pub(super) fn new(session: Session, place: Place, at: Checkpoint, who: Who) -> Self {
        Self {
            session,
            place,
            who,
            committed: at,
            seen: at,
            open: false,
            targets: Targets::default(),
            fresh_targets: false,
            wrote: Wrote::default(),
            broken: false,
        }
    }

    /// The session is in a transaction that holds the checkpoint's row; applies go on in it.
    pub(super) fn held(mut self) -> Self {
        self.open = true;
        self
    }

    /// Where rows of these tables go instead of into them.
    pub(super) fn beside(&mut self, builds: HashMap<String, TableName>) {
        self.targets.beside = builds;
    }

    /// Where the route's checkpoint is committed.
    pub(super) fn committed(&self) -> Checkpoint {
        self.committed
    }

    /// The session, between transactions.
    pub(super) fn idle(&self) -> Result<&Session, SinkError> {
        if self.open { Err(self.who.bug("a transaction is open")) } else { Ok(&self.session) }
    }

    /// Whether the session is in a state we know.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken && !self.session.is_closed()
    }

    pub(super) async fn apply(
        &mut self,
        rows: &Rows,
        progress: &Progress,
        no_copy: &mut HashSet<String>,
    ) -> Result<(), SinkError> {
        if let (false, Track::Lane(_)) = (self.open, self.place.track) {
            // A lane goes on where the route is; the target refuses one that is ahead.
            self.committed.next = progress.from;
        }
        if self.open && progress.from != self.committed.next {
            self.roll_back().await;
            return Err(self.who.bug("an apply does not go on with the open transaction"));
        }
        if !self.open {
            self.ensure_first(rows, no_copy).await?;
        }
        let mut result = self.try_held(rows, progress, no_copy).await;
        if let Err(fail) = &result
            && is_duplicate(fail)
            && self.undo_attempt().await
        {
            match self.attempt(rows, progress, Mode::Untangled, no_copy).await {
                Err(Fail::Server { error, .. }) if fault(&error) == Fault::Outage => {
                    result = Err(Fail::Server { at: At::Begin, error });
                }
                // Only in order can they be written: that error stays.
                Err(Fail::Unmerged(_)) => {}
                // Another row may be at fault than the one that waits for its value.
                Err(_) if self.undo_attempt().await => {
                    result = self.attempt(rows, progress, Mode::Singly, no_copy).await;
                }
                Err(_) => {}
                Ok(spared) => result = Ok(spared),
            }
        }
        let spared = match result {
            Ok(spared) => spared,
            Err(fail) => return Err(self.explain(rows, fail, no_copy).await),
        };
        self.seen = Checkpoint { next: progress.next, position: Some(progress.position) };
        self.open = !progress.commit || !spared.fails.is_empty();
        if !self.open {
            self.committed = self.seen;
            self.fresh_targets = false;
            self.wrote.forget();
        }
        if spared.fails.is_empty() {
            return Ok(());
        }
        let words = spared.fails.into_iter().map(|fail| self.words(rows, fail));
        let errors = words.collect::<Result<_, _>>().map_err(|e| self.who.unreachable(e))?;
        Err(SinkError::LeftOut { changes: spared.changes, errors })
    }

    /// As merged. A copy whose rows were only written anew by its owner is remembered so, and the same
    /// is written once more.
    async fn try_held(
        &mut self,
        rows: &Rows,
        progress: &Progress,
        no_copy: &HashSet<String>,
    ) -> Result<Spared, Fail> {
        let result = self.try_merged(rows, progress, no_copy).await;
        let anew = matches!(result, Err(Fail::Server { at: At::Held, .. })) && !self.open;
        if !anew || !self.undo_attempt().await || self.is_lost().await? {
            return result;
        }
        self.try_merged(rows, progress, no_copy).await
    }

    /// Whether some copy's table is not the one that took its rows.
    async fn is_lost(&self) -> Result<bool, SinkError> {
        let states: &[&str] = if self.place.track == Track::Side { &["direct"] } else { &["live"] };
        let lost = held::look(&self.session, &self.place.route, states, &self.who).await?;
        Ok(!lost.is_empty())
    }

    /// In sets where that pays; in order when they do not fit, to see which row it is.
    async fn try_merged(
        &mut self,
        rows: &Rows,
        progress: &Progress,
        no_copy: &HashSet<String>,
    ) -> Result<Spared, Fail> {
        let in_order = rows.at_once || rows.changes.len() <= ONE_BY_ONE_MAX;
        let mode = if in_order { Mode::InOrder } else { Mode::Merged };
        let mode = if rows.together { Mode::Circle } else { mode };
        let mut result = self.attempt(rows, progress, mode, no_copy).await;
        if let Err(fail) = &result
            && is_reference(fail)
            && self.may_fit_together(rows)
            && self.undo_attempt().await
        {
            match self.attempt(rows, progress, Mode::Together, no_copy).await {
                Err(Fail::Server { error, .. }) if fault(&error) == Fault::Outage => {
                    return Err(Fail::Server { at: At::Begin, error });
                }
                // What did not fit before names the row.
                Err(_) => {}
                Ok(spared) => return Ok(spared),
            }
        }
        if mode != Mode::Merged {
            return result;
        }
        let route = &self.who.route;
        if let Err(fail) = &result
            && may_spare(rows)
            && is_own(fail)
        {
            tracing::debug!(%route, "a merged batch does not fit; looking for the rows");
            if self.undo_attempt().await {
                result = self.attempt(rows, progress, Mode::Sparing, no_copy).await;
            }
        }
        if let Err(fail) = &result
            && is_worth_order(fail)
            && self.undo_attempt().await
        {
            let route = &self.who.route;
            tracing::debug!(%route, "a merged batch does not fit; going in order");
            result = self.attempt(rows, progress, Mode::InOrder, no_copy).await;
        }
        result
    }

    /// Whether a reference that finds no row, or is still referred to, may be a matter of order only.
    fn may_fit_together(&self, rows: &Rows) -> bool {
        let goes = |op| matches!(op, ChangeOp::Delete | ChangeOp::Leave);
        !rows.at_once && (self.targets.circular || rows.changes.iter().any(|c| goes(c.op)))
    }

    /// What is parked on the route.
    pub(super) async fn parked(&self) -> Result<Vec<Parked>, SinkError> {
        parked::read(&self.session, &self.place, &self.who).await
    }

    /// The first shape of every subscription, outside any transaction. A later shape of the same
    /// table has to wait for its place between the rows.
    async fn ensure_first(
        &mut self,
        rows: &Rows,
        no_copy: &HashSet<String>,
    ) -> Result<(), SinkError> {
        let mut seen = HashSet::new();
        for used in &rows.shapes {
            if seen.insert(used.shape.subscription) {
                let index = self.targets.ensure(&self.session, &used.shape, &self.who).await;
                forbid_copy(&mut self.targets, index?, no_copy);
            }
        }
        Ok(())
    }

    async fn attempt(
        &mut self,
        rows: &Rows,
        progress: &Progress,
        mode: Mode,
        no_copy: &HashSet<String>,
    ) -> Result<Spared, Fail> {
        let mut pipe = Pipe::new(&self.session);
        let rules = match (self.targets.deferrable, rows.at_once) {
            (false, _) => "",
            (true, false) => "; SET CONSTRAINTS ALL DEFERRED",
            (true, true) => "; SET CONSTRAINTS ALL IMMEDIATE",
        };
        pipe.simple(At::Begin, self.begin(rules, progress)).await?;
        let mut by_shape: ByShape =
            rows.shapes.iter().map(|s| self.targets.known(&s.shape)).collect();
        let mut spared = Spared::default();
        for part in self.ordered(rows, &by_shape) {
            let (from, to) = match part {
                Part::Run(from, to) => (from, to),
                Part::Alone(at) => (at, at + 1),
            };
            for index in from..to {
                let shape = rows.changes[index as usize].shape as usize;
                if by_shape[shape].is_none() {
                    pipe.drain().await?;
                    self.fresh_targets = true;
                    let used = &rows.shapes[shape].shape;
                    let target = self.targets.ensure(&self.session, used, &self.who).await?;
                    forbid_copy(&mut self.targets, target, no_copy);
                    by_shape[shape] = Some(target);
                }
            }
            let targets = &mut self.targets;
            let many = (to - from) as usize > ONE_BY_ONE_MAX;
            let alone = matches!(part, Part::Alone(_));
            let untangle = matches!(mode, Mode::Untangled | Mode::Singly);
            if mode == Mode::Circle {
                together::write(&mut pipe, targets, &by_shape, rows, &mut spared).await?;
                break;
            }
            let together = mode == Mode::Together;
            let in_sets = together || (matches!(mode, Mode::Merged | Mode::Sparing) && many);
            if !alone && (untangle || in_sets) {
                let (singly, sparing) = (mode == Mode::Singly, mode == Mode::Sparing);
                let way = write::Way { untangle, singly, sparing, together };
                let spared = (in_sets && !together && may_spare(rows)).then_some(&mut spared);
                let run = write::Run { rows, by_shape: &by_shape, range: from..to };
                write::merged(&mut pipe, targets, &run, way, spared).await?;
            } else {
                write::in_order(&mut pipe, targets, &by_shape, rows, from..to).await?;
            }
        }
        self.wrote.note(rows, |into| self.targets.beside.contains_key(into));
        for used in rows.shapes.iter().zip(&by_shape).filter(|(_, t)| t.is_none()).map(|(s, _)| s) {
            pipe.drain().await?;
            self.fresh_targets = true;
            self.targets.ensure(&self.session, &used.shape, &self.who).await?;
        }
        let all = spared.fails.is_empty();
        if !rows.parks.is_empty() && all {
            pipe.drain().await?;
            let noted = parked::write(&self.session, &self.place, &rows.parks).await;
            noted.map_err(|e| self.who.statement("noting parked keys", e))?;
        }
        self.end(&mut pipe, progress, all).await?;
        pipe.drain().await.map(|()| spared)
    }

    /// Ends an attempt that wrote `all`, or not all: with the commit, or with what takes it along.
    async fn end(&self, pipe: &mut Pipe<'_>, progress: &Progress, all: bool) -> Result<(), Fail> {
        if self.open || !all {
            // A commit sent behind a set that fails would roll back the applies before this one.
            pipe.drain().await?;
        }
        if progress.commit && all {
            if let Some(check) = self.wrote.check(&self.place) {
                pipe.simple(At::Held, check).await?;
            }
            pipe.simple(At::Commit, "COMMIT".into()).await?;
        } else if self.open {
            pipe.simple(At::Commit, "RELEASE rowcast_apply".into()).await?;
        }
        Ok(())
    }

    /// The parts of the changes. Truncates that stand together go children first: a parent's rows are
    /// held back by children that go as well.
    fn ordered(&self, rows: &Rows, by_shape: &ByShape) -> Vec<Part> {
        let truncate = |part: &Part| match part {
            Part::Alone(at) => {
                let change = &rows.changes[*at as usize];
                (change.op == ChangeOp::Truncate).then(|| by_shape[change.shape as usize])
            }
            Part::Run(..) => None,
        };
        let place = |target| self.targets.parents_first.iter().position(|t| Some(*t) == target);
        let mut parts = parts(rows);
        for some in parts.chunk_by_mut(|a, b| truncate(a).is_some() && truncate(b).is_some()) {
            some.sort_by_key(|part| Reverse(truncate(part).map(place)));
        }
        parts
    }

    fn begin(&self, rules: &str, progress: &Progress) -> String {
        let (open, seen) = (self.open, self.seen);
        // One message: when the first statement of it fails, the rest of it is not run.
        let from = if open { seen } else { Checkpoint { next: progress.from, ..seen } };
        let step = checkpoint::step(&self.place, from, progress);
        if open && seen.next == progress.next {
            // The open transaction has moved it there.
            "SAVEPOINT rowcast_apply".into()
        } else if open {
            format!("SAVEPOINT rowcast_apply; {step}")
        } else {
            format!("BEGIN READ WRITE; {step}{rules}")
        }
    }

    /// Takes back what an attempt wrote, and nothing of the applies before it.
    async fn undo_attempt(&mut self) -> bool {
        let sql =
            if self.open { "ROLLBACK TO rowcast_apply; RELEASE rowcast_apply" } else { "ROLLBACK" };
        let done = self.session.batch_execute(sql).await.is_ok();
        if done {
            self.forget_fresh_targets();
        }
        done
    }

    async fn roll_back(&mut self) {
        if self.session.batch_execute("ROLLBACK").await.is_err() {
            self.broken = true;
        }
        self.open = false;
        self.seen = self.committed;
        self.wrote.forget();
        self.forget_fresh_targets();
    }

    /// A rollback takes back tables and columns too, so what we know of them is wrong.
    fn forget_fresh_targets(&mut self) {
        if self.fresh_targets {
            self.targets = self.targets.anew();
            self.fresh_targets = false;
        }
    }

    /// Ends the transaction and puts the failure into the seam's words.
    async fn explain(
        &mut self,
        rows: &Rows,
        fail: Fail,
        no_copy: &mut HashSet<String>,
    ) -> SinkError {
        let from = self.seen.next;
        let fail = match fail {
            // The session is out of step; the next one writes these rows without COPY, and a row
            // that does not fit shows itself then.
            Fail::Copy { target, error } => {
                self.broken = true;
                no_copy.insert(self.targets.list[target].table.clone());
                return self.who.unreachable(error);
            }
            other => other,
        };
        let error = self.words(rows, fail);
        self.roll_back().await;
        let error = match error {
            Ok(error) => error,
            Err(step) => {
                let moved = checkpoint::moved(&self.session, &self.place, from, &self.who).await;
                moved.unwrap_or_else(|_| self.who.unreachable(step))
            }
        };
        let error = match error {
            // A row that a change finds nowhere may have gone with its table.
            SinkError::Schema { .. } | SinkError::Data { source: None, .. }
                if matches!(self.is_lost().await, Ok(true)) =>
            {
                self.who.unreachable(COPY_GONE)
            }
            error => error,
        };
        if matches!(error, SinkError::Unreachable { .. } | SinkError::Bug { .. }) {
            self.broken = true;
        }
        if matches!(error, SinkError::Schema { .. } | SinkError::Setup { .. }) {
            self.targets = self.targets.anew();
        }
        error
    }
}

fn forbid_copy(targets: &mut Targets, index: usize, no_copy: &HashSet<String>) {
    let target = &mut targets.list[index];
    target.copies &= !no_copy.contains(&target.table);
}

/// Whether rows that do not fit may be left out. Where a key change or a truncate comes between, what
/// is left out before it may not be what it is about.
fn may_spare(rows: &Rows) -> bool {
    rows.leave_out && matches!(parts(rows).as_slice(), [Part::Run(..)])
}

/// Whether the same changes may fit when they are written one by one.
fn is_worth_order(fail: &Fail) -> bool {
    match fail {
        Fail::Server { at: At::Begin | At::Held, .. } | Fail::Copy { .. } | Fail::Sink(_) => false,
        Fail::Server { error, .. } => fault(error) == Fault::Data,
        Fail::Unfit { .. } | Fail::Unmerged(_) => true,
    }
}

fn is_reference(fail: &Fail) -> bool {
    let Fail::Server { at: At::Set(_) | At::Change(_), error } = fail else { return false };
    error.code().is_some_and(|c| c.code() == "23503")
}

fn is_duplicate(fail: &Fail) -> bool {
    let Fail::Server { at: At::Change(_), error } = fail else { return false };
    error.code().is_some_and(|c| c.code() == "23505")
}

fn is_zero_division(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|c| c.code() == "22012")
}
