//! Can a page of another site ask the admin listener of somebody's own machine?

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{JSON, ask, ask_as};
use crate::support::client::read_response;
use crate::support::gate::{Builder, Gate};
use crate::support::rows;
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";
const DATA: [&str; 6] = [
    "/",
    "/status",
    "/keys",
    "/config",
    "/sessions",
    "/application-tokens",
];

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

#[test]
fn a_name_that_was_rebound_to_loopback_is_told_nothing() {
    let (_upstream, gate) = start();
    let port = gate.admin.port();
    for (host, expected) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("LOCALHOST".to_owned(), 200),
        (format!("[::1]:{port}"), 200),
        ("127.0.0.2".to_owned(), 200),
        (format!("rebound.example:{port}"), 403),
        ("127.0.0.1.example".to_owned(), 403),
        ("localhost.example".to_owned(), 403),
        ("10.0.0.1".to_owned(), 403),
        ("admin".to_owned(), 403),
        ("0.0.0.0".to_owned(), 403),
        ("localhost, rebound.example".to_owned(), 403),
        (String::new(), 403),
    ] {
        for path in DATA {
            let response = ask_as(&gate, &host, "GET", path, "", "");
            assert_eq!(response.status, expected, "{host} {path}");
        }
        let body = r#"{"family":"none"}"#;
        let response = ask_as(&gate, &host, "POST", "/revoke", JSON, body);
        assert_eq!(response.status, expected, "{host}");
        let response = ask_as(&gate, &host, "POST", "/inspect", JSON, r#"{"path":"/"}"#);
        assert_eq!(response.status, expected, "{host}");
    }
    // Probes, and Prometheus through a route of the gate's own.
    for path in ["/livez", "/readyz", "/metrics"] {
        let response = ask_as(&gate, "gate.example", "GET", path, "", "");
        assert_eq!(response.status, 200, "{path}");
    }
}

/// What a browser says of who asks; then what a GET of data, the page, and a POST of JSON get.
const ASKERS: &str = "
nothing: no browser             |                                                              | 200 | 200 | 200
the page itself                 | sec-fetch-site: same-origin                                  | 200 | 200 | 200
the page itself, with origin    | sec-fetch-site: same-origin; origin: http://ADMIN            | 200 | 200 | 200
a person at the address bar     | sec-fetch-site: none; sec-fetch-mode: navigate; sec-fetch-dest: document | 200 | 200 | 200
a link on another site          | sec-fetch-site: cross-site; sec-fetch-mode: navigate; sec-fetch-dest: document | 403 | 200 | 403
a frame on another site         | sec-fetch-site: cross-site; sec-fetch-mode: navigate; sec-fetch-dest: iframe | 403 | 403 | 403
a script of another site        | sec-fetch-site: cross-site; sec-fetch-mode: cors             | 403 | 403 | 403
another port of this machine    | sec-fetch-site: same-site                                    | 403 | 403 | 403
an older browser's other site   | origin: http://evil.example                                  | 403 | 403 | 403
an older browser's other port   | origin: http://127.0.0.1:1                                   | 403 | 403 | 403
a sandboxed frame               | origin: null                                                 | 403 | 403 | 403
two origins                     | origin: http://ADMIN; origin: http://evil.example            | 403 | 403 | 403
two sites                       | sec-fetch-site: same-origin; sec-fetch-site: cross-site      | 403 | 403 | 403
";

#[test]
fn a_page_of_another_site_can_neither_read_nor_change() {
    let (_upstream, gate) = start();
    let admin = gate.admin.to_string();
    for row in rows(ASKERS) {
        let lines = row[1].split(';').map(str::trim);
        let lines = lines.filter(|line| !line.is_empty());
        let headers: String = lines.map(|line| format!("{line}\r\n")).collect();
        let headers = headers.replace("ADMIN", &admin);
        let page = format!("{headers}accept: text/html\r\n");
        let json = format!("{headers}{JSON}");
        let body = r#"{"family":"none"}"#;
        for (expected, response) in [
            (row[2], ask(&gate, "GET", "/status", &headers, "")),
            (row[2], ask(&gate, "GET", "/sessions", &headers, "")),
            (row[3], ask(&gate, "GET", "/", &page, "")),
            (row[4], ask(&gate, "POST", "/revoke", &json, body)),
        ] {
            assert_eq!(response.status.to_string(), expected, "{}", row[0]);
            assert_eq!(response.header("access-control-allow-origin"), None);
        }
    }
}

