//! Do the inspector and `tollgate explain` say what CONNECT gets?

use std::process::Command;

use serde_json::json;

use super::post;
use crate::support::gate::{BINARY, Gate, run, sign_as};
use crate::support::mqtt::{Broker, Client, Connect, V5, V311, before, route};
use crate::support::tokens::{claims, with_claim, with_claims};
use crate::support::unix_now;

const RULES: &str = "require: { scopes: [ admin ] }, mqtt: { client_id: \"{sub}-*\", \
    publish: [ \"devices/{sub}/#\" ], subscribe: [] }";

fn start(broker: &Broker) -> Gate {
    let routes = route(RULES).replace(
        "{ basic: { username: gate, password_file: upstream-password } }",
        "{ per_user: { file: map.yaml } }",
    );
    let limits = "limits: { mqtt: { sessions_per_subject: 4 } }";
    let map = "root: { username: r, password: x }\nann: { username: a, password: x }\n";
    before(broker.address, &routes, limits)
        .edit("audience: gate", "audience: gate\n  leeway: 1m")
        .file("map.yaml", map)
        .start()
}

/// Token and client identifier, and what is expected: a reason, or `passes`.
fn cases() -> Vec<(String, &'static str, &'static str)> {
    let now = unix_now();
    let of = |subject: &str| with_claim("sub", json!(subject));
    let good = || crate::support::tokens::sign(&claims());
    let ends = |at: u64| with_claim("exp", json!(at));
    vec![
        (good(), "root-1", "passes"),
        (String::new(), "root-1", "missing_credential"),
        ("no-token-at-all".to_owned(), "root-1", "malformed_token"),
        (good() + "x", "root-1", "invalid_signature"),
        (sign_as("rt+jwt", &claims()), "root-1", "wrong_type"),
        (ends(now - 100), "root-1", "expired"),
        // Within the leeway a request would pass.
        (ends(now - 5), "root-1", "expired"),
        (
            with_claim("aud", json!("other")),
            "root-1",
            "wrong_audience",
        ),
        (
            with_claim("scope", json!("x")),
            "root-1",
            "insufficient_scope",
        ),
        (good(), "ann-1", "client_id_not_allowed"),
        (of("*"), "*-1", "client_id_not_allowed"),
        (of("bob"), "bob-1", "no_upstream_credential"),
    ]
}

/// The codes of CONNACK in 3.1.1 and 5.0.
fn codes(gate: &Gate, token: &str, id: &str) -> [u8; 2] {
    [V311, V5].map(|version| {
        let mut connect = Connect::new(version).client_id(id);
        if !token.is_empty() {
            connect = connect.pair("anybody", token);
        }
        Client::open(gate, connect.bytes()).read().unwrap()[3]
    })
}

#[test]
fn the_inspector_says_what_connect_gets() {
    let broker = Broker::start();
    let gate = start(&broker);
    let ask = |listener, token: &str, id: &str| {
        let question =
            json!({"path": "/mqtt", "token": token, "listener": listener, "client_id": id});
        post(&gate, "/inspect", &question).json()
    };
    for (token, id, expected) in cases() {
        let [before_5, since_5] = codes(&gate, &token, id);
        for listener in [json!(null), json!("mqtt")] {
            let told = ask(listener, &token, id);
            let verdict = match told["verdict"].as_str().unwrap() {
                "refused" => told["reason"].as_str().unwrap(),
                verdict => verdict,
            };
            assert_eq!(verdict, expected, "{id}: {told}");
            let connack = json!({ "before_5": before_5, "since_5": since_5 });
            assert_eq!(told["mqtt"]["connack"], connack, "{id}: {told}");
        }
    }
    let ann = with_claim("sub", json!("ann"));
    let connect = Connect::with_token(V5, &ann).client_id("ann-1");
    let told = ask(json!("mqtt"), &ann, "ann-1");
    assert_eq!(told["verdict"], "passes", "{told}");
    assert_eq!(told["credential"], "connect");
    assert_eq!(told["mqtt"]["client_id"], json!(["ann-*"]));
    assert_eq!(told["mqtt"]["publish"], json!(["devices/ann/#"]));
    assert_eq!(told["mqtt"]["subscribe"], json!([]));
    let _held = [(); 4].map(|()| Client::connected(&gate, &connect));
    let told = ask(json!("mqtt"), &ann, "ann-1");
    assert_eq!(told["reason"], "too_many_sessions", "{told}");
    assert_eq!(told["mqtt"]["connack"]["since_5"], 0x97, "{told}");
}

#[test]
fn without_a_client_identifier_it_says_whether_any_would_do() {
    let broker = Broker::start();
    let gate = start(&broker);
    for (token, expected) in [
        (with_claim("sub", json!("root")), "passes"),
        (with_claim("sub", json!("*")), "refused"),
    ] {
        let question = json!({"path": "/mqtt", "token": token});
        let told = post(&gate, "/inspect", &question).json();
        assert_eq!(told["verdict"], expected, "{told}");
    }
}

#[test]
fn what_is_no_connect_is_judged_as_the_gate_does() {
    let broker = Broker::start();
    let gate = start(&broker);
    let token = with_claims(|_| ());
    let header = format!("authorization: Bearer {token}\r\n");
    assert_eq!(gate.request("POST", "/mqtt", &header).status, 400);
    let question = json!({"path": "/mqtt", "method": "POST", "token": token});
    let told = post(&gate, "/inspect", &question).json();
    assert_eq!(told["reason"], "malformed_request", "{told}");
    // A listener of MQTT stands for its path alone.
    for (path, method) in [("/other", "GET"), ("/mqtt", "POST")] {
        let question = json!({"path": path, "method": method, "listener": "mqtt"});
        assert_eq!(post(&gate, "/inspect", &question).status, 400);
    }
}

#[test]
fn explain_says_what_connect_gets() {
    let broker = Broker::start();
    let gate = start(&broker);
    let config = gate.folder().path().join("tollgate.yaml");
    let config = config.to_str().unwrap();
    for (token, id, expected) in cases() {
        let [before_5, since_5] = codes(&gate, &token, id);
        for (listener, url) in [
            (&["--listener", "mqtt"][..], "mqtts://gate.example:8883"),
            (&[], "https://gate.example/mqtt"),
        ] {
            let mut arguments = vec!["explain", "--config", config, "GET", url];
            arguments.extend(["--client-id", id]);
            arguments.extend(listener);
            if !token.is_empty() {
                arguments.extend(["--token", "-"]);
            }
            let output = run(&arguments, &format!("{token}\n"));
            let text = String::from_utf8(output.stdout).unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            let connack = format!("CONNACK    {before_5}, in 5.0 {since_5:#04x}\n");
            assert!(text.contains(&connack), "{id}: {text}{errors}");
            if expected == "passes" {
                for line in [
                    "client id  root-*",
                    "publishes  devices/root/#",
                    "subscribes nowhere",
                    "gets       CONNECT of r with password ***",
                    "passes, if the broker takes it",
                ] {
                    assert!(text.lines().any(|held| held == line), "{line}: {text}");
                }
                assert!(!text.contains(&token), "{text}");
            } else {
                assert!(errors.contains(expected), "{id}: {errors}");
            }
            assert_eq!(output.status.success(), expected == "passes", "{id}");
        }
    }
    let elsewhere = ["--listener", "mqtt", "GET", "mqtts://gate.example/x"];
    let output = Command::new(BINARY)
        .args(["explain", "--config", config])
        .args(elsewhere)
        .output();
    assert!(!output.unwrap().status.success());
}
