//! A child process that does not outlive the bench, its CPU time and its memory.

use std::fs;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::machine;

/// A running child; killed on drop.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: mpsc::Receiver<String>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) resident_kib: u64,
}

impl Process {
    /// Starts `command` with its stderr in a file of `folder`, and without our stdin: a child that
    /// waits for the end of its stdin sees it when we die.
    pub(crate) fn start(name: &str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let stderr =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| {
                format!("cannot start {name} ({})", command.get_program().display())
            })?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // Reads on after the last line that matters, so that the child never blocks or breaks.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            lines,
        })
    }

    /// The next line that the child prints.
    pub(crate) fn line(&self) -> anyhow::Result<String> {
        self.lines
            .recv_timeout(PATIENCE)
            .with_context(|| self.complaint("said nothing"))
    }

    /// What is wrong, with the last words of the child.
    pub(crate) fn complaint(&self, what: &str) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or("nothing on stderr");
        format!("{} {what}: {last}", self.name)
    }

    /// User and system time of all threads so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(&self.child.id().to_string()).with_context(|| self.complaint("is gone"))
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .with_context(|| self.complaint("is gone"))?;
        let kib = |key| {
            machine::value(&status, key)
                .trim_end_matches(" kB")
                .parse()
                .unwrap_or(0)
        };
        Ok(Memory {
            resident_kib: kib("VmRSS"),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either it is gone already, or killing it cannot fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time of this process, threads that have ended included.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    coarse_cpu("self")
}

/// The CPU time of a process by its name in /proc: of its threads to the nanosecond, where the
/// kernel tells, else to the tick.
fn cpu(pid: &str) -> anyhow::Result<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let exact = threads
        .map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        })
        .sum::<Option<u64>>();
    exact.map_or_else(
        || coarse_cpu(pid),
        |nanoseconds| Ok(Duration::from_nanos(nanoseconds)),
    )
}

fn coarse_cpu(pid: &str) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may hold spaces; the numbers begin after its bracket, with field 3.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let used = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(ticks(used))
}

/// The unit of /proc: USER_HZ, 100 on every Linux that Rust runs on.
pub(crate) fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

/// Generous, because CI starts an unoptimised gate on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
