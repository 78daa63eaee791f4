//! How does the gate stop? Stop accepting, tell the connections, wait, give up.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Starts the drain. Dropped without a call, it starts it too.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Learns of the drain.
#[derive(Clone, Debug)]
pub struct Drain {
    signal: watch::Receiver<bool>,
    grace: Duration,
}

/// A pair of ends: one tells, its many clones are told.
#[must_use]
pub fn channel(grace: Duration) -> (Stop, Drain) {
    let (sender, signal) = watch::channel(false);
    (Stop(sender), Drain { signal, grace })
}

impl Stop {
    /// The drain begins.
    pub fn begin(&self) {
        let _ = self.0.send(true);
    }
}

impl Drain {
    /// Whether the drain has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.signal.borrow()
    }

    /// Ends when the drain begins.
    pub async fn begun(&mut self) {
        let _ = self.signal.wait_for(|begun| *begun).await;
    }

    /// Waits for `done`, but no longer than the grace period.
    pub async fn give_up_after<T>(&self, done: impl Future<Output = T>) {
        if timeout(self.grace, done).await.is_err() {
            tracing::warn!("connections were still open when the grace period ended");
        }
    }
}
