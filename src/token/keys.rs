//! Which keys sign and verify tokens? The algorithm belongs to the key, never to the token.

use std::collections::HashMap;
use std::path::PathBuf;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::signature;
use crate::config::files::Files;
use crate::config::problem::Problems;

/// One key of the ring.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The key id (`kid`), unique in the ring.
    pub id: String,
    /// The one algorithm that this key is used with.
    pub algorithm: KeyAlgorithm,
    /// For HS256, HS384 and HS512: a file with the secret, at least 32 bytes. One line ending at
    /// the end of the file is not part of it.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Danger: takes a secret of fewer than 32 bytes, for services that share one. Whoever has one
    /// token can then search for the secret offline, and with it make any token.
    #[serde(default)]
    pub danger_short_secret: bool,
    /// For the others: a PEM file with the private key (PKCS #8), to sign and to verify.
    #[serde(default)]
    pub private_key_file: Option<PathBuf>,
    /// For the others: a PEM file with the public key, to verify only.
    #[serde(default)]
    pub public_key_file: Option<PathBuf>,
}

/// The signature algorithms (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl KeyAlgorithm {
    /// The name as in a token's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    const fn library(self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::PS256 => Algorithm::PS256,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }

    pub(super) const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// A key, ready for use.
#[derive(Debug)]
pub struct Key {
    /// The key id.
    pub id: String,
    /// Its one algorithm.
    pub algorithm: KeyAlgorithm,
    verifying: DecodingKey,
    signing: Option<EncodingKey>,
    public: Option<Value>,
}

impl Key {
    /// A public key of somebody else, which verifies and is not told on.
    pub(super) const fn external(
        id: String,
        algorithm: KeyAlgorithm,
        verifying: DecodingKey,
    ) -> Self {
        Self {
            id,
            algorithm,
            verifying,
            signing: None,
            public: None,
        }
    }

    /// Whether it can sign, too.
    #[must_use]
    pub const fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// The public key as a JWK (RFC 7517 section 4); nothing if the key is a shared secret.
    #[must_use]
    pub const fn jwk(&self) -> Option<&Value> {
        self.public.as_ref()
    }

    /// Whether `signature` (base64url) is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let algorithm = self.algorithm.library();
        signature::is_good(signature, message, &self.verifying, algorithm)
    }

    /// This key's signature over `message`, in base64url; nothing if the key only verifies.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Option<String> {
        let signing = self.signing.as_ref()?;
        signature::make(message, signing, self.algorithm.library()).ok()
    }
}

/// The keys by id; the first one signs.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Key>,
    by_id: HashMap<String, usize>,
}

impl KeyRing {
    /// The key with this id. A token without one is judged only if there is no choice.
    #[must_use]
    pub fn find(&self, id: Option<&str>) -> Option<&Key> {
        match id {
            Some(id) => self.by_id.get(id).and_then(|index| self.keys.get(*index)),
            None => match self.keys.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        }
    }

    /// The key that signs.
    #[must_use]
    pub fn signing(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// Every key, the signing one first.
    #[must_use]
    pub fn all(&self) -> &[Key] {
        &self.keys
    }

    /// Reads all keys; notes every problem.
    pub(super) fn build(
        configs: &[KeyConfig],
        files: &Files,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut keys = Vec::with_capacity(configs.len());
        let mut by_id = HashMap::new();
        for (index, config) in configs.iter().enumerate() {
            let at = format!("tokens.keys[{index}]");
            if by_id.insert(config.id.clone(), index).is_some() {
                problems.add(
                    format_args!("{at}.id"),
                    format_args!("`{}` is used twice", config.id),
                );
            }
            let key = config.read(&at, files, problems);
            if index == 0 && key.as_ref().is_some_and(|key| key.signing.is_none()) {
                problems.add(&at, "the first key signs, so it needs a private_key_file");
            }
            keys.extend(key);
        }
        if configs.is_empty() {
            problems.add(
                "tokens.keys",
                "at least one key is needed: without one, every token is refused",
            );
        }
        (!keys.is_empty() && keys.len() == configs.len()).then_some(Self { keys, by_id })
    }
}

impl KeyConfig {
    fn read(&self, at: &str, files: &Files, problems: &mut Problems) -> Option<Key> {
        let (verifying, signing) = if self.algorithm.is_symmetric() {
            self.read_secret(at, files, problems)?
        } else {
            self.read_pair(at, files, problems)?
        };
        let public = match self.algorithm.is_symmetric() {
            true => None,
            false => Some(problems.take(at, self.public_jwk(&verifying))?),
        };
        Some(Key {
            id: self.id.clone(),
            algorithm: self.algorithm,
            verifying,
            signing,
            public,
        })
    }

