//! Lanes: a large piece of the log goes to the target in several transactions at once, split by key.
//!
//! Law: the route's checkpoint moves last. So it is the least that every lane has, and what a crash
//! leaves behind are lanes that are ahead of it. The main track brings the route as far as they are,
//! without the changes that they have applied, before anything is split again.

use super::narrow::Part;
use super::{Deliver, Track};
use crate::trouble::{Trouble, TroubleReport};
use futures::future::join_all;
use rowcast_core::{
    Diagnose, Lane, Lanes, Offset, Position, Progress, Remedy, Rows, Sink, SinkError, SinkSpec,
    Stored, Track as Which, lane_of,
};

/// Changes for each lane from which on several transactions beat one.
const CHANGES_MIN: usize = 50;
/// How often the number of pieces that stay together doubles while splitting is in vain.
const VAIN_COUNTED_MAX: u32 = 6;

/// A main track's lanes.
#[derive(Default)]
pub(super) struct Split {
    /// How many are wanted; 1 for none at all.
    count: u16,
    /// What the target says of them; nothing before it was asked.
    known: Option<Lanes>,
    /// Their writers; none before they are needed.
    writers: Vec<Box<dyn Sink>>,
    /// Pieces that stay together before the next try, and tries in vain before that.
    rest: u32,
    vain: u32,
}

impl Split {
    pub(super) fn new(count: u16) -> Self {
        Self { count, ..Self::default() }
    }

    /// Whether no lane is ahead of `at`.
    pub(super) fn is_level(&self, at: Offset) -> bool {
        self.known.as_ref().is_none_or(|known| !known.is_ahead(at))
    }

    fn is_as_wanted(&self) -> bool {
        let wanted = if self.count > 1 { self.count } else { 0 };
        self.known.as_ref().is_some_and(|known| known.count() == wanted)
    }

    /// It did not work, or not at once: what may be the reason will not go away at once.
    fn in_vain(&mut self) {
        self.rest = 1 << self.vain;
        self.vain = (self.vain + 1).min(VAIN_COUNTED_MAX);
    }
}

