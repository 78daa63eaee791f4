//! What happens when it is the client that stalls, leaves or comes in masses?

use std::io::{ErrorKind, Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;

use crate::support::client::{connect, connect_tls, read_response};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";
const IN_FLIGHT: &str = "tollgate_requests_in_flight{route=\"api\"}";

#[test]
fn a_client_that_stalls_its_upload_gets_408() {
    let upstream = accepting(|mut stream| {
        read_rest(&mut stream);
    });
    let app = format!("  app: {{ endpoints: [ \"http://{upstream}\" ], response_timeout: 500ms }}");
    let gate = Builder::standard(upstream, ROUTES)
        .line("  app:", &app)
        .start();
    let mut stream = connect(gate.address());
    let head = head("POST", "/api/x", "content-length: 100\r\n");
    stream
        .write_all(format!("{head}only a part").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream, false).status, 408);
    let line = gate.exchange("/api/x");
    assert_eq!(line["reason"], "request_timeout", "{line}");
    assert_eq!(line["side"], "downstream", "{line}");
    let faults = "tollgate_upstream_errors_total{kind=\"response_timeout\",upstream=\"app\"}";
    assert_eq!(gate.metric(faults), 0.0);
    gate.wait_for_metric(IN_FLIGHT, 0.0);
}

#[test]
fn a_client_that_leaves_is_logged_and_no_longer_counted() {
    let (arrived, arrival) = channel();
    let arrived = Mutex::new(arrived);
    let upstream = accepting(move |mut stream| {
        let head = read_head(&mut stream);
        let _ = arrived.lock().unwrap().send(());
        if head.contains("/api/answer") {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            while stream.write_all(&[0; 65536]).is_ok() {}
        }
        read_rest(&mut stream);
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    for (row, path, request) in [
        ("while it waits", "/api/wait", head("GET", "/api/wait", "")),
        (
            "while it sends",
            "/api/send",
            head("POST", "/api/send", "content-length: 9\r\n") + "x",
        ),
        (
            "while it reads",
            "/api/answer",
            head("GET", "/api/answer", ""),
        ),
    ] {
        let mut stream = connect(gate.address());
        stream.write_all(request.as_bytes()).unwrap();
        arrival.recv_timeout(Duration::from_secs(20)).expect(row);
        if path == "/api/answer" {
            read_head(&mut stream);
        }
        gate.wait_for_metric(IN_FLIGHT, 1.0);
        drop(stream);
        let line = gate.exchange(path);
        assert_ne!(line["side"], "upstream", "{row}: {line}");
        assert_ne!(line["side"], "gate", "{row}: {line}");
        gate.wait_for_metric(IN_FLIGHT, 0.0);
    }
    let faults = gate.metrics();
    assert!(
        !faults.contains("tollgate_upstream_errors_total{"),
        "{faults}"
    );
    assert!(!gate.log().contains("panicked"), "{}", gate.log());
    assert_eq!(gate.request("GET", "/api/x", "").status, 401);
}

#[test]
fn a_head_that_never_ends_is_hung_up_on() {
    let limits = "limits: { header_timeout: 300ms }";
    let upstream = Upstream::start();
    let gate = Builder::with_extra(upstream.address, ROUTES, limits).start();
    for (row, bytes) in [
        ("nothing", ""),
        ("half a line", "GET /api/x HT"),
        ("half a head", "GET /api/x HTTP/1.1\r\nhost: a\r\n"),
    ] {
        let mut stream = connect(gate.address());
        stream.write_all(bytes.as_bytes()).unwrap();
        let answer = String::from_utf8(read_rest(&mut stream)).unwrap();
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 408 ");
        assert!(is_refused, "{row}: {answer}");
    }
}

#[test]
fn an_http2_client_that_says_nothing_is_hung_up_on() {
    let (certificate, key) = self_signed(&["gate.example"]);
    let upstream = Upstream::start();
    let limits = "limits: { header_timeout: 300ms }";
    let gate = Builder::with_extra(upstream.address, ROUTES, limits)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", name: secure, tls: { certificate: a.crt, private_key: a.key } } ]")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    let still_open = |bytes: &[u8]| {
        let versions = rustls::ALL_VERSIONS;
        let address = gate.address();
        let mut stream = connect_tls(address, "gate.example", &certificate, &["h2"], versions);
        let limit = Some(Duration::from_secs(5));
        stream.sock.set_read_timeout(limit).unwrap();
        stream.write_all(bytes).unwrap();
        stream.flush().unwrap();
        // The certificate's tickets and the gate's own frames come first, then the end.
        let end = stream.read_to_end(&mut Vec::new());
        end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    std::thread::scope(|scope| {
        let rows = SILENCES.map(|(row, bytes)| (row, scope.spawn(move || still_open(bytes))));
        for (row, connection) in rows {
            assert!(!connection.join().unwrap(), "{row}: still connected");
        }
    });
    let cut = "tollgate_connections_cut_total{cause=\"header_timeout\",listener=\"secure\"}";
    gate.wait_for_metric(cut, f64::from(u8::try_from(SILENCES.len()).unwrap()));
}

#[test]
fn a_login_that_is_too_large_or_does_not_end_is_refused() {
    let upstream = Upstream::start();
    let limits = "limits: { login_body: 1KiB, login_timeout: 300ms }";
    let gate = Builder::with_extra(upstream.address, ROUTES, limits).start();
    let large = json!({"username": "root", "password": "x".repeat(2000)}).to_string();
    let head = "POST /auth/authenticate HTTP/1.1\r\nhost: gate.example\r\n";
    let unended = format!("{head}content-length: 100\r\n\r\n{{");
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    for (status, reason, request) in [
        (413, "body_too_large", chunked),
        (408, "request_timeout", unended),
    ] {
        assert_eq!(gate.send(request).status, status, "{reason}");
        let counted = format!(
            "tollgate_logins_total{{dialect=\"memphis\",reason=\"{reason}\",result=\"refused\"}}"
        );
        gate.wait_for_metric(&counted, 1.0);
    }
    assert_eq!(log_in(&gate), 200);
}

const SILENCES: [(&str, &[u8]); 2] = [("nothing", b""), ("half a preface", b"PRI * HTTP/2.0\r\n")];

#[test]
fn a_storm_of_logins_is_turned_away_and_requests_pass_all_the_same() {
    let upstream = Upstream::start();
    let limits = "limits: { hashing_threads: 1, hashing_queue: 2 }";
    let gate = Builder::with_extra(upstream.address, ROUTES, limits).start();
    let token = sign(&claims());
    let statuses = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let status = log_in(&gate);
                statuses.lock().unwrap().push(status);
            });
        }
        for _ in 0..20 {
            assert_eq!(gate.get("/api/x", &token).status, 200);
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let count = |status| {
        let held = statuses.iter().filter(|held| **held == status);
        u32::try_from(held.count()).unwrap()
    };
    assert!(count(503) > 0, "{statuses:?}");
    assert!(count(200) > 0, "{statuses:?}");
    assert_eq!(count(200) + count(503), 32, "{statuses:?}");
    let refused =
        "tollgate_logins_total{dialect=\"memphis\",reason=\"overloaded\",result=\"refused\"}";
    gate.wait_for_metric(refused, f64::from(count(503)));
    assert_eq!(log_in(&gate), 200);
}

