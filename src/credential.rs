//! Which one credential does a request present? And the query without it, byte for byte.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;

use crate::refusal::Reason;
use crate::route::TokenPlaces;

/// Where the credential stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the `Authorization` header.
    Header,
    /// Nowhere.
    Nowhere,
    /// In the query string.
    Query,
}

impl Location {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Nowhere => "none",
            Self::Query => "query",
        }
    }
}

/// What a request presents.
#[derive(Debug)]
pub struct Presented<'a> {
    /// The one token, not judged yet, or why there is none:
    /// [`Reason::SeveralCredentials`] if there is more than one, also the same one twice (RFC 6750
    /// section 2); [`Reason::MissingCredential`] if there is none, or an `Authorization` of
    /// another scheme; [`Reason::MalformedToken`] for one that holds no token.
    pub token: Result<Cow<'a, str>, Reason>,
    /// Where it stood; nowhere, too, if it stood in several places.
    pub location: Location,
    /// The query without any token's pair; nothing if there was no such pair.
    pub remaining_query: Option<String>,
}

/// Finds the one token of a request.
#[must_use]
pub fn find<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    places: &TokenPlaces,
) -> Presented<'a> {
    let (in_query, remaining_query) = cut(query.unwrap_or_default(), &places.query);
    let mut in_query = in_query.into_iter();
    let mut in_header = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter(|_| places.header);
    let first = (in_header.next(), in_query.next());
    let is_more = in_header.next().is_some() || in_query.next().is_some();
    let (token, location) = match first {
        _ if is_more => (Err(Reason::SeveralCredentials), Location::Nowhere),
        (Some(_), Some(_)) => (Err(Reason::SeveralCredentials), Location::Nowhere),
        (None, None) => (Err(Reason::MissingCredential), Location::Nowhere),
        (None, Some(token)) => (Ok(token), Location::Query),
        (Some(value), None) => (
            parse_bearer(value.as_bytes()).map(Cow::from),
            Location::Header,
        ),
    };
    Presented {
        token,
        location,
        remaining_query,
    }
}

/// Whether a query (as of a `Referer`) holds a token.
#[must_use]
pub fn is_in_query(query: &str, places: &TokenPlaces) -> bool {
    cut(query, &places.query).1.is_some()
}

/// The token of a `Bearer` value. The scheme compares without case (RFC 9110 section 11.1) and
/// may carry a colon, as Debezium's HTTP sink sends it.
fn parse_bearer(value: &[u8]) -> Result<&str, Reason> {
    let value = str::from_utf8(value).map_err(|_| Reason::MalformedToken)?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let scheme = scheme.strip_suffix(':').unwrap_or(scheme);
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Reason::MissingCredential);
    }
    let token = token.trim_matches(' ');
    if token.is_empty() || token.contains(' ') {
        return Err(Reason::MalformedToken);
    }
    Ok(token)
}

/// Cuts the pairs of these names out of a query. A name counts in every percent-encoded spelling,
/// since the upstream would read it so.
fn cut<'a>(query: &'a str, names: &[String]) -> (Vec<Cow<'a, str>>, Option<String>) {
    let is_suspect = |pair: &str| {
        let key = pair.split('=').next().unwrap_or_default();
        key.contains(['%', '+']) || names.iter().any(|name| name == key)
    };
    if query.is_empty() || !query.split('&').any(is_suspect) {
        return (Vec::new(), None);
    }
    let mut tokens = Vec::new();
    let mut others = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = percent_decode_str(key).decode_utf8_lossy();
        if names.iter().any(|name| *name == key) {
            tokens.push(percent_decode_str(value).decode_utf8_lossy());
        } else {
            others.push(pair);
        }
    }
    let remaining = (!tokens.is_empty()).then(|| others.join("&"));
    (tokens, remaining)
}

#[cfg(test)]
mod tests {
    use super::{cut, parse_bearer};
    use crate::refusal::Reason;

    fn names() -> Vec<String> {
        vec!["authorization".to_owned(), "access_token".to_owned()]
    }

    #[test]
    fn only_the_tokens_pair_is_cut() {
        for (query, token, remaining) in [
            ("authorization=T", "T", ""),
            (
                "a=1&authorization=T&b=%2F&--cleanup",
                "T",
                "a=1&b=%2F&--cleanup",
            ),
            ("access_token=T&a=b=c&&d", "T", "a=b=c&&d"),
            ("%61uthorization=T&x", "T", "x"),
            ("x&authorization=a%2Eb", "a.b", "x"),
        ] {
            let (tokens, rest) = cut(query, &names());
            assert_eq!(tokens, [token], "{query}");
            assert_eq!(rest.as_deref(), Some(remaining), "{query}");
        }
        for query in [
            "",
            "a=1",
            "Authorization=T",
            "xauthorization=T",
            "a=authorization",
        ] {
            assert_eq!(cut(query, &names()), (vec![], None), "{query}");
        }
    }

    #[test]
    fn bearer_is_read_as_real_clients_write_it() {
        for value in [
            "Bearer T",
            "bearer T",
            "BEARER T",
            "Bearer: T",
            "Bearer  T",
            "Bearer T ",
        ] {
            assert_eq!(parse_bearer(value.as_bytes()), Ok("T"), "{value}");
        }
        assert_eq!(
            parse_bearer(b"Basic cm9vdDo="),
            Err(Reason::MissingCredential)
        );
        for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer \u{e9}\u{301} x"] {
            assert_eq!(
                parse_bearer(value.as_bytes()),
                Err(Reason::MalformedToken),
                "{value}"
            );
        }
    }
}
