//! Real proxies before a recording app: what the gate refuses never arrives there, and what it lets
//! pass arrives with the gate's words and none of the client's.

use super::front::{Proxy, Site};
use super::{ANYONE, BASIC};
use crate::support::client::Response;
use crate::support::gate::{BINARY, claims, sign, sign_as};
use crate::support::threat;
use crate::support::tokens::with_claims;
use crate::support::upstream::Seen;

#[test]
fn nginx_forwards_what_the_gate_judged_and_nothing_else() {
    prove(Proxy::Nginx);
}

#[test]
fn traefik_forwards_what_the_gate_judged_and_nothing_else() {
    prove(Proxy::Traefik);
}

#[test]
fn caddy_forwards_what_the_gate_judged_and_nothing_else() {
    prove(Proxy::Caddy);
}

#[test]
fn envoy_forwards_what_the_gate_judged_and_nothing_else() {
    prove(Proxy::Envoy);
}

fn prove(proxy: Proxy) {
    let mut site = Site::start(proxy);
    good_requests_pass(&site, proxy);
    credentials_that_are_not_good_are_refused(&site, proxy);
    tokens_in_the_url_reach_no_app(&site, proxy);
    browsers_are_sent_to_the_login_page(&site);
    preflights_open_nothing(&site);
    let mut cases =
        forgeries_change_nothing(&site) + tricks_with_the_path_reach_nothing_else(&site);
    if proxy == Proxy::Envoy {
        cases += other_identities_are_dropped(&site);
    }
    a_revoked_token_is_refused(&site);
    threat::count("requests through other proxies", cases);
    // Without the gate nobody is let in.
    let token = bearer();
    site.gate = None;
    let (response, seen) = site.during(|| site.ask("GET", "/api/a", &token, ""));
    let status = match proxy {
        Proxy::Caddy => 502,
        Proxy::Envoy => 403,
        Proxy::Nginx | Proxy::Traefik => 500,
    };
    assert_eq!(response.status, status, "{proxy:?}");
    assert!(seen.is_empty(), "{seen:?}");
}

fn bearer() -> String {
    format!("authorization: Bearer {}\r\n", sign(&claims()))
}

fn passes(site: &Site, method: &str, target: &str, lines: &str, body: &str) -> Seen {
    let (response, mut seen) = site.during(|| site.ask(method, target, lines, body));
    assert_eq!(
        response.status,
        200,
        "{method} {target}: {}",
        response.text()
    );
    assert_eq!(seen.len(), 1, "{method} {target}");
    let seen = seen.remove(0);
    assert_eq!(seen.body, body.as_bytes(), "{method} {target}");
    seen
}

fn is_refused(site: &Site, method: &str, target: &str, lines: &str, statuses: &[u16]) -> Response {
    let (response, seen) = site.during(|| site.ask(method, target, lines, ""));
    let case = format!("{method} {target} {lines}");
    assert!(
        statuses.contains(&response.status),
        "{case}: {}",
        response.status
    );
    assert!(seen.is_empty(), "{case}: {seen:?}");
    response
}

