//! The board: what a running node knows of itself, for whoever asks.

use crate::capture::CaptureState;
use crate::deliver::RouteState;
use crate::pace::Phase;
use crate::status::{LogStatus, RouteStatus, ServiceStatus, SnapshotStatus, Status};
use rowcast_core::{
    ByteSize, Database, EntityName, EventLog, Offset, Point, RouteId, ServiceName, Tail,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

pub(crate) struct PublisherEntry {
    pub(crate) service: ServiceName,
    pub(crate) entities: Vec<EntityName>,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) state: Arc<watch::Sender<CaptureState>>,
}

pub(crate) struct RouteEntry {
    pub(crate) route: RouteId,
    pub(crate) entities: Vec<EntityName>,
    pub(crate) state: Arc<watch::Sender<RouteState>>,
}

/// A running node, as seen from outside. Asking it never holds it up.
pub struct Board {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) publishers: Vec<PublisherEntry>,
    pub(crate) routes: Vec<RouteEntry>,
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
    /// The log cannot be asked.
    #[error("the event log of {0} cannot be read")]
    Log(ServiceName),
}

impl Board {
    /// Everything at this moment.
    pub async fn status(&self) -> Status {
        let mut services = Vec::new();
        for publisher in &self.publishers {
            services.push(self.service(publisher).await);
        }
        let mut routes = Vec::new();
        for route in &self.routes {
            routes.push(self.route(route).await);
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
        let entry = self.routes.iter().find(|r| r.route == *route);
        let entry = entry.ok_or_else(|| WaitError::NoRoute(route.clone()))?;
        let arrival = async {
            let end = self.logged(&route.from, point).await?;
            applied(entry, end).await;
            Ok(())
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
        let condition = publisher.state.borrow().condition.clone();
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
            }),
            snapshots,
            error: condition.trouble.as_ref().map(|t| t.line()),
            trouble: condition.trouble,
        }
    }

    async fn route(&self, entry: &RouteEntry) -> RouteStatus {
        let state = entry.state.borrow().clone();
        let tail = self.log.tail(&entry.route.from).await.ok();
        let lag_events = match (&tail, state.applied) {
            (Some(tail), Some(applied)) => Some(tail.next.0.saturating_sub(applied.0)),
            _ => None,
        };
        let lag_ms = match (lag_events, state.applied) {
            (Some(0), _) => Some(0),
            (Some(_), Some(applied)) => self.age(&entry.route.from, applied).await,
            _ => None,
        };
        let complete = tail.is_some_and(|t| {
            entry.entities.iter().all(|e| {
                t.complete_from(e)
                    .is_some_and(|c| state.applied.is_some_and(|applied| applied >= c))
            })
        });
        let name = match state.condition.phase {
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
            parked: 0,
            error: state.condition.trouble.as_ref().map(|t| t.line()),
            trouble: state.condition.trouble,
        }
    }

    /// Milliseconds since the event at `offset` was committed.
    async fn age(&self, stream: &ServiceName, offset: Offset) -> Option<u64> {
        let chunk = self.log.read(stream, offset, ByteSize(1)).await.ok()?;
        let stored = chunk.batches.first()?;
        let mut end = stored.base.0;
        let transaction = stored.batch.transactions.iter().find(|t| {
            end += u64::from(t.events);
            end > offset.0
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros() as i64;
        Some(u64::try_from(now - transaction.committed).unwrap_or(0) / 1000)
    }
}

/// Waits until a route has applied everything before `end`. Cancel safe.
pub(crate) async fn applied(entry: &RouteEntry, end: Offset) {
    let mut state = entry.state.subscribe();
    let reached = state.wait_for(|s| s.applied.is_some_and(|a| a >= end)).await;
    reached.expect("the entry itself keeps the sender alive");
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
