//! Comparing copies with their source while both go on.
//!
//! The source's rows are seen at one point L of its history, the copy's rows at one checkpoint c that
//! lies at or after L. What lies between is in the log: of the keys it names, the log says what the
//! copy must hold; of all others the source's rows do. So nobody is paused, and no difference is
//! reported that time explains.

mod compare;
mod history;
mod mend;
mod overlay;
mod report;
mod sums;
mod take;
mod window;

pub use history::History;
pub use report::{CopyReport, Difference, DifferentValue, Kind, Verified, VerifyError};

use compare::{Compare, Found, Sides};
use overlay::{Lost, Overlay};
use rowcast_core::{
    Computed, Database, EntityName, Fields, Projection, Schema, Shape, SinkSpec, SourceSpec,
    SourceView, Subscription,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use take::Taker;
use tokio::sync::watch;
use window::Looked;

/// How often a comparison that was overtaken begins again.
const ATTEMPTS_MAX: usize = 5;

/// What is under way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// In plain words.
    pub doing: &'static str,
    /// Which copy, when it is one.
    pub reading: Option<Reading>,
}

/// How far the reading of a copy and its source came.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The subscriber's table.
    pub into: String,
    /// Rows read so far, of the source.
    pub rows: u64,
}

/// What to verify.
pub struct Verify {
    /// The publisher's database.
    pub publisher: Arc<dyn Database>,
    /// What it publishes.
    pub source: SourceSpec,
    /// The subscriber's database.
    pub subscriber: Arc<dyn Database>,
    /// The route and its subscriptions.
    pub sink: SinkSpec,
    /// Somebody captures and applies meanwhile, so that waiting makes sense.
    pub running: bool,
    /// Longest to wait for the log and for the copy.
    pub patience: Duration,
    /// Mend what differs.
    pub repair: bool,
    /// Who wants to know how it goes.
    pub progress: Arc<watch::Sender<Progress>>,
}

/// Why a comparison has no result.
#[derive(Debug)]
enum Stop {
    /// It was overtaken; another one may not be.
    Again(&'static str),
    Failed(VerifyError),
}

impl<E: Into<VerifyError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Self::Again(match lost {
            Lost::Truncated => "the table was truncated meanwhile",
            Lost::TooMuch => "too many rows changed meanwhile",
            Lost::Malformed => "the log holds a malformed row",
        })
    }
}

/// A subscription whose copy is compared.
struct Copy {
    subscription: Subscription,
    /// What the source's rows look like.
    schema: Arc<Schema>,
    /// Of the columns that the copy has.
    shape: Arc<Shape>,
    not_compared: Vec<String>,
    otherwise: Vec<String>,
}

impl Verify {
    /// Compares every copy of the route with its source, and mends what differs if that was asked
    /// for. What a mend did is proved by comparing again.
    ///
    /// # Errors
    /// When there is nothing to compare, or a database or the log cannot be read.
    pub async fn run(&self, history: &mut dyn History) -> Result<Verified, VerifyError> {
        let mut first = self.round(history).await?;
        if !self.repair {
            return Ok(first);
        }
        let mut left = u64::MAX;
        // As long as mending helps.
        while first.left() > 0 && first.left() < left {
            left = first.left();
            let next = self.round(history).await?;
            (first.point, first.checkpoint) = (next.point, next.checkpoint);
            for (copy, now) in first.copies.iter_mut().zip(next.copies) {
                (copy.left, copy.rows, copy.parked) = (now.left, now.rows, now.parked);
                copy.seconds += now.seconds;
                let now: HashMap<_, _> = now.listed.iter().map(|d| (&d.key, d)).collect();
                for listed in &mut copy.listed {
                    let still = now.get(&listed.key);
                    listed.mended = still.is_none();
                    listed.refused = still.and_then(|d| d.refused.clone());
                }
            }
        }
        Ok(first)
    }

