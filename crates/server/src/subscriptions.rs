//! Subscriptions and routes, changed while everything runs.

use crate::api::Api;
use crate::auth::{Caller, Deed};
use crate::extract::{Asked, Named, Nothing, Sent};
use crate::openapi::refusals::Refused;
use crate::openapi::{shapes, words};
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rowcast_core::{
    Begin, EditError, EntityRef, Entry, Fields, Filter, FilterError, Origin, Pause, RegistryError,
    RouteId, ServiceName, Subscription, quote,
};
use rowcast_engine::{Refusal, Subscribed, Subscriptions};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, subscribe))
        .routes(routes!(unsubscribe))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(replay))
}

/// Who gets what.
#[derive(Serialize, ToSchema)]
struct Listed {
    #[schema(value_type = Vec<shapes::Subscribed>)]
    subscriptions: Vec<Subscribed>,
}

/// Who is to get what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// The subscriber.
    #[schema(value_type = words::Service)]
    to: String,
    /// The entity: `customer.customer`.
    #[schema(value_type = words::EntityRef)]
    of: String,
    /// The copy's table; the entity's name if unset.
    #[schema(min_length = 1)]
    into: Option<String>,
    /// Which fields; all, also those that come later, if unset.
    #[schema(min_items = 1)]
    fields: Option<Vec<WishedField>>,
    /// The table may be made when it is missing; true if unset.
    create: Option<bool>,
    /// Which rows, as an SQL condition over the entity's fields; all if unset.
    #[serde(rename = "where")]
    filter: Option<String>,
    /// Where the copy begins: `beginning` if unset, `now`, an offset, or a position of the source's.
    #[schema(value_type = Option<words::Start>)]
    from: Option<String>,
}

/// `"name"`, or `["name in the copy", "published name"]`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum WishedField {
    Plain(String),
    Renamed(Vec<String>),
}

/// Which of several copies of one entity.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// The copy's table, when there are several of one entity.
    #[param(nullable = false)]
    into: Option<String>,
}

/// On whose word a route stops.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Reason {
    /// Who, without control characters; `the API` if unset.
    #[schema(max_length = 200, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    by: Option<String>,
    /// Why, without control characters.
    #[schema(max_length = 200, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    why: Option<String>,
}

/// What became of a route.
#[derive(Debug, Serialize, ToSchema)]
struct Told {
    /// Which route.
    route: String,
    /// Whether it stands still now on a person's word.
    paused: bool,
}

/// What is to be applied again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Again {
    /// To the copies of which entities; of all if unset or empty.
    #[schema(value_type = Vec<words::Entity>)]
    entities: Vec<String>,
    /// From where on: `beginning` if unset, an offset, or a position of the source's.
    #[schema(value_type = Option<words::Start>)]
    from: Option<String>,
}

/// What is being built.
#[derive(Debug, Serialize, ToSchema)]
struct Replaying {
    /// Which route.
    route: String,
    /// How many copies are built.
    copies: usize,
    /// The offset from which on the log is applied to the rows that they have; `null` when they are
    /// built from nothing.
    #[schema(required)]
    from: Option<u64>,
}

/// All subscriptions, those of the file and those made while it runs.
#[utoipa::path(
    get,
    path = "/v1/subscriptions",
    operation_id = "list_subscriptions",
    tag = "subscriptions",
    responses(
        (status = 200, description = "All of them.", body = Listed),
        Refused,
    ),
)]
async fn list(
    State(api): State<Api>,
    caller: Caller,
    _: Asked<Nothing>,
) -> Result<Json<Listed>, Problem> {
    caller.may(Deed::SeeSubscriptions)?;
    let subscriptions = subscriptions(&api)?.list().await.map_err(|e| refused(&e))?;
    let own = caller.limited_to();
    let mine = |s: &Subscribed| own.is_none_or(|own| s.to == own.as_str());
    Ok(Json(Listed { subscriptions: subscriptions.into_iter().filter(mine).collect() }))
}

