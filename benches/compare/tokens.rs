//! Tokens good and bad, minted here so that the gate's own minting is not what proves it.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::Header;
use serde_json::json;

use crate::keys::{Signer, key_id};

/// How long ago or from now a token ends.
pub(crate) enum Life {
    Ended,
    Lasting,
}

/// A token of the gate's own kind; `serial` tells one from another.
pub(crate) fn mint(signer: &Signer, serial: u64, life: &Life) -> anyhow::Result<String> {
    let begun = *BEGUN;
    let (issued, expires) = match life {
        Life::Ended => (begun - 2 * HOUR, begun - HOUR),
        Life::Lasting => (begun, begun + LIFE),
    };
    let mut header = Header::new(signer.algorithm);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some(key_id(signer.algorithm).to_owned());
    let claims = json!({
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": format!("user-{serial}"),
        "iat": issued,
        "exp": expires,
        "jti": format!("{serial:032x}"),
        "scope": SCOPE,
    });
    jsonwebtoken::encode(&header, &claims, &signer.key).context("cannot mint a token")
}

/// `iss` and `aud`.
pub(crate) const ISSUER: &str = "tollgate";
pub(crate) const SCOPE: &str = "bench";

/// Tokens of all rounds are as old, so that one of the same serial is the same token.
static BEGUN: LazyLock<u64> = LazyLock::new(|| {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| age.as_secs())
});

const HOUR: u64 = 3_600;
/// Longer than any run.
const LIFE: u64 = 12 * HOUR;
