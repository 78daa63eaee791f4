//! What does a token say, and what does a route want of it? For an operator: never the signature,
//! nor what is sealed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock;
use crate::refusal::Reason;
use crate::route::policy::{ClaimMatch, Policy};
use crate::snapshot::{Shared, Snapshot};
use crate::token::compact::MAX_TOKEN;
use crate::token::verify::{VerifiedToken, verify_bearer};

/// What a token says, and whether that is so.
#[derive(Default, Serialize)]
pub(super) struct TokenTold {
    /// Whether it is genuine, for this gate, and good now; then all of the rest is so.
    is_good: bool,
    /// Why not, as in logs and metrics.
    reason: Option<&'static str>,
    /// The same in words.
    text: Option<&'static str>,
    key_id: Option<String>,
    /// Whether the gate has a key of this id.
    is_key_known: bool,
    /// The external issuer that it says it is from, if that is one of those in the config.
    issuer: Option<String>,
    /// Seconds from now; negative if that has passed.
    expires_in: Option<i64>,
    /// What it has.
    scopes: Vec<String>,
    groups: Vec<String>,
    header: Option<Value>,
    claims: Option<Value>,
}

/// What a route wants of a token.
#[derive(Default, Serialize)]
pub(crate) struct Wants {
    pub(crate) scopes: Vec<String>,
    /// One of them.
    pub(crate) groups: Vec<String>,
    /// Claims, and segments of the path, in words.
    pub(crate) others: Vec<String>,
}

/// Takes a token apart, whether it is good or not.
pub(super) fn told(shared: &Shared, snapshot: &Snapshot, token: &str) -> TokenTold {
    let now = clock::unix_now();
    let tokens = &snapshot.tokens;
    let mut told = TokenTold::default();
    let judged = verify_bearer(token, tokens, now);
    let judged = judged.and_then(|verified| match shared.revocations.hit(&verified) {
        true => Err(Reason::Revoked),
        false => Ok(verified),
    });
    match &judged {
        Ok(verified) => told.has(verified),
        Err(reason) => {
            told.reason = Some(reason.label());
            told.text = Some(reason.text());
        }
    }
    if token.len() > MAX_TOKEN {
        return told;
    }
    let mut parts = token.split('.');
    told.header = parts.next().and_then(part).map(Value::Object);
    let claims = parts.next().and_then(part);
    let id = told.header.as_ref().and_then(|header| header.get("kid"));
    told.key_id = id.and_then(Value::as_str).map(str::to_owned);
    let id = told.key_id.as_deref();
    let external = tokens.issuers.claimed_by(token);
    told.issuer = external.map(|issuer| issuer.name().to_owned());
    let sources = tokens.issuers.sources().map(|source| source.listing());
    let published = sources.filter(|listing| Some(&listing.issuer) == told.issuer.as_ref());
    told.is_key_known = match &told.issuer {
        None => tokens.keys.find(id).is_some(),
        Some(_) => published
            .flat_map(|listing| listing.keys)
            .any(|key| Some(&*key.id) == id),
    };
    told.claims = claims.map(|mut claims| {
        let expires = claims.get("exp").and_then(Value::as_i64);
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        told.expires_in = expires.map(|expires| expires.saturating_sub(now));
        if let Some(sealed) = claims.get_mut("sealed") {
            *sealed = Value::from("(sealed)");
        }
        Value::Object(claims)
    });
    told
}

impl TokenTold {
    fn has(&mut self, verified: &VerifiedToken) {
        self.is_good = true;
        self.scopes = verified.scopes().map(str::to_owned).collect();
        self.groups = verified.groups().map(str::to_owned).collect();
    }
}

/// A part of a token that is an object. Nothing is proved by what it says.
fn part(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What a policy wants.
pub(crate) fn wants(policy: &Policy) -> Wants {
    let Policy::Token(demands) = policy else {
        return Wants::default();
    };
    let claims = demands
        .require
        .claims
        .iter()
        .map(|(name, wanted)| match wanted {
            ClaimMatch::Equals(text) => format!("the claim {name} equal to {text}"),
            ClaimMatch::OneOf(texts) => format!("the claim {name} one of {}", texts.join(", ")),
            ClaimMatch::Prefix(text) => format!("the claim {name} beginning with {text}"),
        });
    let captures = demands.captures.iter().map(|capture| {
        let place = capture.place.saturating_add(1);
        format!("segment {place} of the path a value of {}", capture.claim)
    });
    Wants {
        scopes: demands.require.scopes.clone(),
        groups: demands.require.groups.clone(),
        others: claims.chain(captures).collect(),
    }
}
