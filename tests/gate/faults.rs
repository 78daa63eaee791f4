//! What does a client see when an upstream fails, and what does the operator?

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::client::{connect, read_response};
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - path: /api/**
    name: api
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
";

/// A gate whose upstream has these further settings.
fn start(upstream: SocketAddr, settings: &str) -> Gate {
    let app = format!("  app: {{ endpoints: [ \"http://{upstream}\" ], {settings} }}");
    Builder::standard(upstream, ROUTES)
        .line("  app:", &app)
        .start()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn errors(kind: &str) -> String {
    format!("tollgate_upstream_errors_total{{kind=\"{kind}\",upstream=\"app\"}}")
}

/// What a failed exchange must show, everywhere.
fn assert_told(gate: &Gate, status: u16, reason: &str, kind: &str, row: &str) -> Value {
    let response = gate.get("/api/x", &sign(&claims()));
    assert_eq!(response.status, status, "{row}: {}", response.text());
    assert_eq!(
        response.header("content-type"),
        Some("application/json"),
        "{row}"
    );
    let text = response.json()["message"].as_str().unwrap().to_owned();
    assert!(text.starts_with("The service "), "{row}: {text}");
    let line = gate.exchange("/api/x");
    assert_eq!(line["reason"], reason, "{row}: {line}");
    assert_eq!(line["side"], "upstream", "{row}");
    assert_eq!(line["level"], "WARN", "{row}");
    assert_eq!(line["upstream"], "app", "{row}");
    assert_eq!(line["http.response.status_code"], status, "{row}");
    assert_eq!(gate.metric(&errors(kind)), 1.0, "{row}: {}", gate.metrics());
    let requests = "tollgate_requests_total{code=\"5xx\",method=\"GET\",route=\"api\"}";
    assert_eq!(gate.metric(requests), 1.0, "{row}");
    gate.wait_for_metric("tollgate_requests_in_flight{route=\"api\"}", 0.0);
    line
}

#[test]
fn an_upstream_that_is_down_is_told_with_502() {
    let gate = start(nobody(), "response_timeout: 5s");
    let line = assert_told(&gate, 502, "upstream_unreachable", "connect", "down");
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("Connection refused"), "{cause}");
}

#[test]
fn an_upstream_that_does_not_accept_is_told_with_504() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let limit = Duration::from_millis(200);
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, limit) {
        held.push(stream);
    }
    let gate = start(address, "connect_timeout: 300ms");
    assert_told(
        &gate,
        504,
        "upstream_timeout",
        "connect_timeout",
        "full backlog",
    );
}

#[test]
fn an_upstream_that_keeps_silent_is_told_with_504() {
    let upstream = accepting(|mut stream| {
        read_rest(&mut stream);
    });
    let gate = start(upstream, "response_timeout: 300ms");
    assert_told(&gate, 504, "upstream_timeout", "response_timeout", "silent");
}

#[test]
fn an_upstream_that_breaks_before_its_head_is_told_with_502() {
    for (row, answer) in [
        ("closes at once", ""),
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n"),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n"),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le"),
        (
            "a broken length",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        ),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ),
        (
            "one length twice",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        ),
        (
            "a length and chunks",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwhat\r\n0\r\n\r\n",
        ),
        (
            "a coding that is not chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
        ),
        (
            "two codings",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ] {
        let upstream = accepting(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let gate = start(upstream, "response_timeout: 5s");
        assert_told(&gate, 502, "upstream_broken", "broken", row);
    }
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for (row, answer) in [
        ("short of its length", "content-length: 100\r\n\r\nhello"),
        (
            "in a chunk",
            "transfer-encoding: chunked\r\n\r\n64\r\nhello",
        ),
        (
            "between chunks",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "a broken chunk",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
        ),
    ] {
        let upstream = accepting(move |mut stream| {
            read_head(&mut stream);
            let answer = format!("HTTP/1.1 200 OK\r\n{answer}");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let gate = start(upstream, "response_timeout: 5s");
        let mut stream = connect(gate.address());
        stream.write_all(get("/api/x").as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{row}: {head}");
        let rest = String::from_utf8(read_rest(&mut stream)).unwrap();
        assert!(
            rest.len() < 100 && !rest.contains("0\r\n\r\n"),
            "{row}: {rest}"
        );
        let line = gate.exchange("/api/x");
        assert_eq!(line["reason"], "upstream_broken", "{row}: {line}");
        assert_eq!(line["http.response.status_code"], 200, "{row}: {line}");
        assert_eq!(line["level"], "WARN", "{row}: {line}");
        assert_eq!(gate.metric(&errors("broken_response")), 1.0, "{row}");
    }
}

#[test]
fn a_kept_connection_that_the_upstream_closed_costs_no_request() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let upstream = accepting(move |mut stream| {
        read_head(&mut stream);
        count.fetch_add(1, Ordering::SeqCst);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).unwrap();
    });
    let gate = start(upstream, "response_timeout: 5s");
    for sent in 1..=20 {
        let status = gate.get("/api/x", &sign(&claims())).status;
        assert_eq!(status, 200, "{}", gate.log());
        assert_eq!(requests.load(Ordering::SeqCst), sent);
        wait_for("the close to reach the gate", || {
            (!is_connected_to(upstream)).then_some(())
        });
    }
    assert_eq!(gate.metric(&errors("broken")), 0.0);
}

#[test]
fn a_request_that_the_upstream_may_have_seen_is_never_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let upstream = accepting(move |mut stream| {
        // Answers the first on each connection, so that the next goes over a kept one.
        for has_answer in [true, false] {
            if read_head(&mut stream).is_empty() {
                return;
            }
            count.fetch_add(1, Ordering::SeqCst);
            if has_answer {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
        }
    });
    let gate = start(upstream, "response_timeout: 5s");
    let mut stream = connect(gate.address());
    for (sent, status) in [(1, 200), (2, 502), (3, 200), (4, 502)] {
        stream.write_all(get("/api/x").as_bytes()).unwrap();
        let response = read_response(&mut stream, false);
        assert_eq!(response.status, status, "request {sent}");
        assert_eq!(requests.load(Ordering::SeqCst), sent);
    }
}

#[test]
fn an_upstream_that_refuses_the_gate_is_told_with_502() {
    let upstream = Upstream::answering(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"inner\"\r\n\
         content-length: 5\r\n\r\ninner",
    );
    let gate = start(upstream.address, "response_timeout: 5s");
    let response = gate.get("/api/x", &sign(&claims()));
    assert_eq!(response.status, 502);
    assert_eq!(response.header("www-authenticate"), None);
    let text = response.json().to_string();
    assert!(text.contains("refused the gate's credentials"), "{text}");
    let line = gate.exchange("/api/x");
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(line["reason"], "upstream_refused_credential", "{line}");
    let cause = line["cause"].as_str().unwrap();
    assert!(
        cause.contains("401") && cause.contains("gate's credentials"),
        "{cause}"
    );
    assert_eq!(
        gate.metric("tollgate_upstream_refusals_total{upstream=\"app\"}"),
        1.0
    );
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_redirect_means_refusal_only_where_the_route_says_so() {
    let routes = "
  - path: /sts/**
    upstream: app
    upstream_refusal: { statuses: [401, 407], locations: [ \"/login*\" ] }
  - { path: /api/**, upstream: app }
  - { path: /none/**, upstream: app, upstream_refusal: { statuses: [] } }
";
    for (path, answer, status) in [
        ("/sts/a", "302 Found\r\nlocation: /login?next=/sts/a", 502),
        ("/sts/a", "302 Found\r\nlocation: http://inner:1/login", 502),
        ("/sts/a", "303 See Other\r\nlocation: /login", 502),
        ("/sts/a", "302 Found\r\nlocation: /elsewhere", 302),
        ("/sts/a", "200 OK\r\nlocation: /login", 200),
        ("/sts/a", "407 Proxy Authentication Required\r\nx-a: b", 502),
        ("/api/a", "302 Found\r\nlocation: /login", 302),
        ("/api/a", "401 Unauthorized\r\nx-a: b", 502),
        ("/none/a", "401 Unauthorized\r\nx-a: b", 401),
    ] {
        let bytes = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
        let upstream = Upstream::answering(&bytes);
        let gate = Builder::standard(upstream.address, routes).start();
        let response = gate.get(path, &sign(&claims()));
        assert_eq!(response.status, status, "{path}: {answer}");
        let location = response.header("location");
        assert_eq!(
            location.is_some(),
            answer.contains("location") && status != 502,
            "{answer}"
        );
    }
}

#[test]
fn an_endpoint_that_is_down_is_passed_over() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
    let (down, up) = (nobody(), upstream.address);
    let app = format!("  app: {{ endpoints: [ \"http://{down}\", \"http://{up}\" ] }}");
    let gate = Builder::standard(up, ROUTES).line("  app:", &app).start();
    for _ in 0..20 {
        assert_eq!(gate.get("/api/x", &sign(&claims())).status, 200);
    }
    assert_eq!(upstream.seen().len(), 20);
    assert!(gate.metric(&errors("connect")) >= 1.0);
}

/// Whether anyone on this machine has an unclosed connection to `address`.
fn is_connected_to(address: SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|remote| remote.ends_with(&port)) && columns.next() == Some("01")
    })
}

fn get(target: &str) -> String {
    let token = sign(&claims());
    format!("GET {target} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n")
}
