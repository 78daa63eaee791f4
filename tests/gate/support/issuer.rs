//! An external issuer as a test wants it: its documents and keys change at a word.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::{Value, json};

use super::gate::{Builder, Gate};
use super::tokens::forge_with;
use super::unix_now;
use super::upstream::{Seen, Upstream};

/// A key that an issuer signs with.
#[derive(Clone, Debug)]
pub(crate) struct IssuerKey {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) private: EncodingKey,
    pub(crate) public_pem: String,
    /// As published.
    pub(crate) jwk: Value,
}

impl IssuerKey {
    pub(crate) fn new(id: &str, name: &'static str) -> Self {
        let (algorithm, kind) = match name {
            "RS256" => (Algorithm::RS256, &PKCS_RSA_SHA256),
            "PS256" => (Algorithm::PS256, &PKCS_RSA_SHA256),
            "ES384" => (Algorithm::ES384, &PKCS_ECDSA_P384_SHA384),
            "EdDSA" => (Algorithm::EdDSA, &PKCS_ED25519),
            _ => (Algorithm::ES256, &PKCS_ECDSA_P256_SHA256),
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let (private, jwk) = if name == "EdDSA" {
            let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
            (EncodingKey::from_ed_der(&pair.serialize_der()), jwk)
        } else {
            let pem = pair.serialize_pem();
            let private = match kind == &PKCS_RSA_SHA256 {
                true => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
                false => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            };
            let jwk = Jwk::from_encoding_key(&private, algorithm).unwrap();
            (private, serde_json::to_value(jwk).unwrap())
        };
        let mut key = Self {
            id: id.to_owned(),
            name,
            algorithm,
            private,
            public_pem: pair.public_key_pem(),
            jwk,
        };
        for (member, value) in [("kid", id), ("use", "sig"), ("alg", name)] {
            key.jwk[member] = value.into();
        }
        key
    }

    /// As published, but for some members; `null` leaves one out.
    pub(crate) fn published_with(&self, members: &Value) -> Value {
        let mut jwk = self.jwk.clone();
        for (name, value) in members.as_object().unwrap() {
            match value {
                Value::Null => jwk.as_object_mut().unwrap().remove(name),
                value => jwk
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        jwk
    }

    /// A token of this header and these claims.
    pub(crate) fn sign_under(&self, header: &Value, claims: &Value) -> String {
        let (header, claims) = (header.to_string(), claims.to_string());
        forge_with(&header, &claims, self.algorithm, &self.private)
    }

    /// An ordinary access token.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.name, "kid": self.id, "typ": "at+jwt"});
        self.sign_under(&header, claims)
    }
}

/// An issuer that publishes on loopback.
#[derive(Debug)]
pub(crate) struct Issuer {
    server: Upstream,
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    pub(crate) url: String,
}

/// In place of an answer: none at all.
pub(crate) const SILENCE: &str = "(silence)";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/jwks";

impl Issuer {
    /// Publishes these keys.
    pub(crate) fn with(keys: &[&IssuerKey]) -> Self {
        let answers = Arc::new(Mutex::new(BTreeMap::<String, String>::new()));
        let script = Arc::clone(&answers);
        let server = Upstream::scripted(move |seen, stream| {
            let answer = script.lock().unwrap().get(seen.target()).cloned();
            let answer = answer.unwrap_or_else(|| raw("404 Not Found", ""));
            if answer == SILENCE {
                // Until the gate has had enough.
                let _ = stream.read(&mut [0]);
                return false;
            }
            // An empty answer is a connection that breaks.
            !answer.is_empty() && stream.write_all(answer.as_bytes()).is_ok()
        });
        let url = format!("http://{}/", server.address);
        let issuer = Self {
            server,
            answers,
            url,
        };
        issuer.answer(DISCOVERY, &ok(&issuer.discovery()));
        issuer.publish(keys);
        issuer
    }

    /// Its discovery document.
    pub(crate) fn discovery(&self) -> Value {
        json!({"issuer": self.url, "jwks_uri": format!("{}jwks", self.url)})
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: &[&IssuerKey]) {
        let keys: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
        self.publish_as(&json!({"keys": keys}));
    }

    /// Publishes this JWK set from now on.
    pub(crate) fn publish_as(&self, jwks: &Value) {
        self.answer(JWKS, &ok(jwks));
    }

    /// Answers like this, byte for byte, where its keys are.
    pub(crate) fn answer_keys(&self, answer: &str) {
        self.answer(JWKS, answer);
    }

    /// Answers like this, byte for byte, where its discovery document is.
    pub(crate) fn answer_discovery(&self, answer: &str) {
        self.answer(DISCOVERY, answer);
    }

    /// Answers like this on another path.
    pub(crate) fn answer(&self, path: &str, answer: &str) {
        let mut answers = self.answers.lock().unwrap();
        answers.insert(path.to_owned(), answer.to_owned());
    }

    /// How often its keys were fetched.
    pub(crate) fn fetches(&self) -> usize {
        self.asked(JWKS)
    }

    /// How often this path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let seen = self.server.seen();
        seen.iter().filter(|seen| seen.target() == path).count()
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// The claims of a good token.
    pub(crate) fn claims(&self) -> Value {
        let now = unix_now();
        json!({
            "iss": self.url, "aud": "gate", "sub": "alice", "iat": now, "exp": now + 600,
            "jti": format!("{:032x}", fastrand::u128(..)), "scope": "read write",
        })
    }

    /// The claims of a good token with this one changed; `null` leaves it out.
    pub(crate) fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.to_owned(), value),
        };
        claims
    }

    /// The config's `identity` with this issuer alone; `more` are further keys of its section.
    pub(crate) fn identity(&self, more: &str) -> String {
        format!("identity: [ {} ]", self.entry(more))
    }

    /// This issuer among the config's `identity`.
    pub(crate) fn entry(&self, more: &str) -> String {
        format!(
            "{{ oidc: {{ issuer: \"{}\", audience: gate{more} }} }}",
            self.url
        )
    }

    /// A standard gate that knows this issuer alone.
    pub(crate) fn gate(&self, upstream: &Upstream, routes: &str, more: &str) -> Builder {
        Builder::standard(upstream.address, routes).line("identity:", &self.identity(more))
    }
}

/// An answer with 200 and this JSON.
pub(crate) fn ok(json: &Value) -> String {
    raw("200 OK", &json.to_string())
}

/// An answer with this status and body.
pub(crate) fn raw(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

impl Gate {
    /// The status for a token on a route below `/api/`, and the logged reason of a refusal.
    pub(crate) fn judge(&self, token: &str) -> (u16, String) {
        let path = format!("/api/{:016x}", fastrand::u64(..));
        let status = self.get(&path, token).status;
        let reason = self.exchange(&path)["reason"].as_str().map(str::to_owned);
        (status, reason.unwrap_or_default())
    }
}
