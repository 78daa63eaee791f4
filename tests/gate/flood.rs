//! Does a flood take no more memory than the config says, and does a gate without memory go on?
#![cfg(target_os = "linux")]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::client::{connect, read_response};
use crate::support::frames::{END_STREAM, Frames, WINDOW_UPDATE};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::observe::own_memory;
use crate::support::raw::{accepting, read_head};
use crate::support::threat;
use crate::support::wait_for;

const ROUTES: &str = "  - { path: /api/**, name: api, upstream: app }\n";
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Never stops answering, never takes a body, or answers, as the path says.
fn upstream() -> SocketAddr {
    accepting(|mut stream| {
        loop {
            let head = read_head(&mut stream);
            if head.contains("/api/endless") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(&[b'x'; 16 * 1024]).is_ok() {}
            } else if head.contains("/api/stalled") {
                std::thread::park();
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if head.is_empty() || stream.write_all(answer).is_err() {
                return;
            }
        }
    })
}

/// With a plain listener and one over TLS, one worker and these limits; and its certificate.
fn start(limits: &str) -> (Gate, String) {
    let (certificate, key) = self_signed(&["gate.example"]);
    let limits = format!("limits: {{ {limits} }}");
    let gate = Builder::with_extra(upstream(), ROUTES, &limits)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", name: plain }, { address: \"127.0.0.1:0\", name: tls, tls: { certificate: a.crt, private_key: a.key } } ]")
        .line("workers:", "workers: 1")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    (gate, certificate)
}

fn head(method: &str, path: &str, further: &str) -> String {
    let token = sign(&claims());
    format!(
        "{method} {path} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n{further}\r\n"
    )
}

fn ask(stream: &mut TcpStream) -> u16 {
    let request = head("GET", "/api/x", "");
    stream.write_all(request.as_bytes()).unwrap();
    read_response(stream, false).status
}

/// Opens all windows and takes nothing.
fn greedy(gate: &Gate, certificate: &str) -> Frames {
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let most = i32::MAX.unsigned_abs();
    let mut connection = Frames::connect(gate.listeners[1], certificate, &[(4, most)]);
    let increment = most - 65_535;
    connection.send(WINDOW_UPDATE, 0, 0, &increment.to_be_bytes());
    connection
}

/// Asks for endless answers on these streams.
fn ask_endless(connection: &mut Frames, streams: Range<u32>) {
    let bearer = format!("Bearer {}", sign(&claims()));
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gate.example"),
        (":path", "/api/endless"),
        ("authorization", &bearer),
    ];
    for stream in streams {
        connection.request(2 * stream + 1, END_STREAM, &fields);
    }
}

/// Sends as much of a body as is taken.
fn stalled(gate: &Gate) -> TcpStream {
    let mut stream = connect(gate.address());
    let patience = Some(Duration::from_millis(300));
    stream.set_write_timeout(patience).unwrap();
    let head = head("POST", "/api/stalled", "content-length: 1000000000\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
    stream
}

fn half(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream
}

/// docs/threat-model.md, "Memory", in bytes.
mod bound {
    use super::KIB;

    const BUFFER: u64 = 64 * KIB;

    /// A connection on which nothing is under way.
    pub(super) fn idle(header_size: u64) -> u64 {
        2 * header_size + 100 * KIB
    }

    /// A connection with an exchange over HTTP/1.
    pub(super) fn http1(header_size: u64) -> u64 {
        idle(header_size) + 2 * header_size.max(BUFFER) + 2 * BUFFER
    }

    /// A connection with so many exchanges over HTTP/2.
    pub(super) fn http2(header_size: u64, streams: u64) -> u64 {
        let stream = header_size + 128 * KIB + 2 * BUFFER + 48 * KIB;
        idle(header_size) + 1024 * KIB + streams * stream
    }
}

#[test]
fn a_flood_takes_no_more_memory_than_the_config_says_and_gives_it_back() {
    const EACH: usize = 8;
    const STREAMS: u32 = 32;
    const HEAD: u64 = 16 * KIB;
    let limits = format!(
        "connections: {}, http2_streams: {STREAMS}, header_size: 16KiB",
        5 * EACH + 1
    );
    let (gate, certificate) = start(&limits);
    let mut inside = connect(gate.address());
    assert_eq!(ask(&mut inside), 200);
    let before = own_memory(&gate);

    let mut greedy: Vec<_> = (0..EACH).map(|_| greedy(&gate, &certificate)).collect();
    greedy
        .iter_mut()
        .for_each(|connection| ask_endless(connection, 0..STREAMS));
    let uploads = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..EACH {
            scope.spawn(|| {
                let stream = stalled(&gate);
                uploads.lock().unwrap().push(stream);
            });
        }
    });
    let part = format!(
        "{}x-more: {}",
        head("GET", "/api/x", "").trim_end(),
        "x".repeat(15_000)
    );
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[0; 300]].concat();
    let mut flood: Vec<_> = (0..EACH)
        .map(|_| half(gate.address(), part.as_bytes()))
        .collect();
    flood.extend((0..EACH).map(|_| half(gate.listeners[1], &hello)));
    flood.extend((0..EACH).map(|_| {
        let mut idle = connect(gate.address());
        assert_eq!(ask(&mut idle), 200);
        idle
    }));
    let under_way = EACH as u64 * u64::from(STREAMS + 1);
    gate.wait_for_metric(
        "tollgate_requests_in_flight{route=\"api\"}",
        under_way as f64,
    );
    // All places are taken: who has one is served, nobody else.
    let mut beyond = connect(gate.address());
    assert_eq!(read_response(&mut beyond, false).status, 503);
    let streams = bound::http2(HEAD, STREAMS.into());
    let most = EACH as u64 * (streams + bound::http1(HEAD) + 3 * bound::idle(HEAD));
    for _ in 0..20 {
        assert_eq!(ask(&mut inside), 200);
        let taken = own_memory(&gate).saturating_sub(before);
        assert!(taken < most, "{} KiB of {}", taken / KIB, most / KIB);
    }
    let taken = own_memory(&gate) - before;
    println!("{} KiB of {}", taken / KIB, most / KIB);
    drop((greedy, uploads, flood));
    // What the allocator keeps in pieces is not given back.
    wait_for("the memory of the flood", || {
        (own_memory(&gate) < before + taken / 4).then_some(())
    });
    assert_eq!(ask(&mut inside), 200);
    assert_eq!(ask(&mut connect(gate.address())), 200);
    threat::count("limits", 1);
}

