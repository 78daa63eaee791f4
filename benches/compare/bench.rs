//! In which order is everything measured?

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use jsonwebtoken::Algorithm;

use crate::contender::{Contender, Contenders, Site};
use crate::keys::Keys;
use crate::machine::{self, Machine};
use crate::options::Options;
use crate::process;
use crate::proof;
use crate::run::{Round, Stage};
use crate::scenario::{self, Scenario};
use crate::trust::Trust;
use crate::upstream::Upstream;

/// A scenario and its rounds.
pub(crate) struct Measured {
    pub(crate) scenario: Scenario,
    pub(crate) rounds: Vec<Round>,
    /// Why there are no more rounds of it.
    pub(crate) failure: Option<String>,
}

/// All that was measured.
pub(crate) struct Results {
    pub(crate) measured: Vec<Measured>,
    /// Contenders and their own words about their versions.
    pub(crate) versions: Vec<String>,
    /// How many cores other processes kept busy meanwhile.
    pub(crate) others: f64,
}

/// What all contenders share.
pub(crate) struct Ground {
    pub(crate) upstream: Upstream,
    pub(crate) keys: Keys,
    trust: Trust,
}

impl Ground {
    pub(crate) fn prepare(folder: &Path) -> anyhow::Result<Self> {
        let keys = Keys::generate()?;
        keys.write(folder)?;
        Ok(Self {
            upstream: Upstream::start(folder)?,
            keys,
            trust: Trust::establish(folder)?,
        })
    }

    pub(crate) fn contenders<'a>(
        &'a self,
        options: &'a Options,
        machine: &'a Machine,
        folder: &'a Path,
    ) -> Contenders<'a> {
        Contenders::new(Site {
            machine,
            folder,
            upstream: self.upstream.target.address,
            keys: &self.keys,
            trust: &self.trust,
            gate: &options.gate,
        })
    }

    /// Starts it, unless it runs, and has it prove its work.
    pub(crate) fn admit(
        &self,
        contenders: &mut Contenders<'_>,
        who: Contender,
        algorithm: Algorithm,
    ) -> anyhow::Result<()> {
        if who == Contender::Direct || contenders.get(who, algorithm).is_some() {
            return Ok(());
        }
        contenders.start(who, algorithm)?;
        let running = contenders.get(who, algorithm).context("not running")?;
        proof::prove(who, algorithm, running, &self.upstream, &self.keys)
            .with_context(|| format!("{who} {algorithm:?} does not do its work"))
    }
}

/// What the options ask for, of what is installed.
pub(crate) fn asked_for(options: &Options, machine: &Machine) -> Vec<Scenario> {
    let mut all = scenario::all(machine.most_workers());
    all.retain(|scenario| {
        (options.full || !scenario.is_extra || !options.only.is_empty())
            && scenario.name().contains(&options.only)
    });
    all
}

/// Measures round by round, each scenario once in each, so that a slow minute of the machine does
/// not fall on one scenario alone.
pub(crate) fn measure(
    options: &Options,
    machine: &Machine,
    folder: &Path,
) -> anyhow::Result<Results> {
    let ground = Ground::prepare(folder)?;
    let mut contenders = ground.contenders(options, machine, folder);
    let mut wanted = asked_for(options, machine);
    let versions = invite(&ground, &mut contenders, &mut wanted)?;
    anyhow::ensure!(
        !wanted.is_empty(),
        "no scenario is called {:?}",
        options.only
    );

    let rounds = options.rounds.max(1);
    let slots: u32 = wanted
        .iter()
        .map(|scenario| scenario.slots() * scenario.load.most_rounds().min(rounds))
        .sum();
    let slot = Duration::try_from_secs_f64(options.seconds / f64::from(slots.max(1)))
        .context("--seconds makes no sense")?;
    let mut measured: Vec<Measured> = wanted
        .into_iter()
        .map(|scenario| Measured {
            scenario,
            rounds: Vec::new(),
            failure: None,
        })
        .collect();

    let (start, others_before) = (Instant::now(), time_of_others(&ground, &contenders)?);
    for number in 1..=rounds {
        println!("round   {number} of {rounds}");
        let stage = Stage {
            upstream: &ground.upstream,
            keys: &ground.keys,
            connections: options.connections.max(1),
            rate: options.rate,
            slot,
            number,
        };
        for one in &mut measured {
            if number > one.scenario.load.most_rounds() || one.failure.is_some() {
                continue;
            }
            match measure_once(&stage, &one.scenario, &mut contenders) {
                Ok(round) => one.rounds.push(round),
                // One that fails must not cost what was measured of the others.
                Err(error) => {
                    println!("failed  {}: {error:#}", one.scenario.name());
                    one.failure = Some(format!("{error:#}"));
                }
            }
        }
    }
    Ok(Results {
        measured,
        versions,
        others: time_of_others(&ground, &contenders)?
            .saturating_sub(others_before)
            .div_duration_f64(start.elapsed()),
    })
}

fn measure_once(
    stage: &Stage<'_>,
    scenario: &Scenario,
    contenders: &mut Contenders<'_>,
) -> anyhow::Result<Round> {
    let (who, algorithm) = (scenario.contender, scenario.algorithm);
    if scenario.load.wants_fresh_process() {
        let running = contenders.fresh(who, algorithm)?;
        return stage.measure(scenario, Some(&running));
    }
    stage.measure(scenario, contenders.get(who, algorithm))
}

/// Starts whoever is asked for and installed, and strikes the scenarios of the others. The gate must
/// not be among those.
fn invite(
    ground: &Ground,
    contenders: &mut Contenders<'_>,
    wanted: &mut Vec<Scenario>,
) -> anyhow::Result<Vec<String>> {
    let mut versions: Vec<String> = Vec::new();
    let mut absent: Vec<(Contender, Algorithm)> = Vec::new();
    for scenario in wanted.iter() {
        let (who, algorithm) = (scenario.contender, scenario.algorithm);
        if absent.contains(&(who, algorithm)) {
            continue;
        }
        if !who.is_installed() {
            println!("skipped {who}: not installed");
            absent.push((who, algorithm));
            continue;
        }
        if let Some(version) = who.version()
            && !versions.contains(&version)
        {
            println!("found   {version}");
            versions.push(version);
        }
        if contenders.get(who, algorithm).is_some() || who == Contender::Direct {
            continue;
        }
        match ground.admit(contenders, who, algorithm) {
            Ok(()) if who.checks_tokens() => println!(
                "proved  {who} {algorithm:?}: good token 200 and right Basic upstream; no, forged or \
                 expired token 401"
            ),
            Ok(()) => println!(
                "proved  {who}: right Basic upstream; it has no token check of its own, so every \
                 token passes"
            ),
            Err(error) if matches!(who, Contender::Gate(_)) => return Err(error),
            Err(error) => {
                println!("skipped {error:#}");
                absent.push((who, algorithm));
            }
        }
    }
    wanted.retain(|one| !absent.contains(&(one.contender, one.algorithm)));
    Ok(versions)
}

fn time_of_others(ground: &Ground, contenders: &Contenders<'_>) -> anyhow::Result<Duration> {
    let mut others = machine::time_used()?.saturating_sub(process::own_cpu()?);
    for process in contenders.processes().chain([&ground.upstream.process]) {
        // One that has died was told of already.
        others = others.saturating_sub(process.cpu().unwrap_or_default());
    }
    Ok(others)
}