fn good_requests_pass(site: &Site, proxy: Proxy) {
    let seen = passes(site, "GET", "/api/a%2Fb?x=1&y=%2F", &bearer(), "");
    assert_eq!(seen.header("authorization"), Some(BASIC), "{proxy:?}");
    assert_eq!(seen.header("x-tollgate-subject"), Some("root"));
    assert_eq!(seen.header("x-tollgate-scopes"), Some("admin"));
    assert_eq!(seen.header("host"), Some("gate.example"));
    assert_eq!(seen.target(), "/api/a%2Fb?x=1&y=%2F");
    assert!(!seen.head.contains("eyJ"), "{}", seen.head);

    let seen = passes(site, "POST", "/api/body", &bearer(), "a body");
    assert!(seen.head.starts_with("POST /api/body "), "{}", seen.head);

    // Where the upstream gets no credential, it does not get the token either.
    let seen = passes(site, "GET", "/bare/x", &bearer(), "");
    assert!(!seen.head.contains("eyJ"), "{}", seen.head);
    assert_eq!(seen.header("x-tollgate-subject"), Some("root"));

    let junk =
        "authorization: Bearer junk\r\nx-tollgate-subject: evil\r\nx-tollgate-scopes: root\r\n";
    let seen = passes(site, "GET", "/public/x", junk, "");
    assert_eq!(seen.header("authorization"), Some(ANYONE));
    assert!(
        !seen.head.contains("evil") && !seen.head.contains("junk"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("x-tollgate-scopes").unwrap_or_default(), "");
    let seen = passes(site, "GET", "/mixed/x", junk, "");
    assert!(!seen.head.contains("junk"), "{}", seen.head);

    let subject = with_claims(|claims| claims["sub"] = "zo\u{eb} x".into());
    let seen = passes(
        site,
        "GET",
        "/api/a",
        &format!("authorization: Bearer {subject}\r\n"),
        "",
    );
    assert_eq!(seen.header("x-tollgate-subject"), Some("zo%C3%AB%20x"));
}

fn credentials_that_are_not_good_are_refused(site: &Site, proxy: Proxy) {
    let expired = with_claims(|claims| claims["exp"] = 1_000_000.into());
    let refresh = sign_as("rt+jwt", &claims());
    let forged = format!("{}x", sign(&claims()));
    for token in ["", &expired, &refresh, &forged, "junk"] {
        let line = match token {
            "" => String::new(),
            token => format!("authorization: Bearer {token}\r\n"),
        };
        let response = is_refused(site, "GET", "/api/a", &line, &[401]);
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.starts_with("Bearer realm=\"tollgate\""),
            "{token}: {challenge}"
        );
    }
    let response = is_refused(site, "GET", "/admin/a", &bearer(), &[403]);
    let [not_found, not_allowed] = match proxy {
        Proxy::Nginx => [403, 403],
        Proxy::Caddy | Proxy::Envoy | Proxy::Traefik => {
            assert!(
                response.text().contains("required scope"),
                "{}",
                response.text()
            );
            [404, 405]
        }
    };
    is_refused(site, "GET", "/nowhere", &bearer(), &[not_found]);
    is_refused(site, "DELETE", "/mixed/a", &bearer(), &[not_allowed]);
    is_refused(site, "POST", "/mixed/a", &bearer(), &[403]);
    let two = bearer() + &bearer();
    // Envoy makes one of them, which is no token.
    is_refused(site, "GET", "/api/a", &two, &[400, 401, 403]);
}

fn tokens_in_the_url_reach_no_app(site: &Site, proxy: Proxy) {
    let token = sign(&claims());
    let target = format!("/api/q%2Fr?b=%2F&access_token={token}&c=1;d&&e");
    match proxy {
        Proxy::Caddy | Proxy::Traefik => {
            let response = is_refused(site, "GET", &target, "", &[401]);
            let challenge = response.header("www-authenticate").unwrap_or_default();
            assert!(
                challenge.contains("Authorization header alone"),
                "{challenge}"
            );
        }
        Proxy::Envoy | Proxy::Nginx => {
            let seen = passes(site, "GET", &target, "", "");
            assert_eq!(seen.target(), "/api/q%2Fr?b=%2F&c=1;d&&e", "{proxy:?}");
            assert_eq!(seen.header("authorization"), Some(BASIC));
            let seen = passes(site, "GET", &format!("/api/q?access_token={token}"), "", "");
            assert_eq!(seen.target(), "/api/q", "{proxy:?}");
        }
    }
    let session = "cookie: a=1; __Host-tollgate=secret; b=2\r\n".to_owned();
    let seen = passes(site, "GET", "/api/a", &(session + &bearer()), "");
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"), "{proxy:?}");
    let session = "cookie: __Host-tollgate=secret\r\n".to_owned();
    let seen = passes(site, "GET", "/public/a", &session, "");
    assert_eq!(seen.header("cookie"), None, "{proxy:?}");
    let only = format!("sec-websocket-protocol: bearer.{token}\r\n");
    let seen = passes(site, "GET", "/api/a", &only, "");
    assert_eq!(seen.header("sec-websocket-protocol"), None, "{proxy:?}");
    let line = format!(
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: mqtt, bearer.{token}\r\n"
    );
    let (response, seen) = site.during(|| site.ask("GET", "/api/ws", &line, ""));
    assert_eq!(response.status, 101, "{proxy:?}");
    assert_eq!(response.header("sec-websocket-protocol"), Some("mqtt"));
    assert_eq!(seen.len(), 1, "{proxy:?}");
    assert_eq!(seen[0].header("sec-websocket-protocol"), Some("mqtt"));
    assert_eq!(seen[0].header("authorization"), Some(BASIC));
    assert!(!seen[0].head.contains("eyJ"), "{}", seen[0].head);
}

