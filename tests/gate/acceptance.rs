//! Good tokens: which forms are accepted, for how long, and for what.

use serde_json::json;

use crate::support::gate::{Builder, Gate, claims, sign, sign_as};
use crate::support::tokens::{with_claim, with_claims, with_header, without_claim};
use crate::support::upstream::Upstream;
use crate::support::{unix_now, wait_for};

const ROUTES: &str = "
  - path: /api/**
    upstream: app
";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

#[test]
fn a_good_token_is_accepted_in_each_of_its_forms() {
    let (_upstream, gate) = start();
    let now = unix_now();
    for (case, token) in [
        ("as issued", sign(&claims())),
        (
            "a full media type",
            sign_as("application/at+jwt", &claims()),
        ),
        (
            "a media type in another case",
            sign_as("Application/AT+JWT", &claims()),
        ),
        (
            "no kid and one key",
            with_header(r#"{"alg":"HS256","typ":"at+jwt"}"#),
        ),
        (
            "aud lists the gate",
            with_claim("aud", json!(["other", "gate"])),
        ),
        ("nbf has come", with_claim("nbf", json!(now))),
        ("no iat", without_claim("iat")),
        ("no jti", without_claim("jti")),
        ("no scope", without_claim("scope")),
        (
            "unknown claims",
            with_claims(|claims| claims["role"] = json!({"a": [1]})),
        ),
        (
            "a key elsewhere that is not looked up",
            with_header(r#"{"alg":"HS256","kid":"k1","typ":"at+jwt","jku":"http://127.0.0.1:1/"}"#),
        ),
    ] {
        for _ in 0..2 {
            assert_eq!(gate.get("/api/a", &token).status, 200, "{case}");
        }
    }
}

#[test]
fn access_and_refresh_tokens_cannot_stand_in_for_each_other() {
    let (upstream, gate) = start();
    let pair = gate.login("root", "memphis");
    let refresh = pair["jwt_refresh_token"].as_str().unwrap();
    for _ in 0..2 {
        assert_eq!(gate.get("/api/a", refresh).status, 401);
        let target = format!("/api/a?authorization={refresh}");
        assert_eq!(gate.request("GET", &target, "").status, 401);
    }
    assert!(upstream.seen().is_empty());
    let access = pair["jwt"].as_str().unwrap();
    assert_eq!(gate.get("/api/a", access).status, 200);
    let body = json!({"jwt_refresh_token": access}).to_string();
    assert_eq!(gate.post_json("/auth/refreshToken", &body).status, 401);
}

#[test]
fn a_cached_token_ends_at_its_exp() {
    let (_upstream, gate) = start();
    let exp = unix_now() + 2;
    let token = with_claim("exp", json!(exp));
    assert_eq!(gate.get("/api/a", &token).status, 200);
    let refused_at = wait_for("the token's end", || {
        let asked = unix_now();
        match gate.get("/api/a", &token).status {
            200 => {
                assert!(asked < exp, "accepted after exp");
                None
            }
            401 => Some(unix_now()),
            other => panic!("{other}"),
        }
    });
    assert!(refused_at >= exp, "refused before exp");
    assert!(gate.metric(r#"tollgate_token_cache_lookups_total{result="hit"}"#) > 0.0);
}

#[test]
fn leeway_lengthens_a_tokens_life_at_both_ends_and_no_further() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit("audience: gate", "audience: gate\n  leeway: 60s")
        .start();
    let now = unix_now();
    for (case, claim, at, status) in [
        ("expired within the leeway", "exp", now - 30, 200),
        ("expired before the leeway", "exp", now - 90, 401),
        ("valid within the leeway", "nbf", now + 30, 200),
        ("valid after the leeway", "nbf", now + 120, 401),
    ] {
        for _ in 0..2 {
            let token = with_claim(claim, json!(at));
            assert_eq!(gate.get("/api/a", &token).status, status, "{case}");
        }
    }
}