#[test]
fn a_gate_whose_memory_is_all_taken_takes_on_nothing_more_and_goes_on() {
    const LIMIT: u64 = 64 * MIB;
    const STREAMS: u32 = 32;
    const HEAD: u64 = 16 * KIB;
    let (mut gate, certificate) = start("memory: 64MiB, header_size: 16KiB");
    let mut first = connect(gate.address());
    assert_eq!(ask(&mut first), 200);
    let limit = "tollgate_memory_limit_bytes";
    gate.wait_for_metric(limit, LIMIT as f64);
    let before = own_memory(&gate);
    let mut flood: Vec<_> = (0..24).map(|_| greedy(&gate, &certificate)).collect();
    let full = |gate: &Gate| gate.log().contains("memory is at its limit");
    let mut greediest = 0;
    while !full(&gate) {
        assert!(greediest < flood.len(), "{} bytes", own_memory(&gate));
        ask_endless(&mut flood[greediest], 0..STREAMS);
        greediest += 1;
        // The requests have to be there before the next look can see what they take.
        let streams = greediest as f64 * f64::from(STREAMS);
        wait_for("the requests, or the limit", || {
            let under_way = gate.metric("tollgate_requests_in_flight{route=\"api\"}");
            (full(&gate) || under_way >= streams).then_some(())
        });
    }
    // On a connection that is there already, and on a new one.
    wait_for("a refusal", || {
        let request = head("GET", "/api/x", "");
        first.write_all(request.as_bytes()).unwrap();
        let refused = read_response(&mut first, false);
        (refused.status == 503).then(|| assert_eq!(refused.header("retry-after"), Some("1")))
    });
    wait_for("a refusal", || {
        let mut new = connect(gate.address());
        let request = head("GET", "/api/x", "");
        new.write_all(request.as_bytes()).unwrap();
        let refused = read_response(&mut new, false);
        let is_cut = refused.header("connection") == Some("close");
        is_cut.then(|| assert_eq!(refused.header("retry-after"), Some("1")))
    });
    let cut = "tollgate_connections_cut_total{cause=\"memory\",listener=\"plain\"}";
    assert!(gate.metric(cut) >= 1.0);
    assert_eq!(gate.on_admin("/livez").status, 200);

    // What was under way may still take all that it may; what is asked for now takes nothing.
    let idle = (flood.len() - greediest) as u64 * bound::idle(HEAD);
    let most = greediest as u64 * bound::http2(HEAD, STREAMS.into()) + idle;
    let shed = "tollgate_requests_total{code=\"5xx\",method=\"GET\",route=\"(none)\"}";
    let sheds = gate.metric(shed);
    for connection in &mut flood {
        ask_endless(connection, STREAMS..3 * STREAMS);
    }
    gate.wait_for_metric(shed, sheds + flood.len() as f64 * f64::from(2 * STREAMS));
    let taken = own_memory(&gate).saturating_sub(before);
    assert!(taken < most, "{} KiB of {}", taken / KIB, most / KIB);

    drop(flood);
    gate.wait_for_log("that there is some again", |line| {
        line["message"] == "memory is below its limit again"
    });
    assert_eq!(ask(&mut first), 200);
    assert_eq!(ask(&mut connect(gate.address())), 200);
    let log = gate.end();
    assert!(!log.contains("panic"), "{log}");
    threat::count("limits", 1);
}
