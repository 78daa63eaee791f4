//! May this request pass, asks another proxy, and with which credentials? Questions come on
//! listeners of their own, where nothing else is answered: the answer holds what the upstream
//! wants to see.
//!
//! nginx (`ngx_http_auth_request_module`), Traefik (`ForwardAuth`) and Caddy (`forward_auth`)
//! describe the client's request in `X-Forwarded-Method`, `-Host` and `-Uri`; Envoy (`ext_authz`
//! over HTTP) asks with the request's own method, host and target behind a prefix. What a
//! question says is judged as if the request itself had come.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SEC_WEBSOCKET_PROTOCOL};
use http::uri::PathAndQuery;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, request,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::problem::Problems;
use crate::cookie;
use crate::credential;
use crate::refusal::{Reason, Refusal};
use crate::route::Route;
use crate::route::policy::Permit;
use crate::upstream::translate::{UpstreamRequest, fold, is_forgeable};

/// Which proxy asks on a listener, and what it can do with the answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuthConfig {
    /// The proxy that asks: the form of its questions, and which answers it can pass on.
    pub proxy: AskingProxy,
    /// What the proxy forwards as the answer has it, in place of what the client sent. A token or
    /// session that stands elsewhere than in `Authorization` is refused with 401 unless its place
    /// is listed, since it would reach the upstream. Default: nothing.
    #[serde(default)]
    pub takes: Vec<Part>,
}

/// A proxy that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskingProxy {
    /// Caddy's `forward_auth`.
    Caddy,
    /// Envoy's `ext_authz` with `http_service` and `path_prefix: /verify`.
    Envoy,
    /// nginx's `auth_request`. It makes 500 of every refusal but 401 and 403, so those are the
    /// only ones that it gets of clients' faults.
    Nginx,
    /// Traefik's `ForwardAuth`.
    Traefik,
}

impl AskingProxy {
    const fn can_forward_another_uri(self) -> bool {
        match self {
            Self::Envoy | Self::Nginx => true,
            Self::Caddy | Self::Traefik => false,
        }
    }
}

/// A part of a request that the answer has without the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// `Cookie`, under the same name: a browser's session is in it.
    Cookie,
    /// `Sec-WebSocket-Protocol`, under the same name.
    Subprotocol,
    /// Path and query, as `X-Tollgate-Uri`. Not for Traefik, which forwards no other URI than the
    /// client's, nor for Caddy, which would decode it.
    Uri,
}

impl ForwardAuthConfig {
    /// Notes what would give upstreams' credentials, or tokens, away.
    pub(crate) fn check(&self, at: &str, proxies: Proxies, problems: &mut Problems) {
        let at = format!("{at}.forward_auth");
        match proxies {
            Proxies::Named => {}
            Proxies::None => problems.add(&at, "hands out upstreams' credentials, so the listener's `trusted_proxies` must name who may ask"),
            Proxies::Everyone => problems.add(&at, "hands out upstreams' credentials, so not everyone may ask: take `danger_trust_everyone` away"),
        }
        if self.takes.contains(&Part::Uri) && !self.proxy.can_forward_another_uri() {
            let text = "this proxy cannot forward the URI of the answer in place of the client's, byte for byte";
            problems.add(format_args!("{at}.takes"), text);
        }
    }

    /// Reads the question: `head` becomes that of the request which it is about.
    ///
    /// # Errors
    /// If it does not come from a trusted proxy, or not in the proxy's form; then `head` is as it
    /// was.
    pub(crate) fn read(&self, head: &mut request::Parts, is_trusted: bool) -> Question {
        let fit = match is_trusted {
            false => Err(Unfit::Stranger),
            true if self.proxy == AskingProxy::Envoy => read_target(head),
            true => read_headers(head),
        };
        let proxy = self.proxy;
        Question { proxy, fit }
    }

    /// Refuses a credential that the proxy would forward, before it is used.
    ///
    /// # Errors
    /// [`Reason::UncutCredential`].
    fn check_places(&self, head: &request::Parts, route: &Route) -> Result<(), Reason> {
        let query = head.uri.query().unwrap_or_default();
        let takes = |part: Part| self.takes.contains(&part);
        let stays_in_query = !takes(Part::Uri) && credential::is_in_query(query, &route.token);
        let stays_in_subprotocol =
            !takes(Part::Subprotocol) && credential::other_subprotocols(&head.headers).is_some();
        let stays_in_cookie = !takes(Part::Cookie) && cookie::has_own(&head.headers);
        match stays_in_query || stays_in_subprotocol || stays_in_cookie {
            true => Err(Reason::UncutCredential),
            false => Ok(()),
        }
    }

