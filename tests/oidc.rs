//! Do tokens of a real, certified OpenID provider pass, while its keys change and when it is gone?

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops here, and has its own clock"
)]

#[path = "support/files.rs"]
mod files;
#[expect(dead_code, reason = "the tests of pages need more of it")]
#[path = "support/provider.rs"]
mod provider;
#[expect(dead_code, reason = "the other services' tests need more of it")]
#[path = "support/services.rs"]
mod services;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use files::file_server;
use provider::Provider;
use services::{Answer, DEADLINE, Folder, Gate, Process, curl};

fn start(provider: &Provider, keys: &str) -> (Process, Gate) {
    let folder = Folder::create();
    let (upstream, port) = file_server(&folder);
    let config = format!(
        r#"
identity:
  - oidc:
      issuer: "{}"
      audience: gate
      subject_prefix: "provider:"
      keys: {{ {keys} }}
upstreams:
  files: {{ endpoints: [ "http://127.0.0.1:{port}" ] }}
routes:
  - path: /
    upstream: files
    require: {{ scopes: [ read ] }}
"#,
        provider.url
    );
    let gate = Gate::start(&config, &[]);
    (upstream, gate)
}

fn ask(gate: &Gate, token: &str) -> Answer {
    gate.curl("/", &["-H", &format!("Authorization: Bearer {token}")])
}

/// What the gate knows of the issuer's keys.
fn keys(gate: &Gate) -> Value {
    let said = gate.process.stdout.text();
    let admin = said.lines().find_map(|line| line.strip_prefix("admin "));
    let answer = curl(&format!("{}/keys", admin.expect("its address")), &[]);
    let listing: Value = serde_json::from_str(&answer.body).expect("JSON");
    listing["issuers"][0].clone()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn its_tokens_pass_under_every_algorithm_and_only_for_this_audience() {
    let provider = Provider::start();
    let (_upstream, gate) = start(&provider, "");
    let listed = keys(&gate)["keys"].clone();
    let one = |algorithm: &str| json!({"id": format!("{algorithm}-1"), "algorithm": algorithm});
    assert_eq!(listed, json!([one("ES256"), one("EdDSA"), one("RS256")]));
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = provider.token(&format!("urn:gate:{algorithm}"));
        for _ in 0..2 {
            let answer = ask(&gate, &token);
            assert_eq!(answer.status, 200, "{algorithm}: {answer:?}");
        }
    }
    assert!(gate.logged(|event| event["subject"] == "provider:batch"));
    let other = provider.token("urn:other:RS256");
    assert_eq!(ask(&gate, &other).status, 401);
    assert!(gate.logged(|event| event["reason"] == "wrong_audience"));
}

#[test]
fn its_keys_change_while_requests_flow_and_none_is_refused() {
    let provider = Provider::start();
    let (_upstream, gate) = start(&provider, "unknown_key_interval: 100ms");
    let (is_over, passed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let flow = |algorithm: &str| {
        while !is_over.load(Ordering::Relaxed) {
            let token = provider.token(&format!("urn:gate:{algorithm}"));
            let answer = ask(&gate, &token);
            assert_eq!(answer.status, 200, "{algorithm}: {}", gate.process.said());
            passed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let wait_for_some = |clients: &[thread::ScopedJoinHandle<'_, ()>]| {
        let before = passed.load(Ordering::Relaxed);
        wait_for("requests to pass", || {
            let is_broken = clients.iter().any(thread::ScopedJoinHandle::is_finished);
            is_broken || passed.load(Ordering::Relaxed) > before + 10
        });
    };
    thread::scope(|scope| {
        let clients =
            ["RS256", "ES256", "EdDSA"].map(|algorithm| scope.spawn(move || flow(algorithm)));
        for _ in 0..4 {
            wait_for_some(&clients);
            provider.rotate();
        }
        wait_for_some(&clients);
        is_over.store(true, Ordering::Relaxed);
    });
    let listed = keys(&gate)["keys"].to_string();
    assert!(
        listed.contains("ES256-5") && !listed.contains("ES256-1"),
        "{listed}"
    );
    assert!(gate.logged(|event| event["message"] == "an issuer's keys changed"));
}

#[test]
fn once_it_is_gone_known_keys_go_on_and_then_end_with_503() {
    let provider = Provider::start();
    let (_upstream, gate) = start(&provider, "soft_ttl: 1s, hard_ttl: 8s");
    let token = provider.token("urn:gate:ES256");
    assert_eq!(ask(&gate, &token).status, 200);
    drop(provider);
    let mut passed = 0;
    wait_for("the keys' end", || {
        let answer = ask(&gate, &token);
        let state = keys(&gate)["state"].clone();
        match answer.status {
            200 => passed += usize::from(state == "stale"),
            _ => assert_eq!(
                (answer.status, &state),
                (503, &json!("unavailable")),
                "{answer:?}"
            ),
        }
        answer.status == 503
    });
    assert!(
        passed > 0,
        "known keys did not go on\n{}",
        gate.process.said()
    );
    assert!(gate.logged(|event| event["reason"] == "keys_unavailable"));
    assert!(keys(&gate)["last_error"].is_string());
}
