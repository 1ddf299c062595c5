//! Two looks that fit together: the source's rows at L, the copies at a checkpoint that lies at or
//! after L, and what the log holds between them.

use super::overlay::Overlay;
use super::{History, Stop, Verify, overlays};
use rowcast_core::{
    Checkpoint, CopyView, EntityName, LogError, Offset, Op, Point, SinkError, SourceError,
    SourceView, Stored,
};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// How often the log and the checkpoint are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What was seen.
pub(super) struct Looked {
    pub(super) source: Box<dyn SourceView>,
    pub(super) copies: Box<dyn CopyView>,
    /// At which the copies were seen.
    pub(super) checkpoint: Checkpoint,
    /// What changed from L to the checkpoint.
    pub(super) replayed: Replayed,
}

/// What the log was replayed into.
pub(super) struct Replayed {
    pub(super) overlays: HashMap<EntityName, Overlay>,
    /// Everything before this is in the overlays.
    upto: Offset,
}

/// Where the log's events begin to be later than L.
struct Window {
    /// Every change at or after L stands here or later.
    start: Offset,
    /// A copy with this checkpoint has everything before L that concerns it.
    needed: Offset,
}

impl Verify {
    /// Looks at both sides and replays what lies between.
    pub(super) async fn look(&self, history: &mut dyn History) -> Result<Looked, Stop> {
        self.say("looking at both sides");
        let mut copies = self.subscriber.copy_view(&self.sink.route);
        // The copy first: whatever it has by now, the source's rows have too.
        let before = self.checkpoint(copies.as_mut(), history).await?;
        let mut source = self.publisher.source_view(&self.source).await?;
        if before.position.is_some_and(|p| !source.has_history_of(&p)) {
            return Err(SourceError::Epoch {
                service: self.source.service.clone(),
                what: "the copy was filled from another database, or before a restore".into(),
                help: "start `rowcast run`: it says what became of the history, and what to do"
                    .into(),
            }
            .into());
        }
        if self.running {
            // An idle source says where it stands only when something is written.
            self.publisher.mark(&self.source.service).await?;
        }
        self.say("waiting for the log");
        let window = self.window(history, before.next, source.as_mut()).await?;
        self.say("waiting for the copy");
        let checkpoint = self.reach(copies.as_mut(), history, window.needed).await?;
        let overlays = overlays(&self.sink.subscriptions, source.as_ref());
        let mut replayed = Replayed { overlays, upto: window.start };
        self.replay(history, &mut replayed, checkpoint.next).await?;
        Ok(Looked { source, copies, checkpoint, replayed })
    }

    /// The copy's checkpoint; refuses one of another log.
    async fn checkpoint(
        &self,
        copies: &mut dyn CopyView,
        history: &dyn History,
    ) -> Result<Checkpoint, Stop> {
        let help = "start `rowcast run`; once its copies are there they can be compared";
        let nothing = || self.not_yet("nothing has been copied so far", help);
        let (log, checkpoint) = copies.look().await?.ok_or_else(nothing)?;
        if checkpoint.position.is_none() {
            return Err(nothing().into());
        }
        if log == history.log() {
            return Ok(checkpoint);
        }
        let help = "name the configuration file whose data directory wrote this copy";
        Err(SinkError::other_log(self.sink.route.clone(), log, history.log(), help).into())
    }

    fn entities(&self) -> HashSet<EntityName> {
        self.sink.subscriptions.iter().map(|s| s.entity.clone()).collect()
    }

