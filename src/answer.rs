//! In which form does the gate speak for itself?

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use serde_json::json;

use crate::credential;
use crate::dialect::{CrossOrigin, Dialect, Endpoint};
use crate::page;
use crate::refusal::{Detail, Reason, Refusal, Side};
use crate::route::{LoginPage, Route};
use crate::upstream::translate::X_REQUEST_ID;

/// Whose form a refusal takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Voice {
    /// A dialect's, at one of its endpoints.
    Endpoint(&'static dyn Dialect, Endpoint),
    /// No dialect is known.
    Plain,
    /// That of a route's dialect, if it names one.
    Route(Option<&'static dyn Dialect>),
}

impl Voice {
    /// Which other sites' pages may call.
    pub(crate) fn cross_origin(self) -> CrossOrigin {
        match self {
            Self::Endpoint(dialect, _) | Self::Route(Some(dialect)) => dialect.cross_origin(),
            Self::Plain | Self::Route(None) => CrossOrigin::None,
        }
    }

    /// The refusal as a response.
    pub(crate) fn refuse(self, refusal: &Refusal) -> Response<Bytes> {
        let (mut response, is_endpoint) = match self {
            Self::Endpoint(dialect, endpoint) => (dialect.refused(Some(endpoint), refusal), true),
            Self::Route(Some(dialect)) => (dialect.refused(None, refusal), false),
            Self::Plain | Self::Route(None) => (plain(refusal), false),
        };
        if let Some(page) = &refusal.page {
            response = Response::clone(page);
        }
        let status = response.status();
        let headers = response.headers_mut();
        if let Some(Detail::Allow(methods)) = &refusal.detail {
            headers.extend(
                HeaderValue::from_str(methods)
                    .ok()
                    .map(|value| (ALLOW, value)),
            );
        }
        if let Some(Detail::RetryAfter(seconds)) = refusal.detail {
            headers.insert(RETRY_AFTER, seconds.into());
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if refusal.reason == Reason::AmbiguousRequest {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let is_challenge =
            status == StatusCode::UNAUTHORIZED || refusal.reason.bearer_error().is_some();
        if is_challenge && !is_endpoint {
            headers.extend(challenge(refusal).map(|value| (WWW_AUTHENTICATE, value)));
        }
        response
    }
}

/// The form where no dialect is known: RFC 6749 section 5.2's fields.
fn plain(refusal: &Refusal) -> Response<Bytes> {
    let reason = refusal.reason;
    let error = reason.bearer_error().unwrap_or_else(|| reason.label());
    let body = json!({"error": error, "error_description": reason.text()});
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = reason.status();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `WWW-Authenticate` as in RFC 6750 section 3.
fn challenge(refusal: &Refusal) -> Option<HeaderValue> {
    let mut challenge = "Bearer realm=\"tollgate\"".to_owned();
    if let Some(error) = refusal.reason.bearer_error() {
        let text = refusal.reason.text();
        challenge += &format!(", error=\"{error}\", error_description=\"{text}\"");
    }
    if let Some(Detail::Scope(scope)) = &refusal.detail {
        challenge += &format!(", scope=\"{scope}\"");
    }
    HeaderValue::from_str(&challenge).ok()
}

/// Where a browser is sent if it has no good credential for a page; and whether that is the gate's
/// own page.
pub(crate) fn login_page(route: &Route, head: &request::Parts) -> Option<(HeaderValue, bool)> {
    let page = route.login_page.as_ref().filter(|_| wants_page(head))?;
    let target = credential::target_without(head, &route.token);
    let is_own = matches!(page, LoginPage::Own(_));
    page.then(&target).map(|page| (page, is_own))
}

/// Whether a browser asks for a page to show, and not a script for data.
fn wants_page(head: &request::Parts) -> bool {
    let text = |name: HeaderName| {
        let value = head.headers.get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let accept = text(ACCEPT).unwrap_or_default();
    let is_html = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/html")
    };
    let is_navigation = text(SEC_FETCH_MODE).is_none_or(|mode| mode == "navigate");
    (head.method == Method::GET || head.method == Method::HEAD)
        && is_navigation
        && accept.split(',').any(is_html)
}

/// Set by browsers alone: what a request is for (Fetch Metadata).
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Sends a browser to a page where its user can log in.
pub(crate) fn redirect(page: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, page);
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// What a person is shown of a refusal.
pub(crate) fn page(refusal: &Refusal, login_page: &str) -> Box<Response<Bytes>> {
    let reason = refusal.reason;
    let way_out = (reason.side() == Side::Downstream).then_some((login_page, "Log in again"));
    Box::new(page::refused(reason.status(), reason.text(), way_out))
}

/// The client's id for its request if it is well-formed, else a new random one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_fine = |value: &&HeaderValue| {
        let text = value.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=MAX_REQUEST_ID).contains(&text.len()) && text.iter().all(is_plain)
    };
    if let Some(given) = headers.get(X_REQUEST_ID).filter(is_fine) {
        return given.clone();
    }
    let (mut id, mut random) = ([0; 32], fastrand::u128(..));
    for digit in &mut id {
        let value = (random % 16) as u8;
        *digit = if value < 10 { b'0' } else { b'a' - 10 } + value;
        random /= 16;
    }
    // Hexadecimal digits are always a valid header value.
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// The longest id that is taken from a client, in bytes.
const MAX_REQUEST_ID: usize = 128;
