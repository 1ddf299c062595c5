//! Applying what was read, piece by piece, around what does not fit.

use super::look::UNSTORED_WITHIN;
use super::narrow::Part;
use super::{Track, UNSTORED_MAX, position_at};
use crate::trouble::Trouble;
use rowcast_core::{EntityName, Offset, Rows, SinkError, Stored};
use std::collections::HashSet;

impl Track<'_> {
    /// Applies the events from `at` to `end`. Without `commit` they stay invisible at the target
    /// until a later piece commits. A row that does not fit is found and set aside, and the rest is
    /// applied; when that took back earlier pieces, `at` stands at the stored checkpoint afterwards.
    pub(super) async fn piece(
        &mut self,
        batches: &[Stored],
        end: Offset,
        commit: bool,
    ) -> Result<(), Trouble> {
        while self.at < end {
            let (goal, whole) = self.window.goal(batches, self.at, (end, commit));
            let was_open = self.open;
            match self.part(batches, goal, whole).await? {
                Part::Applied => self.window.widen(),
                Part::Torn => {}
                Part::Unfit { offset, error } => {
                    self.window.found(&self.deliver.route, &error);
                    let place = (self.at, goal, whole);
                    self.window.narrow(batches, place, (offset, was_open), error)?;
                    if was_open {
                        self.begin_again();
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn part(
        &mut self,
        batches: &[Stored],
        end: Offset,
        commit: bool,
    ) -> Result<Part, Trouble> {
        let mut rows = self.rows(batches, end)?;
        rows.at_once = self.window.at_once();
        rows.leave_out = !rows.at_once;
        let news = rows.shapes.iter().any(|s| !self.prepared.contains(&s.shape.schema));
        let position = position_at(batches, end);
        let nothing = rows.changes.is_empty() && rows.parks.is_empty();
        let quiet = nothing && !news && !(commit && self.open);
        self.position = Some(position);
        // What makes lanes level is stored at once.
        let recent = self.split.is_level(self.stored)
            && end.0 - self.stored.0 < UNSTORED_MAX
            && self.stored_at.elapsed() < UNSTORED_WITHIN;
        if quiet && (!commit || recent) {
            self.at = end;
        } else if let Some(part) = self.in_lanes(&rows, (end, commit), position).await? {
            if matches!(part, Part::Torn) {
                return Ok(part);
            }
        } else {
            match self.apply(&rows, end, position, commit).await {
                Err(Trouble::Sink(error @ SinkError::Data { .. })) => {
                    self.parking.taken_back();
                    let offset = self.parking.suspect(&rows, batches, &error);
                    return Ok(Part::Unfit { offset, error });
                }
                Err(Trouble::Sink(SinkError::LeftOut { changes, errors })) => {
                    let left = (&changes[..], errors);
                    if let Some(unfit) = self.park_left(batches, rows, left, (end, commit)).await? {
                        return Ok(unfit);
                    }
                }
                applied => applied?,
            }
        }
        if commit {
            self.arrived(batches);
            self.publish();
        }
        Ok(Part::Applied)
    }

    /// The changes from `at` to `end` that go to the target, and what is to be noted beside them.
    fn rows(&mut self, batches: &[Stored], end: Offset) -> Result<Rows, Trouble> {
        let complete = &self.complete;
        let settling = |entity: &EntityName, offset: Offset| {
            complete.get(entity).is_none_or(|complete_from| offset < *complete_from)
        };
        let mut rows = self.projection.rows(batches, self.at, end, settling)?;
        self.skip(batches, end, &mut rows);
        self.skip_applied(batches, &mut rows)?;
        Ok(self.parking.set_aside(rows, batches)?)
    }

    /// The target has written all but what it left out: that is parked in the same transaction.
    async fn park_left(
        &mut self,
        batches: &[Stored],
        mut rows: Rows,
        (left, errors): (&[u32], Vec<SinkError>),
        (end, commit): (Offset, bool),
    ) -> Result<Option<Part>, Trouble> {
        let offsets = errors.iter().map(|error| self.parking.suspect(&rows, batches, error));
        let offset = offsets.collect::<Vec<_>>().into_iter().flatten().min();
        let left: HashSet<u32> = left.iter().copied().collect();
        let mut index = 0..;
        rows.changes.retain(|_| index.next().is_some_and(|i| !left.contains(&i)));
        let mut again = self.rows(batches, end)?;
        if again.changes != rows.changes {
            // What parking makes of it is not what the target has in hand: all of it once more.
            self.parking.taken_back();
            self.sink.wants(self.log).await?;
            let error = errors.into_iter().next();
            return Ok(error.map(|error| Part::Unfit { offset, error }));
        }
        self.changes += std::mem::take(&mut again.changes).len() as u64;
        match self.apply(&again, end, position_at(batches, end), commit).await {
            Err(Trouble::Sink(error @ SinkError::Data { .. })) => {
                self.parking.taken_back();
                Ok(Some(Part::Unfit { offset: None, error }))
            }
            applied => applied.map(|()| None),
        }
    }

    /// The target took back an open transaction: what was read of it is read again.
    fn begin_again(&mut self) {
        (self.at, self.position, self.open) = (self.stored, self.stored_position, false);
        self.prepared.clear();
    }

    /// What others wait for is what the main track has applied.
    pub(super) fn publish(&mut self) {
        let (at, changes) = (self.at, std::mem::take(&mut self.changes));
        let main = self.starts.is_none();
        self.deliver.state.send_if_modified(|s| {
            s.applied_events += changes;
            main && s.applied.replace(at) != Some(at)
        });
    }

    /// Notes how long it took until what readers see now could be seen.
    fn arrived(&self, batches: &[Stored]) {
        if self.changes == 0 || self.starts.is_some() {
            return;
        }
        tracing::trace!(
            "route {}: {} changes are visible up to offset {}",
            self.deliver.route,
            self.changes,
            self.at
        );
        self.deliver.state.send_if_modified(|s| {
            s.latency.arrived(batches, s.applied.unwrap_or(self.stored), self.at);
            false
        });
    }

    /// The end of the last whole transaction that is applied, in the main track.
    pub(super) fn whole(&self) -> Offset {
        self.deliver.state.borrow().applied.unwrap_or(self.stored)
    }

    /// Whether nothing is under way at the target: no open transaction, no lane ahead of the others.
    pub(super) fn is_between(&self) -> bool {
        !self.open && self.split.is_level(self.at)
    }

    /// Whether the main track stands between two transactions.
    pub(super) fn is_whole(&self) -> bool {
        self.is_between() && self.whole() == self.at
    }
}
