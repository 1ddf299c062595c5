//! What every answer may use.

use crate::auth::Access;
use crate::limits::Limits;
use crate::problem::Problem;
use crate::tls::Tls;
use axum::extract::FromRef;
use axum::http::StatusCode;
use rowcast_engine::Board;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What a server serves, to whom, and how much of it.
#[derive(Clone)]
pub struct Serving {
    /// The node.
    pub board: Arc<Board>,
    /// Who may ask.
    pub access: Access,
    /// Speak TLS; plain when absent.
    pub tls: Option<Tls>,
    /// How much at once.
    pub limits: Limits,
}

/// The state of every handler.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) board: Arc<Board>,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    /// Cancelled when the server ends; whoever waits longer than a moment listens to it.
    pub(crate) stop: CancellationToken,
    pub(crate) started: SystemTime,
    waits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl FromRef<Api> for Limits {
    fn from_ref(api: &Api) -> Self {
        api.limits
    }
}

impl Api {
    pub(crate) fn new(serving: &Serving, stop: CancellationToken) -> Self {
        Self {
            board: serving.board.clone(),
            access: serving.access.clone(),
            limits: serving.limits,
            stop,
            started: SystemTime::now(),
            waits: Arc::new(Semaphore::new(serving.limits.waits)),
            streams: Arc::new(Semaphore::new(serving.limits.streams)),
        }
    }

    /// A seat among those who wait.
    pub(crate) fn wait_seat(&self) -> Result<OwnedSemaphorePermit, Problem> {
        seat(&self.waits, "wait for a position or a route")
    }

    /// A seat among those who follow events.
    pub(crate) fn stream_seat(&self) -> Result<OwnedSemaphorePermit, Problem> {
        seat(&self.streams, "follow events")
    }
}

fn seat(seats: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    seats.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("as many clients as may at once already {what}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).help("try again in a moment")
    })
}
