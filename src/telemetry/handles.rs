//! Who counts what? Typed handles, named for the event; what is counted often is looked up once.

use std::cell::OnceCell;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::metrics::Metrics;
use crate::credential::Location;
use crate::refusal::Reason;

impl Metrics {
    /// The handles of one route.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics {
            name: name.into(),
            requests: self.requests.clone(),
            counted: Default::default(),
            request_duration: self.request_duration.with_label_values(&[name]),
            gate_duration: self.gate_duration.with_label_values(&[name]),
            in_flight: self.in_flight.with_label_values(&[name]),
            tunnels: self.tunnels.with_label_values(&[name]),
            authentication: self.authentication.clone(),
            authenticated: Default::default(),
            authorization: self.authorization.clone(),
            authorized: OnceCell::new(),
        }
    }

    /// The handles of one upstream.
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            name: name.into(),
            requests: self.upstream_requests.clone(),
            counted: Default::default(),
            duration: self.upstream_duration.with_label_values(&[name]),
            refusals: self.upstream_refusals.with_label_values(&[name]),
            errors: self.upstream_errors.clone(),
            connections: self.upstream_connections.with_label_values(&[name]),
            ejections: self.upstream_ejections.with_label_values(&[name]),
            retries: ["retried", "denied"]
                .map(|result| self.upstream_retries.with_label_values(&[name, result])),
        }
    }

    /// The handles of the cache of verified tokens.
    #[must_use]
    pub fn cache(&self) -> CacheMetrics {
        CacheMetrics {
            hits: self.cache_lookups.with_label_values(&["hit"]),
            misses: self.cache_lookups.with_label_values(&["miss"]),
            evictions: self.cache_evictions.with_label_values(&["full"]),
        }
    }
}

/// What went wrong with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// It kept silent within its answer's body.
    BodyTimeout,
    /// It closed or broke the connection before it answered.
    Broken,
    /// It broke off in the middle of its answer's body.
    BrokenResponse,
    /// More requests wait for it than may, or one waited too long.
    Busy,
    /// It could not be reached.
    Connect,
    /// Connecting took too long.
    ConnectTimeout,
    /// It did not answer in time.
    ResponseTimeout,
    /// The TLS handshake with it failed.
    Tls,
    /// All its addresses fail their health checks.
    Unhealthy,
    /// No address of it is known.
    Unresolved,
}

impl UpstreamFault {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BodyTimeout => "body_timeout",
            Self::Broken => "broken",
            Self::BrokenResponse => "broken_response",
            Self::Busy => "busy",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::Tls => "tls",
            Self::Unhealthy => "unhealthy",
            Self::Unresolved => "unresolved",
        }
    }
}

/// Counted up as long as it lives.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
    pub(super) fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One route's handles, for one worker.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Box<str>,
    requests: IntCounterVec,
    counted: [[OnceCell<IntCounter>; 6]; 9],
    request_duration: Histogram,
    gate_duration: Histogram,
    in_flight: IntGauge,
    tunnels: IntGauge,
    authentication: IntCounterVec,
    authenticated: [OnceCell<IntCounter>; Location::COUNT],
    authorization: IntCounterVec,
    authorized: OnceCell<IntCounter>,
}

impl RouteMetrics {
    /// An exchange ended; without a status, the client left first.
    pub fn ended(&self, method: &Method, status: Option<StatusCode>) {
        let (method_at, method) = method_class(method);
        let (class_at, class) = code_class(status);
        let Some(cell) = self
            .counted
            .get(method_at)
            .and_then(|row| row.get(class_at))
        else {
            return;
        };
        let counter = cell.get_or_init(|| {
            self.requests
                .with_label_values(&[&*self.name, method, class])
        });
        counter.inc();
    }

    /// How long the exchange took.
    pub fn took(&self, whole: Duration) {
        self.request_duration.observe(whole.as_secs_f64());
    }

    /// How long the gate took.
    pub fn gate_took(&self, gate: Duration) {
        self.gate_duration.observe(gate.as_secs_f64());
    }

    /// An exchange is under way until the guard is dropped.
    #[must_use]
    pub fn start(&self) -> Open {
        Open::new(self.in_flight.clone())
    }

