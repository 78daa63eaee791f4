//! datarhei Core's login, as its clients meet it.

use serde_json::{Value, json};

use crate::support::gate::{Builder, Gate};
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let builder = Builder::standard(upstream.address, ROUTES);
    let gate = builder
        .edit("dialect: memphis", "dialect: datarhei")
        .start();
    (upstream, gate)
}

fn log_in(gate: &Gate) -> Value {
    let response = gate.post_json("/api/login", r#"{"username":"root","password":"memphis"}"#);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(response.text().ends_with("}\n"));
    response.json()
}

#[test]
fn a_client_that_looks_before_it_logs_in_sees_what_it_needs() {
    let (upstream, gate) = start();
    let response = gate.request("GET", "/api", "");
    assert_eq!(response.status, 200);
    let about = response.json();
    assert_eq!(about["app"], "datarhei-core");
    assert_eq!(about["auths"], json!(["localjwt"]));
    assert!(
        about["version"]["number"]
            .as_str()
            .unwrap()
            .starts_with("16.")
    );
    assert!(upstream.seen().is_empty());
    // With a token it is the service that tells about itself.
    let pair = log_in(&gate);
    assert_eq!(
        gate.get("/api", pair["access_token"].as_str().unwrap())
            .text(),
        "ok"
    );
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_login_gives_tokens_with_the_claims_that_clients_read() {
    let (_upstream, gate) = start();
    let pair = log_in(&gate);
    assert_eq!(pair.as_object().unwrap().len(), 2);
    for (name, usefor, lifetime) in [
        ("access_token", "access", 600),
        ("refresh_token", "refresh", 86_400),
    ] {
        let claims = claims_of(pair[name].as_str().unwrap());
        assert_eq!(claims["usefor"], usefor);
        assert_eq!(claims["exi"], lifetime);
        assert_eq!(claims["sub"], "root");
        let span = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(span, lifetime);
        assert!(claims["jti"].is_string() && claims["iss"].is_string());
    }
}

#[test]
fn a_refresh_gives_an_access_token_and_the_refresh_token_stays_good() {
    let (_upstream, gate) = start();
    let pair = log_in(&gate);
    let refresh = pair["refresh_token"].as_str().unwrap();
    let mut ids = vec![claims_of(pair["access_token"].as_str().unwrap())["jti"].clone()];
    for _ in 0..3 {
        let response = gate.get("/api/login/refresh", refresh);
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        assert_eq!(answer.as_object().unwrap().len(), 1);
        let access = answer["access_token"].as_str().unwrap();
        assert_eq!(gate.get("/api/v3/process", access).status, 200);
        let id = claims_of(access)["jti"].clone();
        assert!(!ids.contains(&id), "each access token can be revoked alone");
        ids.push(id);
    }
}

#[test]
fn failures_take_the_one_form_of_the_real_service() {
    let (upstream, gate) = start();
    let pair = log_in(&gate);
    let access = pair["access_token"].as_str().unwrap();
    let missing = "Missing authorization credentials";
    let wrong = "Invalid authorization credentials: invalid username or password";
    for (body, status, details) in [
        (r#"{"username":"root","password":"no"}"#, 401, wrong),
        (r#"{"username":"nobody","password":"memphis"}"#, 401, wrong),
        (r#"{"username":"root"}"#, 400, missing),
        (r#"{"username":"","password":"memphis"}"#, 400, missing),
        (r#"{"username":1,"password":"memphis"}"#, 400, missing),
        ("{", 400, missing),
        ("", 400, missing),
    ] {
        let response = gate.post_json("/api/login", body);
        let message = if status == 401 {
            "Unauthorized"
        } else {
            "Bad Request"
        };
        let expected = json!({"code": status, "message": message, "details": [details]});
        assert_eq!(
            (response.status, response.json()),
            (status, expected),
            "{body}"
        );
        assert_eq!(response.header("www-authenticate"), None, "{body}");
    }
    let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 0\r\n";
    assert_eq!(gate.request("POST", "/api/login", form).status, 400);
    for (target, token) in [
        ("/api/login/refresh", access),
        ("/api/login/refresh", "garbage"),
        ("/api/v3/process", pair["refresh_token"].as_str().unwrap()),
    ] {
        let response = gate.get(target, token);
        let details = json!(["Missing or invalid JWT token"]);
        assert_eq!(
            (response.status, &response.json()["details"]),
            (401, &details),
            "{target}"
        );
    }
    assert_eq!(gate.request("GET", "/api/login/refresh", "").status, 401);
    assert_eq!(
        gate.request("GET", "/api/v3/process", "").json()["code"],
        401
    );
    assert!(upstream.seen().is_empty());
}
