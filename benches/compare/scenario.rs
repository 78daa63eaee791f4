//! What is measured, and how once?

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::ClientConfig;

use crate::closed::{ClosedLoop, Until};
use crate::gate::{self, Gate};
use crate::histogram::Histogram;
use crate::machine::{self, Machine};
use crate::open::OpenLoop;
use crate::options::Options;
use crate::process::{self, Memory, Process};
use crate::storm::{Answers, Storm};
use crate::tokens::{self, Life, SECRET};
use crate::upstream::Upstream;
use crate::wire::Target;
use crate::yardstick::{Make, Yardstick};

/// One line of the table.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) via: Via,
    pub(crate) load: Load,
    pub(crate) pace: Pace,
    pub(crate) beside: Beside,
}

/// What stands between the load and the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Direct,
    Gate,
    GateTls,
    Haproxy,
    Nginx,
    NginxTls,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// GET with one token.
    OneToken,
    /// GET with many tokens in rotation, all of them seen before.
    KnownTokens,
    /// GET with many tokens, each of them once and for the first time.
    NewTokens,
    /// POST of 1 KiB with one token.
    Post,
}

/// How it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Closed,
    Open,
}

/// What else the gate has to do meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    LoginStorm,
    Nothing,
}

pub(crate) const SCENARIOS: [Scenario; 14] = {
    use {Load as L, Pace as P, Via as V};
    [
        scenario("direct", V::Direct, L::OneToken, P::Closed),
        scenario("gate", V::Gate, L::OneToken, P::Closed),
        scenario("gate, TLS 1.3", V::GateTls, L::OneToken, P::Closed),
        scenario("gate, 10,000 new tokens", V::Gate, L::NewTokens, P::Closed),
        scenario(
            "gate, 10,000 known tokens",
            V::Gate,
            L::KnownTokens,
            P::Closed,
        ),
        scenario("gate, POST 1 KiB", V::Gate, L::Post, P::Closed),
        scenario("nginx", V::Nginx, L::OneToken, P::Closed),
        scenario("nginx, TLS 1.3", V::NginxTls, L::OneToken, P::Closed),
        scenario("haproxy", V::Haproxy, L::OneToken, P::Closed),
        scenario("direct, paced", V::Direct, L::OneToken, P::Open),
        scenario("gate, paced", V::Gate, L::OneToken, P::Open),
        Scenario {
            beside: Beside::LoginStorm,
            ..scenario("gate, paced, login storm", V::Gate, L::OneToken, P::Open)
        },
        scenario("gate, TLS 1.3, paced", V::GateTls, L::OneToken, P::Open),
        scenario("nginx, paced", V::Nginx, L::OneToken, P::Open),
    ]
};

const fn scenario(name: &'static str, via: Via, load: Load, pace: Pace) -> Scenario {
    Scenario {
        name,
        via,
        load,
        pace,
        beside: Beside::Nothing,
    }
}

/// What one run of a load saw.
pub(crate) struct Sample {
    pub(crate) exchanges: u64,
    pub(crate) elapsed: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

impl Sample {
    pub(crate) fn new(elapsed: Duration, latency: &Histogram) -> Self {
        Self {
            exchanges: latency.count(),
            elapsed,
            p50: latency.quantile(500),
            p99: latency.quantile(990),
            p999: latency.quantile(999),
        }
    }
}

/// One scenario in one round.
pub(crate) struct Round {
    pub(crate) sample: Sample,
    /// The proxy's CPU time; zero without a proxy.
    pub(crate) cpu: Duration,
    pub(crate) memory: Memory,
    /// What became of the logins beside it.
    pub(crate) logins: Option<Answers>,
}

/// A scenario and its rounds.
pub(crate) struct Measured {
    pub(crate) scenario: Scenario,
    pub(crate) rounds: Vec<Round>,
}

/// All that was measured.
pub(crate) struct Results {
    pub(crate) measured: Vec<Measured>,
    pub(crate) gate_at_rest: Memory,
    pub(crate) gate_at_end: Memory,
    /// How many cores other processes kept busy meanwhile.
    pub(crate) others: f64,
}

/// The processes, ready to be measured.
pub(crate) struct Bench {
    pub(crate) upstream: Upstream,
    pub(crate) gate: Gate,
    tls: Arc<ClientConfig>,
    nginx: Option<Yardstick>,
    haproxy: Option<Yardstick>,
    seconds: f64,
    rounds: u32,
    connections: usize,
    rate: u32,
    only: String,
}

impl Bench {
    pub(crate) fn start(
        options: &Options,
        machine: &Machine,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let tls = gate::trust(folder)?;
        let upstream = Upstream::start(folder)?;
        let address = upstream.target.address;
        Ok(Self {
            gate: Gate::start(&options.gate, machine, folder, address, &tls)?,
            nginx: None,
            haproxy: None,
            upstream,
            tls,
            seconds: options.seconds,
            rounds: options.rounds.max(1),
            connections: options.connections.max(1),
            rate: options.rate,
            only: options.only.clone(),
        })
    }

