//! The OpenAPI document, made from the handlers that the router serves: neither knows a path that the
//! other does not.

pub(crate) mod refusals;
pub(crate) mod shapes;
pub(crate) mod words;

use crate::api::Api;
use crate::auth::Caller;
use crate::problem::Problem;
use crate::router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use std::sync::LazyLock;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(openapi))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rowcast",
        description = "Keeps the databases of microservices in step.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "The instance that serves this document.")),
    components(schemas(
        words::Service,
        words::Entity,
        words::EntityRef,
        words::Route,
        words::Position,
        words::Begin,
        shapes::CloudEvent,
        Problem,
    )),
    tags(
        (name = "health", description = "For probes."),
        (name = "status", description = "How far everything is."),
        (name = "parked", description = "Rows that do not fit their copy."),
        (name = "subscriptions", description = "Who gets what."),
        (name = "events", description = "Changes, as they come."),
        (name = "metrics", description = "For Prometheus."),
    ),
    security(("token" = [])),
    modifiers(&Tokens),
)]
struct Head;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
    }
}

/// The document as JSON.
pub fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let head = OpenApiRouter::with_openapi(Head::openapi());
        let rooms = head.merge(router::quick()).merge(router::patient());
        let mut document = rooms.into_openapi();
        document.info.version = env!("CARGO_PKG_VERSION").into();
        refusals::add(&mut document);
        document.to_pretty_json().expect("the document holds nothing that JSON lacks")
    });
    &DOCUMENT
}

/// This document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "health",
    responses(
        (status = 200, description = "OpenAPI 3.1.", body = Object),
    ),
)]
async fn openapi(_: Caller) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], document())
}
