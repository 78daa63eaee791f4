//! Tokens as whoever has the gate's key would make them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use tollgate::clock::UnixTime;

use crate::rules::SECRET;

/// The time in every run, so that a finding stays one.
pub(crate) const NOW: UnixTime = UnixTime(1_700_000_000);

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_secret(SECRET));

/// A token of these parts, rightly signed.
pub(crate) fn sign(header: &[u8], payload: &[u8]) -> String {
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &KEY, Algorithm::HS256);
    format!("{message}.{}", signature.expect("a signature"))
}
