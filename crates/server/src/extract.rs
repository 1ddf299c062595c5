//! What requests bring: path, query and body, with their mistakes as problems.

use crate::limits::Limits;
use crate::problem::Problem;
use axum::Json;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// The query of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|e| Problem::bad_request(e.body_text()))
    }
}

/// No parameters: one that is written all the same is not passed over, because whoever wrote it
/// believes that it means something.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// The parts of a request's path that stand for something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|e| Problem::new(e.status(), e.body_text()))
    }
}

/// The JSON body of a request. Its content type must say so: a page in a browser cannot send that to
/// us without asking first, and we never agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T>
where
    Limits: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let within = Limits::from_ref(state).answer_within;
        let body = tokio::time::timeout(within, Json::from_request(request, state)).await;
        let body = body.map_err(|_| {
            let detail = format!("the body did not arrive within {within:?}");
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })?;
        body.map(|Json(Object(body))| Self(body)).map_err(|e| {
            let problem = Problem::new(e.status(), e.body_text());
            match e.status() {
                StatusCode::UNSUPPORTED_MEDIA_TYPE => problem.help(
                    "send JSON with the header `Content-Type: application/json`; `{}` where there \
                     is nothing to say",
                ),
                _ => problem,
            }
        })
    }
}

/// A structure that is written as an object: serde takes a list of its fields, too, which would give
/// the order of our fields a meaning.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::header::CONTENT_TYPE;

    #[derive(Deserialize)]
    struct Count {
        n: u32,
    }

    async fn sent(content_type: &str, body: &'static str) -> Result<u32, serde_json::Value> {
        let request = Request::builder().header(CONTENT_TYPE, content_type);
        let request = request.body(Body::from(body)).unwrap();
        let sent = Sent::<Count>::from_request(request, &Limits::default()).await;
        sent.map(|Sent(Count { n })| n).map_err(|problem| serde_json::to_value(problem).unwrap())
    }

    #[tokio::test]
    async fn a_body_is_json_and_says_so() {
        assert_eq!(sent("application/json", r#"{"n": 7}"#).await, Ok(7));
        for (content_type, body, status) in [
            ("text/plain", r#"{"n": 7}"#, 415),
            ("application/json", "x", 400),
            ("application/json", r#"{"n": -7}"#, 422),
            ("application/json", r#"{"n": 7, "n": 8}"#, 422),
            ("application/json", "7", 422),
            ("application/json", "[7]", 422),
        ] {
            let problem = sent(content_type, body).await.unwrap_err();
            assert_eq!(problem["status"], status, "{problem}");
            let helps = problem["help"].as_str().unwrap_or_default().contains("application/json");
            assert_eq!(helps, status == 415, "{problem}");
        }
    }
}
