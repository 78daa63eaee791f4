//! How is a scenario measured once?

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::closed::{ClosedLoop, Until};
use crate::contender::{Contender, Protocol, Running};
use crate::h2::{self, H2Loop};
use crate::handshakes::Handshakes;
use crate::histogram::Histogram;
use crate::idle;
use crate::keys::{Keys, Signer};
use crate::open::OpenLoop;
use crate::process::{Memory, Process};
use crate::requests::Requests;
use crate::scenario::{Beside, Load, Pace, Scenario};
use crate::storm::{Answers, Storm};
use crate::tokens::{self, Life};
use crate::upstream::{self, Upstream};
use crate::wire::Target;

/// What one run of a load saw.
pub(crate) struct Sample {
    pub(crate) exchanges: u64,
    pub(crate) elapsed: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) latency: Histogram,
}

impl Sample {
    pub(crate) fn new(elapsed: Duration, latency: Histogram) -> Self {
        Self {
            exchanges: latency.count(),
            elapsed,
            p50: latency.quantile(500),
            p99: latency.quantile(990),
            p999: latency.quantile(999),
            latency,
        }
    }
}

/// One scenario in one round.
pub(crate) struct Round {
    /// None where nothing was sent.
    pub(crate) sample: Option<Sample>,
    /// The proxy's CPU time; zero without a proxy.
    pub(crate) cpu: Duration,
    pub(crate) memory: Memory,
    /// Bytes of the proxy's memory for each connection that is idle.
    pub(crate) per_connection: Option<f64>,
    /// By how much the proxy's memory grew meanwhile.
    pub(crate) growth_kib: Option<f64>,
    /// How many of the good tokens had to be verified again afterwards.
    pub(crate) forgotten: Option<f64>,
    /// What became of the logins beside it.
    pub(crate) logins: Option<Answers>,
}

/// What every scenario of a round is measured with.
pub(crate) struct Stage<'a> {
    pub(crate) upstream: &'a Upstream,
    pub(crate) keys: &'a Keys,
    /// Keep-alive connections of the closed loop.
    pub(crate) connections: usize,
    /// Requests per second of the open loop.
    pub(crate) rate: u32,
    /// How long a timed load takes.
    pub(crate) slot: Duration,
    /// The round's number, from 1.
    pub(crate) number: u32,
}

