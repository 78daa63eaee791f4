//! What could be read as two requests, or as one for another host, is refused.

use std::io::{Read, Write};

use crate::support::client;
use crate::support::gate::{Builder, Gate, claims, sign};
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
    for (case, target, hosts) in [
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
    ] {
        let response = gate.send(format!("GET {target} HTTP/1.1\r\n{hosts}{bearer}\r\n"));
        assert_eq!(response.status, 400, "{case}");
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
fn a_body_whose_end_is_in_doubt_is_refused() {
    let (upstream, gate, bearer) = start();
    for (case, framing) in [
        ("two lengths", "content-length: 2\r\ncontent-length: 3\r\n"),
        ("a list of lengths", "content-length: 2, 3\r\n"),
        ("a signed length", "content-length: +2\r\n"),
        (
            "a coding that is not chunked",
            "transfer-encoding: gzip\r\n",
        ),
        (
            "chunked in the middle",
            "transfer-encoding: chunked, gzip\r\n",
        ),
        ("a misspelt coding", "transfer-encoding: xchunked\r\n"),
        (
            "a coding with a parameter",
            "transfer-encoding: chunked;x=1\r\n",
        ),
        ("a space before the colon", "content-length : 2\r\n"),
        ("a folded line", "x-a: b\r\n c: d\r\n"),
        // RFC 9112 section 6.1: chunked once; a coding that is not undone must not be lost.
        ("chunked twice", "transfer-encoding: chunked, chunked\r\n"),
        (
            "chunked in two lines",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ),
        ("gzip below chunked", "transfer-encoding: gzip, chunked\r\n"),
    ] {
        let response = gate.send(format!(
            "POST /api/a HTTP/1.1\r\nhost: gate.example\r\n{bearer}{framing}\r\n0\r\n\r\n"
        ));
        let status = response.status;
        assert!(matches!(status, 400 | 501), "{case}: {status}");
        assert!(upstream.seen().is_empty(), "{case}");
    }
}

#[test]
fn a_body_with_length_and_coding_goes_by_its_coding_and_ends_its_connection() {
    let (upstream, gate, bearer) = start();
    let length = "content-length: 5\r\n";
    let coding = "transfer-encoding: chunked\r\n";
    for (case, framing) in [
        ("length first", format!("{length}{coding}")),
        ("coding first", format!("{coding}{length}")),
    ] {
        let before = upstream.seen().len();
        let mut stream = client::connect(gate.address());
        // RFC 9112 section 6.1: what follows must not be taken for another request.
        let request = format!(
            "POST /api/a HTTP/1.1\r\nhost: gate.example\r\n{bearer}{framing}\r\n2\r\nhi\r\n0\r\n\r\n\
             GET /api/smuggled HTTP/1.1\r\nhost: gate.example\r\n{bearer}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(
            client::read_response(&mut stream, false).status,
            200,
            "{case}"
        );
        let mut rest = Vec::new();
        // The end may come as a reset, since bytes were left unread.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{case}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), before + 1, "{case}");
        assert_eq!(seen[before].header("content-length"), None, "{case}");
        assert_eq!(
            seen[before].header("transfer-encoding"),
            Some("chunked"),
            "{case}"
        );
        assert_eq!(seen[before].body, b"hi", "{case}");
    }
}

#[test]
fn methods_that_reach_around_the_gate_are_refused() {
    let (upstream, gate, bearer) = start();
    for (method, target) in [
        ("CONNECT", "gate.example:443"),
        ("CONNECT", "/api/a"),
        ("TRACE", "/api/a"),
        ("OPTIONS", "*"),
    ] {
        let response = gate.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: gate.example:443\r\n{bearer}\r\n"
        ));
        assert_eq!(response.status, 400, "{method} {target}");
    }
    assert!(upstream.seen().is_empty());
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
