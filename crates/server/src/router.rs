//! All rooms behind one door.

use crate::api::Api;
use crate::auth::same_place;
use crate::problem::Problem;
use crate::{events, health, limits, metrics, openapi, parked, status, subscriptions, wait};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;

/// Rooms whose requests end in time.
pub(crate) fn quick() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(health::routes())
        .merge(status::routes())
        .merge(metrics::routes())
        .merge(parked::looking())
        .merge(openapi::routes())
}

/// Rooms whose requests may wait.
pub(crate) fn patient() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(wait::routes())
        .merge(events::routes())
        .merge(subscriptions::routes())
        .merge(parked::acting())
}

pub(crate) fn router(api: Api) -> Router {
    let quick = quick().layer(from_fn_with_state(api.clone(), limits::in_time));
    let (router, _) = quick.merge(patient()).split_for_parts();
    router
        .fallback(async || {
            Problem::not_found("there is nothing at this path")
                .help("`/v1/openapi.json` describes every path")
        })
        .method_not_allowed_fallback(async || {
            let detail = "this path does not answer to this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(DefaultBodyLimit::max(api.limits.body_bytes))
        .layer(from_fn_with_state(api.clone(), same_place))
        .layer(from_fn_with_state(api.clone(), limits::short_enough))
        .layer(from_fn(marked))
        .with_state(api)
}

/// Answers are of the moment, and are what they say they are.
async fn marked(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
