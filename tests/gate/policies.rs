//! What a route demands of a token beyond being valid.

use serde_json::{Value, json};

use crate::support::gate::{Builder, Gate, hash_password};
use crate::support::tokens::{claims, claims_of, sign, with_claim, with_claims};
use crate::support::upstream::Upstream;

const ROUTES: &str = r#"  - path: /groups
    upstream: app
    require: { groups: [ ops, admins ] }
  - path: /claims
    upstream: app
    require:
      claims:
        tenant: { equals: acme }
        tier: { one_of: [ gold, "2" ] }
        realm_access.roles: { prefix: "station-" }
  - { path: "/users/{sub}/**", upstream: app }
  - { path: "/stations/{claim:station}/**", upstream: app, allow_in_path: [ encoded_slash ] }
  - { path: /stations/open/**, upstream: app, methods: [ GET ] }
"#;

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

/// Status and reason of a request with this token.
fn judge(gate: &Gate, target: &str, token: &str) -> (u16, Value) {
    let id = format!("{:032x}", fastrand::u128(..));
    let headers = format!("authorization: Bearer {token}\r\nx-request-id: {id}\r\n");
    let status = gate.request("GET", target, &headers).status;
    let line = gate.wait_for_log(target, |line| line["request_id"] == *id);
    (status, line["reason"].clone())
}

#[test]
fn one_of_the_groups_is_enough_and_none_is_not() {
    let (upstream, gate) = start();
    for (groups, expected) in [
        (json!(["ops"]), (200, Value::Null)),
        (json!(["x", "admins"]), (200, Value::Null)),
        (json!([]), (403, json!("wrong_group"))),
        (
            json!(["opsx", "Ops", "ops admins"]),
            (403, json!("wrong_group")),
        ),
    ] {
        let token = with_claim("groups", groups.clone());
        assert_eq!(judge(&gate, "/groups", &token), expected, "{groups}");
    }
    assert_eq!(upstream.seen().len(), 2);
    // A text where a list belongs is no token of ours.
    let token = with_claim("groups", json!("ops"));
    assert_eq!(
        judge(&gate, "/groups", &token),
        (401, json!("malformed_token"))
    );
}

#[test]
fn every_claim_must_fit_exactly_by_prefix_or_as_one_of_several() {
    let (_upstream, gate) = start();
    let good = json!({
        "tenant": "acme", "tier": ["silver", 2], "realm_access": {"roles": ["x", "station-7"]},
    });
    for (change, is_fine) in [
        (json!({}), true),
        (json!({"tenant": ["x", "acme"]}), true),
        (json!({"tier": "gold"}), true),
        (
            json!({"realm_access.roles": "station-", "realm_access": null}),
            true,
        ),
        (json!({"tenant": null}), false),
        (json!({"tenant": "Acme"}), false),
        (json!({"tenant": "acme "}), false),
        (json!({"tenant": {"acme": true}}), false),
        (json!({"tier": 2.5}), false),
        (json!({"tier": "golden"}), false),
        (json!({"realm_access": {"roles": "a station-7"}}), false),
        (json!({"realm_access": ["station-7"]}), false),
        (json!({"realm_access": null}), false),
    ] {
        let token = with_claims(|claims| {
            for part in [&good, &change] {
                for (name, value) in part.as_object().unwrap() {
                    claims[name] = value.clone();
                }
            }
        });
        let expected = match is_fine {
            true => (200, Value::Null),
            false => (403, json!("wrong_claim")),
        };
        // Known to the cache the second time: the answer is the same.
        for _ in 0..2 {
            assert_eq!(judge(&gate, "/claims", &token), expected, "{change}");
        }
    }
}

#[test]
fn a_captured_segment_must_be_the_principals_own() {
    let (upstream, gate) = start();
    let token = with_claims(|claims| {
        claims["sub"] = "a@example.com".into();
        claims["station"] = json!(["north", "a/b", 7]);
    });
    for target in [
        "/users/a@example.com/x",
        "/users/a%40example%2ecom",
        "/stations/north/produce/single",
        "/stations/nort%68/",
        "/stations/a%2Fb/x",
        "/stations/7",
        "/stations/open/x",
    ] {
        assert_eq!(judge(&gate, target, &token), (200, Value::Null), "{target}");
        assert_eq!(upstream.last().target(), target);
    }
    let passed = upstream.seen().len();
    for target in [
        "/users/b@example.com/x",
        "/users/a@example.co/x",
        "/users/A@example.com/x",
        "/users/a@example.com%20/x",
        "/users//x",
        "/users/",
        "/stations/south/x",
        "/stations/north%2Fx/y",
        "/stations/%257",
    ] {
        let (status, reason) = judge(&gate, target, &token);
        let is_refused = matches!(
            reason.as_str(),
            Some("not_own_path" | "ambiguous_path" | "route_not_found")
        );
        assert!(
            is_refused && (400..=404).contains(&status),
            "{target}: {status} {reason}"
        );
    }
    // Who has no such claim owns nothing, whatever the path says.
    for target in [
        "/stations/north/x",
        "/stations//x",
        "/stations/null",
        "/stations/station",
    ] {
        let (status, _) = judge(&gate, target, &sign(&claims()));
        assert!((400..=404).contains(&status), "{target}");
    }
    assert_eq!(upstream.seen().len(), passed);
}

#[test]
fn a_users_groups_and_claims_come_from_the_users_file_and_follow_it() {
    let upstream = Upstream::start();
    let hash = hash_password("memphis", "argon2id");
    let user = |groups: &str, claims: &str| {
        format!(
            "users:\n  - {{ name: root, password_hash: \"{hash}\", groups: {groups}, claims: {claims} }}\n"
        )
    };
    let gate = Builder::standard(upstream.address, ROUTES)
        .file(
            "users.yaml",
            user("[ ops ]", "{ station: [ north, south ], hidden: x }"),
        )
        .start();
    let pair = gate.login("root", "memphis");
    let access = pair["jwt"].as_str().unwrap();
    assert_eq!(claims_of(access)["groups"], json!(["ops"]));
    assert_eq!(claims_of(access)["station"], json!(["north", "south"]));
    for (target, status) in [
        ("/groups", 200),
        ("/stations/south/x", 200),
        ("/stations/west/x", 403),
        ("/claims", 403),
    ] {
        assert_eq!(gate.get(target, access).status, status, "{target}");
    }
    gate.folder()
        .write("users.yaml", user("[]", "{ station: west }"));
    crate::support::reload::reload(&gate);
    let body = json!({"jwt_refresh_token": pair["jwt_refresh_token"]}).to_string();
    let next = gate.post_json("/auth/refreshToken", &body).json();
    let access = next["jwt"].as_str().unwrap();
    for (target, status) in [
        ("/groups", 403),
        ("/stations/west/x", 200),
        ("/stations/south/x", 403),
    ] {
        assert_eq!(gate.get(target, access).status, status, "{target}");
    }
}

#[test]
fn a_policy_that_cannot_be_meant_is_a_config_error() {
    for (route, text) in [
        (
            "{ path: /x, upstream: app, public: true, require: { groups: [ a ] } }",
            "cannot require",
        ),
        (
            "{ path: \"/{sub}/x\", upstream: app, public: true }",
            "cannot require",
        ),
        (
            "{ path: \"/{subject}/x\", upstream: app }",
            "must be {sub} or {claim:NAME}",
        ),
        (
            "{ path: \"/{claim:}/x\", upstream: app }",
            "must be {sub} or {claim:NAME}",
        ),
        (
            "{ path: \"/a{sub}/x\", upstream: app }",
            "must be {sub} or {claim:NAME}",
        ),
        (
            "{ path: /x, upstream: app, require: { claims: { a: { prefix: \"\" } } } }",
            "must not be empty",
        ),
        (
            "{ path: /x, upstream: app, require: { claims: { a: { one_of: [] } } } }",
            "must not be empty",
        ),
        (
            "{ path: /x, upstream: app, require: { claims: { a: { like: b } } } }",
            "unknown value `like`",
        ),
    ] {
        let gate = Builder::standard(([127, 0, 0, 1], 1).into(), &format!("  - {route}"));
        let output = gate.run_to_end(&["check"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{route}");
        assert!(errors.contains(text), "{route}: {errors}");
    }
    let gate = Builder::standard(
        ([127, 0, 0, 1], 1).into(),
        "  - { path: /x, upstream: app }",
    )
    .file(
        "users.yaml",
        "users:\n  - { name: root, claims: { sealed: x } }\n",
    );
    let output = gate.run_to_end(&["check"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.contains("`sealed` is a claim of the gate's own"),
        "{errors}"
    );
}
