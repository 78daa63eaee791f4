//! Clients that know only Basic, as those of STS-MQTT.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::gate::{Builder, Gate, claims, sign, users};
use crate::support::reload::reload;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/client/**
    upstream: app
    basic: { remember: 1h }
    login_page: https://users.example/login
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /own/**
    upstream: app
    basic: {}
    credential: login
  - path: /scoped/**
    upstream: app
    basic: {}
    require: { scopes: [ other ] }
  - path: /tokens/**
    upstream: app
";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

fn header(pair: &str) -> String {
    format!("authorization: {}\r\n", basic(pair))
}

const LOGINS: &str = r#"tollgate_logins_total{dialect="basic",reason="none",result="ok"}"#;

#[test]
fn a_pair_is_verified_once_and_translated_or_passed_on() {
    let (upstream, gate) = start();
    for (target, authorization) in [
        ("/api/client/1", basic("gate:s3cret")),
        ("/own/1", basic("root:memphis")),
    ] {
        for _ in 0..3 {
            let response = gate.request("GET", target, &header("root:memphis"));
            assert_eq!(response.status, 200, "{target}");
            assert_eq!(
                upstream.last().all("authorization"),
                [authorization.as_str()]
            );
        }
    }
    // Once for each time that it is remembered for.
    assert_eq!(gate.metric(LOGINS), 2.0);
    let line = gate.exchange("/own/1");
    assert_eq!(line["subject"], "root");
    assert_eq!(
        gate.request("GET", "/api/client/1", &header("root@example.com:memphis"))
            .status,
        200
    );
    // A token is as good there.
    assert_eq!(gate.get("/api/client/1", &sign(&claims())).status, 200);
    assert_eq!(
        gate.request("GET", "/scoped/1", &header("root:memphis"))
            .status,
        403
    );
}

#[test]
fn a_refused_pair_gets_401_as_json_and_never_reaches_the_upstream() {
    let (upstream, gate) = start();
    let known = header("root:memphis");
    assert_eq!(gate.request("GET", "/api/client/1", &known).status, 200);
    for headers in [
        "",
        &*header("root:no"),
        &*header("nobody:memphis"),
        &*header("root:"),
        &*header("rootmemphis"),
        &*header("root:memphis:"),
        "authorization: Basic !\r\n",
        "authorization: Basic\r\n",
    ] {
        let response = gate.request("GET", "/api/client/1", headers);
        assert_eq!(response.status, 401, "{headers}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert!(response.json()["message"].is_string(), "{headers}");
        let challenges = response
            .headers
            .iter()
            .filter(|(name, _)| name == "www-authenticate");
        let challenges: Vec<_> = challenges
            .map(|(_, value)| value.split(' ').next().unwrap())
            .collect();
        assert_eq!(challenges, ["Basic", "Bearer"], "{headers}");
        assert_eq!(response.header("location"), None);
    }
    for headers in [
        format!("{known}{known}"),
        format!("{known}authorization: Bearer {}\r\n", sign(&claims())),
    ] {
        assert_eq!(gate.request("GET", "/api/client/1", &headers).status, 400);
    }
    // Elsewhere Basic is no credential at all.
    assert_eq!(gate.request("GET", "/tokens/1", &known).status, 401);
    assert_eq!(upstream.seen().len(), 1);
    let log = gate.log();
    assert!(!log.contains("memphis") && !log.contains(&basic("root:memphis")));
}

#[test]
fn a_browser_that_asks_for_a_page_is_sent_to_the_login_page() {
    let (upstream, gate) = start();
    let html = "accept: application/xhtml+xml, text/html;q=0.9\r\n";
    let response = gate.request("GET", "/api/client/1?x=1", html);
    assert_eq!(response.status, 302);
    assert_eq!(
        response.header("location"),
        Some("https://users.example/login")
    );
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let headers = format!("{html}{}", header("root:no"));
    assert_eq!(gate.request("GET", "/api/client/1", &headers).status, 302);
    for (method, headers) in [
        ("GET", "accept: application/json\r\n".to_owned()),
        ("GET", "accept: */*\r\n".to_owned()),
        ("POST", format!("{html}content-length: 0\r\n")),
        ("GET", format!("{html}sec-fetch-mode: cors\r\n")),
    ] {
        assert_eq!(
            gate.request(method, "/api/client/1", &headers).status,
            401,
            "{headers}"
        );
    }
    assert_eq!(gate.request("GET", "/own/1", html).status, 401);
    let headers = format!("{html}{}", header("root:memphis"));
    assert_eq!(gate.request("GET", "/api/client/1", &headers).status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_remembered_pair_ends_with_its_password_or_with_a_revocation() {
    let (_upstream, gate) = start();
    let old = header("root:memphis");
    let ask = |headers: &str| gate.request("GET", "/api/client/1", headers).status;
    assert_eq!(ask(&old), 200);
    let revoked = crate::support::client::send(
        gate.admin,
        "POST /revoke HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 18\r\nconnection: close\r\n\r\n{\"subject\":\"root\"}",
    );
    assert_eq!(revoked.status, 200);
    // It has to prove itself again, and can.
    assert_eq!(ask(&old), 200);
    assert_eq!(gate.metric(LOGINS), 2.0);
    gate.folder()
        .write("users.yaml", users(&[("root", "changed", "[]")]));
    reload(&gate);
    assert_eq!((ask(&old), ask(&header("root:changed"))), (401, 200));
}

#[test]
fn guesses_by_basic_are_slowed_down_like_any_login() {
    let upstream = Upstream::start();
    let throttle = "throttle: { free_failures: 1, base_delay: 30s }";
    let gate = Builder::with_extra(upstream.address, ROUTES, throttle).start();
    let ask = |pair: &str| gate.request("GET", "/api/client/1", &header(pair));
    assert_eq!(ask("root:memphis").status, 200);
    assert_eq!([ask("root:a").status, ask("root:b").status], [401, 401]);
    let response = ask("root:c");
    assert_eq!(
        (response.status, response.json()["error"].clone()),
        (429, json!("throttled"))
    );
    assert!(response.header("retry-after").is_some());
    // Who is known already is not asked to prove anything.
    assert_eq!(ask("root:memphis").status, 200);
}

#[test]
fn what_cannot_be_meant_is_a_config_error() {
    for (route, text) in [
        (
            "{ path: /x, upstream: app, public: true, basic: {} }",
            "routes[0].basic",
        ),
        (
            "{ path: /x, upstream: app, login_page: \"http://a.example/\" }",
            "must be a path or an https:// URL",
        ),
        (
            "{ path: /x, upstream: app, basic: { remembered: 1s } }",
            "did you mean `remember`",
        ),
    ] {
        let gate = Builder::standard(([127, 0, 0, 1], 1).into(), &format!("  - {route}"));
        let errors = gate.run_to_end(&["check"]).stderr;
        let errors = String::from_utf8_lossy(&errors).into_owned();
        assert!(errors.contains(text), "{route}: {errors}");
    }
    let gate = Builder::standard(
        ([127, 0, 0, 1], 1).into(),
        "  - { path: /x, upstream: app }",
    )
    .edit("dialect: memphis", "dialect: basic");
    let errors = String::from_utf8_lossy(&gate.run_to_end(&["check"]).stderr).into_owned();
    assert!(
        errors.contains("give routes a `basic` section instead"),
        "{errors}"
    );
}