    /// Starts the plain proxies to compare with, where they are installed.
    pub(crate) fn add_yardsticks(&mut self, machine: &Machine, folder: &Path) {
        let address = self.upstream.target.address;
        let start = |make| Yardstick::start(make, machine, folder, address, &self.tls);
        (self.nginx, self.haproxy) = (start(Make::Nginx), start(Make::Haproxy));
    }

    /// Measures round by round, each scenario once in each, so that a slow minute of the machine
    /// does not fall on one scenario alone.
    pub(crate) fn measure(&self) -> anyhow::Result<Results> {
        let gate_at_rest = self.gate.process.memory()?;
        let mut measured: Vec<Measured> = SCENARIOS
            .into_iter()
            .filter(|scenario| self.is_asked_for(scenario) && self.route(scenario.via).is_some())
            .map(|scenario| Measured {
                scenario,
                rounds: Vec::new(),
            })
            .collect();
        let timed = measured
            .iter()
            .filter(|one| one.scenario.load != Load::NewTokens)
            .count();
        anyhow::ensure!(timed > 0, "no scenario is called {:?}", self.only);
        let slots = f64::from(self.rounds) * f64::from(u32::try_from(timed)?);
        let slot = Duration::try_from_secs_f64(self.seconds / slots)
            .context("--seconds makes no sense")?;

        let (start, others_before) = (Instant::now(), self.time_of_others()?);
        for number in 1..=self.rounds {
            println!("round   {number} of {}", self.rounds);
            let tokens = many_tokens(number)?;
            for one in &mut measured {
                let round = self
                    .round(one.scenario, &tokens, slot)
                    .with_context(|| format!("{} failed", one.scenario.name))?;
                one.rounds.push(round);
            }
        }
        Ok(Results {
            measured,
            gate_at_rest,
            gate_at_end: self.gate.process.memory()?,
            others: self
                .time_of_others()?
                .saturating_sub(others_before)
                .div_duration_f64(start.elapsed()),
        })
    }

    fn round(
        &self,
        scenario: Scenario,
        tokens: &Arc<[Vec<u8>]>,
        slot: Duration,
    ) -> anyhow::Result<Round> {
        let (target, process) = self.route(scenario.via).context("not running")?;
        let one: Arc<[Vec<u8>]> = Arc::from([get(&tokens::mint(SECRET, 0, &Life::Lasting)?)]);
        let storm = match scenario.beside {
            Beside::LoginStorm => Some(Storm::start(target)?),
            Beside::Nothing => None,
        };
        let (before, sample) = match scenario.pace {
            Pace::Open => {
                let mut load = OpenLoop::connect(target)?;
                load.run(one.first().context("no request")?, self.rate, WARM_UP)?;
                let before = self.reading(process)?;
                (
                    before,
                    load.run(one.first().context("no request")?, self.rate, slot)?,
                )
            }
            Pace::Closed => {
                let mut load = ClosedLoop::connect(target, self.connections)?;
                load.run(&one, Until::Elapsed(WARM_UP))?;
                let (requests, until) = match scenario.load {
                    Load::KnownTokens => {
                        load.run(tokens, Until::Exchanges(tokens.len()))?;
                        (tokens.clone(), Until::Elapsed(slot))
                    }
                    Load::NewTokens => (tokens.clone(), Until::Exchanges(tokens.len())),
                    Load::OneToken => (one, Until::Elapsed(slot)),
                    Load::Post => (
                        Arc::from([post(&tokens::mint(SECRET, 0, &Life::Lasting)?)]),
                        Until::Elapsed(slot),
                    ),
                };
                let before = self.reading(process)?;
                (before, load.run(&requests, until)?)
            }
        };
        let after = self.reading(process)?;
        let logins = storm.map(Storm::stop).transpose()?;
        let translated = after.translated - before.translated;
        let expected = match scenario.via {
            Via::Gate | Via::GateTls => sample.exchanges,
            Via::Direct | Via::Haproxy | Via::Nginx | Via::NginxTls => 0,
        };
        anyhow::ensure!(
            translated == expected,
            "{translated} requests with Basic upstream, expected {expected}"
        );
        Ok(Round {
            sample,
            cpu: after.cpu - before.cpu,
            memory: after.memory,
            logins,
        })
    }

