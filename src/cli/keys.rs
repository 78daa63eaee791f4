//! Which keys does a gate have, and how is a new one made?

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::ValueEnum;
use http::Request;
use http_body_util::Full;
use rcgen::{KeyPair, RsaKeySize};
use zeroize::Zeroizing;

use super::client::{AdminPlace, Operator};
use super::{remark, say};
use crate::token::listing::{IssuerListing, KeyListing, KeyState};

/// What a new key is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "verbatim")]
pub(super) enum GeneratedAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

/// The size of an RSA key.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RsaBits {
    #[value(name = "2048")]
    B2048,
    #[value(name = "3072")]
    B3072,
    #[value(name = "4096")]
    B4096,
}

/// Prints which keys a running gate judges tokens with.
pub(super) fn list(place: &AdminPlace, operator: Operator) -> anyhow::Result<()> {
    let request = Request::get("/keys").body(Full::new(Bytes::new()))?;
    let text = place.ask(operator.sign(request)?)?;
    let listing: KeyListing = serde_json::from_str(&text).context("not the answer of a gate")?;
    for key in listing.own {
        let what = if key.signs {
            "signs, verifies"
        } else {
            "verifies"
        };
        say(format_args!("own  {}  {}  {what}", key.id, key.algorithm));
    }
    for issuer in &listing.issuers {
        tell(issuer);
    }
    Ok(())
}

fn tell(issuer: &IssuerListing) {
    let state = match issuer.state {
        KeyState::Fresh => "fresh",
        KeyState::Stale => "stale",
        KeyState::Unavailable => "unavailable",
    };
    let age = match issuer.age_seconds {
        Some(age) => format!("{age}s old"),
        None => "never fetched".to_owned(),
    };
    say(format_args!(
        "issuer  {}  {state}, {age} (soft {}s, hard {}s)",
        issuer.issuer, issuer.soft_ttl_seconds, issuer.hard_ttl_seconds
    ));
    for key in &issuer.keys {
        let id = if key.id.is_empty() {
            "(no id)"
        } else {
            &key.id
        };
        say(format_args!("  {}  {}", id.escape_debug(), key.algorithm));
    }
    for skipped in &issuer.skipped {
        let id = skipped.id.as_deref().unwrap_or("(no id)");
        let why = skipped.why.escape_debug();
        say(format_args!("  {}  skipped: {why}", id.escape_debug()));
    }
    if let Some(error) = &issuer.last_error {
        say(format_args!("  last error: {}", error.escape_debug()));
    }
}

/// Makes a new key.
pub(super) fn generate(
    algorithm: GeneratedAlgorithm,
    bits: RsaBits,
    out: Option<&Path>,
) -> anyhow::Result<()> {
    let key = make(algorithm, bits)?;
    match out {
        None => say(key.trim_end()),
        Some(path) => {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("cannot make {}", path.display()))?;
            file.write_all(key.as_bytes())?;
        }
    }
    let name = algorithm.to_possible_value();
    let name = name.as_ref().map_or("", |value| value.get_name());
    let file = out.map_or_else(|| "FILE".into(), |path| path.display().to_string());
    let kind = match algorithm.secret_bytes() {
        Some(_) => "secret_file",
        None => "private_key_file",
    };
    let id: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(8)
        .collect();
    remark(format_args!(
        "# The first of tokens.keys signs, the others go on verifying:\n  - {{ id: \"{id}\", algorithm: {name}, {kind}: {file:?} }}"
    ));
    Ok(())
}

impl GeneratedAlgorithm {
    /// How long a shared secret is: as long as the hash, RFC 7518 section 3.2.
    const fn secret_bytes(self) -> Option<usize> {
        match self {
            Self::HS256 => Some(32),
            Self::HS384 => Some(48),
            Self::HS512 => Some(64),
            _ => None,
        }
    }
}

fn make(algorithm: GeneratedAlgorithm, bits: RsaBits) -> anyhow::Result<Zeroizing<String>> {
    if let Some(length) = algorithm.secret_bytes() {
        let mut secret = Zeroizing::new(vec![0; length]);
        aws_lc_rs::rand::fill(&mut secret)
            .map_err(|_| anyhow!("the system's random generator failed"))?;
        let digits = secret.iter().map(|byte| format!("{byte:02x}"));
        let mut text = Zeroizing::new(digits.collect::<String>());
        text.push('\n');
        return Ok(text);
    }
    let pair = match algorithm {
        GeneratedAlgorithm::ES256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        GeneratedAlgorithm::ES384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        GeneratedAlgorithm::EdDSA => KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
        _ => {
            let size = match bits {
                RsaBits::B2048 => RsaKeySize::_2048,
                RsaBits::B3072 => RsaKeySize::_3072,
                RsaBits::B4096 => RsaKeySize::_4096,
            };
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)?
        }
    };
    Ok(Zeroizing::new(pair.serialize_pem()))
}
