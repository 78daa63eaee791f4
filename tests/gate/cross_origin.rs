//! What pages of other sites may do: the Memphis UI calls its gateway from the browser.

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /stations/**
    methods: [POST]
    upstream: app
";
const ORIGIN: &str = "Origin: https://ui.example\r\n";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

#[test]
fn a_preflight_is_answered_without_a_token_and_goes_no_further() {
    let (upstream, gate) = start();
    for target in [
        "/auth/authenticate",
        "/auth/refreshToken",
        "/stations/s/produce/single",
        "/stations/s/produce/single?authorization=x",
    ] {
        let headers = format!(
            "{ORIGIN}Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization,content-type, x-custom\r\n"
        );
        let response = gate.request("OPTIONS", target, &headers);
        assert_eq!((response.status, response.body.len()), (204, 0), "{target}");
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("*"),
            "{target}"
        );
        let echoed = response.header("access-control-allow-headers");
        assert_eq!(
            echoed,
            Some("authorization,content-type, x-custom"),
            "{target}"
        );
        let methods = response.header("access-control-allow-methods").unwrap();
        assert!(methods.contains("POST"), "{target}: {methods}");
        // With `*` no page could use the browser's own cookies.
        assert_eq!(
            response.header("access-control-allow-credentials"),
            None,
            "{target}"
        );
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_options_request_that_is_no_preflight_needs_a_token_and_a_route() {
    let (upstream, gate) = start();
    let asked = "Access-Control-Request-Method: POST\r\n";
    for (case, target, headers, status) in [
        ("no origin", "/stations/s", asked.to_owned(), 405),
        ("no method asked", "/stations/s", ORIGIN.to_owned(), 405),
        ("no route", "/elsewhere", format!("{ORIGIN}{asked}"), 404),
        (
            "a method without route",
            "/stations/s",
            format!("{ORIGIN}Access-Control-Request-Method: DELETE\r\n"),
            405,
        ),
    ] {
        let response = gate.request("OPTIONS", target, &headers);
        assert_eq!(response.status, status, "{case}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_page_of_another_site_may_read_answers_and_refusals() {
    let (_upstream, gate) = start();
    let bearer = format!("{ORIGIN}authorization: Bearer {}\r\n", sign(&claims()));
    for (case, method, target, headers, status) in [
        ("an answer", "POST", "/stations/s", &*bearer, 200),
        ("a refusal", "POST", "/stations/s", ORIGIN, 401),
        (
            "a malformed login",
            "POST",
            "/auth/authenticate",
            ORIGIN,
            400,
        ),
        ("a wrong method", "GET", "/auth/authenticate", ORIGIN, 405),
    ] {
        let response = gate.request(method, target, headers);
        assert_eq!(response.status, status, "{case}");
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("*"),
            "{case}"
        );
    }
    let response = gate.request("POST", "/stations/s", "");
    assert_eq!(
        response.header("access-control-allow-origin"),
        None,
        "no origin"
    );
}

#[test]
fn an_upstreams_own_word_on_origins_is_not_doubled() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://ui.example\r\n\
         content-length: 0\r\n\r\n",
    );
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let headers = format!("{ORIGIN}authorization: Bearer {}\r\n", sign(&claims()));
    let response = gate.request("POST", "/stations/s", &headers);
    assert!(response.header("access-control-allow-origin").is_some());
}
