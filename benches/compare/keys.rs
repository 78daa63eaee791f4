//! With which keys are tokens signed, and how do contenders learn them?

use std::fs;
use std::path::Path;

use anyhow::Context;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};

/// A key for each algorithm, and one of somebody else's.
pub(crate) struct Keys {
    signers: [Signer; 3],
    forgers: [Signer; 3],
}

/// A key that signs; nobody has another key of this id.
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    /// `HS256.secret`, or `RS256.pem` and `RS256.pub.pem`.
    files: Vec<(&'static str, String)>,
}

impl Keys {
    /// No secret has a character that means something in a peer's config.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        Ok(Self {
            signers: set("a-secret-of-the-bench-which-guards-nothing-at-all")?,
            forgers: set("another-secret-of-somebody-who-would-like-to-pass")?,
        })
    }

    /// Writes what contenders read: `HS256.secret`, and for the others a key pair in PEM.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for (ending, text) in self.signers.iter().flat_map(Signer::files) {
            fs::write(folder.join(ending), text)?;
        }
        Ok(())
    }

    /// Whose tokens are good.
    pub(crate) fn signer(&self, algorithm: Algorithm) -> anyhow::Result<&Signer> {
        find(&self.signers, algorithm)
    }

    /// Whose tokens claim the same key and are not signed by it.
    pub(crate) fn forger(&self, algorithm: Algorithm) -> anyhow::Result<&Signer> {
        find(&self.forgers, algorithm)
    }

    /// The JSON Web Key Set (RFC 7517) with this algorithm's key.
    pub(crate) fn jwks(&self, algorithm: Algorithm) -> anyhow::Result<Value> {
        let mut jwk = Jwk::from_encoding_key(&self.signer(algorithm)?.key, algorithm)?;
        jwk.common.key_id = Some(key_id(algorithm).to_owned());
        Ok(json!({ "keys": [jwk] }))
    }
}

impl Signer {
    fn files(&self) -> impl Iterator<Item = (String, &str)> {
        let id = key_id(self.algorithm);
        self.files
            .iter()
            .map(move |(ending, text)| (format!("{id}.{ending}"), text.as_str()))
    }
}

fn find(set: &[Signer], algorithm: Algorithm) -> anyhow::Result<&Signer> {
    set.iter()
        .find(|signer| signer.algorithm == algorithm)
        .with_context(|| format!("no key for {algorithm:?}"))
}

fn set(secret: &str) -> anyhow::Result<[Signer; 3]> {
    Ok([
        Signer {
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(secret.as_bytes()),
            files: vec![("secret", secret.to_owned())],
        },
        pair(Algorithm::RS256, &PKCS_RSA_SHA256, |pem| {
            EncodingKey::from_rsa_pem(pem)
        })?,
        pair(Algorithm::ES256, &PKCS_ECDSA_P256_SHA256, |pem| {
            EncodingKey::from_ec_pem(pem)
        })?,
    ])
}

fn pair(
    algorithm: Algorithm,
    kind: &'static SignatureAlgorithm,
    read: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
) -> anyhow::Result<Signer> {
    let pair = KeyPair::generate_for(kind)?;
    let private = pair.serialize_pem();
    Ok(Signer {
        algorithm,
        key: read(private.as_bytes())?,
        files: vec![("pem", private), ("pub.pem", pair.public_key_pem())],
    })
}

/// A key's id is the algorithm that it is used with.
pub(crate) fn key_id(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        _ => "HS256",
    }
}