    /// Compares, and mends at the end.
    async fn round(&self, history: &mut dyn History) -> Result<Verified, VerifyError> {
        let mut what = "";
        for _ in 0..ATTEMPTS_MAX {
            match self.once(history).await {
                Ok(verified) => return Ok(verified),
                Err(Stop::Again(why)) => what = why,
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        Err(VerifyError::Unsettled { route: self.sink.route.clone(), what })
    }

    fn say(&self, doing: &'static str) {
        self.progress.send_replace(Progress { doing, reading: None });
    }

    fn not_yet(&self, what: impl Into<String>, help: impl Into<String>) -> VerifyError {
        let (what, help) = (what.into(), help.into());
        VerifyError::NotYet { route: self.sink.route.clone(), what, help }
    }

    async fn once(&self, history: &mut dyn History) -> Result<Verified, Stop> {
        let mut looked = self.look(history).await?;
        let (point, checkpoint) = (looked.source.point(), looked.checkpoint.next);
        let mut compared = Vec::new();
        for index in 0..self.sink.subscriptions.len() {
            if self.sink.subscriptions[index].from.is_now() {
                // It never had the rows that were there before.
                continue;
            }
            let began = Instant::now();
            let copy = self.copy(index, &mut looked).await?;
            let entity = &copy.subscription.entity;
            let overlay = looked.replayed.overlays.get_mut(entity);
            let overlay = overlay.ok_or_else(|| self.not_published(entity))?;
            let sides = Sides { source: looked.source.as_mut(), copies: looked.copies.as_mut() };
            let compare =
                Compare::new(&copy, sides, overlay, (&self.sink.route, &self.progress)).await?;
            let (found, taker) = compare.run().await?;
            compared.push(Compared { copy, found, taker, took: began.elapsed() });
        }
        let Looked { source, copies, mut replayed, .. } = looked;
        // Without a write-ahead log, a reader keeps the mending out.
        drop((source, copies));
        for compared in compared.iter_mut().filter(|c| self.repair && c.found.count > 0) {
            self.say("mending");
            let began = Instant::now();
            self.mend(history, &mut replayed, compared).await?;
            compared.took += began.elapsed();
        }
        let copies = compared.into_iter().map(Compared::report).collect();
        Ok(Verified { route: self.sink.route.clone(), point, checkpoint, copies })
    }

    /// The copy of a subscription, in the columns that it has.
    async fn copy(&self, index: usize, looked: &mut Looked) -> Result<Copy, Stop> {
        let subscription = self.sink.subscriptions[index].clone();
        let entity = &subscription.entity.clone();
        let schema = looked.source.schema(entity).cloned();
        let schema = schema.ok_or_else(|| self.not_published(entity))?;
        let mut whole = self.projection(&subscription);
        let shapes = whole.shapes(&schema).map_err(VerifyError::from)?;
        let shape = shapes.first().cloned().ok_or_else(|| self.not_published(entity))?;
        let there = looked.copies.columns(&shape).await?;
        let named: Vec<_> = shape.columns.iter().zip(&there).collect();
        let missing = named.iter().filter(|(_, there)| !**there);
        let mut missing: Vec<String> = missing.map(|(c, _)| c.name.clone()).collect();
        let may_miss = shape.all_fields && shape.key.iter().all(|k| there[*k]);
        if !missing.is_empty() && !may_miss {
            let what = format!("{} has no column {}", subscription.into, missing.join(", "));
            return Err(self.not_yet(what, "`rowcast check` says how to add it").into());
        }
        let otherwise = self.computed(&shape, looked, &mut missing).await?;
        let fields = named.iter().filter(|(_, there)| **there);
        let fields = fields.map(|(c, _)| (c.name.clone(), c.column.name.clone())).collect();
        let subscription =
            Subscription { fields: Fields::Named(fields), create: false, ..subscription };
        let shapes = self.projection(&subscription).shapes(&schema).map_err(VerifyError::from)?;
        let shape = shapes.first().cloned().ok_or_else(|| self.not_published(entity))?;
        Ok(Copy { subscription, schema, shape, not_compared: missing, otherwise })
    }

    /// The columns that the copy computes otherwise than its source; adds those that it lacks to
    /// `missing`. One by the same expression holds what its inputs say, and those are compared.
    async fn computed(
        &self,
        shape: &Shape,
        looked: &mut Looked,
        missing: &mut Vec<String>,
    ) -> Result<Vec<String>, Stop> {
        let mut otherwise = Vec::new();
        if shape.generated.is_empty() {
            return Ok(otherwise);
        }
        let found = looked.copies.computed(shape).await?;
        for (generated, found) in shape.generated.iter().zip(found) {
            let name = &generated.name;
            match found {
                Computed::Alike => {}
                Computed::Missing => missing.push(name.clone()),
                Computed::Otherwise(_) => otherwise.push(name.clone()),
                Computed::Plain => {
                    let (into, from) = (&shape.into, &self.sink.route.from);
                    let what = format!(
                        "{into}'s column {name:?} is a plain one, and {from} computes it and does \
                         not send it, so nobody knows what it should hold"
                    );
                    let help = "`rowcast check` says how to let the copy compute it";
                    return Err(self.not_yet(what, help).into());
                }
            }
        }
        Ok(otherwise)
    }

    fn projection(&self, subscription: &Subscription) -> Projection {
        let route = &self.sink.route;
        Projection::new(route.from.clone(), route.to.clone(), vec![subscription.clone()])
    }

    fn not_published(&self, entity: &EntityName) -> VerifyError {
        let what = format!("{}.{entity} is not published", self.sink.route.from);
        self.not_yet(what, "`rowcast check` says why")
    }
}

/// Overlays of all subscribed entities, without a change yet.
fn overlays(
    subscriptions: &[Subscription],
    source: &dyn SourceView,
) -> HashMap<EntityName, Overlay> {
    let overlay = |s: &Subscription| {
        let schema = source.schema(&s.entity)?;
        Some((s.entity.clone(), Overlay::new(schema)))
    };
    subscriptions.iter().filter_map(overlay).collect()
}

/// A copy and what was found in it.
struct Compared {
    copy: Copy,
    found: Found,
    taker: Taker,
    took: Duration,
}

impl Compared {
    fn report(self) -> CopyReport {
        CopyReport {
            entity: self.copy.subscription.entity.to_string(),
            into: self.copy.subscription.into,
            rows: self.found.rows,
            differences: self.found.count,
            left: self.found.count,
            parked: self.found.parked,
            listed: self.found.details.into_iter().map(|d| d.difference).collect(),
            not_compared: self.copy.not_compared,
            otherwise: self.copy.otherwise,
            seconds: self.took.as_secs_f64(),
        }
    }
}
