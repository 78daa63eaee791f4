//! How does the gate stop? Say that it leaves, stop accepting, tell the connections, wait, give up.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::watch;
use tokio::time::timeout;

/// Starts the drain. Dropped without a call, it starts it too.
#[derive(Debug)]
pub struct Stop(watch::Sender<Phase>);

/// How far the gate is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// It still accepts, but nothing new should be sent to it.
    Leaving,
    Draining,
}

/// Learns of the drain.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Receiver<Phase>,
    grace: Duration,
}

/// A pair of ends: one tells, its clones are told.
#[must_use]
pub fn channel(grace: Duration) -> (Stop, Drain) {
    let (sender, phase) = watch::channel(Phase::Serving);
    (Stop(sender), Drain { phase, grace })
}

impl Stop {
    /// The gate is about to drain: it is ready no more.
    pub fn announce(&self) {
        let _ = self.0.send(Phase::Leaving);
    }

    /// The drain begins.
    pub fn begin(&self) {
        let _ = self.0.send(Phase::Draining);
    }
}

impl Drain {
    /// Whether the gate goes down, or is about to.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        *self.phase.borrow() >= Phase::Leaving
    }

    /// Ends when the drain begins.
    pub async fn begun(&mut self) {
        let begun = |phase: &Phase| *phase >= Phase::Draining;
        let _ = self.phase.wait_for(begun).await;
    }

    /// Waits for `done`, but no longer than the grace period.
    pub async fn give_up_after<T>(&self, done: impl Future<Output = T>) {
        if timeout(self.grace, done).await.is_err() {
            tracing::warn!("connections were still open when the grace period ended");
        }
    }
}

/// One worker's own end, for its connections: asking it takes no lock and touches nothing that
/// another core writes.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerDrain(Rc<State>);

#[derive(Debug, Default)]
struct State {
    begun: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl WorkerDrain {
    /// The drain begins: everybody who waits is woken.
    pub(super) fn begin(&self) {
        self.0.begun.set(true);
        let waiting = self.0.waiting.take();
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Whether the drain has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.0.begun.get()
    }

    /// Ends when the drain begins.
    pub(super) fn begun(&self) -> Begun {
        Begun {
            state: Rc::clone(&self.0),
            place: None,
        }
    }
}

/// Ends when the drain begins.
#[derive(Debug)]
pub(super) struct Begun {
    state: Rc<State>,
    place: Option<usize>,
}

impl Future for Begun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.state.begun.get() {
            return Poll::Ready(());
        }
        let waker = context.waker();
        let mut waiting = self.state.waiting.borrow_mut();
        match self.place.and_then(|place| waiting.get_mut(place)) {
            Some(held) => held.clone_from(waker),
            None => {
                let place = waiting.insert(waker.clone());
                drop(waiting);
                self.place = Some(place);
            }
        }
        Poll::Pending
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.state.waiting.borrow_mut().try_remove(place);
        }
    }
}
