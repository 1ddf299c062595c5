//! The node: every capture and every route of this process, brought in line with what is wanted,
//! watched, and stopped in the direction of the data.

use crate::board::Board;
use crate::desired::Desired;
use crate::fleet::{Ended, Fleet};
use crate::jobs::{CaptureJob, RouteJob};
use crate::live::{Live, PublisherEntry, RouteEntry};
use crate::pace::Phase;
use crate::retain::Retain;
use crate::share::Share;
use crate::subscriptions::Subscriptions;
use crate::trouble::Trouble;
use crate::wanted::{Wanted, WantedRoute};
use rowcast_core::{
    ByteSize, Database, EventLog, Origin, RegistryError, RouteId, SinkSpec, SourceSpec, Version,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests to look again that may wait; more of them would ask for the same.
const NUDGES_MAX: usize = 64;

/// Longest that captures take to end once they are told to, and longest for all: what a target or a
/// source does not answer by then is left. Less than what supervisors of processes grant before they kill.
const SOURCES_STOP_WITHIN: Duration = Duration::from_secs(4);
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// One publishing service.
#[derive(Clone)]
pub struct Publisher {
    /// Its database.
    pub database: Arc<dyn Database>,
    /// What to capture.
    pub spec: SourceSpec,
    /// Give up the history the log follows and begin a new one, with new snapshots.
    pub afresh: bool,
    /// What its database may keep for us.
    pub retain: Retain,
}

/// One route.
#[derive(Clone)]
pub struct RouteSpec {
    /// The subscriber's database.
    pub database: Arc<dyn Database>,
    /// What to write there.
    pub sink: SinkSpec,
    /// How many transactions of the subscriber's database may share a piece of the log, by key; 1
    /// keeps the publisher's transactions whole.
    pub lanes: u16,
}

/// Everything a node is to do.
pub struct NodeSpec {
    /// Each service at most once.
    pub publishers: Vec<Publisher>,
    /// Each pair of services at most once; the publisher is one of `publishers`.
    pub routes: Vec<RouteSpec>,
    /// Where events rest.
    pub log: Arc<dyn EventLog>,
    /// Row bytes that a route takes from the log at once; bounds its memory.
    pub read_bytes_max: ByteSize,
}

/// Why a node stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A law of ours is broken.
    #[error("{task} met a defect")]
    Bug {
        /// Which task.
        task: String,
        /// What it met.
        source: Trouble,
    },
    /// A task panicked.
    #[error("{task} panicked")]
    Panic {
        /// Which task.
        task: String,
        /// What it said.
        source: tokio::task::JoinError,
    },
}

/// Runs captures and routes until told to stop.
pub struct Node {
    log: Arc<dyn EventLog>,
    board: Arc<Board>,
    share: Arc<Share>,
    captures: Fleet<CaptureJob>,
    routes: Fleet<RouteJob>,
    /// What comes next; nothing does when the node's work is fixed.
    desired: Option<Desired>,
    /// The version of the subscriptions that is being done.
    taken: watch::Sender<Version>,
    nudges: mpsc::Receiver<RouteId>,
    first: Option<Wanted>,
}

impl Node {
    /// A node with a fixed set of captures and routes that is not running yet.
    pub fn new(spec: NodeSpec) -> Self {
        let routes = spec.routes.into_iter().map(|spec| {
            let origins = vec![Origin::File; spec.sink.subscriptions.len()];
            WantedRoute { spec, origins, pause: None }
        });
        let (publishers, routes) = (spec.publishers, routes.collect());
        let wanted = Wanted { publishers, routes, read_bytes_max: spec.read_bytes_max };
        let (nudges, taken) = (mpsc::channel(1).1, watch::Sender::new(Version(0)));
        Self::with(spec.log, wanted, None, None, taken, nudges)
    }

