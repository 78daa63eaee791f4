//! Which page do operators see in a browser? One, with a script and a style of its own, all of it in
//! the binary.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::reply::{Reply, told};

/// Its files: path, media type, content.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/admin.html"),
    ),
    (
        "/admin.css",
        "text/css; charset=utf-8",
        include_str!("page/admin.css"),
    ),
    (
        "/admin.js",
        "text/javascript; charset=utf-8",
        include_str!("page/admin.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Nothing but these files is loaded or asked, no form leads anywhere, nobody puts it into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// The file at this path, if it is one of the page's.
pub(super) fn file(path: &str) -> Option<Reply> {
    let (_, kind, content) = FILES.into_iter().find(|(known, ..)| *known == path)?;
    let mut reply = told(StatusCode::OK, kind, Bytes::from_static(content.as_bytes()));
    let headers = reply.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(reply)
}

/// Whether who asks wants a page, as browsers do.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|kinds| kinds.contains("text/html"))
}
