//! What is asked of this run?

use std::env;
use std::path::PathBuf;

use clap::Parser;

/// What the command line asks for.
pub(crate) enum Task {
    List,
    Load(Options),
    Smoke,
    Upstream,
}

/// Measures the gate and its peers on this machine, over loopback.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench compare --", no_binary_name = true)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are flags of a command line"
)]
pub(crate) struct Options {
    /// Measuring time in total, in seconds, shared by all scenarios; warming up comes on top
    #[arg(long, default_value_t = 240.0)]
    pub(crate) seconds: f64,
    /// Keep-alive connections of the closed loop
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Rounds; every scenario is measured once in each, and medians are quoted
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Requests per second of the open loop
    #[arg(long, default_value_t = 5_000)]
    pub(crate) rate: u32,
    /// Only the scenarios whose name contains this, as `--only "h2:"` or `--only Tollgate`
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) only: String,
    /// More contenders in every table than the goals need
    #[arg(long)]
    pub(crate) full: bool,
    /// Take the peers that are there, and install none
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Print the names of the scenarios, and no more
    #[arg(long)]
    pub(crate) scenarios: bool,
    /// Another build of the gate
    #[arg(long, default_value = env!("CARGO_BIN_EXE_tollgate"), hide_default_value = true)]
    pub(crate) gate: PathBuf,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Task {
    /// `cargo bench` passes `--bench`; `cargo test --benches` and nextest do not, and must not load
    /// the machine. Their own flags are then none of our business.
    pub(crate) fn from_args() -> Self {
        let args: Vec<String> = env::args().skip(1).collect();
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        if has(UPSTREAM_FLAG) {
            Self::Upstream
        } else if has("--list") {
            Self::List
        } else if has("--test") || !(has("--bench") || has("--help")) {
            Self::Smoke
        } else {
            Self::Load(Options::parse_from(args))
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::parse_from([""; 0])
    }
}

pub(crate) const UPSTREAM_FLAG: &str = "--upstream";
