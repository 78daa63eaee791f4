//! Tokens as attackers and strangers make them: any header, any payload, any key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::gate::SECRET;
use super::unix_now;

/// The header of a good access token for the standard config.
pub(crate) const HEADER: &str = r#"{"alg":"HS256","kid":"k1","typ":"at+jwt"}"#;

/// The claims of a good access token for the standard config.
pub(crate) fn claims() -> Value {
    let now = unix_now();
    json!({
        "iss": "tollgate", "aud": "gate", "sub": "root", "iat": now, "exp": now + 600,
        "jti": format!("{:032x}", fastrand::u128(..)), "scope": "admin",
    })
}

/// A token for the standard config with these claims, rightly signed.
pub(crate) fn sign(claims: &Value) -> String {
    sign_as("at+jwt", claims)
}

/// As [`sign`], with another `typ`.
pub(crate) fn sign_as(typ: &str, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(typ.to_owned());
    header.kid = Some("k1".to_owned());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

/// A token of this header and payload, signed as HS256 under the standard config's key.
pub(crate) fn forge(header: &str, payload: &str) -> String {
    let key = EncodingKey::from_secret(SECRET);
    forge_with(header, payload, Algorithm::HS256, &key)
}

/// A token of this header and payload, signed like this whatever the header says.
pub(crate) fn forge_with(
    header: &str,
    payload: &str,
    algorithm: Algorithm,
    key: &EncodingKey,
) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A rightly signed token with some of the good claims changed.
pub(crate) fn with_claims(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims();
    change(&mut claims);
    forge(HEADER, &claims.to_string())
}

/// A rightly signed token with one claim changed.
pub(crate) fn with_claim(name: &str, value: Value) -> String {
    with_claims(|claims| claims[name] = value)
}

/// A rightly signed token without one of the claims.
pub(crate) fn without_claim(name: &str) -> String {
    with_claims(|claims| {
        claims.as_object_mut().unwrap().remove(name);
    })
}

/// Good claims under this header, signed as HS256 under the standard config's key.
pub(crate) fn with_header(header: &str) -> String {
    forge(header, &claims().to_string())
}

/// Base64url without padding.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token's header.
pub(crate) fn header_of(token: &str) -> Value {
    part(token, 0)
}

/// A token's claims.
pub(crate) fn claims_of(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
