//! Enrolling: what the subscriptions of a route and what its target remembers of them make of each
//! other, at every start.

use super::Deliver;
use crate::trouble::Trouble;
use rowcast_core::{
    ByteSize, Checkpoint, EntityName, LogError, LogId, Mark, Member, Membership, Offset, Roll,
    SideMark, Sink, Subscription, Tail,
};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// A wish to build copies of a route anew.
#[derive(Debug)]
pub(crate) struct Rebuild {
    /// Of which entity; of all when nothing is said.
    pub(crate) entity: Option<EntityName>,
    /// Told how many copies will be built, once the target remembers it.
    pub(crate) done: oneshot::Sender<usize>,
}

/// A subscription that the side lane builds.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub(super) subscription: Subscription,
    pub(super) member: Member,
}

/// Who moves in which lane.
#[derive(Debug, Default)]
pub(super) struct Enrolled {
    pub(super) live: Vec<Subscription>,
    pub(super) building: Vec<Build>,
    /// Those that come after the side lane's present ones have joined, or that cannot be built.
    pub(super) waiting: Vec<Build>,
    /// Why those that wait cannot be built.
    pub(super) stuck: Option<Trouble>,
}

/// What a start knows.
struct Known<'a> {
    checkpoint: &'a Checkpoint,
    roll: &'a Roll,
    log: LogId,
    first: Offset,
    /// From which offset on the log has every delete.
    complete_history: Offset,
    asked: &'a [Rebuild],
}

impl Known<'_> {
    /// Whether the log no longer holds everything that comes after `at`.
    fn slept_past(&self, at: Offset) -> bool {
        at < self.first || at < self.complete_history
    }

    /// What a subscription is now.
    fn member(&self, subscription: &Subscription) -> Member {
        let known = self.roll.members.iter().find(|m| m.into == subscription.into);
        let state = match known {
            // An earlier Rowcast has filled this target: all that there were had one checkpoint.
            None if self.roll.members.is_empty() && self.checkpoint.position.is_some() => {
                Membership::Live
            }
            None => Membership::New,
            Some(known) => self.state(known, subscription),
        };
        let state = match state {
            Membership::Live if self.has_to_be_built(subscription) => Membership::Stale,
            other => other,
        };
        let start = known.filter(|_| state.is_building()).map_or(Offset(0), |m| m.start);
        Member {
            into: subscription.into.clone(),
            entity: subscription.entity.clone(),
            definition: subscription.definition(),
            state,
            start,
            log: self.log,
        }
    }

    fn state(&self, known: &Member, subscription: &Subscription) -> Membership {
        let same =
            known.entity == subscription.entity && known.definition == subscription.definition();
        // Where nothing was built yet, no delete is missed.
        let lost_at = |at| at < self.first || (at > known.start && self.slept_past(at));
        let lost = known.log != self.log || self.roll.side.is_none_or(lost_at);
        match known.state {
            Membership::Gone => Membership::New,
            Membership::New | Membership::Stale => known.state,
            Membership::Live if same => Membership::Live,
            Membership::Live => Membership::Stale,
            Membership::Direct if same && !lost => Membership::Direct,
            // Its table has rows by now, so it is built beside them.
            Membership::Direct => Membership::New,
            Membership::Beside if same && !lost => Membership::Beside,
            Membership::Beside => Membership::Stale,
        }
    }

    fn has_to_be_built(&self, subscription: &Subscription) -> bool {
        let wished = |r: &Rebuild| r.entity.as_ref().is_none_or(|e| *e == subscription.entity);
        self.checkpoint.position.is_none()
            || self.slept_past(self.checkpoint.next)
            || self.asked.iter().any(wished)
    }

    /// Every member as it is now, and those among them that changed.
    fn members(&self, subscriptions: &[Subscription]) -> (Vec<Member>, Vec<Member>) {
        let members: Vec<_> = subscriptions.iter().map(|s| self.member(s)).collect();
        let known = |m: &&Member| self.roll.members.contains(m);
        let mut changed: Vec<_> = members.iter().filter(|m| !known(m)).cloned().collect();
        let unwanted = |m: &&Member| {
            m.state != Membership::Gone && !subscriptions.iter().any(|s| s.into == m.into)
        };
        let gone = self.roll.members.iter().filter(unwanted).cloned();
        changed.extend(gone.map(|m| Member { state: Membership::Gone, ..m }));
        (members, changed)
    }
}

