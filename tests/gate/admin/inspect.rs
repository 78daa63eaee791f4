//! Does the inspector say what the gate does, and keep the token to itself?

use serde_json::{Value, json};

use super::{get, post};
use crate::support::client::send;
use crate::support::gate::{Builder, Gate, run, sign_as};
use crate::support::issuer::{Issuer, IssuerKey};
use crate::support::tokens::{claims, encode, with_claim, with_claims, with_header, without_claim};
use crate::support::unix_now;
use crate::support::upstream::Upstream;

const ROUTES: &str = r#"
  - { path: /api/**, upstream: app }
  - { path: /open/**, upstream: app, public: true }
  - { path: /write/**, methods: [ PUT ], upstream: app, require: { scopes: [ write, admin ] } }
  - { path: /staff/**, upstream: app, require: { groups: [ ops, devices ], claims: { tenant: { prefix: ac } } } }
  - { path: "/own/{sub}/**", upstream: app }
  - { path: /sealed/**, upstream: app, credential: login }
  - { path: /other/**, host: other.example, upstream: app }
"#;

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

fn staff(tenant: &str) -> String {
    with_claims(|claims| {
        claims["groups"] = json!(["devices"]);
        claims["tenant"] = tenant.into();
    })
}

/// Method, path, token, and what is expected: a reason, or `passes`, or `answered`.
fn cases(gate: &Gate) -> Vec<(&'static str, &'static str, String, &'static str)> {
    let good = || with_claim("groups", json!([]));
    let now = unix_now();
    let alien = with_header(r#"{"alg":"HS256","kid":"k9","typ":"at+jwt"}"#);
    let mut forged = good();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    let revoked = gate.token("root", "memphis");
    let family = crate::support::tokens::claims_of(&revoked)["fam"].clone();
    assert_eq!(
        post(gate, "/revoke", &json!({"family": family})).status,
        200
    );
    vec![
        ("GET", "/api/x?a=b", good(), "passes"),
        ("GET", "/open/x", String::new(), "passes"),
        ("GET", "/api/x", String::new(), "missing_credential"),
        (
            "GET",
            "/api/x",
            "no-token-at-all".to_owned(),
            "malformed_token",
        ),
        (
            "GET",
            "/api/x",
            with_claim("exp", json!(now - 10)),
            "expired",
        ),
        (
            "GET",
            "/api/x",
            with_claim("nbf", json!(now + 500)),
            "not_yet_valid",
        ),
        (
            "GET",
            "/api/x",
            with_claim("iss", json!("other")),
            "wrong_issuer",
        ),
        (
            "GET",
            "/api/x",
            with_claim("aud", json!("other")),
            "wrong_audience",
        ),
        ("GET", "/api/x", without_claim("exp"), "malformed_token"),
        ("GET", "/api/x", sign_as("rt+jwt", &claims()), "wrong_type"),
        ("GET", "/api/x", alien, "unknown_key"),
        ("GET", "/api/x", forged, "invalid_signature"),
        (
            "GET",
            "/api/x",
            with_header(r#"{"alg":"HS512","kid":"k1","typ":"at+jwt"}"#),
            "wrong_algorithm",
        ),
        ("GET", "/api/x", revoked, "revoked"),
        (
            "PUT",
            "/write/x",
            with_claim("scope", json!("write admin")),
            "passes",
        ),
        ("PUT", "/write/x", good(), "insufficient_scope"),
        ("GET", "/write/x", good(), "method_not_allowed"),
        ("GET", "/staff/x", staff("acme"), "passes"),
        ("GET", "/staff/x", staff("other"), "wrong_claim"),
        ("GET", "/staff/x", good(), "wrong_group"),
        ("GET", "/own/root/x", good(), "passes"),
        ("GET", "/own/eve/x", good(), "not_own_path"),
        ("GET", "/sealed/x", good(), "no_upstream_credential"),
        ("GET", "/other/x", good(), "route_not_found"),
        ("GET", "/nowhere", good(), "route_not_found"),
        ("GET", "/api/a%2Fb", good(), "ambiguous_path"),
        ("GET", "/api/../x", good(), "ambiguous_path"),
        ("POST", "/auth/authenticate", String::new(), "answered"),
    ]
}

#[test]
fn the_inspector_says_what_the_gate_does() {
    let (_upstream, gate) = start();
    for (method, path, token, expected) in cases(&gate) {
        let question =
            json!({"method": method, "host": "gate.example", "path": path, "token": token});
        let told = post(&gate, "/inspect", &question).json();
        let verdict = match told["verdict"].as_str().unwrap() {
            "refused" => told["reason"].as_str().unwrap(),
            verdict => verdict,
        };
        assert_eq!(verdict, expected, "{method} {path}: {told}");
        let header = match token.as_str() {
            "" => String::new(),
            token => format!("authorization: Bearer {token}\r\n"),
        };
        let answer = gate.request(method, path, &header);
        match expected {
            "passes" => assert_eq!(answer.status, 200, "{path}"),
            // An empty login is answered, and refused.
            "answered" => assert_eq!(told["endpoint"], "Login of the dialect memphis"),
            reason => {
                assert_eq!(told["status"], answer.status, "{method} {path}");
                gate.wait_for_log(reason, |line| line["reason"] == reason);
            }
        }
    }
}

fn ask(gate: &Gate, path: &str, token: &str) -> Value {
    let question = json!({"method": "PUT", "host": "gate.example", "path": path, "token": token});
    post(gate, "/inspect", &question).json()
}

#[test]
fn it_tells_what_was_wanted_what_is_there_and_what_the_token_says() {
    let (_upstream, gate) = start();
    let token = with_claims(|claims| {
        claims["sealed"] = "what-is-sealed-for-the-gate".into();
        claims["tenant"] = "acme".into();
    });
    let told = ask(&gate, "/write/x", &token);
    assert_eq!(told["route"]["name"], "PUT /write/**");
    assert_eq!(told["route"]["upstream"], "app");
    assert_eq!(told["route"]["wants"]["scopes"], json!(["write", "admin"]));
    assert_eq!(told["credential"], "header");
    let held = &told["token"];
    assert_eq!(
        (&held["is_good"], &held["scopes"]),
        (&json!(true), &json!(["admin"]))
    );
    assert_eq!(
        (&held["key_id"], &held["is_key_known"]),
        (&json!("k1"), &json!(true))
    );
    let left = held["expires_in"].as_i64().unwrap();
    assert!((500..=600).contains(&left), "{left}");
    assert_eq!(held["header"]["alg"], "HS256");
    assert_eq!(held["claims"]["tenant"], "acme");
    assert_eq!(held["claims"]["sealed"], "(sealed)");
    let text = told.to_string();
    let signature = token.rsplit('.').next().unwrap();
    assert!(
        !text.contains(signature) && !text.contains("what-is-sealed"),
        "{text}"
    );
}

#[test]
fn it_tells_the_claims_that_a_route_wants() {
    let (_upstream, gate) = start();
    let staff = ask(&gate, "/staff/x", &staff("acme"));
    let wants = &staff["route"]["wants"];
    assert_eq!(wants["groups"], json!(["ops", "devices"]));
    assert_eq!(
        wants["others"],
        json!(["the claim tenant beginning with ac"])
    );
}

#[test]
fn of_a_token_that_is_not_good_it_tells_what_stands_there() {
    let (_upstream, gate) = start();
    let expired = with_claim("exp", json!(unix_now() - 100));
    let held = &ask(&gate, "/api/x", &expired)["token"];
    assert_eq!(
        (&held["is_good"], &held["reason"]),
        (&json!(false), &json!("expired"))
    );
    assert!((-110..=-100).contains(&held["expires_in"].as_i64().unwrap()));
    let alien = with_header(r#"{"alg":"HS256","kid":"k9","typ":"at+jwt"}"#);
    let held = &ask(&gate, "/api/x", &alien)["token"];
    assert_eq!(
        (&held["key_id"], &held["is_key_known"]),
        (&json!("k9"), &json!(false))
    );
    let broken = ask(&gate, "/api/x", "a.b");
    assert_eq!(
        (&broken["token"]["claims"], &broken["token"]["header"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_question_may_name_another_listener_than_the_first() {
    let upstream = Upstream::start();
    let listeners = r#"listeners:
  - { address: "127.0.0.1:0", name: clients }
  - { address: "127.0.0.1:0", name: asked, trusted_proxies: [ 127.0.0.1 ], forward_auth: { proxy: nginx } }"#;
    let gate = Builder::standard(upstream.address, ROUTES)
        .line("listeners:", listeners)
        .start();
    for (listener, expected) in [
        (json!(null), "answered"),
        (json!("clients"), "answered"),
        // Where another proxy asks there are no logins.
        (json!("asked"), "refused"),
    ] {
        let question =
            json!({"method": "POST", "path": "/auth/authenticate", "listener": listener});
        let told = post(&gate, "/inspect", &question).json();
        assert_eq!(told["verdict"], expected, "{listener}: {told}");
    }
    // Nor is a token good where that proxy would forward it.
    let target = format!("/api/x?access_token={}", with_claim("groups", json!([])));
    let asked = format!(
        "GET /verify HTTP/1.1\r\nhost: gate.example\r\nx-forwarded-method: GET\r\n\
         x-forwarded-uri: {target}\r\nx-forwarded-host: gate.example\r\n\r\n"
    );
    assert_eq!(send(gate.listeners[1], asked).status, 401);
    for (listener, expected) in [
        ("clients", json!(null)),
        ("asked", json!("uncut_credential")),
    ] {
        let question = json!({"path": target, "listener": listener});
        let told = post(&gate, "/inspect", &question).json();
        assert_eq!(told["reason"], expected, "{listener}: {told}");
        let url = format!("https://gate.example{target}");
        let config = gate.folder().path().join("tollgate.yaml");
        let config = config.to_str().unwrap();
        let explained = run(
            &[
                "explain",
                "--config",
                config,
                "--listener",
                listener,
                "GET",
                &url,
            ],
            "",
        );
        let said = String::from_utf8(explained.stderr).unwrap();
        assert_eq!(explained.status.success(), expected.is_null(), "{said}");
        assert_eq!(said.contains("uncut_credential"), !expected.is_null());
    }
}

#[test]
fn an_external_token_is_judged_by_its_issuers_keys() {
    let upstream = Upstream::start();
    let (key, next) = (IssuerKey::new("e1", "ES256"), IssuerKey::new("e2", "ES256"));
    let issuer = Issuer::with(&[&key]);
    let routes = "  - { path: /api/**, upstream: app }";
    let more = ", keys: { unknown_key_interval: 100ms }";
    let gate = issuer.gate(&upstream, routes, more).start();
    let told = ask(&gate, "/api/x", &key.sign(&issuer.claims()));
    assert_eq!(told["verdict"], "passes", "{told}");
    let held = &told["token"];
    assert_eq!(
        (&held["issuer"], &held["is_key_known"]),
        (&json!(issuer.url), &json!(true))
    );
    // A key that came after the last look is fetched, as for a request.
    issuer.publish(&[&key, &next]);
    let token = next.sign(&issuer.claims());
    crate::support::wait_for("the new key", || {
        let told = ask(&gate, "/api/x", &token);
        (told["verdict"] == "passes").then(|| assert_eq!(told["token"]["key_id"], "e2"))
    });
    let stranger = IssuerKey::new("e9", "ES256");
    let told = ask(&gate, "/api/x", &stranger.sign(&issuer.claims()));
    assert_eq!(
        (&told["reason"], &told["token"]["is_key_known"]),
        (&json!("unknown_key"), &json!(false))
    );
}

#[test]
fn a_token_that_is_inspected_is_kept_nowhere() {
    let (_upstream, gate) = start();
    let marked = with_claim("sub", json!("marked-subject-of-a-token"));
    let before = gate.metrics();
    let told = ask(&gate, "/api/x", &marked);
    assert_eq!(told["verdict"], "passes");
    ask(&gate, "/api/x", &format!("{}x", &marked));
    let status = get(&gate, "/status");
    assert_eq!(
        status["totals"]["cache_entries"], 0.0,
        "it is not in the cache"
    );
    let counted = |metrics: &str| {
        let lines = metrics.lines().filter(|line| {
            line.starts_with("tollgate_authentication_total")
                || line.starts_with("tollgate_requests_total")
        });
        lines.count()
    };
    let metrics = gate.metrics();
    assert_eq!(counted(&before), counted(&metrics), "it is not counted");
    let state = std::fs::read(gate.folder().path().join("state.redb")).unwrap();
    for (place, text) in [
        ("the log", gate.log()),
        ("the metrics", metrics),
        ("the status", status.to_string()),
        ("the state", String::from_utf8_lossy(&state).into_owned()),
    ] {
        let mut parts = marked.split('.').skip(1);
        assert!(!parts.any(|part| text.contains(part)), "{place}");
        assert!(!text.contains("marked-subject"), "{place}");
    }
}

#[test]
fn a_question_that_makes_no_sense_is_refused_without_repeating_it() {
    let (_upstream, gate) = start();
    let long = "x".repeat(40 * 1024);
    for question in [
        json!({}),
        json!([]),
        json!({"path": "/", "secret": "kept-to-oneself"}),
        json!({"path": "no-slash kept-to-oneself"}),
        json!({"path": "/", "method": "G T"}),
        json!({"path": "/", "host": "a\nb"}),
        json!({"path": "/", "token": "kept-to-oneself\n"}),
        json!({"path": "/", "token": "kept-to\u{0}oneself"}),
        json!({"path": "/", "listener": "kept-to-oneself"}),
        json!({"path": "/", "token": long}),
    ] {
        let response = post(&gate, "/inspect", &question);
        let text = response.text();
        let is_told = question["token"] == "kept-to-oneself\n";
        assert_eq!(
            response.status,
            if is_told { 200 } else { 400 },
            "{question}"
        );
        assert!(!text.contains("kept-to"), "{text}");
    }
    let token = format!("{}.{}.{}", encode("[1]"), encode("\"x\""), encode("s"));
    let told = ask(&gate, "/api/x", &token);
    assert_eq!(told["reason"], "malformed_token");
    // As long as a token may be, and longer.
    let told = ask(&gate, "/api/x", &"x".repeat(20_000));
    assert_eq!(told["reason"], "malformed_token");
}
