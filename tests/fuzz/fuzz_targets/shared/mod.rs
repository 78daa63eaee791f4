//! What several targets need: heads of requests, what goes upstream, bytes cut into reads.

#![allow(dead_code, reason = "each target needs some of it")]

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderName, HeaderValue, Method, Request, Uri, request};
use tollgate::clock;
use tollgate::refusal::Refusal;
use tollgate::route::Route;
use tollgate::route::path::CanonicalPath;
use tollgate::route::policy::authorize;
use tollgate::snapshot::Snapshot;
use tollgate::upstream::body::{RequestBody, Upload};
use tollgate::upstream::translate::{Facts, translate};

/// The most fields of a head: more are refused before anybody looks at them.
const MOST_FIELDS: usize = 100;

/// A request's head; lines that are no fields (`name: value`) are left out.
pub(crate) fn head(method: &Method, uri: Uri, lines: &[&[u8]]) -> request::Parts {
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    for line in lines.iter().take(MOST_FIELDS) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            request.headers_mut().append(name, value);
        }
    }
    request.into_parts().0
}

/// The gate's own words to the upstream: who asks, for which host, and the request's id.
pub(crate) const CLIENT: &str = "127.0.0.1";
pub(crate) const AUTHORITY: &str = "gate.example";
pub(crate) const REQUEST_ID: &str = "0123456789abcdef0123456789abcdef";

/// What goes upstream for a request of nobody on a public route.
pub(crate) fn sent(
    rules: &Snapshot,
    route: &Route,
    head: request::Parts,
    remaining_query: Option<String>,
) -> Result<Request<RequestBody>, Refusal> {
    let raw = head.uri.path().to_owned();
    let path = CanonicalPath::parse(&raw)?;
    let permit = authorize(&route.policy, None, &path)?;
    let facts = Facts {
        client: (
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            &HeaderValue::from_static(CLIENT),
        ),
        scheme: "https",
        authority: &HeaderValue::from_static(AUTHORITY),
        is_in_host: false,
        request_id: &HeaderValue::from_static(REQUEST_ID),
        trace: None,
        remaining_query,
    };
    let body = RequestBody(Upload::none(clock::now()));
    let sealer = rules.tokens.sealer.as_ref();
    Ok(translate(&permit, route, sealer, facts, head, body)?.into_inner())
}

/// Some ways to cut bytes into reads: whole, by one, two, three, and as `seed` says.
pub(crate) fn cuts(seed: u8, bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut ways = vec![vec![bytes]];
    for size in [1, 2, 3] {
        ways.push(bytes.chunks(size).collect());
    }
    // A step of a linear congruential generator for each piece.
    let (mut state, mut rest, mut pieces) = (u32::from(seed), bytes, Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = usize::try_from(state >> 27).unwrap_or_default() + 1;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    ways.push(pieces);
    ways
}