    fn public_jwk(&self, verifying: &DecodingKey) -> Result<Value, String> {
        let jwk = Jwk::from_decoding_key(verifying, Some(self.algorithm.library()));
        let mut jwk = jwk.map_err(|error| error.to_string())?;
        jwk.common.key_id = Some(self.id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        serde_json::to_value(jwk).map_err(|error| error.to_string())
    }

    fn read_secret(
        &self,
        at: &str,
        files: &Files,
        problems: &mut Problems,
    ) -> Option<(DecodingKey, Option<EncodingKey>)> {
        let (Some(path), None, None) = (
            &self.secret_file,
            &self.private_key_file,
            &self.public_key_file,
        ) else {
            let name = self.algorithm.name();
            problems.add(
                at,
                format_args!("{name} takes a secret_file and nothing else"),
            );
            return None;
        };
        let at = format!("{at}.secret_file");
        let secret = problems.take(&at, files.read_secret(path))?;
        let length = secret.expose().len();
        if length == 0 {
            problems.add(&at, "the file is empty: everyone could make tokens");
            return None;
        }
        if length < MIN_SECRET && !self.danger_short_secret {
            problems.add(
                &at,
                format_args!("the secret has {length} bytes; at least {MIN_SECRET} are needed, or it can be found from any one token: write a longer one, or say `danger_short_secret: true` on the key"),
            );
            return None;
        }
        let signing = EncodingKey::from_secret(secret.expose());
        Some((DecodingKey::from_secret(secret.expose()), Some(signing)))
    }

    fn read_pair(
        &self,
        at: &str,
        files: &Files,
        problems: &mut Problems,
    ) -> Option<(DecodingKey, Option<EncodingKey>)> {
        let name = self.algorithm.name();
        match (
            &self.secret_file,
            &self.private_key_file,
            &self.public_key_file,
        ) {
            (None, Some(path), None) => {
                let at = format!("{at}.private_key_file");
                let pem = problems.take(&at, files.read_secret(path))?;
                let pair = self.parse_private(pem.expose());
                problems.take(
                    &at,
                    pair.map_err(|error| format!("not a private key for {name} in PEM: {error}")),
                )
            }
            (None, None, Some(path)) => {
                let at = format!("{at}.public_key_file");
                let pem = problems.take(&at, files.read(path))?;
                let key = self.parse_public(&pem);
                let key = problems.take(
                    &at,
                    key.map_err(|error| format!("not a public key for {name} in PEM: {error}")),
                )?;
                Some((key, None))
            }
            _ => {
                problems.add(
                    at,
                    format_args!("{name} takes one of private_key_file and public_key_file"),
                );
                None
            }
        }
    }

    fn parse_private(&self, pem: &[u8]) -> Result<(DecodingKey, Option<EncodingKey>), String> {
        let signing = match self.algorithm {
            KeyAlgorithm::RS256 | KeyAlgorithm::PS256 => EncodingKey::from_rsa_pem(pem),
            KeyAlgorithm::ES256 | KeyAlgorithm::ES384 => EncodingKey::from_ec_pem(pem),
            _ => EncodingKey::from_ed_pem(pem),
        }
        .map_err(|error| error.to_string())?;
        if self.algorithm == KeyAlgorithm::EdDSA {
            // The library takes no key that carries its public half (RFC 8410 section 7).
            let pair = Ed25519KeyPair::from_pkcs8(signing.as_bytes());
            let pair = pair.map_err(|error| error.to_string())?;
            let verifying = DecodingKey::from_ed_der(pair.public_key().as_ref());
            return Ok((verifying, Some(signing)));
        }
        let jwk = Jwk::from_encoding_key(&signing, self.algorithm.library())
            .map_err(|error| error.to_string())?;
        self.algorithm.check(&jwk)?;
        let verifying = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
        Ok((verifying, Some(signing)))
    }

    fn parse_public(&self, pem: &[u8]) -> Result<DecodingKey, String> {
        let key = match self.algorithm {
            KeyAlgorithm::RS256 | KeyAlgorithm::PS256 => DecodingKey::from_rsa_pem(pem),
            KeyAlgorithm::ES256 | KeyAlgorithm::ES384 => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_ed_pem(pem),
        }
        .map_err(|error| error.to_string())?;
        let jwk = Jwk::from_decoding_key(&key, Some(self.algorithm.library()))
            .map_err(|error| error.to_string())?;
        self.algorithm.check(&jwk)?;
        Ok(key)
    }
}

impl KeyAlgorithm {
    /// Whether the key is strong enough, and on the curve that the algorithm is bound to.
    fn check(self, jwk: &Jwk) -> Result<(), String> {
        match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                // The modulus in base64url: four characters for three bytes.
                let bits = rsa.n.len() * 3 / 4 * 8;
                if bits < MIN_RSA_BITS {
                    return Err(format!(
                        "it has {bits} bits; at least {MIN_RSA_BITS} are needed"
                    ));
                }
            }
            AlgorithmParameters::EllipticCurve(ec) => {
                let wanted = match self {
                    Self::ES384 => EllipticCurve::P384,
                    _ => EllipticCurve::P256,
                };
                if ec.curve != wanted {
                    return Err(format!("its curve is {:?}, not {wanted:?}", ec.curve));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The shortest HMAC secret, in bytes: RFC 7518 section 3.2 for HS256.
const MIN_SECRET: usize = 32;
/// The smallest RSA key, in bits: RFC 7518 section 3.3.
pub(super) const MIN_RSA_BITS: usize = 2048;
