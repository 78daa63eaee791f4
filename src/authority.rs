//! Which host was asked for? One, or the request is refused.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, request};

use crate::refusal::Reason;

/// The host and port asked for. What could be read as two requests or two hosts is refused.
pub(crate) fn authority(head: &request::Parts) -> Result<Cow<'_, str>, Reason> {
    if head.headers.contains_key(TRANSFER_ENCODING) && head.headers.contains_key(CONTENT_LENGTH) {
        return Err(Reason::MalformedRequest);
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Reason::MalformedRequest);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let in_header = hosts
        .next()
        .map(|host| host.to_str().map_err(|_| Reason::MalformedRequest));
    let in_header = in_header.transpose()?;
    let in_target = head.uri.authority().map(http::uri::Authority::as_str);
    if hosts.next().is_some() || in_target.is_some_and(|target| target.contains('@')) {
        return Err(Reason::MalformedRequest);
    }
    match (in_target, in_header) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => {
            Err(Reason::MalformedRequest)
        }
        (Some(authority), _) | (None, Some(authority)) if !authority.is_empty() => {
            Ok(authority.into())
        }
        _ => Err(Reason::MalformedRequest),
    }
}

/// The host alone: without port and final dot, in lower case.
pub(crate) fn host(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    }
}