impl Track<'_> {
    /// Claims the lanes when the target was not asked for them yet, or when there may be as many as
    /// are wanted only now.
    pub(super) async fn claim_lanes(&mut self) -> Result<(), Trouble> {
        let waits = self.open || !self.split.is_level(self.stored);
        if self.split.known.is_some() && (waits || self.split.is_as_wanted()) {
            return Ok(());
        }
        self.claim().await
    }

    async fn claim(&mut self) -> Result<(), Trouble> {
        self.split.writers.clear();
        let known = self.sink.lanes(self.split.count).await?;
        if known.is_ahead(self.stored) {
            tracing::info!(
                "route {}: lanes are ahead of offset {}; the route first comes as far as offset {}",
                self.deliver.route,
                self.stored,
                known.foremost()
            );
        }
        self.split.known = Some(known);
        Ok(())
    }

    /// Leaves out what lanes that are ahead have applied.
    pub(super) fn skip_applied(
        &self,
        batches: &[Stored],
        rows: &mut Rows,
    ) -> Result<(), SinkError> {
        let Some(known) = &self.split.known else { return Ok(()) };
        if !known.is_ahead(self.at) {
            return Ok(());
        }
        let mut key = Vec::new();
        let mut kept = Vec::with_capacity(rows.changes.len());
        for change in &rows.changes {
            let stored = batches.get(change.batch as usize);
            let offset = stored.map_or(self.at, |s| s.offset(change.event as usize));
            rows.key(change, &mut key).map_err(|e| self.malformed(&e))?;
            let lane = lane_of(&rows.shape(change).into, &key, known.count());
            if offset >= known.places[usize::from(lane)] {
                kept.push(*change);
            }
        }
        rows.changes = kept;
        Ok(())
    }

    /// Whether these changes may go to the target in lanes.
    fn may_split(&self, rows: &Rows, commit: bool) -> bool {
        self.split.count > 1
            && commit
            && !self.open
            && rows.changes.len() >= CHANGES_MIN * usize::from(self.split.count)
            && self.split.is_as_wanted()
            && self.split.is_level(self.stored)
            && self.window.is_wide()
            && rows.shapes.iter().all(|s| self.prepared.contains(&s.shape.schema))
    }

    /// Applies in lanes what may be, in two steps: every lane writes its part, and when all have,
    /// they commit, and after them the route's checkpoint. `None` when nothing was written and all of
    /// it has to go together.
    pub(super) async fn in_lanes(
        &mut self,
        rows: &Rows,
        (end, commit): (Offset, bool),
        position: Position,
    ) -> Result<Option<Part>, Trouble> {
        if !self.may_split(rows, commit) {
            return Ok(None);
        }
        if self.split.rest > 0 {
            self.split.rest -= 1;
            return Ok(None);
        }
        let parts = rows.split(self.split.count).map_err(|e| self.malformed(&e))?;
        let Some(parts) = parts else { return Ok(None) };
        if self.split.writers.is_empty() && !self.open_writers().await? {
            return Ok(None);
        }
        let progress = Progress { from: self.stored, next: end, position, commit: false };
        let work = self.split.writers.iter_mut().zip(&parts);
        let work = work.filter(|(_, part)| !part.changes.is_empty());
        let written = join_all(work.map(|(w, part)| w.apply(part, progress))).await;
        if let Some(error) = first_error(written)? {
            tracing::debug!("route {}: a lane could not write: {error}", self.deliver.route);
            self.split.in_vain();
            // Asked again, they take back what they wrote: it may be in the way of the same rows.
            self.open_writers().await?;
            return Ok(None);
        }
        let (nothing, progress) = (Rows::default(), Progress { commit: true, ..progress });
        let work = self.split.writers.iter_mut().zip(&parts);
        let work = work.filter(|(_, part)| !part.changes.is_empty());
        let committed = join_all(work.map(|(w, _)| w.apply(&nothing, progress))).await;
        if let Some(error) = first_error(committed)? {
            tracing::debug!("route {}: a lane could not commit: {error}", self.deliver.route);
            self.split.in_vain();
            // Which of them did, only the target knows.
            self.claim().await?;
            return Ok(Some(Part::Torn));
        }
        let shapes = Rows { shapes: rows.shapes.clone(), ..Rows::default() };
        self.apply(&shapes, end, position, true).await?;
        self.changes += rows.changes.len() as u64;
        self.split.vain = 0;
        Ok(Some(Part::Applied))
    }

    /// Connects every lane's writer; takes back what they had not committed. `false` when they cannot be
    /// connected now: the route can do without, or meets the same and tells of it.
    async fn open_writers(&mut self) -> Result<bool, Trouble> {
        let Some(known) = &self.split.known else { return Ok(false) };
        if self.split.writers.is_empty() {
            let lane = |index| Lane { index, of: known.count(), claim: known.claim };
            let Deliver { database, spec, .. } = self.deliver;
            let spec = |index| SinkSpec { track: Which::Lane(lane(index)), ..spec.clone() };
            let writers = (0..known.count()).map(|index| database.sink(spec(index)));
            self.split.writers = writers.collect();
        }
        let log = self.log;
        let open = join_all(self.split.writers.iter_mut().map(|w| w.wants(log))).await;
        let open = open.into_iter().map(|found| found.map(|_| ())).collect();
        let Some(error) = first_error(open)? else { return Ok(true) };
        tracing::warn!(
            "route {}: it goes on without lanes for now: {}",
            self.deliver.route,
            TroubleReport::of(&error).line()
        );
        self.split.writers.clear();
        self.split.in_vain();
        Ok(false)
    }

    fn malformed(&self, error: &rowcast_core::Malformed) -> SinkError {
        SinkError::Bug { service: self.deliver.route.to.clone(), what: error.to_string() }
    }
}

/// The first thing that went wrong, when it is no reason to stop: one that a single transaction may
/// not meet, or that it meets as well and can tell of.
fn first_error(results: Vec<Result<(), SinkError>>) -> Result<Option<SinkError>, Trouble> {
    let mut first = None;
    for error in results.into_iter().filter_map(Result::err) {
        if matches!(error, SinkError::Checkpoint { .. }) || error.remedy() == Remedy::Bug {
            return Err(error.into());
        }
        first.get_or_insert(error);
    }
    Ok(first)
}
