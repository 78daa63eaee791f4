//! Who is still using a connection? Whatever holds its guard: the connection itself, each of its
//! exchanges, a tunnel that grew out of it.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::handles::Open;

/// Keeps a connection counted, and its permit taken, as long as anything holds it.
#[derive(Clone, Debug)]
pub struct ConnectionGuard(Rc<State>);

#[derive(Debug)]
struct State {
    requests: Cell<u64>,
    _open: Open,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionGuard {
    /// A connection begins.
    pub(super) fn new(open: Open, permit: OwnedSemaphorePermit) -> Self {
        Self(Rc::new(State {
            requests: Cell::new(0),
            _open: open,
            _permit: permit,
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

    /// Whether no exchange is under way; `holders` are the connection's own.
    pub(super) fn is_idle(&self, holders: usize) -> bool {
        Rc::strong_count(&self.0) <= holders
    }
}
