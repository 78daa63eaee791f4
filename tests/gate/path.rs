//! Which path and query reach the upstream, and which never do.

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /slash/**
    upstream: app
    allow_in_path: [encoded_slash, trailing_dot]
  - path: /public/**
    upstream: app
    public: true
";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

#[test]
fn a_logged_in_client_reaches_the_upstream_with_basic_credentials_alone() {
    let (upstream, gate) = start();
    let token = gate.token("root", "memphis");
    let response = gate.get("/api/overview?a=1", &token);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let seen = upstream.last();
    assert_eq!(seen.target(), "/api/overview?a=1");
    assert_eq!(seen.all("authorization"), ["Basic Z2F0ZTpzM2NyZXQ="]);
    assert!(!seen.head.contains(&token));
}

#[test]
fn path_bytes_reach_the_upstream_as_they_came() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    for target in [
        "/slash/%2F/amq.direct",
        "/slash/%2f",
        "/slash/a%2Fb%20c",
        "/slash/%20/%7E/%41",
        "/slash/password_based%3Abuilt_in_database",
        "/slash/%C3%A4/%c3%a4",
        "/slash/~a!$&'()*+,=:@-._",
        "/slash/100%25",
        "/slash/a...b/..c/...",
        "/slash/",
        "/slash",
        "/api/%3A/%3a",
        "/api/x/",
        "/api/q?",
        "/api/q?a=b%2Fc&&--flag&x=1&y=/?:@%ZZ",
    ] {
        let response = gate.get(target, &token);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(upstream.last().target(), target);
    }
}

#[test]
fn a_path_with_two_readings_reaches_no_upstream() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    for path in [
        "/api/../slash/x",
        "/api/./x",
        "/api/..",
        "/api/.",
        "/api/%2e%2e/x",
        "/api/%2E%2e",
        "/api/.%2e/x",
        "/api/%2e",
        "/slash/a%2f..%2fb",
        "/slash/..%2f",
        "/slash/%2f%2e%2e",
        "/api/a%2Fb",
        "/api/a%2fb",
        "/api%2Fx",
        "/api/a\\b",
        "/api/a%5cb",
        "/api/a%5C..%5Cb",
        "/api//x",
        "/api/x//",
        "/slash//x",
        "/api/%00",
        "/api/a%0d%0aX-Forged:%201",
        "/api/a%09",
        "/api/%7f",
        "/api/%zz",
        "/api/%2",
        "/api/%",
        "/api/%u002e",
        "/api/%ff",
        "/api/%c0%ae%c0%ae/x",
        "/api/%252e%252e/x",
        "/slash/a%252fb",
        "/api/a;b=c",
        "/api/a%3Bb",
        "/api/..;/x",
        "/api/%2e%2e%3b/x",
        "/public/../api/x",
        "/public/%2e%2e/api/x",
        "/public/a%2fb",
    ] {
        let status = gate.get(path, &token).status;
        // A path that no route could match either way is simply not found.
        let is_nowhere = path == "/api%2Fx" && status == 404;
        assert!(status == 400 || is_nowhere, "{path}: {status}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn only_the_tokens_pair_is_cut_out_of_the_query() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    for name in ["authorization", "access_token", "%61uthorization"] {
        for (query, left) in [
            ("T&a=b%2Fc&&--flag&x=1", "?a=b%2Fc&&--flag&x=1"),
            ("a=b%2Fc&T&&--flag&x=1", "?a=b%2Fc&&--flag&x=1"),
            ("a=b%2Fc&&--flag&x=1&T", "?a=b%2Fc&&--flag&x=1"),
            ("T", ""),
            ("x=1&x=2&T&x=0&=&y", "?x=1&x=2&x=0&=&y"),
            (
                "Authorization=1&T&xauthorization=2",
                "?Authorization=1&xauthorization=2",
            ),
            ("a=authorization&T", "?a=authorization"),
        ] {
            let query = query.replace('T', &format!("{name}={token}"));
            let response = gate.request("GET", &format!("/api/q?{query}"), "");
            assert_eq!(response.status, 200, "{name}: {query}");
            let seen = upstream.last();
            assert_eq!(seen.target(), format!("/api/q{left}"), "{name}: {query}");
            assert!(!seen.head.contains(&token), "{name}: {query}");
        }
    }
}

#[test]
fn a_public_route_needs_no_token_and_hands_none_on() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    for (target, headers, arrives) in [
        ("/public/a?x=1", String::new(), "/public/a?x=1"),
        (
            "/public/a",
            format!("authorization: Bearer {token}\r\n"),
            "/public/a",
        ),
        (
            "/public/a",
            "authorization: Basic cm9vdDpyb290\r\n".to_owned(),
            "/public/a",
        ),
        (
            "/public/a?x&authorization=TOKEN&y",
            String::new(),
            "/public/a?x&y",
        ),
        ("/public/a?access_token=TOKEN", String::new(), "/public/a"),
        (
            "/public/a?authorization=junk&access_token=junk",
            String::new(),
            "/public/a",
        ),
    ] {
        let target = target.replace("TOKEN", &token);
        let response = gate.request("GET", &target, &headers);
        assert_eq!(response.status, 200, "{target}");
        let seen = upstream.last();
        assert_eq!(seen.target(), arrives);
        assert_eq!(seen.all("authorization"), [""; 0], "{target}");
        assert!(!seen.head.contains(&token), "{target}");
    }
}

#[test]
fn an_answer_to_a_url_with_a_token_is_kept_out_of_caches_and_referers() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncache-control: public, max-age=600\r\nreferrer-policy: unsafe-url\r\n\
         content-length: 2\r\n\r\nok",
    );
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let good = sign(&claims());
    let both = format!("authorization: Bearer {good}\r\n");
    for (case, target, headers, status) in [
        ("accepted", format!("/api/a?authorization={good}"), "", 200),
        ("accepted", format!("/api/a?access_token={good}"), "", 200),
        ("refused", "/api/a?authorization=junk".to_owned(), "", 401),
        ("public", format!("/public/a?authorization={good}"), "", 200),
        (
            "in two places",
            format!("/api/a?authorization={good}"),
            &*both,
            400,
        ),
        (
            "twice",
            format!("/api/a?authorization={good}&access_token={good}"),
            "",
            400,
        ),
    ] {
        let response = gate.request("GET", &target, headers);
        assert_eq!(response.status, status, "{case}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{case}");
        let policy = response.header("referrer-policy");
        assert_eq!(policy, Some("no-referrer"), "{case}");
    }
    let response = gate.get("/api/a", &good);
    let cached = response.header("cache-control");
    assert_eq!(cached, Some("public, max-age=600"), "no token in the URL");
}
