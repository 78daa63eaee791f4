//! Tokens, and the keys that sign them.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

/// One token for each key.
pub(crate) struct Tokens {
    pub(crate) hs256: String,
    pub(crate) rs256: String,
}

impl Tokens {
    /// Writes the keys into a folder and mints a token with each.
    pub(crate) fn mint(folder: &Path) -> anyhow::Result<Self> {
        let size = rcgen::RsaKeySize::_2048;
        let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)?;
        let rsa = rsa.serialize_pem();
        fs::write(folder.join("rsa.pem"), &rsa)?;
        fs::write(folder.join("secret"), SECRET)?;
        let hs256 = mint(Algorithm::HS256, &EncodingKey::from_secret(SECRET), "hs1")?;
        anyhow::ensure!(hs256.len() == 300, "the token has {} bytes", hs256.len());
        let rs256 = mint(
            Algorithm::RS256,
            &EncodingKey::from_rsa_pem(rsa.as_bytes())?,
            "rs1",
        )?;
        Ok(Self { hs256, rs256 })
    }
}

fn mint(algorithm: Algorithm, key: &EncodingKey, id: &str) -> anyhow::Result<String> {
    let mut header = Header::new(algorithm);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some(id.to_owned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": "tollgate",
        "aud": "tollgate",
        "sub": "somebody@example.com",
        "exp": now + 86_400,
        "jti": "0123456789abcdef0123456789abcdef",
        "scope": "bench read write",
    });
    jsonwebtoken::encode(&header, &claims, key).context("cannot mint a token")
}

/// What the gate's config calls its keys.
pub(crate) const KEYS: &str = "[ { id: hs1, algorithm: HS256, secret_file: secret }, { id: rs1, algorithm: RS256, private_key_file: rsa.pem } ]";

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