fn browsers_are_sent_to_the_login_page(site: &Site) {
    let page = "accept: text/html\r\n";
    let response = is_refused(site, "GET", "/pages/a", page, &[302]);
    assert_eq!(response.header("location"), Some("/login"));
    is_refused(
        site,
        "GET",
        "/pages/a",
        "accept: application/json\r\n",
        &[401],
    );
}

fn preflights_open_nothing(site: &Site) {
    let asks = "origin: https://ui.example\r\naccess-control-request-method: GET\r\n";
    is_refused(site, "OPTIONS", "/api/a", asks, &[401]);
    is_refused(site, "OPTIONS", "/admin/a", asks, &[401]);
}

/// What a client could say to be taken for another or to have another request judged.
const FORGED: [&str; 14] = [
    "x-forwarded-uri: /public/x",
    "x-forwarded-method: GET",
    "x-forwarded-host: open.example",
    "x-forwarded-uri: /public/x\r\nx-forwarded-method: GET\r\nx-forwarded-host: open.example",
    "x_forwarded_uri: /public/x\r\nx_forwarded_method: GET\r\nx_forwarded_host: open.example",
    "x-original-url: /public/x\r\nx-original-uri: /public/x\r\nx-original-method: GET",
    "x-rewrite-url: /public/x\r\nx-http-method-override: GET",
    "x-envoy-original-path: /public/x\r\nx-envoy-original-method: GET",
    "x-tollgate-uri: /public/x",
    "forwarded: for=127.0.0.1;host=open.example",
    "connection: x-forwarded-uri, x-forwarded-method, x-forwarded-host",
    "connection: x-forwarded-for, x-forwarded-proto",
    "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1",
    "x-envoy-auth-headers-to-remove: authorization",
];

/// What a client could say to be taken for another by the app.
const IDENTITIES: [&str; 8] = [
    "x-tollgate-subject: evil",
    "x-tollgate-subject: evil\r\nx-tollgate-subject: evil",
    "X-Tollgate-Subject: evil\r\nX-Tollgate-Scopes: evil\r\nX-Tollgate-Groups: evil",
    "x_tollgate_subject: evil",
    "x.tollgate.subject: evil",
    "x-tollgate_scopes: evil",
    "x-tollgate-uri: /admin/evil",
    "connection: x-tollgate-subject\r\nx-tollgate-subject: evil",
];

