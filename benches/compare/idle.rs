//! What does a connection cost that asks for nothing?

use crate::process::Process;
use crate::wire::{Connection, Target};

/// By how many bytes the process grows with each of `count` connections that were asked once and
/// then kept. To be asked of a process that has not served many before: memory that connections
/// leave behind is used again, and no growth is seen.
pub(crate) fn growth(
    process: &Process,
    target: &Target,
    request: &[u8],
    count: usize,
) -> anyhow::Result<f64> {
    // What the first ones bring about and all others share.
    open(target, request, WARM_UP)?;
    let before = process.memory()?.resident_kib;
    let _kept = open(target, request, count)?;
    let after = process.memory()?.resident_kib;
    Ok(after.saturating_sub(before) as f64 * 1024.0 / count.max(1) as f64)
}

fn open(target: &Target, request: &[u8], count: usize) -> anyhow::Result<Vec<Connection>> {
    (0..count)
        .map(|_| {
            let mut connection = target.connect()?;
            let status = connection.exchange(request)?.status;
            anyhow::ensure!(status == "200", "answered {status} on a new connection");
            Ok(connection)
        })
        .collect()
}

const WARM_UP: usize = 8;
