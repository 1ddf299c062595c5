//! Where a running instance answers, and whom it lets in.

use crate::config::Plan;
use crate::ground::unusable;
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

/// A listener, and whom it lets in.
pub(crate) struct Door {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    access: Access,
}

/// What can be changed about a door that is open: tokens and certificate.
pub(crate) struct Keys {
    address: SocketAddr,
    tls: Option<Tls>,
    access: Access,
    /// The token that commands on this machine send.
    local: Grant,
    note: Note,
}

impl Door {
    /// Listens where the plan says, and tells commands on this machine where that is and what to
    /// send.
    pub(crate) async fn open(plan: &Plan, tls: Option<Tls>) -> Result<(Self, Keys), Failure> {
        let listener = TcpListener::bind(plan.listen).await.map_err(|e| unusable(plan, &e))?;
        let address = listener.local_addr().map_err(|e| unusable(plan, &e))?;
        let token = new_token();
        let local =
            Grant { name: "local".into(), role: Role::Admin, token: TokenDigest::of(&token) };
        let access = Access::open();
        access.replace(grants(plan, &local));
        // The note holds a token, so only our own user may read it.
        let certificate = tls.as_ref().map(Tls::fingerprint);
        let note = Instance::announce(&plan.data, address, &token, certificate).map_err(|e| {
            Failure::new(format!("{} cannot be written to", plan.data.display()), "").because(&e)
        })?;
        let keys = Keys { address, tls: tls.clone(), access: access.clone(), local, note };
        Ok((Self { listener, address, tls, access }, keys))
    }

    /// Answers until `stop`.
    pub(crate) async fn answer(self, board: Arc<Board>, stop: CancellationToken) {
        let serving = Serving { board, access: self.access, tls: self.tls, limits: limits() };
        rowcast_server::serve(self.listener, serving, stop).await;
    }
}

impl Keys {
    /// Whether a plan's tokens can be taken over. Where we listen only a start decides, so a plan
    /// for loopback must not open an address that others reach.
    pub(crate) fn fit(&self, plan: &Plan) -> Result<(), Failure> {
        if !plan.grants.is_empty() || self.address.ip().is_loopback() {
            return Ok(());
        }
        let message = format!("without tokens everybody could read everything on {}", self.address);
        let help = "keep a token, or start anew: `server.listen` takes effect at a start";
        Err(Failure::usage(message, help))
    }

    /// From now on a plan's tokens count and no others, also for whoever follows events already, and
    /// who connects is shown `tls`.
    pub(crate) fn change(&mut self, plan: &Plan, tls: Option<Tls>) {
        self.access.replace(grants(plan, &self.local));
        match (&self.tls, tls) {
            (Some(shown), Some(new)) => {
                shown.replace(&new);
                if let Err(e) = self.note.certificate(Some(new.fingerprint())) {
                    tracing::warn!("commands on this machine do not know the new certificate: {e}");
                }
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                tracing::warn!("whether TLS is spoken at all takes effect at the next start");
            }
        }
    }
}

/// A plan's tokens, and the one for commands on this machine; none when nobody needs one.
fn grants(plan: &Plan, local: &Grant) -> Vec<Grant> {
    let mut grants = plan.grants.clone();
    if !grants.is_empty() {
        grants.push(local.clone());
    }
    grants
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
