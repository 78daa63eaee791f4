//! What does one worker keep for one address of an upstream? Its connections, and the count of
//! requests under way.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;
use tokio::time::{Sleep, sleep};

use super::body::RequestBody;
use super::cluster::Member;
use super::open::{self, OpenError};
use super::{Protocol, UpstreamSpec};
use crate::clock;
use crate::local::Local;
use crate::telemetry::handles::{Open, UpstreamFault, UpstreamMetrics};

/// A connection on which one request may be sent.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) sender: Sender,
    /// Goes off when the upstream has to have answered, or before: it stays set from one exchange
    /// to the next, so that an exchange has no timer to make.
    pub(super) alarm: Pin<Box<Sleep>>,
}

/// By which a request is sent.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    /// One stream of a connection that others use, too.
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        _stream: Stream,
    },
}

/// One worker's connections to one member.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) member: Arc<Member>,
    /// How many requests are under way.
    pub(super) in_flight: Cell<usize>,
    idle: RefCell<Vec<Idle>>,
    pub(super) multiplexed: RefCell<Vec<Multiplexed>>,
    /// Held by whoever opens a connection that others will use, too.
    pub(super) opening: Semaphore,
    /// How many of those did not come about, and why the last one did not.
    pub(super) failures: Cell<u64>,
    pub(super) last_fault: Cell<UpstreamFault>,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<usize>>,
    /// When it last got a request.
    used: Instant,
}

/// Counts as a stream of its connection as long as it lives.
#[derive(Debug)]
pub(super) struct Stream(Rc<Cell<usize>>);

/// The most requests at once on one HTTP/2 connection.
pub(super) const STREAMS: usize = 100;
/// A place among the requests that may be with the upstream, held until the exchange is over.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(super) lane: Rc<Lane>,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    pub(super) fn new(lane: Rc<Lane>, permit: OwnedSemaphorePermit) -> Self {
        lane.in_flight.set(lane.in_flight.get() + 1);
        Self {
            lane,
            _permit: permit,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let count = self.lane.in_flight.get();
        self.lane.in_flight.set(count.saturating_sub(1));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Lane {
    pub(super) fn new(member: Arc<Member>) -> Rc<Self> {
        Rc::new(Self {
            member,
            in_flight: Cell::new(0),
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            opening: Semaphore::new(1),
            failures: Cell::new(0),
            last_fault: Cell::new(UpstreamFault::Connect),
        })
    }

    /// A connection that others wait for did not come about.
    pub(super) fn failed(&self, fault: UpstreamFault) {
        self.failures.set(self.failures.get().wrapping_add(1));
        self.last_fault.set(fault);
    }

    /// A connection that can be used at once.
    pub(super) fn take(&self, spec: &UpstreamSpec, now: Instant) -> Option<Link> {
        match spec.config.protocol {
            Protocol::Http1 | Protocol::Mqtt => self.take_idle(spec, now),
            Protocol::Http2 => self.take_stream(spec, now),
        }
    }

    fn take_idle(&self, spec: &UpstreamSpec, now: Instant) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let candidate = idle.get(at)?;
            let is_stale =
                now.saturating_duration_since(candidate.since) > spec.config.idle_timeout.0;
            let Sender::Http1(sender) = &candidate.link.sender else {
                return None;
            };
            if sender.is_closed() || is_stale {
                idle.swap_remove(at);
            } else if sender.is_ready() {
                return Some(idle.swap_remove(at).link);
            }
        }
        None
    }

    fn take_stream(&self, spec: &UpstreamSpec, now: Instant) -> Option<Link> {
        let mut all = self.multiplexed.borrow_mut();
        all.retain(|connection| !connection.sender.is_closed());
        let mut all = all.iter_mut();
        let connection = all.find(|connection| connection.streams.get() < STREAMS)?;
        connection.used = now;
        let streams = &connection.streams;
        streams.set(streams.get() + 1);
        let stream = Stream(Rc::clone(streams));
        Some(Link {
            sender: Sender::Http2 {
                sender: connection.sender.clone(),
                _stream: stream,
            },
            alarm: Box::pin(sleep(spec.config.response_timeout.0)),
        })
    }

    pub(super) fn sweep(&self, spec: &UpstreamSpec, now: Instant) {
        let limit = spec.config.idle_timeout.0;
        self.idle.borrow_mut().retain(|idle| {
            let is_open = match &idle.link.sender {
                Sender::Http1(sender) => !sender.is_closed(),
                Sender::Http2 { .. } => false,
            };
            is_open && now.saturating_duration_since(idle.since) <= limit
        });
        self.multiplexed.borrow_mut().retain(|connection| {
            let is_used = connection.streams.get() > 0
                || now.saturating_duration_since(connection.used) <= limit;
            is_used && !connection.sender.is_closed()
        });
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn keep(&self, link: Link, spec: &UpstreamSpec) {
        let Sender::Http1(sender) = &link.sender else {
            return;
        };
        let mut idle = self.idle.borrow_mut();
        if idle.len() < spec.config.max_idle && !sender.is_closed() {
            idle.push(Idle {
                link,
                since: clock::recently(),
            });
        }
    }

    /// How many connections are open that nobody uses.
    pub(super) fn unused(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Closes one of them.
    pub(super) fn give_one_up(&self) {
        self.idle.borrow_mut().pop();
    }
}

impl Link {
    /// A new connection over HTTP/1.1.
    pub(super) async fn open(
        spec: &UpstreamSpec,
        metrics: &UpstreamMetrics,
        member: &Member,
    ) -> Result<Self, OpenError> {
        let stream = open::stream(spec, member).await?;
        let handshake = open::http1_builder().handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(OpenError::http(member))?;
        drive(connection.with_upgrades(), metrics.connection());
        Ok(Self {
            sender: Sender::Http1(sender),
            alarm: Box::pin(sleep(spec.config.response_timeout.0)),
        })
    }
}

impl Multiplexed {
    /// A new connection over HTTP/2.
    pub(super) async fn open(
        spec: &UpstreamSpec,
        metrics: &UpstreamMetrics,
        member: &Member,
    ) -> Result<Self, OpenError> {
        let stream = open::stream(spec, member).await?;
        let handshake = open::http2_builder(spec, Local).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(OpenError::http(member))?;
        drive(connection, metrics.connection());
        Ok(Self {
            sender,
            streams: Rc::default(),
            used: clock::now(),
        })
    }
}

/// Keeps a connection going, and counted, to its end. Its errors reach whoever waits for an answer.
fn drive(connection: impl Future + 'static, open: Open) {
    spawn_local(async move {
        connection.await;
        drop(open);
    });
}
