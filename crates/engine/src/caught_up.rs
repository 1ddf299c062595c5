//! Catching up: waiting until every route has applied all that was committed at the sources when
//! the waiting began.

use crate::backoff::Backoff;
use crate::board::{Board, applied};
use crate::capture::CaptureState;
use crate::live::{Live, PublisherEntry, RouteEntry};
use crate::pace::Phase;
use crate::trouble::TroubleReport;
use rowcast_core::{Code, Diagnose, Offset, Point, Remedy};
use std::time::Duration;

/// Within this a paused loop has looked again.
const LOOKED_AGAIN: Duration = Duration::from_secs(15);

/// Whether all routes that were looked at have arrived; some may be held by a person.
type Arrived = bool;

impl Board {
    /// Waits until every route has applied all that was committed at the sources when this was
    /// called, snapshots included. Outages are waited out, but for a source whose routes are all
    /// held; routes that come later are not waited for, and those that go are done.
    ///
    /// # Errors
    /// What paused a capture or a route: that waits for a person, so we do not. A route that a person
    /// holds does not cut the others short: it is told of once they have arrived, unless it goes on
    /// meanwhile.
    pub async fn caught_up(&self) -> Result<(), TroubleReport> {
        let live = self.live();
        loop {
            let publishers = live.publishers.iter().map(|p| self.publisher_caught_up(p, &live));
            let arrived = futures::future::try_join_all(publishers).await?;
            if arrived.into_iter().all(|all| all) {
                return Ok(());
            }
            if let Some(trouble) = live.routes.iter().find_map(|r| self.hold_of(r)) {
                return Err(trouble);
            }
        }
    }

    async fn publisher_caught_up(
        &self,
        publisher: &PublisherEntry,
        live: &Live,
    ) -> Result<Arrived, TroubleReport> {
        let routes = live.routes.iter().filter(|r| r.route.from == publisher.service);
        let routes: Vec<_> = routes.collect();
        let end = tokio::select! {
            end = self.end_of(publisher) => end?,
            trouble = paused(&publisher.state, |s| &s.condition) => return Err(trouble),
            () = self.needless(publisher, &routes) => return Ok(false),
            () = publisher.gone.cancelled() => return Ok(true),
        };
        let routes = routes.into_iter().map(|route| self.route_caught_up(route, end));
        let arrived = futures::future::try_join_all(routes).await?;
        Ok(arrived.into_iter().all(|one| one))
    }

    async fn route_caught_up(
        &self,
        entry: &RouteEntry,
        end: Offset,
    ) -> Result<Arrived, TroubleReport> {
        let all = async {
            applied(entry, end).await;
            let mut side = entry.side.subscribe();
            let built = side.wait_for(|s| s.builds.is_empty()).await;
            drop(built.expect("the entry itself keeps the sender alive"));
        };
        tokio::select! {
            // A hold shows as a pause too; here it is no trouble.
            biased;
            () = all => Ok(true),
            () = self.held(entry) => Ok(false),
            trouble = paused(&entry.state, |s| &s.condition) => Err(trouble),
            trouble = side_paused(entry) => Err(trouble),
            // Nobody wants it any more.
            () = entry.gone.cancelled() => Ok(true),
        }
    }

    /// Waits until a source is away, and a person holds every route that needs it.
    async fn needless(&self, publisher: &PublisherEntry, routes: &[&RouteEntry]) {
        if routes.is_empty() {
            return std::future::pending().await;
        }
        let mut state = publisher.state.subscribe();
        let is_away = |s: &CaptureState| s.condition.phase == Phase::Retrying;
        loop {
            futures::future::join_all(routes.iter().map(|r| self.held(r))).await;
            let away = state.wait_for(is_away).await;
            drop(away.expect("the entry itself keeps the sender alive"));
            // One may have been let go while others were looked at.
            if routes.iter().all(|r| self.hold_of(r).is_some()) {
                return;
            }
        }
    }

    /// Waits until a person holds a route.
    async fn held(&self, entry: &RouteEntry) {
        let mut state = entry.state.subscribe();
        // Whoever pauses it shows it in its state, after it is on the board.
        while self.hold_of(entry).is_none() {
            let changed = state.changed().await;
            changed.expect("the entry itself keeps the sender alive");
        }
    }

    /// How a person holds a route, at this moment.
    fn hold_of(&self, entry: &RouteEntry) -> Option<TroubleReport> {
        self.live().routes.iter().find(|r| r.route == entry.route)?.held()
    }

    /// The offset after everything committed up to now, once it is all in the log.
    async fn end_of(&self, publisher: &PublisherEntry) -> Result<Offset, TroubleReport> {
        let point = mark(publisher).await?;
        let broken = |e: &dyn Diagnose| TroubleReport::of(e);
        let service = &publisher.service;
        let logged = self.logged(service, point).await;
        let mut end = logged.map_err(|e| TroubleReport {
            code: None,
            message: e.to_string(),
            causes: Vec::new(),
            help: String::new(),
        })?;
        loop {
            let tail = self.log.tail(service).await.map_err(|e| broken(&e))?;
            let complete: Option<Vec<_>> =
                publisher.entities.iter().map(|e| tail.complete_from(e)).collect();
            if let Some(complete) = complete {
                end = complete.into_iter().fold(end, Offset::max);
                return Ok(end);
            }
            // Snapshot batches need not move the position; looking again is cheap.
            let look_again = tokio::time::sleep(Duration::from_millis(50));
            tokio::select! {
                moved = self.log.moved(service, tail.position) => {
                    moved.map_err(|e| broken(&e))?;
                }
                () = look_again => {}
            }
        }
    }
}

async fn mark(publisher: &PublisherEntry) -> Result<Point, TroubleReport> {
    let mut backoff = Backoff::default();
    // The capture may still be making what marking needs: wait for its first success.
    let mut state = publisher.state.subscribe();
    let ready = state.wait_for(|s| s.condition.phase == Phase::Running).await;
    drop(ready.expect("the entry itself keeps the sender alive"));
    loop {
        match publisher.database.mark(&publisher.service).await {
            Ok(point) => return Ok(point),
            Err(e) if e.remedy() == Remedy::Retry => {
                let wait = backoff.next(&mut rand::rng());
                tokio::time::sleep(wait).await;
            }
            Err(e) => return Err(TroubleReport::of(&e)),
        }
    }
}

/// What pauses the copies that are being built. A log that lacks their beginning is looked at once
/// more: its history may have begun anew meanwhile.
async fn side_paused(entry: &RouteEntry) -> TroubleReport {
    let trouble = paused(&entry.side, |s| &s.condition).await;
    if trouble.code != Some(Code::LogTrimmed.as_str()) {
        return trouble;
    }
    let mut side = entry.side.subscribe();
    let _ = tokio::time::timeout(LOOKED_AGAIN, side.changed()).await;
    paused(&entry.side, |s| &s.condition).await
}

async fn paused<S>(
    state: &tokio::sync::watch::Sender<S>,
    condition: impl Fn(&S) -> &crate::pace::Condition,
) -> TroubleReport {
    let mut state = state.subscribe();
    let waits =
        state.wait_for(|s| condition(s).phase == Phase::Paused && condition(s).trouble.is_some());
    let waits = waits.await.expect("the entry itself keeps the sender alive");
    condition(&waits).trouble.clone().expect("waited for")
}
