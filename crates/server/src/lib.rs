//! What answers: HTTP on loopback. It translates between requests and the board, and decides
//! nothing.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rowcast_core::{Point, RouteId};
use rowcast_engine::{Board, Status, WaitError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The longest a client may wait in one request.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Answers on `listener` until `stop`. Loopback only: the caller chose the address.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    board: Arc<Board>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let asked = Asked { board, stop: stop.clone() };
    let stopped = async move { stop.cancelled().await };
    axum::serve(listener, router(asked)).with_graceful_shutdown(stopped).await
}

/// What every answer may use.
#[derive(Clone)]
struct Asked {
    board: Arc<Board>,
    stop: CancellationToken,
}

fn router(asked: Asked) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/v1/status", get(status))
        .route("/v1/wait", get(wait))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .with_state(asked)
}

async fn status(State(asked): State<Asked>) -> Json<Status> {
    Json(asked.board.status().await)
}

/// What `GET /v1/wait` takes.
#[derive(Debug, Deserialize)]
struct WaitQuery {
    route: String,
    position: String,
    timeout_ms: Option<u64>,
}

/// What `GET /v1/wait` answers once the position arrived.
#[derive(Debug, Serialize)]
struct Arrived {
    route: String,
    position: String,
}

async fn wait(
    State(asked): State<Asked>,
    query: Result<Query<WaitQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(e) => return problem(StatusCode::BAD_REQUEST, &e.body_text()),
    };
    let route: RouteId = match query.route.parse() {
        Ok(route) => route,
        Err(e) => return problem(StatusCode::BAD_REQUEST, &format!("route: {e}")),
    };
    let point: Point = match query.position.parse() {
        Ok(point) => point,
        Err(e) => return problem(StatusCode::BAD_REQUEST, &format!("position: {e}")),
    };
    let timeout = Duration::from_millis(query.timeout_ms.unwrap_or(5000)).min(WAIT_MAX);
    let arrival = asked.board.wait(&route, point, timeout);
    // A waiting client must not hold up the shutdown.
    let Some(arrived) = asked.stop.run_until_cancelled(arrival).await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "rowcast is stopping");
    };
    match arrived {
        Ok(()) => {
            Json(Arrived { route: route.to_string(), position: point.to_string() }).into_response()
        }
        Err(e) => problem(wait_status(&e), &e.to_string()),
    }
}

fn wait_status(error: &WaitError) -> StatusCode {
    match error {
        WaitError::NoRoute(_) => StatusCode::NOT_FOUND,
        WaitError::Foreign { .. } => StatusCode::BAD_REQUEST,
        WaitError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        WaitError::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An error as RFC 9457 has it.
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let json = [(CONTENT_TYPE, "application/problem+json")];
    (status, json, body.to_string()).into_response()
}