impl Stage<'_> {
    /// Measures `scenario` once; `running` is none for a direct connection.
    pub(crate) fn measure(
        &self,
        scenario: &Scenario,
        running: Option<&Running>,
    ) -> anyhow::Result<Round> {
        let target = running.map_or(&self.upstream.target, |running| {
            running.target(scenario.protocol)
        });
        let process = running.map(|running| &running.process);
        let storm = match scenario.beside {
            Beside::LoginStorm => Some(Storm::start(target)?),
            Beside::Nothing => None,
        };
        let mut round = match scenario.load {
            Load::Rest => self.rest(process),
            Load::IdleConnections(count) => self.idle(scenario, target, process, count),
            Load::Handshakes { resumed } => self.handshakes(scenario, target, process, resumed),
            Load::BadTokens(count) => self.bad(scenario, running, count),
            _ if scenario.protocol == Protocol::H2 => self.http2(scenario, target, process),
            _ => match scenario.pace {
                Pace::Open => self.open(scenario, target, process),
                Pace::Closed => self.closed(scenario, target, process),
            },
        }?;
        round.logins = storm.map(Storm::stop).transpose()?;
        Ok(round)
    }

    fn rest(&self, process: Option<&Process>) -> anyhow::Result<Round> {
        let reading = self.reading(process)?;
        Ok(Round {
            sample: None,
            cpu: Duration::ZERO,
            memory: reading.memory,
            per_connection: None,
            growth_kib: None,
            forgotten: None,
            logins: None,
        })
    }

    fn open(
        &self,
        scenario: &Scenario,
        target: &Target,
        process: Option<&Process>,
    ) -> anyhow::Result<Round> {
        let request = get(&self.token(scenario, 0)?);
        let mut load = OpenLoop::connect(target)?;
        load.run(&request, self.rate, WARM_UP)?;
        let before = self.reading(process)?;
        let sample = load.run(&request, self.rate, self.slot * scenario.slots())?;
        self.round(scenario, process, &before, sample)
    }

    fn closed(
        &self,
        scenario: &Scenario,
        target: &Target,
        process: Option<&Process>,
    ) -> anyhow::Result<Round> {
        let timed = Until::Elapsed(self.slot * scenario.slots());
        let token = self.token(scenario, 0)?;
        let one = Requests::one(&get(&token));
        let mut load = ClosedLoop::connect(target, self.connections)?;
        load.run(&one, Until::Elapsed(WARM_UP))?;
        let (requests, until) = match scenario.load {
            Load::OneToken => (one, timed),
            Load::Post(size) | Load::Upload(size) => (Requests::one(&post(&token, size)), timed),
            Load::Download(upstream::BULK_SIZE) => (Requests::one(&get_bulk(&token)), timed),
            Load::KnownTokens(count) => {
                let requests = self.many(scenario, 0, count)?;
                load.run(&requests, Until::Exchanges(count))?;
                (requests, timed)
            }
            Load::NewTokens(count) => (
                self.many(scenario, self.number, count)?,
                Until::Exchanges(count),
            ),
            other => anyhow::bail!("there is no load for {other}"),
        };
        let before = self.reading(process)?;
        let sample = load.run(&requests, until)?;
        self.round(scenario, process, &before, sample)
    }

    fn http2(
        &self,
        scenario: &Scenario,
        target: &Target,
        process: Option<&Process>,
    ) -> anyhow::Result<Round> {
        let blocks = Requests::one(&h2::get(Some(&self.token(scenario, 0)?)));
        let mut load = H2Loop::connect(target, self.connections.div_ceil(STREAMS), STREAMS)?;
        load.run(&blocks, Until::Elapsed(WARM_UP))?;
        let before = self.reading(process)?;
        let sample = load.run(&blocks, Until::Elapsed(self.slot))?;
        self.round(scenario, process, &before, sample)
    }

    fn handshakes(
        &self,
        scenario: &Scenario,
        target: &Target,
        process: Option<&Process>,
        resumed: bool,
    ) -> anyhow::Result<Round> {
        let load = Handshakes::prepare(target, resumed)?;
        let before = self.reading(process)?;
        let sample = load.run(self.slot)?;
        self.round(scenario, process, &before, sample)
    }

    fn idle(
        &self,
        scenario: &Scenario,
        target: &Target,
        process: Option<&Process>,
        count: usize,
    ) -> anyhow::Result<Round> {
        let process = process.context("nothing that could grow")?;
        let request = get(&self.token(scenario, 0)?);
        let per_connection = idle::growth(process, target, &request, count)?;
        Ok(Round {
            per_connection: Some(per_connection),
            ..self.rest(Some(process))?
        })
    }

    /// Bad tokens between two passes of good ones, which must not be forgotten over them.
    fn bad(
        &self,
        scenario: &Scenario,
        running: Option<&Running>,
        count: usize,
    ) -> anyhow::Result<Round> {
        let running = running.context("nobody to refuse them")?;
        let process = Some(&running.process);
        let target = running.target(scenario.protocol);
        let mut load = ClosedLoop::connect(target, self.connections)?;
        let good = self.many(scenario, 0, GOOD)?;
        let forger = self.keys.forger(scenario.algorithm)?;
        let bad = requests(forger, "401", 0, count)?;
        load.run(&good, Until::Exchanges(GOOD))?;
        let before = self.reading(process)?;
        let sample = load.run(&bad, Until::Exchanges(count))?;
        let round = self.round(scenario, process, &before, sample)?;
        let misses = running.metric(CACHE_MISSES)?;
        load.run(&good, Until::Exchanges(GOOD))?;
        Ok(Round {
            growth_kib: Some(round.memory.resident_kib as f64 - before.memory.resident_kib as f64),
            forgotten: Some(running.metric(CACHE_MISSES)? - misses),
            ..round
        })
    }

    /// What has changed since `before`, once every request has proved to have arrived as it should.
    fn round(
        &self,
        scenario: &Scenario,
        process: Option<&Process>,
        before: &Reading,
        sample: Sample,
    ) -> anyhow::Result<Round> {
        let after = self.reading(process)?;
        let translated = after.translated - before.translated;
        let expected = match scenario.load {
            _ if scenario.contender == Contender::Direct => 0,
            Load::BadTokens(_) | Load::Handshakes { .. } => 0,
            _ => sample.exchanges,
        };
        anyhow::ensure!(
            translated == expected,
            "{translated} requests with Basic upstream, expected {expected}"
        );
        let uploaded = after.uploaded - before.uploaded;
        let expected = match scenario.load {
            Load::Post(size) | Load::Upload(size) => sample.exchanges * u64::try_from(size)?,
            _ => 0,
        };
        anyhow::ensure!(
            uploaded == expected,
            "{uploaded} bytes of bodies upstream, expected {expected}"
        );
        Ok(Round {
            sample: Some(sample),
            cpu: after.cpu.saturating_sub(before.cpu),
            memory: after.memory,
            per_connection: None,
            growth_kib: None,
            forgotten: None,
            logins: None,
        })
    }

    fn token(&self, scenario: &Scenario, serial: u64) -> anyhow::Result<String> {
        let signer = self.keys.signer(scenario.algorithm)?;
        tokens::mint(signer, serial, &Life::Lasting)
    }

    /// Requests with a token each, of the set of this number.
    fn many(&self, scenario: &Scenario, set: u32, count: usize) -> anyhow::Result<Arc<Requests>> {
        let signer = self.keys.signer(scenario.algorithm)?;
        requests(signer, "200", set, count)
    }

    fn reading(&self, process: Option<&Process>) -> anyhow::Result<Reading> {
        let arrivals = self.upstream.arrivals()?;
        Ok(Reading {
            cpu: process.map_or(Ok(Duration::ZERO), Process::cpu)?,
            memory: process.map_or(Ok(Memory::default()), Process::memory)?,
            translated: arrivals.translated,
            uploaded: arrivals.uploaded,
        })
    }
}

