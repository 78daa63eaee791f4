//! The life of refresh tokens: rotation, honest second tries, reuse.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::support::gate::{Builder, Gate};
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";

fn start(grace: &str) -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let builder = Builder::standard(upstream.address, ROUTES);
    let line = format!("tokens:\n  refresh_grace: {grace}");
    let gate = builder.edit("tokens:", &line).start();
    (upstream, gate)
}

fn refresh(gate: &Gate, pair: &Value) -> (u16, Value) {
    let body = json!({"jwt_refresh_token": pair["jwt_refresh_token"]}).to_string();
    let response = gate.post_json("/auth/refreshToken", &body);
    (response.status, response.json())
}

fn opens(gate: &Gate, pair: &Value) -> bool {
    gate.get("/api/x", pair["jwt"].as_str().unwrap()).status == 200
}

#[test]
fn a_chain_of_refreshes_goes_on_and_keeps_its_family() {
    let (_upstream, gate) = start("10s");
    let first = gate.login("root", "memphis");
    let mut pair = first.clone();
    for place in 1..6 {
        let (status, next) = refresh(&gate, &pair);
        assert_eq!(status, 200);
        assert_ne!(next["jwt_refresh_token"], pair["jwt_refresh_token"]);
        let claims = claims_of(next["jwt_refresh_token"].as_str().unwrap());
        assert_eq!(claims["gen"], place);
        let family = &claims_of(first["jwt"].as_str().unwrap())["fam"];
        assert_eq!(&claims["fam"], family);
        assert!(opens(&gate, &next));
        pair = next;
    }
}

#[test]
fn a_second_try_within_the_grace_gets_the_same_pair() {
    let (_upstream, gate) = start("10s");
    let pair = gate.login("root", "memphis");
    let (status, next) = refresh(&gate, &pair);
    assert_eq!(status, 200);
    assert_eq!(refresh(&gate, &pair), (200, next.clone()));
    // Neither try cost the client its chain.
    assert_eq!(refresh(&gate, &next).0, 200);
}

#[test]
fn a_hundred_refreshes_at_once_rotate_once_and_all_get_a_working_pair() {
    let (_upstream, gate) = start("10s");
    let pair = gate.login("root", "memphis");
    let barrier = Barrier::new(100);
    let pairs: Vec<Value> = thread::scope(|scope| {
        let tries: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let (status, next) = refresh(&gate, &pair);
                    assert_eq!(status, 200, "{next}");
                    next
                })
            })
            .collect();
        tries.into_iter().map(|each| each.join().unwrap()).collect()
    });
    for next in &pairs {
        assert_eq!(next, &pairs[0]);
    }
    assert!(opens(&gate, &pairs[0]));
    assert_eq!(refresh(&gate, &pairs[0]).0, 200);
}

#[test]
fn reuse_after_the_grace_ends_all_that_came_from_the_login() {
    let (_upstream, gate) = start("0s");
    let stolen = gate.login("root", "memphis");
    let other = gate.login("root", "memphis");
    let (_, pair) = refresh(&gate, &stolen);
    assert!(opens(&gate, &pair));
    let status = wait_for("a second after the rotation", || {
        let (status, _) = refresh(&gate, &stolen);
        (status != 200).then_some(status)
    });
    assert_eq!(status, 401);
    assert!(
        !opens(&gate, &pair),
        "its access token is refused although it was cached"
    );
    assert!(!opens(&gate, &stolen));
    assert_eq!(refresh(&gate, &pair).0, 401);
    assert_eq!(gate.metric("tollgate_refresh_reuse_detected_total"), 1.0);
    gate.wait_for_log("a security event", |line| {
        line["message"]
            .as_str()
            .unwrap()
            .starts_with("security: a refresh token was used again")
            && line["subject"] == "root"
            && line["level"] == "WARN"
    });
    assert!(
        opens(&gate, &other),
        "another login of the same user goes on"
    );
    assert_eq!(refresh(&gate, &other).0, 200);
}

#[test]
fn an_older_refresh_token_is_reuse_even_within_the_grace() {
    let (_upstream, gate) = start("1m");
    let first = gate.login("root", "memphis");
    let (_, second) = refresh(&gate, &first);
    let (_, third) = refresh(&gate, &second);
    assert_eq!(refresh(&gate, &first).0, 401);
    assert_eq!(refresh(&gate, &third).0, 401);
}

#[test]
fn a_restart_ends_refresh_tokens_and_not_access_tokens() {
    let (upstream, gate) = start("10s");
    let pair = gate.login("root", "memphis");
    drop(gate);
    let again = Builder::standard(upstream.address, ROUTES).start();
    assert_eq!(refresh(&again, &pair).0, 401);
    assert!(opens(&again, &pair));
}
