//! Application tokens, as EMnify's clients make, list, revoke and log in with them.

use serde_json::{Value, json};

use crate::support::client::{self, Response};
use crate::support::gate::{BINARY, Builder, Gate, sign, users};
use crate::support::reload::reload;
use crate::support::tokens::{claims, claims_of};
use crate::support::unix_now;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const PATH: &str = "/api/v1/application_token";
const ROUTES: &str = "
  - { path: /api/**, upstream: app, require: { scopes: [ admin ] } }
  - { path: /own/**, upstream: app, credential: login, require: { scopes: [ admin ] } }
";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let list = [
        ("root", "memphis", "[ admin, read ]"),
        ("other", "memphis", "[ admin ]"),
    ];
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit("dialect: memphis", "dialect: emnify")
        .file("users.yaml", users(&list))
        .start();
    (upstream, gate)
}

fn authenticate(gate: &Gate, body: &Value) -> Response {
    gate.post_json("/api/v1/authenticate", &body.to_string())
}

fn log_in(gate: &Gate, username: &str) -> String {
    let body = json!({"username": username, "password": "memphis"});
    text(&authenticate(gate, &body).json(), "auth_token")
}

fn text(answer: &Value, name: &str) -> String {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

/// A request with a JSON body and this token.
fn ask(gate: &Gate, method: &str, path: &str, token: &str, body: &Value) -> Response {
    let (body, length) = (body.to_string(), body.to_string().len());
    gate.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

fn create(gate: &Gate, token: &str, body: &Value) -> String {
    let response = ask(gate, "POST", PATH, token, body);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json().as_object().unwrap().len(), 1);
    text(&response.json(), "application_token")
}

fn list(gate: &Gate, token: &str) -> Vec<Value> {
    let response = gate.get(PATH, token);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    response.json().as_array().unwrap().clone()
}

fn log_in_by(gate: &Gate, application: &str) -> Response {
    authenticate(gate, &json!({"application_token": application}))
}

#[test]
fn an_application_token_is_made_and_listed() {
    let (_upstream, gate) = start();
    let token = log_in(&gate, "root");
    let body =
        json!({"description": "nightly job", "expiry_date": "2099-10-29", "ip": "127.0.0.0/8"});
    let application = create(&gate, &token, &body);
    create(&gate, &token, &json!({}));
    let listed = list(&gate, &token);
    let first = &listed[0];
    assert_eq!(first["id"], 1);
    assert_eq!(first["description"], "nightly job");
    assert_eq!(
        first["status"],
        json!({"id": 0, "description": "Activated"})
    );
    assert_eq!(first["expiry_date"], "2099-10-30T00:00:00.000+0000");
    assert_eq!(first["ip"], "127.0.0.0/8");
    assert_eq!(first["creator"]["username"], "root");
    let created = first["created"].as_str().unwrap();
    assert!(
        created.len() == 28 && created.ends_with(".000+0000"),
        "{created}"
    );
    assert_eq!(listed[1]["expiry_date"], Value::Null);
    let shown = Value::from(listed).to_string();
    assert!(!shown.contains(&application), "the token is told only once");
}

#[test]
fn it_buys_access_tokens_and_no_refresh_token() {
    let (_upstream, gate) = start();
    let token = log_in(&gate, "root");
    let application = create(&gate, &token, &json!({}));
    let response = log_in_by(&gate, &application);
    assert_eq!(response.status, 200);
    let answer = response.json();
    assert_eq!(
        answer.as_object().unwrap().len(),
        1,
        "no refresh token: {answer}"
    );
    let access = text(&answer, "auth_token");
    let inside = claims_of(&access);
    assert_eq!(
        (&inside["sub"], &inside["scope"]),
        (&json!("root"), &json!("admin read"))
    );
    assert_eq!(
        inside["exp"].as_u64().unwrap() - inside["iat"].as_u64().unwrap(),
        240 * 60
    );
    for _ in 0..2 {
        assert_eq!(gate.get("/api/v1/sim", &access).status, 200);
    }
}

#[test]
fn a_revoked_one_ends_with_all_that_it_bought_and_nothing_else() {
    let (upstream, gate) = start();
    let token = log_in(&gate, "root");
    let application = create(&gate, &token, &json!({}));
    let plain = create(&gate, &token, &json!({}));
    let access = text(&log_in_by(&gate, &application).json(), "auth_token");
    assert_eq!(gate.get("/api/v1/sim", &access).status, 200);
    let other = text(&log_in_by(&gate, &plain).json(), "auth_token");
    let path = format!("{PATH}/1");
    let response = ask(
        &gate,
        "PATCH",
        &path,
        &token,
        &json!({"description": "old", "status": {"id": 1}}),
    );
    assert_eq!((response.status, response.body.len()), (204, 0));
    let seen = upstream.seen().len();
    assert_eq!(
        gate.get("/api/v1/sim", &access).status,
        401,
        "although it was cached"
    );
    assert_eq!(log_in_by(&gate, &application).status, 401);
    assert_eq!(upstream.seen().len(), seen);
    assert_eq!(
        gate.get("/api/v1/sim", &other).status,
        200,
        "another one goes on"
    );
    assert_eq!(
        gate.get("/api/v1/sim", &token).status,
        200,
        "and so does its creator"
    );
    let listed = list(&gate, &token);
    assert_eq!(listed[0]["status"]["id"], 1);
    assert_eq!(listed[0]["description"], "old");
    let line = gate.wait_for_log("the end", |line| {
        line["message"] == "an application token was revoked"
    });
    assert_eq!((&line["subject"], &line["id"]), (&json!("root"), &json!(1)));
    let log = gate.log();
    assert!(!log.contains(&application) && !log.contains(&access));
}

#[test]
fn who_has_no_good_token_of_its_own_manages_nothing() {
    let (upstream, gate) = start();
    let end = json!({"status": {"id": 1}});
    for token in ["", "x", "None"] {
        for (method, path) in [
            ("GET", PATH),
            ("POST", PATH),
            ("PATCH", "/api/v1/application_token/1"),
        ] {
            let response = ask(&gate, method, path, token, &end);
            assert_eq!(response.status, 401, "{method} {token}");
            assert!(response.json()["message"].is_string(), "{method} {token}");
        }
    }
    let response = gate.request("GET", PATH, "");
    let message = "token contains an invalid number of segments";
    assert_eq!(
        (response.status, response.json()),
        (401, json!({"message": message}))
    );
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_stranger_a_leaked_application_token_and_a_minted_one_manage_nothing() {
    let (upstream, gate) = start();
    let (token, stranger) = (log_in(&gate, "root"), log_in(&gate, "other"));
    let application = create(&gate, &token, &json!({}));
    let derived = text(&log_in_by(&gate, &application).json(), "auth_token");
    let end = json!({"status": {"id": 1}});
    // A leaked application token makes no successor; a token without a login has no account.
    for token in [&derived, &sign(&claims())] {
        for (method, path) in [
            ("GET", PATH),
            ("POST", PATH),
            ("PATCH", "/api/v1/application_token/1"),
        ] {
            assert_eq!(
                ask(&gate, method, path, token, &end).status,
                403,
                "{method}"
            );
        }
    }
    assert!(list(&gate, &stranger).is_empty());
    for path in [
        "/api/v1/application_token/1",
        "/api/v1/application_token/7",
        "/api/v1/application_token/x",
    ] {
        let response = ask(&gate, "PATCH", path, &stranger, &end);
        assert_eq!(
            (response.status, &response.json()["error_token"]),
            (404, &json!("NotFound")),
            "{path}"
        );
    }
    assert_eq!(
        log_in_by(&gate, &application).status,
        200,
        "nobody has ended it"
    );
    for path in [PATH, "/api/v1/application_token/1"] {
        assert_eq!(ask(&gate, "DELETE", path, &token, &end).status, 405);
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn what_cannot_be_made_or_changed_is_told() {
    let (_upstream, gate) = start();
    let token = log_in(&gate, "root");
    let long = "x".repeat(1001);
    for body in [
        json!({"expiry_date": "2020-01-01"}),
        json!({"expiry_date": "tomorrow"}),
        json!({"expiry_date": "2099-13-01"}),
        json!({"ip": "10.0.0.0/33"}),
        json!({"ip": "somewhere"}),
        json!({"description": long}),
    ] {
        let response = ask(&gate, "POST", PATH, &token, &body);
        let answer = response.json();
        assert_eq!(
            (response.status, &answer["error_token"]),
            (422, &json!("UnprocessableEntity")),
            "{body}"
        );
        assert!(
            answer["error_code"].is_i64() && answer["message"].is_string(),
            "{body}"
        );
    }
    for body in [
        json!([]),
        json!("x"),
        json!({"description": 1}),
        json!({"expiry_date": 4_000_000_000_u64}),
    ] {
        assert_eq!(
            ask(&gate, "POST", PATH, &token, &body).status,
            400,
            "{body}"
        );
    }
    assert!(list(&gate, &token).is_empty());
    create(&gate, &token, &json!({"description": "a"}));
    for (body, status) in [
        (json!({"status": {"id": 0}}), 422),
        (json!({"status": {"id": 2}}), 422),
        (json!({"status": 1}), 422),
        (json!({"description": "b"}), 204),
        (json!({}), 204),
    ] {
        assert_eq!(
            ask(&gate, "PATCH", &format!("{PATH}/1"), &token, &body).status,
            status,
            "{body}"
        );
    }
    let listed = list(&gate, &token);
    assert_eq!(
        (&listed[0]["description"], &listed[0]["status"]["id"]),
        (&json!("b"), &json!(0))
    );
    for date in [
        "2099-10-29T10:00:00Z",
        "2099-10-29T12:00:00.000+0200",
        "2099-10-29 12:00:00+02:00",
        "2099-10-29T10:00:00",
    ] {
        create(&gate, &token, &json!({"expiry_date": date}));
        let listed = list(&gate, &token);
        assert_eq!(
            listed.last().unwrap()["expiry_date"],
            "2099-10-29T10:00:00.000+0000",
            "{date}"
        );
    }
}

#[test]
fn an_application_token_is_good_for_its_time_and_place_alone() {
    let (_upstream, gate) = start();
    let token = log_in(&gate, "root");
    let elsewhere = create(&gate, &token, &json!({"ip": "10.0.0.0/8"}));
    assert_eq!(log_in_by(&gate, &elsewhere).status, 401);
    let here = create(&gate, &token, &json!({"ip": "127.0.0.1"}));
    assert_eq!(log_in_by(&gate, &here).status, 200);
    let end = unix_now() + 2;
    let date = time::OffsetDateTime::from_unix_timestamp(i64::try_from(end).unwrap()).unwrap();
    let date = date
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let brief = create(&gate, &token, &json!({"expiry_date": date}));
    wait_for("its end", || {
        (log_in_by(&gate, &brief).status == 401).then_some(())
    });
    assert!(unix_now() >= end);
    for token in [
        "",
        "x",
        &*format!("{here}x"),
        &*here.to_lowercase(),
        &*"x".repeat(3000),
    ] {
        let status = log_in_by(&gate, token).status;
        assert_eq!(status, if token.is_empty() { 400 } else { 401 }, "{token}");
    }
}

#[test]
fn an_application_token_has_its_creators_rights_of_now_and_never_more_than_it_was_given() {
    let (_upstream, gate) = start();
    let token = log_in(&gate, "root");
    let application = create(&gate, &token, &json!({}));
    let scope = |gate: &Gate| {
        let answer = log_in_by(gate, &application).json();
        claims_of(&text(&answer, "auth_token"))["scope"].clone()
    };
    gate.folder().write(
        "users.yaml",
        users(&[("root", "changed", "[ read, more ]")]),
    );
    reload(&gate);
    assert_eq!(
        scope(&gate),
        "read",
        "the password may change, its scopes do not grow"
    );
    gate.folder()
        .write("users.yaml", users(&[("other", "memphis", "[ admin ]")]));
    reload(&gate);
    assert_eq!(
        log_in_by(&gate, &application).status,
        401,
        "its creator is gone"
    );
}

#[test]
fn the_creators_own_credential_travels_with_it_where_the_upstream_wants_it() {
    let (upstream, gate) = start();
    let token = log_in(&gate, "root");
    let application = create(&gate, &token, &json!({}));
    let access = text(&log_in_by(&gate, &application).json(), "auth_token");
    assert_eq!(gate.get("/own/x", &access).status, 200);
    assert_eq!(
        upstream.last().header("authorization"),
        Some("Basic cm9vdDptZW1waGlz")
    );
}

#[test]
fn an_operator_takes_it_back_by_its_number_or_with_all_of_its_creators() {
    let (_upstream, gate) = start();
    let token = log_in(&gate, "root");
    let (first, second) = (
        create(&gate, &token, &json!({})),
        create(&gate, &token, &json!({})),
    );
    let access = text(&log_in_by(&gate, &first).json(), "auth_token");
    assert_eq!(gate.get("/api/v1/sim", &access).status, 200);
    let revoke = |arguments: &[&str]| {
        let output = std::process::Command::new(BINARY)
            .args(["token", "revoke", "--admin", &gate.admin.to_string()])
            .args(arguments)
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(revoke(&["--application-token", "9"]), Some(1));
    assert_eq!(revoke(&["--application-token", "1"]), Some(0));
    assert_eq!(gate.get("/api/v1/sim", &access).status, 401);
    assert_eq!(
        (
            log_in_by(&gate, &first).status,
            log_in_by(&gate, &second).status
        ),
        (401, 200)
    );
    assert_eq!(revoke(&["--subject", "root"]), Some(0));
    assert_eq!(log_in_by(&gate, &second).status, 401);
    let body = "{\"application_token\":\"1\"}";
    let response = client::send(
        gate.admin,
        format!(
            "POST /revoke HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ),
    );
    assert_eq!(response.status, 400);
}
