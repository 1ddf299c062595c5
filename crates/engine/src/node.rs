//! The node: every capture and every route of this process, started, watched and stopped in the
//! direction of the data.

use crate::board::{Board, PublisherEntry, RouteEntry};
use crate::capture::{Capture, CaptureState};
use crate::deliver::{Deliver, RouteState};
use crate::tasks::Tasks;
use crate::trouble::Trouble;
use rowcast_core::{ByteSize, Database, EventLog, SinkSpec, SourceSpec};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One publishing service.
pub struct Publisher {
    /// Its database.
    pub database: Arc<dyn Database>,
    /// What to capture.
    pub spec: SourceSpec,
    /// Give up the history the log follows and begin a new one, with new snapshots.
    pub afresh: bool,
}

/// One route.
pub struct RouteSpec {
    /// The subscriber's database.
    pub database: Arc<dyn Database>,
    /// What to write there.
    pub sink: SinkSpec,
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
    captures: Vec<Capture>,
    delivers: Vec<Deliver>,
    board: Arc<Board>,
}

impl Node {
    /// A node that is not running yet.
    pub fn new(spec: NodeSpec) -> Self {
        let mut captures = Vec::new();
        let mut publishers = Vec::new();
        for publisher in spec.publishers {
            let state = Arc::new(watch::Sender::new(CaptureState::default()));
            publishers.push(PublisherEntry {
                service: publisher.spec.service.clone(),
                entities: publisher.spec.entities.iter().map(|e| e.entity.clone()).collect(),
                database: publisher.database.clone(),
                state: state.clone(),
            });
            captures.push(Capture {
                service: publisher.spec.service.clone(),
                database: publisher.database,
                spec: publisher.spec,
                log: spec.log.clone(),
                state,
                afresh: publisher.afresh,
            });
        }
        let mut delivers = Vec::new();
        let mut routes = Vec::new();
        for route in spec.routes {
            let state = Arc::new(watch::Sender::new(RouteState::default()));
            routes.push(RouteEntry {
                route: route.sink.route.clone(),
                entities: route.sink.subscriptions.iter().map(|s| s.entity.clone()).collect(),
                state: state.clone(),
            });
            delivers.push(Deliver {
                route: route.sink.route.clone(),
                database: route.database,
                spec: route.sink,
                log: spec.log.clone(),
                state,
                read_bytes_max: spec.read_bytes_max,
            });
        }
        let board = Arc::new(Board { log: spec.log, publishers, routes });
        Self { captures, delivers, board }
    }

    /// What the node knows of itself; lives as long as anybody holds it.
    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// Runs until `stop`, or until a defect: then everything else is stopped in order, and the
    /// defect is the answer.
    pub async fn run(self, stop: CancellationToken) -> Result<(), NodeError> {
        let sources = CancellationToken::new();
        let sinks = CancellationToken::new();
        let mut captures = Tasks::new();
        for capture in self.captures {
            let name = format!("capture of {}", capture.service);
            captures.spawn(name, capture.run(sources.clone()));
        }
        let mut delivers = Tasks::new();
        for deliver in self.delivers {
            let name = format!("route {}", deliver.route);
            delivers.spawn(name, deliver.run(sinks.clone()));
        }
        let defect = tokio::select! {
            () = stop.cancelled() => None,
            Some(defect) = first_defect(&mut captures) => Some(defect),
            Some(defect) = first_defect(&mut delivers) => Some(defect),
        };
        // In the direction of the data: what a source has handed out is still made durable, and
        // what a sink has begun it finishes.
        sources.cancel();
        let at_sources = first_defect(&mut captures).await;
        sinks.cancel();
        let at_sinks = first_defect(&mut delivers).await;
        defect.or(at_sources).or(at_sinks).map_or(Ok(()), Err)
    }
}

/// Waits for a task to end badly; `None` when all have ended well. Cancel safe.
async fn first_defect(tasks: &mut Tasks<Result<(), Trouble>>) -> Option<NodeError> {
    while let Some((task, ended)) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return Some(NodeError::Bug { task, source }),
            Err(source) => return Some(NodeError::Panic { task, source }),
        }
    }
    None
}
