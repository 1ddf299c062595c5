//! Without tokens, being on this machine is all that lets anybody in. A browser on this machine also
//! runs other people's pages: what one of those sends is refused, by the names it cannot forge.

use crate::api::Api;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// What a browser says of where a request comes from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request pass when it was meant for this machine and no foreign page sent it. With tokens
/// there is nothing to do: a page does not know them.
pub(crate) async fn same_place(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.access.is_open() {
        if !meant_for_us(request.uri(), request.headers()) {
            let detail = "without tokens only requests to localhost are answered";
            return Problem::new(StatusCode::MISDIRECTED_REQUEST, detail)
                .help("ask 127.0.0.1, or configure `[server] tokens`")
                .into_response();
        }
        if foreign(request.headers()) {
            let detail = "without tokens no requests of other sites' pages are answered";
            return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
        }
    }
    next.run(request).await
}

/// Whether the request names this machine. A page whose own name was bound anew to our address
/// (DNS rebinding) sends its own name.
fn meant_for_us(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let named = host.to_str().ok().and_then(|h| h.parse::<Authority>().ok());
    let asked = uri.authority().is_none_or(|a| is_here(a.host()));
    asked && named.is_some_and(|a| is_here(a.host()))
}

fn foreign(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(|v| v.as_bytes());
    if site.is_some_and(|s| !matches!(s, b"same-origin" | b"none")) {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let host = origin.to_str().ok().and_then(|o| o.parse::<Uri>().ok());
    !host.as_ref().and_then(Uri::host).is_some_and(is_here)
}

fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[test]
    fn only_names_of_this_machine_are_ours() {
        let path = Uri::from_static("/v1/status");
        for host in ["localhost", "LOCALHOST:7117", "127.0.0.1", "127.0.0.2:80", "[::1]:7117"] {
            assert!(meant_for_us(&path, &headers(&[("host", host)])), "{host}");
        }
        for host in ["", "x", "localhost.evil.com", "127.0.0.1.nip.io", "10.0.0.1", "[::2]", "a b"]
        {
            assert!(!meant_for_us(&path, &headers(&[("host", host)])), "{host}");
        }
        assert!(!meant_for_us(&path, &HeaderMap::new()));
        let elsewhere = Uri::from_static("http://evil.com/v1/status");
        assert!(!meant_for_us(&elsewhere, &headers(&[("host", "localhost")])));
    }

    #[test]
    fn what_a_page_elsewhere_sends_is_foreign() {
        for own in [&[][..], &[("origin", "http://localhost:3000")], &[("sec-fetch-site", "none")]]
        {
            assert!(!foreign(&headers(own)), "{own:?}");
        }
        for other in [
            ("origin", "https://evil.com"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(foreign(&headers(&[other])), "{other:?}");
        }
    }
}