fn forgeries_change_nothing(site: &Site) -> usize {
    for lines in FORGED {
        let lines = format!("{lines}\r\n");
        let refused = [400, 401, 403];
        is_refused(site, "GET", "/api/a", &lines, &refused);
        is_refused(site, "POST", "/mixed/a", &lines, &refused);
        is_refused(site, "GET", "/host/a", &lines, &refused);
        is_refused(
            site,
            "GET",
            "/admin/a",
            &(lines.clone() + &bearer()),
            &[400, 403],
        );
    }
    for lines in IDENTITIES.into_iter().chain(["connection: authorization"]) {
        for target in ["/api/a", "/bare/a", "/public/a"] {
            let lines = bearer() + lines + "\r\n";
            let (response, seen) = site.during(|| site.ask("GET", target, &lines, ""));
            match seen.as_slice() {
                // Envoy takes away what the client lists in `Connection` before it asks.
                [] => assert!(
                    matches!(response.status, 400 | 401 | 403),
                    "{lines}: {}",
                    response.status
                ),
                [seen] => {
                    assert_eq!(seen.target(), target, "{lines}");
                    let head = &seen.head;
                    assert!(
                        !head.contains("evil") && !head.contains("eyJ"),
                        "{lines}: {head}"
                    );
                    let subject = seen.header("x-tollgate-subject");
                    assert!(
                        matches!(subject, None | Some("root")),
                        "{lines}: {subject:?}"
                    );
                }
                _ => panic!("{lines}: {seen:?}"),
            }
        }
    }
    FORGED.len() * 4 + (IDENTITIES.len() + 1) * 3
}

/// What back ends take for a user's name, or for what a proxy was asked. Of the four, Envoy alone
/// can be told to drop what the answer does not replace.
const OTHERS: [&str; 10] = [
    "x-forwarded-client-cert",
    "x-forwarded-proto",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-host",
    "x-forwarded-uri",
    "x-forwarded-prefix",
    "x-remote-user",
];

fn other_identities_are_dropped(site: &Site) -> usize {
    for name in OTHERS {
        for target in ["/api/a", "/public/a"] {
            let seen = passes(
                site,
                "GET",
                target,
                &format!("{}{name}: evil\r\n", bearer()),
                "",
            );
            assert!(!seen.head.contains("evil"), "{name}: {}", seen.head);
            assert!(seen.header("x-forwarded-proto").is_some(), "{}", seen.head);
        }
    }
    OTHERS.len() * 2
}

/// Paths that a proxy, the gate or an app may read in different ways.
const PATHS: [&str; 22] = [
    "/api/../admin/x",
    "/api/./x",
    "/api//x",
    "//api/x",
    "/api/..;/admin/x",
    "/api/;/x",
    "/api/%2e%2e/admin/x",
    "/api/%2E%2E%2Fadmin/x",
    "/api/.%2e/admin/x",
    "/api/..%2fadmin/x",
    "/api%2f..%2fadmin%2fx",
    "/api/%252e%252e/admin/x",
    "/api/..%5cadmin/x",
    "/api/..\\admin/x",
    "/api\\..\\admin/x",
    "/API/x",
    "/api/x%00",
    "/api/x%0d%0ay:z",
    "/api/x%3f/../admin",
    "/api/x%23",
    "/public/../admin/x",
    "/public/%2e%2e/admin/x",
];

fn tricks_with_the_path_reach_nothing_else(site: &Site) -> usize {
    for path in PATHS {
        for lines in ["", &bearer()] {
            let (response, seen) = site.during(|| site.ask("GET", path, lines, ""));
            let Some(seen) = seen.first() else {
                assert!(
                    matches!(response.status, 301 | 307 | 308 | 400..=499),
                    "{path}: {}",
                    response.status
                );
                continue;
            };
            // A proxy may have settled what the path is before it asked.
            let target = seen.target();
            let is_plain = !["..", "//", ";", "%", "\\"]
                .iter()
                .any(|odd| target.contains(odd));
            let is_judged =
                target.starts_with("/api/") && !lines.is_empty() || target.starts_with("/public/");
            assert!(is_plain && is_judged, "{path} arrived as {target}");
        }
    }
    PATHS.len() * 2
}

fn a_revoked_token_is_refused(site: &Site) {
    let token = bearer();
    passes(site, "GET", "/api/a", &token, "");
    let admin = site.gate.as_ref().unwrap().admin;
    let admin = admin.to_string();
    let arguments = ["token", "revoke", "--admin", &admin, "--subject", "root"];
    let output = std::process::Command::new(BINARY)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    is_refused(site, "GET", "/api/a", &token, &[401]);
}
