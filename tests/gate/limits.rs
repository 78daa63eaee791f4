//! Beyond each limit the gate turns away cheaply and goes on serving those inside it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::client::{connect, read_response, try_connect};
use crate::support::frames::{END_STREAM, Frames, WINDOW_UPDATE};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::threat;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";

fn start(upstream: SocketAddr, limits: &str) -> Gate {
    Builder::with_extra(upstream, ROUTES, &format!("limits: {{ {limits} }}"))
        .line(
            "listeners:",
            "listeners: [ { address: \"127.0.0.1:0\", name: plain } ]",
        )
        .line("workers:", "workers: 1")
        .start()
}

fn cut(cause: &str) -> String {
    format!("tollgate_connections_cut_total{{cause=\"{cause}\",listener=\"plain\"}}")
}

fn request(target: &str) -> String {
    let token = sign(&claims());
    format!("GET {target} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n")
}

fn ask(stream: &mut TcpStream) -> u16 {
    stream.write_all(request("/api/a").as_bytes()).unwrap();
    read_response(stream, false).status
}

/// Opens as many connections as there may be; one more is told off, and served once another ends.
fn assert_bounded(gate: &Gate, most: usize, status: u16, cause: &str) {
    let mut open: Vec<_> = (0..most).map(|_| connect(gate.address())).collect();
    assert!(open.iter_mut().all(|stream| ask(stream) == 200));
    let mut refused = connect(gate.address());
    refused.write_all(request("/api/a").as_bytes()).unwrap();
    let response = read_response(&mut refused, false);
    assert_eq!(response.status, status);
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(read_rest(&mut refused), b"");
    assert_eq!(gate.metric(&cut(cause)), 1.0, "{}", gate.metrics());
    assert!(open.iter_mut().all(|stream| ask(stream) == 200));
    drop(open.pop());
    let open = "tollgate_connections_open{listener=\"plain\"}";
    gate.wait_for_metric(open, f64::from(u8::try_from(most).unwrap()) - 1.0);
    assert_eq!(ask(&mut connect(gate.address())), 200);
}

#[test]
fn beyond_all_connections_a_client_gets_503() {
    let upstream = Upstream::start();
    let gate = start(upstream.address, "connections: 4");
    assert_bounded(&gate, 4, 503, "connections");
    threat::count("limits", 1);
}

#[test]
fn beyond_an_addresss_connections_it_gets_429() {
    let upstream = Upstream::start();
    let gate = start(upstream.address, "connections_per_address: 3");
    assert_bounded(&gate, 3, 429, "connections_per_address");
    threat::count("limits", 1);
}

#[test]
fn a_trusted_proxy_may_have_any_number_of_connections() {
    let upstream = Upstream::start();
    let limits = "limits: { connections_per_address: 1 }";
    let gate = Builder::with_extra(upstream.address, ROUTES, limits)
        .line(
            "listeners:",
            "listeners: [ { address: \"127.0.0.1:0\", trusted_proxies: [ \"127.0.0.1\" ] } ]",
        )
        .start();
    let mut open: Vec<_> = (0..8).map(|_| connect(gate.address())).collect();
    assert!(open.iter_mut().all(|stream| ask(stream) == 200));
    threat::count("limits", 1);
}

#[test]
fn a_head_with_too_many_fields_or_bytes_gets_431() {
    let upstream = Upstream::start();
    for (limits, count) in [
        ("header_count: 20", 30),
        ("header_count: 200, header_size: 16KiB", 2000),
    ] {
        let gate = start(upstream.address, limits);
        let fields = "x-a: 12345678901234567890\r\n".repeat(count);
        assert_eq!(
            gate.request("GET", "/api/a", &fields).status,
            431,
            "{limits}"
        );
        gate.wait_for_metric(&cut("headers_too_large"), 1.0);
        assert_eq!(ask(&mut connect(gate.address())), 200, "{limits}");
    }
    // A larger bound than hyper's own holds too.
    let gate = start(upstream.address, "header_count: 200");
    let bearer = format!("authorization: Bearer {}\r\n", sign(&claims()));
    let fields = format!("{bearer}{}", "x-a: 1\r\n".repeat(150));
    assert_eq!(gate.request("GET", "/api/a", &fields).status, 200);
    threat::count("limits", 1);
}

