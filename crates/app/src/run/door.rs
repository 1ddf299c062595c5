//! Where a running instance answers, and whom it lets in.

use crate::config::Plan;
use crate::instance::{Instance, Note};
use crate::report::Failure;
use rowcast_engine::Board;
use rowcast_server::{Access, Grant, Limits, Role, Serving, Tls, TokenDigest, new_token};
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A listener, and the tokens that it knows.
pub(crate) struct Door {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    access: Access,
    /// What commands on this machine send; absent when nobody needs a token.
    token: Option<String>,
}

impl Door {
    /// Listens where the plan says.
    pub(crate) async fn open(plan: &Plan) -> Result<Self, Failure> {
        let tls = plan.tls.as_ref().map(|files| Tls::load(&files.cert, &files.key)).transpose();
        let tls = tls.map_err(|e| {
            let help = "`[server] tls` names a certificate with its chain, and its key, both PEM";
            let failure = Failure::usage(e.to_string(), help);
            std::error::Error::source(&e)
                .map_or_else(|| Failure::usage(e.to_string(), help), |cause| failure.because(cause))
        })?;
        let listener = TcpListener::bind(plan.listen).await.map_err(|e| unusable(plan, &e))?;
        let address = listener.local_addr().map_err(|e| unusable(plan, &e))?;
        if plan.grants.is_empty() {
            return Ok(Self { listener, address, tls, access: Access::open(), token: None });
        }
        let token = new_token();
        let mut grants = plan.grants.clone();
        let local =
            Grant { name: "local".into(), role: Role::Admin, token: TokenDigest::of(&token) };
        grants.push(local);
        Ok(Self { listener, address, tls, access: Access::tokens(grants), token: Some(token) })
    }

    /// Tells commands on this machine where we are. The note holds a token, so only our own user may
    /// read it.
    pub(crate) fn announce(&self, plan: &Plan) -> Result<Note, Failure> {
        let certificate = self.tls.as_ref().map(Tls::fingerprint);
        let note = Instance::announce(&plan.data, self.address, self.token.as_deref(), certificate);
        note.map_err(|e| {
            Failure::new(format!("{} cannot be written to", plan.data.display()), "").because(&e)
        })
    }

    /// Answers until `stop`.
    pub(crate) async fn answer(self, board: Arc<Board>, stop: CancellationToken) {
        let serving = Serving { board, access: self.access, tls: self.tls, limits: limits() };
        rowcast_server::serve(self.listener, serving, stop).await;
    }
}

/// Clients get at most half of the descriptors that we may open: the log and the databases come
/// first.
fn limits() -> Limits {
    let limits = Limits::default();
    let half = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| n as usize / 2).max(16);
    Limits {
        connections: limits.connections.min(half),
        waits: limits.waits.min(half / 2),
        streams: limits.streams.min(half / 4),
        ..limits
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

fn unusable(plan: &Plan, error: &std::io::Error) -> Failure {
    let help = "another `rowcast run` may use it; choose another one under `[server] listen`, or \
                port 0 for any free one";
    Failure::usage(format!("{} cannot be listened on", plan.listen), help).because(error)
}
