//! Which route a request takes, and what a route demands.

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::tokens::with_claim;
use crate::support::upstream::Upstream;

/// Each route tells the upstream its name.
fn routes(routes: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, keys) in routes {
        text += &format!(
            "  - {{ name: {name}, upstream: app, {keys}, set_headers: {{ X-Route: {name} }} }}\n"
        );
    }
    text
}

fn start(list: &[(&str, &str)]) -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, &routes(list)).start();
    (upstream, gate)
}

fn taken(upstream: &Upstream, gate: &Gate, method: &str, host: &str, path: &str) -> String {
    let token = sign(&claims());
    let response = gate.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"
    ));
    assert_eq!(response.status, 200, "{method} {host}{path}");
    upstream.last().header("x-route").unwrap().to_owned()
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let mut list = [
        ("all", "path: /**"),
        ("below-a", "path: /a/**"),
        ("one-in-a", "path: /a/*"),
        ("b", "path: /a/b"),
        ("below-b", "path: /a/b/**"),
        ("c", "path: /a/*/c"),
        ("d", "path: /a/*/d/**"),
        ("encoded", "path: /a/x%20y"),
    ];
    for _ in 0..2 {
        let (upstream, gate) = start(&list);
        for (path, name) in [
            ("/", "all"),
            ("/other", "all"),
            ("/a", "below-a"),
            ("/a/", "below-a"),
            ("/a/b", "b"),
            ("/a/%62", "b"),
            ("/a/B", "one-in-a"),
            ("/a/b/", "below-b"),
            ("/a/b/c", "below-b"),
            ("/a/x/c", "c"),
            ("/a/x/d", "d"),
            ("/a/x/d/e", "d"),
            ("/a/x/e", "below-a"),
            ("/a/x", "one-in-a"),
            ("/a/x%20y", "encoded"),
            ("/a/x%20z", "one-in-a"),
        ] {
            let route = taken(&upstream, &gate, "GET", "gate.example", path);
            assert_eq!(route, name, "{path}");
        }
        list.reverse();
    }
}

#[test]
fn an_exact_host_wins_over_a_wildcard_over_any() {
    let (upstream, gate) = start(&[
        ("any", "path: /**"),
        ("any-literal", "path: /a/b"),
        ("exact", "host: Broker.Example, path: /**"),
        ("wildcard", "host: '*.example', path: /**"),
        ("longer", "host: '*.eu.example', path: /**"),
        ("only", "host: only.test, path: /one"),
    ]);
    for (host, path, name) in [
        ("broker.example", "/a/b", "exact"),
        ("BROKER.example", "/x", "exact"),
        ("broker.example:8443", "/x", "exact"),
        ("broker.example.", "/x", "exact"),
        ("Broker.Example.:443", "/x", "exact"),
        ("other.example", "/a/b", "wildcard"),
        ("a.broker.example", "/x", "wildcard"),
        ("a.eu.example", "/x", "longer"),
        ("a.b.eu.example", "/x", "longer"),
        ("eu.example", "/x", "wildcard"),
        ("example", "/x", "any"),
        ("notexample", "/a/b", "any-literal"),
        ("broker.example.evil.test", "/x", "any"),
        ("only.test", "/one", "only"),
        ("only.test", "/two", "any"),
        ("127.0.0.1:80", "/x", "any"),
        ("[::1]:80", "/x", "any"),
    ] {
        let route = taken(&upstream, &gate, "GET", host, path);
        assert_eq!(route, name, "{host}{path}");
    }
}

