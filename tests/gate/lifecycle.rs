//! Does the gate change and end without losing what is under way?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http::Request;

use crate::support::client::{connect, read_response, send};
use crate::support::gate::{Builder, Gate, claims, run, self_signed, sign};
use crate::support::held::Held;
use crate::support::http2::{Http2, empty};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::reload::{Verdict, reload_with};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
  - { path: /open/**, name: open, upstream: app, public: true }
";

fn get(target: &str) -> String {
    let token = sign(&claims());
    format!("GET {target} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n")
}

fn wait_for_drain(gate: &Gate) {
    gate.wait_for_log("draining", |line| line["message"] == "draining");
}

#[test]
fn the_admin_listener_says_that_the_gate_lives_and_serves() {
    let gate = Builder::standard(Upstream::start().address, ROUTES).start();
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/", 200),
        ("/api/x", 404),
    ] {
        assert_eq!(gate.on_admin(path).status, status, "{path}");
        let on_public = gate.request("GET", path, "").status;
        assert_eq!(
            on_public,
            if path == "/api/x" { 401 } else { 404 },
            "{path}"
        );
    }
    let post = "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(send(gate.admin, post).status, 405);
}

#[test]
fn a_signal_lets_requests_under_way_end_and_the_gate_with_them() {
    for signal in ["TERM", "INT"] {
        let upstream = Held::start();
        let mut gate = Builder::standard(upstream.address, ROUTES).start();
        let mut idle = connect(gate.address());
        idle.write_all(&get("/nowhere").into_bytes()).unwrap();
        assert_eq!(read_response(&mut idle, false).status, 404);
        let mut busy = connect(gate.address());
        busy.write_all(get("/api/x").as_bytes()).unwrap();
        upstream.wait();
        gate.signal(signal);
        // The connection without a request is closed, the one with a request is not.
        assert_eq!(read_rest(&mut idle), b"", "{signal}");
        wait_for("the listeners to close", || {
            TcpStream::connect(gate.address()).err()
        });
        upstream.answer();
        let response = read_response(&mut busy, false);
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "ok"),
            "{signal}"
        );
        assert_eq!(response.header("connection"), Some("close"), "{signal}");
        assert_eq!(read_rest(&mut busy), b"", "{signal}");
        assert_eq!(gate.wait(), Some(0), "{signal}");
        let paths = gate.exchanges().len();
        assert_eq!(paths, 2, "{signal}: the last line was lost: {}", gate.log());
    }
}

#[test]
fn a_signal_lets_requests_over_http2_end() {
    let upstream = Held::start();
    let (certificate, key) = self_signed(&["gate.example"]);
    let mut gate = Builder::standard(upstream.address, ROUTES)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: a.key } } ]")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    let mut client = Http2::connect(gate.address(), &certificate);
    let asking = std::thread::spawn(move || {
        let request = Request::get("https://gate.example/open/x").body(empty());
        client.send(request.unwrap()).status
    });
    upstream.wait();
    gate.signal("TERM");
    wait_for_drain(&gate);
    upstream.answer();
    assert_eq!(asking.join().unwrap(), 200);
    assert_eq!(gate.wait(), Some(0));
}

#[test]
fn while_it_drains_the_gate_lives_but_is_not_ready() {
    let upstream = Held::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let mut busy = connect(gate.address());
    busy.write_all(get("/api/x").as_bytes()).unwrap();
    upstream.wait();
    gate.signal("TERM");
    wait_for_drain(&gate);
    for (path, status) in [("/readyz", "503"), ("/livez", "200"), ("/metrics", "200")] {
        let mut stream = TcpStream::connect(gate.admin).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let answer = read_head(&mut stream);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer:?}"
        );
    }
    let admin = gate.admin.to_string();
    let check = ["healthcheck", "--admin", &admin];
    assert_eq!(run(&check, "").status.code(), Some(1));
    assert_eq!(
        run(&[&check[..], &["--live"]].concat(), "").status.code(),
        Some(0)
    );
    upstream.answer();
}

#[test]
fn before_it_drains_the_gate_is_not_ready_but_serves_as_ever() {
    let upstream = Upstream::start();
    let drain = "drain: { delay: 1h }";
    let mut gate = Builder::with_extra(upstream.address, ROUTES, drain).start();
    let mut kept = connect(gate.address());
    gate.signal("TERM");
    gate.wait_for_log("the signal", |line| {
        line["message"] == "not ready any more; the drain begins after drain.delay"
    });
    assert_eq!(gate.on_admin("/readyz").status, 503);
    assert_eq!(gate.on_admin("/livez").status, 200);
    for _ in 0..3 {
        kept.write_all(get("/api/x").as_bytes()).unwrap();
        let response = read_response(&mut kept, false);
        assert_eq!(
            (response.status, response.header("connection")),
            (200, None)
        );
        assert_eq!(gate.get("/api/x", &sign(&claims())).status, 200);
    }
    let other = changed(&gate, "/api/**", "/other/**");
    assert_eq!(reload_with(&gate, &other), Verdict::Taken);
    assert_eq!(gate.get("/other/x", &sign(&claims())).status, 200);
    gate.signal("TERM");
    assert_eq!(gate.wait(), Some(0));
    assert!(!gate.log().contains("draining"), "{}", gate.log());
}

#[test]
fn the_drain_begins_once_the_delay_is_over() {
    let upstream = Held::start();
    let drain = "drain: { delay: 100ms }";
    let mut gate = Builder::with_extra(upstream.address, ROUTES, drain).start();
    let mut busy = connect(gate.address());
    busy.write_all(get("/api/x").as_bytes()).unwrap();
    upstream.wait();
    gate.signal("TERM");
    wait_for_drain(&gate);
    assert_eq!(gate.on_admin("/readyz").status, 503);
    wait_for("the listeners to close", || {
        TcpStream::connect(gate.address()).err()
    });
    upstream.answer();
    assert_eq!(read_response(&mut busy, false).status, 200);
    assert_eq!(gate.wait(), Some(0));
}

#[test]
fn a_request_that_never_ends_is_given_up_after_the_grace_period() {
    let upstream = Held::start();
    let drain = "drain: { grace: 300ms }";
    let mut gate = Builder::with_extra(upstream.address, ROUTES, drain).start();
    let mut busy = connect(gate.address());
    busy.write_all(get("/api/x").as_bytes()).unwrap();
    upstream.wait();
    gate.signal("TERM");
    assert_eq!(gate.wait(), Some(0));
    assert_eq!(read_rest(&mut busy), b"");
    gate.wait_for_log("the grace period's end", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("grace period"))
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = accepting(|mut stream| {
        read_head(&mut stream);
        // Never answers.
        let _ = stream.read(&mut [0]);
    });
    let mut gate = Builder::standard(upstream, ROUTES).start();
    let mut stuck = connect(gate.address());
    stuck.write_all(get("/open/x").as_bytes()).unwrap();
    gate.wait_for_metric("tollgate_requests_in_flight{route=\"open\"}", 1.0);
    gate.signal("INT");
    gate.wait_for_log("the drain", |line| line["message"] == "draining");
    gate.signal("INT");
    assert_eq!(gate.wait(), Some(0));
    gate.wait_for_log("the second signal", |line| {
        line["message"] == "stopped at once by a second signal"
    });
}

/// The gate's config with one text replaced.
fn changed(gate: &Gate, from: &str, to: &str) -> String {
    let config = std::fs::read_to_string(gate.folder().path().join("tollgate.yaml")).unwrap();
    assert!(config.contains(from), "{from} is not in {config}");
    config.replace(from, to)
}

#[test]
fn a_reload_changes_routes_at_once_and_disturbs_nothing_else() {
    let upstream = Held::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let token = gate.token("root", "memphis");
    let mut busy = connect(gate.address());
    busy.write_all(get("/api/x").as_bytes()).unwrap();
    upstream.wait();
    let mut kept = connect(gate.address());
    kept.write_all(get("/fresh/x").as_bytes()).unwrap();
    assert_eq!(read_response(&mut kept, false).status, 404);

    let fresh = changed(&gate, "/api/**, name: api", "/fresh/**, name: fresh");
    assert_eq!(reload_with(&gate, &fresh), Verdict::Taken);
    assert_eq!(gate.get("/api/x", &token).status, 404);
    for _ in 0..2 {
        upstream.answer();
    }
    assert_eq!(read_response(&mut busy, false).status, 200);
    assert_eq!(gate.get("/fresh/x", &token).status, 200);
    upstream.answer();
    kept.write_all(get("/fresh/x").as_bytes()).unwrap();
    assert_eq!(read_response(&mut kept, false).status, 200);
    assert_eq!(gate.metric("tollgate_config_last_reload_successful"), 1.0);
}

#[test]
fn a_broken_config_is_refused_and_the_old_one_goes_on() {
    let gate = Builder::standard(Upstream::start().address, ROUTES).start();
    let good = changed(&gate, "/api/**", "/api/**");
    for (row, broken) in [
        ("not YAML", "{".to_owned()),
        ("empty", String::new()),
        (
            "an unknown key",
            changed(&gate, "upstream: app", "upstrem: app"),
        ),
        (
            "an unknown upstream",
            changed(&gate, "upstream: app", "upstream: nobody"),
        ),
        (
            "a missing file",
            changed(&gate, "secret_file: k1", "secret_file: k2"),
        ),
        ("no route pattern", changed(&gate, "/api/**", "api")),
    ] {
        assert_eq!(reload_with(&gate, &broken), Verdict::Refused, "{row}");
        assert_eq!(
            gate.metric("tollgate_config_last_reload_successful"),
            0.0,
            "{row}"
        );
        assert_eq!(gate.get("/api/x", &sign(&claims())).status, 200, "{row}");
        assert_eq!(gate.on_admin("/readyz").status, 200, "{row}");
    }
    assert_eq!(
        gate.metric("tollgate_config_reloads_total{result=\"refused\"}"),
        6.0
    );
    assert_eq!(reload_with(&gate, &good), Verdict::Taken);
    assert_eq!(gate.metric("tollgate_config_last_reload_successful"), 1.0);
}

#[test]
fn a_second_gate_takes_over_the_port_while_the_first_drains() {
    let (old_upstream, upstream) = (Held::start(), Upstream::start());
    let mut old = Builder::standard(old_upstream.address, ROUTES).start();
    let address = old.address();
    let mut busy = connect(address);
    busy.write_all(get("/api/x").as_bytes()).unwrap();
    old_upstream.wait();
    let listeners = format!("listeners: [ {{ address: \"{address}\" }} ]");
    let new = Builder::standard(upstream.address, ROUTES)
        .line("listeners:", &listeners)
        .start();
    assert_eq!(listening(address), 4, "two workers each");
    old.signal("TERM");
    wait_for("the first gate to stop listening", || {
        (listening(address) == 2).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(new.get("/api/x", &sign(&claims())).status, 200);
    }
    old_upstream.answer();
    assert_eq!(read_response(&mut busy, false).status, 200);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(new.get("/api/x", &sign(&claims())).status, 200);
    assert_eq!(upstream.seen().len(), 21);
}

/// How many sockets listen on an address.
fn listening(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    let is_one = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns[1].ends_with(&port) && columns[3] == "0A"
    };
    table.lines().filter(is_one).count()
}
