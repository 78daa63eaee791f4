//! What does a session of MQTT cost: memory while it is idle, and messages per second against a
//! direct connection?
//!
//! `cargo bench --bench mqtt`. Without `--bench`, as in `cargo test --benches`, it does little of
//! each, so that it cannot rot.
//!
//! The broker is one of its own, which sends each message back to whoever published it and does
//! nothing else: what the gate adds is seen as large as it can be.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops here; it has its own clock and files, and talks to a person"
)]

mod echo;
#[expect(
    dead_code,
    unused_imports,
    reason = "the gate's own tests need more of it"
)]
#[path = "../../tests/gate/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use rustix::process::{Resource, getrlimit};

use support::client::{connect, connect_tls};
use support::gate::{Gate, claims, self_signed, sign};
use support::mqtt::{Connect, V5, before, publish, read_packet, route};
use support::observe::own_memory;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("mqtt: test");
        return;
    }
    let is_whole = arguments.iter().any(|argument| argument == "--bench");
    let (sessions, messages, rounds) = match is_whole {
        true => (SESSIONS, 200_000, 7),
        false => (40, 400, 1),
    };
    // The gate has two descriptors for each session, and so have we, who are the broker as well.
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(most.saturating_sub(200) / 2).unwrap_or(usize::MAX);
    let sessions = sessions.min(most);
    println!("| {sessions} idle sessions | memory of the gate for each |\n|---|---|");
    for is_tls in [false, true] {
        let bytes = idle(sessions, is_tls);
        let name = if is_tls { "over TLS" } else { "without TLS" };
        println!("| {name} | {:.1} KiB |", bytes / 1024.0);
    }
    println!(
        "\n| messages per second, QoS 0, 100 bytes | direct | gate | topic rules |\n|---|---|---|---|"
    );
    for window in [1, 64] {
        let rates = throughput(messages / if window == 1 { 20 } else { 1 }, window, rounds);
        let [direct, gate, rules] = rates;
        println!(
            "| {window} under way | {direct:.0} | {gate:.0} ({:.2}) | {rules:.0} ({:.2}) |",
            gate / direct,
            rules / direct
        );
    }
}

const SESSIONS: usize = 10_000;

/// Something with two directions.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A gate of one worker, and its certificate.
fn start(broker: SocketAddr, rules: &str) -> (Gate, String) {
    let (certificate, key) = self_signed(&["gate.example"]);
    let tls = "{ address: \"127.0.0.1:0\", name: mqtts, protocol: mqtt, path: /mqtt, \
        tls: { certificate: a.crt, private_key: a.key } } ]";
    let limits =
        "limits: { connections: 40000, connections_per_address: 40000 }\nlog: { access_sample: 0 }";
    let gate = before(broker, &route(rules), limits)
        .edit("path: /mqtt } ]", &format!("path: /mqtt }}, {tls}"))
        .edit("workers: 2", "workers: 1")
        .edit(
            "protocol: mqtt }\n",
            "protocol: mqtt, connections: 40000 }\n",
        )
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    (gate, certificate)
}

/// A session that stands.
fn open(mut stream: impl Wire + 'static, connect: &Connect) -> Box<dyn Wire> {
    stream.write_all(&connect.bytes()).unwrap();
    let answer = read_packet(&mut stream).expect("a CONNACK");
    assert_eq!(answer[3], 0, "{answer:?}");
    Box::new(stream)
}

/// By how many bytes the gate grows with each session that has nothing to say.
fn idle(count: usize, is_tls: bool) -> f64 {
    let (gate, certificate) = start(echo::start(), "");
    let token = sign(&claims());
    let session = |index: usize| {
        let connect = Connect::with_token(V5, &token).client_id(&format!("device-{index}"));
        match is_tls {
            false => open(support::client::connect(gate.listeners[1]), &connect),
            true => {
                let versions = rustls::ALL_VERSIONS;
                let address = gate.listeners[2];
                let stream =
                    connect_tls(address, "gate.example", &certificate, &["mqtt"], versions);
                open(stream, &connect)
            }
        }
    };
    // What the first ones bring about and all others share.
    let _first: Vec<_> = (0..8).map(session).collect();
    let before = own_memory(&gate);
    let mut all: Vec<_> = (0..count.saturating_sub(8)).map(session).collect();
    let after = own_memory(&gate);
    // They stand.
    for session in all.iter_mut().step_by(100) {
        session.write_all(&support::mqtt::PINGREQ).unwrap();
        assert_eq!(read_packet(session), Some(support::mqtt::PINGRESP.to_vec()));
    }
    after.saturating_sub(before) as f64 / all.len() as f64
}

/// Messages per second that go to the broker and come back: directly, through the gate, and
/// through one with topic rules; medians of rounds that take turns.
fn throughput(messages: usize, window: usize, rounds: usize) -> [f64; 3] {
    let broker = echo::start();
    let (plain, _) = start(broker, "");
    let (ruled, _) = start(broker, "mqtt: { publish: [ \"a/#\" ] }");
    let targets = [broker, plain.listeners[1], ruled.listeners[1]];
    let connect_with = Connect::with_token(V5, &sign(&claims()));
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (target, rates) in targets.iter().zip(&mut rates) {
            let stream = open(connect(*target), &connect_with);
            rates.push(round_trips(stream, messages, window));
        }
    }
    rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    })
}

/// Sends messages, so many at once, and reads them back.
fn round_trips(mut stream: Box<dyn Wire>, messages: usize, window: usize) -> f64 {
    let mut message = publish(V5, (0, 0), "a/b", b"");
    let missing = 100 - message.len();
    message[1] += u8::try_from(missing).unwrap();
    message.resize(100, b'x');
    let batch = message.repeat(window);
    let mut back = vec![0; batch.len()];
    let start = Instant::now();
    for _ in 0..messages.div_ceil(window) {
        stream.write_all(&batch).unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, batch);
    }
    (messages.div_ceil(window) * window) as f64 / start.elapsed().as_secs_f64()
}
