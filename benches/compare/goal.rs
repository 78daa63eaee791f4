//! Which bars are to be cleared, and are they?

use serde_json::{Value, json};

use crate::bench::{Measured, Results};
use crate::metric::{Metric, median};
use crate::scenario::Scenario;

/// What a scenario is to reach, alone or by comparison with another in the same round.
pub(crate) struct Goal {
    metric: Metric,
    of: &'static str,
    /// None where the number itself counts.
    to: Option<&'static str>,
    sense: Sense,
    bar: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sense {
    AtMost,
    AtLeast,
}

const fn at_most(metric: Metric, of: &'static str, to: &'static str, bar: f64) -> Goal {
    Goal {
        metric,
        of,
        to: Some(to),
        sense: Sense::AtMost,
        bar,
    }
}

const fn at_least(metric: Metric, of: &'static str, to: &'static str, bar: f64) -> Goal {
    Goal {
        sense: Sense::AtLeast,
        ..at_most(metric, of, to, bar)
    }
}

const fn alone(metric: Metric, of: &'static str, bar: f64) -> Goal {
    Goal {
        to: None,
        ..at_most(metric, of, "", bar)
    }
}

const GOALS: [Goal; 32] = {
    use Metric as M;
    [
        at_most(
            M::Cpu,
            "h1: Tollgate HS256",
            "h1: HAProxy jwt_verify HS256",
            0.85,
        ),
        at_most(
            M::Cpu,
            "h1: Tollgate RS256",
            "h1: HAProxy jwt_verify RS256",
            0.40,
        ),
        at_most(
            M::Cpu,
            "h1: Tollgate ES256",
            "h1: HAProxy jwt_verify ES256",
            0.20,
        ),
        at_most(
            M::Cpu,
            "h1: Tollgate RS256",
            "h1: Envoy jwt_authn, cache RS256",
            0.35,
        ),
        at_most(M::Cpu, "h1: Tollgate HS256", "h1: nginx", 1.05),
        at_most(M::Cpu, "h1: Tollgate RS256", "h1: nginx", 1.05),
        at_most(M::Cpu, "h1: Tollgate ES256", "h1: nginx", 1.05),
        at_most(
            M::Cpu,
            "tls: Tollgate HS256",
            "tls: HAProxy jwt_verify HS256",
            0.90,
        ),
        at_least(
            M::PerCpuSecond,
            "full handshakes: Tollgate HS256",
            "full handshakes: HAProxy jwt_verify HS256",
            1.0,
        ),
        at_least(
            M::PerCpuSecond,
            "resumed handshakes: Tollgate HS256",
            "resumed handshakes: HAProxy jwt_verify HS256",
            1.0,
        ),
        at_most(
            M::Cpu,
            "h2: Tollgate HS256",
            "h2: HAProxy jwt_verify HS256",
            0.90,
        ),
        at_most(
            M::Cpu,
            "h2: Tollgate HS256",
            "h2: Envoy jwt_authn, cache HS256",
            0.40,
        ),
        at_most(
            M::Cpu,
            "tokens: Tollgate HS256, 10000 known tokens",
            "tokens: Tollgate HS256, one token",
            1.15,
        ),
        at_most(
            M::Cpu,
            "tokens: Tollgate, cache of 1200000 HS256, 1000000 known tokens",
            "tokens: Tollgate HS256, one token",
            1.15,
        ),
        alone(
            M::Resident,
            "tokens: Tollgate, cache of 1200000 HS256, 1000000 known tokens",
            // What its cache may take, and what the gate takes without.
            (1024.0 + 32.0) * 1024.0,
        ),
        alone(
            M::Growth,
            "tokens: Tollgate HS256, 1000000 bad tokens",
            1024.0,
        ),
        alone(
            M::Forgotten,
            "tokens: Tollgate HS256, 1000000 bad tokens",
            0.0,
        ),
        at_least(
            M::Rate,
            "post: Tollgate HS256",
            "post: nginx, unbuffered",
            1.0,
        ),
        at_least(
            M::Rate,
            "uploads: Tollgate HS256",
            "uploads: nginx, unbuffered",
            1.0,
        ),
        at_least(
            M::Rate,
            "downloads: Tollgate HS256",
            "downloads: nginx, unbuffered",
            1.0,
        ),
        alone(M::AddedP50, "paced: Tollgate HS256", 60.0),
        at_most(M::AddedP99, "paced: Tollgate HS256", "paced: nginx", 1.10),
        at_most(M::AddedP999, "paced: Tollgate HS256", "paced: nginx", 2.0),
        at_most(
            M::P99,
            "paced: Tollgate HS256, login storm",
            "paced: Tollgate HS256",
            1.25,
        ),
        alone(
            M::Resident,
            "memory: Tollgate HS256, at rest",
            10.0 * 1024.0,
        ),
        alone(
            M::PerConnection,
            "memory: Tollgate HS256, 2000 idle connections, plaintext",
            12.0,
        ),
        alone(
            M::PerConnection,
            "memory: Tollgate HS256, 2000 idle connections, TLS",
            32.0,
        ),
        at_most(
            M::Cpu,
            "routes: Tollgate, 1000 routes HS256",
            "routes: Tollgate, 1 route HS256",
            1.05,
        ),
        at_most(
            M::Cpu,
            "workers: Tollgate, 2 workers HS256",
            "workers: Tollgate, 1 worker HS256",
            1.05,
        ),
        at_most(
            M::Cpu,
            "workers: Tollgate, 4 workers HS256",
            "workers: Tollgate, 1 worker HS256",
            1.05,
        ),
        at_most(M::Cpu, "h1: Tollgate RS256", "h1: Tollgate HS256", 1.05),
        at_most(M::Cpu, "h1: Tollgate ES256", "h1: Tollgate HS256", 1.05),
    ]
};

/// A goal and what was measured.
struct Outcome {
    goal: &'static Goal,
    value: f64,
}

impl Outcome {
    fn is_met(&self) -> bool {
        match self.goal.sense {
            Sense::AtMost => self.value <= self.goal.bar,
            Sense::AtLeast => self.value >= self.goal.bar,
        }
    }
}

impl Goal {
    /// The median of the rounds' ratios, each round with itself: what slows a round slows both. But
    /// a p99.9 is one of all rounds together.
    fn value(&self, results: &Results) -> Option<f64> {
        let above = results.find(self.of)?;
        let Some(to) = self.to else {
            return results.median(above, self.metric);
        };
        let below = results.find(to)?;
        let ratio = |(above, below): (Option<f64>, Option<f64>)| {
            Some(above? / below.filter(|below| *below > 0.0)?)
        };
        if matches!(self.metric, Metric::P999 | Metric::AddedP999) {
            let pooled = |one: &Measured| results.median(one, self.metric);
            return ratio((pooled(above), pooled(below)));
        }
        let series = |one: &Measured| results.series(one, self.metric);
        let pairs = series(above).into_iter().zip(series(below));
        median(&pairs.filter_map(ratio).collect::<Vec<_>>())
    }
}

fn outcomes(results: &Results) -> impl Iterator<Item = Outcome> {
    GOALS.iter().filter_map(|goal| {
        Some(Outcome {
            goal,
            value: goal.value(results)?,
        })
    })
}

/// Whether every goal names scenarios that there are.
pub(crate) fn check(all: &[Scenario]) -> anyhow::Result<()> {
    for name in GOALS
        .iter()
        .flat_map(|goal| [Some(goal.of), goal.to])
        .flatten()
    {
        anyhow::ensure!(
            all.iter().any(|scenario| scenario.name() == name),
            "a goal names the scenario {name:?}, which there is not"
        );
    }
    Ok(())
}

/// Prints those whose scenarios were measured, and of those that were not the names, unless only some
/// scenarios were asked for.
pub(crate) fn print(results: &Results, only_some: bool) {
    println!("\ngoals: medians of the rounds' ratios; where there is no peer, the number itself");
    println!("{:<WHAT$} {:>10} {:>10}", "", "measured", "bar");
    for outcome in outcomes(results) {
        let goal = outcome.goal;
        let show = |value: f64| match goal.to {
            Some(_) => format!("{value:.2}"),
            None => goal.metric.format(value),
        };
        let sense = match goal.sense {
            Sense::AtMost => "<=",
            Sense::AtLeast => ">=",
        };
        println!(
            "{:<WHAT$} {:>10} {:>13} {}",
            what(goal),
            show(outcome.value),
            format!("{sense} {}", show(goal.bar)),
            if outcome.is_met() { "met" } else { "not met" },
        );
    }
    let missing = GOALS.iter().filter(|goal| goal.value(results).is_none());
    for goal in missing.filter(|_| !only_some) {
        println!("{:<WHAT$} {:>10} {:>13} not measured", what(goal), "-", "");
    }
}

pub(crate) fn json(results: &Results) -> Vec<Value> {
    outcomes(results)
        .map(|outcome| {
            json!({
                "metric": outcome.goal.metric.key(),
                "of": outcome.goal.of,
                "to": outcome.goal.to,
                "at_most": outcome.goal.sense == Sense::AtMost,
                "bar": outcome.goal.bar,
                "measured": (outcome.value * 1e3).round() / 1e3,
                "met": outcome.is_met(),
            })
        })
        .collect()
}

fn what(goal: &Goal) -> String {
    let metric = goal.metric.key();
    match goal.to {
        Some(to) => format!("{metric}, {} / {to}", goal.of),
        None => format!("{metric}, {}", goal.of),
    }
}

const WHAT: usize = 100;
