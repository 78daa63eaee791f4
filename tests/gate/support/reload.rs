//! A running gate is given another config.

use super::gate::Gate;
use super::wait_for;

/// What a gate made of a new config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in force.
    Taken,
    /// The old one goes on.
    Refused,
}

/// Writes a new config, sends SIGHUP and waits until the gate has judged it.
pub(crate) fn reload_with(gate: &Gate, config: &str) -> Verdict {
    gate.folder().write("tollgate.yaml", config);
    reload(gate)
}

/// Sends SIGHUP and waits until the gate has judged the config and its files.
pub(crate) fn reload(gate: &Gate) -> Verdict {
    let before = verdicts(gate).len();
    gate.signal("HUP");
    wait_for_verdict(gate, before)
}

/// Waits for a verdict after so many others.
pub(crate) fn wait_for_verdict(gate: &Gate, before: usize) -> Verdict {
    wait_for("a verdict on the new config", || {
        verdicts(gate).get(before).copied()
    })
}

/// Every verdict so far.
pub(crate) fn verdicts(gate: &Gate) -> Vec<Verdict> {
    let log = gate.log();
    let judged = log.lines().filter_map(|line| {
        if line.contains("the config was read again") {
            Some(Verdict::Taken)
        } else if line.contains("the new config was refused") {
            Some(Verdict::Refused)
        } else {
            None
        }
    });
    judged.collect()
}
