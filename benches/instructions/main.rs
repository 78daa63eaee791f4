//! How many instructions does a cached request cost, and is that still what was recorded?
//!
//! `cargo bench --bench instructions` runs the gate under callgrind and compares what it counts
//! with `benches/instructions.json`. `benches/README.md` tells what the numbers mean.
//!
//! - `gate`: the gate under callgrind, and what it executed since it was last asked
//! - `profile`: what one of callgrind's files says
//! - `traffic`: the scenarios, and a client for each
//! - `tokens`, `upstream`: what they need
//! - `quiet`: whether the gate waits
//! - `record`: what was counted before

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool that talks to a person"
)]
#![expect(clippy::disallowed_methods, reason = "a bench reads its own files")]

mod gate;
mod profile;
mod quiet;
mod record;
mod tokens;
mod traffic;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::Context;
use clap::Parser;

use gate::Gate;
use profile::Profile;
use record::{Record, Verdict};
use traffic::{SCENARIOS, Scenario};

/// Counts the gate's instructions per request and compares them with the record
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench instructions --", no_binary_name = true)]
struct Options {
    /// Writes the record anew instead of comparing with it
    #[arg(long)]
    record: bool,
    /// Another build of the gate, instead of building it with the profile `guard`
    #[arg(long)]
    gate: Option<PathBuf>,
    /// Keeps callgrind's files of the last window of each scenario in this folder
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let outcome = if has("--list") {
        println!("instructions: test");
        Ok(true)
    } else if has("--bench") || has("--help") {
        count(&Options::parse_from(&args))
    } else {
        smoke()
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What `cargo test --benches` runs: is the record whole?
fn smoke() -> anyhow::Result<bool> {
    Record::read()?.is_whole(&SCENARIOS.map(Scenario::name))?;
    println!("instructions: recorded; `cargo bench --bench instructions` counts them");
    Ok(true)
}

fn count(options: &Options) -> anyhow::Result<bool> {
    if let Some(why) = record::impossible() {
        println!("NOTHING WAS COUNTED AND NOTHING IS GUARDED: {why}");
        return Ok(!options.record);
    }
    let program = match &options.gate {
        Some(gate) => gate.clone(),
        None => build()?,
    };
    let folder = Folder::create()?;
    let gate = Gate::start(&program, &folder.0)?;
    let mut counted = Record::empty()?;
    for scenario in SCENARIOS {
        let name = scenario.name();
        let profile = measure(&gate, scenario, options.keep.as_deref());
        counted.add(name, profile.with_context(|| name.to_owned())?);
    }
    if options.record {
        counted.write()?;
        println!("recorded in {}", record::FILE);
        return Ok(true);
    }
    compare(&counted)
}

/// The middle one of several windows, so that what happens now and then in the gate, such as a
/// sweep, does not count.
fn measure(gate: &Gate, scenario: Scenario, keep: Option<&Path>) -> anyhow::Result<Profile> {
    let mut client = scenario.connect(gate)?;
    for _ in 0..WARM_UP {
        client.exchange()?;
    }
    gate.executed(None)?;
    let mut windows = Vec::with_capacity(WINDOWS);
    for window in 1..=WINDOWS {
        for _ in 0..REQUESTS {
            client.exchange()?;
        }
        let keep = keep.filter(|_| window == WINDOWS);
        let keep = keep.map(|folder| folder.join(format!("{}.callgrind", scenario.name())));
        windows.push(gate.executed(keep.as_deref())?.per(REQUESTS));
    }
    windows.sort_by(|one, other| one.cost.instructions.total_cmp(&other.cost.instructions));
    let [first, .., last] = windows.as_slice() else {
        anyhow::bail!("no window");
    };
    let middle = windows.get(WINDOWS / 2).unwrap_or(last);
    let spread = (last.cost.instructions / first.cost.instructions - 1.0) * 100.0;
    println!(
        "{:<8} {:>7.0} instructions {:>6.2} allocations; windows within {spread:.2} %",
        scenario.name(),
        middle.cost.instructions,
        middle.cost.allocations,
    );
    Ok(middle.clone())
}

fn compare(counted: &Record) -> anyhow::Result<bool> {
    let record = Record::read()?;
    println!("\nagainst {}", record::FILE);
    let mut is_well = true;
    for scenario in SCENARIOS {
        for (verdict, what) in record.judge(scenario.name(), counted)? {
            println!("{:<8} {what}", scenario.name());
            is_well &= verdict != Verdict::Worse;
        }
    }
    let changes = record.changes(counted);
    for change in &changes {
        println!("{change}");
    }
    if !is_well {
        println!("\nA request has become dearer. {}", record::ADVICE);
        if !changes.is_empty() {
            println!("{}", record::ADVICE_ELSEWHERE);
        }
    }
    Ok(is_well)
}

/// Builds the gate with the profile `guard`, as deploy/build-static.sh does, so that the image is made
/// of the very program that is counted; gives its path.
fn build() -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "rustc",
            "--locked",
            "--profile",
            "guard",
            "--bin",
            "tollgate",
        ])
        .arg("--target-dir")
        .arg(target_folder())
        .args(["--", "-C", "target-feature=+crt-static"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot start cargo")?;
    anyhow::ensure!(status.success(), "the gate could not be built");
    Ok(target_folder().join("guard").join("tollgate"))
}

fn target_folder() -> &'static Path {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary)
}

/// A folder for config, keys and callgrind's files; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn create() -> anyhow::Result<Self> {
        let name = format!("instructions-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const WARM_UP: u32 = 200;
const WINDOWS: usize = 5;
const REQUESTS: u32 = 500;
