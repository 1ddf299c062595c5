//! Errors as RFC 9457 has them. The one place where a code becomes a status.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rowcast_core::{Code, Diagnose, Remedy};
use rowcast_engine::TroubleReport;
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which asking again may help.
const AGAIN_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Why there is no answer: `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:rowcast:error:CODE` when there is a code, else `about:blank`.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened.
    detail: String,
    /// The name of the page that explains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<&'static str>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    help: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code: None,
            help: None,
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "rowcast is stopping")
    }

    /// Of an error that knows its remedy.
    pub(crate) fn of(error: &dyn Diagnose) -> Self {
        let report = TroubleReport::of(error);
        let status = match error.remedy() {
            Remedy::Retry => StatusCode::SERVICE_UNAVAILABLE,
            Remedy::Operator(code) | Remedy::Park(code) => status_of(code),
            Remedy::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let problem = Self::new(status, report.line()).help(report.help);
        match report.code {
            Some(code) => {
                Self { kind: format!("urn:rowcast:error:{code}"), code: Some(code), ..problem }
            }
            None => problem,
        }
    }

    /// Answers with this status.
    pub(crate) fn answering(mut self, status: StatusCode) -> Self {
        self.status = status.as_u16();
        self.title = status.canonical_reason().unwrap_or("Error");
        self
    }

    /// Says what to do next.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into()).filter(|h| !h.is_empty());
        self
    }
}

/// The status that a code answers with. Exhaustive on purpose: a new code has to choose.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Config | Code::Subscription => StatusCode::BAD_REQUEST,
        Code::LogTrimmed => StatusCode::GONE,
        Code::LogDamaged | Code::LogFailed | Code::Registry => StatusCode::SERVICE_UNAVAILABLE,
        // A person has to act on a database first.
        Code::DataLocked
        | Code::SourceSetup
        | Code::SourceSchema
        | Code::SourceEpoch
        | Code::SourceBusy
        | Code::SourceData
        | Code::SinkSchema
        | Code::SinkSetup
        | Code::SinkData
        | Code::SinkParked
        | Code::SinkCheckpoint => StatusCode::CONFLICT,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"rowcast\"");
            headers.insert(WWW_AUTHENTICATE, scheme);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, AGAIN_AFTER);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_core::{LogError, Offset};

    #[test]
    fn an_error_with_a_code_says_it_and_what_to_do() {
        let (stream, at, first) = ("shop".parse().unwrap(), Offset(3), Offset(9));
        let problem = Problem::of(&LogError::Trimmed { stream, at, first });
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "urn:rowcast:error:LOG-TRIMMED");
        assert_eq!(
            (json["status"].as_u64(), json["code"].as_str()),
            (Some(410), Some("LOG-TRIMMED"))
        );
        assert!(json["detail"].as_str().unwrap().contains("begins at offset 9"), "{json}");
        assert!(json["help"].as_str().unwrap().contains("built anew"), "{json}");
    }

    #[test]
    fn every_code_answers_with_an_error() {
        for code in Code::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}");
        }
    }
}