#[test]
fn what_a_form_can_send_is_not_taken() {
    let (_upstream, gate) = start();
    let token = gate.token("root", "memphis");
    let body = r#"{"subject":"root"}"#;
    for kind in [
        "",
        "content-type: text/plain\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-type: multipart/form-data; boundary=application/json\r\n",
        "content-type: application/jsonx\r\n",
        "content-type: text/plain\r\ncontent-type: application/json\r\n",
    ] {
        let response = ask(&gate, "POST", "/revoke", kind, body);
        assert_eq!(response.status, 415, "{kind}");
        let response = ask(&gate, "POST", "/inspect", kind, r#"{"path":"/"}"#);
        assert_eq!(response.status, 415, "{kind}");
    }
    assert_eq!(gate.get("/api/x", &token).status, 200);
    // A preflight is answered with no permission at all.
    let response = ask(
        &gate,
        "OPTIONS",
        "/revoke",
        "origin: http://evil.example\r\n",
        "",
    );
    assert_eq!(response.status, 405);
    let allowing = |(name, _): &(String, String)| name.starts_with("access-control");
    assert!(!response.headers.iter().any(allowing));
    let charset = "content-type: application/json; charset=utf-8\r\n";
    assert_eq!(ask(&gate, "POST", "/revoke", charset, body).status, 200);
    assert_eq!(gate.get("/api/x", &token).status, 401);
}

/// A connection from another address of this machine.
fn connect_from(source: [u8; 4], gate: &Gate) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&gate.admin.into()).unwrap();
    let stream = TcpStream::from(socket);
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    stream
}

#[test]
fn who_holds_connections_keeps_no_other_address_out() {
    let (_upstream, gate) = start();
    let held = [(); 256].map(|()| connect_from([127, 0, 0, 7], &gate));
    let answer = |source| {
        let mut stream = connect_from(source, &gate);
        let request = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        read_response(&mut stream, false).status
    };
    assert_eq!(answer([127, 0, 0, 7]), 429);
    assert_eq!(answer([127, 0, 0, 1]), 200);
    drop(held);
    crate::support::wait_for("a place", || (answer([127, 0, 0, 7]) == 200).then_some(()));
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let (_upstream, gate) = start();
    let mut stream = connect_from([127, 0, 0, 1], &gate);
    let head =
        format!("POST /inspect HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: 9\r\n\r\n{{");
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream, false).status, 400);
}

#[test]
fn a_browser_gets_a_page_that_nobody_can_frame_or_script() {
    let (_upstream, gate) = start();
    let page = ask(&gate, "GET", "/", "accept: text/html,*/*\r\n", "");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let html = page.text();
    for (path, kind) in [
        ("/", "text/html"),
        ("/admin.js", "text/javascript"),
        ("/admin.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        assert!(path == "/" || html.contains(path), "{path}");
        let response = ask(&gate, "GET", path, "accept: text/html,*/*\r\n", "");
        assert!(response.header("content-type").unwrap().starts_with(kind));
        let policy = response.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(response.header(name), Some(value), "{path}");
        }
    }
}

#[test]
fn nothing_stands_in_the_page_that_its_policy_would_have_to_forgive() {
    let (_upstream, gate) = start();
    let html = ask(&gate, "GET", "/", "accept: text/html\r\n", "").text();
    for forbidden in [
        "<script>",
        " style=",
        " onclick",
        " onload",
        "javascript:",
        "http://",
        "https://",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let script = ask(&gate, "GET", "/admin.js", "", "").text();
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "localStorage",
        "sessionStorage",
        "document.cookie",
    ] {
        assert!(!script.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn who_wants_no_page_gets_a_list() {
    let (_upstream, gate) = start();
    let list = ask(&gate, "GET", "/", "accept: */*\r\n", "");
    assert!(
        list.header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    assert!(list.text().contains("/sessions"));
    assert_eq!(ask(&gate, "GET", "/nothing", "", "").status, 404);
}
