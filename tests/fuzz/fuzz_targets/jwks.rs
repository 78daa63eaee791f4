//! Of an issuer's published keys, are only those used that are public, allowed and told apart?

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use tollgate::fuzzing::read_jwks;
use tollgate::token::keys::KeyAlgorithm;

/// What an issuer's keys may be unless the config says otherwise, but for one.
const ALLOWED: [KeyAlgorithm; 4] = [
    KeyAlgorithm::RS256,
    KeyAlgorithm::PS256,
    KeyAlgorithm::ES256,
    KeyAlgorithm::EdDSA,
];

/// What counts of a document; the rest is not even decoded.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

fuzz_target!(|json: &[u8]| {
    let Some((keys, skipped)) = read_jwks(json, &ALLOWED) else {
        return;
    };
    let Document { keys: listed } = serde_json::from_slice(json).expect("accepted, so a list");
    assert_eq!(keys.len() + skipped, listed.len());
    let mut counts = BTreeMap::<&str, usize>::new();
    for id in listed.iter().filter_map(|key| key["kid"].as_str()) {
        *counts.entry(id).or_default() += 1;
    }
    for key in keys {
        assert!(ALLOWED.contains(&key.algorithm));
        assert!(!key.verifies_noise);
        if key.id.is_empty() {
            continue;
        }
        assert!(
            key.is_found && counts[&*key.id] == 1,
            "{:?} is not one key's",
            key.id
        );
        let jwk = listed
            .iter()
            .find(|jwk| jwk["kid"] == key.id)
            .expect("its source");
        let kind = match key.algorithm {
            KeyAlgorithm::RS256 | KeyAlgorithm::PS256 => "RSA",
            KeyAlgorithm::ES256 => "EC",
            _ => "OKP",
        };
        assert_eq!(jwk["kty"], kind);
        assert!(jwk["alg"].is_null() || jwk["alg"] == key.algorithm.name());
        assert!(jwk["use"].is_null() || jwk["use"] == "sig");
    }
});
