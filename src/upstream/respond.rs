//! What may go back to the client? An upstream that refuses the gate is not the client's fault.

use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, LOCATION, PROXY_AUTHENTICATE, REFERRER_POLICY,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cookie;

/// How an upstream says that it refuses the gate's credentials.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefusalSignsConfig {
    /// Statuses that mean refusal.
    pub statuses: Vec<u16>,
    /// Patterns of a redirect's `Location` that mean refusal, such as `/login*`; `*` stands for
    /// any text. Judged on the whole value and on its path.
    pub locations: Vec<String>,
}

impl Default for RefusalSignsConfig {
    fn default() -> Self {
        Self {
            statuses: vec![401],
            locations: Vec::new(),
        }
    }
}

/// How an upstream refuses, ready for use.
#[derive(Clone, Debug)]
pub struct RefusalSigns {
    statuses: Vec<u16>,
    locations: Vec<String>,
}

impl RefusalSignsConfig {
    pub(crate) fn build(&self) -> RefusalSigns {
        RefusalSigns {
            statuses: self.statuses.clone(),
            locations: self.locations.clone(),
        }
    }
}

impl RefusalSigns {
    /// Whether this answer means that the upstream refused the gate's credentials.
    #[must_use]
    pub fn are_in(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if self.statuses.contains(&status.as_u16()) {
            return true;
        }
        if !status.is_redirection() || self.locations.is_empty() {
            return false;
        }
        let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        let matches =
            |pattern: &String| is_like(pattern, location) || is_like(pattern, path_of(location));
        self.locations.iter().any(matches)
    }
}

/// Whether an answer's body has one end, wherever it is looked for (RFC 9112 section 6.3): one
/// length, or chunks and no length, or neither. hyper reads by the chunks where there is a length
/// too, and would write by the length.
#[must_use]
pub fn has_one_end(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let has_length = lengths.next().is_some();
    if lengths.next().is_some() {
        return false;
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => !has_length && coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// Removes what belongs to the connection with the upstream (RFC 9110 section 7.6.1) and what is
/// the gate's affair.
pub fn clean(headers: &mut HeaderMap) {
    super::translate::remove_hop_by_hop(headers);
    clean_agreement(headers);
}

/// Removes an upstream's challenges, which are meant for the gate, and what would set the gate's
/// cookies. Of an upstream that agrees to a WebSocket that is all: the connection goes on.
pub fn clean_agreement(headers: &mut HeaderMap) {
    headers.remove(WWW_AUTHENTICATE);
    headers.remove(PROXY_AUTHENTICATE);
    cookie::remove_set(headers);
}

/// Keeps an answer to a URL that held a token out of caches, and the URL out of `Referer`.
pub fn hush(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Keeps an upstream's answer to a browser's session out of caches that others share. The upstream
/// saw `Authorization`, which alone does that (RFC 9111 section 3.5); such a cache sees a cookie.
/// What the upstream lets them keep all the same, it may.
pub fn keep_private(headers: &mut HeaderMap) {
    let is_said = |value: &HeaderValue| {
        let mut directives = value.as_bytes().split(|byte| *byte == b',');
        directives.any(|directive| {
            let directive = directive.trim_ascii();
            let decides = |known: &&str| directive.eq_ignore_ascii_case(known.as_bytes());
            // With a value: a number of seconds.
            let age = directive.get(..SHARED_AGE.len()).unwrap_or_default();
            DECIDING.iter().any(decides) || age.eq_ignore_ascii_case(SHARED_AGE)
        })
    };
    if !headers.get_all(CACHE_CONTROL).iter().any(is_said) {
        headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// Directives that say whether a shared cache may keep an answer to `Authorization`.
const DECIDING: [&str; 4] = ["must-revalidate", "no-store", "private", "public"];
const SHARED_AGE: &[u8] = b"s-maxage=";

/// As [`hush`], for an answer of the gate's own, which may say better what its page needs.
pub fn hush_own(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
        .entry(REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
}

/// The path of a URL or of a path with query.
fn path_of(location: &str) -> &str {
    let after_scheme = location.split_once("://").map_or(location, |(_, rest)| {
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
    });
    after_scheme.split(['?', '#']).next().unwrap_or_default()
}

/// Whether `text` is like `pattern`, where `*` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(head) else {
        return false;
    };
    tail.is_empty()
        || (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| is_like(tail, rest)))
}

#[cfg(test)]
mod tests {
    use super::{is_like, path_of};

    #[test]
    fn locations_are_matched_whole_or_by_path() {
        assert!(is_like("/login*", "/login?return=x"));
        assert!(is_like("*/login", "https://users.example/login"));
        assert!(is_like("https://*.example/*", "https://a.example/b"));
        assert!(!is_like("/login", "/login2"));
        assert!(!is_like("/login*", "/logi"));
        assert_eq!(path_of("https://users.example/login?return=x"), "/login");
        assert_eq!(path_of("https://users.example"), "/");
        assert_eq!(path_of("/a/b#c"), "/a/b");
    }
}
