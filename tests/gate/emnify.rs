//! EMnify's login, as its clients meet it.

use serde_json::{Value, json};

use crate::support::gate::{Builder, Gate, hash_password, run};
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;

const PATH: &str = "/api/v1/authenticate";
const ROUTES: &str = "
  - { path: /api/**, upstream: app }
  - { path: /own/**, upstream: app, credential: login }
";

fn sha1_hash(password: &str) -> String {
    let output = run(&["hash-password", "--form", "sha1"], password);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn sha1_of(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    );
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let (plain, sha1) = (hash_password("memphis", "argon2id"), sha1_hash("memphis"));
    let users = format!(
        "users:\n  - {{ name: root, email: root@example.com, password_hash: \"{plain}\", \
         sha1_hash: \"{sha1}\" }}\n  - {{ name: plain, password_hash: \"{plain}\" }}\n"
    );
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit("dialect: memphis", "dialect: emnify")
        .file("users.yaml", users)
        .start();
    (upstream, gate)
}

fn log_in(gate: &Gate, username: &str, password: &str) -> (u16, Value) {
    let body = json!({"username": username, "password": password}).to_string();
    // One SDK sends this with its login.
    let length = body.len();
    let response = gate.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer None\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    let answer = if response.body.is_empty() {
        Value::Null
    } else {
        response.json()
    };
    (response.status, answer)
}

#[test]
fn a_password_passes_as_its_sha1_or_as_it_is() {
    let (_upstream, gate) = start();
    let sha1 = sha1_of("memphis");
    for (username, password, status) in [
        ("root", sha1.as_str(), 200),
        ("root", &sha1.to_uppercase(), 200),
        ("root@example.com", &sha1, 200),
        ("root", "memphis", 200),
        ("plain", "memphis", 200),
        ("plain", &sha1, 401),
        ("root", &sha1_of("other"), 401),
        ("root", "other", 401),
        ("nobody", &sha1, 401),
    ] {
        let (got, answer) = log_in(&gate, username, password);
        assert_eq!(got, status, "{username} {password}: {answer}");
        assert_eq!(
            answer.is_null(),
            status == 401,
            "a refused login has an empty body"
        );
    }
}

#[test]
fn no_upstream_is_asked_with_the_sha1_of_a_password() {
    let (upstream, gate) = start();
    let own = |password: &str| {
        let (status, answer) = log_in(&gate, "root", password);
        assert_eq!(status, 200);
        gate.get("/own/x", answer["auth_token"].as_str().unwrap())
            .status
    };
    assert_eq!(own(&sha1_of("memphis")), 403);
    assert!(upstream.seen().is_empty());
    assert_eq!(own("memphis"), 200);
    let seen = upstream.last();
    assert_eq!(seen.header("authorization"), Some("Basic cm9vdDptZW1waGlz"));
}

#[test]
fn a_login_gives_a_pair_and_a_refresh_at_the_same_path_another() {
    let (_upstream, gate) = start();
    let (_, pair) = log_in(&gate, "root", "memphis");
    assert_eq!(pair.as_object().unwrap().len(), 2);
    let claims = claims_of(pair["auth_token"].as_str().unwrap());
    let span = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(span, 240 * 60);
    let body = json!({"refresh_token": pair["refresh_token"]}).to_string();
    let response = gate.post_json(PATH, &body);
    assert_eq!(response.status, 200);
    assert_eq!(
        response.header("content-type"),
        Some("application/json; charset=UTF-8")
    );
    let next = response.json();
    assert_eq!(
        gate.get("/api/v1/sim", next["auth_token"].as_str().unwrap())
            .status,
        200
    );
    let body = json!({"refresh_token": pair["auth_token"]}).to_string();
    assert_eq!(gate.post_json(PATH, &body).status, 401);
}

#[test]
fn failures_are_such_as_its_sdks_survive() {
    let (upstream, gate) = start();
    for body in [
        "{",
        "{}",
        "[]",
        r#"{"username":"root"}"#,
        r#"{"username":1,"password":"x"}"#,
    ] {
        let response = gate.post_json(PATH, body);
        assert_eq!(response.status, 400, "{body}");
        let answer = response.json();
        assert_eq!(
            (&answer["error_code"], &answer["error_token"]),
            (&json!(1000), &json!("BadRequest"))
        );
        assert!(answer["message"].is_string(), "{body}");
    }
    let refused = gate.request("GET", "/api/v1/sim", "");
    let text = "token contains an invalid number of segments";
    assert_eq!(
        (refused.status, refused.json()),
        (401, json!({"message": text}))
    );
    assert!(upstream.seen().is_empty());
}
