//! What does the reader see?

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::machine::{Machine, Others, Pinning};
use crate::options::Options;
use crate::process::Memory;
use crate::scenario::{Measured, Pace, Results, Round, Via};
use crate::storm::Answers;

/// Prints the tables.
pub(crate) fn print(results: &Results) {
    print_closed(results);
    print_open(results);
    let ratios = results.ratios();
    if !ratios.is_empty() {
        println!("\nratios");
    }
    for ratio in ratios {
        println!("{:<44} {:>6.2}", ratio.name, ratio.value);
    }
    println!(
        "\nmemory of the gate: {} at rest, {} at the end, {} at most",
        mebibytes(results.gate_at_rest.resident_kib),
        mebibytes(results.gate_at_end.resident_kib),
        mebibytes(results.gate_at_end.peak_kib),
    );
    println!("meanwhile: {}", Others(results.others));
}

fn print_closed(results: &Results) {
    let mut measured = results.of(Pace::Closed).peekable();
    if measured.peek().is_none() {
        return;
    }
    println!(
        "\nclosed loop: what can be carried; a proxy less than about 95% busy could carry more"
    );
    println!(
        "{:<26} {:>11} {:>7} {:>9} {:>9} {:>9} {:>10} {:>6} {:>9}",
        "scenario", "requests/s", "spread", "p50", "p99", "p99.9", "CPU/req", "busy", "RSS"
    );
    for one in measured {
        let summary = Summary::of(one);
        println!(
            "{:<26} {:>11.0} {:>6.0}% {:>9} {:>9} {:>9} {}",
            one.scenario.name,
            summary.rate,
            summary.spread * 100.0,
            micros(summary.p50),
            micros(summary.p99),
            micros(summary.p999),
            summary.cost(),
        );
    }
}

fn print_open(results: &Results) {
    let mut measured = results.of(Pace::Open).peekable();
    if measured.peek().is_none() {
        return;
    }
    println!("\nopen loop: what a request waits, from the moment at which it is due");
    println!(
        "{:<26} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>6} {:>9}",
        "scenario",
        "requests/s",
        "p50",
        "p99",
        "p99.9",
        "added p50",
        "added p99",
        "CPU/req",
        "busy",
        "RSS"
    );
    let base = results.find("direct, paced").map(Summary::of);
    for one in measured {
        let summary = Summary::of(one);
        let added = |quantile: fn(&Summary) -> Duration| match &base {
            Some(base) if one.scenario.via != Via::Direct => {
                micros(quantile(&summary).saturating_sub(quantile(base)))
            }
            _ => "-".to_owned(),
        };
        println!(
            "{:<26} {:>11.0} {:>9} {:>9} {:>9} {:>9} {:>9} {}",
            one.scenario.name,
            summary.rate,
            micros(summary.p50),
            micros(summary.p99),
            micros(summary.p999),
            added(|summary| summary.p50),
            added(|summary| summary.p99),
            summary.cost(),
        );
    }
    for (one, logins) in measured_logins(results) {
        let seconds = logins.elapsed.as_secs_f64();
        let per_second = |count: u64| count as f64 / seconds;
        println!(
            "{}: of {:.0} logins/s {:.0} were granted, {:.0} were wrong (401), {:.0} throttled \
             (429), {:.0} found the gate busy (503)",
            one.scenario.name,
            per_second(logins.total()),
            per_second(logins.granted),
            per_second(logins.refused),
            per_second(logins.throttled),
            per_second(logins.busy),
        );
    }
}

/// What became of the logins beside a load, over all rounds.
fn measured_logins(results: &Results) -> impl Iterator<Item = (&Measured, Answers)> {
    results.measured.iter().filter_map(|one| {
        let rounds = one.rounds.iter().map(|round| round.logins);
        let sum = rounds.sum::<Option<Answers>>()?;
        Some((one, sum))
    })
}

