//! What the gate takes, second by second.

use std::fs;

use crate::ground::Ground;
use crate::pause;
use crate::support::gate::Gate;
use crate::tally::Tally;

/// The gate at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Seconds since the start.
    pub(crate) at: f64,
    /// Resident memory in KiB.
    pub(crate) resident: u64,
    pub(crate) descriptors: usize,
    pub(crate) connections: f64,
    /// Good and hostile requests so far.
    pub(crate) totals: [u64; 2],
}

/// Samples until traffic is over.
pub(crate) fn sample(ground: &Ground, tally: &Tally) -> Vec<Sample> {
    let mut samples = Vec::new();
    while !tally.is_over() {
        samples.push(take(&ground.gate, tally));
        pause(1000);
    }
    samples
}

/// One sample.
pub(crate) fn take(gate: &Gate, tally: &Tally) -> Sample {
    let connections = sum(&gate.metrics(), "tollgate_connections_open");
    Sample {
        at: tally.start.elapsed().as_secs_f64(),
        resident: resident(gate),
        descriptors: descriptors(gate),
        connections,
        totals: tally.totals(),
    }
}

fn resident(gate: &Gate) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.unwrap().parse().unwrap()
}

/// Open file descriptors.
fn descriptors(gate: &Gate) -> usize {
    let folder = format!("/proc/{}/fd", gate.pid());
    fs::read_dir(folder).unwrap().count()
}

/// Open file descriptors of a gate that nobody asks anything: the most of two seconds, in which its
/// workers get ready and its health checks come and go.
pub(crate) fn descriptors_at_rest(gate: &Gate) -> usize {
    let looks = (0..20).map(|_| {
        pause(100);
        descriptors(gate)
    });
    looks.max().unwrap_or(0)
}

/// The sum of a metric's samples.
pub(crate) fn sum(metrics: &str, name: &str) -> f64 {
    let samples = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then_some(rest)
    });
    let values = samples.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}

/// How the gate is once traffic is over and what is idle has been closed.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    pub(crate) before: usize,
    pub(crate) after: usize,
    pub(crate) connections: f64,
    pub(crate) in_flight: f64,
}

impl Rest {
    /// Waits until the gate is as it was before, for a minute at the most.
    pub(crate) fn await_of(ground: &Ground, before: usize) -> Self {
        let mut rest = Self {
            before,
            after: usize::MAX,
            connections: f64::MAX,
            in_flight: f64::MAX,
        };
        for _ in 0..600 {
            let metrics = ground.gate.metrics();
            rest.after = descriptors(&ground.gate);
            rest.connections = sum(&metrics, "tollgate_connections_open");
            rest.in_flight = sum(&metrics, "tollgate_requests_in_flight");
            if rest.is_quiet() {
                break;
            }
            pause(100);
        }
        rest
    }

    /// Whether nothing of the traffic is left.
    pub(crate) fn is_quiet(&self) -> bool {
        self.after <= self.before && self.connections == 0.0 && self.in_flight == 0.0
    }
}