#[test]
fn hashing_has_the_lowest_priority_and_nothing_else_has() {
    let upstream = Upstream::start();
    let limits = "limits: { hashing_threads: 2 }";
    let gate = Builder::with_extra(upstream.address, ROUTES, limits).start();
    assert_eq!(log_in(&gate), 200);
    let threads = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).unwrap();
    let mut priorities = Vec::new();
    for thread in threads {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        // The name stands in brackets; `nice` is field 19, the 17th behind them (proc(5)).
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        let nice: i32 = fields.split(' ').nth(16).unwrap().parse().unwrap();
        priorities.push((name.contains("(hashing-"), nice));
    }
    let of = |is_hashing| {
        priorities
            .iter()
            .filter(move |(held, _)| *held == is_hashing)
    };
    assert_eq!(of(true).count(), 2, "{priorities:?}");
    assert!(of(true).all(|(_, nice)| *nice == 19), "{priorities:?}");
    assert!(of(false).all(|(_, nice)| *nice < 19), "{priorities:?}");
}

fn log_in(gate: &Gate) -> u16 {
    let body = json!({"username": "root", "password": "memphis"}).to_string();
    let response = gate.post_json("/auth/authenticate", &body);
    if response.status == 503 {
        assert_eq!(response.header("retry-after"), Some("1"));
        assert!(response.json()["message"].is_string());
    }
    response.status
}

/// The head of a request; `lines` are whole header lines.
fn head(method: &str, target: &str, lines: &str) -> String {
    let token = sign(&claims());
    format!(
        "{method} {target} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\
         {lines}\r\n"
    )
}
