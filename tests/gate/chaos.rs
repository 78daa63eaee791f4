//! Whatever an upstream does under load: does each client get its own answer, whole or honestly
//! broken, and nobody anything else?
#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Mutex;

use fastrand::Rng;
use http::Request;
use http_body_util::{BodyExt, Full};

use crate::support::answer::{Got, Outcome, judge, read_answer};
use crate::support::chaos::{Chaos, body_of, fault_of};
use crate::support::client::connect;
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::http2::{Http2, empty};
use crate::support::observe::own_memory;

const ROUTES: &str = "
  - path: /api/{sub}/**
    name: api
    upstream: app
    credential: { per_user: { file: per-user.yaml } }
";

/// Clients that are there at once, each its own user.
const CLIENTS: u64 = 12;
/// Requests of each.
const REQUESTS: u64 = 64;
const MIB: u64 = 1024 * 1024;

#[test]
fn each_client_gets_its_own_answer_or_an_honest_end_whatever_the_upstream_does() {
    let seed = std::env::var("TOLLGATE_CHAOS_SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("TOLLGATE_CHAOS_SEED={seed}");
    let upstream = Chaos::start(seed);
    let (certificate, mut gate) = start(&upstream);
    // Once, so that buffers, tables and connections are there; then for its memory's sake again.
    let mut outcomes = storm(&gate, &certificate, seed, 0);
    let before = own_memory(&gate);
    outcomes.extend(storm(&gate, &certificate, seed, 1));
    let after = own_memory(&gate);
    assert!(after < before + 16 * MIB, "{before} bytes, then {after}");

    let wrong = upstream.wrong();
    assert!(
        wrong.is_empty(),
        "{} at the upstream: {}",
        wrong.len(),
        wrong[0]
    );
    let ids = upstream.ids();
    let again: Vec<_> = ids.iter().filter(|(_, count)| **count > 1).collect();
    assert!(again.is_empty(), "sent again: {again:?}");
    let faults = outcomes.iter().filter_map(|outcome| {
        let fault = fault_of(seed, outcome.0);
        let why = judge(fault.seen, outcome, ids.contains_key(&outcome.0)).err()?;
        Some(format!("answered {}: {why}", fault.name))
    });
    let faults: Vec<_> = faults.collect();
    assert!(
        faults.is_empty(),
        "{} wrong:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert_counted(&gate, &outcomes);

    let id = (1..)
        .find(|id| fault_of(seed, *id).name == "by length")
        .unwrap();
    let token = token_of("u0");
    let response = gate.get(&format!("/api/u0/{id}"), &token);
    assert_eq!(response.text(), body_of(id));
    let log = gate.end();
    assert!(!log.contains("panic") && !log.contains("eyJ"), "{log}");
}

fn start(upstream: &Chaos) -> (String, Gate) {
    let (certificate, key) = self_signed(&["gate.example"]);
    let users = (0..CLIENTS)
        .map(|user| format!("u{user}: {{ username: u{user}, password: of-u{user} }}\n"));
    let gate = Builder::standard(upstream.address, ROUTES)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", name: plain }, { address: \"127.0.0.1:0\", name: tls, tls: { certificate: a.crt, private_key: a.key } } ]")
        .edit("response_timeout: 5s", "response_timeout: 3s")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .file("per-user.yaml", users.collect::<String>())
        .start();
    (certificate, gate)
}

fn token_of(user: &str) -> String {
    let mut claims = claims();
    claims["sub"] = user.into();
    sign(&claims)
}

/// All clients at once.
fn storm(gate: &Gate, certificate: &str, seed: u64, round: u64) -> Vec<Outcome> {
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for user in 0..CLIENTS {
            let outcomes = &outcomes;
            scope.spawn(move || {
                let first = 1_000_000 * (round + 1) + 1000 * user;
                let client = Client {
                    gate,
                    name: format!("u{user}"),
                    token: token_of(&format!("u{user}")),
                    random: Rng::with_seed(seed ^ first),
                };
                let ids = (first..first + REQUESTS).collect();
                let own = match user % 4 {
                    0 => client.one_by_one(ids),
                    1 => client.pipelined(&ids),
                    2 => client.over_http2(&ids, certificate),
                    _ => client.leaving(ids),
                };
                outcomes.lock().unwrap().extend(own);
            });
        }
    });
    for gauge in [
        "tollgate_requests_in_flight{route=\"api\"}",
        "tollgate_connections_open{listener=\"plain\"}",
        "tollgate_connections_open{listener=\"tls\"}",
    ] {
        gate.wait_for_metric(gauge, 0.0);
    }
    outcomes.into_inner().unwrap()
}

struct Client<'a> {
    gate: &'a Gate,
    name: String,
    token: String,
    random: Rng,
}

impl Client<'_> {
    /// A request with or without a body, by length or in chunks.
    fn request(&mut self, id: u64) -> String {
        let Self { name, token, .. } = self;
        let head = |method: &str, framing: &str| {
            format!(
                "{method} /api/{name}/{id} HTTP/1.1\r\nhost: gate.example\r\n\
                 authorization: Bearer {token}\r\n{framing}\r\n"
            )
        };
        let body = body_of(id);
        match self.random.u8(..4) {
            0 => head("POST", &format!("content-length: {}\r\n", body.len())) + &body,
            1 => {
                let head = head("POST", "transfer-encoding: chunked\r\n");
                format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
            }
            _ => head("GET", ""),
        }
    }

    /// Over connections that are kept as long as they hold.
    fn one_by_one(mut self, ids: Vec<u64>) -> Vec<Outcome> {
        let mut stream = connect(self.gate.address());
        let ask = |id| {
            // A gate that has answered already may take no more.
            let _ = stream.write_all(self.request(id).as_bytes());
            let got = read_answer(&mut stream);
            if !matches!(got, Got::Answer { is_whole: true, .. }) {
                stream = connect(self.gate.address());
            }
            (id, got)
        };
        ids.into_iter().map(ask).collect()
    }

    /// Four at a time, before the first is answered.
    fn pipelined(mut self, ids: &[u64]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for some in ids.chunks(4) {
            let mut stream = connect(self.gate.address());
            let requests: String = some.iter().map(|id| self.request(*id)).collect();
            let _ = stream.write_all(requests.as_bytes());
            let mut is_over = false;
            for id in some {
                // What was sent behind an answer that broke off may have been read, or not.
                let got = if is_over {
                    Got::Left
                } else {
                    read_answer(&mut stream)
                };
                is_over |= !matches!(got, Got::Answer { is_whole: true, .. });
                outcomes.push((*id, got));
            }
        }
        outcomes
    }

    /// Eight at once on one connection.
    fn over_http2(mut self, ids: &[u64], certificate: &str) -> Vec<Outcome> {
        let mut connection = Http2::connect(self.gate.listeners[1], certificate);
        let mut outcomes = Vec::new();
        for some in ids.chunks(8) {
            let requests = some.iter().map(|id| {
                let body = match self.random.bool() {
                    true => Full::from(body_of(*id)).boxed(),
                    false => empty(),
                };
                Request::post(format!("https://gate.example/api/{}/{id}", self.name))
                    .header("authorization", format!("Bearer {}", self.token))
                    .body(body)
                    .unwrap()
            });
            let answers = connection.send_together(requests.collect());
            let answers = answers.into_iter().map(Got::of_http2);
            outcomes.extend(some.iter().copied().zip(answers));
        }
        outcomes
    }

    /// Breaks off within its request or within the answer, most often.
    fn leaving(mut self, ids: Vec<u64>) -> Vec<Outcome> {
        let ask = |id| {
            let request = self.request(id);
            let mut stream = connect(self.gate.address());
            let sent = self.random.usize(..2 * request.len()).min(request.len());
            let _ = stream.write_all(&request.as_bytes()[..sent]);
            let mut some = vec![0; self.random.usize(..400)];
            if sent == request.len() && self.random.bool() {
                let _ = stream.read(&mut some);
            }
            (id, Got::Left)
        };
        ids.into_iter().map(ask).collect()
    }
}

/// Every answer that a client saw is in the metrics, and no more than were asked for.
fn assert_counted(gate: &Gate, outcomes: &[Outcome]) {
    let mut known = HashMap::new();
    let mut unknown = 0;
    for (_, got) in outcomes {
        match got {
            Got::Answer { status, .. } => *known.entry(status / 100).or_insert(0) += 1,
            Got::Nothing | Got::Left => unknown += 1,
        }
    }
    let metrics = gate.metrics();
    let counted = |class: u16| {
        let samples = metrics.lines().filter(|line| {
            line.starts_with("tollgate_requests_total{")
                && line.contains(&format!("code=\"{class}xx\""))
                && line.contains("route=\"api\"")
        });
        let values = samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u32>().unwrap());
        values.sum::<u32>()
    };
    let mut all = 0;
    for class in 0..=5 {
        let (seen, counted) = (known.get(&class).copied().unwrap_or(0), counted(class));
        assert!(counted >= seen, "{class}xx: {seen} seen, {counted} counted");
        all += counted;
    }
    let seen: u32 = known.values().sum();
    assert!(
        all <= seen + unknown,
        "{all} counted, {seen} seen, {unknown} unknown"
    );
}
