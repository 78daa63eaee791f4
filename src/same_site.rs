//! Did a page of this very site ask, or one of another, whose browser adds the cookie by itself?
//!
//! `SameSite=Lax` keeps the cookie from most of what other sites ask; not from their links, nor
//! from what hosts beside this one ask, nor in every browser from WebSockets.

use http::header::{ORIGIN, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderName, Method, request};

/// Whether a request that a cookie came with is the doing of this site's own pages, or of the
/// user: by Fetch Metadata where the browser sends it, else by `Origin`. `origin` is the scheme
/// and authority that were asked for. A link from elsewhere may be followed; whatever could change
/// something, or be read by a script, must come from here.
#[must_use]
pub fn is_own(head: &request::Parts, origin: &str) -> bool {
    let is_upgrade = is_upgrade(head);
    let is_safe = !is_upgrade && matches!(head.method, Method::GET | Method::HEAD);
    let is_from_here = match only(&head.headers, &ORIGIN) {
        Ok(Some(from)) => from.eq_ignore_ascii_case(origin),
        Ok(None) => is_safe,
        Err(Several) => return false,
    };
    let Ok(site) = only(&head.headers, &SEC_FETCH_SITE) else {
        return false;
    };
    match site {
        // Browsers write this of WebSockets later than `Origin`, so that is asked too.
        Some("same-origin") => !is_upgrade || is_from_here,
        // Typed, or a bookmark: nothing that a page could bring about.
        Some("none") => is_safe,
        Some(_) => is_safe && only(&head.headers, &SEC_FETCH_MODE) == Ok(Some("navigate")),
        None => is_from_here,
    }
}

/// Whether a WebSocket is asked for. A proxy that asks for somebody (forward-auth) drops the first
/// of the two headers.
#[must_use]
pub fn is_upgrade(head: &request::Parts) -> bool {
    head.headers.contains_key(UPGRADE) || head.headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// Whether a page of another site, or of a host beside this one, brought a request about, as far as
/// the browser says so. For what nothing but this site's own links should begin.
#[must_use]
pub fn is_from_elsewhere(head: &request::Parts) -> bool {
    let site = only(&head.headers, &SEC_FETCH_SITE);
    !matches!(site, Ok(None | Some("same-origin" | "none")))
}

#[derive(PartialEq, Eq)]
struct Several;

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Several> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(Several),
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::is_own;

    const HERE: &str = "https://gate.example";

    fn judge(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        is_own(&head, HERE)
    }

    #[test]
    fn what_other_sites_bring_about_is_told_apart() {
        let site = "sec-fetch-site";
        let navigate = ("sec-fetch-mode", "navigate");
        let upgrade = ("upgrade", "websocket");
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (method, headers) in [
            ("GET", &[][..]),
            ("GET", &[(site, "same-origin")]),
            ("POST", &[(site, "same-origin"), ("origin", HERE)]),
            ("POST", &[("origin", HERE)]),
            ("DELETE", &[("origin", "HTTPS://gate.EXAMPLE")]),
            ("GET", &[(site, "none"), navigate]),
            ("GET", &[(site, "cross-site"), navigate]),
            ("GET", &[upgrade, ("origin", HERE)]),
            ("GET", &[upgrade, ("origin", HERE), (site, "same-origin")]),
        ] {
            assert!(judge(method, headers), "{method} {headers:?}");
        }
        for (method, headers) in [
            ("POST", &[][..]),
            ("POST", &[("origin", "null")]),
            ("POST", &[("origin", "http://gate.example")]),
            ("POST", &[("origin", "https://gate.example.evil.example")]),
            ("POST", &[("origin", HERE), (site, "cross-site"), navigate]),
            ("POST", &[("origin", HERE), (site, "same-site")]),
            ("POST", &[(site, "none")]),
            ("POST", &[("origin", HERE), ("origin", HERE)]),
            ("PUT", &[(site, "same-origin"), (site, "cross-site")]),
            ("GET", &[("origin", "https://evil.example")]),
            ("GET", &[(site, "cross-site")]),
            ("GET", &[(site, "same-site"), ("sec-fetch-mode", "no-cors")]),
            ("GET", &[upgrade]),
            ("GET", &[upgrade, ("origin", "https://evil.example")]),
            (
                "GET",
                &[
                    upgrade,
                    ("origin", "https://evil.example"),
                    (site, "same-origin"),
                ],
            ),
            ("GET", &[upgrade, (site, "cross-site"), navigate]),
            ("GET", &[key, (site, "same-origin")]),
            ("GET", &[key]),
            ("OPTIONS", &[]),
        ] {
            assert!(!judge(method, headers), "{method} {headers:?}");
        }
    }
}