struct Reading {
    cpu: Duration,
    memory: Memory,
    translated: u64,
    uploaded: u64,
}

/// GETs with a token each; no two sets share a token.
fn requests(
    signer: &Signer,
    status: &'static str,
    set: u32,
    count: usize,
) -> anyhow::Result<Arc<Requests>> {
    let first = u64::from(set) * MOST_IN_A_SET;
    let serials = first..first + u64::try_from(count)?;
    let mint = |serial| Ok(get(&tokens::mint(signer, serial, &Life::Lasting)?));
    Requests::many(status, count, serials.map(mint))
}

/// A GET as a small client sends it.
pub(crate) fn get(token: &str) -> Vec<u8> {
    format!("GET /api/status HTTP/1.1\r\n{}\r\n", fields(token)).into_bytes()
}

/// A GET of a long body.
fn get_bulk(token: &str) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\n{}\r\n", upstream::BULK, fields(token)).into_bytes()
}

fn post(token: &str, size: usize) -> Vec<u8> {
    let body = "x".repeat(size);
    let fields = fields(token);
    format!("POST /api/produce HTTP/1.1\r\n{fields}Content-Type: text/plain\r\nContent-Length: {size}\r\n\r\n{body}")
        .into_bytes()
}

fn fields(token: &str) -> String {
    format!("Host: localhost\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n")
}

/// Good tokens that bad ones must not push out.
const GOOD: usize = 10_000;
const MOST_IN_A_SET: u64 = 10_000_000;
const CACHE_MISSES: &str = "tollgate_token_cache_lookups_total{result=\"miss\"}";
/// Requests under way on each HTTP/2 connection.
const STREAMS: usize = 4;
const WARM_UP: Duration = Duration::from_millis(100);
