//! Parked keys: what is set aside, and what to do about it.

use crate::api::Api;
use crate::auth::{Caller, Deed};
use crate::extract::Asked;
use crate::openapi::refusals::{NoRoute, NotAtWork};
use crate::openapi::words;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rowcast_core::RouteId;
use rowcast_engine::{ParkError, ParkOutcome, ParkWhich, ParkedEntry};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Looking at what is parked.
pub(crate) fn looking() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Doing something about it, which the route does between two chunks.
pub(crate) fn acting() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(retry)).routes(routes!(drop_pending))
}

/// Of which route.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// The route, written FROM:TO; all of them if unset.
    #[param(example = "customer:order", value_type = words::Route, required = false)]
    route: Option<String>,
}

/// Which parked keys of a route; all of them if neither a table nor a key is set.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// The route, written FROM:TO.
    #[param(example = "customer:order", value_type = words::Route)]
    route: String,
    /// The subscription's table.
    #[param(nullable = false)]
    table: Option<String>,
    /// The key, as the list shows it.
    #[param(nullable = false)]
    key: Option<String>,
}

/// A value of a pending row: the field's name, and its text or null.
#[derive(Debug, Serialize, ToSchema)]
struct Field {
    /// The field.
    name: String,
    /// Its value as text; null for NULL.
    value: Option<String>,
}

/// One parked key.
#[derive(Debug, Serialize, ToSchema)]
struct Parked {
    /// The route, FROM:TO.
    route: String,
    /// The subscription's table.
    table: String,
    /// The key.
    key: String,
    /// The name of the page that explains it.
    code: String,
    /// Which rule the row breaks.
    message: String,
    /// When it was parked, in milliseconds since 1970 UTC.
    since_ms: i64,
    /// The first event that did not fit.
    first: u64,
    /// The newest event that is merged into it.
    last: u64,
    /// How many events are.
    events: u64,
    /// What is left to do: `write`, `change`, `move` or `delete`.
    pending: &'static str,
    /// The database's own words; only where rows are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    words: Option<String>,
    /// The pending row; only where rows are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    row: Option<Vec<Field>>,
}

impl From<ParkedEntry> for Parked {
    fn from(e: ParkedEntry) -> Self {
        let field = |(name, value)| Field { name, value };
        Self {
            route: e.route,
            table: e.table,
            key: e.key,
            code: e.code,
            message: e.message,
            since_ms: e.since_ms,
            first: e.first,
            last: e.last,
            events: e.events,
            pending: e.pending,
            words: e.words,
            row: e.row.map(|row| row.into_iter().map(field).collect()),
        }
    }
}

/// Parked keys, the oldest of each route first.
#[derive(Debug, Serialize, ToSchema)]
struct List {
    /// The keys.
    parked: Vec<Parked>,
    /// Routes, FROM:TO, that have not been at their target since the start: what they have parked is
    /// not known yet.
    unknown: Vec<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
struct Outcome {
    /// Keys that fit now.
    healed: u64,
    /// Keys that were tried and still do not fit.
    parked: u64,
    /// Keys that the route tries next, because there are many.
    later: u64,
    /// Keys whose pending rows were given up.
    dropped: u64,
}

impl From<ParkOutcome> for Outcome {
    fn from(o: ParkOutcome) -> Self {
        let ParkOutcome { healed, parked, later, dropped } = o;
        Self { healed, parked, later, dropped }
    }
}

/// What is parked, without values. Waits a moment for routes that have just begun. A subscriber's token sees its own routes, and may name no other.
#[utoipa::path(
    get,
    path = "/v1/parked",
    operation_id = "list_parked",
    tag = "parked",
    params(Whose),
    responses(
        (status = 200, description = "Everything that is known to be parked at this moment.", body = List),
        NoRoute,
    ),
)]
async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(whose): Asked<Whose>,
) -> Result<Json<List>, Problem> {
    let route = whose.route.as_deref().map(read).transpose()?;
    caller.may(route.as_ref().map_or(Deed::SeeStatus, Deed::ListParked))?;
    let found = api.stop.run_until_cancelled(api.board.parked(route.as_ref())).await;
    let found = found.ok_or_else(Problem::stopping)?.map_err(|e| refused(&e))?;
    let mut parked: Vec<Parked> = found.parked.into_iter().map(Parked::from).collect();
    let mut unknown: Vec<_> = found.unknown.iter().map(ToString::to_string).collect();
    if let Some(own) = caller.limited_to() {
        let is_own = |route: &str| route.rsplit(':').next() == Some(own.as_str());
        parked.retain(|p| is_own(&p.route));
        unknown.retain(|route| is_own(route));
    }
    Ok(Json(List { parked, unknown }))
}

