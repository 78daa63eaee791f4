//! Does the gate rest? It is given something to do only while it does.
//!
//! Under callgrind the gate is fifty times slower than those that it talks to. Whether an answer
//! comes before it waits for it, or after, would depend on the machine's load, and costs other
//! instructions. If it always waits, an exchange is always the same.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

/// The gate's process, once it is known.
#[derive(Clone, Default)]
pub(crate) struct Quiet(Arc<AtomicU32>);

impl Quiet {
    pub(crate) fn watch(&self, process: u32) {
        self.0.store(process, Ordering::Release);
    }

    /// Waits until each of the gate's threads waits for something.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        let process = self.0.load(Ordering::Acquire);
        let start = Instant::now();
        while !rests(process).context("the gate is gone")? {
            anyhow::ensure!(start.elapsed() < PATIENCE, "the gate does not come to rest");
            thread::yield_now();
        }
        Ok(())
    }
}

fn rests(process: u32) -> anyhow::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        // The state follows the program's name, which is in parentheses.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        if !state.is_some_and(|state| state.starts_with('S')) {
            return Ok(false);
        }
    }
    Ok(true)
}

const PATIENCE: Duration = Duration::from_secs(60);
