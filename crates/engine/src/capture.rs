//! Capture: one source into one stream. A position is confirmed to the source only after the log
//! made it durable.

use crate::backoff::Backoff;
use crate::pace::{Condition, HasCondition, Next, Phase, after_error, at_work};
use crate::retain::{Kept, Looks, OverLimit, Retain, Watch};
use crate::trouble::Trouble;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use rowcast_core::{
    Batch, BatchBuilder, ByteSize, Database, EventLog, LogError, Offset, Position, Resume,
    ServiceName, Source, SourceError, SourceSpec, Start,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a capture that was in trouble has to hold without a change before it counts as mended.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// Longest that a source waits to hear of what is durable by now. Being woken for every batch would
/// cost more than the word is worth.
const CONFIRM_WITHIN: Duration = Duration::from_millis(10);

/// What others may see of a capture.
#[derive(Debug, Clone, Default)]
pub(crate) struct CaptureState {
    pub(crate) condition: Condition,
    /// Events that this process made durable.
    pub(crate) captured_events: u64,
    pub(crate) kept: Kept,
    /// The source was released, and the new history is not in the log yet.
    pub(crate) gap: bool,
    pub(crate) heard: Heard,
    /// The source's history was compared with the log's, and is the same.
    pub(crate) compared: bool,
}

/// When the source was heard last; until then, when it was first tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard(Instant);

impl Default for Heard {
    fn default() -> Self {
        Self(Instant::now())
    }
}

/// A source that was not heard for so long may have committed what nobody knows of. Longer than a
/// silent one takes to be looked at.
const UNHEARD_AFTER: Duration = Duration::from_secs(30);

impl CaptureState {
    /// The source says something at this moment.
    pub(crate) fn hear(&mut self) {
        self.heard = Heard::default();
    }

    /// How long the source has been silent.
    pub(crate) fn silent_for(&self) -> Duration {
        self.heard.0.elapsed()
    }

    /// Whether the log is known to hold what the source has committed, but for what is under way.
    pub(crate) fn follows(&self) -> bool {
        self.condition.phase == Phase::Running && self.silent_for() < UNHEARD_AFTER
    }
}

impl HasCondition for CaptureState {
    fn condition(&mut self) -> &mut Condition {
        &mut self.condition
    }
}

/// The capture of one publishing service.
pub(crate) struct Capture {
    pub(crate) service: ServiceName,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) spec: SourceSpec,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) state: Arc<watch::Sender<CaptureState>>,
    /// A person asked to give up the old history.
    pub(crate) afresh: Arc<AtomicBool>,
    /// What the source may keep for us.
    pub(crate) retain: Retain,
}

type Pending = Pin<Box<dyn Future<Output = (Position, bool, Result<Offset, LogError>)> + Send>>;

