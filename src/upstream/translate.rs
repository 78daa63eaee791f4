//! What does the upstream get to see of a request? The only maker of an [`UpstreamRequest`].
//!
//! The client's headers lose what belongs to its connection, every credential, and every header
//! by which a back end could be told who asks or what was asked. Only then are the gate's own
//! written, so that a client's `Connection:` list cannot remove them.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, REFERER,
    SEC_WEBSOCKET_PROTOCOL, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request};
use http_body::{Body as _, Frame};

use super::body::RequestBody;
use super::credential::own_copy;
pub(crate) use super::found::fold;
use super::found::{Found, is_suspect};
use crate::cookie;
use crate::credential;
use crate::refusal::{Reason, Refusal};
use crate::route::policy::Permit;
use crate::route::{OwnHeaders, Route};
use crate::telemetry::trace::Trace;
use crate::token::seal::Sealer;

/// A request that may be sent: permitted, stripped and translated.
#[derive(Debug)]
pub struct UpstreamRequest {
    request: Request<RequestBody>,
    is_upgrade: bool,
}

impl UpstreamRequest {
    /// Whether it asks for a WebSocket.
    #[must_use]
    pub const fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }

    /// The request itself.
    #[must_use]
    pub fn into_inner(self) -> Request<RequestBody> {
        self.request
    }
}

/// Facts about the client's connection and request that the upstream is told.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The client's address, and the same as a header's value.
    pub client: (IpAddr, &'a HeaderValue),
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host asked for, with its port.
    pub authority: &'a HeaderValue,
    /// Whether that is the value of the one `Host` header already.
    pub is_in_host: bool,
    /// The id of this request.
    pub request_id: &'a HeaderValue,
    /// The trace that it is part of.
    pub trace: Option<&'a Trace>,
    /// The query without the token, if there was one.
    pub remaining_query: Option<String>,
}

/// Turns a permitted request into what the upstream gets.
///
/// # Errors
/// [`Reason::NoUpstreamCredential`] if the principal has none.
pub fn translate(
    permit: &Permit,
    route: &Route,
    sealer: Option<&Sealer>,
    facts: Facts<'_>,
    mut head: request::Parts,
    body: RequestBody,
) -> Result<UpstreamRequest, Refusal> {
    let credential = route
        .credential
        .header(permit.principal().map(AsRef::as_ref), sealer)?;
    let found = Found::among(&head.headers);
    // A body would reach the upstream before it agreed, to which it may be frames.
    let is_upgrade = found.has_hop_by_hop && is_websocket(&head) && body.is_end_stream();
    let headers = &mut head.headers;
    let wants_trailers = found.has_hop_by_hop && wants_trailers(headers);
    if found.has_hop_by_hop {
        remove_hop_by_hop(headers);
    }
    if found.has_suspect {
        remove_forgeable(headers);
        headers.remove(EXPECT);
        cookie::remove_own(headers);
        drop_referer_with_token(headers, route);
        drop_subprotocols_with_token(headers)?;
    }
    let is_replaced = matches!(&credential, Some((name, _)) if *name == AUTHORIZATION);
    if found.has_authorization && !is_replaced {
        headers.remove(AUTHORIZATION);
    }
    for name in &route.remove_headers {
        headers.remove(name);
    }
    if found.has_suspect || route.own_headers.are_odd {
        route.own_headers.remove_twins(headers);
    }
    if is_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else if wants_trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    write_facts(headers, route, &facts)?;
    for (name, value) in &route.set_headers {
        headers.insert(name, own_copy(value));
    }
    if let Some((name, value)) = credential {
        headers.insert(name, value);
    }
    // Else hyper would leave out a body whose length it does not know.
    if head.method.is_safe() && !body.is_end_stream() && body.size_hint().exact().is_none() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    head.uri = target(&head.uri, facts.remaining_query)?;
    head.version = Version::HTTP_11;
    Ok(UpstreamRequest {
        request: Request::from_parts(head, body),
        is_upgrade,
    })
}

/// Whether a request asks for a WebSocket (RFC 6455 section 4.1), the only upgrade there is.
#[must_use]
pub fn is_websocket(head: &request::Parts) -> bool {
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && lists(&head.headers, &CONNECTION, "upgrade")
        && head.headers.get(UPGRADE).is_some_and(|value| {
            value
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"websocket")
        })
}

/// Removes what belongs to one connection (RFC 9110 section 7.6.1).
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Looking at the few headers that there are is cheaper than asking for each of these.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let mut listed = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let names = value.as_bytes().split(|byte| *byte == b',');
        listed.extend(names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()));
    }
    // What frames or routes the message is not the client's to remove.
    listed.retain(|name| *name != CONTENT_LENGTH && *name != HOST);
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

