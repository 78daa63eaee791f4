//! Is at most one credential found, cut out byte for byte, and none left in what goes upstream?
//!
//! The first line is the query, the others are header fields.

#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, REFERER, SEC_WEBSOCKET_PROTOCOL, TE, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, request};
use libfuzzer_sys::fuzz_target;
use tollgate::credential::{Credential, find};
use tollgate::fuzzing::read_basic;
use tollgate::refusal::Reason;
use tollgate::route::TokenPlaces;
use tollgate::snapshot::Snapshot;
use tollgate::upstream::translate::is_forgeable;

use naive::decode;

#[allow(dead_code, reason = "for the properties, too")]
#[path = "../../properties/naive.rs"]
mod naive;
#[allow(dead_code, reason = "for the properties, too")]
#[path = "../../properties/rules.rs"]
mod rules;
mod shared;

static RULES: LazyLock<Snapshot> = LazyLock::new(|| {
    rules::snapshot_with(
        "  - { path: /**, public: true, danger_unanchored: true, upstream: app, \
         forwarded: true, set_headers: { x-own: gate } }\n",
    )
});

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let query = lines.next().unwrap_or_default();
    let Ok(query) = str::from_utf8(query) else {
        return;
    };
    let Ok(uri) = format!("/p?{query}").parse::<Uri>() else {
        return;
    };
    let lines = Vec::from_iter(lines);
    let head = shared::head(&Method::GET, uri, &lines);
    let query = head.uri.query().unwrap_or_default().to_owned();
    let places = TokenPlaces {
        tickets: true,
        basic: true,
        // As on the route, whose `Referer` is judged by the same names.
        ..TokenPlaces::default()
    };
    let presented = find(&head, &places);

    let (cut, others): (Vec<_>, Vec<_>) = query.split('&').partition(|pair| is_credential(pair));
    let remaining = (!cut.is_empty()).then(|| others.join("&"));
    assert_eq!(presented.remaining_query, remaining, "{query:?}");

    let in_header = head.headers.get_all(AUTHORIZATION).iter().count();
    let offered = offered(&head.headers);
    let in_protocol = offered.iter().filter(|text| is_token(text)).count();
    let expected = match cut.len() + in_header + in_protocol {
        0 => Some(Reason::MissingCredential),
        1 => None,
        _ => Some(Reason::SeveralCredentials),
    };
    if let Some(expected) = expected {
        assert_eq!(presented.credential, Err(expected));
    }
    match &presented.credential {
        Ok(Credential::Basic(pair)) => {
            if let Some(attempt) = read_basic(pair) {
                // Exactly one spelling stands for a name and password.
                let (name, password) = (&attempt.identifier, attempt.secret.expose());
                assert!(!name.contains(':'));
                assert_eq!(STANDARD.encode(format!("{name}:{password}")), *pair);
            }
        }
        Ok(Credential::Token(token) | Credential::Ticket(token)) if cut.len() == 1 => {
            let (_, value) = cut[0].split_once('=').unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&decode(value)), *token);
        }
        _ => {}
    }
    check_sent(&head, remaining.as_deref());
});

const NAMES: [&str; 3] = ["authorization", "access_token", "ticket"];

/// Whether a pair of a query could be taken for a credential: by its name, decoded.
fn is_credential(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    NAMES.iter().any(|known| decode(name) == known.as_bytes())
}

/// What a WebSocket's client offers.
fn offered(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let offered = texts.flat_map(|text| text.split(','));
    offered.map(|text| text.trim().to_owned()).collect()
}

fn is_token(offered: &str) -> bool {
    let offered = offered.to_ascii_lowercase();
    let prefixes = ["bearer.", "base64url.bearer.authorization.k8s.io."];
    prefixes.iter().any(|prefix| offered.starts_with(prefix))
}

/// What the gate says of itself, in these headers alone.
const OWN: [(&str, &str); 7] = [
    (
        "forwarded",
        "for=127.0.0.1;host=\"gate.example\";proto=https",
    ),
    ("host", shared::AUTHORITY),
    ("x-forwarded-for", shared::CLIENT),
    ("x-forwarded-host", shared::AUTHORITY),
    ("x-forwarded-proto", "https"),
    ("x-own", "gate"),
    ("x-request-id", shared::REQUEST_ID),
];