/// Lets a service have a copy of another's entity, from now on.
#[utoipa::path(
    post,
    path = "/v1/subscriptions",
    tag = "subscriptions",
    request_body = Wish,
    responses(
        (status = 201, description = "It is remembered, and under way.", body = shapes::Subscribed,
            links(("unsubscribe" = (operation_id = "unsubscribe", parameters(
                ("to" = "$response.body#/to"), ("of" = "$response.body#/of"),
                ("into" = "$response.body#/into"),
            ))))),
        Refused,
    ),
)]
async fn subscribe(
    State(api): State<Api>,
    caller: Caller,
    _: Asked<Nothing>,
    Sent(wish): Sent<Wish>,
) -> Result<(StatusCode, Json<Subscribed>), Problem> {
    let entry = entry(wish)?;
    caller.may(Deed::ManageSubscriptions(&entry.to))?;
    let made = subscriptions(&api)?.subscribe(entry).await.map_err(|e| refused(&e))?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Ends a subscription. The copy's table stays, with its rows.
#[utoipa::path(
    delete,
    path = "/v1/subscriptions/{to}/{of}",
    tag = "subscriptions",
    params(
        ("to" = inline(words::Service), Path, description = "The subscriber."),
        ("of" = inline(words::EntityRef), Path, description = "The entity: `customer.customer`."),
        Which,
    ),
    responses(
        (status = 200, description = "What was ended.", body = shapes::Subscribed),
        Refused,
    ),
)]
async fn unsubscribe(
    State(api): State<Api>,
    caller: Caller,
    Named((to, of)): Named<(String, String)>,
    Asked(which): Asked<Which>,
) -> Result<Json<Subscribed>, Problem> {
    let (to, of): (ServiceName, EntityRef) = (parsed("to", &to)?, parsed("of", &of)?);
    caller.may(Deed::ManageSubscriptions(&to))?;
    let gone = subscriptions(&api)?.unsubscribe(&to, &of, which.into.as_deref()).await;
    Ok(Json(gone.map_err(|e| refused(&e))?))
}

/// Stops a route, also across restarts. The log keeps what comes.
#[utoipa::path(
    post,
    path = "/v1/routes/{route}/pause",
    tag = "subscriptions",
    params(("route" = inline(words::Route), Path, description = "The route, written FROM:TO.")),
    request_body = Reason,
    responses(
        (status = 200, description = "It stands still.", body = Told),
        Refused,
    ),
)]
async fn pause(
    State(api): State<Api>,
    caller: Caller,
    Named(route): Named<String>,
    _: Asked<Nothing>,
    Sent(Reason { by, why }): Sent<Reason>,
) -> Result<Json<Told>, Problem> {
    let id: RouteId = parsed("route", &route)?;
    caller.may(Deed::ManageSubscriptions(&id.to))?;
    let pause = Pause { by: by.unwrap_or_else(|| "the API".into()), why };
    let odd = |text: &String| text.chars().count() > 200 || text.chars().any(char::is_control);
    if odd(&pause.by) || pause.why.as_ref().is_some_and(odd) {
        let detail = "`by` and `why` are at most 200 characters without control characters";
        return Err(Problem::bad_request(detail));
    }
    subscriptions(&api)?.pause(&id, pause).await.map_err(|e| refused(&e))?;
    Ok(Json(Told { route, paused: true }))
}

/// Lets a paused route go on; one that waits looks again at once.
#[utoipa::path(
    post,
    path = "/v1/routes/{route}/resume",
    tag = "subscriptions",
    params(("route" = inline(words::Route), Path, description = "The route, written FROM:TO.")),
    responses(
        (status = 200, description = "It goes on.", body = Told),
        Refused,
    ),
)]
async fn resume(
    State(api): State<Api>,
    caller: Caller,
    Named(route): Named<String>,
    _: Asked<Nothing>,
) -> Result<Json<Told>, Problem> {
    let id: RouteId = parsed("route", &route)?;
    caller.may(Deed::ManageSubscriptions(&id.to))?;
    subscriptions(&api)?.resume(&id).await.map_err(|e| refused(&e))?;
    Ok(Json(Told { route, paused: false }))
}

