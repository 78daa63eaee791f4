//! What came of it, in words and numbers?

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::sample::{Rest, Sample};
use crate::tally::{Class, Outage, Side, Tally};

/// By how much the median of the last fifth may be above that of the second.
const MOST_GROWTH: u64 = 4 * 1024;

/// The seconds of a run that says something of memory.
const LONG: u64 = 60;

/// All that was found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) samples: Vec<Sample>,
    pub(crate) rest: Rest,
    /// Requests that reached the upstreams, those of the failing one left out.
    pub(crate) arrived: u64,
    /// Everything that was wrong, wherever it was seen.
    pub(crate) wrong: Vec<String>,
    /// How long the traffic was meant to take.
    pub(crate) seconds: u64,
}

impl Findings {
    /// The median memory of the second and of the last fifth, in KiB.
    pub(crate) fn memory(&self) -> [u64; 2] {
        let fifth = self.samples.len() / 5;
        [1, 4].map(|number| {
            let some = self.samples.iter().skip(number * fifth).take(fifth.max(1));
            let mut some: Vec<u64> = some.map(|sample| sample.resident).collect();
            some.sort_unstable();
            some.get(some.len() / 2).copied().unwrap_or(0)
        })
    }

    /// What fails the soak.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if !self.wrong.is_empty() {
            failures.push(format!("{} wrong answers", self.wrong.len()));
        }
        let [second, last] = self.memory();
        if self.seconds >= LONG && last > second + MOST_GROWTH {
            failures.push(format!("memory grew from {second} KiB to {last} KiB"));
        }
        if !self.rest.is_quiet() {
            failures.push(format!("not as before once idle: {:?}", self.rest));
        }
        failures
    }
}

/// What came of it.
pub(crate) fn results(findings: &Findings, tally: &Tally) -> Result<String, std::fmt::Error> {
    let mut page = String::new();
    let seconds = findings.seconds;
    let build = if cfg!(debug_assertions) {
        "an unoptimised build (its dependencies optimised)"
    } else {
        "the release build"
    };
    let [good, hostile] = tally.totals();
    let (outages, events) = (tally.outages(), tally.events());
    let count = |what: &str| events.iter().filter(|event| event.what == what).count();
    let [second, last] = findings.memory().map(mib);
    let most = findings.samples.iter().map(|sample| sample.resident).max();
    let most_open = findings.samples.iter().map(|sample| sample.connections);
    let rest = &findings.rest;
    write!(
        page,
        "## What came of it\n\
         {seconds} seconds of {build} on a virtual machine with two cores, others at work.\n\n\
         | | |\n|---|---|\n\
         | wrong answers | {} |\n\
         | good requests and logins judged | {good} |\n\
         | hostile ones judged | {hostile} |\n\
         | requests that arrived at `app` and `solo` | {} |\n\
         | reloads taken, refused | {}, {} |\n\
         | times that an endpoint was out | {} |\n\
         | resident memory, median of the second fifth and of the last | {second:.1} MiB, {last:.1} MiB |\n\
         | most resident memory | {:.1} MiB |\n\
         | most connections from clients | {:.0} |\n\
         | file descriptors before the traffic, and after it | {}, {} |\n\
         | connections and requests under way after it | {:.0}, {:.0} |\n\n",
        findings.wrong.len(),
        findings.arrived,
        count("reload"),
        count("refused"),
        by_kind(&outages),
        mib(most.unwrap_or(0)),
        most_open.fold(0.0, f64::max),
        rest.before,
        rest.after,
        rest.connections,
        rest.in_flight,
    )?;
    page += "![Memory, requests per second and descriptors over time](soak.svg)\n\n";
    for (side, name, columns) in [
        (
            Side::Good,
            "good traffic",
            "own answer | 502, 503, 504 while the upstream was out | broken off with it |",
        ),
        (
            Side::Hostile,
            "hostile traffic",
            "refused as it must be | | |",
        ),
    ] {
        write!(page, "| {name} | {columns}\n|---|---|---|---|\n")?;
        for ((_, kind), classes) in tally.counts().iter().filter(|((of, _), _)| *of == side) {
            let [own, honest, broken, refused] =
                [Class::Own, Class::Honest, Class::BrokenOff, Class::Refused]
                    .map(|class| classes.get(&class).copied().unwrap_or(0));
            match side {
                Side::Good => writeln!(page, "| {kind} | {own} | {honest} | {broken} |")?,
                Side::Hostile => writeln!(page, "| {kind} | {refused} | | |")?,
            }
        }
        page += "\n";
    }
    Ok(page)
}

/// How often each upstream failed in which way.
fn by_kind(outages: &[Outage]) -> String {
    let mut counts = BTreeMap::new();
    for outage in outages {
        let kind = format!("{} {}", outage.upstream, outage.how);
        *counts.entry(kind.to_lowercase()).or_insert(0) += 1;
    }
    let kinds = counts.iter().map(|(kind, count)| format!("{kind} {count}"));
    kinds.collect::<Vec<_>>().join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "told with one digit")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// How the page begins: what is done, and what is judged.
pub(crate) const INTRODUCTION: &str = "\
# Soak

`./soak` starts the gate with a listener in plaintext and one with TLS, nine routes, four login dialects, a state file and three upstreams, and for ten minutes has good and hostile clients at it at once, while configs are reloaded, keys rotated, tokens taken back, and endpoints die, fall silent, break off, fail, are slow and come back. `./soak SECONDS` takes another time. It ends by itself, and fails at one wrong answer. This page and its plot are written by it.

- A good request must get its own answer, whole: each has an id, from which the bodies both ways follow, and the upstream checks what credential came with it and that no token did. Only while its upstream is dead or broken on purpose may it get 502, 503 or 504 instead, or an answer that breaks off as one. None may arrive twice that may not be sent again. One upstream fails in every way that `chaos` in the tests knows, each request in the one that its id stands for.
- A hostile request must be refused with the status that is promised, and none may reach an upstream. Forged headers must be dropped on the way. A token that is revoked, has expired, or has lost its key must never pass after that was acknowledged; nor a route that a reload took away.
- Memory is flat if the median of the last fifth is at most 4 MiB above that of the second. When the traffic is over, descriptors, connections and requests under way must be back to where they began, and the log must tell of no panic and hold nothing that looks like a token.
- Load is moderate, and nothing is judged by how long it takes.

";
