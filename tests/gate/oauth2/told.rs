//! What is told to whoever asks, and what is counted.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use super::{BATCH, PASSWORD, ROUTES, basic, builder, granted, post, refresh, start, text};
use crate::support::tokens::header_of;
use crate::support::upstream::Upstream;

#[test]
fn the_metadata_names_the_endpoints_as_they_were_asked_for() {
    let upstream = Upstream::start();
    let gate = builder(&upstream)
        .edit("issuer: tollgate", "issuer: \"https://gate.example\"")
        .edit("dialect: oauth2", "dialect: oauth2, prefix: /id")
        .start();
    let path = "/id/.well-known/oauth-authorization-server";
    let response = gate.request("GET", path, "");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let metadata = response.json();
    let base = "http://gate.example/id";
    let wanted = json!({
        "issuer": "https://gate.example",
        "token_endpoint": format!("{base}/oauth2/token"),
        "token_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint": format!("{base}/oauth2/revoke"),
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint": format!("{base}/oauth2/introspect"),
        "introspection_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "Bearer"],
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "grant_types_supported": ["client_credentials", "password", "refresh_token"],
        "response_types_supported": [],
    });
    assert_eq!(metadata, wanted);
    assert_eq!(gate.request("HEAD", path, "").status, 200);
    assert_eq!(post(&gate, "/id/oauth2/token", "", PASSWORD).status, 200);
    assert_eq!(post(&gate, "/oauth2/token", "", PASSWORD).status, 404);
}

#[test]
fn the_keys_are_public_verify_tokens_and_leave_shared_secrets_out() {
    let (upstream, gate) = start();
    let keys = |gate: &crate::support::gate::Gate| {
        let response = gate.request("GET", "/.well-known/jwks.json", "");
        assert_eq!(response.status, 200);
        response.json()
    };
    assert_eq!(keys(&gate), json!({"keys": []}));

    let generate = |kind| KeyPair::generate_for(kind).unwrap();
    let pairs = [
        ("ES256", generate(&PKCS_ECDSA_P256_SHA256)),
        ("ES384", generate(&PKCS_ECDSA_P384_SHA384)),
        ("EdDSA", generate(&PKCS_ED25519)),
    ];
    let mut entries = String::new();
    for (name, _) in &pairs {
        entries += &format!("{{ id: {name}, algorithm: {name}, private_key_file: {name} }}, ");
    }
    let old = "{ id: k1, algorithm: HS256, secret_file: k1 }";
    let mut builder = builder(&upstream).edit(old, &format!("{entries}{old}"));
    for (name, pair) in &pairs {
        builder = builder.file(name, pair.serialize_pem());
    }
    let gate = builder.start();
    let found = keys(&gate);
    let listed = found["keys"].as_array().unwrap();
    assert_eq!(listed.len(), pairs.len(), "{found}");
    for (key, (name, _)) in listed.iter().zip(&pairs) {
        let fields = (&key["kid"], &key["alg"], &key["use"]);
        assert_eq!(fields, (&json!(name), &json!(name), &json!("sig")));
        for private in ["d", "k"] {
            assert_eq!(key.get(private), None, "{name}");
        }
    }
    let keys: JwkSet = serde_json::from_value(found).unwrap();
    let pair = granted(&gate, "", PASSWORD);
    let token = text(&pair, "access_token");
    let id = header_of(token)["kid"].as_str().unwrap().to_owned();
    let key = DecodingKey::from_jwk(keys.find(&id).unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&["gate"]);
    let verified = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap();
    assert_eq!(verified.claims["sub"], "root");
}

#[test]
fn each_grant_counts_as_what_it_is() {
    let (_upstream, gate) = start();
    let pair = granted(&gate, "", PASSWORD);
    granted(&gate, &basic(BATCH), "grant_type=client_credentials");
    post(&gate, "/oauth2/token", "", "grant_type=x");
    assert_eq!(refresh(&gate, "", &pair, "").status, 200);
    post(
        &gate,
        "/oauth2/token",
        "",
        "grant_type=refresh_token&refresh_token=x",
    );
    post(&gate, "/oauth2/revoke", "", "token=x");
    post(&gate, "/oauth2/introspect", "", "token=x");
    for (name, result, reason, count) in [
        ("logins", "ok", "none", 2.0),
        ("logins", "refused", "unsupported_grant", 1.0),
        ("logins", "refused", "missing_credential", 0.0),
        ("refreshes", "ok", "none", 1.0),
        ("refreshes", "refused", "malformed_token", 1.0),
    ] {
        let labels = format!("dialect=\"oauth2\",reason=\"{reason}\",result=\"{result}\"");
        let sample = format!("tollgate_{name}_total{{{labels}}}");
        assert_eq!(gate.metric(&sample), count, "{sample}\n{}", gate.metrics());
    }
}

#[test]
fn a_route_of_the_dialect_refuses_as_rfc_6750_says() {
    let upstream = Upstream::start();
    let route = ROUTES.replace("upstream: app", "upstream: app, dialect: oauth2");
    let gate = builder(&upstream).edit(ROUTES, &route).start();
    for (headers, error, challenge) in [
        ("", "missing_credential", "Bearer realm=\"tollgate\""),
        (
            "authorization: Bearer x\r\n",
            "invalid_token",
            "Bearer realm=\"tollgate\", error=\"invalid_token\", \
             error_description=\"The token is malformed.\"",
        ),
    ] {
        let response = gate.request("GET", "/api/x", headers);
        assert_eq!(response.status, 401);
        assert_eq!(response.json()["error"], error);
        assert_eq!(response.header("www-authenticate"), Some(challenge));
    }
}