/// Whether a back end could take the name for the header that the route sets.
fn is_twin(name: &HeaderName) -> bool {
    let own = b"x-own";
    let name = name.as_str().as_bytes();
    let is_read_as =
        |(is, own): (&u8, &u8)| is == own || *own == b'-' && !is.is_ascii_alphanumeric();
    name != own && name.len() == own.len() && name.iter().zip(own).all(is_read_as)
}

fn check_sent(head: &request::Parts, remaining: Option<&str>) {
    let route = &RULES.routes.all()[0];
    let owned = remaining.map(str::to_owned);
    let Ok(sent) = shared::sent(&RULES, route, head.clone(), owned) else {
        // Only a subprotocol that is no header's value is refused here.
        assert!(offered(&head.headers).iter().any(|text| is_token(text)));
        return;
    };
    let (sent, _) = sent.into_parts();
    let query = remaining.or(head.uri.query()).unwrap_or_default();
    assert_eq!(sent.uri.path(), "/p");
    assert_eq!(sent.uri.query().unwrap_or_default(), query);
    assert!(!query.split('&').any(is_credential), "{query:?}");

    let headers = &sent.headers;
    for (name, value) in OWN {
        let values = Vec::from_iter(headers.get_all(name));
        assert_eq!(values, [&HeaderValue::from_static(value)], "{name}");
    }
    assert!(!headers.contains_key(AUTHORIZATION));
    for name in headers.keys() {
        let is_own = OWN.iter().any(|(own, _)| name == own);
        let is_forged = is_forgeable(name.as_str()) || is_twin(name);
        assert!(is_own || !is_forged, "{name}");
    }
    assert!(!offered(headers).iter().any(|text| is_token(text)));
    for referer in headers.get_all(REFERER) {
        let text = referer.to_str().expect("a Referer that can be judged");
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let in_token_places = |pair: &str| is_credential(pair) && !is_ticket(pair);
        assert!(!query.split('&').any(in_token_places), "{text:?}");
    }
    check_untouched(&head.headers, headers);
}

/// The route takes no tickets.
fn is_ticket(pair: &str) -> bool {
    decode(pair.split('=').next().unwrap_or_default()) == b"ticket"
}

/// What is nobody's credential and belongs to no connection arrives as it came.
fn check_untouched(before: &HeaderMap, after: &HeaderMap) {
    let mut listed = Vec::new();
    for value in before.get_all(CONNECTION) {
        for name in value.as_bytes().split(|byte| *byte == b',') {
            listed.extend(HeaderName::from_bytes(name.trim_ascii()));
        }
    }
    for name in before.keys() {
        let is_the_gates = OWN.iter().any(|(own, _)| name == own)
            || is_forgeable(name.as_str())
            || is_twin(name)
            || listed.contains(name)
            || CLOSELY_READ.contains(name);
        if name == COOKIE && !listed.contains(name) {
            let foreign = |pair: &Vec<u8>| !is_own_cookie(pair);
            let kept = cookies(before).into_iter().filter(foreign);
            assert_eq!(Vec::from_iter(kept), cookies(after));
            assert!(after.get_all(name).iter().count() <= 1);
        } else if !is_the_gates {
            let values =
                |headers: &HeaderMap| Vec::from_iter(headers.get_all(name).iter().cloned());
            assert_eq!(values(before), values(after), "{name}");
        }
    }
    // Nothing is made up.
    for name in after.keys() {
        let is_gates = OWN.iter().any(|(own, _)| name == own);
        let is_hop = [CONNECTION, TE, UPGRADE].contains(name);
        assert!(is_gates || is_hop || before.contains_key(name), "{name}");
    }
}

/// Each cookie of a request, in whichever of its headers it stands.
fn cookies(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let values = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = values.flat_map(|value| value.split(|byte| *byte == b';'));
    let pairs = pairs.map(|pair| pair.trim_ascii().to_vec());
    pairs.filter(|pair| !pair.is_empty()).collect()
}

fn is_own_cookie(pair: &[u8]) -> bool {
    pair.to_ascii_lowercase().starts_with(b"__host-tollgate")
}

/// Headers of one connection, and those that the gate looks into.
const CLOSELY_READ: [HeaderName; 12] = [
    AUTHORIZATION,
    CONNECTION,
    HOST,
    REFERER,
    SEC_WEBSOCKET_PROTOCOL,
    TE,
    UPGRADE,
    HeaderName::from_static("expect"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("transfer-encoding"),
];
