//! What may be answered wherever one asks: the refusals of the layers before every handler. A handler
//! describes its own.

use crate::problem::Problem;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr};

/// Of what names a route that has to be there.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "read by the macro that writes the document")]
pub(crate) enum NoRoute {
    /// A parameter is missing or wrong.
    #[response(status = 400, content_type = "application/problem+json")]
    Wrong(Problem),
    /// There is no such route, or nothing like that on it.
    #[response(status = 404, content_type = "application/problem+json")]
    Missing(Problem),
}

/// Of what a route does between two chunks.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "read by the macro that writes the document")]
pub(crate) enum NotAtWork {
    /// The route is not at work: it is paused, or waits for its database.
    #[response(status = 409, content_type = "application/problem+json")]
    Resting(Problem),
}

/// Of what changes the subscription map, or may not.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "read by the macro that writes the document")]
pub(crate) enum Refused {
    /// Refused.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Theirs(Problem),
    /// Not now.
    #[response(status = "5XX", content_type = "application/problem+json")]
    Ours(Problem),
}

/// Status, meaning, and the header that comes with it.
type Refusal = (&'static str, &'static str, Option<(&'static str, &'static str)>);

const UNKNOWN: Refusal = (
    "401",
    "No token, or an unknown one.",
    Some(("WWW-Authenticate", "How to say who asks: `Bearer`.")),
);
/// Of every path.
const ANYWHERE: [Refusal; 4] = [
    ("403", "This token may not, or a page of another site asks where there are no tokens.", None),
    ("414", "The path with its query is too long.", None),
    ("421", "There are no tokens, and the request is not meant for this machine.", None),
    (
        "503",
        "Too many ask at once, or it took too long, or Rowcast is stopping.",
        Some(("Retry-After", "Seconds after which asking again may help.")),
    ),
];
/// Of paths that take a body.
const OF_BODIES: [Refusal; 5] = [
    ("400", "The body is no JSON, or a part of it cannot be read.", None),
    ("408", "The body did not arrive in time.", None),
    ("413", "The body is too large.", None),
    ("415", "The body does not say that it is `application/json`.", None),
    ("422", "The body has another shape.", None),
];

/// Adds them to every operation that does not describe them itself.
pub(super) fn add(document: &mut OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let open = operation.security.as_ref().is_some_and(|s| {
            s.iter().any(|one| serde_json::to_value(one).is_ok_and(|v| v == serde_json::json!({})))
        });
        let unknown = (!open).then_some(UNKNOWN);
        let bodies = operation.request_body.is_some().then_some(OF_BODIES);
        let refusals = unknown.into_iter().chain(ANYWHERE).chain(bodies.into_iter().flatten());
        for refusal in refusals {
            let (status, ..) = refusal;
            let known = operation.responses.responses.entry(status.into());
            let response = known.or_insert_with(|| RefOr::T(described(refusal)));
            // A handler that describes it leaves the header to us.
            if let (RefOr::T(response), (_, _, Some((name, about)))) = (response, refusal) {
                response.headers.entry(name.into()).or_insert_with(|| RefOr::T(header(about)));
            }
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten()
}

fn described((_, description, _): Refusal) -> Response {
    let problem = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(problem)).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .build()
}

fn header(about: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(Type::String).build());
    header.description = Some(about.into());
    header
}
