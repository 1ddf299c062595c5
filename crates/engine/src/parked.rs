//! What the board can say and do about parked keys.

use crate::board::Board;
use crate::deliver::{Job, ParkError, ParkOutcome, ParkWhich, ParkedEntry, SideState};
use crate::live::RouteEntry;
use crate::pace::{Condition, Phase};
use rowcast_core::RouteId;
use std::time::Duration;

/// Longest to wait for a route that has just begun to say what its target holds.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// What is parked, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParkedList {
    /// The keys, the oldest of each route first.
    pub parked: Vec<ParkedEntry>,
    /// Routes that have not been at their target yet: nobody here knows what, or what else, they
    /// have parked.
    pub unknown: Vec<RouteId>,
}

impl Board {
    fn entry(&self, route: &RouteId) -> Result<RouteEntry, ParkError> {
        let live = self.live();
        let entry = live.routes.iter().find(|r| r.route == *route).cloned();
        entry.ok_or_else(|| ParkError::NoRoute(route.clone()))
    }

    /// The parked keys of a route, or of all routes. Waits a moment for those that have just begun.
    /// Cancel safe.
    ///
    /// # Errors
    /// When there is no such route.
    pub async fn parked(&self, route: Option<&RouteId>) -> Result<ParkedList, ParkError> {
        let routes = match route {
            Some(route) => vec![self.entry(route)?],
            None => self.live().routes.clone(),
        };
        let known = futures::future::join_all(routes.iter().map(is_known)).await;
        let mut list = ParkedList::default();
        for (entry, known) in routes.iter().zip(known) {
            let parked = entry.desks().flat_map(|desk| desk.shelf().list());
            list.parked.extend(parked.map(|p| ParkedEntry::new(&entry.route, &p, false)));
            list.unknown.extend((!known).then(|| entry.route.clone()));
        }
        Ok(list)
    }

    /// The parked keys that are meant, with the database's words and the pending rows. Waits a moment
    /// for a route that has just begun. Cancel safe.
    ///
    /// # Errors
    /// When there is no such route, nothing like that is parked on it, or it is not known yet.
    pub async fn parked_rows(
        &self,
        route: &RouteId,
        which: &ParkWhich,
    ) -> Result<Vec<ParkedEntry>, ParkError> {
        let entry = self.entry(route)?;
        let known = is_known(&entry).await;
        let list = entry.desks().flat_map(|desk| desk.shelf().list());
        let list = list.filter(|p| which.takes(p));
        let found: Vec<_> = list.map(|p| ParkedEntry::new(&entry.route, &p, true)).collect();
        match (found.is_empty(), known) {
            (false, _) => Ok(found),
            (true, true) => Err(ParkError::NoKey(route.clone())),
            (true, false) => Err(ParkError::Unknown(route.clone())),
        }
    }

    /// Tries parked keys again, now. Trying all of a route that has none is done at once: they may
    /// have healed by themselves a moment before.
    ///
    /// # Errors
    /// When there is no such route, it is not at work, or a table or key is named of which nothing is
    /// parked on it.
    pub async fn retry_parked(
        &self,
        route: &RouteId,
        which: ParkWhich,
    ) -> Result<ParkOutcome, ParkError> {
        self.ask_about(route, Job::Retry, which).await
    }

    /// Gives up the pending rows of parked keys: the copy keeps what it has for them until their
    /// next whole row.
    ///
    /// # Errors
    /// As [`retry_parked`](Self::retry_parked).
    pub async fn drop_parked(
        &self,
        route: &RouteId,
        which: ParkWhich,
    ) -> Result<ParkOutcome, ParkError> {
        self.ask_about(route, Job::Drop, which).await
    }

    async fn ask_about(
        &self,
        route: &RouteId,
        job: Job,
        which: ParkWhich,
    ) -> Result<ParkOutcome, ParkError> {
        let entry = self.entry(route)?;
        let mut done: Option<ParkOutcome> = None;
        for desk in entry.desks() {
            if desk.shelf().list().iter().any(|p| which.takes(p)) {
                let outcome = desk.ask(route, job, which.clone()).await?;
                done = Some(done.unwrap_or_default().and(&outcome));
            }
        }
        let done = match done {
            Some(done) => done,
            // What a route that does not work yet has parked, nobody here knows.
            None => entry.desk.ask(route, job, which.clone()).await?,
        };
        let named = !which.takes_all();
        let nothing = done == ParkOutcome::default();
        if named && nothing { Err(ParkError::NoKey(route.clone())) } else { Ok(done) }
    }
}

/// Whether a route has been at its target, and at what it builds there, so that its shelves hold what
/// is parked. Waits a moment for one that is on its way; not for one that waits itself. Cancel safe.
async fn is_known(entry: &RouteEntry) -> bool {
    let waits = |c: &Condition| matches!(c.phase, Phase::Retrying | Phase::Paused);
    let (mut main, mut side) = (entry.state.subscribe(), entry.side.subscribe());
    let told = async {
        let main = main.wait_for(|s| s.applied.is_some() || waits(&s.condition)).await;
        drop(main.expect("the entry itself keeps the sender alive"));
        let side = side.wait_for(|s| s.is_told() || waits(&s.condition)).await;
        drop(side.expect("the entry itself keeps the sender alive"));
    };
    let _ = tokio::time::timeout(TOLD_WITHIN, told).await;
    entry.state.borrow().applied.is_some() && entry.side.borrow().is_told()
}

impl SideState {
    /// Nothing is built, or its target was reached.
    fn is_told(&self) -> bool {
        self.builds.is_empty() || self.at.is_some()
    }
}
