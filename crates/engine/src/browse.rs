//! Browsing: what a reader from outside may ask of the streams and of who carries what.

use crate::board::{Board, WaitError};
use rowcast_core::{ByteSize, Chunk, EntityName, LogError, Offset, Point, RouteId, ServiceName};
use std::time::Duration;

/// How soon a wait for complete copies looks again, at first and after a while.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);

impl Board {
    /// The entities that a service publishes; `None` when it publishes nothing here.
    pub fn published(&self, service: &ServiceName) -> Option<Vec<EntityName>> {
        let live = self.live();
        let publisher = live.publishers.iter().find(|p| p.service == *service)?;
        Some(publisher.entities.clone())
    }

    /// The entities that a route carries; `None` when there is no such route.
    pub fn carried(&self, route: &RouteId) -> Option<Vec<EntityName>> {
        let live = self.live();
        let entry = live.routes.iter().find(|r| r.route == *route)?;
        Some(entry.entities.clone())
    }

    /// The oldest offset of a stream that can be read, and the next free one. Only for services
    /// that [publish](Self::published).
    ///
    /// # Errors
    /// When the log cannot be asked.
    pub async fn ends(&self, service: &ServiceName) -> Result<(Offset, Offset), LogError> {
        let tail = self.log.tail(service).await?;
        Ok((tail.first, tail.next))
    }

    /// Durable events from `at` on, as [`EventLog::read`](rowcast_core::EventLog::read) gives them:
    /// waits at the end for something to come. Cancel safe.
    ///
    /// # Errors
    /// As of [`EventLog::read`](rowcast_core::EventLog::read).
    pub async fn read(
        &self,
        service: &ServiceName,
        at: Offset,
        max: ByteSize,
    ) -> Result<Chunk, LogError> {
        self.log.read(service, at, max).await
    }

    /// Waits until a route is live: its copies hold every row that was there. With `point`, also
    /// until everything that was committed before it is visible. Cancel safe.
    pub async fn wait_live(
        &self,
        route: &RouteId,
        point: Option<Point>,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let live = async {
            if let Some(point) = point {
                self.wait(route, point, timeout).await?;
            }
            let RouteId { from, to } = route;
            let mut pause = LOOK;
            loop {
                let status = self.status().await;
                let mut routes = status.routes.into_iter();
                let found = routes.find(|r| r.from == from.as_str() && r.to == to.as_str());
                match found {
                    None => return Err(WaitError::NoRoute(route.clone())),
                    Some(found) if found.state == "live" => return Ok(()),
                    Some(_) => tokio::time::sleep(pause).await,
                }
                pause = (pause * 2).min(LOOK_MAX);
            }
        };
        tokio::time::timeout(timeout, live)
            .await
            .unwrap_or_else(|_| Err(WaitError::NotLive { route: route.clone(), waited: timeout }))
    }
}
