//! How long known keys are good, and what a change of them does.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{ROUTES, good, refused, start};
use crate::support::client::{connect, read_response};
use crate::support::gate::Gate;
use crate::support::issuer::{Issuer, IssuerKey, SILENCE, raw};
use crate::support::reload::{Verdict, reload};
use crate::support::threat;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

fn listing(gate: &Gate) -> Value {
    gate.on_admin("/keys").json()["issuers"][0].clone()
}

#[test]
fn any_number_of_unknown_key_ids_has_the_keys_fetched_once() {
    let (_upstream, issuer, key, gate) = start(", keys: { unknown_key_interval: 1h }");
    let claims = issuer.claims().to_string();
    let signature = key.sign(&issuer.claims());
    let (_, signature) = signature.rsplit_once('.').unwrap();
    let mut stream = connect(gate.address());
    for count in 0..2000 {
        let header = json!({"alg": "ES256", "kid": format!("{:x}", fastrand::u64(..))});
        let parts = [header.to_string(), claims.clone()].map(crate::support::tokens::encode);
        let request = format!(
            "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {}.{signature}\r\n\r\n",
            parts.join(".")
        );
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream, false).status, 401, "{count}");
    }
    assert_eq!(issuer.fetches(), 2, "one at the start, one for them all");
    assert_eq!(gate.judge(&key.sign(&issuer.claims())), good());
}

