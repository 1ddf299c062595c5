//! What requests bring: path, query and body, with their mistakes as problems.

use crate::problem::Problem;
use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

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

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Json::from_request(request, state).await;
        body.map(|Json(body)| Self(body)).map_err(|e| Problem::new(e.status(), e.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::header::CONTENT_TYPE;

    async fn sent(content_type: &str, body: &'static str) -> Result<u32, serde_json::Value> {
        let request = Request::builder().header(CONTENT_TYPE, content_type);
        let request = request.body(Body::from(body)).unwrap();
        let sent = Sent::<u32>::from_request(request, &()).await;
        sent.map(|Sent(n)| n).map_err(|problem| serde_json::to_value(problem).unwrap())
    }

    #[tokio::test]
    async fn a_body_is_json_and_says_so() {
        assert_eq!(sent("application/json", "7").await, Ok(7));
        for (content_type, body, status) in [
            ("text/plain", "7", 415),
            ("application/json", "x", 400),
            ("application/json", "-7", 422),
        ] {
            let problem = sent(content_type, body).await.unwrap_err();
            assert_eq!(problem["status"], status, "{problem}");
        }
    }
}
