//! What does an answer of the admin listener look like?

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// An answer, whole.
pub(super) type Reply = Response<Full<Bytes>>;

/// Plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    told(
        status,
        "text/plain; version=0.0.4; charset=utf-8",
        body.into(),
    )
}

/// JSON, which nobody keeps.
pub(super) fn json(body: &impl Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(json) => told(StatusCode::OK, "application/json", json.into()),
        Err(error) => {
            tracing::error!(%error, "an answer of the admin listener could not be written");
            let why = "the answer could not be written\n";
            text(StatusCode::INTERNAL_SERVER_ERROR, why)
        }
    }
}

/// An answer of this media type.
pub(super) fn told(status: StatusCode, kind: &'static str, body: Bytes) -> Reply {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
