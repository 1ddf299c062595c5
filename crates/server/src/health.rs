//! Whether the process is up, and whether it does what it is there for. Probes need no token.

use crate::api::Api;
use crate::auth::{Caller, Deed};
use crate::problem::Problem;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use rowcast_engine::Status;
use serde::Serialize;
use std::convert::Infallible;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

/// The process is up.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    security(()),
    responses((status = 200, description = "It is up.", body = String, content_type = "text/plain")),
)]
async fn healthz() -> &'static str {
    "ok"
}

/// Whether all captures run and no route waits for a person.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// All captures run, every source was heard within a minute, and no route is paused.
    ready: bool,
    /// What is in the way: a service or a route, and its state. Absent without a token, or without
    /// the right to see the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    waiting: Option<Vec<Waiting>>,
}

/// Something that is in the way.
#[derive(Debug, Serialize, ToSchema)]
struct Waiting {
    /// `service NAME` or `route FROM:TO`.
    what: String,
    /// Its state.
    state: &'static str,
}

/// Ready means: every capture has begun, none is paused, every source was heard within a minute, and
/// no route is paused. A short outage that is waited out leaves us ready; `healthz` says whether to
/// restart us.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "All captures run, every source was heard within a minute, no route is paused.", body = Readiness),
        (status = 503, description = "Something has not begun, is silent, or waits for a person.", body = Readiness),
    ),
)]
async fn readyz(State(api): State<Api>, viewer: Viewer) -> Response {
    let waiting = waiting(&api.board.status().await);
    let ready = waiting.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let waiting = viewer.0.then_some(waiting);
    (status, Json(Readiness { ready, waiting })).into_response()
}

/// A database that was silent for so long is in the way, though nobody has to act here.
const SILENT_MS: u64 = 60_000;

fn waiting(status: &Status) -> Vec<Waiting> {
    let services = status
        .services
        .iter()
        .filter(|s| matches!(s.state, "starting" | "paused") || s.heard_ms > SILENT_MS);
    let services =
        services.map(|s| Waiting { what: format!("service {}", s.name), state: s.state });
    let routes = status.routes.iter().filter(|r| r.state == "paused");
    let routes =
        routes.map(|r| Waiting { what: format!("route {}:{}", r.from, r.to), state: r.state });
    services.chain(routes).collect()
}

/// Whether whoever asks may see the names of everything.
struct Viewer(bool);

impl FromRequestParts<Api> for Viewer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let caller: Result<Caller, Problem> = Caller::from_request_parts(parts, api).await;
        let sees = |c: &Caller| c.limited_to().is_none() && c.may(Deed::SeeStatus).is_ok();
        Ok(Self(caller.is_ok_and(|c| sees(&c))))
    }
}
