//! The compare bench: what does the gate cost?
//!
//! `cargo bench --bench compare` measures the gate against a direct connection and, where they are
//! installed, against nginx and HAProxy as plain proxies. `benches/README.md` tells how to read it.
//!
//! Three processes, so that CPU time has an owner: the upstream (this binary started again with
//! `--upstream`), the proxy under test, and the load generator (this one).
//!
//! - `options`: the command line; without `--bench` only the proof runs
//! - `machine`: what machine this is, which process runs on which core
//! - `process`: a child that does not outlive us, its CPU time and memory
//! - `upstream`, `gate`, `yardstick`: the processes
//! - `tokens`: tokens good and bad
//! - `wire`: one exchange on a raw HTTP/1.1 connection
//! - `closed`, `open`: the two kinds of load
//! - `storm`: logins beside it
//! - `scenario`: what is measured, and how once
//! - `proof`: the gate really does its work
//! - `report`: the tables and `compare.json`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool that talks to a person"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads the real clock, sleeps and reads /proc"
)]

mod closed;
mod gate;
mod histogram;
mod machine;
mod open;
mod options;
mod process;
mod proof;
mod report;
mod scenario;
mod storm;
mod tokens;
mod upstream;
mod wire;
mod yardstick;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::Context;

use machine::Machine;
use options::{Options, Task};
use scenario::Bench;

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

/// What CI runs: the proof, which is a handful of requests.
fn smoke() -> anyhow::Result<()> {
    let folder = WorkFolder::create()?;
    let bench = Bench::start(&Options::default(), &Machine::unpinned(), &folder.path)?;
    proof::prove(&bench)?;
    println!("compare: the gate does its work; `cargo bench --bench compare` measures it");
    Ok(())
}

fn load(options: &Options) -> anyhow::Result<()> {
    let machine = Machine::survey()?;
    println!("{machine}");
    let folder = WorkFolder::create()?;
    let mut bench = Bench::start(options, &machine, &folder.path)?;
    bench.add_yardsticks(&machine, &folder.path);
    proof::prove(&bench)?;
    println!("proved  good token 200 with Basic upstream; no, forged and expired token 401");

    let results = bench.measure()?;
    report::print(&results);
    let file = target_folder().join("bench").join("compare.json");
    report::write(&file, &machine, options, &results)?;
    println!("\nwritten to {}", file.display());
    Ok(())
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