    /// A node that does what services and subscriptions ask for, also when they change while it
    /// runs. It is not running yet.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn following(
        mut desired: Desired,
        log: Arc<dyn EventLog>,
    ) -> Result<Self, RegistryError> {
        let (version, wanted) = desired.load().await?;
        let (nudge, nudges) = mpsc::channel(NUDGES_MAX);
        let taken = watch::Sender::new(version);
        let subscriptions = Subscriptions {
            registry: desired.registry.clone(),
            services: desired.services.clone(),
            log: log.clone(),
            taken: taken.subscribe(),
            nudge,
        };
        let subscriptions = Some(Arc::new(subscriptions));
        Ok(Self::with(log, wanted, subscriptions, Some(desired), taken, nudges))
    }

    fn with(
        log: Arc<dyn EventLog>,
        wanted: Wanted,
        subscriptions: Option<Arc<Subscriptions>>,
        desired: Option<Desired>,
        taken: watch::Sender<Version>,
        nudges: mpsc::Receiver<RouteId>,
    ) -> Self {
        let board = Arc::new(Board::new(log.clone(), subscriptions));
        let share = Arc::new(Share::new(wanted.read_bytes_max));
        let (captures, routes) = (Fleet::new(), Fleet::new());
        board.show(Live::of(&wanted, &Live::default()));
        Self { log, board, share, captures, routes, desired, taken, nudges, first: Some(wanted) }
    }

    /// What the node knows of itself; lives as long as anybody holds it.
    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// Runs until `stop`, or until a defect: then everything else is stopped in order, and the
    /// defect is the answer.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), NodeError> {
        if let Some(first) = self.first.take() {
            self.want(first);
        }
        let met = loop {
            let ended = tokio::select! {
                () = stop.cancelled() => break None,
                ended = self.captures.ended() => ended,
                ended = self.routes.ended() => ended,
                (version, wanted) = next(&mut self.desired) => {
                    self.want(wanted);
                    self.taken.send_replace(version);
                    continue;
                }
                Some(route) = self.nudges.recv() => {
                    self.nudge(&route);
                    continue;
                }
            };
            if let Some(defect) = defect(ended) {
                break Some(defect);
            }
            // What a task said with its last breath is not what holds its route now.
            self.board.live().show_pauses();
        };
        // In the direction of the data: what a source has handed out is still made durable, and
        // what a sink has begun it finishes, if that takes no longer than a stop may.
        let began = Instant::now();
        let at_sources = self.captures.stop(began + SOURCES_STOP_WITHIN).await;
        let at_sinks = self.routes.stop(began + STOP_WITHIN).await;
        let later = at_sources.into_iter().chain(at_sinks).find_map(defect);
        met.or(later).map_or(Ok(()), Err)
    }

    /// Brings captures and routes in line with what is wanted now. Those that stay as they are do
    /// not notice.
    fn want(&mut self, wanted: Wanted) {
        self.share.set(wanted.read_bytes_max);
        let old = self.board.live();
        let live = Live::of(&wanted, &old);
        let captures = wanted.publishers.into_iter().zip(&live.publishers);
        let captures = captures.map(|(publisher, entry)| self.capture(publisher, entry));
        let captures = captures.collect();
        let routes = wanted.routes.into_iter().zip(&live.routes);
        let moving = routes.filter(|(_, entry)| entry.pause.is_none());
        let routes = moving.map(|(route, entry)| self.route(route.spec, entry)).collect();
        self.board.show(live);
        self.captures.want(captures);
        self.routes.want(routes);
        self.board.live().show_pauses();
        old.dismiss(&self.board.live());
    }

    fn capture(&self, publisher: Publisher, entry: &PublisherEntry) -> CaptureJob {
        let (state, afresh) = (entry.state.clone(), entry.afresh.clone());
        CaptureJob { publisher, log: self.log.clone(), state, afresh }
    }

    fn route(&self, spec: RouteSpec, entry: &RouteEntry) -> RouteJob {
        let (log, share) = (self.log.clone(), self.share.clone());
        let (state, side) = (entry.state.clone(), entry.side.clone());
        let capture = entry.capture.clone();
        let (desk, side_desk) = (entry.desk.clone(), entry.side_desk.clone());
        let rebuilds = entry.rebuilds.clone();
        RouteJob { spec, log, state, capture, side, rebuilds, desk, side_desk, share }
    }

    /// Somebody says that what holds a route is mended: what waits looks again at once.
    fn nudge(&mut self, route: &RouteId) {
        let live = self.board.live();
        let waits = |phase| matches!(phase, Phase::Retrying | Phase::Paused);
        let entry = live.routes.iter().find(|e| e.route == *route);
        if entry.is_some_and(|e| waits(e.state.borrow().condition.phase)) {
            self.routes.restart(route);
        }
        let entry = live.publishers.iter().find(|e| e.service == route.from);
        if entry.is_some_and(|e| waits(e.state.borrow().condition.phase)) {
            self.captures.restart(&route.from);
        }
    }
}

async fn next(desired: &mut Option<Desired>) -> (Version, Wanted) {
    match desired {
        Some(desired) => desired.next().await,
        None => std::future::pending().await,
    }
}

fn defect((task, ended): Ended) -> Option<NodeError> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(source)) => Some(NodeError::Bug { task, source }),
        Err(source) => Some(NodeError::Panic { task, source }),
    }
}
