//! The open loop: requests are due at a fixed rate, whether or not the last ones were answered.
//!
//! Tells what a request waits. A latency counts from the moment at which the request was due, so
//! a stall is charged to every request that it delays (no coordinated omission).

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::run::Sample;
use crate::wire::{Connection, Target};

/// Open connections, one thread each: threads sleep more precisely than a runtime's timer wheel.
pub(crate) struct OpenLoop {
    connections: Vec<Connection>,
}

impl OpenLoop {
    pub(crate) fn connect(target: &Target) -> anyhow::Result<Self> {
        let connections = (0..CONNECTIONS)
            .map(|_| target.connect())
            .collect::<Result<_, _>>()?;
        Ok(Self { connections })
    }

    /// Sends `request` `rate` times a second.
    pub(crate) fn run(
        &mut self,
        request: &[u8],
        rate: u32,
        length: Duration,
    ) -> anyhow::Result<Sample> {
        let start = Instant::now() + LEAD;
        let load = Load {
            request,
            next: AtomicU32::new(0),
            start,
            interval: Duration::from_secs(1) / rate.max(1),
            length,
            latency: Histogram::new(),
        };
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .connections
                .iter_mut()
                .map(|connection| scope.spawn(|| load.drive(connection)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
        })?;
        Ok(Sample::new(start.elapsed(), load.latency))
    }
}

struct Load<'a> {
    request: &'a [u8],
    next: AtomicU32,
    start: Instant,
    interval: Duration,
    length: Duration,
    latency: Histogram,
}

impl Load<'_> {
    fn drive(&self, connection: &mut Connection) -> anyhow::Result<()> {
        loop {
            let offset = self.interval * self.next.fetch_add(1, Ordering::Relaxed);
            if offset >= self.length {
                return Ok(());
            }
            let due = self.start + offset;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let response = connection.exchange(self.request)?;
            anyhow::ensure!(
                response.status == "200",
                "answered {} under load",
                response.status
            );
            self.latency.record(due.elapsed());
        }
    }
}

/// Enough for 5,000 requests a second through a proxy that stalls for 6 ms.
const CONNECTIONS: usize = 32;

/// Until every thread sleeps.
const LEAD: Duration = Duration::from_millis(20);
