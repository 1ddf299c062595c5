//! Enrolling: what the subscriptions of a route and what its target remembers of them make of each
//! other, at every start.

use super::Deliver;
use crate::begin;
use crate::trouble::Trouble;
use rowcast_core::{
    Begin, ByteSize, Checkpoint, EntityName, LogError, LogId, Mark, Member, Membership, Offset,
    Parked, Roll, SideMark, Sink, Subscription, Tail,
};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// A wish to apply the log to copies of a route again.
#[derive(Debug)]
pub(crate) struct Rebuild {
    /// Of which entities; of all when none is named.
    pub(crate) entities: Vec<EntityName>,
    /// From where on, to the rows that are there; without, they are built anew from nothing.
    pub(crate) from: Option<Offset>,
    /// Told once the target remembers it.
    pub(crate) done: oneshot::Sender<Rebuilding>,
}

/// What becomes of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebuilding {
    /// So many copies are built.
    Copies(usize),
    /// Others are being built, and these have to wait.
    Busy,
}

impl Rebuilding {
    fn add(&mut self) {
        if let Self::Copies(count) = self {
            *count += 1;
        }
    }
}

impl Rebuild {
    fn concerns(&self, subscription: &Subscription) -> bool {
        // A copy that begins at some moment cannot be built from before it.
        let named = self.entities.is_empty() || self.entities.contains(&subscription.entity);
        named && !subscription.from.is_now()
    }
}

/// A subscription that the side track builds.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub(super) subscription: Subscription,
    pub(super) member: Member,
}

/// Who moves in which track.
#[derive(Debug, Default)]
pub(super) struct Enrolled {
    pub(super) live: Vec<Subscription>,
    pub(super) building: Vec<Build>,
    /// Those that come after the side track's present ones have joined, or that cannot be built.
    pub(super) waiting: Vec<Build>,
    /// Why those that wait cannot be built.
    pub(super) stuck: Option<Trouble>,
    /// What people who asked for something are told once it shows.
    pub(super) answers: Vec<(oneshot::Sender<Rebuilding>, Rebuilding)>,
}

/// What a start knows.
struct Known<'a> {
    checkpoint: &'a Checkpoint,
    roll: &'a Roll,
    tail: &'a Tail,
    asked: &'a [Rebuild],
    /// What is set aside of live copies; asked only where some begin at a moment.
    parked: &'a [Parked],
    /// Copies being built in a shape that their entity has left, and those that make way for others.
    outdated: &'a [String],
}

