//! What is read out of a round?

use crate::bench::{Measured, Results};
use crate::contender::Contender;
use crate::histogram::Histogram;
use crate::run::Round;
use crate::scenario::Table;

/// A number of a round. Times are in microseconds, memory in KiB.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Requests (or handshakes, or bodies) per second.
    Rate,
    /// From the slowest to the fastest round, as a part of the median.
    Spread,
    P50,
    P99,
    P999,
    /// The quantile less that of a direct connection in the same round.
    AddedP50,
    AddedP99,
    AddedP999,
    /// The proxy's CPU time for each.
    Cpu,
    /// How many for each second of the proxy's CPU time.
    PerCpuSecond,
    /// The proxy's share of one core.
    Busy,
    Resident,
    PerConnection,
    /// How much memory became more.
    Growth,
    /// Good tokens that were known and had to be verified again.
    Forgotten,
}

impl Metric {
    /// None where it has no meaning.
    fn of(self, round: &Round) -> Option<f64> {
        let sample = round.sample.as_ref();
        let cpu = round.cpu.as_secs_f64();
        let has_proxy = round.memory.resident_kib > 0;
        match self {
            Self::Rate => {
                let sample = sample?;
                Some(sample.exchanges as f64 / sample.elapsed.as_secs_f64())
            }
            Self::P50 => Some(sample?.p50.as_secs_f64() * 1e6),
            Self::P99 => Some(sample?.p99.as_secs_f64() * 1e6),
            Self::P999 => Some(sample?.p999.as_secs_f64() * 1e6),
            Self::Cpu if has_proxy => Some(cpu * 1e6 / sample?.exchanges as f64),
            Self::PerCpuSecond if has_proxy => Some(sample?.exchanges as f64 / cpu),
            Self::Busy if has_proxy => Some(cpu / sample?.elapsed.as_secs_f64()),
            Self::Resident if has_proxy => Some(round.memory.resident_kib as f64),
            Self::PerConnection => round.per_connection.map(|bytes| bytes / 1024.0),
            Self::Growth => round.growth_kib,
            Self::Forgotten => round.forgotten,
            _ => None,
        }
    }

    fn quantile(self) -> Option<Self> {
        match self {
            Self::AddedP50 => Some(Self::P50),
            Self::AddedP99 => Some(Self::P99),
            Self::AddedP999 => Some(Self::P999),
            _ => None,
        }
    }

    pub(crate) fn heading(self, table: Table) -> &'static str {
        match (self, table) {
            (Self::Rate, Table::FullHandshakes | Table::ResumedHandshakes) => "handshakes/s",
            (Self::Rate, Table::Uploads | Table::Downloads) => "MiB/s",
            (Self::Rate, _) => "requests/s",
            (Self::Spread, _) => "spread",
            (Self::P50, _) => "p50",
            (Self::P99, _) => "p99",
            (Self::P999, _) => "p99.9",
            (Self::AddedP50, _) => "added p50",
            (Self::AddedP99, _) => "added p99",
            (Self::AddedP999, _) => "added p99.9",
            (Self::Cpu, Table::FullHandshakes | Table::ResumedHandshakes) => "CPU each",
            (Self::Cpu, _) => "CPU/req",
            (Self::PerCpuSecond, _) => "per CPU s",
            (Self::Busy, _) => "busy",
            (Self::Resident, _) => "RSS",
            (Self::PerConnection, _) => "each",
            (Self::Growth, _) => "growth",
            (Self::Forgotten, _) => "forgotten",
        }
    }

    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Self::Rate | Self::PerCpuSecond | Self::Forgotten => format!("{value:.0}"),
            Self::Spread | Self::Busy => format!("{:.0}%", value * 100.0),
            Self::Resident | Self::Growth if value >= 1024.0 => {
                format!("{:.1} MiB", value / 1024.0)
            }
            Self::Resident | Self::PerConnection | Self::Growth => format!("{value:.1} KiB"),
            _ if value.abs() < 100.0 => format!("{value:.1} us"),
            _ => format!("{value:.0} us"),
        }
    }

    /// Its key in `compare.json`.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Rate => "per_second",
            Self::Spread => "spread",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::P999 => "p999_us",
            Self::AddedP50 => "added_p50_us",
            Self::AddedP99 => "added_p99_us",
            Self::AddedP999 => "added_p999_us",
            Self::Cpu => "cpu_us",
            Self::PerCpuSecond => "per_cpu_second",
            Self::Busy => "busy",
            Self::Resident => "resident_kib",
            Self::PerConnection => "kib_per_connection",
            Self::Growth => "growth_kib",
            Self::Forgotten => "forgotten_tokens",
        }
    }
}

