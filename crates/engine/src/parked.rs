//! What the board can say and do about parked keys.

use crate::board::Board;
use crate::deliver::{Job, ParkError, ParkOutcome, ParkWhich, ParkedEntry};
use crate::live::RouteEntry;
use rowcast_core::RouteId;

impl Board {
    fn entry(&self, route: &RouteId) -> Result<RouteEntry, ParkError> {
        let live = self.live();
        let entry = live.routes.iter().find(|r| r.route == *route).cloned();
        entry.ok_or_else(|| ParkError::NoRoute(route.clone()))
    }

    /// The parked keys of a route, or of all routes, the oldest first.
    ///
    /// # Errors
    /// When there is no such route.
    pub fn parked(&self, route: Option<&RouteId>) -> Result<Vec<ParkedEntry>, ParkError> {
        let routes = match route {
            Some(route) => vec![self.entry(route)?],
            None => self.live().routes.clone(),
        };
        let all = routes.iter().flat_map(|entry| {
            let list = entry.desks().flat_map(|desk| desk.shelf().list());
            list.map(|parked| ParkedEntry::new(&entry.route, &parked, false))
        });
        Ok(all.collect())
    }

    /// The parked keys that are meant, with the database's words and the pending rows.
    ///
    /// # Errors
    /// When there is no such route, or nothing like that is parked on it.
    pub fn parked_rows(
        &self,
        route: &RouteId,
        which: &ParkWhich,
    ) -> Result<Vec<ParkedEntry>, ParkError> {
        let entry = self.entry(route)?;
        let list = entry.desks().flat_map(|desk| desk.shelf().list());
        let list = list.filter(|p| which.takes(p));
        let found: Vec<_> = list.map(|p| ParkedEntry::new(&entry.route, &p, true)).collect();
        if found.is_empty() { Err(ParkError::NoKey(route.clone())) } else { Ok(found) }
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
