//! How many requests may be with an upstream, and how many wait for their turn?

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// One worker's share of the turns at an upstream.
#[derive(Debug)]
pub(super) struct Breaker {
    turns: Arc<Semaphore>,
    most: usize,
    /// The most that wait.
    pending: usize,
    waiting: Cell<usize>,
}

/// Why there is no turn.
#[derive(Debug, thiserror::Error)]
pub(super) enum Busy {
    #[error("more requests than `pending` wait for a connection")]
    Full,
    #[error("no connection became free within connect_timeout")]
    Late,
}

impl Breaker {
    pub(super) fn new(most: usize, pending: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            turns: Arc::new(Semaphore::new(most)),
            most,
            pending,
            waiting: Cell::new(0),
        }
    }

    /// A turn that is free at once. Those who wait come first.
    pub(super) fn try_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).try_acquire_owned().ok()
    }

    /// A turn, waited for in a queue.
    pub(super) async fn turn(&self, limit: Duration) -> Result<OwnedSemaphorePermit, Busy> {
        if let Some(turn) = self.try_turn() {
            return Ok(turn);
        }
        if self.waiting.get() >= self.pending {
            return Err(Busy::Full);
        }
        let _place = Place::take(&self.waiting);
        let turn = timeout(limit, Arc::clone(&self.turns).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(Busy::Late)
    }

    /// How many turns are taken.
    pub(super) fn taken(&self) -> usize {
        self.most.saturating_sub(self.turns.available_permits())
    }
}

/// A place in the queue, also when whoever waits is dropped.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
