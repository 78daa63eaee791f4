//! What still works without Redis, and how does it come back?

use std::thread;

use serde_json::{Value, json};

use crate::server::{Redis, access, builder, free_port, refresh, revoke, status, wait_for_step};
use crate::support::client;
use crate::support::gate::Gate;
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

fn log_in(gate: &Gate) -> client::Response {
    let body = json!({"username": "root", "password": "memphis"}).to_string();
    gate.post_json("/auth/authenticate", &body)
}

/// What needs the store is refused, the gate stays ready and says why.
fn assert_degraded(gate: &Gate, pair: &Value) {
    let refused = log_in(gate);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refresh(gate, pair).0, 503);
    let ready = gate.on_admin("/readyz");
    assert_eq!(ready.status, 200);
    assert!(
        ready.text().starts_with("degraded: store"),
        "{}",
        ready.text()
    );
    gate.wait_for_log("the loss", |line| {
        line["message"]
            == "the store cannot be reached; tokens are judged from memory, logins get 503"
    });
}

#[test]
fn without_redis_tokens_go_on_logins_get_503_and_it_comes_back_by_itself() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let gates = [(); 2].map(|()| redis.gate(&upstream, ""));
    let strict = redis.builder(&upstream, "").edit(
        "admin: { address: \"127.0.0.1:0\" }",
        "admin: { address: \"127.0.0.1:0\", ready_needs_store: true }",
    );
    let strict = strict.start();
    let gate = &gates[0];
    let pair = gate.login("root", "memphis");
    let (cached, uncached) = (access(&pair), access(&gate.login("root", "memphis")));
    let doomed = access(&gate.login("eve", "memphis"));
    assert_eq!(status(gate, &cached), 200);
    assert_eq!(status(&gates[1], &doomed), 200);

    redis.kill();
    wait_for_step(gate, false);
    for token in [&cached, &uncached] {
        assert_eq!(status(gate, token), 200);
    }
    assert_degraded(gate, &pair);
    wait_for_step(&strict, false);
    assert_eq!(strict.on_admin("/readyz").status, 503);
    // In force here, told to nobody yet.
    assert_eq!(revoke(gate, &json!({ "subject": "eve" })), 503);
    assert_eq!(status(gate, &doomed), 401);

    redis.run().unwrap();
    for gate in gates.iter().chain([&strict]) {
        wait_for_step(gate, true);
        assert_eq!(gate.on_admin("/readyz").text(), "ok\n");
    }
    wait_for("the revocation that could not be told", || {
        (status(&gates[1], &doomed) == 401).then_some(())
    });
    assert_eq!(
        refresh(&gates[1], &pair).0,
        200,
        "the session is still there"
    );
    assert_eq!(log_in(&gates[1]).status, 200);
}

#[test]
fn a_redis_that_hangs_holds_nothing_up() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gate = redis.gate(&upstream, ", timeout: 200ms");
    let token = gate.token("root", "memphis");
    redis.ask(&["CLIENT", "PAUSE", "3000", "ALL"]);
    assert_eq!(status(&gate, &token), 200);
    assert_eq!(log_in(&gate).status, 503);
    assert_eq!(status(&gate, &token), 200);
    wait_for_step(&gate, false);
    wait_for_step(&gate, true);
    wait_for("a login", || (log_in(&gate).status == 200).then_some(()));
}

#[test]
fn what_may_have_been_missed_for_too_long_is_refused() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let bounded = redis.gate(&upstream, ", max_staleness: 2s");
    let unbounded = redis.gate(
        &upstream,
        ", max_staleness: 2s, danger_unbounded_staleness: true",
    );
    let token = bounded.token("root", "memphis");
    let uncached = bounded.token("root", "memphis");
    assert_eq!(status(&bounded, &token), 200);
    redis.kill();
    wait_for("the bound", || {
        (status(&bounded, &token) == 503).then_some(())
    });
    let refused = bounded.get("/api/x", &uncached);
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert!(bounded.metric("tollgate_store_staleness_seconds") > 2.0);
    assert_eq!(status(&unbounded, &token), 200);
    assert_eq!(status(&unbounded, &uncached), 200);
    redis.run().unwrap();
    wait_for("the way back", || {
        (status(&bounded, &token) == 200).then_some(())
    });
}

#[test]
fn a_gate_that_starts_without_redis_waits_and_lets_nobody_in() {
    let (upstream, admin, port) = (Upstream::start(), free_port(), free_port());
    let builder = builder(&format!("redis://127.0.0.1:{port}"), &upstream, "").edit(
        "admin: { address: \"127.0.0.1:0\" }",
        &format!("admin: {{ address: \"127.0.0.1:{admin}\" }}"),
    );
    let gate = thread::spawn(move || builder.start());
    let ready = || {
        let address = ([127, 0, 0, 1], admin).into();
        std::net::TcpStream::connect(address).ok()?;
        let request = "GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
        Some(client::send(address, request))
    };
    let answer = wait_for("the admin listener", ready);
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("store"), "{}", answer.text());
    assert!(!gate.is_finished());
    let _redis = Redis::on(port, |_| (Vec::new(), Vec::new())).unwrap();
    let gate = gate.join().unwrap();
    assert_eq!(gate.on_admin("/readyz").status, 200);
    gate.login("root", "memphis");
    assert!(gate.log().contains("the gate is not ready and tries again"));
}

#[test]
fn a_restarted_gate_knows_what_was_revoked_before_it_says_ready() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let first = redis.gate(&upstream, "");
    let pair = first.login("root", "memphis");
    let family = claims_of(&access(&pair))["fam"].clone();
    assert_eq!(revoke(&first, &json!({ "family": family })), 200);
    drop(first);
    let second = redis.gate(&upstream, "");
    assert_eq!(status(&second, &access(&pair)), 401);
    assert_eq!(refresh(&second, &pair).0, 401);
}

#[test]
fn what_a_redis_lost_is_written_again_by_those_who_know_it() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let gate = redis.gate(&upstream, "");
    let token = gate.token("root", "memphis");
    assert_eq!(revoke(&gate, &json!({ "subject": "root" })), 200);
    redis.ask(&["FLUSHALL"]);
    redis.kill();
    wait_for_step(&gate, false);
    redis.run().unwrap();
    wait_for_step(&gate, true);
    let second = redis.gate(&upstream, "");
    assert_eq!(status(&second, &token), 401);
}