impl Table {
    /// What stands in its columns.
    pub(crate) fn columns(self) -> &'static [Metric] {
        use Metric as M;
        match self {
            Self::Memory => &[M::Resident, M::PerConnection],
            Self::FullHandshakes | Self::ResumedHandshakes => &[
                M::PerCpuSecond,
                M::Cpu,
                M::Rate,
                M::Spread,
                M::P50,
                M::P99,
                M::Busy,
                M::Resident,
            ],
            Self::Tokens => &[
                M::Cpu,
                M::Rate,
                M::Spread,
                M::P50,
                M::P99,
                M::Busy,
                M::Resident,
                M::Growth,
                M::Forgotten,
            ],
            Self::Latency => &[
                M::P50,
                M::P99,
                M::P999,
                M::AddedP50,
                M::AddedP99,
                M::AddedP999,
                M::Cpu,
                M::Rate,
                M::Busy,
                M::Resident,
            ],
            _ => &[
                M::Cpu,
                M::Rate,
                M::Spread,
                M::P50,
                M::P99,
                M::P999,
                M::Busy,
                M::Resident,
            ],
        }
    }
}

impl Results {
    pub(crate) fn find(&self, name: &str) -> Option<&Measured> {
        self.measured.iter().find(|one| one.scenario.name() == name)
    }

    /// The metric of each round, none where it has no meaning there.
    pub(crate) fn series(&self, one: &Measured, metric: Metric) -> Vec<Option<f64>> {
        let Some(quantile) = metric.quantile() else {
            return one.rounds.iter().map(|round| metric.of(round)).collect();
        };
        let Some(direct) = self.direct(one) else {
            return one.rounds.iter().map(|_| None).collect();
        };
        let pairs = one.rounds.iter().zip(&direct.rounds);
        pairs
            .map(|(round, direct)| Some(quantile.of(round)? - quantile.of(direct)?))
            .collect()
    }

    /// The direct connection that a scenario's added latency is counted from.
    fn direct(&self, one: &Measured) -> Option<&Measured> {
        let mut of_table = self
            .measured
            .iter()
            .filter(|other| other.scenario.table == one.scenario.table);
        of_table
            .find(|other| other.scenario.contender == Contender::Direct)
            .filter(|direct| direct.scenario != one.scenario)
    }

    /// The median over all rounds; of the p99.9, that of all rounds together, since one alone has
    /// but a handful of such latencies.
    pub(crate) fn median(&self, one: &Measured, metric: Metric) -> Option<f64> {
        let values = |metric| -> Vec<f64> {
            let series = self.series(one, metric).into_iter();
            series.flatten().collect()
        };
        match metric {
            Metric::P999 => pooled_p999(one),
            Metric::AddedP999 => Some(pooled_p999(one)? - pooled_p999(self.direct(one)?)?),
            Metric::Spread => {
                let rates = values(Metric::Rate);
                let most = rates.iter().copied().fold(f64::MIN, f64::max);
                let least = rates.iter().copied().fold(f64::MAX, f64::min);
                median(&rates).map(|median| (most - least) / median)
            }
            _ => median(&values(metric)),
        }
    }
}

fn pooled_p999(one: &Measured) -> Option<f64> {
    let samples = one.rounds.iter().map(|round| round.sample.as_ref());
    let latencies = samples.map(|sample| sample.map(|sample| &sample.latency));
    let pool = Histogram::pooled(latencies.collect::<Option<Vec<_>>>()?);
    (pool.count() > 0).then(|| pool.quantile(999).as_secs_f64() * 1e6)
}

/// Of an even number the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}
