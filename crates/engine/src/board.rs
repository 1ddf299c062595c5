//! The board: what a running node knows of itself, for whoever asks.

use crate::capture::CaptureState;
use crate::deliver::SideState;
use crate::live::{Live, PublisherEntry, RouteEntry};
use crate::pace::{Condition, Phase, Tally};
use crate::retain::GAP;
use crate::status::{
    BuildStatus, LogStatus, RouteStatus, ServiceStatus, SnapshotStatus, Status, SubscriptionStatus,
    WaitStatus,
};
use crate::subscriptions::Subscriptions;
use rowcast_core::{
    ByteSize, EntityName, EventLog, Offset, Origin, Point, RouteId, ServiceName, Tail,
};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A running node, as seen from outside. Asking it never holds it up.
pub struct Board {
    pub(crate) log: Arc<dyn EventLog>,
    live: RwLock<Arc<Live>>,
    subscriptions: Option<Arc<Subscriptions>>,
}

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// No such route.
    #[error("there is no route {0}")]
    NoRoute(RouteId),
    /// The position is of another kind than the publisher's.
    #[error("{point} is no position of {service}, whose positions look like {example}")]
    Foreign {
        /// What was given.
        point: Point,
        /// Whose positions are asked for.
        service: ServiceName,
        /// One of its own.
        example: Point,
    },
    /// It did not arrive in time.
    #[error("{point} did not arrive over {route} within {waited:?}")]
    Timeout {
        /// Which route.
        route: RouteId,
        /// What was waited for.
        point: Point,
        /// How long.
        waited: Duration,
    },
    /// The copies are not complete yet.
    #[error("{route} was not live within {waited:?}")]
    NotLive {
        /// Which route.
        route: RouteId,
        /// How long.
        waited: Duration,
    },
    /// The log cannot be asked.
    #[error("the event log of {0} cannot be read")]
    Log(ServiceName),
}

impl Board {
    pub(crate) fn new(log: Arc<dyn EventLog>, subscriptions: Option<Arc<Subscriptions>>) -> Self {
        Self { log, live: RwLock::default(), subscriptions }
    }

    /// From now on the node has this in hand.
    pub(crate) fn show(&self, live: Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }

    /// What the node has in hand now; routes come and go, so ask again each time.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The subscriptions, and how to change them; `None` when this node's routes are fixed.
    pub fn subscriptions(&self) -> Option<&Arc<Subscriptions>> {
        self.subscriptions.as_ref()
    }

    /// Everything at this moment.
    pub async fn status(&self) -> Status {
        let live = self.live();
        let mut services = Vec::new();
        for publisher in &live.publishers {
            services.push(self.service(publisher).await);
        }
        let mut routes = Vec::new();
        for route in &live.routes {
            let publisher = live.publishers.iter().find(|p| p.service == route.route.from);
            let follows = publisher.is_none_or(|p| p.state.borrow().follows());
            routes.push(self.route(route, follows).await);
        }
        Status { services, routes }
    }

    /// Waits until everything that `route`'s publisher committed before `point` is visible at its
    /// subscriber: read your own write elsewhere. Cancel safe.
    pub async fn wait(
        &self,
        route: &RouteId,
        point: Point,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let live = self.live();
        let entry = live.routes.iter().find(|r| r.route == *route);
        let entry = entry.ok_or_else(|| WaitError::NoRoute(route.clone()))?;
        let arrival = async {
            let end = self.logged(&route.from, point).await?;
            applied(entry, end).await;
            Ok(())
        };
        let arrival = async {
            tokio::select! {
                arrived = arrival => arrived,
                () = entry.gone.cancelled() => Err(WaitError::NoRoute(route.clone())),
            }
        };
        tokio::time::timeout(timeout, arrival).await.unwrap_or_else(|_| {
            Err(WaitError::Timeout { route: route.clone(), point, waited: timeout })
        })
    }

    /// Waits until the log holds everything committed before `point`; the offset after it.
    pub(crate) async fn logged(
        &self,
        service: &ServiceName,
        point: Point,
    ) -> Result<Offset, WaitError> {
        let broken = |_| WaitError::Log(service.clone());
        let tail = self.log.tail(service).await.map_err(broken)?;
        let (mut next, mut position) = (tail.next, tail.position);
        loop {
            if let Some(at) = position {
                if std::mem::discriminant(&at.point) != std::mem::discriminant(&point) {
                    let (service, example) = (service.clone(), at.point);
                    return Err(WaitError::Foreign { point, service, example });
                }
                if at.covers(point) {
                    return Ok(next);
                }
            }
            (next, position) = self.log.moved(service, position).await.map_err(broken)?;
        }
    }

    async fn service(&self, publisher: &PublisherEntry) -> ServiceStatus {
        let state = publisher.state.borrow().clone();
        let heard_ms = u64::try_from(state.silent_for().as_millis()).unwrap_or(u64::MAX);
        let CaptureState { condition, kept, captured_events, gap, .. } = state;
        let tail = self.log.tail(&publisher.service).await.ok();
        let snapshots = tail.as_ref().map_or_else(Vec::new, |t| snapshots(t, &publisher.entities));
        let state = match condition.phase {
            Phase::Starting => "starting",
            Phase::Retrying => "retrying",
            Phase::Paused => "paused",
            Phase::Running if snapshots.iter().all(|s| s.done) => "capturing",
            Phase::Running => "snapshotting",
        };
        ServiceStatus {
            name: publisher.service.to_string(),
            state,
            position: tail.as_ref().and_then(|t| Some(t.position?.to_string())),
            log: tail.map_or_else(LogStatus::default, |t| LogStatus {
                first: t.first.0,
                next: t.next.0,
                bytes: t.bytes,
                compacted: t.compacted.0,
            }),
            heard_ms,
            retained_bytes: kept.bytes,
            warning: if gap { Some(GAP.into()) } else { kept.warning },
            snapshots,
            captured_events,
            errors: condition.tally.errors,
            reconnects: condition.tally.reconnects,
            error: condition.trouble.as_ref().map(|t| t.line()),
            trouble: condition.trouble,
        }
    }

