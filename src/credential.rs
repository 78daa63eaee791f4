//! Which one credential does a request present? And the query without it, byte for byte.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, request};
use memchr::memchr;
use percent_encoding::percent_decode_str;

use crate::cookie;
use crate::refusal::Reason;
use crate::route::TokenPlaces;

/// Where the credential stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// As the password in MQTT's CONNECT.
    Connect,
    /// In the cookie of a browser's session.
    Cookie,
    /// In the `Authorization` header.
    Header,
    /// Nowhere.
    Nowhere,
    /// In the query string.
    Query,
    /// Among the subprotocols that a WebSocket's client offers.
    Subprotocol,
}

impl Location {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Cookie => "cookie",
            Self::Header => "header",
            Self::Nowhere => "none",
            Self::Query => "query",
            Self::Subprotocol => "subprotocol",
        }
    }
}

/// A credential, not judged yet.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A name and password by Basic, still encoded (RFC 7617 section 2).
    Basic(&'a str),
    /// What stands for a login in a browser.
    Session(&'a str),
    /// A ticket, to be exchanged for the token that it was given for.
    Ticket(Cow<'a, str>),
    /// An access token.
    Token(Cow<'a, str>),
}

/// What a request presents.
#[derive(Debug)]
pub struct Presented<'a> {
    /// The one credential, or why there is none:
    /// [`Reason::SeveralCredentials`] if there is more than one, also the same one twice (RFC 6750
    /// section 2); [`Reason::MissingCredential`] if there is none, or an `Authorization` of
    /// another scheme; [`Reason::MalformedToken`] for one that holds no token.
    pub credential: Result<Credential<'a>, Reason>,
    /// Where it stood; nowhere, too, if it stood in several places.
    pub location: Location,
    /// The query without any credential's pair; nothing if there was no such pair.
    pub remaining_query: Option<String>,
}

/// Finds the one credential of a request.
#[must_use]
pub fn find<'a>(head: &'a request::Parts, places: &TokenPlaces) -> Presented<'a> {
    let cut = cut(head.uri.query().unwrap_or_default(), places);
    let mut found = Only::default();
    if places.header {
        for value in head.headers.get_all(AUTHORIZATION) {
            let credential = parse_authorization(value.as_bytes(), places);
            found.add(credential, Location::Header);
        }
    }
    for credential in cut.found {
        found.add(Ok(credential), Location::Query);
    }
    if places.subprotocol {
        for token in subprotocols(&head.headers).filter_map(token_in_subprotocol) {
            found.add(token.map(Credential::Token), Location::Subprotocol);
        }
    }
    if places.cookie {
        for session in cookie::values(&head.headers, cookie::SESSION) {
            found.add(Ok(Credential::Session(session)), Location::Cookie);
        }
    }
    let (credential, location) = match found {
        Only::None => (Err(Reason::MissingCredential), Location::Nowhere),
        Only::One(credential, location) => (credential, location),
        Only::Several => (Err(Reason::SeveralCredentials), Location::Nowhere),
    };
    Presented {
        credential,
        location,
        remaining_query: cut.remaining,
    }
}

/// The one credential, if it is one.
#[derive(Default)]
enum Only<'a> {
    #[default]
    None,
    One(Result<Credential<'a>, Reason>, Location),
    Several,
}

impl<'a> Only<'a> {
    fn add(&mut self, credential: Result<Credential<'a>, Reason>, location: Location) {
        *self = match self {
            Self::None => Self::One(credential, location),
            Self::One(..) | Self::Several => Self::Several,
        };
    }
}

/// The subprotocols that a WebSocket's client offers (RFC 6455 section 11.3.4).
fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

/// The token that an offered subprotocol is: `bearer.` and the token, or Kubernetes' prefix and
/// the token in base64url. Browsers' WebSockets can set no header but this one.
fn token_in_subprotocol(offered: &str) -> Option<Result<Cow<'_, str>, Reason>> {
    if let Some(encoded) = strip_prefix(offered, KUBERNETES) {
        let token = URL_SAFE_NO_PAD.decode(encoded).ok();
        let token = token.and_then(|token| String::from_utf8(token).ok());
        return Some(token.map(Cow::from).ok_or(Reason::MalformedToken));
    }
    strip_prefix(offered, BEARER).map(|token| Ok(Cow::from(token)))
}

