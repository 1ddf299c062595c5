//! The side track: builds subscriptions from the log while the live ones go on, and joins them when it
//! has come as far.
//!
//! Nobody relies on what is being built, so it may be stored at any batch; P4 holds from the join on.

use super::enroll::{Build, Enrolled};
use super::junction::Junction;
use super::{Deliver, Start, Track, anew};
use crate::backoff::Backoff;
use crate::pace::{Next, after_error, at_work, in_trouble};
use crate::throttle::{Builder, LEAST};
use crate::trouble::Trouble;
use rowcast_core::{
    ByteSize, Checkpoint, Chunk, Join, LogError, Membership, Offset, Op, Projection, RouteId, Rows,
    Shape, ShapeUse, Sink, SinkError, SinkSpec, Stored, Tail, Track as Which, listed,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Events between the tracks for which the main one is asked to wait.
const NEAR_EVENTS: u64 = 1000;
/// How often that doubles for a side track that has been all the way and does not get nearer: in the
/// end the main track waits for as long as it takes.
const DOUBLED_EVERY: Duration = Duration::from_secs(10);

impl Deliver {
    /// Builds until the subscriptions have joined, or the route is looked at anew for another reason.
    pub(super) async fn side_track(
        &self,
        enrolled: &mut Enrolled,
        patience: &mut Backoff,
        junction: &Junction,
        here: &CancellationToken,
    ) -> Result<(), Trouble> {
        let name = format!("route {}, copies being built", self.route);
        let mut backoff = Backoff::default();
        // What cannot be built waits for what can.
        if let Some(trouble) = enrolled.stuck.take().filter(|_| enrolled.building.is_empty()) {
            return match after_error(&name, trouble, &self.side, patience, here).await {
                Next::Again | Next::Stop => Ok(()),
                Next::Bug(trouble) => Err(trouble),
            };
        }
        patience.reset();
        if enrolled.building.is_empty() {
            here.cancelled().await;
            return Ok(());
        }
        let spec = SinkSpec { track: Which::Side, ..self.spec.clone() };
        let mut sink = self.database.sink(spec);
        self.side.send_modify(|s| s.waiting = sink.waiting());
        loop {
            let build = Building { deliver: self, junction, here, builds: &enrolled.building };
            let ended = build.run(sink.as_mut(), &name, &mut backoff).await;
            junction.release();
            let trouble = match ended {
                // Retention went past it: the enrolling finds another place to begin.
                Ok(())
                | Err(Trouble::Log(LogError::Trimmed { .. } | LogError::Forgotten { .. })) => {
                    return Ok(());
                }
                Err(trouble) => trouble,
            };
            let outdated = match &trouble {
                Trouble::Sink(SinkError::Outdated { into, .. }) => Some(into.clone()),
                _ => None,
            };
            if self.set_aside(enrolled, &trouble) {
                return Ok(());
            }
            match after_error(&name, trouble, &self.side, &mut backoff, here).await {
                Next::Again if outdated.is_some() => {
                    self.side.send_modify(|s| s.outdated.extend(outdated));
                    return Ok(());
                }
                Next::Again => {}
                Next::Stop => return Ok(()),
                Next::Bug(trouble) => return Err(trouble),
            }
        }
    }
}

/// One try of a side track.
struct Building<'a> {
    deliver: &'a Deliver,
    junction: &'a Junction,
    here: &'a CancellationToken,
    builds: &'a [Build],
}

