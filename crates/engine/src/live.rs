//! What a node has in hand at one moment, and where each capture and route says how it is. An
//! entry keeps its state while what it is to do changes, so that whoever waits for it goes on
//! waiting.

use crate::capture::CaptureState;
use crate::deliver::{Desk, Rebuild, RouteState, SideState};
use crate::pace::{Condition, Phase};
use crate::trouble::TroubleReport;
use crate::wanted::{Wanted, WantedRoute};
use rowcast_core::{Database, EntityName, Origin, Pause, RouteId, ServiceName, Subscription};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Wishes for copies built anew that may wait at one route.
const REBUILDS_MAX: usize = 8;

#[derive(Clone)]
pub(crate) struct PublisherEntry {
    pub(crate) service: ServiceName,
    pub(crate) entities: Vec<EntityName>,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) state: Arc<watch::Sender<CaptureState>>,
    /// A person asked to give up the old history, and it has not happened yet.
    pub(crate) afresh: Arc<AtomicBool>,
    /// Ends when the node no longer captures it.
    pub(crate) gone: CancellationToken,
}

#[derive(Clone)]
pub(crate) struct RouteEntry {
    pub(crate) route: RouteId,
    pub(crate) entities: Vec<EntityName>,
    pub(crate) lanes: u16,
    /// Entity, table and origin of each subscription.
    pub(crate) subscriptions: Vec<(EntityName, String, Origin)>,
    pub(crate) pause: Option<Pause>,
    pub(crate) state: Arc<watch::Sender<RouteState>>,
    /// How the publisher's capture is; `None` when nobody captures it here.
    pub(crate) capture: Option<Arc<watch::Sender<CaptureState>>>,
    /// What is parked of the live copies, and of those that are being built.
    pub(crate) desk: Arc<Desk>,
    pub(crate) side_desk: Arc<Desk>,
    /// What is being built beside the live subscriptions.
    pub(crate) side: Arc<watch::Sender<SideState>>,
    /// Wishes for copies built anew, and where the route takes them from.
    pub(crate) rebuild: mpsc::Sender<Rebuild>,
    pub(crate) rebuilds: Arc<Mutex<mpsc::Receiver<Rebuild>>>,
    /// Ends when the node no longer has this route.
    pub(crate) gone: CancellationToken,
}

/// All captures and routes, in the configuration's order.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) publishers: Vec<PublisherEntry>,
    pub(crate) routes: Vec<RouteEntry>,
}

impl Live {
    /// Entries for what is wanted; what was there before keeps its state.
    pub(crate) fn of(wanted: &Wanted, old: &Self) -> Self {
        let publishers = wanted.publishers.iter().map(|publisher| {
            let spec = &publisher.spec;
            let known = old.publishers.iter().find(|e| e.service == spec.service);
            PublisherEntry {
                service: spec.service.clone(),
                entities: spec.entities.iter().map(|e| e.entity.clone()).collect(),
                database: publisher.database.clone(),
                state: known.map_or_else(Default::default, |e| e.state.clone()),
                afresh: known.map_or_else(
                    || Arc::new(AtomicBool::new(publisher.afresh)),
                    |e| e.afresh.clone(),
                ),
                gone: known.map_or_else(CancellationToken::new, |e| e.gone.clone()),
            }
        });
        let publishers: Vec<PublisherEntry> = publishers.collect();
        let routes = wanted.routes.iter().map(|route| {
            let id = &route.spec.sink.route;
            let known = old.routes.iter().find(|e| e.route == *id);
            let publisher = publishers.iter().find(|p| p.service == id.from);
            RouteEntry::of(route, known, publisher.map(|p| p.state.clone()))
        });
        let routes = routes.collect();
        Self { publishers, routes }
    }

    /// Says of everything that is not in `now` that it is gone.
    pub(crate) fn dismiss(&self, now: &Self) {
        for old in &self.publishers {
            if !now.publishers.iter().any(|e| e.service == old.service) {
                old.gone.cancel();
            }
        }
        for old in &self.routes {
            if !now.routes.iter().any(|e| e.route == old.route) {
                old.gone.cancel();
            }
        }
    }

    /// Lets paused routes say who paused them.
    pub(crate) fn show_pauses(&self) {
        for entry in &self.routes {
            let trouble = entry.held();
            if trouble.is_none() {
                continue;
            }
            entry.state.send_if_modified(|s| {
                let news = s.condition.trouble != trouble || s.condition.phase != Phase::Paused;
                let tally = s.condition.tally;
                s.condition = Condition { phase: Phase::Paused, trouble: trouble.clone(), tally };
                news
            });
        }
    }
}

impl RouteEntry {
    /// What is parked of the live copies, and of those that are being built.
    pub(crate) fn desks(&self) -> impl Iterator<Item = &Desk> {
        [&*self.desk, &*self.side_desk].into_iter()
    }

    /// Who paused it, and how to let it go on; `None` when nobody did.
    pub(crate) fn held(&self) -> Option<TroubleReport> {
        let pause = self.pause.as_ref()?;
        Some(TroubleReport {
            code: None,
            message: pause.to_string(),
            causes: Vec::new(),
            help: format!(
                "`rowcast resume {}` lets it go on; the log keeps every change meanwhile",
                self.route
            ),
        })
    }

    fn of(
        wanted: &WantedRoute,
        known: Option<&Self>,
        capture: Option<Arc<watch::Sender<CaptureState>>>,
    ) -> Self {
        let sink = &wanted.spec.sink;
        let state: Arc<watch::Sender<RouteState>> =
            known.map_or_else(Default::default, |e| e.state.clone());
        if wanted.pause.is_none() && known.is_some_and(|e| e.pause.is_some()) {
            state.send_modify(|s| s.condition = Condition::default());
        }
        let (rebuild, rebuilds) = known.map_or_else(
            || {
                let (rebuild, rebuilds) = mpsc::channel(REBUILDS_MAX);
                (rebuild, Arc::new(Mutex::new(rebuilds)))
            },
            |e| (e.rebuild.clone(), e.rebuilds.clone()),
        );
        let side: Arc<watch::Sender<SideState>> =
            known.map_or_else(Default::default, |e| e.side.clone());
        if let Some(known) = known {
            // Not live until the route has looked at its target.
            let there = |s: &Subscription| known.subscriptions.iter().any(|k| k.1 == s.into);
            let new = sink.subscriptions.iter().filter(|s| !there(s));
            let new: Vec<_> = new.map(|s| (s.entity.clone(), s.into.clone())).collect();
            side.send_if_modified(|state| {
                state.builds.extend(new);
                true
            });
        }
        let subscriptions = sink.subscriptions.iter().zip(&wanted.origins);
        let subscriptions = subscriptions.map(|(s, o)| (s.entity.clone(), s.into.clone(), *o));
        Self {
            route: sink.route.clone(),
            entities: sink.subscriptions.iter().map(|s| s.entity.clone()).collect(),
            lanes: wanted.spec.lanes,
            subscriptions: subscriptions.collect(),
            pause: wanted.pause.clone(),
            state,
            capture,
            desk: known.map_or_else(Default::default, |e| e.desk.clone()),
            side_desk: known.map_or_else(Default::default, |e| e.side_desk.clone()),
            side,
            rebuild,
            rebuilds,
            gone: known.map_or_else(CancellationToken::new, |e| e.gone.clone()),
        }
    }
}
