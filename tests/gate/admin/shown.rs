//! Is the config shown as it is in force, and no secret in it?

use serde_json::{Value, json};

use super::{ask, get};
use crate::support::gate::{Builder, users};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

/// A distinctive text wherever the config takes one in which an operator could have put a secret.
const CONFIG: &str = r#"
listeners:
  - { address: "127.0.0.1:0", tls: { certificate: a.crt, private_key: a.key } }
admin: { address: "127.0.0.1:0" }
tokens:
  issuer: https://s3cret-1:s3cret-2@issuer.example/
  audience: gate
  keys:
    - { id: k1, algorithm: HS256, secret_file: k1 }
    - { id: k2, algorithm: ES256, private_key_file: a.key }
  seal_key_file: seal
store: { file: state.redb }
identity:
  - users_file: users.yaml
  - upstream_probe: { upstream: app, path: "/whoami?key=s3cret-3" }
  - oidc:
      issuer: http://127.0.0.1:9/
      jwks_uri: "http://127.0.0.1:9/keys?code=s3cret-4"
      audience: gate
      subject_prefix: "x:"
upstreams:
  app:
    endpoints: [ "http://127.0.0.1:9" ]
    health_check: { path: "/health?token=s3cret-5" }
login: [ { dialect: memphis } ]
tracing: { otlp: { endpoint: "http://127.0.0.1:9/v1/traces", headers_file: otlp } }
reload: { interval: 0s }
routes:
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
    set_headers: { X-Api-Key: s3cret-7, X-Other: "Bearer s3cret-8" }
  - path: /b/**
    upstream: app
    credential: { header: { name: X-Key, value_file: upstream-password } }
    login_page: "https://s3cret-9:s3cret-10@login.example/?hint=s3cret-11"
  - { path: /c/**, upstream: app, credential: { per_user: { file: per-user } } }
  - { path: /d/**, upstream: app, credential: users_file }
"#;

#[test]
fn no_secret_is_shown_wherever_it_stands() {
    let secrets = [
        ("k1", "s3cret-of-signing-0123456789abcdef"),
        ("seal", "s3cret-of-sealing-0123456789abcdef"),
        ("upstream-password", "s3cret-of-upstream"),
        ("otlp", "api-key: s3cret-of-collector"),
        (
            "per-user",
            "root: { username: a, password: s3cret-of-root }",
        ),
    ];
    let builder = secrets
        .iter()
        .fold(Builder::new(CONFIG), |builder, (name, text)| {
            builder.file(name, format!("{text}\n"))
        });
    let list = users(&[("root", "memphis", "[]")]).replace(
        "scopes: []",
        "scopes: [], upstream: { username: a, password: s3cret-of-user }",
    );
    let gate = builder
        .certificate("a", &["gate.example"])
        .file("users.yaml", list)
        .start();
    let shown = get(&gate, "/config");
    let text = shown.to_string();
    assert!(!text.contains("s3cret"), "{text}");
    assert!(
        !text.contains("$argon2") && !text.contains("PRIVATE KEY"),
        "{text}"
    );
    // What is no secret is there.
    let route = &shown["routes"][0];
    assert_eq!(
        route["set_headers"],
        json!({"X-Api-Key": "***", "X-Other": "***"})
    );
    assert_eq!(
        route["credential"]["basic"]["password_file"],
        "upstream-password"
    );
    assert_eq!(shown["tokens"]["issuer"], "https://***@issuer.example/");
    assert_eq!(
        shown["routes"][1]["login_page"],
        "https://***@login.example/?***"
    );
    assert_eq!(
        shown["upstreams"]["app"]["health_check"]["path"],
        "/health?***"
    );
    assert_eq!(shown["tokens"]["keys"][1]["private_key_file"], "a.key");
    // Nor is a secret anywhere else that operators look.
    for path in ["/status", "/keys", "/sessions", "/application-tokens"] {
        let text = ask(&gate, "GET", path, "", "").text();
        assert!(!text.contains("s3cret-of"), "{path}: {text}");
    }
}

#[test]
fn the_config_is_shown_with_its_defaults_and_as_it_is_now() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, "  - { path: /api/**, upstream: app }").start();
    let shown = get(&gate, "/config");
    for (place, value) in [
        ("/tokens/access_ttl", json!("15m")),
        ("/tokens/cache/entries", Value::Null),
        ("/limits/header_count", json!(100)),
        ("/drain/grace", json!("30s")),
        ("/throttle/free_failures", json!(10)),
        ("/routes/0/public", json!(false)),
        ("/routes/0/require/scopes", json!([])),
        ("/upstreams/app/connect_timeout", Value::Null),
        ("/upstreams/app/response_timeout", json!("5s")),
        ("/reload/interval", json!("0s")),
        ("/admin/danger_public", json!(false)),
    ] {
        let found = shown.pointer(place);
        match value {
            // There, whatever it is.
            Value::Null => assert!(found.is_some(), "{place}: {shown:#}"),
            value => assert_eq!(found, Some(&value), "{place}: {shown:#}"),
        }
    }
    // What is not there has no section of its own.
    assert_eq!(shown.get("tracing"), None);
    let file = gate.folder().path().join("tollgate.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let changed = config.replace("response_timeout: 5s", "response_timeout: 7s");
    gate.folder().write("tollgate.yaml", changed);
    gate.signal("HUP");
    wait_for("the change", || {
        let shown = get(&gate, "/config");
        (shown["upstreams"]["app"]["response_timeout"] == "7s").then_some(())
    });
    gate.folder().write("tollgate.yaml", "listeners: [");
    gate.signal("HUP");
    wait_for("the refusal", || {
        let status = get(&gate, "/status");
        (status["config"]["is_last_reload_good"] == false).then_some(())
    });
    let shown = get(&gate, "/config");
    assert_eq!(shown["upstreams"]["app"]["response_timeout"], "7s");
}

#[test]
fn what_comes_from_the_environment_is_shown_by_its_name() {
    let upstream = Upstream::start();
    let builder = Builder::standard(upstream.address, "  - { path: /api/**, upstream: app }");
    // Cargo sets it for every test.
    let name = std::env::var("CARGO_PKG_NAME").unwrap();
    let gate = builder
        .edit("issuer: tollgate", "issuer: \"${CARGO_PKG_NAME}\"")
        .start();
    let shown = get(&gate, "/config");
    assert_eq!(shown["tokens"]["issuer"], "${CARGO_PKG_NAME}", "not {name}");
}