impl Deliver {
    /// Brings the target's roll up to the subscriptions, and begins a side lane for those that wait
    /// when there is none.
    pub(super) async fn enroll(
        &self,
        sink: &mut dyn Sink,
        checkpoint: &Checkpoint,
        tail: &Tail,
        asked: &mut Vec<Rebuild>,
    ) -> Result<Enrolled, Trouble> {
        let roll = sink.roll().await?;
        let (log, first, complete_history) = (tail.log, tail.first, tail.complete_history);
        let known = Known { checkpoint, roll: &roll, log, first, complete_history, asked };
        let (members, changed) = known.members(&self.spec.subscriptions);
        let building = members.iter().any(|m| m.state.is_building());
        let drop = !building && roll.side.is_some();
        if drop || !changed.is_empty() {
            let side = if building { SideMark::Leave } else { SideMark::Drop };
            sink.mark(&Mark { at: checkpoint.next, members: changed, side }).await?;
        }
        for rebuild in asked.drain(..) {
            let ours = |m: &&Member| rebuild.entity.as_ref().is_none_or(|e| *e == m.entity);
            let count = members.iter().filter(ours).count();
            // Whoever asked may have gone.
            let _ = rebuild.done.send(count);
        }
        let mut enrolled = Enrolled::default();
        for (member, subscription) in members.into_iter().zip(self.spec.subscriptions.clone()) {
            let build = Build { subscription, member };
            match build.member.state {
                Membership::Live => enrolled.live.push(build.subscription),
                state if state.is_building() => enrolled.building.push(build),
                _ => enrolled.waiting.push(build),
            }
        }
        if enrolled.building.is_empty() && !enrolled.waiting.is_empty() {
            self.begin(sink, checkpoint, tail, &mut enrolled).await?;
        }
        Ok(enrolled)
    }

    /// Begins to build all that wait.
    async fn begin(
        &self,
        sink: &mut dyn Sink,
        checkpoint: &Checkpoint,
        tail: &Tail,
        enrolled: &mut Enrolled,
    ) -> Result<(), Trouble> {
        let starts = match self.starts(checkpoint, tail, &enrolled.waiting).await {
            Ok(starts) => starts,
            // What is live goes on.
            Err(trouble) => {
                enrolled.stuck = Some(trouble);
                return Ok(());
            }
        };
        for build in &mut enrolled.waiting {
            let member = &mut build.member;
            let visible = member.state == Membership::Stale || !sink.is_empty(&member.into).await?;
            member.state = if visible { Membership::Beside } else { Membership::Direct };
            member.start = starts.get(&member.entity).copied().unwrap_or_default();
        }
        enrolled.building = std::mem::take(&mut enrolled.waiting);
        let members: Vec<_> = enrolled.building.iter().map(|b| b.member.clone()).collect();
        let at = members.iter().map(|m| m.start).min().unwrap_or_default();
        let mark = Mark { at: checkpoint.next, members, side: SideMark::Open(at) };
        sink.mark(&mark).await?;
        Ok(())
    }

    /// The offset from which on the log holds everything of each entity: its beginning; or where it
    /// was last read again, when retention has removed the beginning.
    async fn starts(
        &self,
        checkpoint: &Checkpoint,
        tail: &Tail,
        waiting: &[Build],
    ) -> Result<HashMap<EntityName, Offset>, Trouble> {
        let mut starts = HashMap::new();
        if tail.first == Offset(0) {
            return Ok(starts);
        }
        let mut at = tail.first;
        while at < tail.next {
            let chunk = self.log.read(&self.route.from, at, self.share.get()).await?;
            for stored in &chunk.batches {
                for (i, event) in stored.batch.events.iter().enumerate() {
                    let offset = stored.offset(i);
                    let entity = &stored.batch.schema(event).entity;
                    let ours = || waiting.iter().any(|b| b.member.entity == *entity);
                    if offset >= tail.first && stored.batch.is_anew(event) && ours() {
                        starts.insert(entity.clone(), offset);
                    }
                }
            }
            at = chunk.next;
        }
        if waiting.iter().all(|b| starts.contains_key(&b.member.entity)) {
            return Ok(starts);
        }
        let (stream, first) = (self.route.from.clone(), tail.first);
        Err(LogError::Trimmed { stream, at: checkpoint.next, first }.into())
    }

    /// The position that belongs to a place in the log, and whether a transaction ends there.
    pub(super) async fn place(
        &self,
        at: Offset,
    ) -> Result<Option<(rowcast_core::Position, bool)>, Trouble> {
        let Some(last) = at.0.checked_sub(1) else { return Ok(None) };
        let chunk = self.log.read(&self.route.from, Offset(last), ByteSize(1)).await?;
        let position = super::position_at(&chunk.batches, at);
        Ok(Some((position, ends_at(&chunk.batches, at))))
    }
}

/// Whether a transaction ends before `at`, which lies in these batches or at their end.
fn ends_at(batches: &[rowcast_core::Stored], at: Offset) -> bool {
    batches.iter().any(|stored| {
        let mut end = stored.base.0;
        // What compaction left of transactions says nothing about where they ended.
        let ends = stored.batch.sparse.is_none()
            && stored.batch.transactions.iter().any(|t| {
                end += u64::from(t.events);
                end == at.0 && at != stored.end()
            });
        ends || (stored.end() == at && stored.batch.whole)
    })
}

#[cfg(test)]
mod tests;