    /// Looks at the request before it is judged, for what its proxy has to do if it may pass.
    ///
    /// # Errors
    /// [`Reason::UncutCredential`] if the proxy would forward a credential.
    pub(crate) fn prepare(
        &self,
        head: &request::Parts,
        route: &Route,
    ) -> Result<Box<Grant>, Refusal> {
        self.check_places(head, route)?;
        let mut grant = Box::new(Grant::default());
        for name in head.headers.keys().map(HeaderName::as_str) {
            if let Some(folded) = fold(name) {
                grant.twins.push(folded);
            }
            let is_replaced = name == COOKIE || name == SEC_WEBSOCKET_PROTOCOL;
            if self.proxy == AskingProxy::Envoy
                && (is_replaced || is_forgeable(name) && !is_proxys_own(name))
            {
                grant.forged.push(name.to_owned());
            }
        }
        Ok(grant)
    }
}

/// Whom a listener's `trusted_proxies` name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proxies {
    /// Everyone, or nearly so.
    Everyone,
    /// Some.
    Named,
    /// Nobody.
    None,
}

/// What came to such a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    proxy: AskingProxy,
    fit: Result<(), Unfit>,
}

/// Why something is no question.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Unfit {
    #[error("the path is not that of the proxy's questions")]
    Elsewhere,
    #[error("there is not exactly one {0}, or it is malformed")]
    Header(&'static str),
    #[error("who asks is not in trusted_proxies")]
    Stranger,
    #[error("the target behind the prefix is malformed")]
    Target,
}

impl Question {
    /// # Errors
    /// The refusal of what is no question.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        self.fit.map_err(|unfit| {
            let reason = match unfit {
                Unfit::Elsewhere => Reason::RouteNotFound,
                Unfit::Header(_) | Unfit::Target => Reason::MalformedRequest,
                Unfit::Stranger => Reason::UntrustedPeer,
            };
            Refusal::with_cause(reason, unfit)
        })
    }

    /// Gives a refusal a form that the proxy passes on. nginx knows but two; what is the gate's own
    /// fault is an error there, too.
    pub(crate) fn adapt(&self, response: &mut Response<Bytes>) {
        let status = response.status();
        if self.proxy != AskingProxy::Nginx || status.is_success() || status.is_server_error() {
            return;
        }
        let is_login =
            status == StatusCode::UNAUTHORIZED || response.headers().contains_key(LOCATION);
        *response.status_mut() = match is_login {
            true => StatusCode::UNAUTHORIZED,
            false => StatusCode::FORBIDDEN,
        };
    }
}

/// The question's path, or what stands in front of it.
const VERIFY: &str = "/verify";

/// Envoy's form. Headers that say something else about the request are the client's.
fn read_target(head: &mut request::Parts) -> Result<(), Unfit> {
    let whole = head.uri.path_and_query().map(PathAndQuery::as_str);
    let rest = whole.and_then(|whole| whole.strip_prefix(VERIFY));
    let target = rest.filter(|rest| rest.starts_with('/'));
    let target = target.ok_or(Unfit::Elsewhere)?;
    let mut parts = head.uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().map_err(|_| Unfit::Target)?);
    head.uri = Uri::from_parts(parts).map_err(|_| Unfit::Target)?;
    Ok(())
}

/// The others' form. All three have to be there: what a proxy forgot to say would be the client's
/// to say.
fn read_headers(head: &mut request::Parts) -> Result<(), Unfit> {
    if head.uri.path() != VERIFY {
        return Err(Unfit::Elsewhere);
    }
    let method = only(&head.headers, "x-forwarded-method", |value| {
        Method::from_bytes(value.as_bytes()).ok()
    })?;
    let host = only(&head.headers, "x-forwarded-host", |value| {
        Some(value.clone())
    })?;
    let target = only(&head.headers, "x-forwarded-uri", |value| {
        let text = value.to_str().ok()?;
        // A fragment would be cut off here, and be part of the path elsewhere.
        let is_path = text.starts_with('/') && !text.contains('#');
        is_path.then(|| text.parse::<PathAndQuery>().ok()).flatten()
    })?;
    head.method = method;
    head.uri = Uri::from(target);
    head.headers.insert(HOST, host);
    head.version = Version::HTTP_11;
    Ok(())
}

fn only<T>(
    headers: &HeaderMap,
    name: &'static str,
    parse: impl Fn(&HeaderValue) -> Option<T>,
) -> Result<T, Unfit> {
    let mut values = headers.get_all(name).iter();
    let parsed = match (values.next(), values.next()) {
        (Some(value), None) => parse(value),
        _ => None,
    };
    parsed.ok_or(Unfit::Header(name))
}