#[test]
fn a_route_with_methods_wins_over_one_without() {
    let (upstream, gate) = start(&[
        ("others", "path: /m"),
        ("reads", "path: /m, methods: [GET, head]"),
        ("writes", "path: /m, methods: [PUT]"),
        ("star", "path: /*, methods: [DELETE]"),
        ("rest", "path: /**"),
        ("literal", "path: /n, methods: [GET]"),
    ]);
    for (method, path, name) in [
        ("GET", "/m", "reads"),
        ("HEAD", "/m", "reads"),
        ("PUT", "/m", "writes"),
        ("POST", "/m", "others"),
        ("DELETE", "/m", "others"),
        // A route whose methods do not fit does not match; the next specific one does.
        ("GET", "/n", "literal"),
        ("DELETE", "/n", "star"),
        ("POST", "/n", "rest"),
    ] {
        let route = taken(&upstream, &gate, method, "gate.example", path);
        assert_eq!(route, name, "{method} {path}");
    }
}

#[test]
fn a_wrong_method_is_told_which_ones_are_right_and_goes_no_further() {
    let (upstream, gate) = start(&[
        ("a", "path: /only, methods: [PUT, GET]"),
        ("b", "path: /only, methods: [DELETE]"),
    ]);
    for (method, token) in [("POST", sign(&claims())), ("PATCH", "junk".to_owned())] {
        let headers = format!("authorization: Bearer {token}\r\n");
        let response = gate.request(method, "/only", &headers);
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.header("allow"), Some("DELETE, GET, PUT"));
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn what_no_route_matches_is_not_found_with_any_token() {
    let (upstream, gate) = start(&[
        ("z", "path: /z/**"),
        ("exactly", "path: /exactly"),
        ("one", "path: /one/*"),
        ("hosted", "host: h.example, path: /hosted"),
    ]);
    let good = format!("authorization: Bearer {}\r\n", sign(&claims()));
    for path in [
        "/",
        "/zz",
        "/Z/a",
        "/exactly/",
        "/exactly/x",
        "/one",
        "/one/",
        "/one/a/b",
        "/hosted",
        "/auth/other",
    ] {
        for headers in ["", &good, "authorization: Bearer junk\r\n"] {
            let response = gate.request("GET", path, headers);
            assert_eq!(response.status, 404, "{path}");
        }
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn two_stars_match_any_rest_also_none() {
    let (upstream, gate) = start(&[("z", "path: /z/**")]);
    for path in ["/z", "/z/", "/z/a", "/z/a/b/c/d/e/f/g/h/i/j/k"] {
        assert_eq!(taken(&upstream, &gate, "GET", "gate.example", path), "z");
    }
}

#[test]
fn a_token_without_a_required_scope_is_forbidden_and_told_which() {
    let (upstream, gate) = start(&[("s", "path: /s, require: { scopes: [admin, write] }")]);
    for scope in [
        "",
        "admin",
        "write",
        "administrator write",
        "Admin write",
        "admin,write",
        "admin write2",
    ] {
        let token = with_claim("scope", scope.into());
        // Asked twice: the second time the token is in the cache.
        for _ in 0..2 {
            let response = gate.get("/s", &token);
            assert_eq!(response.status, 403, "{scope}");
            let challenge = response.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer "), "{challenge}");
            assert!(
                challenge.contains(r#"error="insufficient_scope""#),
                "{challenge}"
            );
            assert!(challenge.contains(r#"scope="admin write""#), "{challenge}");
        }
    }
    assert!(upstream.seen().is_empty());
    for scope in ["admin write", "write other admin"] {
        let response = gate.get("/s", &with_claim("scope", scope.into()));
        assert_eq!(response.status, 200, "{scope}");
    }
}

#[test]
fn a_token_cached_on_one_route_is_still_judged_on_another() {
    let (upstream, gate) = start(&[
        ("open", "path: /open"),
        ("shut", "path: /shut, require: { scopes: [nobody] }"),
    ]);
    let token = sign(&claims());
    for _ in 0..4 {
        assert_eq!(gate.get("/open", &token).status, 200);
        assert_eq!(gate.get("/shut", &token).status, 403);
    }
    let names = upstream.seen();
    assert!(
        names
            .iter()
            .all(|seen| seen.header("x-route") == Some("open"))
    );
}