#[test]
fn what_cannot_be_read_and_heads_that_never_end_are_counted() {
    let upstream = Upstream::start();
    let gate = start(upstream.address, "header_timeout: 300ms");
    assert_eq!(gate.send("GET /api/a HTTP/1.1\nhost: a\n\n").status, 400);
    gate.wait_for_metric(&cut("malformed"), 1.0);
    let mut stream = connect(gate.address());
    stream.write_all(b"GET /api/a HTTP/1.1\r\nhost").unwrap();
    read_rest(&mut stream);
    gate.wait_for_metric(&cut("header_timeout"), 1.0);
    threat::count("limits", 1);
}

#[test]
fn what_cannot_be_read_is_told_in_the_log_without_a_byte_of_it() {
    let upstream = Upstream::start();
    let mut gate = start(upstream.address, "header_count: 20");
    let many = "x-a: hunter2\r\n".repeat(30);
    for (status, reason, request) in [
        (400, "malformed", "GET /hunter2 HTTP/1.1\nhost: a\n\n"),
        (
            400,
            "malformed",
            "GET /hunter2\u{0} HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        (
            431,
            "headers_too_large",
            &format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
        ),
    ] {
        assert_eq!(gate.send(request).status, status);
        let line = gate.wait_for_log(reason, |line| {
            line["message"] == "connection cut" && line["reason"] == reason
        });
        assert_eq!(line["client.address"], "127.0.0.1", "{line}");
        assert_eq!(line["listener"], "plain", "{line}");
    }
    let log = gate.end();
    assert_eq!(log.matches("connection cut").count(), 3, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    threat::count("limits", 1);
}

/// An upstream that sends without end, until it is left.
fn endless() -> SocketAddr {
    accepting(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
        while stream.write_all(&[0; 65536]).is_ok() {}
    })
}

#[test]
fn a_client_that_takes_nothing_is_left_and_its_upstream_with_it() {
    let gate = start(endless(), "send_timeout: 300ms");
    let mut stream = connect(gate.address());
    stream.write_all(request("/api/a").as_bytes()).unwrap();
    gate.wait_for_metric(&cut("send_timeout"), 1.0);
    gate.wait_for_metric("tollgate_requests_in_flight{route=\"api\"}", 0.0);
    gate.wait_for_metric("tollgate_connections_open{listener=\"plain\"}", 0.0);
    threat::count("limits", 1);
}

#[test]
fn a_client_that_reads_slowly_is_not_left() {
    let upstream = Upstream::scripted(|_, stream| {
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n".to_vec();
        answer.resize(answer.len() + 20_000_000, b'x');
        stream.write_all(&answer).is_ok()
    });
    let gate = start(upstream.address, "send_timeout: 400ms");
    let mut stream = connect(gate.address());
    stream.write_all(request("/api/a").as_bytes()).unwrap();
    read_head(&mut stream);
    let mut rest = 20_000_000;
    let mut buffer = vec![0; 2_000_000];
    while rest > 0 {
        // Slower than the limit as a whole, but never still for so long.
        std::thread::park_timeout(Duration::from_millis(100));
        let part = rest.min(buffer.len());
        stream.read_exact(&mut buffer[..part]).unwrap();
        rest -= part;
    }
    assert_eq!(gate.metric(&cut("send_timeout")), 0.0);
    threat::count("limits", 1);
}

#[test]
fn an_http2_client_that_keeps_its_windows_shut_is_left() {
    let (certificate, key) = self_signed(&["gate.example"]);
    let gate = Builder::with_extra(endless(), ROUTES, "limits: { send_timeout: 300ms }")
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", name: plain, tls: { certificate: a.crt, private_key: a.key } } ]")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    let bearer = format!("Bearer {}", sign(&claims()));
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gate.example"),
        (":path", "/api/a"),
        ("authorization", &bearer),
    ];
    // SETTINGS_INITIAL_WINDOW_SIZE.
    for window in [0, 1] {
        let before = gate.metric(&cut("send_timeout"));
        let mut connection = Frames::connect(gate.address(), &certificate, &[(4, window)]);
        connection.request(1, END_STREAM, &fields);
        connection.send(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
        while connection.next().is_some() {}
        gate.wait_for_metric(&cut("send_timeout"), before + 1.0);
        gate.wait_for_metric("tollgate_requests_in_flight{route=\"api\"}", 0.0);
    }
    threat::count("limits", 1);
}

