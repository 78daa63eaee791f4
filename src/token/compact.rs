//! How is a token in the compact form taken apart (RFC 7515 section 7.1)? Strictly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::keys::Key;
use crate::refusal::Reason;

/// The longest token that is looked at, in bytes. Longer ones are refused unread.
pub const MAX_TOKEN: usize = 8 * 1024;

/// A token in its parts, none of which is proved yet.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) header: Header,
    pub(super) payload: &'a str,
    message: &'a str,
    signature: &'a str,
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::MalformedToken);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Reason::MalformedToken)?;
        let (header, payload) = message.split_once('.').ok_or(Reason::MalformedToken)?;
        let header: Header = decode_part(header)?;
        if header.crit.0 || header.b64.0 {
            // RFC 7515 section 4.1.11: extensions that are not understood must be refused.
            return Err(Reason::MalformedToken);
        }
        Ok(Self {
            header,
            payload,
            message,
            signature,
        })
    }

    /// Whether the token says the key's algorithm, and the signature is the key's.
    pub(super) fn verifies(&self, key: &Key) -> Result<(), Reason> {
        if self.header.alg != key.algorithm.name() {
            return Err(Reason::WrongAlgorithm);
        }
        match key.verifies(self.message.as_bytes(), self.signature) {
            true => Ok(()),
            false => Err(Reason::InvalidSignature),
        }
    }
}

/// The header's parameters that matter here (RFC 7515 section 4.1). Those that point elsewhere
/// (`jku`, `jwk`, `x5u`) are never followed.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    #[serde(default)]
    crit: Presence,
    #[serde(default)]
    b64: Presence,
}

/// Whether a parameter is there, whatever its value.
#[derive(Debug, Default)]
struct Presence(bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// Decodes strict base64url and strict JSON: no padding, no trailing bits, no repeated claims.
pub(super) fn decode_part<T: DeserializeOwned>(part: &str) -> Result<T, Reason> {
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Reason::MalformedToken)?;
    serde_json::from_slice(&json).map_err(|_| Reason::MalformedToken)
}

/// The issuer that a token says it is from; nothing is proved by that.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issued {
        iss: String,
    }
    let compact = Compact::parse(token).ok()?;
    let issued: Issued = decode_part(compact.payload).ok()?;
    Some(issued.iss)
}

/// The key id in a token's header.
pub(super) fn key_id_of(token: &str) -> Option<String> {
    Compact::parse(token).ok()?.header.kid
}

/// Whether a token's `typ` is this one. RFC 7515 section 4.1.9: media types compare without case,
/// `application/` may be left out.
pub(super) fn is_typ(typ: &str, expected: &str) -> bool {
    let bare = match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => typ,
    };
    bare.eq_ignore_ascii_case(expected)
}

const PREFIX: &str = "application/";
