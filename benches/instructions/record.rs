//! What was counted before, and how does what is counted now compare?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::profile::Profile;

/// What was counted, and with what.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    rustc: String,
    valgrind: String,
    libc: String,
    /// Which routines were chosen by what the processor can; valgrind shows its own processor.
    routines: BTreeSet<String>,
    per_request: BTreeMap<String, Recorded>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Recorded {
    instructions: f64,
    allocations: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Worse,
    Same,
    Better,
}

impl Record {
    /// With nothing counted yet.
    pub(crate) fn empty() -> anyhow::Result<Self> {
        Ok(Self {
            rustc: version("rustc", "--version")?,
            valgrind: version("valgrind", "--version")?,
            libc: version("ldd", "--version")?,
            routines: BTreeSet::new(),
            per_request: BTreeMap::new(),
        })
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string(path()).with_context(|| format!("cannot read {FILE}"))?;
        serde_json::from_str(&text).with_context(|| format!("in {FILE}"))
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path(), text).with_context(|| format!("cannot write {FILE}"))
    }

    /// What a request of this scenario costs.
    pub(crate) fn add(&mut self, scenario: &str, profile: Profile) {
        let recorded = Recorded {
            instructions: profile.cost.instructions.round(),
            allocations: (profile.cost.allocations * 10.0).round() / 10.0,
        };
        self.per_request.insert(scenario.to_owned(), recorded);
        self.routines.extend(profile.routines);
    }

    /// Fails unless every one of these scenarios is in it.
    pub(crate) fn is_whole(&self, scenarios: &[&str]) -> anyhow::Result<()> {
        scenarios
            .iter()
            .try_for_each(|name| self.of(name).map(drop))
    }

    /// One verdict on instructions and one on allocations, in words, too.
    pub(crate) fn judge(
        &self,
        scenario: &str,
        counted: &Self,
    ) -> anyhow::Result<[(Verdict, String); 2]> {
        let (before, now) = (self.of(scenario)?, counted.of(scenario)?);
        let bound = before.instructions * TOLERANCE;
        Ok([
            judge("instructions", before.instructions, now.instructions, bound),
            judge(
                "allocations",
                before.allocations,
                now.allocations,
                HALF_A_CALL,
            ),
        ])
    }

    /// In what other circumstances this was counted; one sentence for each.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let routines = |routines: &BTreeSet<String>| {
            let routines: Vec<_> = routines.iter().map(String::as_str).collect();
            routines.join(", ")
        };
        [
            ("rustc", self.rustc.clone(), now.rustc.clone()),
            ("valgrind", self.valgrind.clone(), now.valgrind.clone()),
            ("libc", self.libc.clone(), now.libc.clone()),
            (
                "routines",
                routines(&self.routines),
                routines(&now.routines),
            ),
        ]
        .into_iter()
        .filter(|(_, before, now)| before != now)
        .map(|(what, before, now)| format!("{what}: {now}, but {before} in the record"))
        .collect()
    }

    fn of(&self, scenario: &str) -> anyhow::Result<Recorded> {
        let recorded = self.per_request.get(scenario).copied();
        recorded.with_context(|| format!("{FILE} does not know {scenario}: record it"))
    }
}

fn judge(unit: &str, before: f64, now: f64, bound: f64) -> (Verdict, String) {
    let (verdict, told) = match now - before {
        more if more > bound => (Verdict::Worse, "WORSE"),
        more if more < -bound => (Verdict::Better, "better: renew the record with --record"),
        _ => (Verdict::Same, ""),
    };
    let percent = (now / before - 1.0) * 100.0;
    let text = format!("{before:>8} {unit:<12} now {now:>8} {percent:>+7.2} %  {told}");
    (verdict, text.trim_end().to_owned())
}

/// Why nothing can be counted here, if so. The record is of code for x86-64, and nothing that runs
/// there may go without the guard: that valgrind is missing is an error.
pub(crate) fn impossible() -> Option<&'static str> {
    let is_here = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    (!is_here).then_some("the record is for Linux on x86-64, which this is not")
}

/// The first line that a program says about itself.
fn version(program: &str, option: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(option)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .with_context(|| format!("cannot start {program}; tests/install.sh installs valgrind"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)
}

pub(crate) const FILE: &str = "benches/instructions.json";
pub(crate) const ADVICE: &str = "benches/README.md tells how to find out where. Mend it; or, if it is worth its price, renew \
     the record with --record, and give the reason in the commit.";
pub(crate) const ADVICE_ELSEWHERE: &str = "But the record is of other circumstances than these. If the commit before yours is dearer \
     here by as much, renew the record first, in a commit of its own.";

/// How far above the record instructions may be.
const TOLERANCE: f64 = 0.03;
/// How far above the record allocations may be: one more for every second request is too much.
const HALF_A_CALL: f64 = 0.5;
