//! Every algorithm signs and verifies; keys rotate without a log-out and end at once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    RsaKeySize,
};

use crate::support::gate::{Builder, Gate, SECRET, claims, sign};
use crate::support::reload::{Verdict, reload, reload_with};
use crate::support::tokens::{forge_with, header_of, with_header};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
";

/// The standard config's keys.
const KEYS: &str = "keys: [ { id: k1, algorithm: HS256, secret_file: k1 } ]";

fn rsa() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

fn pairs() -> Vec<(Algorithm, &'static str, KeyPair)> {
    let generate = |kind| KeyPair::generate_for(kind).unwrap();
    vec![
        (Algorithm::RS256, "RS256", rsa()),
        (Algorithm::PS256, "PS256", rsa()),
        (Algorithm::ES256, "ES256", generate(&PKCS_ECDSA_P256_SHA256)),
        (Algorithm::ES384, "ES384", generate(&PKCS_ECDSA_P384_SHA384)),
        (Algorithm::EdDSA, "EdDSA", generate(&PKCS_ED25519)),
    ]
}

/// The private key in PEM, an Ed25519 key as OpenSSL writes it: without its public half.
fn private_pem(pair: &KeyPair) -> String {
    if pair.algorithm() != &PKCS_ED25519 {
        return pair.serialize_pem();
    }
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&pair.serialize_der()[16..48]);
    let text = STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn encoding_key(name: &str, pair: &KeyPair) -> EncodingKey {
    let pem = private_pem(pair);
    let pem = pem.as_bytes();
    match name {
        "RS256" | "PS256" => EncodingKey::from_rsa_pem(pem).unwrap(),
        "EdDSA" => EncodingKey::from_ed_pem(pem).unwrap(),
        _ => EncodingKey::from_ec_pem(pem).unwrap(),
    }
}

/// Logs in, and shows the token twice: verified and cached.
fn assert_signs(gate: &Gate, name: &str, id: &str) {
    let token = gate.token("root", "memphis");
    let header = header_of(&token);
    assert_eq!((&header["alg"], &header["kid"]), (&name.into(), &id.into()));
    for _ in 0..2 {
        assert_eq!(gate.get("/api/a", &token).status, 200, "{name}");
    }
}

#[test]
fn every_asymmetric_algorithm_signs_logins_and_verifies_them() {
    let upstream = Upstream::start();
    for (_, name, pair) in pairs() {
        let key = format!("keys: [ {{ id: new, algorithm: {name}, private_key_file: key.pem }} ]");
        let gate = Builder::standard(upstream.address, ROUTES)
            .edit(KEYS, &key)
            .file("key.pem", private_pem(&pair))
            .start();
        assert_signs(&gate, name, "new");
        // The old trick: the public key, which everyone has, as an HMAC secret.
        for public in [
            pair.public_key_pem(),
            pair.public_key_pem().replace('\n', "\r\n"),
        ] {
            let secret = EncodingKey::from_secret(public.as_bytes());
            for alg in ["HS256", name] {
                let header = format!(r#"{{"alg":"{alg}","kid":"new","typ":"at+jwt"}}"#);
                let token = forge_with(&header, &claims().to_string(), Algorithm::HS256, &secret);
                assert_eq!(gate.get("/api/a", &token).status, 401, "{name} {alg}");
            }
        }
    }
}

#[test]
fn an_ed25519_key_with_its_public_half_signs_too() {
    // RFC 8410 section 7 shows both forms.
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let gate = Builder::standard(Upstream::start().address, ROUTES)
        .edit(
            KEYS,
            "keys: [ { id: e, algorithm: EdDSA, private_key_file: key.pem } ]",
        )
        .file("key.pem", pair.serialize_pem())
        .start();
    assert_signs(&gate, "EdDSA", "e");
}

#[test]
fn every_hmac_algorithm_signs_logins_and_verifies_them() {
    let upstream = Upstream::start();
    for name in ["HS256", "HS384", "HS512"] {
        let key = format!("keys: [ {{ id: new, algorithm: {name}, secret_file: new }} ]");
        let gate = Builder::standard(upstream.address, ROUTES)
            .edit(KEYS, &key)
            .file("new", [b'x'; 64])
            .start();
        assert_signs(&gate, name, "new");
    }
}

#[test]
fn a_public_key_verifies_and_never_signs() {
    let upstream = Upstream::start();
    for (algorithm, name, pair) in pairs() {
        let keys = format!(
            "keys: [ {{ id: k1, algorithm: HS256, secret_file: k1 }}, \
             {{ id: theirs, algorithm: {name}, public_key_file: theirs.pem }} ]"
        );
        let gate = Builder::standard(upstream.address, ROUTES)
            .edit(KEYS, &keys)
            .file("theirs.pem", pair.public_key_pem())
            .start();
        assert_signs(&gate, "HS256", "k1");
        let sign = |alg: &str, kid: &str| {
            let header = format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"at+jwt"}}"#);
            let key = encoding_key(name, &pair);
            forge_with(&header, &claims().to_string(), algorithm, &key)
        };
        assert_eq!(
            gate.get("/api/a", &sign(name, "theirs")).status,
            200,
            "{name}"
        );
        assert_eq!(
            gate.get("/api/a", &sign(name, "k1")).status,
            401,
            "{name}: kid k1"
        );
        assert_eq!(
            gate.get("/api/a", &sign("HS256", "theirs")).status,
            401,
            "{name}: HS256"
        );
        let swapped = match name {
            "RS256" => "PS256",
            "PS256" => "RS256",
            "ES256" => "ES384",
            _ => "ES256",
        };
        assert_eq!(
            gate.get("/api/a", &sign(swapped, "theirs")).status,
            401,
            "{name}: {swapped}"
        );
    }
}

