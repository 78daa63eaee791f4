//! Tokens good and bad, minted here so that the gate's own minting is not what proves it.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

/// How long ago or from now a token ends.
pub(crate) enum Life {
    Ended,
    Lasting,
}

/// A token of the gate's own kind, signed with `secret`; `serial` tells one from another.
pub(crate) fn mint(secret: &str, serial: u64, life: &Life) -> anyhow::Result<String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("a clock before 1970")?
        .as_secs();
    let (issued, expires) = match life {
        Life::Ended => (now - 2 * HOUR, now - HOUR),
        Life::Lasting => (now, now + HOUR),
    };
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some(KEY_ID.to_owned());
    let claims = json!({
        "iss": "tollgate",
        "aud": "tollgate",
        "sub": format!("user-{serial}"),
        "iat": issued,
        "exp": expires,
        "jti": format!("{serial:032x}"),
        "scope": SCOPE,
    });
    jsonwebtoken::encode(
        &header,
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .context("cannot mint a token")
}

pub(crate) const KEY_ID: &str = "k1";
pub(crate) const SCOPE: &str = "bench";
pub(crate) const SECRET: &str = "a secret of the load bench, which guards nothing at all";
pub(crate) const FORGED_SECRET: &str = "another secret, of somebody who would like to pass through";

const HOUR: u64 = 3_600;
