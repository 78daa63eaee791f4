//! Which external tokens are good on routes, and as whose.

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::{ROUTES, good, refused, start};
use crate::support::gate::{Builder, Gate, claims, sign, users};
use crate::support::issuer::{Issuer, IssuerKey};
use crate::support::threat;
use crate::support::tokens::{encode, forge_with};
use crate::support::upstream::Upstream;
use crate::support::{unix_now, wait_for};

#[test]
fn tokens_under_every_algorithm_pass_as_they_are_cached_or_not() {
    let upstream = Upstream::start();
    let names = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
    let keys = names.map(|name| IssuerKey::new(name, name));
    let issuer = Issuer::with(&keys.each_ref());
    let gate = issuer.gate(&upstream, ROUTES, "").start();
    for key in &keys {
        for typ in ["at+jwt", "JWT", "application/at+jwt", "jwt"] {
            let header = json!({"alg": key.name, "kid": key.id, "typ": typ});
            let token = key.sign_under(&header, &issuer.claims());
            assert_eq!(gate.judge(&token), good(), "{} {typ}", key.name);
            assert_eq!(gate.judge(&token), good(), "{} {typ}, cached", key.name);
        }
        let header = json!({"alg": key.name, "kid": key.id});
        let token = key.sign_under(&header, &issuer.claims());
        assert_eq!(gate.judge(&token), good(), "{} without typ", key.name);
    }
    assert_eq!(gate.judge(&sign(&claims())), good(), "the gate's own token");
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn an_unfit_external_token_is_refused_for_what_is_wrong_with_it() {
    let (upstream, issuer, key, gate) = start("");
    let now = unix_now();
    let with = |name: &str, value: Value| key.sign(&issuer.claims_with(name, value));
    let under = |header: Value| key.sign_under(&header, &issuer.claims());
    let header = json!({"alg": "ES256", "kid": "e1", "typ": "at+jwt"});
    let headed = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        under(header)
    };
    let stranger = IssuerKey::new("e1", "ES256");
    let payload = issuer.claims().to_string();
    let twice = payload.replacen('{', "{\"sub\":\"root\",", 1);
    let raw = |payload: &str| forge_with(&header.to_string(), payload, key.algorithm, &key.private);
    let slashless = issuer.url.trim_end_matches('/').to_owned();
    let cases = [
        (with("aud", json!("other")), "wrong_audience"),
        (with("aud", json!(["other", "gate "])), "wrong_audience"),
        (with("aud", Value::Null), "wrong_audience"),
        (with("exp", json!(now - 1)), "expired"),
        (with("exp", Value::Null), "malformed_token"),
        (with("exp", json!("later")), "malformed_token"),
        (with("nbf", json!(now + 600)), "not_yet_valid"),
        (with("nbf", json!("x")), "malformed_token"),
        (with("sub", json!("")), "malformed_token"),
        (with("sub", Value::Null), "malformed_token"),
        (with("sub", json!(7)), "malformed_token"),
        (raw(&twice), "malformed_token"),
        // Another issuer's rules are the gate's own, which has no such key.
        (with("iss", json!(slashless)), "unknown_key"),
        (with("iss", json!("https://other.example/")), "unknown_key"),
        (with("iss", Value::Null), "unknown_key"),
        (headed("typ", json!("rt+jwt")), "wrong_type"),
        (headed("typ", json!("id+jwt")), "wrong_type"),
        (headed("typ", json!("logout+jwt")), "wrong_type"),
        (headed("alg", json!("RS256")), "wrong_algorithm"),
        (headed("alg", json!("none")), "wrong_algorithm"),
        (headed("crit", json!([])), "malformed_token"),
        (headed("b64", json!(true)), "malformed_token"),
        (headed("kid", json!("e2")), "unknown_key"),
        (stranger.sign(&issuer.claims()), "invalid_signature"),
        (key.sign(&issuer.claims()) + "=", "invalid_signature"),
        (
            key.sign(&issuer.claims_with("x", json!("x".repeat(8192)))),
            "malformed_token",
        ),
    ];
    threat::count("external tokens", cases.len());
    for (token, reason) in cases {
        for _ in 0..2 {
            assert_eq!(gate.judge(&token), refused(401, reason), "{token}");
        }
    }
    assert!(upstream.seen().is_empty());
    let list = with("aud", json!(["other", "gate"]));
    assert_eq!(gate.judge(&list), good());
}

