//! Which signals does a gate heed? SIGTERM and SIGINT end it, SIGHUP has its config read again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a gate heeds, caught from now on.
#[derive(Debug)]
pub struct Signals {
    pub(super) stop: StopSignals,
    pub(super) hang_up: Signal,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them; before, they would end the process at once.
    ///
    /// # Errors
    /// The operating system's.
    pub fn catch() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let stop = StopSignals {
            interrupt,
            terminate,
        };
        Ok(Self {
            stop,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

impl StopSignals {
    /// Ends with the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