#[test]
fn a_rotation_refuses_no_request() {
    let (_upstream, issuer, first, gate) = start(", keys: { unknown_key_interval: 1ms }");
    let stop = Arc::new(AtomicBool::new(false));
    let passed = Arc::new(AtomicUsize::new(0));
    let current = Arc::new(std::sync::Mutex::new(first.clone()));
    let claims = issuer.claims();
    let address = gate.address();
    let clients = std::array::from_fn::<_, 4, _>(|_| {
        let (stop, passed) = (Arc::clone(&stop), Arc::clone(&passed));
        let (current, mut claims) = (Arc::clone(&current), claims.clone());
        std::thread::spawn(move || {
            let mut stream = connect(address);
            while !stop.load(Ordering::Relaxed) {
                claims["jti"] = fastrand::u64(..).to_string().into();
                let token = current.lock().unwrap().sign(&claims);
                let request = format!(
                    "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).unwrap();
                assert_eq!(read_response(&mut stream, false).status, 200);
                passed.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let mut old = first;
    for count in 0..5 {
        let before = passed.load(Ordering::Relaxed);
        wait_for("requests to pass", || {
            (passed.load(Ordering::Relaxed) > before + 20).then_some(())
        });
        let new = IssuerKey::new(&format!("new{count}"), "ES256");
        issuer.publish(&[&new, &old]);
        *current.lock().unwrap() = new.clone();
        old = new;
    }
    let before = passed.load(Ordering::Relaxed);
    wait_for("requests to pass", || {
        (passed.load(Ordering::Relaxed) > before + 20).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("every request passed");
    }
    let log = gate.wait_for_log("the change", |line| {
        line["message"] == "an issuer's keys changed"
    });
    assert_eq!(
        (&log["level"], &log["issuer"]),
        (&"INFO".into(), &issuer.url.into())
    );
}

#[test]
fn a_cached_token_is_refused_once_its_key_is_gone_or_has_become_another() {
    let (_upstream, issuer, key, gate) = start(", keys: { unknown_key_interval: 1ms }");
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.judge(&token), good());
    let mut cached = connect(gate.address());
    let mut ask = |token: &str| {
        let request = format!(
            "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        cached.write_all(request.as_bytes()).unwrap();
        read_response(&mut cached, false).status
    };
    assert_eq!([ask(&token), ask(&token)], [200, 200]);
    let kept = IssuerKey::new("kept", "ES256");
    let stays = kept.sign(&issuer.claims());
    issuer.publish(&[&key, &kept]);
    assert_eq!([ask(&stays), ask(&stays), ask(&token)], [200; 3]);
    issuer.publish(&[&kept]);
    // Somebody meets a key that is not known: what is known changes for all.
    assert_eq!(
        ask(&IssuerKey::new("x", "ES256").sign(&issuer.claims())),
        401
    );
    assert_eq!([ask(&token), ask(&stays)], [401, 200]);
    assert_eq!(gate.judge(&token), refused(401, "unknown_key"));

    let other = IssuerKey::new("kept", "ES256");
    issuer.publish(&[&other]);
    assert_eq!(
        ask(&IssuerKey::new("y", "ES256").sign(&issuer.claims())),
        401
    );
    assert_eq!(ask(&stays), 401);
    assert_eq!(gate.judge(&stays), refused(401, "invalid_signature"));
    assert_eq!(gate.judge(&other.sign(&issuer.claims())), good());
}

#[test]
fn known_keys_go_on_past_the_soft_lifetime_and_end_with_the_hard_one() {
    let keys = ", keys: { soft_ttl: 300ms, hard_ttl: 3s, unknown_key_interval: 1ms }";
    let (_upstream, issuer, key, gate) = start(keys);
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.judge(&token), good());
    wait_for("a fetch ahead of the soft lifetime", || {
        (issuer.fetches() > 2).then_some(())
    });
    issuer.answer_keys(&raw("500 Broken", ""));
    wait_for("stale keys", || {
        let state = listing(&gate)["state"].clone();
        // Whatever the state, the same token is answered the same.
        let (status, _) = gate.judge(&token);
        assert!(status == 200 || listing(&gate)["state"] == "unavailable");
        (state == "stale").then_some(())
    });
    wait_for("keys past the hard lifetime", || {
        (listing(&gate)["state"] == "unavailable").then_some(())
    });
    let expected = refused(503, "keys_unavailable");
    assert_eq!(gate.judge(&token), expected, "cached");
    assert_eq!(
        gate.judge(&key.sign(&issuer.claims())),
        expected,
        "not cached"
    );
    assert_eq!(gate.exchanges().last().unwrap()["side"], "gate");
    let error = listing(&gate)["last_error"].clone();
    assert!(error.as_str().unwrap().contains("answered 500"), "{error}");
    let sample = |result| {
        format!(
            "tollgate_jwks_fetches_total{{issuer=\"{}\",result=\"{result}\"}}",
            issuer.url
        )
    };
    assert!(gate.metric(&sample("ok")) > 1.0 && gate.metric(&sample("failed")) >= 1.0);
    let log = gate.wait_for_log("the failure", |line| {
        line["message"] == "an issuer's keys could not be fetched"
    });
    assert_eq!(
        (&log["level"], &log["issuer"]),
        (&"WARN".into(), &issuer.url.clone().into())
    );

    issuer.publish(&[&key]);
    wait_for("the keys", || (gate.judge(&token) == good()).then_some(()));
}

#[test]
fn a_gate_starts_without_its_issuer_and_takes_its_tokens_once_it_is_there() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    issuer.answer_keys("");
    let keys = ", keys: { unknown_key_interval: 1ms }";
    let gate = issuer.gate(&upstream, ROUTES, keys).start();
    gate.wait_for_log("the failure", |line| {
        line["message"] == "an issuer's keys could not be fetched"
    });
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.judge(&token), refused(503, "keys_unavailable"));
    assert_eq!(listing(&gate)["age_seconds"], Value::Null);
    let challenge = gate.get("/api/x", &token);
    assert_eq!(
        (challenge.status, challenge.header("www-authenticate")),
        (503, None)
    );
    issuer.publish(&[&key]);
    wait_for("the keys", || (gate.judge(&token) == good()).then_some(()));
    gate.wait_for_log("the load", |line| {
        line["message"] == "an issuer's keys were loaded"
    });
}

#[test]
fn a_gate_starts_before_a_silent_issuer_has_answered() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    issuer.answer_discovery(SILENCE);
    let keys = ", keys: { timeout: 200ms }";
    let gate = issuer.gate(&upstream, ROUTES, keys).start();
    let expected = refused(503, "keys_unavailable");
    assert_eq!(gate.judge(&key.sign(&issuer.claims())), expected);
    let error = listing(&gate)["last_error"].clone();
    assert_eq!(error, "fetching took longer than keys.timeout");
}

#[test]
fn a_request_that_waits_for_keys_holds_up_no_other() {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    let keys = ", keys: { timeout: 1m }";
    let gate = issuer
        .gate(&upstream, ROUTES, keys)
        .edit("workers: 2", "workers: 1")
        .start();
    issuer.answer_keys(SILENCE);
    let token = IssuerKey::new("new", "ES256").sign(&issuer.claims());
    let mut waits = connect(gate.address());
    let request = format!(
        "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    waits.write_all(request.as_bytes()).unwrap();
    wait_for("the fetch", || (issuer.fetches() == 2).then_some(()));
    for _ in 0..10 {
        assert_eq!(gate.judge(&key.sign(&issuer.claims())), good());
    }
    waits.set_nonblocking(true).unwrap();
    let early = waits.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock));
}

/// Envoy CVE-2024-45809 and CVE-2025-64527: several tokens while keys were fetched ended the
/// process.
#[test]
fn several_tokens_are_refused_without_a_fetch_while_the_issuer_is_silent() {
    let (upstream, issuer, key, gate) = start(", keys: { timeout: 1m }");
    issuer.answer_keys(SILENCE);
    let unknown = IssuerKey::new("new", "ES256").sign(&issuer.claims());
    let good = key.sign(&issuer.claims());
    for (target, headers) in [
        ("/api/x", [&unknown, &unknown]),
        ("/api/x", [&unknown, &good]),
        ("/api/x", [&good, &unknown]),
    ] {
        let lines = headers.map(|token| format!("authorization: Bearer {token}\r\n"));
        let answer = gate.request("GET", target, &lines.concat());
        assert_eq!(answer.status, 400);
        let both = format!("{target}?authorization={}", headers[0]);
        assert_eq!(gate.request("GET", &both, &lines[1]).status, 400);
    }
    assert_eq!(issuer.fetches(), 1, "the one at the start");
    assert!(upstream.seen().is_empty());
    assert_eq!(gate.get("/api/x", &good).status, 200);
    threat::count("several tokens with a slow JWKS", 6);
}

#[test]
fn a_reload_keeps_the_keys_of_an_unchanged_issuer_and_fetches_those_of_a_changed_one() {
    let (_upstream, issuer, key, gate) = start("");
    let token = key.sign(&issuer.claims());
    assert_eq!(gate.judge(&token), good());
    let config = std::fs::read_to_string(gate.folder().path().join("tollgate.yaml")).unwrap();
    let write = |config: String| {
        gate.folder().write("tollgate.yaml", config);
        assert_eq!(reload(&gate), Verdict::Taken);
    };
    // The issuer is down, and nobody notices: its rules change, its keys stay.
    issuer.answer_keys("");
    write(config.replace("audience: gate }", "audience: gate, groups_claim: roles }"));
    assert_eq!(gate.judge(&token), good());
    write(config.replace("audience: gate }", "audience: other }"));
    assert_eq!(gate.judge(&token), refused(401, "wrong_audience"));
    assert_eq!(issuer.fetches(), 1);

    issuer.publish(&[&key]);
    write(config.replace(
        "audience: gate }",
        "audience: gate, keys: { soft_ttl: 1m } }",
    ));
    assert_eq!(gate.judge(&token), good());
    assert_eq!(issuer.fetches(), 2);
    write(config.replace(
        &issuer.identity(""),
        "identity: [ { users_file: users.yaml } ]",
    ));
    assert_eq!(gate.judge(&token), refused(401, "unknown_key"));
}