#[test]
fn the_public_key_is_no_hmac_secret_and_no_algorithm_none() {
    let (upstream, issuer, key, gate) = start("");
    let x = key.jwk["x"].as_str().unwrap().to_owned();
    for secret in [key.public_pem.clone(), key.jwk.to_string(), x] {
        let secret = EncodingKey::from_secret(secret.as_bytes());
        for alg in ["HS256", "ES256"] {
            let header = json!({"alg": alg, "kid": "e1", "typ": "JWT"}).to_string();
            let payload = issuer.claims().to_string();
            let token = forge_with(&header, &payload, Algorithm::HS256, &secret);
            assert_eq!(gate.judge(&token).0, 401, "{alg}");
        }
    }
    let header = encode(r#"{"alg":"none","kid":"e1","typ":"JWT"}"#);
    let unsigned = format!("{header}.{}.", encode(issuer.claims().to_string()));
    assert_eq!(gate.judge(&unsigned), refused(401, "wrong_algorithm"));
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_key_of_the_gate_signs_nothing_for_an_external_issuer_nor_the_reverse() {
    let (_upstream, issuer, key, gate) = start("");
    let mut own = claims();
    own["iss"] = issuer.url.into();
    assert_eq!(gate.judge(&sign(&own)), refused(401, "unknown_key"));
    let header = json!({"alg": "ES256", "kid": "k1", "typ": "at+jwt"});
    let forged = key.sign_under(&header, &claims());
    assert_eq!(gate.judge(&forged), refused(401, "wrong_algorithm"));
}

#[test]
fn claims_that_only_the_gate_makes_are_not_believed() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    let names = ["resource", "sealed", "fam", "acct", "client_proved", "gen"];
    let mut routes = String::new();
    for name in names {
        routes += &format!(
            "  - {{ path: /api/{name}, upstream: app, require: {{ claims: {{ {name}: {{ equals: x }} }} }} }}\n"
        );
    }
    routes +=
        "  - { path: /api/azp, upstream: app, require: { claims: { azp: { equals: x } } } }\n";
    routes += "  - { path: \"/api/own/{sub}\", upstream: app }\n";
    routes += "  - { path: /api/sealed-login, upstream: app, credential: login }";
    let gate = issuer
        .gate(&upstream, &routes, ", subject_prefix: \"ext:\"")
        .start();
    let mut claims = issuer.claims();
    for name in names {
        claims[name] = "x".into();
    }
    claims["client_proved"] = true.into();
    claims["gen"] = 0.into();
    claims["azp"] = "x".into();
    let token = key.sign(&claims);
    for name in names {
        assert_eq!(
            gate.get(&format!("/api/{name}"), &token).status,
            403,
            "{name}"
        );
    }
    assert_eq!(gate.get("/api/sealed-login", &token).status, 403);
    assert_eq!(gate.get("/api/azp", &token).status, 200);
    // The subject is never the bare one.
    assert_eq!(gate.get("/api/own/alice", &token).status, 403);
    assert_eq!(gate.get("/api/own/ext:alice", &token).status, 200);
    // Nor is it a refresh token, nor a token that its holder can end as the gate's own.
    let refresh = json!({"jwt_refresh_token": token}).to_string();
    assert_eq!(gate.post_json("/auth/refreshToken", &refresh).status, 401);
}

#[test]
fn subjects_count_with_their_prefix_and_only_allowed_ones_come() {
    let more = ", subject_prefix: \"ext:\", allowed_subjects: [ alice ]";
    let (_upstream, issuer, key, gate) = start(more);
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.get("/api/who", &token).status, 200);
    assert_eq!(gate.exchange("/api/who")["subject"], "ext:alice");
    for subject in ["mallory", "ext:alice", "Alice", "alice "] {
        let token = key.sign(&issuer.claims_with("sub", subject.into()));
        let expected = refused(403, "subject_not_allowed");
        assert_eq!(gate.judge(&token), expected, "{subject}");
    }
}

#[test]
fn an_external_subject_gets_nothing_of_a_local_user_of_the_same_name() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    let entry = issuer.entry(", subject_prefix: \"ext:\"");
    let identity = format!("identity: [ {{ users_file: users.yaml }}, {entry} ]");
    let routes =
        "  - { path: /api/**, upstream: app, credential: { per_user: { file: creds.yaml } } }";
    let gate = Builder::standard(upstream.address, routes)
        .line("identity:", &identity)
        .file("users.yaml", users(&[("alice", "memphis", "[]")]))
        .file(
            "creds.yaml",
            "alice: { username: a, password: secret-of-alice }\n",
        )
        .start();
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.judge(&token), refused(403, "no_upstream_credential"));
    assert_eq!(gate.judge(&gate.token("alice", "memphis")), good());
}