    /// A tunnel is open until the guard is dropped.
    #[must_use]
    pub fn tunnel(&self) -> Open {
        Open::new(self.tunnels.clone())
    }

    /// A credential was judged.
    pub fn authenticated(&self, location: Location, refused: Option<Reason>) {
        let counter = |[result, reason]: [&str; 2]| {
            let labels = [&*self.name, location.label(), result, reason];
            self.authentication.with_label_values(&labels)
        };
        match (refused, self.authenticated.get(location as usize)) {
            (None, Some(cell)) => cell.get_or_init(|| counter(outcome(None))).inc(),
            _ => counter(outcome(refused)).inc(),
        }
    }

    /// A policy was judged.
    pub fn authorized(&self, refused: Option<Reason>) {
        let counter = |[result, reason]: [&str; 2]| {
            self.authorization
                .with_label_values(&[&*self.name, result, reason])
        };
        match refused {
            None => self.authorized.get_or_init(|| counter(outcome(None))).inc(),
            Some(_) => counter(outcome(refused)).inc(),
        }
    }
}

/// One upstream's handles, for one worker.
#[derive(Debug)]
pub struct UpstreamMetrics {
    name: Box<str>,
    requests: IntCounterVec,
    counted: [OnceCell<IntCounter>; 6],
    duration: Histogram,
    refusals: IntCounter,
    errors: IntCounterVec,
    connections: IntGauge,
    ejections: IntCounter,
    retries: [IntCounter; 2],
}

impl UpstreamMetrics {
    /// The upstream answered.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let (at, class) = code_class(Some(status));
        if let Some(cell) = self.counted.get(at) {
            cell.get_or_init(|| self.requests.with_label_values(&[&*self.name, class]))
                .inc();
        }
        self.duration.observe(took.as_secs_f64());
    }

    /// The upstream refused the gate's credentials.
    pub fn refused(&self) {
        self.refusals.inc();
    }

    /// A connection is open until the guard is dropped.
    #[must_use]
    pub fn connection(&self) -> Open {
        Open::new(self.connections.clone())
    }

    /// An address is passed over for a while.
    pub fn ejected(&self) {
        self.ejections.inc();
    }

    /// A request was sent again, or was not since the budget is used up.
    pub fn retried(&self, was_sent: bool) {
        let [retried, denied] = &self.retries;
        if was_sent { retried } else { denied }.inc();
    }

    /// The upstream failed.
    pub fn fault(&self, fault: UpstreamFault) {
        self.errors
            .with_label_values(&[&*self.name, fault.label()])
            .inc();
    }
}

/// The token cache's handles, for one worker.
#[derive(Debug)]
pub struct CacheMetrics {
    hits: IntCounter,
    misses: IntCounter,
    evictions: IntCounter,
}

impl CacheMetrics {
    /// A token was known.
    pub fn hit(&self) {
        self.hits.inc();
    }

    /// A token was not known.
    pub fn miss(&self) {
        self.misses.inc();
    }

    /// So many entries left to make room.
    pub fn evicted(&self, count: u64) {
        self.evictions.inc_by(count);
    }
}

fn method_class(method: &Method) -> (usize, &'static str) {
    match *method {
        Method::DELETE => (0, "DELETE"),
        Method::GET => (1, "GET"),
        Method::HEAD => (2, "HEAD"),
        Method::OPTIONS => (3, "OPTIONS"),
        Method::PATCH => (4, "PATCH"),
        Method::POST => (5, "POST"),
        Method::PUT => (6, "PUT"),
        Method::TRACE => (7, "TRACE"),
        _ => (8, "other"),
    }
}

fn code_class(status: Option<StatusCode>) -> (usize, &'static str) {
    match status.map_or(0, |status| status.as_u16() / 100) {
        1 => (1, "1xx"),
        2 => (2, "2xx"),
        3 => (3, "3xx"),
        4 => (4, "4xx"),
        5 => (5, "5xx"),
        _ => (0, "0xx"),
    }
}

pub(super) fn outcome(refused: Option<Reason>) -> [&'static str; 2] {
    refused.map_or(["ok", "none"], |reason| ["refused", reason.label()])
}
