//! Which keys of a JWK set can be used (RFC 7517), for which algorithm, and why not the others?

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::token::keys::{Key, KeyAlgorithm, MIN_RSA_BITS};

/// A key that an issuer publishes.
#[derive(Debug)]
pub(crate) struct PublicKey {
    pub(crate) key: Key,
    /// The public numbers as they came, to tell a changed key.
    material: String,
}

impl PublicKey {
    /// Whether it is the very same key under the same id.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (&self.key.id, &self.material) == (&other.key.id, &other.material)
            && self.key.algorithm == other.key.algorithm
    }
}

/// A key that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) id: Option<String>,
    pub(crate) why: String,
}

/// What a JWK set holds.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) skipped: Vec<Skipped>,
}

/// The parameters that matter here (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWK set. A key that cannot be used is skipped; of several with the same id none is
    /// used, since nobody can say which is meant.
    ///
    /// # Errors
    /// If it is no JWK set at all.
    pub(crate) fn parse(json: &[u8], allowed: &[KeyAlgorithm]) -> Result<Self, serde_json::Error> {
        let jwks: Jwks = serde_json::from_slice(json)?;
        let mut by_id = BTreeMap::<Option<String>, Vec<_>>::new();
        for value in jwks.keys {
            let id = value.get("kid").and_then(Value::as_str).map(str::to_owned);
            by_id.entry(id).or_default().push(value);
        }
        let mut set = Self::default();
        for (id, values) in by_id {
            let is_ambiguous = values.len() > 1 && id.is_some();
            for value in values {
                let key = match is_ambiguous {
                    true => Err("its id is used twice".to_owned()),
                    false => read(value, allowed),
                };
                match key {
                    Ok(key) => set.keys.push(key),
                    Err(why) => set.skipped.push(Skipped {
                        id: id.clone(),
                        why,
                    }),
                }
            }
        }
        Ok(set)
    }

    /// The key with this id. A token without one is judged only if there is no choice.
    pub(crate) fn find(&self, id: Option<&str>) -> Option<&Key> {
        let mut keys = self.keys.iter().map(|public| &public.key);
        match (id, self.keys.as_slice()) {
            (Some(id), _) => keys.find(|key| key.id == id),
            (None, [only]) => Some(&only.key),
            (None, _) => None,
        }
    }
}

fn read(value: Value, allowed: &[KeyAlgorithm]) -> Result<PublicKey, String> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "it is malformed".to_owned())?;
    if let Some(usage) = jwk.usage.as_deref().filter(|usage| *usage != "sig") {
        return Err(format!("its use is `{usage}`, not `sig`"));
    }
    let is_verify = |operation: &String| operation == "verify";
    if jwk
        .key_ops
        .as_ref()
        .is_some_and(|all| !all.iter().any(is_verify))
    {
        return Err("its operations do not include `verify`".to_owned());
    }
    let algorithm = jwk.algorithm()?;
    if !allowed.contains(&algorithm) {
        return Err(format!(
            "its algorithm, {}, is not allowed",
            algorithm.name()
        ));
    }
    let (verifying, material) = jwk.verifying(algorithm)?;
    let id = jwk.kid.unwrap_or_default();
    Ok(PublicKey {
        key: Key::external(id, algorithm, verifying),
        material,
    })
}

impl Jwk {
    /// The one algorithm of the key: what it says, if that fits its kind, else the usual one of
    /// its kind.
    fn algorithm(&self) -> Result<KeyAlgorithm, String> {
        let fitting: &[KeyAlgorithm] = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => &[KeyAlgorithm::RS256, KeyAlgorithm::PS256],
            ("EC", Some("P-256")) => &[KeyAlgorithm::ES256],
            ("EC", Some("P-384")) => &[KeyAlgorithm::ES384],
            ("OKP", Some("Ed25519")) => &[KeyAlgorithm::EdDSA],
            ("oct", _) => return Err("it is a shared secret, which is not to be published".into()),
            (_, None) => return Err("its kind is not known".to_owned()),
            (_, Some(_)) => return Err("its curve is not known".to_owned()),
        };
        let mut fitting = fitting.iter();
        let found = match &self.alg {
            None => fitting.next(),
            Some(name) => fitting.find(|algorithm| algorithm.name() == name),
        };
        found.copied().ok_or_else(|| {
            "its algorithm is not known here, or does not fit its kind or curve".to_owned()
        })
    }

    /// The key, and what tells it from others.
    fn verifying(&self, algorithm: KeyAlgorithm) -> Result<(DecodingKey, String), String> {
        let part = |part: &Option<String>, length: Option<usize>| {
            let text = part.as_deref().unwrap_or_default();
            let bytes = URL_SAFE_NO_PAD.decode(text).ok();
            let bytes = bytes.filter(|bytes| !bytes.is_empty());
            let bytes = bytes.filter(|bytes| length.is_none_or(|length| bytes.len() == length));
            bytes
                .map(|bytes| (text.to_owned(), bytes))
                .ok_or_else(|| "it is malformed".to_owned())
        };
        let malformed = |_| "it is malformed".to_owned();
        let coordinate = match algorithm {
            KeyAlgorithm::ES384 => 48,
            _ => 32,
        };
        match self.kty.as_str() {
            "RSA" => {
                let ((n, modulus), (e, _)) = (part(&self.n, None)?, part(&self.e, None)?);
                let bits = bits(&modulus);
                if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                    return Err(format!(
                        "it has {bits} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
                    ));
                }
                let key = DecodingKey::from_rsa_components(&n, &e).map_err(malformed)?;
                Ok((key, format!("{n}.{e}")))
            }
            "EC" => {
                let (x, _) = part(&self.x, Some(coordinate))?;
                let (y, _) = part(&self.y, Some(coordinate))?;
                let key = DecodingKey::from_ec_components(&x, &y).map_err(malformed)?;
                Ok((key, format!("{x}.{y}")))
            }
            _ => {
                let (x, _) = part(&self.x, Some(coordinate))?;
                let key = DecodingKey::from_ed_components(&x).map_err(malformed)?;
                Ok((key, x))
            }
        }
    }
}

fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let first = number.iter().find(|byte| **byte != 0).copied();
    let leading = first.map_or(0, |byte| byte.leading_zeros() as usize);
    (significant.count() * 8).saturating_sub(leading)
}

/// The largest RSA key, in bits: larger ones cost more than they bring.
const MAX_RSA_BITS: usize = 8192;
