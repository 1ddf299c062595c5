//! Waiting: for one's own write to arrive elsewhere, or for copies to be complete.

use crate::api::Api;
use crate::auth::{Caller, Deed};
use crate::extract::Asked;
use crate::openapi::words;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rowcast_core::{Point, RouteId};
use rowcast_engine::WaitError;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The longest a client may wait in one request.
const WAIT_MAX: Duration = Duration::from_secs(3600);
const WAIT: Duration = Duration::from_secs(5);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(wait))
}

/// What to wait for: a position, that the route is live, or both.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct What {
    /// The route, written FROM:TO.
    #[param(example = "customer:order", value_type = words::Route)]
    route: String,
    /// The source's position after the write: `16/B374D848`, or a number.
    #[param(example = "0/1", value_type = words::Position, required = false)]
    position: Option<String>,
    /// Wait until the route's copies hold every row that was there.
    #[param(nullable = false)]
    live: Option<bool>,
    /// Longest to wait, in milliseconds: 5000 if unset, an hour at most.
    #[param(minimum = 0, maximum = 3_600_000, nullable = false)]
    timeout_ms: Option<u64>,
}

/// What was waited for has come.
#[derive(Debug, Serialize, ToSchema)]
struct Arrived {
    /// Over which route.
    route: String,
    /// The position asked for; absent when none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    position: Option<String>,
    /// That the copies are complete; absent when it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    live: Option<bool>,
}

/// Answers once everything that the publisher committed before a position is visible at the
/// subscriber, or once the route's copies are complete.
#[utoipa::path(
    get,
    path = "/v1/wait",
    tag = "status",
    params(What),
    responses(
        (status = 200, description = "It has come.", body = Arrived),
        (status = 400, description = "No route or position, or another service's kind of position.",
            body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not this token's route.", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such route.", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Stopping, or the log cannot be asked.", body = Problem,
            content_type = "application/problem+json"),
        (status = 408, description = "It did not come within `timeout_ms`.", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn wait(
    State(api): State<Api>,
    caller: Caller,
    Asked(what): Asked<What>,
) -> Result<Json<Arrived>, Problem> {
    let wrong =
        |field: &str, e: &dyn std::error::Error| Problem::bad_request(format!("{field}: {e}"));
    let route: RouteId = what.route.parse().map_err(|e| wrong("route", &e))?;
    caller.may(Deed::Wait(&route))?;
    let point: Option<Point> = match &what.position {
        Some(text) => Some(text.parse().map_err(|e| wrong("position", &e))?),
        None => None,
    };
    let live = what.live.unwrap_or(false);
    if point.is_none() && !live {
        return Err(Problem::bad_request("wait for what? give `position`, or `live=true`"));
    }
    let timeout = what.timeout_ms.map_or(WAIT, Duration::from_millis);
    if timeout > WAIT_MAX {
        return Err(Problem::bad_request("timeout_ms: an hour at most, 3600000"));
    }
    let _seat = api.wait_seat()?;
    let arrival = async {
        match point {
            Some(point) if !live => api.board.wait(&route, point, timeout).await,
            _ => api.board.wait_live(&route, point, timeout).await,
        }
    };
    let arrived = tokio::select! {
        arrived = arrival => arrived,
        // A waiting client must not hold up the shutdown.
        () = api.stop.cancelled() => return Err(Problem::stopping()),
        problem = api.access.ended(&caller, Deed::Wait(&route)) => return Err(problem),
    };
    arrived.map_err(|e| Problem::new(status_of(&e), e.to_string()))?;
    Ok(Json(Arrived {
        route: route.to_string(),
        position: point.map(|p| p.to_string()),
        live: live.then_some(true),
    }))
}

fn status_of(error: &WaitError) -> StatusCode {
    match error {
        WaitError::NoRoute(_) => StatusCode::NOT_FOUND,
        WaitError::Foreign { .. } => StatusCode::BAD_REQUEST,
        // The client's own limit passed; nothing of ours failed.
        WaitError::Timeout { .. } | WaitError::NotLive { .. } => StatusCode::REQUEST_TIMEOUT,
        WaitError::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
