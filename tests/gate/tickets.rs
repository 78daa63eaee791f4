//! Tickets, for clients that can use nothing but a URL; and bare tokens.

use serde_json::json;

use crate::support::gate::{Builder, Gate, claims, sign, sign_as};
use crate::support::tokens::with_claim;
use crate::support::unix_now;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - { path: /api/**, upstream: app }
  - { path: /cas/**, upstream: app, token: { ticket: false } }
";

fn start(ttl: &str) -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let login = format!("login: [ {{ dialect: memphis }}, {{ dialect: ticket{ttl} }} ]");
    let gate = Builder::standard(upstream.address, ROUTES)
        .line("login:", &login)
        .start();
    (upstream, gate)
}

fn ticket(gate: &Gate, token: &str) -> String {
    let headers = format!("authorization: Bearer {token}\r\ncontent-length: 0\r\n");
    let response = gate.request("POST", "/ticket", &headers);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let answer = response.json();
    assert_eq!(answer["expires_in"], 30);
    answer["ticket"].as_str().unwrap().to_owned()
}

#[test]
fn a_ticket_lets_one_request_through_with_its_tokens_rights() {
    let (upstream, gate) = start("");
    let token = sign(&claims());
    let ticket = ticket(&gate, &token);
    let target = format!("/api/x?a=%2F&ticket={ticket}&--b");
    let response = gate.request("GET", &target, "");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(upstream.last().target(), "/api/x?a=%2F&--b");
    assert_eq!(gate.exchange("/api/x")["subject"], "root");
    let again = gate.request("GET", &target, "");
    assert_eq!(again.status, 401, "a ticket is good once");
    assert_eq!(upstream.seen().len(), 1);
    assert!(!gate.log().contains(&ticket));
}

#[test]
fn of_many_who_use_a_ticket_at_once_one_gets_through() {
    let (upstream, gate) = start("");
    let ticket = ticket(&gate, &sign(&claims()));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| gate.request("GET", &format!("/api/x?ticket={ticket}"), ""));
        }
    });
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_ticket_is_worth_no_more_than_its_token() {
    let (upstream, gate) = start("");
    let revoked = with_claim("jti", json!("gone"));
    let ticket = ticket(&gate, &revoked);
    let answer = crate::support::client::send(
        gate.admin,
        "POST /revoke HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 19\r\nconnection: close\r\n\r\n{\"token_id\":\"gone\"}",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(
        gate.request("GET", &format!("/api/x?ticket={ticket}"), "")
            .status,
        401
    );
    let refresh = gate.login("root", "memphis")["jwt_refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let expired = with_claim("exp", unix_now().into());
    for token in [
        revoked,
        refresh,
        expired,
        sign_as("x", &claims()),
        "x".to_owned(),
    ] {
        let headers = format!("authorization: Bearer {token}\r\ncontent-length: 0\r\n");
        let response = gate.request("POST", "/ticket", &headers);
        assert_eq!(
            (response.status, response.json()["error"].clone()),
            (401, json!("invalid_token"))
        );
    }
    assert_eq!(
        gate.request("POST", "/ticket", "content-length: 0\r\n")
            .status,
        401
    );
    assert_eq!(gate.request("GET", "/ticket", "").status, 405);
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_ticket_is_one_credential_among_others_and_only_where_there_are_tickets() {
    let (upstream, gate) = start("");
    let token = sign(&claims());
    let (first, second) = (ticket(&gate, &token), ticket(&gate, &token));
    for target in [
        format!("/api/x?ticket={first}&ticket={second}"),
        format!("/api/x?ticket={first}&access_token={token}"),
    ] {
        assert_eq!(gate.request("GET", &target, "").status, 400);
    }
    assert_eq!(
        gate.get(&format!("/api/x?ticket={first}"), &token).status,
        400
    );
    for ticket in ["", "x", &*format!("{first}x"), &*"x".repeat(5000)] {
        assert_eq!(
            gate.request("GET", &format!("/api/x?ticket={ticket}"), "")
                .status,
            401
        );
    }
    // A service may have tickets of its own.
    assert_eq!(gate.get("/cas/x?ticket=ST-1", &token).status, 200);
    assert_eq!(upstream.last().target(), "/cas/x?ticket=ST-1");
    assert_eq!(
        gate.request("GET", &format!("/cas/x?ticket={first}"), "")
            .status,
        401
    );
    // None of these used it up.
    assert_eq!(
        gate.request("GET", &format!("/api/x?%74icket={first}"), "")
            .status,
        200
    );
}

#[test]
fn a_ticket_expires() {
    let (_upstream, gate) = start(", access_ttl: 1s");
    let headers = format!(
        "authorization: Bearer {}\r\ncontent-length: 0\r\n",
        sign(&claims())
    );
    let answer = gate.request("POST", "/ticket", &headers).json();
    assert_eq!(answer["expires_in"], 1);
    let given = unix_now();
    wait_for("a second", || (unix_now() > given + 1).then_some(()));
    let target = format!("/api/x?ticket={}", answer["ticket"].as_str().unwrap());
    assert_eq!(gate.request("GET", &target, "").status, 401);
}

#[test]
fn a_ticket_is_given_for_a_token_in_the_body_too_and_to_any_origin() {
    let (_upstream, gate) = start("");
    let token = sign(&claims());
    let response = gate.post_json("/ticket", &json!({"access_token": token}).to_string());
    assert!(response.json()["ticket"].is_string());
    let preflight = "origin: https://ui.example\r\naccess-control-request-method: POST\r\n";
    let response = gate.request("OPTIONS", "/ticket", preflight);
    assert_eq!(
        (
            response.status,
            response.header("access-control-allow-origin")
        ),
        (204, Some("*"))
    );
}

#[test]
fn without_tickets_the_parameter_and_the_path_are_the_services_own() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, "  - { path: /**, upstream: app }").start();
    let token = sign(&claims());
    assert_eq!(gate.get("/ticket?ticket=x", &token).status, 200);
    assert_eq!(upstream.last().target(), "/ticket?ticket=x");
}

#[test]
fn a_bare_token_is_taken_as_one_since_swagger_pages_send_what_is_pasted() {
    let (upstream, gate) = start("");
    let token = sign(&claims());
    let ask = |value: &str| {
        gate.request("GET", "/api/x", &format!("authorization: {value}\r\n"))
            .status
    };
    assert_eq!(ask(&token), 200);
    assert_eq!(upstream.last().header("authorization"), None);
    for value in [
        &*token.replace('.', ".A"),
        "x",
        "a.b.c",
        &*format!("{token}.x"),
    ] {
        assert_eq!(ask(value), 401, "{value}");
    }
    assert_eq!(upstream.seen().len(), 1);
}
