//! How does the legacy service word its answers?

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// An answer whose body is known from the start.
pub(super) type Reply = Response<Full<Bytes>>;

/// A status alone.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

/// `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_body(status, "application/json", bytes),
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// `{"message": text}`.
pub(super) fn message(status: StatusCode, text: &str) -> Reply {
    json(status, &serde_json::json!({"message": text}))
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: &'static str) -> Reply {
    with_body(status, "text/plain; charset=utf-8", text)
}

/// The 401 of a service that knows Basic only.
pub(super) fn unauthorized() -> Reply {
    let mut reply = message(StatusCode::UNAUTHORIZED, "Unauthorized");
    let challenge = HeaderValue::from_static("Basic realm=\"legacy\"");
    reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    reply
}

/// The page for people.
pub(super) fn login_page(status: StatusCode) -> Reply {
    with_body(status, "text/html; charset=utf-8", LOGIN_PAGE)
}

/// The page of who is in.
pub(super) fn console() -> Reply {
    with_body(StatusCode::OK, "text/html; charset=utf-8", CONSOLE)
}

/// STS-MQTT's way of saying 401.
pub(super) fn to_login_page() -> Reply {
    let mut reply = login_page(StatusCode::FOUND);
    reply
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static("/login"));
    reply
}

fn with_body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

const CONSOLE: &str = "<!DOCTYPE html>\n<html lang=\"en\"><title>Console</title><link rel=\"icon\" href=\"data:,\">\n\
    <h1>Legacy console</h1>\n<p>The service takes you for its own user.</p>\n\
    <p><a href=\"/headers\">What it sees of you</a> <a href=\"/logout\">Log out</a></p>\n</html>\n";

const LOGIN_PAGE: &str = "<!DOCTYPE html>\n<title>Log in</title>\n<h1>Log in</h1>\n\
    <p>This is the legacy service's login page, for people only.</p>\n";