impl Known<'_> {
    /// Whether the log no longer holds everything that comes after `at`.
    fn slept_past(&self, at: Offset) -> bool {
        at < self.tail.first || at < self.tail.complete_history
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
        // A copy that begins at some moment cannot be built anew: it begins once more where it is.
        let state = match state {
            Membership::Stale if subscription.from.is_now() => Membership::New,
            other => other,
        };
        let kept = state.is_building() || (subscription.from.is_now() && state.is_waiting());
        let mut start = known.filter(|_| kept).map_or(Offset(0), |m| m.start);
        if known.is_some_and(|k| state.is_waiting() && self.goes_on(k, subscription)) {
            start = begins(self.checkpoint.next, self.checkpoint, &subscription.into, self.parked);
        }
        Member {
            into: subscription.into.clone(),
            entity: subscription.entity.clone(),
            definition: subscription.definition(),
            state,
            start,
            log: self.tail.log,
        }
    }

    fn state(&self, known: &Member, subscription: &Subscription) -> Membership {
        let same =
            known.entity == subscription.entity && known.definition == subscription.definition();
        // Where nothing was built yet, no delete is missed.
        let has_rows = has_rows(known.state, subscription);
        let lost_at = |at: Offset| {
            at < self.tail.first
                || (has_rows && self.slept_past(at.max(known.start)))
                || (at > known.start && self.slept_past(at))
        };
        let lost = known.log != self.tail.log || self.roll.side.is_none_or(lost_at);
        match known.state {
            Membership::Gone => Membership::New,
            Membership::New | Membership::Stale => known.state,
            Membership::Live if same => Membership::Live,
            Membership::Live => Membership::Stale,
            // What takes its place is built beside the rows that it has.
            Membership::Direct if self.is_read_again(known, subscription) => Membership::Stale,
            Membership::Direct if self.outdated.contains(&known.into) => Membership::New,
            Membership::Direct if same && !lost => Membership::Direct,
            // Its table has rows by now, so it is built beside them.
            Membership::Direct => Membership::New,
            Membership::Beside | Membership::Again if self.outdated.contains(&known.into) => {
                Membership::Stale
            }
            Membership::Beside if same && !lost => Membership::Beside,
            Membership::Again if same && !lost => Membership::Again,
            Membership::Beside | Membership::Again => Membership::Stale,
        }
    }

    /// Whether an entity was read again after a copy of it began with the rows that it has.
    fn is_read_again(&self, known: &Member, subscription: &Subscription) -> bool {
        let complete = self.tail.complete_from(&subscription.entity);
        has_rows(known.state, subscription)
            && !subscription.from.is_now()
            && complete.is_none_or(|complete| complete > known.start)
    }

    /// Whether a copy that was live until now, and is none that can be built, lacks nothing before the
    /// checkpoint.
    fn goes_on(&self, known: &Member, subscription: &Subscription) -> bool {
        subscription.from.is_now()
            && known.state == Membership::Live
            && known.log == self.tail.log
            && known.entity == subscription.entity
            && self.checkpoint.position.is_some()
            && !self.slept_past(self.checkpoint.next)
    }

    fn has_to_be_built(&self, subscription: &Subscription) -> bool {
        let wished = |r: &Rebuild| r.from.is_none() && r.concerns(subscription);
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
    /// Brings the target's roll up to the subscriptions, and begins a side track for those that wait
    /// when there is none.
    pub(super) async fn enroll(
        &self,
        sink: &mut dyn Sink,
        checkpoint: &Checkpoint,
        tail: &Tail,
        asked: &mut Vec<Rebuild>,
    ) -> Result<Enrolled, Trouble> {
        let roll = sink.roll().await?;
        // A mark forgets what is parked of a copy that is no longer live.
        let some_begin = self.spec.subscriptions.iter().any(|s| s.from.is_now());
        let parked = if some_begin { sink.parked().await? } else { Vec::new() };
        let (roll, parked) = (&roll, &parked[..]);
        let outdated = &self.side.borrow().outdated.clone()[..];
        let aside = &self.side.borrow().aside.clone()[..];
        let mut known = Known { checkpoint, roll, tail, asked, parked, outdated };
        let (mut members, mut changed) = known.members(&self.spec.subscriptions);
        let gives_way = [aside, outdated].concat();
        if members.iter().any(|m| m.state != Membership::Live && !aside.contains(&m.into)) {
            known.outdated = &gives_way;
            (members, changed) = known.members(&self.spec.subscriptions);
        }
        let building = members.iter().any(|m| m.state.is_building());
        let drop = !building && roll.side.is_some();
        if drop || !changed.is_empty() {
            let side = if building { SideMark::Leave } else { SideMark::Drop };
            sink.mark(&Mark { at: checkpoint.next, members: changed, side }).await?;
        }
        let (members, answers) = self.again(sink, (checkpoint, tail.log), members, asked).await?;
        let answers = asked.drain(..).map(|r| r.done).zip(answers).collect();
        let mut enrolled = Enrolled { answers, ..Enrolled::default() };
        for (member, subscription) in members.into_iter().zip(self.spec.subscriptions.clone()) {
            let build = Build { subscription, member };
            match build.member.state {
                Membership::Live => enrolled.live.push(build.subscription),
                state if state.is_building() => enrolled.building.push(build),
                _ => enrolled.waiting.push(build),
            }
        }
        if enrolled.building.is_empty() && !enrolled.waiting.is_empty() {
            let ready = |b: &Build| !aside.contains(&b.member.into);
            let some = enrolled.waiting.iter().any(ready);
            let (first, later) = enrolled.waiting.drain(..).partition(|b| !some || ready(b));
            enrolled.waiting = first;
            self.begin(sink, checkpoint, (tail, outdated), &mut enrolled).await?;
            enrolled.waiting.extend::<Vec<_>>(later);
        }
        Ok(enrolled)
    }

    /// Takes live copies to which somebody wants a part of the log applied again out of the main
    /// track; only when no others are being built, whose track stands somewhere else. What becomes of
    /// every wish, in their order.
    async fn again(
        &self,
        sink: &mut dyn Sink,
        (checkpoint, log): (&Checkpoint, LogId),
        mut members: Vec<Member>,
        asked: &[Rebuild],
    ) -> Result<(Vec<Member>, Vec<Rebuilding>), Trouble> {
        let count = |r: &Rebuild| {
            let concerned = self.spec.subscriptions.iter().filter(|s| r.concerns(s));
            Rebuilding::Copies(if r.from.is_none() { concerned.count() } else { 0 })
        };
        let mut answers: Vec<_> = asked.iter().map(count).collect();
        let wishes = asked.iter().zip(&mut answers);
        let mut again: Vec<_> = wishes.filter(|(r, _)| r.from.is_some()).collect();
        if again.is_empty() {
            return Ok((members, answers));
        }
        if members.iter().any(|m| m.state.is_building()) {
            again.iter_mut().for_each(|(_, answer)| **answer = Rebuilding::Busy);
            return Ok((members, answers));
        }
        let parked = sink.parked().await?;
        let mut changed = Vec::new();
        for (member, subscription) in members.iter_mut().zip(&self.spec.subscriptions) {
            let ours = again.iter().filter(|(r, _)| r.concerns(subscription));
            let from = ours.filter_map(|(r, _)| r.from).min();
            let Some(from) = from.filter(|_| member.state == Membership::Live) else { continue };
            // Where there is nothing, there is nothing to begin with.
            if sink.is_empty(&member.into).await? {
                continue;
            }
            let start = begins(from, checkpoint, &member.into, &parked);
            *member = Member { state: Membership::Again, start, log, ..member.clone() };
            changed.push(member.clone());
            for (_, answer) in again.iter_mut().filter(|(r, _)| r.concerns(subscription)) {
                answer.add();
            }
        }
        if let Some(at) = changed.iter().map(|m| m.start).min() {
            let mark = Mark { at: checkpoint.next, members: changed, side: SideMark::Open(at) };
            sink.mark(&mark).await?;
        }
        Ok((members, answers))
    }

    /// Begins to build all that wait and can be built.
    async fn begin(
        &self,
        sink: &mut dyn Sink,
        checkpoint: &Checkpoint,
        (tail, outdated): (&Tail, &[String]),
        enrolled: &mut Enrolled,
    ) -> Result<(), Trouble> {
        let waiting = std::mem::take(&mut enrolled.waiting);
        let (later, whole): (Vec<_>, Vec<_>) = waiting.into_iter().partition(Build::begins_later);
        match self.starts(checkpoint, (tail, outdated), &whole).await {
            Ok(starts) => {
                for mut build in whole {
                    let Member { state, into, entity, .. } = &build.member;
                    let visible = *state == Membership::Stale || !sink.is_empty(into).await?;
                    let start = starts.get(entity).copied().unwrap_or_default();
                    build.member.state =
                        if visible { Membership::Beside } else { Membership::Direct };
                    build.member.start = start;
                    enrolled.building.push(build);
                }
            }
            // What is live goes on.
            Err(trouble) => {
                enrolled.stuck = Some(trouble);
                enrolled.waiting = whole;
            }
        }
        for mut build in later {
            let Subscription { entity, from, .. } = &build.subscription;
            match begin::start(&*self.log, (&self.route.from, entity), *from).await {
                Ok(start) => {
                    let member = &mut build.member;
                    // One that was live lacks nothing before its own start.
                    let known = Some(member.start).filter(|known| *known > Offset(0));
                    member.start = known.map_or(start, |known| start.min(known));
                    member.state = Membership::Direct;
                    enrolled.building.push(build);
                }
                Err(error) => {
                    enrolled.stuck = Some(error.into());
                    enrolled.waiting.push(build);
                }
            }
        }
        if enrolled.building.is_empty() {
            return Ok(());
        }
        let members: Vec<_> = enrolled.building.iter().map(|b| b.member.clone()).collect();
        let at = members.iter().map(|m| m.start).min().unwrap_or_default();
        let mark = Mark { at: checkpoint.next, members, side: SideMark::Open(at) };
        sink.mark(&mark).await?;
        Ok(())
    }

    /// The offset from which on the log holds everything of each entity: its beginning; or where it
    /// was last read again, when retention has removed the beginning or that has another shape.
    async fn starts(
        &self,
        checkpoint: &Checkpoint,
        (tail, outdated): (&Tail, &[String]),
        waiting: &[Build],
    ) -> Result<HashMap<EntityName, Offset>, Trouble> {
        let mut starts = HashMap::new();
        let from_beginning = tail.first == Offset(0);
        let late = |b: &Build| !from_beginning || outdated.contains(&b.member.into);
        if !waiting.iter().any(late) {
            return Ok(starts);
        }
        let mut at = tail.first;
        while at < tail.next {
            let chunk = self.log.read(&self.route.from, at, self.share.get()).await?;
            for stored in &chunk.batches {
                for (i, event) in stored.batch.events.iter().enumerate() {
                    let offset = stored.offset(i);
                    let entity = &stored.batch.schema(event).entity;
                    let ours = || waiting.iter().any(|b| late(b) && b.member.entity == *entity);
                    if offset >= tail.first && stored.batch.is_anew(event) && ours() {
                        starts.insert(entity.clone(), offset);
                    }
                }
            }
            at = chunk.next;
        }
        if from_beginning || waiting.iter().all(|b| starts.contains_key(&b.member.entity)) {
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

impl Build {
    /// It begins with the rows that its table has, somewhere in the log.
    fn begins_later(&self) -> bool {
        let from = self.subscription.from;
        let new = self.member.state == Membership::New && from != Begin::Beginning;
        new || from.is_now()
    }

    /// It began with rows: every delete from its start on concerns it.
    pub(super) fn has_rows(&self) -> bool {
        has_rows(self.member.state, &self.subscription)
    }
}

fn has_rows(state: Membership, subscription: &Subscription) -> bool {
    state == Membership::Again
        || (state == Membership::Direct && subscription.from != Begin::Beginning)
}

/// Where to begin with a copy that was live: what it lacks, and what is parked, comes again.
fn begins(from: Offset, checkpoint: &Checkpoint, into: &str, parked: &[Parked]) -> Offset {
    let parked = parked.iter().filter(|p| p.table == into).map(|p| p.first);
    parked.chain([from, checkpoint.next]).min().unwrap_or(from)
}

/// Whether a transaction ends before `at`, which lies in these batches or at their end.
pub(crate) fn ends_at(batches: &[rowcast_core::Stored], at: Offset) -> bool {
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
