//! Which login answers where: by listener, host and prefix, the more specific entry first.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::client::{Response, send};
use crate::support::gate::{Builder, Gate};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, upstream: app }
";
const LISTENERS: &str = "listeners: [ { address: \"127.0.0.1:0\", name: outside }, { address: \"127.0.0.1:0\", name: inside } ]";

fn with(login: &[&str]) -> Builder {
    let login: String = login
        .iter()
        .map(|entry| format!("\n  - {{ {entry} }}"))
        .collect();
    Builder::standard(Upstream::start().address, ROUTES)
        .line("listeners:", LISTENERS)
        .edit("login: [ { dialect: memphis } ]", &format!("login:{login}"))
}

fn ask(address: SocketAddr, host: &str, path: &str) -> Response {
    let body = r#"{"username":"root","password":"memphis"}"#;
    let length = body.len();
    send(
        address,
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ),
    )
}

/// The life of the tokens that a Memphis login gives here, in minutes; nothing if nobody answers.
fn life(gate: &Gate, listener: usize, host: &str, path: &str) -> Option<u64> {
    let response = ask(gate.listeners[listener], host, path);
    if response.status != 200 {
        assert_eq!(response.status, 404, "{}", response.text());
        return None;
    }
    let answer: Value = response.json();
    Some(answer["expires_in"].as_u64().unwrap() / 60_000)
}

const LOGIN: &str = "/auth/authenticate";

#[test]
fn an_entry_with_a_listener_answers_on_that_one_alone() {
    let gate = with(&["dialect: memphis, listener: inside, access_ttl: 5m"]).start();
    assert_eq!(life(&gate, 0, "a.example", LOGIN), None);
    assert_eq!(life(&gate, 1, "a.example", LOGIN), Some(5));
}

#[test]
fn a_listener_without_name_goes_by_its_address() {
    let gate = with(&["dialect: memphis, listener: '127.0.0.1:0', access_ttl: 5m"])
        .edit(", name: inside", "")
        .start();
    assert_eq!(life(&gate, 0, "a.example", LOGIN), None);
    assert_eq!(life(&gate, 1, "a.example", LOGIN), Some(5));
}

#[test]
fn one_dialect_may_be_mounted_by_listener_host_and_prefix_at_once() {
    let mut entries = [
        "dialect: memphis, access_ttl: 1m",
        "dialect: memphis, access_ttl: 2m, host: A.Example",
        "dialect: memphis, access_ttl: 3m, listener: inside",
        "dialect: memphis, access_ttl: 4m, listener: inside, host: a.example",
        "dialect: memphis, access_ttl: 5m, prefix: /broker",
        "dialect: memphis, access_ttl: 6m, prefix: /broker, host: a.example",
    ];
    for _ in 0..2 {
        let gate = with(&entries).start();
        for (listener, host, path, minutes) in [
            (0, "b.example", LOGIN, 1),
            (0, "a.example", LOGIN, 2),
            (1, "b.example", LOGIN, 3),
            (1, "a.example", LOGIN, 4),
            (0, "b.example", "/broker/auth/authenticate", 5),
            (1, "b.example", "/broker/AUTH/Authenticate", 5),
            (0, "A.EXAMPLE:8443", "/broker/auth/authenticate", 6),
            (1, "a.example", "/broker/auth/authenticate", 6),
        ] {
            let found = life(&gate, listener, host, path);
            assert_eq!(found, Some(minutes), "{listener} {host} {path}");
        }
        assert_eq!(
            life(&gate, 0, "a.example", "/brokerauth/authenticate"),
            None
        );
        // Whatever the order.
        entries.reverse();
    }
}

#[test]
fn dialects_with_the_same_path_may_live_on_two_listeners() {
    let gate = with(&[
        "dialect: emnify, listener: outside",
        "dialect: jmvstream, prefix: /api, listener: inside",
    ])
    .start();
    let path = "/api/v1/authenticate";
    let outside = ask(gate.listeners[0], "a", path);
    assert!(
        outside.json()["auth_token"].is_string(),
        "{}",
        outside.text()
    );
    // This one wants to know the resource.
    assert_eq!(ask(gate.listeners[1], "a", path).status, 400);
}

#[test]
fn a_path_of_two_entries_is_refused_with_both_and_the_path() {
    for (one, other, parts) in [
        (
            "dialect: emnify",
            "dialect: jmvstream, prefix: /api",
            ["`emnify`", "`jmvstream`", " /api/v1/authenticate,"],
        ),
        (
            "dialect: memphis, prefix: /Broker",
            "dialect: memphis, prefix: /broker",
            ["`memphis`", "`memphis`", " /broker/auth/authenticate,"],
        ),
        (
            "dialect: oauth2, host: a.example, listener: inside",
            "dialect: oauth2, host: A.Example, listener: inside",
            ["`oauth2`", "`oauth2`", " /oauth2/token,"],
        ),
    ] {
        for entries in [[one, other], [other, one]] {
            let output = with(&entries).run_to_end(&["check"]);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{one}: {stderr}");
            let lower = stderr.to_lowercase();
            for part in parts.into_iter().chain([":5: login[1]: ", " login[0] "]) {
                assert!(lower.contains(part), "{one}: no {part} in: {stderr}");
            }
        }
    }
}

#[test]
fn a_place_that_is_none_is_refused() {
    for (entry, parts) in [
        (
            "dialect: memphis, listener: insid",
            ["login[0].listener: ", "`insid`", "did you mean `inside`?"],
        ),
        (
            "dialect: memphis, listener: zzz",
            ["login[0].listener: ", "`zzz`", "outside, inside"],
        ),
        (
            "dialect: memphis, host: 'a.example:80'",
            ["login[0].host: ", "name", "port"],
        ),
    ] {
        let output = with(&[entry]).run_to_end(&["check"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{entry}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{entry}: no {part} in: {stderr}");
        }
    }
}

#[test]
fn an_explanation_is_for_one_listener() {
    let builder = with(&["dialect: memphis, listener: inside"]);
    let url = "https://gate.example/auth/authenticate";
    for (listener, code, part) in [
        (&["--listener", "inside"][..], 0, "by the gate itself"),
        (&["--listener", "outside"], 1, "404 route_not_found"),
        (&[], 1, "404 route_not_found"),
        (&["--listener", "nowhere"], 1, "no listener"),
    ] {
        let output = builder.run_to_end(&[&["explain", "POST", url], listener].concat());
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.code(), Some(code), "{listener:?}: {text}");
        assert!(text.contains(part), "{listener:?}: {text}");
    }
}
