//! What happened in one exchange? Counted and logged when it is dropped, however it ended.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode, Uri};

use super::handles::{Open, RouteMetrics};
use super::trace::{Ended, Stage, Trace};
use crate::clock;
use crate::refusal::{Reason, Refusal, Side};
use crate::upstream::tunnel::End;

/// One request and its response, from the request's head to the response's last byte.
#[derive(Debug)]
pub struct Exchange {
    facts: Box<Facts>,
}

#[derive(Debug)]
struct Facts {
    start: Instant,
    /// Time spent waiting for the upstream, up to the head of its answer.
    upstream_time: Duration,
    upstream_answered: Option<Instant>,
    method: Method,
    uri: Uri,
    client: IpAddr,
    request_id: HeaderValue,
    status: Option<StatusCode>,
    route: Option<(Rc<RouteMetrics>, Rc<str>, Open)>,
    upstream: Option<Rc<str>>,
    dialect: Option<&'static str>,
    subject: Option<Subject>,
    reason: Option<Reason>,
    cause: Option<String>,
    is_sampled: bool,
    is_tunnel: bool,
    tunnel_end: Option<End>,
    trace: Option<Box<Trace>>,
    mqtt: Option<Box<Mqtt>>,
}

/// What is known of a session of MQTT.
#[derive(Debug)]
struct Mqtt {
    version: &'static str,
    client_id: String,
    bytes: Option<[u64; 2]>,
}

/// Who was authenticated, without a copy of the name.
pub type Subject = Rc<crate::token::verify::VerifiedToken>;

impl Exchange {
    /// An exchange begins.
    #[must_use]
    pub fn start(
        method: Method,
        uri: Uri,
        client: IpAddr,
        request_id: HeaderValue,
        sample: f64,
    ) -> Self {
        let facts = Facts {
            start: clock::now(),
            upstream_time: Duration::ZERO,
            upstream_answered: None,
            method,
            uri,
            client,
            request_id,
            status: None,
            route: None,
            upstream: None,
            dialect: None,
            subject: None,
            reason: None,
            cause: None,
            is_sampled: sample >= 1.0 || fastrand::f64() < sample,
            is_tunnel: false,
            tunnel_end: None,
            trace: None,
            mqtt: None,
        };
        Self {
            facts: Box::new(facts),
        }
    }

    /// When it began.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.facts.start
    }

    /// The request's id.
    #[must_use]
    pub const fn request_id(&self) -> &HeaderValue {
        &self.facts.request_id
    }

    /// It is part of a trace.
    pub fn traced(&mut self, trace: Box<Trace>) {
        self.facts.trace = Some(trace);
    }

    /// The trace that it is part of.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.facts.trace.as_deref()
    }

    /// A stage has ended, well or not.
    pub fn passed(&mut self, stage: Stage) {
        if let Some(trace) = &mut self.facts.trace {
            trace.passed(stage);
        }
    }

    /// It takes this route.
    pub fn routed(&mut self, metrics: &Rc<RouteMetrics>, name: &Rc<str>) {
        self.facts.route = Some((Rc::clone(metrics), Rc::clone(name), metrics.start()));
    }

    /// The route's metrics, once routed.
    #[must_use]
    pub fn route_metrics(&self) -> Option<&RouteMetrics> {
        self.facts
            .route
            .as_ref()
            .map(|(metrics, _, _)| metrics.as_ref())
    }

    /// This dialect answers it.
    pub const fn spoken(&mut self, dialect: &'static str) {
        self.facts.dialect = Some(dialect);
    }

    /// This principal asks.
    pub fn authenticated(&mut self, subject: Subject) {
        self.facts.subject = Some(subject);
    }

    /// It goes to this upstream.
    pub fn forwarded(&mut self, upstream: &Rc<str>) {
        self.facts.upstream = Some(Rc::clone(upstream));
    }

    /// The upstream took so long, and answered or failed at that time.
    pub const fn waited(&mut self, upstream_time: Duration, until: Instant) {
        self.facts.upstream_time = upstream_time;
        self.facts.upstream_answered = Some(until);
    }

    /// It was refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.facts.reason = Some(refusal.reason);
        self.facts.cause = refusal.cause_chain();
    }

    /// The answer broke off.
    pub fn broke_off(&mut self, reason: Reason, cause: String) {
        self.facts.reason = Some(reason);
        self.facts.cause = Some(cause);
    }

    /// The answer has this status. What the gate did to the head of an upstream's answer is not
    /// counted: it is less than asking for the time again costs.
    pub fn answered(&mut self, status: StatusCode) {
        self.facts.status = Some(status);
        if let Some(route) = self.route_metrics() {
            let now = self.facts.upstream_answered.unwrap_or_else(clock::now);
            let gate = now.saturating_duration_since(self.facts.start);
            route.gate_took(gate.saturating_sub(self.facts.upstream_time));
        }
    }

    /// It became a tunnel, open until the guard is dropped.
    pub fn tunnelled(&mut self) -> Option<Open> {
        self.facts.is_tunnel = true;
        self.route_metrics().map(RouteMetrics::tunnel)
    }
}