    /// Finds the place of the source's look in the log, waiting until the log reaches it.
    async fn window(
        &self,
        history: &mut dyn History,
        from: Offset,
        source: &mut dyn SourceView,
    ) -> Result<Window, Stop> {
        let (point, entities) = (source.point(), self.entities());
        let deadline = Instant::now() + self.patience;
        let mut search = Search { point, start: None, needed: Offset(0) };
        for entity in &entities {
            let complete = history.complete_from(entity).await?;
            search.needed = search.needed.max(complete.ok_or_else(|| {
                let help = "`rowcast status` shows how far it is, while `rowcast run` runs";
                self.not_yet(format!("{entity} is still being copied"), help)
            })?);
        }
        let mut at = from;
        loop {
            let batches = history.read(at).await?;
            for stored in &batches {
                if search.is_done_with(stored, at, &entities) {
                    return Ok(search.window(at));
                }
                at = stored.end().max(at);
            }
            if !batches.is_empty() {
                continue;
            }
            let position = history.position();
            if search.start.is_none() && position.is_some_and(|p| p.covers(point)) {
                return Ok(search.window(at));
            }
            if !self.running {
                let unlogged = match &position {
                    Some(position) => source.has_unlogged(position).await?,
                    None => true,
                };
                if unlogged {
                    return Err(self.unlogged().into());
                }
                return Ok(search.window(at));
            }
            if Instant::now() > deadline {
                let what = format!("the event log has not reached {point} in {:?}", self.patience);
                let help = "`rowcast status` shows whether capture waits, and why";
                return Err(self.not_yet(what, help).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn unlogged(&self) -> super::VerifyError {
        self.not_yet(
            format!("{} has changes that nobody has captured yet", self.source.service),
            "start `rowcast run`, or run `rowcast run --until-caught-up`, and compare then",
        )
    }

    /// Looks at the copies once they have everything before `needed`.
    async fn reach(
        &self,
        copies: &mut dyn CopyView,
        history: &dyn History,
        needed: Offset,
    ) -> Result<Checkpoint, Stop> {
        let deadline = Instant::now() + self.patience;
        loop {
            let checkpoint = self.checkpoint(copies, history).await?;
            if checkpoint.next >= needed {
                return Ok(checkpoint);
            }
            if !self.running || Instant::now() > deadline {
                let what = format!(
                    "the copy stands at offset {}, and {needed} is needed",
                    checkpoint.next
                );
                let help = if self.running {
                    "`rowcast status` shows how far the route is and why it waits"
                } else {
                    "start `rowcast run`, or run `rowcast run --until-caught-up`, and compare then"
                };
                return Err(self.not_yet(what, help).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Brings the overlays up to an offset that some copy has applied already.
    pub(super) async fn replay(
        &self,
        history: &mut dyn History,
        replayed: &mut Replayed,
        upto: Offset,
    ) -> Result<(), Stop> {
        let deadline = Instant::now() + self.patience;
        while replayed.upto < upto {
            let batches = match history.read(replayed.upto).await {
                Err(LogError::Trimmed { .. }) => {
                    return Err(Stop::Again("the log forgot what was just written"));
                }
                other => other?,
            };
            for stored in &batches {
                replay(stored, replayed.upto, upto, &mut replayed.overlays)?;
                replayed.upto = stored.end().min(upto).max(replayed.upto);
            }
            if batches.is_empty() {
                if Instant::now() > deadline {
                    let what = format!("its checkpoint {upto} lies after the end of this log");
                    let help = "this data directory is an old copy: name the newest one";
                    return Err(self.not_yet(what, help).into());
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

/// Looks for the first change at or after a point, and how much a copy needs for what was before it.
struct Search {
    point: Point,
    start: Option<Offset>,
    needed: Offset,
}

impl Search {
    /// Whether everything was found, the start being in this batch or in one before.
    ///
    /// A source that does not know its transactions tells several as one, so the one that ends at or
    /// after the point may have begun before it: a copy needs it as well.
    fn is_done_with(
        &mut self,
        stored: &Stored,
        from: Offset,
        entities: &HashSet<EntityName>,
    ) -> bool {
        let batch = &stored.batch;
        let mut index = 0;
        for (number, transaction) in batch.transactions.iter().enumerate() {
            if number > 0 && self.start.is_some() {
                return true;
            }
            for _ in 0..transaction.events {
                let event = &batch.events[index];
                let offset = stored.offset(index);
                index += 1;
                let change = match event.op {
                    Op::Create | Op::Update | Op::Delete | Op::Truncate => true,
                    // Rows of a snapshot are as new as the changes before them.
                    Op::Read => false,
                    Op::Schema | Op::Complete | Op::End => continue,
                };
                if offset < from {
                    continue;
                }
                if change && transaction.at.value() >= self.point.value() {
                    self.start.get_or_insert(offset);
                }
                if entities.contains(&batch.schema(event).entity) {
                    self.needed = self.needed.max(Offset(offset.0 + 1));
                }
            }
        }
        batch.whole && self.start.is_some()
    }

    /// What was found; without a later change the window begins where the log ends.
    fn window(&self, end: Offset) -> Window {
        Window { start: self.start.unwrap_or(end), needed: self.needed }
    }
}

fn replay(
    stored: &Stored,
    from: Offset,
    upto: Offset,
    overlays: &mut HashMap<EntityName, Overlay>,
) -> Result<(), Stop> {
    let batch = &stored.batch;
    for (i, event) in batch.events.iter().enumerate() {
        let offset = stored.offset(i);
        if offset < from || offset >= upto {
            continue;
        }
        let schema = batch.schema(event);
        if let Some(overlay) = overlays.get_mut(&schema.entity) {
            overlay.replay(event.op, schema, batch.before(event), batch.after(event))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