    /// `follows` says whether the log holds what the publisher has committed.
    async fn route(&self, entry: &RouteEntry, follows: bool) -> RouteStatus {
        let state = entry.state.borrow().clone();
        let tail = self.log.tail(&entry.route.from).await.ok();
        let lag_events = match (&tail, state.applied) {
            (Some(tail), Some(applied)) => Some(tail.next.0.saturating_sub(applied.0)),
            _ => None,
        };
        let lag_ms = match (lag_events, state.applied) {
            (Some(0), _) => follows.then_some(0),
            (Some(_), Some(applied)) => self.age(&entry.route.from, applied).await,
            _ => None,
        };
        let side = entry.side.borrow().clone();
        let end = tail.as_ref().map(|t| t.next);
        let complete = side.builds.is_empty()
            && tail.is_some_and(|t| {
                entry.entities.iter().all(|e| {
                    t.complete_from(e)
                        .is_some_and(|c| state.applied.is_some_and(|applied| applied >= c))
                })
            });
        // While live copies go on, the route does: what keeps the others is told, but is not its state.
        let some_are_live = side.builds.len() < entry.subscriptions.len();
        let goes_on = some_are_live && state.condition.phase == Phase::Running;
        let (main, beside) = (state.condition.tally, side.condition.tally);
        let tally = Tally {
            errors: main.errors + beside.errors,
            reconnects: main.reconnects + beside.reconnects,
        };
        let condition = worse(state.condition, &side);
        let name = match condition.phase {
            Phase::Retrying | Phase::Paused if goes_on => "bootstrapping",
            Phase::Retrying => "retrying",
            Phase::Paused => "paused",
            Phase::Starting | Phase::Running if complete => "live",
            Phase::Starting | Phase::Running => "bootstrapping",
        };
        RouteStatus {
            from: entry.route.from.to_string(),
            to: entry.route.to.to_string(),
            state: name,
            checkpoint: state.applied.map(|o| o.0),
            lag_events,
            lag_ms,
            applied_events: state.applied_events,
            errors: tally.errors,
            reconnects: tally.reconnects,
            latency: state.latency,
            parked: state.applied.map(|_| entry.desks().map(|d| d.shelf().count() as u64).sum()),
            lanes: entry.lanes,
            whole: entry.lanes <= 1,
            subscriptions: subscriptions(entry),
            error: condition.trouble.as_ref().map(|t| t.line()),
            trouble: condition.trouble,
            building: building(&side, end),
            waiting: [&state.waiting, &side.waiting]
                .iter()
                .filter_map(|shown| shown.now())
                .map(WaitStatus::from)
                .collect(),
        }
    }

    /// Milliseconds since the event at `offset` was committed.
    async fn age(&self, stream: &ServiceName, offset: Offset) -> Option<u64> {
        let chunk = self.log.read(stream, offset, ByteSize(1)).await.ok()?;
        let stored = chunk.batches.first()?;
        let transaction = stored.transaction(stored.index_at(offset))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros() as i64;
        Some(u64::try_from(now - transaction.committed).unwrap_or(0) / 1000)
    }
}

/// What keeps a route: its live subscriptions' trouble first, then that of those being built.
fn worse(main: Condition, side: &SideState) -> Condition {
    let waits = |c: &Condition| matches!(c.phase, Phase::Retrying | Phase::Paused);
    if !waits(&main) && waits(&side.condition) { side.condition.clone() } else { main }
}

fn building(side: &SideState, end: Option<Offset>) -> Vec<BuildStatus> {
    let build = |(entity, into): &(EntityName, String)| BuildStatus {
        entity: entity.to_string(),
        into: into.clone(),
        offset: side.at.map(|o| o.0),
        of: end.map(|o| o.0),
    };
    side.builds.iter().map(build).collect()
}

/// Waits until a route has applied everything before `end`. Cancel safe.
pub(crate) async fn applied(entry: &RouteEntry, end: Offset) {
    let mut state = entry.state.subscribe();
    let reached = state.wait_for(|s| s.applied.is_some_and(|a| a >= end)).await;
    reached.expect("the entry itself keeps the sender alive");
}

fn subscriptions(entry: &RouteEntry) -> Vec<SubscriptionStatus> {
    let word = |(entity, into, origin): &(EntityName, String, Origin)| SubscriptionStatus {
        entity: entity.to_string(),
        into: into.clone(),
        origin: origin.as_str(),
    };
    entry.subscriptions.iter().map(word).collect()
}

fn snapshots(tail: &Tail, entities: &[EntityName]) -> Vec<SnapshotStatus> {
    let word = |entity: &EntityName| {
        let known = tail.snapshots.iter().map(|(s, _)| s).find(|s| s.entity == *entity);
        SnapshotStatus {
            entity: entity.to_string(),
            rows: known.map_or(0, |s| s.rows),
            rows_estimate: known.and_then(|s| s.rows_estimate),
            done: known.is_some_and(|s| s.done),
        }
    };
    entities.iter().map(word).collect()
}