/// The subprotocols without those that are tokens: they go no further. Nothing if none was one.
#[must_use]
pub fn other_subprotocols(headers: &HeaderMap) -> Option<String> {
    let is_token = |offered: &&str| token_in_subprotocol(offered).is_some();
    if !subprotocols(headers).any(|offered| is_token(&offered)) {
        return None;
    }
    let others = subprotocols(headers).filter(|offered| !is_token(offered));
    Some(Vec::from_iter(others).join(", "))
}

const BEARER: &str = "bearer.";
const KUBERNETES: &str = "base64url.bearer.authorization.k8s.io.";

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// A request's path and query, without any credential's pair.
#[must_use]
pub fn target_without(head: &request::Parts, places: &TokenPlaces) -> String {
    let query = head.uri.query().unwrap_or_default();
    let rest = cut(query, places)
        .remaining
        .unwrap_or_else(|| query.to_owned());
    let path = head.uri.path();
    match rest.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{rest}"),
    }
}

/// Whether a query (as of a `Referer`) holds a token.
#[must_use]
pub fn is_in_query(query: &str, places: &TokenPlaces) -> bool {
    cut(query, places).remaining.is_some()
}

/// The credential of an `Authorization`. The scheme compares without case (RFC 9110 section 11.1)
/// and may carry a colon, as Debezium's HTTP sink sends it. A bare token is taken as one: Swagger
/// pages send what their users paste.
fn parse_authorization<'a>(
    value: &'a [u8],
    places: &TokenPlaces,
) -> Result<Credential<'a>, Reason> {
    let value = str::from_utf8(value).map_err(|_| Reason::MalformedToken)?;
    // As nearly every client writes it.
    if let Some(token) = value.strip_prefix("Bearer ")
        && !token.is_empty()
        && memchr(b' ', token.as_bytes()).is_none()
    {
        return Ok(Credential::Token(token.into()));
    }
    let Some((scheme, credential)) = value.split_once(' ') else {
        let is_bare = value.split('.').filter(|part| !part.is_empty()).count() == 3;
        return match is_bare {
            true => Ok(Credential::Token(value.into())),
            false if value.eq_ignore_ascii_case("bearer") => Err(Reason::MalformedToken),
            false => Err(Reason::MissingCredential),
        };
    };
    let scheme = scheme.strip_suffix(':').unwrap_or(scheme);
    let credential = credential.trim_matches(' ');
    let is_one = !credential.is_empty() && !credential.as_bytes().contains(&b' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return match is_one {
            true => Ok(Credential::Token(credential.into())),
            false => Err(Reason::MalformedToken),
        };
    }
    match places.basic && is_one && scheme.eq_ignore_ascii_case("basic") {
        true => Ok(Credential::Basic(credential)),
        false => Err(Reason::MissingCredential),
    }
}

/// What stood in a query, and what is left of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cut<'a> {
    found: Vec<Credential<'a>>,
    /// Nothing if nothing was found.
    remaining: Option<String>,
}

/// Cuts credentials' pairs out of a query. A name counts in every percent-encoded spelling, since
/// the upstream would read it so.
fn cut<'a>(query: &'a str, places: &TokenPlaces) -> Cut<'a> {
    let is_token = |key: &str| places.query.iter().any(|name| name == key);
    let is_ticket = |key: &str| places.tickets && key == TICKET;
    let is_suspect = |pair: &str| {
        let key = pair.split('=').next().unwrap_or_default();
        key.contains(['%', '+']) || is_token(key) || is_ticket(key)
    };
    if query.is_empty() || !query.split('&').any(is_suspect) {
        return Cut::default();
    }
    let mut found = Vec::new();
    let mut others = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = percent_decode_str(key).decode_utf8_lossy();
        let value = || percent_decode_str(value).decode_utf8_lossy();
        if is_token(&key) {
            found.push(Credential::Token(value()));
        } else if is_ticket(&key) {
            found.push(Credential::Ticket(value()));
        } else {
            others.push(pair);
        }
    }
    let remaining = (!found.is_empty()).then(|| others.join("&"));
    Cut { found, remaining }
}

