//! Jmvstream's login, as its clients meet it.

use serde_json::json;

use crate::support::gate::{Builder, Gate, hash_password};
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;

const RESOURCE: &str = "7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let hash = hash_password("memphis", "argon2id");
    let users = format!(
        "users: [ {{ name: root, email: root@example.com, password_hash: \"{hash}\", \
         resources: [ {RESOURCE} ] }} ]\n"
    );
    let gate = Builder::standard(upstream.address, "  - { path: /v1/**, upstream: app }")
        .edit("dialect: memphis", "dialect: jmvstream")
        .file("users.yaml", users)
        .start();
    (upstream, gate)
}

fn body(email: &str, password: &str, resource: &str) -> String {
    json!({"email": email, "password": password, "resource": resource}).to_string()
}

#[test]
fn a_token_names_the_resource_and_lives_longer_than_its_clients_keep_it() {
    let (upstream, gate) = start();
    let good = body("Root@Example.com", "memphis", RESOURCE);
    let response = gate.post_json("/v1/authenticate", &good);
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!(answer.as_object().unwrap().len(), 1);
    let token = answer["token"].as_str().unwrap();
    let claims = claims_of(token);
    assert_eq!(claims["resource"], RESOURCE);
    let span = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert!(span >= 4 * 3600, "{span}");
    assert_eq!(gate.get("/v1/folders/?name=a", token).status, 200);
    assert_eq!(upstream.last().target(), "/v1/folders/?name=a");
}

#[test]
fn failures_are_told_as_documented() {
    let (upstream, gate) = start();
    let other = "00000000-0000-4000-8000-000000000000";
    for (row, sent, status, expected) in [
        (
            "no email",
            json!({}).to_string(),
            400,
            json!({"message": "\"email\" is required"}),
        ),
        (
            "no password",
            json!({"email": "a"}).to_string(),
            400,
            json!({"message": "\"password\" is required"}),
        ),
        (
            "no resource",
            json!({"email": "a", "password": "b"}).to_string(),
            400,
            json!({"message": "\"resource\" is required"}),
        ),
        (
            "no UUID",
            body("root@example.com", "memphis", "x"),
            400,
            json!({"message": "\"resource\" must be a valid GUID"}),
        ),
        (
            "a wrong password",
            body("root@example.com", "no", RESOURCE),
            401,
            json!({"message": "not allowed"}),
        ),
        (
            "nobody",
            body("no@example.com", "memphis", RESOURCE),
            401,
            json!({"message": "not allowed"}),
        ),
        (
            "another's resource",
            body("root@example.com", "memphis", other),
            401,
            json!({"message": "not allowed"}),
        ),
    ] {
        let response = gate.post_json("/v1/authenticate", &sent);
        assert_eq!(
            (response.status, response.json()),
            (status, expected),
            "{row}"
        );
    }
    assert_eq!(gate.post_json("/v1/authenticate", "{").status, 400);
    assert_eq!(gate.request("GET", "/v1/authenticate", "").status, 405);
    let refused = gate.request("GET", "/v1/folders/", "authorization: Bearer Array\r\n");
    assert_eq!(
        (refused.status, refused.json()),
        (401, json!({"message": "not allowed"}))
    );
    assert!(upstream.seen().is_empty());
}
