//! Under a good signature, is only that accepted which says clearly that it is for here and now?
//!
//! The first line is the header, the rest the payload.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tollgate::snapshot::Snapshot;
use tollgate::token::TokenType;
use tollgate::token::verify::verify;

#[path = "../../properties/rules.rs"]
mod rules;
mod signing;

use signing::{NOW, sign};

static RULES: LazyLock<Snapshot> = LazyLock::new(rules::snapshot);

/// What counts of a header; the rest is not even decoded.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: String,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

fuzz_target!(|bytes: &[u8]| {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (header, payload) = (&bytes[..end], &bytes[end + 1..]);
    let token = sign(header, payload);
    let [access, refresh] = [TokenType::Access, TokenType::Refresh]
        .map(|kind| verify(&token, kind, &RULES.tokens, NOW));
    assert!(access.is_err() || refresh.is_err(), "it is of two types");
    for (verified, typ) in [(access, "at+jwt"), (refresh, "rt+jwt")] {
        let Ok(verified) = verified else { continue };
        let header: Header = serde_json::from_slice(header).expect("accepted, so a header");
        assert_eq!(header.alg, "HS256");
        assert!(matches!(header.kid.as_deref(), None | Some("k1")));
        let named = header.typ.to_ascii_lowercase();
        assert_eq!(named.strip_prefix("application/").unwrap_or(&named), typ);
        assert!(header.crit.is_none() && header.b64.is_none());

        let claims: Map<String, Value> =
            serde_json::from_slice(payload).expect("accepted, so an object");
        let text = |map: &Map<String, Value>, name: &str| {
            map.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(text(&claims, "iss"), "tollgate");
        let audience = claims.get("aud").expect("an audience");
        let names = audience
            .as_array()
            .map_or_else(|| vec![audience], |all| all.iter().collect());
        assert!(names.iter().any(|name| *name == "gate"));
        assert_eq!(text(&claims, "sub"), verified.subject());
        assert!(!verified.subject().is_empty());
        let time = |name: &str| {
            claims
                .get(name)
                .map(|time| time.as_u64().expect("whole seconds"))
        };
        assert_eq!(time("exp"), Some(verified.expires().0));
        assert!(verified.expires() > NOW);
        assert!(time("nbf").is_none_or(|start| start <= NOW.0));
        assert_eq!(text(&claims, "scope"), verified.scope());
        let groups = claims.get("groups").and_then(Value::as_array);
        let groups = groups
            .into_iter()
            .flatten()
            .map(|group| group.as_str().expect("a name"));
        assert!(verified.groups().eq(groups));
    }
});
