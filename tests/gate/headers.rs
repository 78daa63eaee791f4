//! Which headers reach the upstream, and which come back.

use std::io::Write;

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::threat;
use crate::support::upstream::Upstream;

const ROUTES: &str = r#"
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /forwarded/**
    upstream: app
    forwarded: true
  - path: /set/**
    upstream: app
    set_headers: { Origin: "http://localhost", Host: "artemis.local", X-Extra: added }
    remove_headers: [Cookie, x-drop]
"#;

fn start() -> (Upstream, Gate, String) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate, bearer())
}

fn bearer() -> String {
    format!("authorization: Bearer {}\r\n", sign(&claims()))
}

/// Names that a back end could believe.
const FORGEABLE: &[&str] = &[
    "Proxy-Authorization",
    "proxy_authorization",
    "PROXY-AUTHORIZATION",
    "X-Authorization",
    "X_Authorization",
    "x-AUTHORIZATION",
    "X-API-Key",
    "X_Api_Key",
    "x-api_key",
    "X-Auth-Token",
    "X-Access-Token",
    "X-Forwarded-For",
    "X_Forwarded_For",
    "x-forwarded_for",
    "X-FORWARDED-FOR",
    "X-Forwarded-Host",
    "X_Forwarded_Host",
    "X-Forwarded-Proto",
    "x_forwarded_proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-User",
    "X_Forwarded_Email",
    "X-Forwarded-Client-Cert",
    "X-Forwarded",
    "Forwarded",
    "FORWARDED",
    "X-Real-IP",
    "X_Real_IP",
    "Client-IP",
    "True-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "CF-Connecting-IP",
    "X-Original-Forwarded-For",
    "Remote-User",
    "Remote_User",
    "REMOTE_USER",
    "Remote-Addr",
    "X-Remote-User",
    "X_Remote_Group",
    "X-User",
    "X-User-Id",
    "X_Username",
    "X-Auth-Request-User",
    "X_Auth_Request_Email",
    "X-Authenticated-User",
    "x-original-url",
    "X_Original_URL",
    "X-Original-URI",
    "X-Original-Host",
    "X-Original-Method",
    "X-Rewrite-URL",
    "x-rewrite_url",
    "x-http-method-override",
    "X_HTTP_Method_Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X_Request_Id",
    "x-request_id",
    "X-Envoy-Original-Path",
    "X-Tollgate-Subject",
    "Client-Cert",
    "Client_Cert_Chain",
    "SSL-Client-Verify",
    "Ssl_Client_Subject_Dn",
    "X-SSL-Client-Verify",
    "X_SSL_Client_S_DN",
    "X-Client-DN",
    "Cf-Access-Authenticated-User-Email",
    "Tailscale-User-Login",
];

#[test]
fn a_header_that_could_pass_for_a_credential_or_a_proxys_word_is_dropped_in_every_spelling() {
    let (upstream, gate, bearer) = start();
    threat::count("forgeable headers", FORGEABLE.len());
    for name in FORGEABLE {
        let headers = format!("{bearer}{name}: f0rged\r\nx-plain: kept\r\n");
        let response = gate.request("GET", "/api/a", &headers);
        assert_eq!(response.status, 200, "{name}");
        let seen = upstream.last();
        let is_id = name.to_lowercase().replace('_', "-") == "x-request-id";
        assert!(
            !seen.head.contains("f0rged"),
            "{name} ({is_id}): {}",
            seen.head
        );
        assert_eq!(seen.header("x-plain"), Some("kept"), "{name}");
    }
}

#[test]
fn a_repeated_forgeable_header_is_dropped_whole() {
    let (upstream, gate, bearer) = start();
    let forged = "x-forwarded-for: f0rged\r\n".repeat(3) + "X_Forwarded_For: f0rged\r\n";
    gate.request("GET", "/api/a", &format!("{bearer}{forged}"));
    let seen = upstream.last();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert!(!seen.head.contains("f0rged"));
}

#[test]
fn a_forgeable_trailer_never_arrives() {
    let (upstream, gate, bearer) = start();
    for name in [
        "x-forwarded-for",
        "remote_user",
        "authorization",
        "x-original-url",
        "x-api-key",
    ] {
        let response = gate.send(format!(
            "POST /api/a HTTP/1.1\r\nhost: gate.example\r\n{bearer}te: trailers\r\n\
             trailer: {name}, x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n{name}: f0rged\r\nx-sum: 1\r\n\r\n"
        ));
        assert_eq!(response.status, 200, "{name}");
        let seen = upstream.last();
        assert_eq!(seen.body, b"hi");
        assert!(!seen.head.contains("f0rged"), "{name}: {}", seen.head);
    }
}

#[test]
fn the_gate_tells_the_upstream_who_asked_for_what() {
    let (upstream, gate, bearer) = start();
    let headers = format!("{bearer}x-request-id: client-1_2.3\r\n");
    let response = gate.send(format!(
        "GET /api/a HTTP/1.1\r\nHost: Gate.Example:8443\r\n{headers}\r\n"
    ));
    let seen = upstream.last();
    for (name, value) in [
        ("host", "Gate.Example:8443"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "Gate.Example:8443"),
        ("x-request-id", "client-1_2.3"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(response.header("x-request-id"), Some("client-1_2.3"));
    assert_eq!(seen.header("forwarded"), None);

    gate.request(
        "GET",
        "/forwarded/a",
        &format!("{bearer}forwarded: for=f0rged\r\n"),
    );
    let seen = upstream.last();
    let forwarded = r#"for=127.0.0.1;host="gate.example";proto=http"#;
    assert_eq!(seen.header("forwarded"), Some(forwarded));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn a_request_without_a_fit_id_gets_a_fresh_one_that_the_client_is_told() {
    let (upstream, gate, bearer) = start();
    let long = "a".repeat(129);
    let mut ids = Vec::new();
    for given in ["", "a b", "\"quoted\"", "a;b", "\u{e9}", &long] {
        let headers = format!("{bearer}x-request-id: {given}\r\n");
        let response = gate.request("GET", "/api/a", &headers);
        let seen = upstream.last();
        let id = seen.header("x-request-id").unwrap().to_owned();
        assert_eq!(
            response.header("x-request-id"),
            Some(id.as_str()),
            "{given}"
        );
        assert_eq!(id.len(), 32, "{given}");
        assert!(!ids.contains(&id), "{given}");
        ids.push(id);
    }
}

#[test]
fn a_clients_connection_list_cannot_remove_what_the_gate_writes() {
    let (upstream, gate, bearer) = start();
    let lists = "Connection: authorization, x-forwarded-for, x-forwarded-host\r\n\
                 Connection: X-Forwarded-Proto,x-request-id, host ,content-length, close\r\n";
    let response = gate.send(format!(
        "POST /api/a HTTP/1.1\r\nhost: gate.example\r\n{bearer}{lists}content-length: 2\r\n\r\nhi"
    ));
    assert_eq!(response.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.all("authorization"), ["Basic Z2F0ZTpzM2NyZXQ="]);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("gate.example"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("host"), Some("gate.example"));
    assert!(seen.header("x-request-id").is_some());
    assert_eq!(seen.body, b"hi");
}

#[test]
fn what_belongs_to_the_clients_connection_stays_there() {
    let (upstream, gate, bearer) = start();
    let headers = format!(
        "{bearer}Connection: keep-alive, X-Hop, x-HOP-2\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nX-Hop: h0p\r\nx-hop-2: h0p\r\nTE: gzip\r\n\
         Upgrade: foo/2\r\nX-End-To-End: kept\r\nCookie: a=b; c=d\r\n"
    );
    assert_eq!(gate.request("GET", "/api/a", &headers).status, 200);
    let seen = upstream.last();
    for name in [
        "keep-alive",
        "proxy-connection",
        "x-hop",
        "x-hop-2",
        "te",
        "upgrade",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let connection = seen.header("connection").unwrap_or_default();
    assert!(!connection.to_lowercase().contains("hop"), "{connection}");
    assert_eq!(seen.header("x-end-to-end"), Some("kept"));
    assert_eq!(seen.header("cookie"), Some("a=b; c=d"));
}

#[test]
fn an_offer_of_h2c_is_dropped_and_answered_over_http_1() {
    let (upstream, gate, bearer) = start();
    // As Java's HttpClient sends with every request in clear text.
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
    let response = gate.request("GET", "/api/a", &format!("{bearer}{offer}"));
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(response.header("upgrade"), None);
    let head = upstream.last().head.to_lowercase();
    for trace in ["upgrade", "h2c", "http2-settings"] {
        assert!(!head.contains(trace), "{trace}: {head}");
    }
}

#[test]
fn only_an_upgrade_to_websocket_is_offered_to_the_upstream() {
    let (upstream, gate, bearer) = start();
    for offer in [
        "h2c",
        "TLS/1.0",
        "websocket, h2c",
        "h2c, websocket",
        "websocket/13",
    ] {
        let headers = format!("{bearer}connection: upgrade\r\nupgrade: {offer}\r\n");
        assert_eq!(
            gate.request("GET", "/api/a", &headers).status,
            200,
            "{offer}"
        );
        assert_eq!(upstream.last().header("upgrade"), None, "{offer}");
    }
    let headers = format!("{bearer}connection: upgrade\r\nupgrade: websocket\r\n");
    assert_eq!(gate.request("POST", "/api/a", &headers).status, 200);
    assert_eq!(upstream.last().header("upgrade"), None, "POST");
}

#[test]
fn a_referer_that_holds_a_token_is_dropped() {
    let (upstream, gate, bearer) = start();
    for (referer, passes) in [
        ("https://gate.example/page?authorization=abc", false),
        ("https://gate.example/page?a=1&access_token=abc#top", false),
        ("https://gate.example/page?%61ccess_token=abc", false),
        ("https://gate.example/page?a=1", true),
        ("https://gate.example/authorization", true),
    ] {
        gate.request("GET", "/api/a", &format!("{bearer}Referer: {referer}\r\n"));
        let seen = upstream.last();
        assert_eq!(seen.header("referer"), passes.then_some(referer));
    }
}

#[test]
fn a_route_sets_and_removes_headers() {
    let (upstream, gate, bearer) = start();
    let headers = format!(
        "{bearer}Origin: https://evil.example\r\nx-extra: theirs\r\nX-Extra: theirs\r\n\
         Cookie: a=b\r\nX-Drop: 1\r\nX-Keep: 1\r\n"
    );
    assert_eq!(gate.request("GET", "/set/a", &headers).status, 200);
    let seen = upstream.last();
    for (name, value) in [
        ("origin", Some("http://localhost")),
        ("host", Some("artemis.local")),
        ("x-extra", Some("added")),
        ("cookie", None),
        ("x-drop", None),
        ("x-keep", Some("1")),
        ("authorization", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[test]
fn what_could_pass_for_a_header_that_the_route_sets_or_drops_never_arrives() {
    const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { header: { name: Service-Key, value_file: upstream-password } }
    set_headers: { X-Tenant: ours, Odd_Name: ours }
    remove_headers: [ Debug-Level ]
";
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let bearer = bearer();
    for name in ["x-tenant", "service_key", "debug-level"] {
        let response = gate.send(format!(
            "POST /api/a HTTP/1.1\r\nhost: gate.example\r\n{bearer}te: trailers\r\n\
             trailer: {name}, x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n{name}: theirs\r\nx-sum: 1\r\n\r\n"
        ));
        assert_eq!(response.status, 200, "{name}");
        let seen = upstream.last();
        assert!(!seen.head.contains("theirs"), "{name}: {}", seen.head);
        assert_eq!(seen.header("x-sum"), Some("1"), "{name}");
    }
    let twins = [
        "Service_Key",
        "service.key",
        "X_Tenant",
        "x-tenant_",
        "Odd-Name",
        "odd.name",
        "Debug_Level",
    ];
    for name in twins {
        let headers = format!("{bearer}{name}: theirs\r\nx-other_name: kept\r\n");
        assert_eq!(gate.request("GET", "/api/a", &headers).status, 200);
        let seen = upstream.last();
        let is_ours = name == "x-tenant_";
        assert_eq!(
            seen.head.contains("theirs"),
            is_ours,
            "{name}: {}",
            seen.head
        );
        for (name, value) in [
            ("service-key", "s3cret"),
            ("x-tenant", "ours"),
            ("odd_name", "ours"),
            ("x-other_name", "kept"),
        ] {
            assert_eq!(seen.header(name), Some(value), "{name}");
        }
    }
}

#[test]
fn what_belongs_to_the_upstreams_connection_and_its_challenges_stay_there() {
    let upstream = Upstream::scripted(|_, stream| {
        let head = "HTTP/1.1 403 Forbidden\r\nConnection: keep-alive, X-Hop\r\n\
                    Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Hop: 1\r\n\
                    Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\
                    WWW-Authenticate: Basic realm=\"a\"\r\nwww-authenticate: Negotiate\r\n\
                    Proxy-Authenticate: Basic\r\nSet-Cookie: a=b\r\nX-Plain: kept\r\n\r\n\
                    2\r\nno\r\n0\r\n\r\n";
        stream.write_all(head.as_bytes()).is_ok()
    });
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let response = gate.request("GET", "/api/a", &bearer());
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    for name in [
        "keep-alive",
        "proxy-connection",
        "x-hop",
        "upgrade",
        "www-authenticate",
        "proxy-authenticate",
    ] {
        assert_eq!(response.header(name), None, "{name}");
    }
    let connection = response.header("connection").unwrap_or_default();
    assert!(!connection.to_lowercase().contains("hop"), "{connection}");
    assert_eq!(response.header("set-cookie"), Some("a=b"));
    assert_eq!(response.header("x-plain"), Some("kept"));
}
