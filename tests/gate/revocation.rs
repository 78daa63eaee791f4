//! Taking tokens back: from the very next request on, cached or not.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::client;
use crate::support::gate::{BINARY, Builder, Gate, users};
use crate::support::tokens::{claims, claims_of, sign};
use crate::support::upstream::Upstream;
use crate::support::{unix_now, wait_for};

const ROUTES: &str = "  - { path: /api/**, upstream: app }";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let users = users(&[("root", "memphis", "[ admin ]"), ("eve", "memphis", "[]")]);
    let gate = Builder::standard(upstream.address, ROUTES)
        .file("users.yaml", users)
        .start();
    (upstream, gate)
}

fn revoke(gate: &Gate, arguments: &[&str]) -> Output {
    let admin = gate.admin.to_string();
    let mut command = Command::new(BINARY);
    command
        .args(["token", "revoke", "--admin", &admin])
        .args(arguments);
    command.output().unwrap()
}

fn status(gate: &Gate, pair: &Value) -> u16 {
    gate.get("/api/x", pair["jwt"].as_str().unwrap()).status
}

#[test]
fn a_revoked_subject_is_refused_at_once_and_may_log_in_again() {
    let (_upstream, gate) = start();
    let pair = gate.login("root", "memphis");
    let other = gate.login("eve", "memphis");
    for _ in 0..8 {
        assert_eq!(status(&gate, &pair), 200);
    }
    let output = revoke(&gate, &["--subject", "root"]);
    assert!(output.status.success(), "{output:?}");
    for _ in 0..8 {
        let response = gate.get("/api/x", pair["jwt"].as_str().unwrap());
        assert_eq!(response.status, 401);
        let challenge = response.header("www-authenticate").unwrap().to_owned();
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
    let body = format!("{{\"jwt_refresh_token\":{}}}", pair["jwt_refresh_token"]);
    assert_eq!(gate.post_json("/auth/refreshToken", &body).status, 401);
    assert_eq!(status(&gate, &other), 200);
    let again = gate.login("root", "memphis");
    assert_eq!(
        status(&gate, &again),
        200,
        "a login right after the revocation works"
    );
    assert_eq!(status(&gate, &pair), 401);
}

#[test]
fn of_two_revocations_in_one_second_the_second_reaches_the_login_between() {
    let (_upstream, gate) = start();
    let take_back = |what: &str| {
        let length = what.len();
        let answer = client::send(
            gate.admin,
            format!(
                "POST /revoke HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{what}"
            ),
        );
        assert_eq!(answer.status, 200);
    };
    let (subject, all) = (r#"{"subject":"root"}"#, r#"{"everything":true}"#);
    for (first, second) in [
        (subject, subject),
        (all, all),
        (subject, all),
        (all, subject),
    ] {
        // Until all of it falls into one second.
        wait_for("a login within the second of a revocation", || {
            take_back(first);
            let pair = gate.login("root", "memphis");
            assert_eq!(status(&gate, &pair), 200, "a login right after works");
            take_back(second);
            let now = unix_now();
            assert_eq!(status(&gate, &pair), 401, "{first} {second}");
            let issued = claims_of(pair["jwt"].as_str().unwrap())["iat"].as_u64();
            (issued > Some(now)).then_some(())
        });
    }
    let again = gate.login("root", "memphis");
    assert_eq!(status(&gate, &again), 200);
}

#[test]
fn a_family_or_a_single_token_can_be_revoked() {
    let (_upstream, gate) = start();
    let [first, second, third] = [(); 3].map(|()| gate.login("root", "memphis"));
    let claim = |pair: &Value, name: &str| {
        claims_of(pair["jwt"].as_str().unwrap())[name]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(status(&gate, &first), 200);
    assert!(
        revoke(&gate, &["--family", &claim(&first, "fam")])
            .status
            .success()
    );
    assert!(
        revoke(&gate, &["--token-id", &claim(&second, "jti")])
            .status
            .success()
    );
    assert_eq!(status(&gate, &first), 401);
    assert_eq!(status(&gate, &second), 401);
    assert_eq!(status(&gate, &third), 200);
    let body = format!("{{\"jwt_refresh_token\":{}}}", second["jwt_refresh_token"]);
    let refreshed = gate.post_json("/auth/refreshToken", &body);
    assert_eq!(refreshed.status, 200, "one access token is not its login");
}

#[test]
fn an_id_that_begins_with_a_hyphen_is_an_id() {
    let (_upstream, gate) = start();
    for option in ["--family", "--token-id", "--subject"] {
        let output = revoke(&gate, &[option, "-x"]);
        assert!(output.status.success(), "{option}: {output:?}");
    }
}

#[test]
fn revoking_says_what_is_wrong_with_the_call() {
    let (_upstream, gate) = start();
    let output = revoke(&gate, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--subject")
    );
    let output = revoke(&gate, &["--subject", "a", "--family", "b"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_web_page_cannot_revoke() {
    let (_upstream, gate) = start();
    let pair = gate.login("root", "memphis");
    let body = r#"{"subject":"root"}"#;
    for (host, kind, expected) in [
        ("127.0.0.1:9901", "text/plain", 415),
        ("rebound.example", "application/json", 403),
        ("127.0.0.1.example:80", "application/json", 403),
    ] {
        let length = body.len();
        let response = client::send(
            gate.admin,
            format!(
                "POST /revoke HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\n\
                 content-length: {length}\r\n\r\n{body}"
            ),
        );
        assert_eq!(response.status, expected, "{host} {kind}");
    }
    assert_eq!(status(&gate, &pair), 200);
}

#[test]
fn a_log_out_by_rfc_7009_ends_a_login_of_any_dialect() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(
            "{ dialect: memphis }",
            "{ dialect: memphis }, { dialect: oauth2 }",
        )
        .start();
    let (pair, other) = (gate.login("root", "memphis"), gate.login("root", "memphis"));
    assert_eq!((status(&gate, &pair), status(&gate, &other)), (200, 200));
    let form = format!("token={}", pair["jwt_refresh_token"].as_str().unwrap());
    let response = gate.send(format!(
        "POST /oauth2/revoke HTTP/1.1\r\nhost: gate.example\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    ));
    assert_eq!(response.status, 200);
    assert_eq!((status(&gate, &pair), status(&gate, &other)), (401, 200));
    let body = format!("{{\"jwt_refresh_token\":{}}}", pair["jwt_refresh_token"]);
    assert_eq!(gate.post_json("/auth/refreshToken", &body).status, 401);
}

#[test]
fn everything_is_taken_back_at_once_and_everybody_may_log_in_again() {
    let (_upstream, gate) = start();
    let pairs = [gate.login("root", "memphis"), gate.login("eve", "memphis")];
    let minted = sign(&without_iat());
    assert_eq!(gate.get("/api/x", &minted).status, 200);
    assert!(pairs.iter().all(|pair| status(&gate, pair) == 200));
    assert!(revoke(&gate, &["--everything"]).status.success());
    for pair in &pairs {
        assert_eq!(status(&gate, pair), 401);
        let body = format!("{{\"jwt_refresh_token\":{}}}", pair["jwt_refresh_token"]);
        assert_eq!(gate.post_json("/auth/refreshToken", &body).status, 401);
    }
    assert_eq!(
        gate.get("/api/x", &minted).status,
        401,
        "when it was issued is not known"
    );
    assert_eq!(status(&gate, &gate.login("root", "memphis")), 200);
}

fn without_iat() -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove("iat");
    claims
}
