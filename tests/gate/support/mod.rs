//! What tests stand on: the real binary as a process, a recording upstream, plain clients.

pub(crate) mod answer;
pub(crate) mod chaos;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod dns;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod held;
pub(crate) mod http2;
pub(crate) mod http2_upstream;
pub(crate) mod issuer;
pub(crate) mod jar;
pub(crate) mod mqtt;
pub(crate) mod observe;
pub(crate) mod raw;
pub(crate) mod recorder;
pub(crate) mod reload;
pub(crate) mod secrets;
pub(crate) mod threat;
pub(crate) mod tokens;
pub(crate) mod upstream;

use std::time::{Duration, Instant};

/// Waits until `probe` gives a value; fails with `what` after 20 seconds.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Seconds since the epoch.
pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The rows of a table in text: cells between `|`, trimmed; empty lines do not count.
pub(crate) fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| line.split('|').map(str::trim).collect())
}
