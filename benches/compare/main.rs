//! The compare bench: what does the gate cost?
//!
//! `cargo bench --bench compare` measures the gate against what users would take instead, on work
//! that is really the same. `benches/README.md` tells how to read it.
//!
//! Processes, so that CPU time has an owner: the upstream (this binary started again with
//! `--upstream`), the contenders, of which one at a time has work, and the load generator (this one).
//!
//! - `options`: the command line; without `--bench` only the proof runs
//! - `machine`: what machine this is, which process runs on which core
//! - `process`: a child that does not outlive us, its CPU time and memory
//! - `contender/`: the gate and its peers, a file each; `keys` and `trust`, what they are given
//! - `upstream`: what stands behind them
//! - `tokens`: tokens good and bad
//! - `wire`: one exchange on a raw HTTP/1.1 connection
//! - `closed` and `h2`, `open`: the two kinds of load; `requests`, what they send; `storm`, logins
//!   beside it
//! - `handshakes`, `idle`: connections without load
//! - `scenario`: what is measured; `run`, how once; `bench`, in which order
//! - `proof`: a contender really does its work
//! - `metric`, `goal`, `report`, `plot` and `svg`: numbers, the bars, tables and `compare.json`,
//!   figures
//! - `histogram`: latencies

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool that talks to a person"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads the real clock, sleeps and reads /proc"
)]

mod bench;
mod closed;
mod contender;
mod goal;
mod h2;
mod handshakes;
mod histogram;
mod idle;
mod keys;
mod machine;
mod metric;
mod open;
mod options;
mod plot;
mod process;
mod proof;
mod report;
mod requests;
mod run;
mod scenario;
mod storm;
mod svg;
mod tokens;
mod trust;
mod upstream;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{fs, io};

use anyhow::Context;
use jsonwebtoken::Algorithm;

use bench::Ground;
use contender::Contender;
use machine::Machine;
use options::{Options, Task};

fn main() -> ExitCode {
    let outcome = match Task::from_args() {
        Task::List => {
            println!("compare: test");
            Ok(())
        }
        Task::Load(options) => load(&options),
        Task::Smoke => smoke(),
        Task::Upstream => upstream::serve(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What CI runs: the gate's proof, which is a handful of requests for each algorithm.
fn smoke() -> anyhow::Result<()> {
    let folder = WorkFolder::create()?;
    let (options, machine) = (Options::default(), Machine::unpinned());
    let ground = Ground::prepare(&folder.path)?;
    let mut contenders = ground.contenders(&options, &machine, &folder.path);
    for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256] {
        ground.admit(&mut contenders, Contender::USUAL, algorithm)?;
    }
    goal::check(&scenario::all(usize::MAX))?;
    println!("compare: the gate does its work; `cargo bench --bench compare` measures it");
    Ok(())
}

fn load(options: &Options) -> anyhow::Result<()> {
    if options.scenarios {
        for scenario in bench::asked_for(options, &Machine::unpinned()) {
            println!("{}", scenario.name());
        }
        return Ok(());
    }
    install(options);
    let machine = Machine::survey()?;
    println!("{machine}");
    let folder = WorkFolder::create()?;
    let results = bench::measure(options, &machine, &folder.path)?;
    report::print(&results, !options.only.is_empty());
    let file = target_folder().join("bench").join("compare.json");
    report::write(&file, &machine, options, &results)?;
    let plots = file.parent().map(|folder| plot::write(folder, &results));
    let plots = plots.transpose()?.unwrap_or_default();
    println!(
        "\nwritten to {}, and {plots} plots beside it",
        file.display()
    );
    let mut of_the_gate = results
        .measured
        .iter()
        .filter(|one| matches!(one.scenario.contender, Contender::Gate(_)));
    anyhow::ensure!(
        of_the_gate.all(|one| one.failure.is_none()),
        "a scenario of the gate failed"
    );
    Ok(())
}

/// Peers that cannot be had are skipped later, with a line that says so.
fn install(options: &Options) {
    if options.no_install {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/install.sh");
    let outcome = Command::new("bash")
        .arg(script)
        .env("CARGO_TARGET_DIR", target_folder())
        .stdin(Stdio::null())
        .status();
    match outcome {
        Ok(status) if status.success() => {}
        Ok(status) => println!("peers   not all could be installed: {status}"),
        Err(error) => println!("peers   cannot be installed: {error}"),
    }
}

fn target_folder() -> &'static Path {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary)
}

/// A folder for configs, keys and logs, removed at the end unless something failed to start.
struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    fn create() -> anyhow::Result<Self> {
        let name = format!("compare-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("compare: cannot remove {}: {error}", self.path.display());
        }
    }
}