/// The database's words and the pending rows. They hold values: for admins and the subscriber.
#[utoipa::path(
    get,
    path = "/v1/parked/show",
    operation_id = "show_parked",
    tag = "parked",
    params(Which),
    responses(
        (status = 200, description = "The keys that are meant, with their rows.", body = List),
        NoRoute,
        NotAtWork,
    ),
)]
async fn show(
    State(api): State<Api>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<List>, Problem> {
    let route = read(&which.route)?;
    caller.may(Deed::ReadParked(&route))?;
    let keys = which.keys();
    let found = api.stop.run_until_cancelled(api.board.parked_rows(&route, &keys)).await;
    let found = found.ok_or_else(Problem::stopping)?.map_err(|e| refused(&e))?;
    let parked = found.into_iter().map(Parked::from).collect();
    Ok(Json(List { parked, unknown: Vec::new() }))
}

/// Tries parked keys again, now.
#[utoipa::path(
    post,
    path = "/v1/parked/retry",
    operation_id = "retry_parked",
    tag = "parked",
    params(Which),
    responses(
        (status = 200, description = "They were tried.", body = Outcome),
        NoRoute,
        NotAtWork,
    ),
)]
async fn retry(
    State(api): State<Api>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<Outcome>, Problem> {
    let route = read(&which.route)?;
    caller.may(Deed::ChangeParked(&route))?;
    let _seat = api.wait_seat()?;
    let done = api.stop.run_until_cancelled(api.board.retry_parked(&route, which.keys())).await;
    let outcome = done.ok_or_else(Problem::stopping)?.map_err(|e| refused(&e))?;
    Ok(Json(outcome.into()))
}

/// Gives up the pending rows of parked keys: the copy keeps what it has for them until their next
/// whole row.
#[utoipa::path(
    post,
    path = "/v1/parked/drop",
    operation_id = "drop_parked",
    tag = "parked",
    params(Which),
    responses(
        (status = 200, description = "They were given up.", body = Outcome),
        NoRoute,
        NotAtWork,
    ),
)]
async fn drop_pending(
    State(api): State<Api>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<Outcome>, Problem> {
    let route = read(&which.route)?;
    caller.may(Deed::ChangeParked(&route))?;
    let _seat = api.wait_seat()?;
    let done = api.stop.run_until_cancelled(api.board.drop_parked(&route, which.keys())).await;
    let outcome = done.ok_or_else(Problem::stopping)?.map_err(|e| refused(&e))?;
    Ok(Json(outcome.into()))
}

impl Which {
    fn keys(self) -> ParkWhich {
        ParkWhich { table: self.table, key: self.key }
    }
}

fn read(route: &str) -> Result<RouteId, Problem> {
    route.parse().map_err(|e| Problem::bad_request(format!("route: {e}")))
}

fn refused(error: &ParkError) -> Problem {
    let status = match error {
        ParkError::NoRoute(_) | ParkError::NoKey(_) => StatusCode::NOT_FOUND,
        ParkError::NotAtWork(_) | ParkError::Unknown(_) => StatusCode::CONFLICT,
    };
    Problem::new(status, error.to_string())
}
