//! What pages of other sites may do: by the dialect's word, as the Memphis UI calls its gateway from
//! the browser, or by that of a route or login.

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::threat;
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

const OWN_ROUTES: &str = "
  - path: /one/**
    methods: [ GET, PUT ]
    upstream: app
    public: true
    cors: { origins: [ 'https://ui.example', 'https://*.ui.example:8443', 'http://127.0.0.1:3000' ], expose: [ x-total ], credentials: true, max_age: 5m }
  - path: /guarded/**
    upstream: app
    cors: { origins: [ 'https://ui.example' ], methods: [ GET ], headers: [ authorization, x-custom ] }
  - path: /all/**
    upstream: app
    public: true
    cors: { origins: [ '*' ], headers: [ '*' ] }
  - path: /sandbox/**
    upstream: app
    public: true
    cors: { origins: [], danger_null_origin: true }
  - path: /other/**
    methods: [ OPTIONS, GET ]
    upstream: app
    public: true
    dialect: jmvstream
";

/// An upstream with a word of its own on origins.
fn start_own() -> (Upstream, Gate) {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://evil.example\r\n\
         access-control-allow-credentials: true\r\naccess-control-expose-headers: x-secret\r\n\
         access-control-allow-private-network: true\r\nvary: accept-encoding\r\n\
         content-length: 0\r\n\r\n",
    );
    let login = "login: [ { dialect: memphis, cors: { origins: [ 'https://ui.example' ] } } ]";
    let gate = Builder::standard(upstream.address, OWN_ROUTES)
        .line("login:", login)
        .start();
    (upstream, gate)
}

/// What an answer says of origins, and by what it varies.
fn word(response: &Response) -> Vec<(&str, &str)> {
    let is_word = |name: &str| name.starts_with("access-control-") || name == "vary";
    let words = response.headers.iter().filter(|(name, _)| is_word(name));
    let mut words: Vec<_> = words
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    words.sort_unstable();
    words
}

#[test]
fn a_page_of_an_origin_that_is_listed_may_call_and_there_is_one_word_on_it() {
    let (upstream, gate) = start_own();
    for origin in [
        "https://ui.example",
        "https://a.ui.example:8443",
        "http://127.0.0.1:3000",
    ] {
        let response = gate.request("GET", "/one/a", &format!("origin: {origin}\r\n"));
        assert_eq!(response.status, 200, "{origin}");
        let expected = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", "x-total"),
            ("vary", "Origin"),
            ("vary", "accept-encoding"),
        ];
        assert_eq!(word(&response), expected);
        let seen = upstream.last();
        assert_eq!(
            seen.header("origin"),
            Some(origin),
            "the upstream may judge it, too"
        );
    }
    // Also to who names no origin: a cache may give the answer to one who does.
    for origin in ["origin: https://any.example\r\n", ""] {
        let response = gate.request("GET", "/all/a", origin);
        let expected = [
            ("access-control-allow-origin", "*"),
            ("vary", "accept-encoding"),
        ];
        assert_eq!(word(&response), expected, "{origin}");
    }
    let response = gate.request("GET", "/sandbox/a", "origin: null\r\n");
    assert!(word(&response).contains(&("access-control-allow-origin", "null")));
    // Caches must not hand one page's answer to another.
    let response = gate.request("GET", "/one/a", "");
    assert_eq!(
        word(&response),
        [("vary", "Origin"), ("vary", "accept-encoding")]
    );
}

/// Who is not `https://ui.example`, `https://*.ui.example:8443` or `http://127.0.0.1:3000`.
const STRANGERS: [&str; 30] = [
    "https://ui.example.evil.example",
    "https://evil-ui.example",
    "https://evilui.example",
    "https://ui.exampl",
    "https://ui.example.",
    "https://ui.examplee",
    "http://ui.example",
    "https://ui.example:443",
    "https://ui.example:8443",
    "https://ui.example:80",
    "https://ui.example/",
    "https://ui.example/path",
    "https://UI.example",
    "HTTPS://ui.example",
    "https://user@ui.example",
    "https://ui.example@evil.example",
    "https://ui.example#evil.example",
    "https://ui.example, https://evil.example",
    "https://a.ui.example",
    "https://a.b.ui.example:8443",
    "https://.ui.example:8443",
    "https://*.ui.example:8443",
    "https://evil.example/.ui.example:8443",
    "https://evil.example?.ui.example:8443",
    "https://a_b.ui.example:8443",
    "https://xn--u-fga.example",
    "http://127.0.0.1",
    "http://127.0.0.1:30001",
    "null",
    "",
];

#[test]
fn nobody_else_may() {
    let (upstream, gate) = start_own();
    let two = "https://ui.example\r\norigin: https://ui.example";
    for origin in STRANGERS.into_iter().chain([two]) {
        let line = format!("origin: {origin}\r\n");
        let response = gate.request("GET", "/one/a", &line);
        assert_eq!(
            response.status, 200,
            "{origin}: it is the page that may not read"
        );
        let expected = [("vary", "Origin"), ("vary", "accept-encoding")];
        assert_eq!(word(&response), expected, "{origin}");
        let asked = format!("{line}access-control-request-method: GET\r\n");
        let before = upstream.seen().len();
        for target in ["/one/a", "/guarded/a", "/auth/authenticate"] {
            let response = gate.request("OPTIONS", target, &asked);
            assert_eq!(response.status, 204, "{origin} {target}");
            assert!(
                response
                    .headers
                    .iter()
                    .all(|(name, _)| !name.starts_with("access-control-")),
                "{origin} {target}"
            );
        }
        assert_eq!(upstream.seen().len(), before, "{origin}");
    }
    threat::count("origins", STRANGERS.len() + 1);
}

#[test]
fn a_preflight_allows_what_the_route_does_and_no_more() {
    let (upstream, gate) = start_own();
    let ask = |target: &str, method: &str, headers: &str| {
        let lines = format!(
            "origin: https://ui.example\r\naccess-control-request-method: {method}\r\n\
             access-control-request-headers: {headers}\r\naccess-control-request-private-network: true\r\n"
        );
        gate.request("OPTIONS", target, &lines)
    };
    let response = ask("/one/a", "PUT", "content-type,x-custom, Authorization");
    let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    let expected = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "content-type,authorization"),
        ("access-control-allow-methods", "GET,PUT"),
        ("access-control-allow-origin", "https://ui.example"),
        ("access-control-expose-headers", "x-total"),
        ("access-control-max-age", "300"),
        ("vary", vary),
    ];
    assert_eq!((response.status, word(&response)), (204, expected.to_vec()));
    let response = ask("/guarded/a", "GET", "x-custom,x-other");
    assert_eq!(response.header("access-control-allow-methods"), Some("GET"));
    assert_eq!(
        response.header("access-control-allow-headers"),
        Some("x-custom")
    );
    assert_eq!(response.header("access-control-max-age"), Some("600"));
    let response = ask("/all/a", "DELETE", "x-any,<>,x-other");
    assert_eq!(
        response.header("access-control-allow-headers"),
        Some("x-any,x-other")
    );
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    // The route takes it, pages may not use it.
    let response = ask("/guarded/a", "DELETE", "x-custom");
    assert_eq!(response.status, 204);
    assert_eq!(response.header("access-control-allow-methods"), None);
    assert!(upstream.seen().is_empty());
    // No route takes it at all.
    assert_eq!(ask("/one/a", "DELETE", "").status, 405);
    assert_eq!(ask("/nowhere", "GET", "").status, 404);
    // A route without a section goes by its dialect, here nobody's.
    assert_eq!(ask("/other/a", "GET", "").status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_page_may_read_why_it_was_refused_and_log_in_where_the_login_says_so() {
    let (_upstream, gate) = start_own();
    let origin = "origin: https://ui.example\r\n";
    let allowed = Some("https://ui.example");
    for (method, target, status) in [
        ("GET", "/guarded/a", 401),
        ("POST", "/auth/authenticate", 400),
        ("GET", "/auth/authenticate", 405),
    ] {
        let response = gate.request(method, target, origin);
        assert_eq!(response.status, status, "{target}");
        assert_eq!(
            response.header("access-control-allow-origin"),
            allowed,
            "{target}"
        );
        let response = gate.request(method, target, "origin: https://evil.example\r\n");
        assert_eq!(
            response.header("access-control-allow-origin"),
            None,
            "{target}"
        );
        assert_eq!(response.header("vary"), Some("Origin"), "{target}");
    }
    let dead = Upstream::scripted(|_, _| false);
    let gate = Builder::standard(dead.address, OWN_ROUTES).start();
    let response = gate.request("GET", "/one/a", origin);
    assert_eq!(response.status, 502);
    assert_eq!(response.header("access-control-allow-origin"), allowed);
}

#[test]
fn a_section_that_could_not_be_meant_is_refused() {
    let upstream = Upstream::start();
    let origins = "origins: [ 'https://ui.example' ]";
    for (section, told) in [
        ("origins: []", "is empty"),
        ("origins: [ '*' ], credentials: true", "name the origins"),
        (
            "origins: [ 'ui.example' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'https://ui.example/' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'https://UI.example' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'https://ui.example:443' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'https://ui.example.' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'https://u@ui.example' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'https://\u{fc}i.example' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'ftp://ui.example' ]",
            "not an origin as browsers write it",
        ),
        ("origins: [ 'null' ]", "not an origin as browsers write it"),
        (
            "origins: [ 'https://a.*.example' ]",
            "not an origin as browsers write it",
        ),
        (
            "origins: [ 'https://*ui.example' ]",
            "not an origin as browsers write it",
        ),
        ("origins: [ 'https://*.com' ]", "whole top-level domain"),
        (
            &format!("{origins}, methods: [ DELETE ]"),
            "does not take DELETE",
        ),
        (
            &format!("{origins}, headers: [ 'a b' ]"),
            "not a header's name",
        ),
        (
            &format!("{origins}, expose: [ 'a b' ]"),
            "not a header's name",
        ),
    ] {
        let routes = format!(
            "  - {{ path: /a/**, methods: [ GET, POST ], upstream: app, cors: {{ {section} }} }}"
        );
        let output = Builder::standard(upstream.address, &routes).run_to_end(&["check"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{section}: {text}");
        assert!(text.contains(told), "{section}: {text}");
    }
}