impl<'a> Building<'a> {
    /// The track at its place; nothing when the builds have joined, or everything is looked at anew.
    async fn track<'t>(
        &self,
        sink: &'t mut dyn Sink,
        tail: &Tail,
    ) -> Result<Option<Track<'t>>, Trouble>
    where
        'a: 't,
    {
        let Some(checkpoint) = self.here.run_until_cancelled(sink.wants(tail.log)).await else {
            return Ok(None);
        };
        let Checkpoint { next: at, position } = checkpoint?;
        let roll = sink.roll().await?;
        if roll.side.is_none() || self.builds.iter().any(|b| !roll.members.contains(&b.member)) {
            // They have joined: the answer was lost.
            return Ok(None);
        }
        let again = |b: &&Build| b.member.state == Membership::Again;
        let again: Vec<_> = self.builds.iter().filter(again).map(|b| &b.member.into).collect();
        if !again.is_empty() {
            let mut shapes = self.shapes(tail)?;
            shapes.retain(|s| again.contains(&&s.into));
            sink.seed(&shapes).await?;
        }
        let begins = self.builds.iter().map(|b| b.member.start).min().unwrap_or_default();
        let has_rows = at > begins || self.builds.iter().any(Build::has_rows);
        let start = Start { log: tail.log, at, position, tail, has_rows };
        let subscriptions = self.builds.iter().map(|b| b.subscription.clone()).collect();
        let desk = &self.deliver.side_desk;
        desk.load(sink.parked().await?);
        let mut track = Track::new((self.deliver, desk), sink, start, subscriptions);
        track.projection = track.projection.growing();
        track.starts = Some(self.builds.iter().map(|b| b.member.start).collect());
        track.completes = self.builds.iter().map(Build::has_rows).collect();
        Ok(Some(track))
    }

    async fn run(
        &self,
        sink: &mut dyn Sink,
        name: &str,
        backoff: &mut Backoff,
    ) -> Result<(), Trouble> {
        let tail = self.tail().await?;
        let Some(mut track) = self.track(sink, &tail).await? else { return Ok(()) };
        let mut asks = self.deliver.side_desk.open().await;
        let began = track.stored;
        // To reach the target does not end the trouble with what waits there to be built, or to join.
        let mut untold = in_trouble(&self.deliver.side);
        if !untold {
            at_work(name, &self.deliver.side, backoff);
        }
        let mut pace = Pace::new(self.end(&tail), track.at);
        let builder = self.deliver.share.throttle.builder();
        let (mut rest, mut ahead) = (None, None);
        loop {
            track.heal_due().await?;
            self.deliver.side.send_modify(|s| s.at = Some(track.at));
            let limit = (!self.junction.free).then(|| self.junction.place());
            let tail = self.tail().await?;
            if self.is_near(track.at, limit, &tail, &mut pace).await?
                && self.joined(&mut track).await?
            {
                return Ok(());
            }
            // What was passed over without a word to the target may be passed over in every try.
            let there = limit.map_or(tail.next, |limit| limit.min(tail.next));
            if (track.stored > began || track.at >= there) && std::mem::take(&mut untold) {
                at_work(name, &self.deliver.side, backoff);
            }
            self.junction.release();
            let limited = limit.filter(|limit| track.at >= *limit);
            let due = track.next_due();
            tokio::select! {
                () = self.here.cancelled() => return Ok(()),
                Some(ask) = asks.recv() => track.answer(ask).await?,
                () = due => {}
                chunk = self.more((track.at, &builder), (rest, limited), &mut ahead) => {
                    if let Some(chunk) = chunk? {
                        if self.is_read_again(&chunk, track.at) {
                            return Ok(());
                        }
                        let least = pace.least(self.end(&tail), track.at);
                        let build = self.build(&mut track, &chunk, limit, (&builder, least));
                        (rest, ahead) = tokio::try_join!(build, self.ahead(&chunk, &builder))?;
                    }
                }
            }
        }
    }

    /// Applies a chunk up to `limit`, in pieces that may end anywhere, and rests between them for the
    /// sake of others: a batch may be many times what they would not notice. Returns until when to
    /// rest after that.
    async fn build(
        &self,
        track: &mut Track<'_>,
        chunk: &Chunk,
        limit: Option<Offset>,
        (builder, least): (&Builder<'_>, f64),
    ) -> Result<Option<Instant>, Trouble> {
        track.notice(chunk)?;
        let end = limit.map_or(chunk.next, |limit| limit.min(chunk.next));
        let mut rest = None;
        while track.at < end {
            if let Some(rest) = rest {
                let rested = self.here.run_until_cancelled(tokio::time::sleep_until(rest)).await;
                if rested.is_none() {
                    break;
                }
            }
            let piece = builder.piece();
            let cut = builder.bytes().and_then(|bytes| cut(&chunk.batches, track.at, bytes));
            let cut = cut.map_or(end, |cut| cut.min(end));
            track.whole_rows(&chunk.batches, cut, true).await?;
            rest = piece.done(least);
        }
        Ok(rest)
    }

    async fn tail(&self) -> Result<Tail, Trouble> {
        Ok(self.deliver.log.tail(&self.deliver.route.from).await?)
    }

    /// What comes next; nothing when the main track had to go on first, and has.
    async fn more(
        &self,
        (at, builder): (Offset, &Builder<'_>),
        (rest, limited): (Option<Instant>, Option<Offset>),
        ahead: &mut Option<Chunk>,
    ) -> Result<Option<Chunk>, LogError> {
        if let Some(limit) = limited {
            self.junction.moved_from(limit).await;
            return Ok(None);
        }
        if let Some(rest) = rest {
            tokio::time::sleep_until(rest).await;
        }
        if let Some(chunk) = ahead.take_if(|chunk| chunk.batches[0].base == at) {
            return Ok(Some(chunk));
        }
        let most = self.bytes();
        self.read(at, builder.bytes().map_or(most, |bytes| bytes.min(most))).await.map(Some)
    }

    /// What follows a chunk, read while that is applied, so that the target need not wait for it. Of
    /// less than is read at once there is more by the time it is wanted.
    async fn ahead(&self, chunk: &Chunk, builder: &Builder<'_>) -> Result<Option<Chunk>, Trouble> {
        let (log, from) = (&self.deliver.log, &self.deliver.route.from);
        if builder.bytes().is_some() || log.moved(from, None).await?.0 <= chunk.next {
            return Ok(None);
        }
        // What goes wrong here goes wrong again when it is read in its turn.
        let Ok(next) = self.read(chunk.next, self.bytes()).await else { return Ok(None) };
        let bytes: usize = next.batches.iter().map(|stored| stored.batch.size()).sum();
        let begins = next.batches.first().is_some_and(|stored| stored.base == chunk.next);
        Ok((begins && bytes >= self.bytes().as_usize() / 2).then_some(next))
    }

    /// The main track may hold as much at the same time, and what is read ahead is there besides.
    fn bytes(&self) -> ByteSize {
        ByteSize((self.deliver.share.get().0 / 4).max(1))
    }

    async fn read(&self, at: Offset, max: ByteSize) -> Result<Chunk, LogError> {
        self.deliver.log.read(&self.deliver.route.from, at, max).await
    }

    /// Where the track has to get to at present.
    fn end(&self, tail: &Tail) -> Offset {
        if self.junction.free { tail.next } else { self.junction.place() }
    }

    /// Whether every copy is whole at `at`: its entity was read to the end before.
    fn is_complete(&self, tail: &Tail, at: Offset) -> bool {
        let mut whole = self.builds.iter().filter(|b| !b.subscription.from.is_now());
        whole.all(|b| tail.complete_from(&b.member.entity).is_some_and(|c| c <= at))
    }

    /// Whether it pays to have the main track wait.
    async fn is_near(
        &self,
        at: Offset,
        limit: Option<Offset>,
        tail: &Tail,
        pace: &mut Pace,
    ) -> Result<bool, Trouble> {
        let left = self.end(tail).0.saturating_sub(at.0);
        if left > pace.near(at) || !self.is_complete(tail, limit.unwrap_or(at)) {
            return Ok(false);
        }
        if let Some(limit) = limit {
            // The main track may have to come again to where the side track was already.
            return Ok(at <= limit);
        }
        let whole = self.deliver.place(at).await?.is_some_and(|(_, whole)| whole);
        Ok(whole && at >= self.junction.place())
    }

    /// Joins at the place where the main track waits; `false` when it turns out that the copies are
    /// not whole there.
    async fn joined(&self, track: &mut Track<'_>) -> Result<bool, Trouble> {
        let Some(held) = self.held().await else { return Ok(true) };
        let next = if self.junction.free { track.at } else { held };
        while track.at < next {
            let chunk = self.read(track.at, self.bytes()).await?;
            if self.is_read_again(&chunk, track.at) {
                return Ok(true);
            }
            track.build(&chunk, Some(next)).await?;
        }
        // Asked only now: an entity may have been read again in the last distance.
        let tail = self.tail().await?;
        if !self.is_complete(&tail, next) {
            return Ok(false);
        }
        let Some((position, _)) = self.deliver.place(next).await? else { return Ok(false) };
        let shapes = self.shapes(&tail)?;
        if track.stored < next || self.builds.iter().any(Build::has_rows) {
            // Nothing may have come for a copy since it began; its table is made all the same.
            let used = |shape: &Arc<Shape>| ShapeUse { shape: shape.clone(), settling: false };
            let rows = Rows { shapes: shapes.iter().map(used).collect(), ..Rows::default() };
            track.apply(&rows, next, position, true).await?;
        }
        // What waits for a row that came later has it now.
        track.heal_all().await?;
        track.sink.join(&Join { from: held, next, position, shapes }).await?;
        tracing::info!(
            "route {}: {} joined at offset {next}",
            self.deliver.route,
            listed(&self.builds.iter().map(|b| b.member.into.as_str()).collect::<Vec<_>>())
        );
        Ok(true)
    }

    /// Whether an entity is read again whose copy is filled where readers see it: its rows would
    /// have to go first. The enrolling has another one built beside it.
    fn is_read_again(&self, chunk: &Chunk, at: Offset) -> bool {
        let seen = |b: &&Build| b.member.state == Membership::Direct && b.has_rows();
        let seen = self.builds.iter().filter(seen).map(|b| b.subscription.clone());
        anew::first(chunk, at, &seen.collect::<Vec<_>>()).is_some()
    }

    /// The checkpoint of a main track that waits; `None` when everything is looked at anew.
    async fn held(&self) -> Option<Offset> {
        if self.junction.free {
            return Some(self.junction.place());
        }
        self.here.run_until_cancelled(self.junction.ask()).await
    }

    /// What the subscriptions are from here on. A field that never came shows now.
    fn shapes(&self, tail: &Tail) -> Result<Vec<Arc<Shape>>, Trouble> {
        let RouteId { from, to } = self.deliver.route.clone();
        let subscriptions = self.builds.iter().map(|b| b.subscription.clone()).collect();
        let mut projection = Projection::new(from, to, subscriptions);
        let mut shapes = Vec::new();
        for schema in &tail.schemas {
            shapes.extend(projection.shapes(schema)?);
        }
        Ok(shapes)
    }
}

/// How near is near, and how fast is fast enough.
struct Pace {
    /// The end when the track began.
    all_the_way: Offset,
    /// When the track had come that far.
    since: Option<Instant>,
    /// The share of the time that it has at least, whoever is slowed by it.
    least: f64,
    /// Where the track was, where the end was, and when.
    before: (Offset, Offset, Instant),
}

impl Pace {
    fn new(end: Offset, at: Offset) -> Self {
        Self { all_the_way: end, since: None, least: LEAST, before: (at, end, Instant::now()) }
    }

    /// More for a track that the end runs away from: whoever waits for it would wait for ever.
    fn least(&mut self, end: Offset, at: Offset) -> f64 {
        let (at_before, end_before, since) = self.before;
        if since.elapsed() >= DOUBLED_EVERY {
            let came = at.0.saturating_sub(at_before.0);
            if end.0.saturating_sub(end_before.0) > came / 2 {
                self.least = (self.least * 2.0).min(1.0);
            }
            self.before = (at, end, Instant::now());
        }
        self.least
    }

    fn near(&mut self, at: Offset) -> u64 {
        if at < self.all_the_way {
            return NEAR_EVENTS;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let times = since.elapsed().as_secs() / DOUBLED_EVERY.as_secs();
        NEAR_EVENTS.saturating_mul(1 << times.min(40))
    }
}

impl Track<'_> {
    /// Applies a chunk up to `limit`, whatever transactions it cuts.
    async fn build(&mut self, chunk: &Chunk, limit: Option<Offset>) -> Result<(), Trouble> {
        self.notice(chunk)?;
        let end = limit.map_or(chunk.next, |limit| limit.min(chunk.next));
        self.whole_rows(&chunk.batches, end, true).await
    }

    /// What a chunk says besides its rows.
    fn notice(&mut self, chunk: &Chunk) -> Result<(), Trouble> {
        self.follow_history(chunk)?;
        for stored in &chunk.batches {
            self.notice_snapshots(stored);
        }
        Ok(())
    }

    /// Leaves out what is none of a subscription's business: in a side track what comes before its
    /// start, and rows that were there before the moment at which it begins.
    pub(super) fn skip(&self, batches: &[Stored], end: Offset, rows: &mut Rows) {
        if self.starts.is_none() && !self.now.contains(&true) {
            return;
        }
        let starts = self.starts.as_deref().unwrap_or_default();
        let shapes = &rows.shapes;
        rows.changes.retain(|change| {
            let Some(stored) = batches.get(change.batch as usize) else { return true };
            let subscription = shapes[change.shape as usize].shape.subscription;
            let start = starts.get(subscription).copied().unwrap_or_default();
            let now = self.now.get(subscription).is_some_and(|now| *now);
            let event = &stored.batch.events[change.event as usize];
            let was_there = event.op == Op::Read || stored.batch.is_anew(event);
            stored.offset(change.event as usize) >= start && !(now && was_there)
        });
        // Nor is a table made in a shape that its entity had before.
        let early = |s: &ShapeUse| starts.get(s.shape.subscription).is_some_and(|at| *at >= end);
        if rows.shapes.iter().any(early) {
            let mut kept = 0..;
            let places: Vec<_> =
                rows.shapes.iter().map(|s| (!early(s)).then(|| kept.next())).collect();
            rows.shapes.retain(|s| !early(s));
            for change in &mut rows.changes {
                let place = places[change.shape as usize].flatten();
                change.shape = place.expect("a change that is kept is not early");
            }
        }
    }
}

/// Where to end after about `bytes` of rows from `at` on; `None` when there are no more than that.
fn cut(batches: &[Stored], at: Offset, bytes: ByteSize) -> Option<Offset> {
    let mut left = bytes.as_usize();
    for stored in batches.iter().filter(|s| s.end() > at) {
        let (first, events) = (stored.index_at(at), stored.batch.events.len());
        let each = (stored.batch.rows.len() / events.max(1)).max(1);
        let fit = (left / each).max(1);
        if first + fit < events {
            return Some(stored.offset(first + fit));
        }
        left = left.saturating_sub((events - first) * each);
        if left == 0 {
            return Some(stored.end());
        }
    }
    None
}

#[cfg(test)]
mod tests;
