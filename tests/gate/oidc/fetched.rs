//! Which documents of an issuer are believed, and which of its keys are used.

use serde_json::{Value, json};

use super::{ROUTES, good, refused};
use crate::support::issuer::{Issuer, IssuerKey, ok, raw};
use crate::support::upstream::Upstream;

/// The last error that a gate tells, once it has started with these documents.
fn error(spoil: impl FnOnce(&Issuer)) -> String {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    spoil(&issuer);
    let gate = issuer.gate(&upstream, ROUTES, "").start();
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.judge(&token), refused(503, "keys_unavailable"));
    let listing = gate.on_admin("/keys").json();
    listing["issuers"][0]["last_error"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_document_that_is_not_the_issuers_own_or_leads_elsewhere_is_not_believed() {
    let discovery = |change: fn(&Issuer, &mut Value)| {
        error(|issuer| {
            let mut document = issuer.discovery();
            change(issuer, &mut document);
            issuer.answer_discovery(&ok(&document));
        })
    };
    let foreign = discovery(|_, document| document["issuer"] = "https://evil.example/".into());
    assert!(foreign.contains("another issuer"), "{foreign}");
    let slashless = discovery(|issuer, document| {
        document["issuer"] = issuer.url.trim_end_matches('/').into();
    });
    assert!(slashless.contains("another issuer"), "{slashless}");
    for uri in [
        "http://keys.example/jwks",
        "file:///etc/passwd",
        "https://user:hidden@keys.example/jwks",
        "//keys.example/jwks",
    ] {
        let error = error(|issuer| {
            let document = json!({"issuer": issuer.url, "jwks_uri": uri});
            issuer.answer_discovery(&ok(&document));
        });
        assert!(error.contains("jwks_uri"), "{uri}: {error}");
        assert!(!error.contains("hidden"), "{error}");
    }
    let long = discovery(|_, document| document["issuer"] = "x".repeat(10_000).into());
    assert!(long.len() < 500, "{long}");
    let lacking = discovery(|_, document| {
        document.as_object_mut().unwrap().remove("jwks_uri");
    });
    assert!(lacking.contains("not the expected JSON"), "{lacking}");
}

#[test]
fn only_an_answer_with_200_and_a_key_set_of_bounded_size_counts() {
    let large = json!({"keys": [], "x": "x".repeat(1024 * 1024)});
    for (answer, expected) in [
        (raw("500 Broken", "{\"keys\":[]}"), "answered 500"),
        (raw("204 No Content", ""), "answered 204"),
        (raw("404 Not Found", "{}"), "answered 404"),
        (raw("200 OK", "<html>"), "not the expected JSON"),
        (raw("200 OK", "[]"), "not the expected JSON"),
        (raw("200 OK", "{\"keys\":{}}"), "not the expected JSON"),
        (ok(&large), "length limit"),
        (String::new(), "failed"),
    ] {
        let error = error(|issuer| issuer.answer_keys(&answer));
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let error = error(|issuer| {
        let elsewhere = format!("{}elsewhere", issuer.url);
        issuer.answer("/elsewhere", &raw("200 OK", "{\"keys\":[]}"));
        issuer.answer_keys(&format!(
            "HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"
        ));
    });
    assert!(error.contains("answered 302"), "{error}");
}

#[test]
fn keys_can_be_fetched_without_discovery_and_over_tls_of_a_private_authority() {
    use std::io::{Read as _, Write as _};

    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let (certificate, private) = crate::support::gate::self_signed(&["localhost"]);
    let answer = ok(&json!({"keys": [key.jwk]}));
    let address = crate::support::raw::accepting_tls(&certificate, &private, move |mut stream| {
        let mut head = [0; 4096];
        let count = stream.read(&mut head).unwrap_or(0);
        assert!(head[..count].starts_with(b"GET /keys HTTP/1.1\r\n"));
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.flush();
    });
    // Its name leads nowhere: it is not asked.
    let issuer = Issuer::with(&[]);
    let claims = issuer.claims_with("iss", json!("https://tenant.invalid/"));
    let more = format!(
        ", jwks_uri: \"https://localhost:{}/keys\", ca_file: ca.pem",
        address.port()
    );
    let gate = issuer
        .gate(&upstream, ROUTES, &more)
        .edit(&issuer.url, "https://tenant.invalid/")
        .file("ca.pem", certificate)
        .start();
    assert_eq!(gate.judge(&key.sign(&claims)), good(), "{}", gate.log());
    assert!(issuer.seen().is_empty());
}

#[test]
fn an_issuer_that_is_found_over_tls_has_its_keys_over_tls() {
    use std::io::{Read as _, Write as _};
    use std::sync::OnceLock;

    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let plain = Issuer::with(&[&key]);
    let (certificate, private) = crate::support::gate::self_signed(&["localhost"]);
    static URL: OnceLock<String> = OnceLock::new();
    let jwks = format!("{}jwks", plain.url);
    let address = crate::support::raw::accepting_tls(&certificate, &private, move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let document = json!({"issuer": URL.wait(), "jwks_uri": jwks});
        let _ = stream.write_all(ok(&document).as_bytes());
        let _ = stream.flush();
    });
    let url = URL.get_or_init(|| format!("https://localhost:{}/", address.port()));
    let gate = plain
        .gate(&upstream, ROUTES, ", ca_file: ca.pem")
        .edit(&plain.url, url)
        .file("ca.pem", certificate)
        .start();
    let token = key.sign(&plain.claims_with("iss", json!(url)));
    assert_eq!(gate.judge(&token), refused(503, "keys_unavailable"));
    assert!(plain.seen().is_empty());
    let listing = gate.on_admin("/keys").json();
    let error = listing["issuers"][0]["last_error"].to_string();
    assert!(error.contains("is not https, but the issuer is"), "{error}");
}

#[test]
fn an_authority_that_is_not_trusted_is_not_believed() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let (certificate, private) = crate::support::gate::self_signed(&["localhost"]);
    let address = crate::support::raw::accepting_tls(&certificate, &private, |mut stream| {
        let _ = std::io::Read::read(&mut stream, &mut [0]);
    });
    let issuer = Issuer::with(&[]);
    let uri = format!("https://localhost:{}/keys", address.port());
    let gate = issuer
        .gate(&upstream, ROUTES, &format!(", jwks_uri: \"{uri}\""))
        .start();
    assert_eq!(
        gate.judge(&key.sign(&issuer.claims())),
        refused(503, "keys_unavailable")
    );
    let listing = gate.on_admin("/keys").json();
    let error = listing["issuers"][0]["last_error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn unfit_keys_are_skipped_and_the_listing_says_why() {
    let upstream = Upstream::start();
    let (fit, bare) = (
        IssuerKey::new("fit", "ES256"),
        IssuerKey::new("bare", "RS256"),
    );
    let issuer = Issuer::with(&[]);
    let renamed = |id: &str, members: Value| {
        let mut jwk = fit.published_with(&members);
        jwk["kid"] = id.into();
        jwk
    };
    let small = modulus(128);
    let rows = [
        (renamed("enc", json!({"use": "enc"})), "its use is `enc`"),
        (
            renamed("ops", json!({"use": null, "key_ops": ["sign"]})),
            "do not include `verify`",
        ),
        (renamed("misfit", json!({"alg": "ES384"})), "does not fit"),
        (renamed("unknown", json!({"alg": "RS1"})), "does not fit"),
        (renamed("hmac", json!({"alg": "HS256"})), "does not fit"),
        (renamed("short", json!({"x": "AAAA"})), "malformed"),
        (renamed("typed", json!({"x": 7})), "malformed"),
        (
            renamed("curve", json!({"crv": "P-521"})),
            "curve is not known",
        ),
        (
            json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"}),
            "shared secret",
        ),
        (
            json!({"kty": "RSA", "kid": "small", "n": small, "e": "AQAB"}),
            "it has 1024 bits",
        ),
        (renamed("twice", json!({})), "used twice"),
        (renamed("twice", json!({})), "used twice"),
    ];
    // What says nothing of its algorithm has the usual one of its kind.
    let mut keys = vec![
        fit.jwk.clone(),
        bare.published_with(&json!({"alg": null, "use": null})),
    ];
    keys.extend(rows.iter().map(|(jwk, _)| jwk.clone()));
    issuer.publish_as(&json!({"keys": keys}));
    let gate = issuer.gate(&upstream, ROUTES, "").start();
    let listing = gate.on_admin("/keys");
    assert!(
        !listing.text().contains(fit.jwk["x"].as_str().unwrap()),
        "a key is told"
    );
    let listing = listing.json();
    let used = json!([{"id": "bare", "algorithm": "RS256"}, {"id": "fit", "algorithm": "ES256"}]);
    assert_eq!(listing["issuers"][0]["keys"], used);
    let skipped = listing["issuers"][0]["skipped"].as_array().unwrap().clone();
    assert_eq!(skipped.len(), rows.len());
    for (jwk, why) in &rows {
        let told = skipped.iter().find(|skipped| skipped["id"] == jwk["kid"]);
        let told = told.unwrap()["why"].as_str().unwrap();
        assert!(told.contains(why), "{}: {told}", jwk["kid"]);
    }
    let own = json!([{"id": "k1", "algorithm": "HS256", "signs": true}]);
    assert_eq!(listing["own"], own);
    for key in [&fit, &bare] {
        assert_eq!(
            gate.judge(&key.sign(&issuer.claims())),
            good(),
            "{}",
            key.id
        );
    }
    for id in ["enc", "ops", "twice", "misfit"] {
        let header = json!({"alg": "ES256", "kid": id});
        let token = fit.sign_under(&header, &issuer.claims());
        assert_eq!(gate.judge(&token), refused(401, "unknown_key"), "{id}");
    }
}

/// So many bytes in base64url, the first bit set.
fn modulus(bytes: usize) -> String {
    crate::support::tokens::encode(vec![0xff; bytes])
}

#[test]
fn a_token_without_a_key_id_is_judged_where_there_is_one_key_alone() {
    let (_upstream, issuer, key, gate) = super::start(", keys: { unknown_key_interval: 1ms }");
    let token = key.sign_under(&json!({"alg": "ES256"}), &issuer.claims());
    assert_eq!(gate.judge(&token), good());
    let second = IssuerKey::new("e2", "ES256");
    issuer.publish(&[&key, &second]);
    assert_eq!(gate.judge(&second.sign(&issuer.claims())), good());
    let unknown = refused(401, "unknown_key");
    assert_eq!(gate.judge(&token), unknown, "cached");
    let token = key.sign_under(&json!({"alg": "ES256"}), &issuer.claims());
    assert_eq!(gate.judge(&token), unknown, "not cached");
}

#[test]
fn only_allowed_algorithms_are_used() {
    let (_upstream, issuer, key, gate) = super::start(", algorithms: [ RS256, EdDSA ]");
    assert_eq!(
        gate.judge(&key.sign(&issuer.claims())),
        refused(401, "unknown_key")
    );
    let listing = gate.on_admin("/keys").json();
    let why = listing["issuers"][0]["skipped"][0]["why"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(why, "its algorithm, ES256, is not allowed");
}