impl Exchange {
    /// It is a session of MQTT, of this version and client. Of a very long client identifier the
    /// beginning is kept.
    pub fn connected(&mut self, version: &'static str, client_id: &str) {
        let client_id = client_id.chars().take(MOST_CLIENT_ID).collect();
        self.facts.mqtt = Some(Box::new(Mqtt {
            version,
            client_id,
            bytes: None,
        }));
    }

    /// So many bytes went from the client to the upstream behind CONNECT, and so many back.
    pub fn carried(&mut self, up: u64, down: u64) {
        if let Some(mqtt) = &mut self.facts.mqtt {
            mqtt.bytes = Some([up, down]);
        }
    }

    /// The tunnel ended so.
    pub fn tunnel_ended(&mut self, end: End) {
        self.facts.tunnel_end = Some(end);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let facts = &self.facts;
        let end = clock::now();
        let whole = end.saturating_duration_since(facts.start);
        if let Some((route, _, _)) = &facts.route {
            route.ended(&facts.method, facts.status);
            if !facts.is_tunnel {
                route.took(whole);
            }
        }
        facts.log(whole);
        if let Some(trace) = self.facts.trace.take() {
            trace.end(&self.facts.ended(end));
        }
    }
}

/// One event of the access log. The path is logged without its query, which may hold a token.
macro_rules! event {
    ($level:ident, $facts:ident, $whole:ident) => {
        tracing::$level!(
            http.request.method = $facts.method.as_str(),
            http.response.status_code = $facts.status.map(|status| status.as_u16()),
            http.route = $facts.route.as_ref().map(|(_, name, _)| &**name),
            url.path = $facts.uri.path(),
            client.address = %$facts.client,
            upstream = $facts.upstream.as_deref(),
            dialect = $facts.dialect,
            subject = $facts.subject.as_ref().map(|subject| subject.subject()),
            reason = $facts.reason.map(Reason::label),
            side = $facts.reason.map(|reason| reason.side().label()),
            cause = $facts.cause.as_deref(),
            tunnel_end = $facts.tunnel_end.map(End::label),
            mqtt.version = $facts.mqtt.as_ref().map(|mqtt| mqtt.version),
            mqtt.client_id = $facts.mqtt.as_ref().map(|mqtt| &*mqtt.client_id),
            bytes_up = $facts.mqtt.as_ref().and_then(|mqtt| Some(mqtt.bytes?[0])),
            bytes_down = $facts.mqtt.as_ref().and_then(|mqtt| Some(mqtt.bytes?[1])),
            duration_ms = milliseconds($whole),
            upstream_duration_ms = milliseconds($facts.upstream_time),
            request_id = $facts.request_id.to_str().ok(),
            trace_id = $facts.trace.as_ref().map(|trace| tracing::field::display(trace.id())),
            "exchange"
        )
    };
}

impl Facts {
    fn ended(&self, end: Instant) -> Ended<'_> {
        Ended {
            start: self.start,
            end,
            method: &self.method,
            path: self.uri.path(),
            route: self.route.as_ref().map(|(_, name, _)| &**name),
            client: self.client,
            status: self.status,
            dialect: self.dialect,
            reason: self.reason,
            upstream: self.upstream.as_deref(),
            waited: self
                .upstream_answered
                .map(|until| (self.upstream_time, until)),
        }
    }

    fn log(&self, whole: Duration) {
        match self.reason.map(Reason::side) {
            None if !self.is_sampled => {}
            None | Some(Side::Downstream) => event!(info, self, whole),
            Some(Side::Upstream) => event!(warn, self, whole),
            Some(Side::Gate) => event!(error, self, whole),
        }
    }
}

/// Characters of a client identifier that are logged.
const MOST_CLIENT_ID: usize = 128;

fn milliseconds(span: Duration) -> f64 {
    // Three digits: microseconds.
    (span.as_secs_f64() * 1e6).round() / 1e3
}