/// A request that is judged for another proxy, and what its headers were.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    /// Headers whose names a back end could fold into others', as it would read them.
    twins: Vec<String>,
    /// Headers that the proxy is told to drop.
    forged: Vec<String>,
}

impl Grant {
    /// The answer that lets the request pass: what the upstream is to see in place of the client's
    /// words.
    ///
    /// # Errors
    /// [`Reason::AmbiguousRequest`] if the client sent a header that a back end could take for one
    /// of the answer's.
    pub(crate) fn answer(
        mut self,
        route: &Route,
        permit: &Permit,
        outgoing: UpstreamRequest,
    ) -> Result<Response<Bytes>, Refusal> {
        let outgoing = outgoing.into_inner();
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        let set = route.set_headers.iter().map(|(name, _)| name);
        let fixed = route.credential.fixed_name();
        for name in [AUTHORIZATION].iter().chain(fixed).chain(set) {
            if let Some(value) = outgoing.headers().get(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        for (name, separator) in [(COOKIE, "; "), (SEC_WEBSOCKET_PROTOCOL, ", ")] {
            let values = outgoing.headers().get_all(&name).iter();
            let values: Vec<_> = values.map(HeaderValue::as_bytes).collect();
            if !values.is_empty() {
                headers.insert(name, value(&values.join(separator.as_bytes()))?);
            }
        }
        if let Some(target) = outgoing.uri().path_and_query() {
            headers.insert(TARGET, value(target.as_str().as_bytes())?);
        }
        if let Some(principal) = permit.principal() {
            headers.insert(SUBJECT, value(list([principal.subject()], ' ').as_bytes())?);
            headers.insert(SCOPES, value(list(principal.scopes(), ' ').as_bytes())?);
            headers.insert(GROUPS, value(list(principal.groups(), ',').as_bytes())?);
        }
        let is_own = |name: &String| {
            *name == "authorization" || name.starts_with(OWN) || headers.contains_key(name)
        };
        if self.twins.iter().any(is_own) {
            return Err(Reason::AmbiguousRequest.into());
        }
        let removed = route
            .remove_headers
            .iter()
            .map(|name| name.as_str().to_owned());
        self.forged.extend(removed);
        self.forged.retain(|name| !headers.contains_key(name));
        if !self.forged.is_empty() {
            headers.insert(REMOVE, value(self.forged.join(",").as_bytes())?);
        }
        Ok(response)
    }
}

/// What the gate's own headers begin with.
const OWN: &str = "x-tollgate-";
const SUBJECT: HeaderName = HeaderName::from_static("x-tollgate-subject");
const SCOPES: HeaderName = HeaderName::from_static("x-tollgate-scopes");
const GROUPS: HeaderName = HeaderName::from_static("x-tollgate-groups");
const TARGET: HeaderName = HeaderName::from_static("x-tollgate-uri");
/// Tells Envoy's `ext_authz` which of the client's headers to drop.
const REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Texts as a header's value: what could end it, split it or be no ASCII is percent-encoded.
fn list<'a>(texts: impl IntoIterator<Item = &'a str>, separator: char) -> String {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',');
    let mut list = String::new();
    for text in texts {
        if !list.is_empty() {
            list.push(separator);
        }
        let _ = write!(list, "{}", utf8_percent_encode(text, ENCODED));
    }
    list
}

fn value(text: &[u8]) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_bytes(text).map_err(|error| Refusal::with_cause(Reason::Internal, error))
}

/// Whether Envoy has written a header of this name itself, or dropped the client's, before it asks.
fn is_proxys_own(name: &str) -> bool {
    let forwarded = name.strip_prefix("x-forwarded-");
    let is_of_the_way = matches!(forwarded, Some("client-cert" | "for" | "proto"));
    is_of_the_way || name.starts_with("x-envoy-") || name == "x-request-id"
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn no_text_splits_or_ends_a_header() {
        for (texts, separator, expected) in [
            (&["alice"][..], ' ', "alice"),
            (&["auth0|1"], ' ', "auth0|1"),
            (&["a b", "c"], ' ', "a%20b c"),
            (&["a,b", "c"], ',', "a%2Cb,c"),
            (
                &["a\r\nx-tollgate-subject: root"],
                ' ',
                "a%0D%0Ax-tollgate-subject:%20root",
            ),
            (&["50%", "%0a"], ' ', "50%25 %250a"),
            (&["zoë\u{7f}"], ' ', "zo%C3%AB%7F"),
            (&[], ' ', ""),
        ] {
            assert_eq!(list(texts.iter().copied(), separator), expected);
        }
    }
}
