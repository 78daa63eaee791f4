//! What a running gate shows of itself.

use serde_json::Value;

use super::gate::Gate;
use super::wait_for;

impl Gate {
    /// Waits until a sample of the metrics has this value.
    pub(crate) fn wait_for_metric(&self, sample: &str, expected: f64) {
        wait_for(&format!("{sample} {expected}"), || {
            (self.metric(sample) == expected).then_some(())
        });
    }

    /// Waits for the access log's line of the exchange with this path.
    pub(crate) fn exchange(&self, path: &str) -> Value {
        self.wait_for_log(path, |line| {
            line["message"] == "exchange" && line["url.path"] == path
        })
    }

    /// The access log's lines so far.
    pub(crate) fn exchanges(&self) -> Vec<Value> {
        let log = self.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["message"] == "exchange")
            .collect()
    }
}

/// The memory that is the gate's own, in bytes; what is mapped from files is left out.
#[cfg(target_os = "linux")]
pub(crate) fn own_memory(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}