#[test]
fn a_gate_without_file_descriptors_serves_those_who_have_one_and_goes_on() {
    let upstream = Upstream::start();
    let mut gate = start(upstream.address, "connections: 4096");
    let limit = format!("--nofile={}", 64);
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &gate.pid().to_string(), &limit])
        .status();
    assert!(status.expect("prlimit").success());
    let mut first = connect(gate.address());
    assert_eq!(ask(&mut first), 200);
    let flood: Vec<_> = (0..200)
        .filter_map(|_| try_connect(gate.address()).ok())
        .collect();
    gate.wait_for_log("that none is left", |line| {
        line["message"] == "accepting a connection failed"
    });
    for _ in 0..20 {
        assert_eq!(ask(&mut first), 200);
    }
    drop(flood);
    assert_eq!(ask(&mut connect(gate.address())), 200);
    let log = gate.end();
    assert!(!log.contains("panic"), "{log}");
    threat::count("limits", 1);
}

#[test]
fn a_body_larger_than_its_route_takes_gets_413_and_never_arrives_whole() {
    let upstream = Upstream::start();
    let routes = "
  - { path: /api/**, name: api, upstream: app, body_size: 10kB }
  - { path: /large/**, upstream: app }
";
    let gate = Builder::standard(upstream.address, routes).start();
    let token = sign(&claims());
    let head = |path: &str, framing: &str| {
        format!(
            "POST {path}/a HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n{framing}\r\n\r\n"
        )
    };
    let chunks = format!("1388\r\n{}\r\n", "x".repeat(5000));
    for (path, framing, body, status) in [
        ("/api", "content-length: 10000", "x".repeat(10_000), 200),
        ("/api", "content-length: 10001", "x".repeat(10_001), 413),
        ("/large", "content-length: 10001", "x".repeat(10_001), 200),
        (
            "/api",
            "transfer-encoding: chunked",
            chunks.repeat(2) + "0\r\n\r\n",
            200,
        ),
        (
            "/api",
            "transfer-encoding: chunked",
            chunks.repeat(2) + "1\r\nx\r\n0\r\n\r\n",
            413,
        ),
        (
            "/api",
            "transfer-encoding: chunked",
            chunks.repeat(20) + "0\r\n\r\n",
            413,
        ),
    ] {
        let before = upstream.seen().len();
        let response = gate.send(head(path, framing) + &body);
        assert_eq!(response.status, status, "{path} {framing} {}", body.len());
        let arrived = upstream.seen().len() - before;
        assert_eq!(arrived, usize::from(status == 200), "{path} {framing}");
    }
    // It is told before anything is sent.
    let asked = gate.send(head(
        "/api",
        "content-length: 10001\r\nexpect: 100-continue",
    ));
    assert_eq!(asked.status, 413);
    let line = gate.wait_for_log("the reason", |line| line["reason"] == "body_too_large");
    assert_eq!(line["http.response.status_code"], 413);
    threat::count("limits", 1);
}

#[test]
fn an_exchange_that_takes_too_long_as_a_whole_is_ended() {
    let dripping = accepting(|mut stream| {
        let head = read_head(&mut stream);
        if head.contains("/api/silent") {
            read_rest(&mut stream);
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while stream.write_all(b"1\r\nx\r\n").is_ok() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    let gate = start(dripping, "request_time: 400ms");
    let mut stream = connect(gate.address());
    stream.write_all(request("/api/silent").as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream, false).status, 504);

    let mut stream = connect(gate.address());
    stream.write_all(request("/api/drips").as_bytes()).unwrap();
    let answer = String::from_utf8(read_rest(&mut stream)).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
    let line = gate.exchange("/api/drips");
    assert_eq!(line["reason"], "upstream_timeout", "{line}");

    // A client that drips its upload is at fault itself.
    let mut stream = connect(gate.address());
    let head = request("/api/silent").replace("GET", "POST");
    let head = head.trim_end().to_owned() + "\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        while writer.write_all(b"x").is_ok() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    assert_eq!(read_response(&mut stream, false).status, 408);
    drop(stream);
    drop(gate);
    writing.join().unwrap();
    threat::count("limits", 1);
}
