//! Who is still using a connection? Whatever holds its guard: the connection itself, each of its
//! exchanges, a tunnel that grew out of it.

use std::cell::Cell;
use std::rc::Rc;

use super::shed::Held;
use crate::telemetry::handles::Open;

/// Keeps a connection counted, and its place taken, as long as anything holds it.
#[derive(Clone, Debug)]
pub struct ConnectionGuard(Rc<State>);

#[derive(Debug)]
struct State {
    requests: Cell<u64>,
    _open: Open,
    _held: Held,
    /// How many bodies wait for the client.
    waiting: Cell<u32>,
    /// How often a body got on.
    taken: Cell<u64>,
}

impl ConnectionGuard {
    /// A connection begins.
    pub(super) fn new(open: Open, held: Held) -> Self {
        Self(Rc::new(State {
            requests: Cell::new(0),
            _open: open,
            _held: held,
            waiting: Cell::new(0),
            taken: Cell::new(0),
        }))
    }

    /// A request arrived; its exchange holds what this gives.
    pub(super) fn request(&self) -> Self {
        self.0.requests.set(self.0.requests.get().wrapping_add(1));
        self.clone()
    }

    /// How many requests arrived so far.
    pub(super) fn requests(&self) -> u64 {
        self.0.requests.get()
    }

    /// A body gave what the client has to take before it is asked for more.
    pub(crate) fn gave(&self) {
        self.0.waiting.set(self.0.waiting.get().saturating_add(1));
    }

    /// The client took it, or the body has ended.
    pub(crate) fn was_taken(&self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
        self.0.taken.set(self.0.taken.get().wrapping_add(1));
    }

    /// How often the client took something, if some body waits for it to take more.
    pub(super) fn waits_since(&self) -> Option<u64> {
        (self.0.waiting.get() > 0).then_some(self.0.taken.get())
    }

    /// Whether no exchange is under way; `holders` are the connection's own.
    pub(super) fn is_idle(&self, holders: usize) -> bool {
        Rc::strong_count(&self.0) <= holders
    }
}
