//! Which host was asked for? One, or the request is refused.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::Scheme;
use http::{HeaderValue, Method, Version, request};

use crate::refusal::Reason;

/// The host and port asked for. What could be read as two requests, two bodies or two hosts is
/// refused (RFC 9112 sections 3.2 and 6.1).
pub(crate) fn authority(head: &request::Parts) -> Result<Authority, Reason> {
    judge_framing(head)?;
    let mut hosts = head.headers.get_all(HOST).iter();
    let in_header = hosts.next();
    let in_target = head.uri.authority().map(http::uri::Authority::as_str);
    if hosts.next().is_some() {
        return Err(Reason::AmbiguousRequest);
    }
    let is_header = in_target.is_none();
    let value = match (in_target, in_header) {
        (Some(target), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(target.as_bytes()) => {
            None
        }
        (Some(target), _) => HeaderValue::from_str(target).ok(),
        (None, host) => host.cloned(),
    };
    let authority = value.map(|value| Authority { value, is_header });
    authority
        .filter(|authority| is_authority(authority.as_str()))
        .ok_or(Reason::AmbiguousRequest)
}

/// A host name or address with an optional port.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    value: HeaderValue,
    is_header: bool,
}

impl Authority {
    /// As text; empty if it is none, which no request's is.
    pub(crate) fn as_str(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }

    /// As the value of a header, which costs no copy.
    pub(crate) const fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Whether it was taken from the one `Host` header as it is.
    pub(crate) const fn is_header(&self) -> bool {
        self.is_header
    }
}

/// Refuses what another parser could frame or take in another way. Lengths and codings of HTTP/1
/// were judged as they were read, by `strict`.
fn judge_framing(head: &request::Parts) -> Result<(), Reason> {
    let is_tunnel = head.method == Method::CONNECT || head.method == Method::TRACE;
    // Methods are case-sensitive (RFC 9110 section 9.1), but not to every back end.
    let is_folded = head
        .method
        .as_str()
        .bytes()
        .any(|byte| byte.is_ascii_lowercase());
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let is_repeated = lengths.nth(1).is_some();
    let is_web = match head.uri.scheme() {
        Some(scheme) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        None => head.version != Version::HTTP_2,
    };
    match is_tunnel || is_folded || is_repeated || !is_web {
        true => Err(Reason::AmbiguousRequest),
        false => Ok(()),
    }
}

/// Whether this is a host name or address with an optional port, and nothing that another parser
/// could cut elsewhere.
fn is_authority(authority: &str) -> bool {
    let (host, port) = split_port(authority);
    let is_port = port.bytes().all(|digit| digit.is_ascii_digit());
    let is_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
    };
    is_port && is_host && !host.is_empty()
}

fn split_port(authority: &str) -> (&str, &str) {
    if authority.ends_with(']') {
        return (authority, "");
    }
    authority.rsplit_once(':').unwrap_or((authority, ""))
}

/// The host alone: without port and final dot, in lower case.
pub(crate) fn host(authority: &str) -> Cow<'_, str> {
    let (host, _) = split_port(authority);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    }
}