#[test]
fn a_token_without_kid_is_refused_where_there_is_a_choice_of_keys() {
    let upstream = Upstream::start();
    let keys = "keys: [ { id: k1, algorithm: HS256, secret_file: k1 }, \
                { id: k2, algorithm: HS256, secret_file: k2 } ]";
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(KEYS, keys)
        .file("k2", [b'2'; 32])
        .start();
    for _ in 0..2 {
        let token = with_header(r#"{"alg":"HS256","typ":"at+jwt"}"#);
        assert_eq!(gate.get("/api/a", &token).status, 401);
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(gate.get("/api/a", &sign(&claims())).status, 200);
}

#[test]
fn keys_rotate_without_a_log_out_and_a_removed_key_ends_at_once() {
    let upstream = Upstream::start();
    let builder = Builder::standard(upstream.address, ROUTES).file("k2", [b'2'; 32]);
    let with_keys = |keys: &str| builder.config().replace(KEYS, &format!("keys: [ {keys} ]"));
    let k1 = "{ id: k1, algorithm: HS256, secret_file: k1 }";
    let k2 = "{ id: k2, algorithm: HS256, secret_file: k2 }";
    let (both, only_new) = (with_keys(&format!("{k2}, {k1}")), with_keys(k2));
    let gate = builder.start();
    let old = gate.login("root", "memphis");
    let old_access = old["jwt"].as_str().unwrap();
    assert_eq!(gate.get("/api/a", old_access).status, 200);

    assert_eq!(reload_with(&gate, &both), Verdict::Taken);
    assert_signs(&gate, "HS256", "k2");
    for _ in 0..2 {
        assert_eq!(
            gate.get("/api/a", old_access).status,
            200,
            "the old key verifies"
        );
    }
    let body = serde_json::json!({"jwt_refresh_token": old["jwt_refresh_token"]}).to_string();
    let renewed = gate.post_json("/auth/refreshToken", &body);
    assert_eq!(renewed.status, 200, "the old key verifies refresh tokens");
    let renewed = renewed.json()["jwt"].as_str().unwrap().to_owned();
    assert_eq!(header_of(&renewed)["kid"], "k2");

    assert_eq!(reload_with(&gate, &only_new), Verdict::Taken);
    let count = upstream.seen().len();
    for _ in 0..4 {
        assert_eq!(
            gate.get("/api/a", old_access).status,
            401,
            "cached, but its key is gone"
        );
    }
    assert_eq!(gate.post_json("/auth/refreshToken", &body).status, 401);
    assert_eq!(upstream.seen().len(), count);
    assert_eq!(gate.get("/api/a", &renewed).status, 200);
}

#[test]
fn a_new_secret_under_an_old_id_ends_the_old_tokens() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let token = sign(&claims());
    assert_eq!(gate.get("/api/a", &token).status, 200);
    gate.folder().write("k1", [b'n'; 32]);
    assert_eq!(reload(&gate), Verdict::Taken);
    for _ in 0..4 {
        assert_eq!(gate.get("/api/a", &token).status, 401);
    }
    gate.folder().write("k1", SECRET);
    assert_eq!(reload(&gate), Verdict::Taken);
    assert_eq!(gate.get("/api/a", &token).status, 200);
}
