//! What could be read as two requests, or as one for another host, is refused.

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::threat;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    forwarded: true
";

fn start() -> (Upstream, Gate, String) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let bearer = format!("authorization: Bearer {}\r\n", sign(&claims()));
    (upstream, gate, bearer)
}

#[test]
fn a_request_whose_host_is_in_doubt_is_refused() {
    let (upstream, gate, bearer) = start();
    let cases = [
        ("none", "/api/a", ""),
        ("empty", "/api/a", "host:\r\n"),
        (
            "repeated",
            "/api/a",
            "host: a.example\r\nhost: b.example\r\n",
        ),
        (
            "the same twice",
            "/api/a",
            "host: a.example\r\nhost: a.example\r\n",
        ),
        (
            "another in the target",
            "http://b.example/api/a",
            "host: a.example\r\n",
        ),
        (
            "another port in the target",
            "http://a.example:81/api/a",
            "host: a.example\r\n",
        ),
        (
            "a user in the target",
            "http://u@a.example/api/a",
            "host: u@a.example\r\n",
        ),
        // RFC 9112 section 3.2: an invalid field value is a 400.
        ("a user", "/api/a", "host: u@a.example\r\n"),
        ("a path", "/api/a", "host: a.example/b\r\n"),
        ("a query", "/api/a", "host: a.example?b\r\n"),
        ("a space", "/api/a", "host: a.example b\r\n"),
        ("a list", "/api/a", "host: a.example, b.example\r\n"),
        ("a port that is none", "/api/a", "host: a.example:x\r\n"),
        ("a fragment", "/api/a", "host: a.example#b\r\n"),
        ("a backslash", "/api/a", "host: a.example\\b\r\n"),
        (
            "a quote that ends Forwarded's",
            "/api/a",
            "host: a\";for=\"10.0.0.1\r\n",
        ),
    ];
    threat::count("hosts", cases.len());
    for (case, target, hosts) in cases {
        let response = gate.send(format!("GET {target} HTTP/1.1\r\n{hosts}{bearer}\r\n"));
        assert_eq!(response.status, 400, "{case}");
        assert_eq!(response.header("connection"), Some("close"), "{case}");
        let seen = upstream.seen().pop().map(|seen| seen.head);
        assert_eq!(seen, None, "{case}");
    }
}

#[test]
fn an_absolute_target_of_the_same_host_is_served() {
    let (upstream, gate, bearer) = start();
    let request = format!(
        "GET http://Gate.example:80/api/a?b HTTP/1.1\r\nhost: gate.example:80\r\n{bearer}\r\n"
    );
    assert_eq!(gate.send(request).status, 200);
    assert_eq!(upstream.last().target(), "/api/a?b");
}

#[test]
fn what_follows_a_refused_request_on_its_connection_is_judged_by_itself() {
    let (upstream, gate, bearer) = start();
    // The body of the first looks like a request that would pass.
    let inner = format!("GET /api/inner HTTP/1.1\r\nhost: gate.example\r\n{bearer}\r\n");
    let length = inner.len();
    let response = gate.send(format!(
        "POST /api/outer HTTP/1.1\r\nhost: gate.example\r\ncontent-length: {length}\r\n\r\n{inner}"
    ));
    assert_eq!(response.status, 401);
    assert!(upstream.seen().is_empty());
}
