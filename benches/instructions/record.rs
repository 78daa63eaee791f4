//! What was counted before, and how does what is counted now compare?

use std::collections::BTreeMap;
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
    /// Which of the C library's routines were taken; valgrind shows its own processor.
    routines: BTreeMap<String, String>,
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
            routines: BTreeMap::new(),
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
        let tolerance = match self.other_routines(counted).is_empty() {
            true => TOLERANCE,
            false => TOLERANCE_ELSEWHERE,
        };
        let bound = before.instructions * tolerance;
        Ok([
            judge("instructions", before.instructions, now.instructions, bound),
            judge("allocations", before.allocations, now.allocations, A_HALF),
        ])
    }

    /// In what other circumstances this was counted; one sentence for each.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = self.other_routines(now);
        if !changes.is_empty() {
            let percent = TOLERANCE_ELSEWHERE * 100.0;
            changes.push(format!(
                "SO THE GUARD IS DULL HERE: up to {percent} % more passes"
            ));
        }
        let programs = [
            (&self.rustc, &now.rustc),
            (&self.valgrind, &now.valgrind),
            (&self.libc, &now.libc),
        ];
        let others = programs.into_iter().filter(|(before, now)| before != now);
        changes.extend(others.map(|(before, now)| format!("this is {now}, the record's {before}")));
        changes
    }

    /// Routines of the same purpose that differ.
    fn other_routines(&self, now: &Self) -> Vec<String> {
        let pairs = self.routines.iter().filter_map(|(purpose, before)| {
            let now = now.routines.get(purpose)?;
            (now != before).then(|| format!("{purpose} is {now} here, {before} in the record"))
        });
        pairs.collect()
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
/// The same where the C library takes other routines: those for SSE2 alone cost up to 9 % more.
const TOLERANCE_ELSEWHERE: f64 = 0.12;
/// How far above the record allocations may be: one more for every second request is too much.
const A_HALF: f64 = 0.5;