impl Capture {
    /// Captures until told to stop. Returns an error only for a defect of ours.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Trouble> {
        let name = format!("capture of {}", self.service);
        let watch = Watch {
            service: self.service.clone(),
            database: self.database.clone(),
            retain: self.retain,
            state: self.state.clone(),
        };
        let (mut looks, mut backoff) = (Looks::default(), Backoff::default());
        loop {
            // Dropped wherever it waits: what is given up is not worth bringing to an end.
            let over = tokio::select! {
                ended = self.capture(&name, &stop) => return ended,
                over = watch.until_over(&mut looks) => over,
            };
            looks = Looks::default();
            let Err(trouble) = self.release(&watch, over).await else { continue };
            match after_error(&name, trouble, &self.state, &mut backoff, &stop).await {
                Next::Again => {}
                Next::Stop => return Ok(()),
                Next::Bug(trouble) => return Err(trouble),
            }
        }
    }

    /// Lets the source forget what it keeps. The next start begins a new history.
    async fn release(&self, watch: &Watch, over: ByteSize) -> Result<(), Trouble> {
        let history = self.log.tail(&self.service).await?.position.map(|p| p.epoch);
        watch.release(over, history).await?;
        if history.is_some() {
            self.state.send_modify(|s| s.gap = true);
        }
        Ok(())
    }

    /// The same, whatever the source has to keep meanwhile.
    async fn capture(&mut self, name: &str, stop: &CancellationToken) -> Result<(), Trouble> {
        // What was compared may have been another database.
        self.state.send_modify(|s| s.compared = false);
        let mut source = self.database.source(self.spec.clone());
        let mut backoff = Backoff::default();
        loop {
            let Err(trouble) = self.once(name, source.as_mut(), &mut backoff, stop).await else {
                return Ok(());
            };
            match after_error(name, trouble, &self.state, &mut backoff, stop).await {
                Next::Again => {}
                Next::Stop => return Ok(()),
                Next::Bug(trouble) => return Err(trouble),
            }
        }
    }

    async fn once(
        &mut self,
        name: &str,
        source: &mut dyn Source,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Result<(), Trouble> {
        let tail = self.log.tail(&self.service).await?;
        let snapshots = tail.snapshots.iter().map(|(s, _)| s.clone()).collect();
        let afresh = self.afresh.load(Ordering::Relaxed);
        let start = match tail.position {
            Some(_) if afresh => Start::Afresh,
            Some(position) => Start::After(Resume { position, snapshots }),
            // An empty log asked to begin afresh may still meet what an older one left behind.
            None if afresh => Start::Afresh,
            None => Start::Beginning,
        };
        let starting = self.start(source, start, &tail.position);
        match stop.run_until_cancelled(starting).await {
            Some(started) => started?,
            None => return Ok(()),
        }
        self.state.send_modify(|s| {
            s.hear();
            s.compared = true;
        });
        // After trouble, being connected is no proof yet: a log without room would be announced as
        // mended with every try.
        let mut proven = self.state.borrow().condition.trouble.is_none();
        if proven {
            at_work(name, &self.state, backoff);
        }
        let quiet = tokio::time::sleep(PROVEN_AFTER);
        tokio::pin!(quiet);
        let mut pending: FuturesOrdered<Pending> = FuturesOrdered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                batch = source.next() => self.append(batch?, &mut pending).await?,
                () = tokio::time::sleep(CONFIRM_WITHIN), if !pending.is_empty() => {}
                () = &mut quiet, if !proven => {
                    proven = true;
                    at_work(name, &self.state, backoff);
                }
            }
            // Looked at, not waited for.
            while let Some(Some(durable)) = pending.next().now_or_never() {
                self.confirm(source, durable).await?;
                if !std::mem::replace(&mut proven, true) {
                    at_work(name, &self.state, backoff);
                }
            }
        }
        // What was appended is worth confirming: the next start has less to read again.
        while let Some(durable) = pending.next().await {
            self.confirm(source, durable).await?;
        }
        Ok(())
    }

    /// Starts the source; over a gap that a release made, with a new history.
    async fn start(
        &self,
        source: &mut dyn Source,
        start: Start,
        tail: &Option<Position>,
    ) -> Result<(), Trouble> {
        let goes_on = matches!(start, Start::After(_));
        if !(goes_on && self.state.borrow().gap) {
            match source.start(start).await {
                // `release` in the configuration is a person's word on the whole of it. Who has
                // taken it back since is asked.
                Err(SourceError::Released { what, .. })
                    if self.retain.over == OverLimit::Release =>
                {
                    tracing::warn!("{}: {what}; a new history begins", self.service);
                    self.state.send_modify(|s| s.gap = true);
                }
                other => return Ok(other?),
            }
        }
        // What let the database's disk fill up may hold the log up still. A slot made before it
        // takes anything would only be in the way again.
        if let Some(position) = *tail {
            let nothing = BatchBuilder::new().finish(position, position.index == 0);
            self.log.append(&self.service, nothing).await?.await?;
        }
        Ok(source.start(Start::Afresh).await?)
    }

    async fn append(
        &self,
        batch: Batch,
        pending: &mut FuturesOrdered<Pending>,
    ) -> Result<(), Trouble> {
        let (until, fresh, events) = (batch.until, batch.fresh, batch.events.len() as u64);
        tracing::trace!("capture of {}: {events} events up to {until}", self.service);
        // Nobody waits for this moment.
        self.state.send_if_modified(|s| {
            s.hear();
            false
        });
        let commit = self.log.append(&self.service, batch).await?;
        let state = self.state.clone();
        pending.push_back(Box::pin(async move {
            let durable = commit.await;
            if durable.is_ok() {
                // Nobody waits for this number.
                state.send_if_modified(|s| {
                    s.captured_events += events;
                    false
                });
            }
            (until, fresh, durable)
        }));
        Ok(())
    }

    async fn confirm(
        &mut self,
        source: &mut dyn Source,
        (until, fresh, durable): (Position, bool, Result<Offset, LogError>),
    ) -> Result<(), Trouble> {
        durable?;
        if fresh {
            self.afresh.store(false, Ordering::Relaxed);
            self.state.send_if_modified(|s| std::mem::take(&mut s.gap));
        }
        source.confirm(&until).await?;
        Ok(())
    }
}
