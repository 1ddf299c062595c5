//! What runs, how far it is, and why something waits.

use crate::api::Api;
use crate::auth::{Caller, Deed};
use crate::extract::{Asked, Nothing};
use crate::openapi::shapes;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use rowcast_core::ServiceName;
use rowcast_engine::Status;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(status))
}

/// Services and routes, how far they are, and why something waits. A subscriber's token sees its own
/// routes and the services they come from.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "status",
    responses(
        (status = 200, description = "Everything at this moment.", body = shapes::Status),
        (status = 400, description = "A parameter that means nothing here.", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn status(
    State(api): State<Api>,
    caller: Caller,
    _: Asked<Nothing>,
) -> Result<Json<Status>, Problem> {
    caller.may(Deed::SeeStatus)?;
    let mut status = api.board.status().await;
    if let Some(own) = caller.limited_to() {
        narrow(&mut status, own);
    }
    Ok(Json(status))
}

/// Leaves what concerns the subscriptions of one service.
fn narrow(status: &mut Status, own: &ServiceName) {
    status.routes.retain(|r| r.to == own.as_str());
    let routes = &status.routes;
    status.services.retain(|s| routes.iter().any(|r| r.from == s.name));
}