pub(super) const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes every credential and every header by which a back end could be told who asks or what
/// was asked, in every spelling that it could fold together.
pub(super) fn remove_forgeable(headers: &mut HeaderMap) {
    let names = headers.keys();
    let forged = names.filter(|name| is_suspect(name.as_str()) && is_forgeable(name.as_str()));
    let forged: Vec<HeaderName> = forged.cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// Trailers are headers to some back ends: what must not come as the one must not as the other.
pub(super) fn guard_trailers(frame: Frame<Bytes>, own: Option<&Arc<OwnHeaders>>) -> Frame<Bytes> {
    let guard = |mut trailers| {
        remove_forgeable(&mut trailers);
        own.inspect(|own| own.remove_twins(&mut trailers));
        Frame::trailers(trailers)
    };
    frame.into_trailers().map_or_else(|data| data, guard)
}

/// Whether a client's header of this name could pass for one of the gate's or a proxy's.
#[must_use]
pub fn is_forgeable(name: &str) -> bool {
    match fold(name) {
        None => is_forgeable_plain(name),
        Some(folded) => is_forgeable_plain(&folded) || FRAMING.contains(&&*folded),
    }
}

fn is_forgeable_plain(name: &str) -> bool {
    // Most comparisons end at the length.
    FORGEABLE.contains(&name)
        || name.starts_with("x-")
            && FORGEABLE_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
}

/// What frames a message; a twin of it may frame it for a back end that folds names.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

pub(super) const FORGEABLE: [&str; 44] = [
    "api-key",
    "apikey",
    "authorization",
    "cf-access-authenticated-user-email",
    "cf-connecting-ip",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "proxy",
    "proxy-authorization",
    "remote-addr",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "ssl-client-cert",
    "ssl-client-issuer-dn",
    "ssl-client-subject-dn",
    "ssl-client-verify",
    "tailscale-user-login",
    "tailscale-user-name",
    "true-client-ip",
    "x-access-token",
    "x-api-key",
    "x-apikey",
    "x-authorization",
    "x-client-cert",
    "x-client-dn",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-id-token",
    "x-method-override",
    "x-middleware-subrequest",
    "x-real-ip",
    "x-request-id",
    "x-script-name",
    "x-user",
    "x-userinfo",
    "x-username",
];

pub(super) const FORGEABLE_PREFIXES: [&str; 19] = [
    "x-amzn-oidc-",
    "x-auth-",
    "x-authenticated-",
    "x-authentik-",
    "x-consumer-",
    "x-envoy-",
    "x-forwarded",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "x-jwt-",
    "x-ms-client-principal",
    "x-original-",
    "x-pomerium-",
    "x-remote-",
    "x-rewrite-",
    "x-ssl-client-",
    "x-tollgate-",
    "x-user-",
    "x-webauth-",
];

fn wants_trailers(headers: &HeaderMap) -> bool {
    lists(headers, &TE, "trailers")
}

/// Whether a comma-separated header lists a token, without case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut parts = value.as_bytes().split(|byte| *byte == b',');
        parts.any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// A page that was opened with a token in its URL would send it on in `Referer`.
fn drop_referer_with_token(headers: &mut HeaderMap, route: &Route) {
    let has_token = headers.get_all(REFERER).iter().any(|value| {
        let Ok(text) = value.to_str() else {
            return true;
        };
        let query = text
            .split_once('?')
            .map(|(_, query)| query)
            .unwrap_or_default();
        credential::is_in_query(query.split('#').next().unwrap_or_default(), &route.token)
    });
    if has_token {
        headers.remove(REFERER);
    }
}

/// A token among the offered subprotocols is the gate's affair; the others are the upstream's.
fn drop_subprotocols_with_token(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let Some(others) = credential::other_subprotocols(headers) else {
        return Ok(());
    };
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if !others.is_empty() {
        let others = HeaderValue::from_str(&others).map_err(|_| Reason::MalformedRequest)?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    }
    Ok(())
}

fn write_facts(headers: &mut HeaderMap, route: &Route, facts: &Facts<'_>) -> Result<(), Refusal> {
    let text = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| Refusal::from(Reason::MalformedRequest))
    };
    let authority = facts.authority;
    let (client, address) = facts.client;
    if route.forwarded {
        let node = match client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        let (scheme, host) = (facts.scheme, authority.to_str().unwrap_or_default());
        headers.insert(
            FORWARDED,
            text(&format!("for={node};host=\"{host}\";proto={scheme}"))?,
        );
    }
    headers.insert(X_FORWARDED_FOR, address.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(facts.scheme));
    headers.insert(X_REQUEST_ID, facts.request_id.clone());
    headers.insert(X_FORWARDED_HOST, authority.clone());
    if let Some(trace) = facts.trace {
        trace.write(headers);
    }
    if !facts.is_in_host || !route.remove_headers.is_empty() {
        headers.insert(HOST, authority.clone());
    }
    Ok(())
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Names a request in the gate's log, in the upstream's and in the answer.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The raw path and query, without the token's pair.
fn target(uri: &Uri, remaining_query: Option<String>) -> Result<Uri, Refusal> {
    let malformed = |_| Refusal::from(Reason::MalformedRequest);
    let target = match remaining_query {
        Some(query) if query.is_empty() => PathAndQuery::try_from(uri.path()).map_err(malformed)?,
        Some(query) => {
            PathAndQuery::try_from(format!("{}?{query}", uri.path())).map_err(malformed)?
        }
        None => {
            let whole = uri.path_and_query().cloned();
            whole.unwrap_or_else(|| PathAndQuery::from_static("/"))
        }
    };
    Ok(Uri::from(target))
}

#[cfg(test)]
mod tests {
    use super::FORGEABLE_PREFIXES;

    #[test]
    fn the_table_is_such_as_the_search_needs_it() {
        assert!(
            FORGEABLE_PREFIXES
                .iter()
                .all(|prefix| prefix.starts_with("x-"))
        );
    }
}
