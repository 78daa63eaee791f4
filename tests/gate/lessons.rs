//! What broke other gates does not break this one. Each test names what it learned from.

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::threat;
use crate::support::tokens::with_claim;
use crate::support::upstream::Upstream;
use serde_json::json;

const ROUTES: &str = "
  - { path: /public/**, upstream: app, public: true }
  - { path: /admin/**, upstream: app, require: { scopes: [ admin ] } }
  - { path: /app/**, upstream: app }
  - { path: /**, upstream: app }
";

fn start(trusted: &str) -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .trusting(trusted)
        .start();
    (upstream, gate)
}

/// A good token whose user is nobody special.
fn plain() -> String {
    with_claim("scope", json!("read"))
}

/// Headers by which some gates let themselves be told what is asked for, with what would be let
/// through.
const TARGETS: [(&str, &str); 27] = [
    ("X-Forwarded-Uri", "/public/a"),
    ("X-Forwarded-Path", "/public/a"),
    ("X-Forwarded-Prefix", "/public"),
    ("X-Forwarded-Method", "OPTIONS"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Host", "localhost"),
    ("X-Forwarded-Server", "localhost"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Original-URL", "/public/a"),
    ("X-Original-URI", "/public/a"),
    ("X-Original-Method", "OPTIONS"),
    ("X-Original-Host", "localhost"),
    ("X-Original-Forwarded-For", "127.0.0.1"),
    ("X-Rewrite-URL", "/public/a"),
    ("X-Rewrite-URI", "/public/a"),
    ("X-HTTP-Method", "OPTIONS"),
    ("X-HTTP-Method-Override", "OPTIONS"),
    ("X-Method-Override", "OPTIONS"),
    ("X-Envoy-Original-Path", "/public/a"),
    ("X-Envoy-Internal", "true"),
    ("X-Auth-Request-Redirect", "/public/a"),
    ("X-Host", "localhost"),
    ("X-Script-Name", "/public"),
    ("X-Middleware-Subrequest", "middleware"),
    ("Forwarded", "for=127.0.0.1;host=localhost;proto=https"),
];

/// oauth2-proxy CVE-2026-40575, Envoy CVE-2023-27487, Oathkeeper, Traefik.
#[test]
fn a_policy_is_never_picked_by_a_header() {
    let (token, mut cases) = (plain(), 0);
    for trusted in ["", "127.0.0.0/8"] {
        let (upstream, gate) = start(trusted);
        for (name, value) in TARGETS {
            for name in [name.to_owned(), name.replace('-', "_")] {
                let header = format!("{name}: {value}\r\n");
                let bearer = format!("{header}authorization: Bearer {token}\r\n");
                for (target, headers, status) in [
                    ("/app/a", &header, 401),
                    ("/admin/a", &header, 401),
                    ("/admin/a", &bearer, 403),
                ] {
                    let response = gate.request("GET", target, headers);
                    assert_eq!(response.status, status, "{target} {header} {trusted}");
                    cases += 1;
                }
                assert!(upstream.seen().is_empty(), "{header}");
            }
        }
    }
    threat::count("targets by header", cases);
}

/// oauth2-proxy CVE-2025-64484, Traefik CVE-2026-39858, Caddy CVE-2026-30851: also where the gate
/// writes no such header itself, and in every spelling that a back end could fold together.
#[test]
fn an_identity_headers_twin_is_dropped_where_the_gate_sets_none() {
    let (upstream, gate) = start("");
    let bearer = format!("authorization: Bearer {}\r\n", plain());
    let names = [
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-Access-Token",
        "X-Auth-Request-User",
        "X-Auth-Request-Groups",
        "X-Auth-User",
        "X-Authentik-Username",
        "X-Pomerium-Jwt-Assertion",
        "X-Goog-Authenticated-User-Email",
        "X-Remote-User",
        "X-WebAuth-User",
        "X-User-Roles",
        "X-Userinfo",
        "X-Id-Token",
        "X-Jwt-Payload",
        "Remote-User",
        "Remote-Groups",
        "Proxy-Authorization",
        "X-Api-Key",
        "X-Real-Ip",
    ];
    let mut cases = 0;
    for name in names {
        for spelling in [
            name.to_owned(),
            name.to_uppercase(),
            name.replace('-', "_"),
            name.replacen('-', "_", 1),
            name.replace('-', "_").to_uppercase(),
            name.replace('-', "."),
            name.replace('-', "!"),
            name.replace('-', "~"),
        ] {
            let header = format!("{spelling}: f0rged\r\n");
            for (target, headers) in [
                ("/public/a", header.clone()),
                ("/app/a", format!("{bearer}{header}")),
            ] {
                assert_eq!(gate.request("GET", target, &headers).status, 200);
                let head = upstream.last().head;
                assert!(!head.contains("f0rged"), "{spelling}: {head}");
                cases += 1;
            }
        }
    }
    threat::count("twins of identity headers", cases);
}

/// A back end that folds names would frame the message by these.
#[test]
fn a_twin_of_a_framing_header_is_dropped() {
    let (upstream, gate) = start("");
    for name in [
        "Content_Length",
        "content.length",
        "CONTENT_LENGTH",
        "Transfer_Encoding",
        "transfer.encoding",
        "Transfer!Encoding",
    ] {
        for value in ["5", "chunked"] {
            let response = gate.send(format!(
                "POST /public/a HTTP/1.1\r\nhost: gate.example\r\n{name}: {value}\r\n\
                 content-length: 2\r\n\r\nhi"
            ));
            assert_eq!(response.status, 200, "{name}");
            let head = upstream.last().head.to_lowercase();
            assert!(!head.contains(&name.to_lowercase()), "{name}: {head}");
            assert_eq!(upstream.last().body, b"hi", "{name}");
        }
    }
    threat::count("twins of framing headers", 12);
}

/// oauth2-proxy GHSA-5hvv: a health check's `User-Agent` let everything through.
#[test]
fn who_says_that_it_checks_health_needs_a_token_all_the_same() {
    let (upstream, gate) = start("");
    let agents = [
        "GoogleHC/1.0",
        "kube-probe/1.31",
        "ELB-HealthChecker/2.0",
        "Envoy/HC",
        "Consul Health Check",
    ];
    let mut cases = 0;
    for agent in agents {
        let header = format!("user-agent: {agent}\r\n");
        for path in [
            "/app/a", "/", "/livez", "/readyz", "/metrics", "/healthz", "/ping", "/keys",
        ] {
            assert_eq!(
                gate.request("GET", path, &header).status,
                401,
                "{agent} {path}"
            );
            cases += 1;
        }
    }
    assert!(upstream.seen().is_empty());
    threat::count("health checks", cases);
}

/// Istio CVE-2026-31838: of several values only the first was read.
#[test]
fn every_value_of_a_repeated_header_counts() {
    let (upstream, gate) = start("");
    let token = sign(&claims());
    let bearer = format!("authorization: Bearer {token}\r\n");
    let both = format!("authorization: Bearer junk\r\n{bearer}");
    let twice = format!("{bearer}{bearer}");
    let other_scheme = format!("{bearer}authorization: Basic cm9vdDpyb290\r\n");
    for headers in [&both, &twice, &other_scheme] {
        assert_eq!(
            gate.request("GET", "/app/a", headers).status,
            400,
            "{headers}"
        );
        assert!(upstream.seen().is_empty());
    }
    let referers = format!(
        "{bearer}referer: https://gate.example/a\r\n\
         referer: https://gate.example/a?authorization={token}\r\n"
    );
    let lists = format!("{bearer}connection: x-a\r\nconnection: x-b\r\nx-a: h0p\r\nx-b: h0p\r\n");
    for (headers, secret) in [(&referers, &*token), (&lists, "h0p")] {
        assert_eq!(gate.request("GET", "/app/a", headers).status, 200);
        let head = upstream.last().head;
        assert!(!head.contains(secret), "{head}");
    }
    threat::count("repeated headers", 5);
}

/// Envoy CVE-2022-29226, Istio CVE-2026-31837: a bypass that let any token pass.
#[test]
fn a_public_route_makes_no_token_good_elsewhere() {
    let (upstream, gate) = start("");
    let forged = format!("{}x", sign(&claims()));
    for _ in 0..3 {
        assert_eq!(gate.get("/public/a", &forged).status, 200);
        assert_eq!(gate.get("/app/a", &forged).status, 401);
    }
    assert_eq!(upstream.seen().len(), 3);
    threat::count("bypasses", 3);
}
