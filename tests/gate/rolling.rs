//! Do gates take turns on their addresses, and configs in a gate, without anybody noticing?
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Request;

use crate::support::client::{connect, try_connect};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign, users};
use crate::support::http2::{Http2, empty};
use crate::support::observe::own_memory;
use crate::support::reload::{Verdict, reload};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";

/// What clients of different kinds made of a gate.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    /// Answers of each kind of client.
    answers: [AtomicUsize; 3],
}

impl Load {
    /// Waits until each kind of client got so many answers more.
    fn wait_for_more(&self, count: usize) {
        let answers = || {
            self.answers
                .each_ref()
                .map(|kind| kind.load(Ordering::SeqCst))
        };
        let before = answers();
        wait_for("answers", || {
            let mut pairs = answers().into_iter().zip(before);
            pairs
                .all(|(now, before)| now >= before + count)
                .then_some(())
        });
    }

    fn total(&self) -> usize {
        self.answers
            .iter()
            .map(|kind| kind.load(Ordering::SeqCst))
            .sum()
    }

    /// Asks again and again until it is over, by `ask`, whose error is a lost request.
    fn run(&self, kind: usize, mut ask: impl FnMut() -> Result<(), String>) {
        while !self.is_over.load(Ordering::SeqCst) {
            if let Err(error) = ask() {
                self.is_over.store(true, Ordering::SeqCst);
                panic!("a client of kind {kind} lost a request: {error}");
            }
            self.answers[kind].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Two clients that keep their connections, two that make a new one for each request, two that
    /// speak HTTP/2; `meanwhile` on this thread.
    fn while_asked(
        &self,
        (plain, secure): (SocketAddr, SocketAddr),
        certificate: &str,
        meanwhile: impl FnOnce(),
    ) {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut kept = None;
                    self.run(0, || ask_kept(plain, &mut kept));
                });
                scope.spawn(|| self.run(1, || ask_kept(plain, &mut None)));
                scope.spawn(|| {
                    let mut kept = None;
                    self.run(2, || ask_http2(secure, certificate, &mut kept));
                });
            }
            // However it ends, the clients are told.
            let _end = End(&self.is_over);
            meanwhile();
        });
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One request over the kept connection, or a new one if there is none or it was closed.
fn ask_kept(address: SocketAddr, kept: &mut Option<TcpStream>) -> Result<(), String> {
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        matches!(seen, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let stream = match kept.take().filter(is_open) {
        Some(stream) => stream,
        None => try_connect(address).map_err(|error| format!("no connection: {error}"))?,
    };
    let failed = |error| format!("no answer: {error}");
    let token = sign(&claims());
    let request = format!(
        "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    (&stream).write_all(request.as_bytes()).map_err(failed)?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\nok") {
        match (&stream).read(&mut byte).map_err(failed)? {
            0 => return Err(format!("the answer ended after {} bytes", answer.len())),
            _ => answer.push(byte[0]),
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    if !answer.starts_with("HTTP/1.1 200 ") {
        return Err(answer);
    }
    *kept = (!answer.contains("connection: close")).then_some(stream);
    Ok(())
}

/// One request over the kept connection, or a new one if there is none or it goes away.
fn ask_http2(
    address: SocketAddr,
    certificate: &str,
    kept: &mut Option<Http2>,
) -> Result<(), String> {
    loop {
        let request = Request::get("https://gate.example/api/x")
            .header("authorization", format!("Bearer {}", sign(&claims())))
            .body(empty())
            .unwrap();
        let client = kept.get_or_insert_with(|| Http2::connect(address, certificate));
        match client.try_send(request)? {
            Some(200) => return Ok(()),
            Some(status) => return Err(format!("status {status}")),
            None => *kept = None,
        }
    }
}

fn listeners(plain: &str, secure: &str) -> String {
    format!(
        "listeners: [ {{ address: \"{plain}\" }}, {{ address: \"{secure}\", tls: {{ certificate: a.crt, private_key: a.key }} }} ]"
    )
}

fn builder(upstream: &Upstream, (plain, secure): (&str, &str)) -> Builder {
    Builder::with_extra(upstream.address, ROUTES, "log: { access_sample: 0 }")
        .line("listeners:", &listeners(plain, secure))
}

#[test]
fn gates_take_turns_on_a_port_and_no_request_is_lost() {
    const TURNS: usize = 6;
    let upstream = Upstream::start();
    let (certificate, key) = self_signed(&["gate.example"]);
    let start = |addresses| {
        builder(&upstream, addresses)
            .file("a.crt", &certificate)
            .file("a.key", &key)
            .start()
    };
    let mut gate: Gate = start(("127.0.0.1:0", "127.0.0.1:0"));
    let addresses = (gate.listeners[0], gate.listeners[1]);
    let (plain, secure) = (addresses.0.to_string(), addresses.1.to_string());
    let load = Load::default();
    load.while_asked(addresses, &certificate, || {
        for _ in 0..TURNS {
            load.wait_for_more(10);
            let next = start((&plain, &secure));
            let mut old = std::mem::replace(&mut gate, next);
            old.signal("TERM");
            assert_eq!(old.wait(), Some(0));
        }
        load.wait_for_more(10);
    });
    assert_eq!(upstream.seen().len(), load.total());
}

#[test]
fn a_hundred_reloads_under_load_lose_no_request_and_no_memory() {
    const MIB: u64 = 1024 * 1024;
    let upstream = Upstream::start();
    let pair = self_signed(&["gate.example"]);
    let gate = builder(&upstream, ("127.0.0.1:0", "127.0.0.1:0"))
        .file("a.crt", &pair.0)
        .file("a.key", &pair.1)
        .start();
    let addresses = (gate.listeners[0], gate.listeners[1]);
    // Every reload brings other users and another certificate; a version of all that weighs more
    // than a hundredth of the bound.
    let line = users(&[("root", "memphis", "[ admin ]")]);
    let line = line.lines().nth(1).unwrap();
    let next = self_signed(&["gate.example"]);
    let both = format!("{}{}", pair.0, next.0);
    let reload_times = |count: usize| {
        let load = Load::default();
        let before = upstream.seen().len();
        load.while_asked(addresses, &both, || {
            for index in 0..count {
                let names =
                    (0..300).map(|user| line.replace("root", &format!("user-{index}-{user}")));
                let text: Vec<_> = names.collect();
                gate.folder()
                    .write("users.yaml", format!("users:\n{}\n", text.join("\n")));
                let (certificate, key) = if index % 2 == 0 { &next } else { &pair };
                gate.folder().write("a.crt", certificate);
                gate.folder().write("a.key", key);
                assert_eq!(reload(&gate), Verdict::Taken);
                load.wait_for_more(1);
            }
        });
        assert_eq!(upstream.seen().len() - before, load.total());
    };
    reload_times(10);
    // What connections took is given back.
    drop(connect(gate.address()));
    let before = own_memory(&gate);
    reload_times(100);
    wait_for("the memory of a hundred configs", || {
        (own_memory(&gate) < before + 8 * MIB).then_some(())
    });
}
