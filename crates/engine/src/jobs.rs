//! The two kinds of jobs a node has: capture a publisher, deliver a route.

use crate::capture::{Capture, CaptureState};
use crate::deliver::{Deliver, Desk, Rebuild, RouteState, SideState};
use crate::fleet::Job;
use crate::node::{Publisher, RouteSpec};
use crate::share::Share;
use crate::trouble::Trouble;
use rowcast_core::{EventLog, RouteId, ServiceName};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub(crate) struct CaptureJob {
    pub(crate) publisher: Publisher,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) state: Arc<watch::Sender<CaptureState>>,
    pub(crate) afresh: Arc<AtomicBool>,
}

impl Job for CaptureJob {
    type Id = ServiceName;

    fn id(&self) -> &ServiceName {
        &self.publisher.spec.service
    }

    fn name(&self) -> String {
        format!("capture of {}", self.id())
    }

    fn is(&self, other: &Self) -> bool {
        let (one, two) = (&self.publisher, &other.publisher);
        Arc::ptr_eq(&one.database, &two.database)
            && one.spec == two.spec
            && one.retain == two.retain
            && Arc::ptr_eq(&self.state, &other.state)
    }

    fn run(
        &self,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), Trouble>> + Send + 'static {
        let capture = Capture {
            service: self.id().clone(),
            database: self.publisher.database.clone(),
            spec: self.publisher.spec.clone(),
            log: self.log.clone(),
            state: self.state.clone(),
            afresh: self.afresh.clone(),
            retain: self.publisher.retain,
        };
        capture.run(stop)
    }
}

#[derive(Clone)]
pub(crate) struct RouteJob {
    pub(crate) spec: RouteSpec,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) state: Arc<watch::Sender<RouteState>>,
    pub(crate) capture: Option<Arc<watch::Sender<CaptureState>>>,
    pub(crate) side: Arc<watch::Sender<SideState>>,
    pub(crate) rebuilds: Arc<Mutex<mpsc::Receiver<Rebuild>>>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) side_desk: Arc<Desk>,
    pub(crate) share: Arc<Share>,
}

impl Job for RouteJob {
    type Id = RouteId;

    fn id(&self) -> &RouteId {
        &self.spec.sink.route
    }

    fn name(&self) -> String {
        format!("route {}", self.id())
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec.database, &other.spec.database)
            && self.spec.sink == other.spec.sink
            && self.spec.lanes == other.spec.lanes
            && Arc::ptr_eq(&self.state, &other.state)
    }

    fn run(
        &self,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), Trouble>> + Send + 'static {
        let deliver = Deliver {
            route: self.id().clone(),
            database: self.spec.database.clone(),
            spec: self.spec.sink.clone(),
            lanes: self.spec.lanes,
            log: self.log.clone(),
            state: self.state.clone(),
            capture: self.capture.clone(),
            side: self.side.clone(),
            rebuilds: self.rebuilds.clone(),
            desk: self.desk.clone(),
            side_desk: self.side_desk.clone(),
            share: self.share.clone(),
        };
        deliver.run(stop)
    }
}