/// The query parameter of a ticket.
const TICKET: &str = "ticket";

#[cfg(test)]
mod tests {
    use super::{Credential, Cut, cut, parse_authorization, token_in_subprotocol};
    use crate::refusal::Reason;
    use crate::route::TokenPlaces;

    #[test]
    fn only_the_credentials_pair_is_cut() {
        let places = TokenPlaces {
            tickets: true,
            ..TokenPlaces::default()
        };
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
            let cut = cut(query, &places);
            assert_eq!(cut.found, [Credential::Token(token.into())], "{query}");
            assert_eq!(cut.remaining.as_deref(), Some(remaining), "{query}");
        }
        let found = cut("a&tick%65t=x", &places);
        assert_eq!(found.found, [Credential::Ticket("x".into())]);
        assert_eq!(found.remaining.as_deref(), Some("a"));
        for query in [
            "",
            "a=1",
            "Authorization=T",
            "xauthorization=T",
            "a=authorization",
        ] {
            assert_eq!(cut(query, &places), Cut::default(), "{query}");
        }
        let off = TokenPlaces::default();
        assert_eq!(cut("ticket=x", &off), Cut::default());
    }

    #[test]
    fn an_authorization_is_read_as_real_clients_write_it() {
        let places = TokenPlaces {
            basic: true,
            ..TokenPlaces::default()
        };
        let token = |value: &str| Credential::Token(value.to_owned().into());
        for (value, expected) in [
            ("Bearer T", token("T")),
            ("bearer T", token("T")),
            ("BEARER T", token("T")),
            ("Bearer: T", token("T")),
            ("Bearer  T", token("T")),
            ("Bearer T ", token("T")),
            ("a.b.c", token("a.b.c")),
            ("Basic cm9vdDo=", Credential::Basic("cm9vdDo=")),
            ("basic  cm9vdDo= ", Credential::Basic("cm9vdDo=")),
        ] {
            assert_eq!(parse_authorization(value.as_bytes(), &places), Ok(expected));
        }
        for value in [
            "Basic",
            "Basic ",
            "Basic a b",
            "Digest x",
            "x",
            "a.b",
            "a..c",
            "a.b.c.d",
        ] {
            let found = parse_authorization(value.as_bytes(), &places);
            assert_eq!(found, Err(Reason::MissingCredential), "{value}");
        }
        let off = TokenPlaces::default();
        let found = parse_authorization(b"Basic cm9vdDo=", &off);
        assert_eq!(found, Err(Reason::MissingCredential));
        for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer \u{e9}\u{301} x"] {
            let found = parse_authorization(value.as_bytes(), &places);
            assert_eq!(found, Err(Reason::MalformedToken), "{value}");
        }
    }

    #[test]
    fn a_subprotocol_is_a_token_in_two_forms() {
        for (offered, expected) in [
            ("bearer.a.b.c", Some(Ok("a.b.c"))),
            ("Bearer.a", Some(Ok("a"))),
            (
                "base64url.bearer.authorization.k8s.io.YS5iLmM",
                Some(Ok("a.b.c")),
            ),
            (
                "base64url.bearer.authorization.k8s.io.YS5iLmM=",
                Some(Err(Reason::MalformedToken)),
            ),
            ("mqtt", None),
            ("bearer", None),
            ("xbearer.a", None),
        ] {
            let found = token_in_subprotocol(offered);
            let found = found.as_ref().map(|found| found.as_deref());
            assert_eq!(
                found,
                expected.as_ref().map(|token| token.as_ref().copied()),
                "{offered}"
            );
        }
    }
}