#[test]
fn scopes_and_groups_are_mapped_from_the_configured_claims() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    let routes = "
  - { path: /api/read, upstream: app, require: { scopes: [ read ] } }
  - { path: /api/admin, upstream: app, require: { scopes: [ admin ] } }
  - { path: /api/all, upstream: app, require: { scopes: [ all ] } }
  - { path: /api/staff, upstream: app, require: { groups: [ staff ] } }
";
    let opened = |more: &str, claims: Value| {
        let gate = issuer.gate(&upstream, routes, more).start();
        let token = key.sign(&claims);
        let paths = ["read", "admin", "all", "staff"];
        let opens = |path: &&str| gate.get(&format!("/api/{path}"), &token).status == 200;
        paths
            .into_iter()
            .filter(opens)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let with = |name: &str, value: Value| issuer.claims_with(name, value);
    let map = ", scopes: { map: { write: [ admin ], ghost: [ all ] } }";
    let roles = ", scopes: { claim: realm_access.roles }, groups_claim: realm_access.groups";
    for (more, claims, expected) in [
        ("", issuer.claims(), "read"),
        ("", with("scope", json!(["read", "admin"])), "read admin"),
        // An item of a list is one scope, not several.
        ("", with("scope", json!(["read admin"])), ""),
        ("", with("scope", json!({"read": true})), ""),
        ("", with("groups", json!(["staff", "x"])), "read staff"),
        (map, issuer.claims(), "admin"),
        (
            ", scopes: { grant: [ all ] }",
            with("scope", Value::Null),
            "all",
        ),
        (
            ", scopes: { claim: permissions }",
            with("permissions", json!(["admin"])),
            "admin",
        ),
        (
            roles,
            with(
                "realm_access",
                json!({"roles": ["admin"], "groups": ["staff"]}),
            ),
            "admin staff",
        ),
    ] {
        assert_eq!(opened(more, claims.clone()), expected, "{more} {claims}");
    }
}

#[test]
fn an_issuer_for_logins_alone_opens_no_route() {
    let (_upstream, issuer, key, gate) = start(", bearer: false");
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.judge(&token), refused(401, "wrong_issuer"));
}

#[test]
fn revocation_by_subject_and_by_id_hits_external_tokens_and_no_others_of_that_id() {
    let (_upstream, issuer, key, gate) = start(", subject_prefix: \"ext:\"");
    let claims_of_one = issuer.claims();
    let (one, other) = (key.sign(&claims_of_one), key.sign(&issuer.claims()));
    let mut own = claims();
    own["jti"] = claims_of_one["jti"].clone();
    let own = sign(&own);
    for token in [&one, &other, &own] {
        assert_eq!(gate.judge(token), good());
    }
    let id = claims_of_one["jti"].as_str().unwrap();
    let external = format!("{}#{id}", issuer.url);
    let revoke = |body: Value| revoke(&gate, &body);
    revoke(json!({"token_id": external}));
    assert_eq!(gate.judge(&one), refused(401, "revoked"));
    assert_eq!(gate.judge(&own), good());
    revoke(json!({"token_id": id}));
    assert_eq!(gate.judge(&own), refused(401, "revoked"));
    assert_eq!(gate.judge(&other), good());
    revoke(json!({"subject": "alice"}));
    assert_eq!(gate.judge(&other), good());
    revoke(json!({"subject": "ext:alice"}));
    assert_eq!(gate.judge(&other), refused(401, "revoked"));
}

fn revoke(gate: &Gate, body: &Value) {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "POST /revoke HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    assert_eq!(
        crate::support::client::send(gate.admin, request).status,
        200
    );
}

#[test]
fn a_revocation_outlives_an_external_token_that_lives_longer_than_the_gates_own() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    let short = "audience: gate\n  access_ttl: 1s\n  refresh_ttl: 1s\n  max_access_ttl: 1s\n  max_refresh_ttl: 1s\n  keys:";
    let gate = issuer
        .gate(&upstream, ROUTES, "")
        .edit("audience: gate\n  keys:", short)
        .start();
    // One of the gate's own that lives longer than any could shows when revocations are forgotten.
    let (own, external) = (claims(), issuer.claims());
    let id = external["jti"].as_str().unwrap();
    revoke(&gate, &json!({"token_id": own["jti"]}));
    revoke(&gate, &json!({"token_id": format!("{}#{id}", issuer.url)}));
    let (own, external) = (sign(&own), key.sign(&external));
    assert_eq!(gate.judge(&own), refused(401, "revoked"));
    wait_for("the gate to forget", || {
        (gate.judge(&own) == good()).then_some(())
    });
    assert_eq!(gate.judge(&external), refused(401, "revoked"));
}
