//! Events, followed live: server-sent events, each a CloudEvent. Whoever reads slowly is served from
//! the log at its own pace and holds nothing up; whoever does not read at all is dropped.

mod cloud_event;
mod follow;
mod time;
mod walk;

pub use cloud_event::cloud_event;
pub use time::rfc3339;

use crate::api::Api;
use crate::auth::Caller;
use crate::extract::Asked;
use crate::openapi::{shapes, words};
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use follow::{Follow, Part};
use rowcast_core::{EntityName, LogError, Offset, ServiceName};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(events))
}

/// What to follow.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct What {
    /// The publishing service.
    #[param(example = "customer", value_type = words::Service)]
    stream: String,
    /// One of its entities; all if unset.
    #[param(value_type = words::Entity, required = false)]
    entity: Option<String>,
    /// Where to begin: `beginning`, `end` (the default), or the offset of the first event wanted. A
    /// `Last-Event-ID` header goes before this.
    #[param(value_type = words::Begin, required = false)]
    from: Option<String>,
    /// Go on with what comes; true if unset. Otherwise the answer ends where the stream ends now.
    #[param(nullable = false)]
    follow: Option<bool>,
    /// End after so many events; never if unset.
    #[param(minimum = 1, nullable = false)]
    limit: Option<u64>,
}

/// Every change of a service's entities, in order, as server-sent events that do not end by
/// themselves unless `follow=false` or a `limit` says so. The `id` of each is its offset, so that a
/// client that connects again goes on where it was.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    params(
        What,
        ("Last-Event-ID" = Option<u64>, Header, minimum = 0, maximum = 9_007_199_254_740_991_u64, nullable = false,
            description = "The offset of the last event seen."),
    ),
    responses(
        (status = 200, description = "Events; the data of each is a CloudEvent in JSON.",
            body = shapes::ServerSentEvent, content_type = "text/event-stream"),
        (status = 400, description = "A parameter is missing or wrong.",
            body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "This token may not read these events.", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such stream or entity.", body = Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "The offset is ahead of the stream: the log is another one.",
            body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The offset was forgotten by retention.", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Too many follow events, or the log cannot be read.",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn events(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Asked(what): Asked<What>,
) -> Result<Response, Problem> {
    if what.limit == Some(0) {
        return Err(Problem::bad_request("limit: at least 1"));
    }
    let wrong = |e: rowcast_core::NameError| Problem::bad_request(e.to_string());
    let service: ServiceName = what.stream.parse().map_err(wrong)?;
    let entity: Option<EntityName> = what.entity.map(|e| e.parse()).transpose().map_err(wrong)?;
    let readable = caller.readable(&api.board, &service)?;
    let published = api.board.published(&service);
    let published = published
        .ok_or_else(|| Problem::not_found(format!("there is no publishing service `{service}`")))?;
    if let Some(entity) = &entity {
        if !published.contains(entity) {
            let detail = format!("`{service}` publishes no entity `{entity}`");
            return Err(Problem::not_found(detail));
        }
        if readable.is_some_and(|r| !r.contains(entity)) {
            let detail = format!("this token may not read events of {service}.{entity}");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    let (first, next) = api.board.ends(&service).await.map_err(|e| Problem::of(&e))?;
    let at = match begin(&headers, what.from.as_deref())? {
        Begin::Beginning => first,
        Begin::End => next,
        Begin::At(at) if at < first => {
            return Err(Problem::of(&LogError::Trimmed { stream: service, at, first }));
        }
        Begin::At(at) if at > next => {
            let ahead = LogError::Ahead { stream: service, at, next };
            let help = "begin at `from=end`, or at `from=beginning` if the log was replaced";
            return Err(Problem::new(StatusCode::CONFLICT, ahead.to_string()).help(help));
        }
        Begin::At(at) => at,
    };
    let seat = api.stream_seat()?;
    let until = (what.follow == Some(false)).then_some(next);
    let part = Part { at, until, left: what.limit };
    let follow = Follow::new(api, caller, service, entity, part, seat);
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    Ok((kind, Body::from_stream(follow.stream())).into_response())
}

enum Begin {
    Beginning,
    End,
    At(Offset),
}

fn begin(headers: &HeaderMap, from: Option<&str>) -> Result<Begin, Problem> {
    // Browsers send an empty one when they have seen no id.
    if let Some(last) = headers.get("last-event-id").filter(|v| !v.is_empty()) {
        let last = last.to_str().ok().and_then(number);
        let next = last.and_then(|l| l.checked_add(1));
        let wrong = || Problem::bad_request("Last-Event-ID is not the offset of an event");
        return next.map(|n| Begin::At(Offset(n))).ok_or_else(wrong);
    }
    match from {
        None | Some("end") => Ok(Begin::End),
        Some("beginning") => Ok(Begin::Beginning),
        Some(offset) => {
            let wrong = || Problem::bad_request("from: write beginning, end, or an offset");
            number(offset).map(|o| Begin::At(Offset(o))).ok_or_else(wrong)
        }
    }
}

/// Digits and nothing else: the standard reader takes a `+`, too.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Whether `from` may say so; for the test that holds the document against it.
#[cfg(test)]
pub(crate) fn reads_begin(text: &str) -> bool {
    begin(&HeaderMap::new(), Some(text)).is_ok()
}
