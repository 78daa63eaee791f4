//! The soak: does everything hold at once, for long?
//!
//! Good and hostile clients, reloads and deaths of upstreams together, each answer judged; memory
//! and descriptors sampled. `./soak` runs it; `docs/soak.md` says what is judged and what came of
//! it. Without arguments, as in `cargo test --benches`, it takes a few seconds and writes nothing.
//!
//! - `ground`: the gate, its configs, and `service`, what stands behind it
//! - `good` and `logins`, `hostile` and `floods`, `events`: the traffic, and what happens meanwhile;
//!   `wire`, how they connect
//! - `tally`: what came of each request; `sample`, what the gate takes
//! - `report`, `plot` and `svg`: the page and its figure

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops here; it has its own clock and files, and talks to a person"
)]

mod events;
mod floods;
mod good;
mod ground;
mod hostile;
mod logins;
mod plot;
mod report;
mod sample;
mod service;
#[expect(
    dead_code,
    unused_imports,
    reason = "the gate's own tests need more of it"
)]
#[path = "../../tests/gate/support/mod.rs"]
mod support;
#[path = "../compare/svg.rs"]
mod svg;
mod tally;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use good::Stage;
use ground::Ground;
use report::Findings;
use sample::{Rest, Sample};
use tally::Tally;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("soak: test");
        return ExitCode::SUCCESS;
    }
    let at = arguments
        .iter()
        .position(|argument| argument == "--seconds");
    let seconds = at.and_then(|at| arguments.get(at + 1));
    let seconds = seconds.map(|seconds| seconds.parse().expect("--seconds N"));
    let findings = soak(seconds.unwrap_or(SHORT), seconds.is_some());
    let failures = findings.failures();
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    match failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs it, prints what came of it, and writes that to `docs` if asked to.
fn soak(seconds: u64, is_written: bool) -> Findings {
    let ground = Ground::start(fastrand::u64(..));
    let before = sample::descriptors_at_rest(&ground.gate);
    let tally = Tally::new();
    let samples = traffic(&ground, &tally, seconds);
    let rest = Rest::await_of(&ground, before);
    let arrived = ground.record.requests();
    let mut wrong = tally.all_wrong();
    wrong.extend(ground.record.wrong());
    wrong.extend(ground.chaos.wrong());
    let Ground { mut gate, .. } = ground;
    let log = gate.end();
    // Ending it looks for what is shaped like a token, too.
    drop(gate);
    wrong.extend(
        log.lines()
            .filter(|line| line.contains("panic"))
            .map(str::to_owned),
    );
    let findings = Findings {
        samples,
        rest,
        arrived,
        wrong,
        seconds,
    };
    let results = report::results(&findings, &tally).unwrap();
    println!("{results}");
    for one in findings.wrong.iter().take(10) {
        println!("WRONG: {one}");
    }
    if is_written {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let page = format!("{}{}\n", report::INTRODUCTION, results.trim_end());
        std::fs::write(docs.join("soak.md"), page).unwrap();
        let figure = plot::draw(&findings.samples, &tally);
        std::fs::write(docs.join("soak.svg"), figure).unwrap();
    }
    findings
}

/// All traffic at once, for so long.
fn traffic(ground: &Ground, tally: &Tally, seconds: u64) -> Vec<Sample> {
    let stage = Stage { ground, tally };
    // A short run goes through some steps, too.
    let step = Duration::from_millis(seconds * 10).clamp(Duration::from_millis(300), LONGEST_STEP);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(move || sample::sample(ground, tally));
        let mut clients = good_clients(scope, stage);
        clients.extend((0..3).map(|_| scope.spawn(move || stage.attacks())));
        clients.extend((0..3).map(|_| scope.spawn(move || stage.floods())));
        clients.push(scope.spawn(move || stage.stranger()));
        clients.push(scope.spawn(move || stage.revocations()));
        clients.push(scope.spawn(move || stage.events(step)));
        pause(seconds * 1000);
        tally.end();
        for client in clients {
            if client.join().is_err() {
                tally.wrong("clients", "one panicked, as was told above");
            }
        }
        sampler.join().unwrap()
    })
}

fn good_clients<'scope>(
    scope: &'scope Scope<'scope, '_>,
    stage: Stage<'scope>,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(scope.spawn(move || stage.keep_alive("HTTP/1.1", wire::plain)));
        clients.push(scope.spawn(move || stage.keep_alive("HTTP/1.1 over TLS", wire::tls)));
        clients.push(scope.spawn(move || stage.over_http2()));
    }
    for _ in 0..2 {
        clients.push(scope.spawn(move || stage.coming_and_going()));
        clients.push(scope.spawn(move || stage.websockets()));
        clients.push(scope.spawn(move || stage.failing_upstream()));
        clients.push(scope.spawn(move || stage.expiring()));
    }
    clients.push(scope.spawn(move || stage.basic()));
    for dialect in &logins::DIALECTS {
        clients.push(scope.spawn(move || stage.logging_in(dialect)));
    }
    clients
}

/// Lets time pass.
fn pause(milliseconds: u64) {
    let end = std::time::Instant::now() + Duration::from_millis(milliseconds);
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        std::thread::park_timeout(left.max(Duration::from_micros(100)));
    }
}

/// Seconds of a run that only shows that the soak itself works.
const SHORT: u64 = 5;
const LONGEST_STEP: Duration = Duration::from_secs(5);