    /// A whole name means that scenario alone, though others contain it.
    fn is_asked_for(&self, scenario: &Scenario) -> bool {
        if SCENARIOS.iter().any(|one| one.name == self.only) {
            scenario.name == self.only
        } else {
            scenario.name.contains(&self.only)
        }
    }

    /// Where the load goes, and whose CPU time counts; nothing if that proxy does not run.
    fn route(&self, via: Via) -> Option<(&Target, Option<&Process>)> {
        let nginx = self.nginx.as_ref();
        match via {
            Via::Direct => Some((&self.upstream.target, None)),
            Via::Gate => Some((&self.gate.plain, Some(&self.gate.process))),
            Via::GateTls => Some((&self.gate.tls, Some(&self.gate.process))),
            Via::Haproxy => self
                .haproxy
                .as_ref()
                .map(|proxy| (&proxy.plain, Some(&proxy.process))),
            Via::Nginx => nginx.map(|proxy| (&proxy.plain, Some(&proxy.process))),
            Via::NginxTls => nginx.map(|proxy| (&proxy.tls, Some(&proxy.process))),
        }
    }

    fn time_of_others(&self) -> anyhow::Result<Duration> {
        let yardsticks = [&self.nginx, &self.haproxy].into_iter().flatten();
        let mut others = machine::time_used()?.saturating_sub(process::cpu("self")?);
        for process in yardsticks
            .map(|one| &one.process)
            .chain([&self.upstream.process, &self.gate.process])
        {
            others = others.saturating_sub(process.cpu()?);
        }
        Ok(others)
    }

    fn reading(&self, process: Option<&Process>) -> anyhow::Result<Reading> {
        Ok(Reading {
            cpu: process.map_or(Ok(Duration::ZERO), Process::cpu)?,
            memory: process.map_or(Ok(Memory::default()), Process::memory)?,
            translated: self.upstream.arrivals()?.translated,
        })
    }
}

struct Reading {
    cpu: Duration,
    memory: Memory,
    translated: u64,
}

/// A GET as a small client sends it.
pub(crate) fn get(token: &str) -> Vec<u8> {
    format!("GET /api/status HTTP/1.1\r\n{}\r\n", fields(token)).into_bytes()
}

fn post(token: &str) -> Vec<u8> {
    let body = "x".repeat(1024);
    let fields = fields(token);
    let length = body.len();
    format!("POST /api/produce HTTP/1.1\r\n{fields}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn fields(token: &str) -> String {
    format!("Host: localhost\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n")
}

/// Another set of tokens in each round, so that new ones are new.
fn many_tokens(round: u32) -> anyhow::Result<Arc<[Vec<u8>]>> {
    let first = u64::from(round) * MANY;
    (first..first + MANY)
        .map(|serial| Ok(get(&tokens::mint(SECRET, serial, &Life::Lasting)?)))
        .collect()
}

const MANY: u64 = 10_000;

const WARM_UP: Duration = Duration::from_millis(100);