/// Writes all of it, with every round, for machines.
pub(crate) fn write(
    file: &Path,
    machine: &Machine,
    options: &Options,
    results: &Results,
) -> anyhow::Result<()> {
    let document = json!({
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores,
            "memory": machine.memory,
            "kernel": machine.kernel,
            "others_busy_before": machine.others,
            "others_busy_meanwhile": results.others,
            "pinned": match machine.pinning {
                Pinning::Pinned { proxy, others } => json!({ "proxy": proxy, "others": others }),
                Pinning::Unpinned(_) => Value::Null,
            },
        },
        "options": {
            "seconds": options.seconds,
            "rounds": options.rounds,
            "connections": options.connections,
            "rate": options.rate,
        },
        "scenarios": results.measured.iter().map(scenario_json).collect::<Vec<_>>(),
        "ratios": results.ratios().iter().map(|ratio| (ratio.name, (ratio.value * 1e3).round() / 1e3)).collect::<std::collections::BTreeMap<_, _>>(),
        "gate_memory_kib": {
            "at_rest": results.gate_at_rest.resident_kib,
            "at_end": results.gate_at_end.resident_kib,
            "peak": results.gate_at_end.peak_kib,
        },
    });
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(file, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn scenario_json(one: &Measured) -> Value {
    let summary = Summary::of(one);
    json!({
        "name": one.scenario.name,
        "loop": match one.scenario.pace {
            Pace::Closed => "closed",
            Pace::Open => "open",
        },
        "requests_per_second": summary.rate,
        "p50_us": microseconds(summary.p50),
        "p99_us": microseconds(summary.p99),
        "p999_us": microseconds(summary.p999),
        "proxy": summary.proxy.as_ref().map(|proxy| json!({
            "cpu_us_per_request": microseconds(proxy.cpu_per_request),
            "busy": proxy.busy,
            "resident_kib": proxy.memory.resident_kib,
        })),
        "rounds": one.rounds.iter().map(|round| json!({
            "requests": round.sample.exchanges,
            "seconds": round.sample.elapsed.as_secs_f64(),
            "p50_us": microseconds(round.sample.p50),
            "p99_us": microseconds(round.sample.p99),
            "p999_us": microseconds(round.sample.p999),
            "cpu_seconds": round.cpu.as_secs_f64(),
            "logins": round.logins.map(|logins| json!({
                "seconds": logins.elapsed.as_secs_f64(),
                "granted": logins.granted,
                "refused": logins.refused,
                "throttled": logins.throttled,
                "busy": logins.busy,
            })),
        })).collect::<Vec<_>>(),
    })
}

struct Ratio {
    name: &'static str,
    value: f64,
}

impl Results {
    fn of(&self, pace: Pace) -> impl Iterator<Item = &Measured> {
        self.measured
            .iter()
            .filter(move |one| one.scenario.pace == pace)
    }

    /// Like with like only, and each round with itself: what slows a round slows both.
    fn ratios(&self) -> Vec<Ratio> {
        type Reading = fn(&Round) -> f64;
        let cpu: Reading = |round| round.cpu.as_secs_f64() / round.sample.exchanges as f64;
        let rate: Reading = rate;
        let p99: Reading = |round| round.sample.p99.as_secs_f64();
        [
            ("requests/s, gate to direct", "gate", "direct", rate),
            ("requests/s, gate to nginx", "gate", "nginx", rate),
            ("requests/s, gate to haproxy", "gate", "haproxy", rate),
            (
                "requests/s, gate to nginx, TLS 1.3",
                "gate, TLS 1.3",
                "nginx, TLS 1.3",
                rate,
            ),
            ("CPU per request, gate to nginx", "gate", "nginx", cpu),
            ("CPU per request, gate to haproxy", "gate", "haproxy", cpu),
            (
                "CPU per request, gate to nginx, TLS 1.3",
                "gate, TLS 1.3",
                "nginx, TLS 1.3",
                cpu,
            ),
            (
                "CPU per request, new to known tokens",
                "gate, 10,000 new tokens",
                "gate, 10,000 known tokens",
                cpu,
            ),
            (
                "p99, paced, login storm to none",
                "gate, paced, login storm",
                "gate, paced",
                p99,
            ),
        ]
        .into_iter()
        .filter_map(|(name, above, below, reading)| {
            let rounds = self
                .find(above)?
                .rounds
                .iter()
                .zip(&self.find(below)?.rounds);
            let ratios: Vec<f64> = rounds
                .map(|(above, below)| reading(above) / reading(below))
                .collect();
            Some(Ratio {
                name,
                value: median(&ratios),
            })
        })
        .collect()
    }

    fn find(&self, name: &str) -> Option<&Measured> {
        self.measured.iter().find(|one| one.scenario.name == name)
    }
}

/// A scenario's rounds in one line.
struct Summary {
    rate: f64,
    /// From the slowest to the fastest round, as a part of the median.
    spread: f64,
    p50: Duration,
    p99: Duration,
    p999: Duration,
    /// None where there is no proxy.
    proxy: Option<Cost>,
}

/// What the proxy takes.
struct Cost {
    cpu_per_request: Duration,
    /// Of one core.
    busy: f64,
    memory: Memory,
}

impl Summary {
    fn of(measured: &Measured) -> Self {
        let rounds = &measured.rounds;
        let rates: Vec<f64> = rounds.iter().map(rate).collect();
        let rate = median(&rates);
        let latency = |quantile: fn(&Round) -> Duration| {
            let all: Vec<f64> = rounds
                .iter()
                .map(|round| quantile(round).as_secs_f64())
                .collect();
            Duration::from_secs_f64(median(&all))
        };
        let cpu: Duration = rounds.iter().map(|round| round.cpu).sum();
        let elapsed: Duration = rounds.iter().map(|round| round.sample.elapsed).sum();
        let exchanges: u64 = rounds.iter().map(|round| round.sample.exchanges).sum();
        let memory = rounds.last().map(|round| round.memory).unwrap_or_default();
        let proxied = memory.resident_kib > 0 && exchanges > 0;
        Self {
            rate,
            spread: (rates.iter().copied().fold(0.0, f64::max)
                - rates.iter().copied().fold(f64::MAX, f64::min))
                / rate,
            p50: latency(|round| round.sample.p50),
            p99: latency(|round| round.sample.p99),
            p999: latency(|round| round.sample.p999),
            proxy: proxied.then(|| Cost {
                cpu_per_request: cpu.div_f64(exchanges as f64),
                busy: cpu.div_duration_f64(elapsed),
                memory,
            }),
        }
    }

    /// The columns of what the proxy costs.
    fn cost(&self) -> String {
        match &self.proxy {
            Some(proxy) => {
                let cpu = micros(proxy.cpu_per_request);
                let memory = mebibytes(proxy.memory.resident_kib);
                format!("{cpu:>10} {:>5.0}% {memory:>9}", proxy.busy * 100.0)
            }
            None => format!("{:>10} {:>6} {:>9}", "-", "-", "-"),
        }
    }
}

fn rate(round: &Round) -> f64 {
    round.sample.exchanges as f64 / round.sample.elapsed.as_secs_f64()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// To a tenth, which is finer than anything here is known.
fn microseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

fn micros(duration: Duration) -> String {
    let microseconds = microseconds(duration);
    if microseconds < 100.0 {
        format!("{microseconds:.1} us")
    } else {
        format!("{microseconds:.0} us")
    }
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
