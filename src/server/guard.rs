//! Who is still using a connection? Whatever holds its guard: the connection itself, each of its
//! exchanges, a tunnel that grew out of it.

use std::cell::Cell;
use std::rc::Rc;

use super::drain::WorkerDrain;
use super::shed::Held;
use super::streams::Streams;
use crate::pace::Rate;
use crate::telemetry::handles::Open;

/// Keeps a connection counted, and its place taken, as long as anything holds it.
#[derive(Clone, Debug)]
pub(super) struct ConnectionGuard(Rc<State>);

#[derive(Debug)]
struct State {
    requests: Cell<u64>,
    _open: Open,
    _held: Held,
    drain: WorkerDrain,
}

impl ConnectionGuard {
    /// A connection begins.
    pub(super) fn new(open: Open, held: Held, drain: WorkerDrain) -> Self {
        Self(Rc::new(State {
            requests: Cell::new(0),
            _open: open,
            _held: held,
            drain,
        }))
    }

    /// A request arrived; its exchange holds what this gives.
    pub(super) fn request(&self) -> ExchangeGuard {
        self.0.requests.set(self.0.requests.get().wrapping_add(1));
        ExchangeGuard {
            connection: self.clone(),
            stream: None,
        }
    }

    /// As [`ConnectionGuard::request`], over one of these streams, whose client has to take what it
    /// is sent at this rate.
    pub(super) fn request_on(&self, streams: &Rc<Streams>, rate: Rate) -> ExchangeGuard {
        let place = streams.begun(rate);
        let mut exchange = self.request();
        exchange.stream = Some((Rc::clone(streams), place));
        exchange
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

/// Keeps a connection in use as long as one of its exchanges lasts, and knows its stream.
#[derive(Debug)]
pub struct ExchangeGuard {
    connection: ConnectionGuard,
    /// Over HTTP/2.
    stream: Option<(Rc<Streams>, usize)>,
}

impl ExchangeGuard {
    /// Ends when the gate drains.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + use<> {
        self.connection.0.drain.begun()
    }

    /// A body gave so many bytes, which the client has to take before it is asked for more.
    pub(crate) fn gave(&self, length: usize) {
        if let Some((streams, place)) = &self.stream {
            streams.gave(*place, length);
        }
    }

    /// The client took it.
    pub(crate) fn was_taken(&self) {
        if let Some((streams, place)) = &self.stream {
            streams.was_taken(*place);
        }
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        if let Some((streams, place)) = &self.stream {
            streams.ended(*place);
        }
    }
}
