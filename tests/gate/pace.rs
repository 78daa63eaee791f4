//! Whoever sends or takes too slowly is left; whoever is not waited for is not judged.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::client::{connect, read_response};
use crate::support::frames::Frames;
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::{threat, wait_for};

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";
/// Faster than any client here, but for those that send all at once.
const LIMITS: &str = "min_upload_rate: 1MB, min_download_rate: 1MB, rate_grace: 400ms";
const IN_FLIGHT: &str = "tollgate_requests_in_flight{route=\"api\"}";

fn start(upstream: SocketAddr) -> Gate {
    Builder::with_extra(upstream, ROUTES, &format!("limits: {{ {LIMITS} }}"))
        .line(
            "listeners:",
            "listeners: [ { address: \"127.0.0.1:0\", name: plain } ]",
        )
        .line("  app:", &app(upstream))
        .start()
}

/// It has all the time that it wants.
fn app(upstream: SocketAddr) -> String {
    format!("  app: {{ endpoints: [ \"http://{upstream}\" ], response_timeout: 60s }}")
}

fn head(method: &str, length: usize) -> String {
    let token = sign(&claims());
    format!(
        "{method} /api/a HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\
         content-length: {length}\r\n\r\n"
    )
}

/// Sends a byte now and then, until it is left.
fn trickle(stream: &TcpStream) {
    let mut stream = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_client_that_trickles_its_upload_gets_408() {
    let gate = start(accepting(|mut stream| {
        read_rest(&mut stream);
    }));
    let mut stream = connect(gate.address());
    stream
        .write_all(head("POST", 1_000_000).as_bytes())
        .unwrap();
    trickle(&stream);
    assert_eq!(read_response(&mut stream, false).status, 408);
    let line = gate.exchange("/api/a");
    assert_eq!(line["reason"], "upload_too_slow", "{line}");
    assert_eq!(line["side"], "downstream", "{line}");
    let counted = "tollgate_requests_total{code=\"4xx\",method=\"POST\",route=\"api\"}";
    gate.wait_for_metric(counted, 1.0);
    threat::count("least rates", 1);
}

#[test]
fn a_route_may_have_a_rate_of_its_own() {
    let upstream = accepting(|mut stream| {
        read_head(&mut stream);
        let mut body = [0; 40];
        stream.read_exact(&mut body).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let routes = ROUTES.replace("upstream: app", "upstream: app, min_upload_rate: 0B");
    let gate = Builder::with_extra(upstream, &routes, &format!("limits: {{ {LIMITS} }}"))
        .line("  app:", &app(upstream))
        .start();
    let mut stream = connect(gate.address());
    stream.write_all(head("POST", 40).as_bytes()).unwrap();
    // Forty times a pause take longer than the grace.
    trickle(&stream);
    assert_eq!(read_response(&mut stream, false).status, 200);
    threat::count("least rates", 1);
}

#[test]
fn an_answer_that_is_under_way_does_not_excuse_a_slow_upload() {
    let upstream = accepting(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na");
        read_rest(&mut stream);
    });
    for trickles in [false, true] {
        let gate = start(upstream);
        let mut stream = connect(gate.address());
        stream
            .write_all(head("POST", 1_000_000).as_bytes())
            .unwrap();
        if trickles {
            trickle(&stream);
        }
        let answer = String::from_utf8(read_rest(&mut stream)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\na"), "{answer}");
        let line = gate.exchange("/api/a");
        assert_eq!(line["reason"], "upload_too_slow", "{line}");
        gate.wait_for_metric(IN_FLIGHT, 0.0);
        // The upstream is not to blame.
        let broken = "tollgate_upstream_errors_total{kind=\"broken_response\",upstream=\"app\"}";
        assert_eq!(gate.metric(broken), 0.0);
    }
    threat::count("least rates", 2);
}

#[test]
fn an_upload_that_outlives_its_answer_is_judged_too() {
    let (left, leaving) = channel();
    let left = Mutex::new(left);
    let upstream = accepting(move |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        read_rest(&mut stream);
        let _ = left.lock().unwrap().send(());
    });
    let (certificate, key) = self_signed(&["gate.example"]);
    let gate = Builder::with_extra(upstream, ROUTES, &format!("limits: {{ {LIMITS} }}"))
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: a.key } } ]")
        .line("  app:", &app(upstream))
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    let bearer = format!("Bearer {}", sign(&claims()));
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gate.example"),
        (":path", "/api/a"),
        ("content-length", "1000000"),
        ("authorization", &bearer),
    ];
    let mut connection = Frames::connect(gate.address(), &certificate, &[]);
    connection.request(1, 0, &fields);
    assert_eq!(connection.answer(1), Some(200));
    let outcome = leaving.recv_timeout(Duration::from_secs(20));
    assert_eq!(outcome, Ok(()), "the upstream is held for ever");
    threat::count("least rates", 1);
}

#[test]
fn a_client_is_not_blamed_for_an_upstream_that_takes_slowly() {
    const LENGTH: usize = 16_000_000;
    let upstream = accepting(|mut stream| {
        read_head(&mut stream);
        // Several times the grace.
        std::thread::park_timeout(Duration::from_millis(1500));
        stream.read_exact(&mut vec![0; LENGTH]).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let gate = start(upstream);
    let mut stream = connect(gate.address());
    stream.write_all(head("POST", LENGTH).as_bytes()).unwrap();
    stream.write_all(&vec![0; LENGTH]).unwrap();
    assert_eq!(read_response(&mut stream, false).status, 200);
    threat::count("least rates", 1);
}

#[test]
fn a_client_that_takes_its_answer_too_slowly_is_left() {
    let gate = start(accepting(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
        while stream.write_all(&[0; 65536]).is_ok() {}
    }));
    let mut stream = connect(gate.address());
    stream.write_all(head("GET", 0).as_bytes()).unwrap();
    // Far from the limit of its silence, but far from the rate, too.
    let cut = "tollgate_connections_cut_total{cause=\"download_too_slow\",listener=\"plain\"}";
    wait_for("that it is left", || {
        std::thread::park_timeout(Duration::from_millis(20));
        let _ = stream.read(&mut [0; 100]);
        (gate.metric(cut) > 0.0).then_some(())
    });
    gate.wait_for_metric(IN_FLIGHT, 0.0);
    threat::count("least rates", 1);
}

#[test]
fn an_answer_with_nothing_to_send_waits_for_nobody() {
    let gate = start(accepting(|mut stream| {
        read_head(&mut stream);
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head);
        for chunk in ["1\r\na\r\n", "1\r\nb\r\n", "0\r\n\r\n"] {
            std::thread::park_timeout(Duration::from_millis(1000));
            let _ = stream.write_all(chunk.as_bytes());
        }
    }));
    let mut stream = connect(gate.address());
    stream.write_all(head("GET", 0).as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream, false).text(), "ab");
    threat::count("least rates", 1);
}