/// Applies the log to a route's copies again, beside them: readers see them as they are until what was
/// built is swapped in, in one transaction.
#[utoipa::path(
    post,
    path = "/v1/routes/{route}/replay",
    tag = "subscriptions",
    params(("route" = inline(words::Route), Path, description = "The route, written FROM:TO.")),
    request_body = Again,
    responses(
        (status = 202, description = "The target remembers it.", body = Replaying),
        Refused,
    ),
)]
async fn replay(
    State(api): State<Api>,
    caller: Caller,
    Named(route): Named<String>,
    _: Asked<Nothing>,
    Sent(Again { entities, from }): Sent<Again>,
) -> Result<(StatusCode, Json<Replaying>), Problem> {
    let id: RouteId = parsed("route", &route)?;
    caller.may(Deed::ManageSubscriptions(&id.to))?;
    let entities = entities.iter().map(|e| parsed("entities", e)).collect::<Result<_, _>>()?;
    let from = begin(from)?;
    let replayed = api.board.replay(&id, entities, from).await.map_err(|e| refused(&e))?;
    let (copies, from) = (replayed.copies, replayed.from.map(|at| at.0));
    Ok((StatusCode::ACCEPTED, Json(Replaying { route, copies, from })))
}

fn begin(text: Option<String>) -> Result<Begin, Problem> {
    text.map_or(Ok(Begin::Beginning), |text| parsed("from", &text))
}

fn subscriptions(api: &Api) -> Result<Arc<Subscriptions>, Problem> {
    api.board.subscriptions().cloned().ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "the subscriptions of this instance are fixed")
    })
}

fn entry(wish: Wish) -> Result<Entry, Problem> {
    let (to, of): (_, EntityRef) = (parsed("to", &wish.to)?, parsed("of", &wish.of)?);
    let from = begin(wish.from)?;
    let filter = wish.filter.as_deref().map(filter).transpose()?;
    let fields = match wish.fields {
        None => Fields::All,
        Some(list) if list.is_empty() => {
            return Err(Problem::bad_request("`fields` is empty: no fields are taken"));
        }
        Some(list) => Fields::Named(list.into_iter().map(named).collect::<Result<_, _>>()?),
    };
    // An entity's name may be none that a table can have without quotes.
    let name = of.entity.as_str();
    let plain = rowcast_core::parse_path(name).is_ok_and(|parts| parts.len() == 1);
    let table = || if plain { name.to_string() } else { quote(name) };
    let into = wish.into.unwrap_or_else(table);
    let create = wish.create.unwrap_or(true);
    let entity = of.entity.clone();
    let subscription = Subscription { entity, into, fields, create, filter, from };
    Ok(Entry { to, from: of.service, subscription, origin: Origin::RunTime })
}

/// A condition; a mistake in it is shown at its place.
fn filter(text: &str) -> Result<Filter, Problem> {
    text.parse().map_err(|e: FilterError| {
        let mut lines = vec![e.shown(text), e.help.clone()];
        lines.retain(|line| !line.is_empty());
        Problem::bad_request(format!("where: {e}"))
            .help(format!("{}; nothing was changed", lines.join("\n")))
    })
}

fn named(field: WishedField) -> Result<(String, String), Problem> {
    match field {
        WishedField::Plain(name) => Ok((name.clone(), name)),
        WishedField::Renamed(names) => match <[String; 2]>::try_from(names) {
            Ok([local, published]) => Ok((local, published)),
            Err(_) => {
                let detail = "a renamed field is a pair: its name in the copy, its published name";
                Err(Problem::bad_request(detail))
            }
        },
    }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|e| Problem::bad_request(format!("{key}: {e}")))
}

/// A refusal as a problem, with the code of its page and what to do.
fn refused(refusal: &Refusal) -> Problem {
    Problem::of(refusal).answering(status(refusal))
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Missing { .. } => StatusCode::NOT_FOUND,
        Refusal::Unfit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Ambiguous { .. } | Refusal::NotNow { .. } => StatusCode::CONFLICT,
        Refusal::Late { .. } => StatusCode::GATEWAY_TIMEOUT,
        Refusal::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Registry(RegistryError::Refused(e)) => match e {
            EditError::FileOwns { .. } | EditError::Differs { .. } | EditError::Taken { .. } => {
                StatusCode::CONFLICT
            }
            EditError::NoSubscription { .. } | EditError::NoRoute(_) => StatusCode::NOT_FOUND,
        },
        Refusal::Registry(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
