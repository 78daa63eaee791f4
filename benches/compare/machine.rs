//! What machine is this, and which process runs on which core?

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::process;

/// The facts without which a number means nothing.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    /// How many cores others kept busy just before the start.
    pub(crate) others: f64,
    pub(crate) pinning: Pinning,
}

/// Where the processes run.
pub(crate) enum Pinning {
    /// The proxy under test has a core of its own; the upstream and the load share the other.
    Pinned {
        proxy: u32,
        others: u32,
        /// What a proxy with several workers gets: all but that of the others, if there are more
        /// than two.
        many: Vec<u32>,
    },
    Unpinned(String),
}

/// Which cores a proxy gets.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// One.
    Own,
    /// As many as there are for it.
    All,
}

impl Machine {
    /// Looks at the machine and pins this process, so that every child but the proxy inherits it.
    pub(crate) fn survey() -> anyhow::Result<Self> {
        let mut machine = Self::unpinned();
        let before = time_used()?;
        thread::sleep(A_WHILE);
        machine.others = (time_used()? - before).div_duration_f64(A_WHILE);
        machine.pinning = pin().unwrap_or_else(|error| Pinning::Unpinned(format!("{error:#}")));
        quicken_timers();
        raise_file_limit();
        Ok(machine)
    }

    /// The same, untouched and without a look at its load.
    pub(crate) fn unpinned() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name"),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory: value(&read("/proc/meminfo"), "MemTotal"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            others: 0.0,
            pinning: Pinning::Unpinned("not asked for".to_owned()),
        }
    }

    /// A command for a proxy under test.
    pub(crate) fn proxy_command(&self, program: impl AsRef<OsStr>, place: Place) -> Command {
        let Pinning::Pinned { proxy, many, .. } = &self.pinning else {
            return Command::new(program);
        };
        let cores = match place {
            Place::Own => proxy.to_string(),
            Place::All => many
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(","),
        };
        let mut command = Command::new("taskset");
        command.arg("-c").arg(cores).arg(program);
        command
    }

    /// How many workers have a core each.
    pub(crate) fn most_workers(&self) -> usize {
        match &self.pinning {
            Pinning::Pinned { many, .. } => many.len(),
            Pinning::Unpinned(_) => self.cores,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "machine {}, {} cores, {}",
            self.cpu, self.cores, self.memory
        )?;
        writeln!(f, "kernel  {}", self.kernel)?;
        writeln!(f, "before  {}", Others(self.others))?;
        match &self.pinning {
            Pinning::Pinned { proxy, others, .. } => {
                write!(
                    f,
                    "pinned  proxy on core {proxy}, upstream and load on core {others}"
                )
            }
            Pinning::Unpinned(reason) => write!(f, "pinned  nothing: {reason}"),
        }
    }
}

/// How many cores other processes keep busy, with a warning where that spoils the numbers.
pub(crate) struct Others(pub(crate) f64);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} cores busy with other processes", self.0)?;
        if self.0 > 0.1 {
            f.write_str(": these numbers are spoilt")?;
        }
        Ok(())
    }
}

fn pin() -> anyhow::Result<Pinning> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let cores = core_list(&value(&status, "Cpus_allowed_list"));
    let &[proxy, others, ..] = cores.as_slice() else {
        anyhow::bail!("only one core");
    };
    let taskset = Command::new("taskset")
        .args([
            "-a",
            "-c",
            "-p",
            &others.to_string(),
            &std::process::id().to_string(),
        ])
        .stdout(Stdio::null())
        .status()
        .context("cannot run taskset")?;
    anyhow::ensure!(taskset.success(), "taskset failed");
    let mut many = cores;
    if many.len() > 2 {
        many.retain(|core| *core != others);
    }
    Ok(Pinning::Pinned {
        proxy,
        others,
        many,
    })
}

/// CPU time that all processes of the machine have used, and what the hypervisor has stolen.
pub(crate) fn time_used() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let fields = stat.split_ascii_whitespace().skip(1);
    let ticks: Vec<u64> = fields.map_while(|ticks| ticks.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let used = ticks.iter().take(3).chain(ticks.get(7)).sum();
    Ok(process::ticks(used))
}

/// The open loop sleeps until each request's moment; the default slack of 50 us would be most of
/// what it measures. Threads inherit it. Where it cannot be set, all scenarios suffer alike.
fn quicken_timers() {
    let _ = fs::write(format!("/proc/{}/timerslack_ns", std::process::id()), "1");
}

/// Two thousand idle connections are more than many a shell allows; children inherit it.
#[cfg(target_os = "linux")]
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If not, the scenario says what it lacks.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(not(target_os = "linux"))]
fn raise_file_limit() {}

/// `0-2,5` is 0, 1, 2, 5.
fn core_list(list: &str) -> Vec<u32> {
    list.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        })
        .flatten()
        .collect()
}

/// The first `key: value` of a file such as /proc/cpuinfo.
pub(crate) fn value(text: &str, key: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == key)
        .map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
}

const A_WHILE: Duration = Duration::from_millis(500);
