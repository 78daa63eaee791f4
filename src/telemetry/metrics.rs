//! What is counted? One table of metrics, and typed handles named for the event.
//!
//! Each worker counts in a registry of its own, so that no cache line is written by two cores;
//! a scrape sums them. Label values are closed sets or names from the config, never what a client
//! sent.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::credential::Location;
use crate::refusal::Reason;

/// What went wrong with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// It closed or broke the connection before it answered.
    Broken,
    /// It broke off in the middle of its answer's body.
    BrokenResponse,
    /// It could not be reached.
    Connect,
    /// Connecting took too long.
    ConnectTimeout,
    /// It did not answer in time.
    ResponseTimeout,
    /// The TLS handshake with it failed.
    Tls,
}

impl UpstreamFault {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::BrokenResponse => "broken_response",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::Tls => "tls",
        }
    }
}

macro_rules! metrics {
    ($($kind:ident $field:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// One worker's metrics.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $($field: metrics!(@type $kind),)*
        }

        impl Metrics {
            /// Fresh metrics in a registry of their own.
            ///
            /// # Errors
            /// If a name or label of the table is not one that Prometheus takes.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(
                    let $field = metrics!(@make $kind $name $help [$($label),*]);
                    registry.register(Box::new($field.clone()))?;
                )*
                Ok(Self { registry, $($field,)* })
            }
        }
    };
    (@type counter) => { IntCounterVec };
    (@type gauge) => { IntGaugeVec };
    (@type histogram) => { HistogramVec };
    (@make counter $name:literal $help:literal [$($label:literal),*]) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),*])?
    };
    (@make gauge $name:literal $help:literal [$($label:literal),*]) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),*])?
    };
    (@make histogram $name:literal $help:literal [$($label:literal),*]) => {
        HistogramVec::new(
            HistogramOpts::new($name, $help).buckets(BUCKETS.to_vec()),
            &[$($label),*],
        )?
    };
}

metrics! {
    counter requests "tollgate_requests_total" ["route", "method", "code"]
        "Exchanges that ended, by route, method and class of status (0xx: the client left first).";
    histogram request_duration "tollgate_request_duration_seconds" ["route"]
        "Time from a request's head to its answer's last byte, in seconds; tunnels left out.";
    histogram gate_duration "tollgate_gate_duration_seconds" ["route"]
        "The part of an exchange's time that the gate itself took, up to the answer's head, in seconds.";
    gauge in_flight "tollgate_requests_in_flight" ["route"]
        "Exchanges under way.";
    gauge tunnels "tollgate_tunnels_open" ["route"]
        "WebSocket tunnels that are open.";
    counter authentication "tollgate_authentication_total" ["route", "location", "result", "reason"]
        "Judgements of presented credentials, by where they stood, result and reason.";
    counter authorization "tollgate_authorization_total" ["route", "result", "reason"]
        "Judgements of route policies, by result and reason.";
    counter logins "tollgate_logins_total" ["dialect", "result", "reason"]
        "Logins, by dialect, result and reason.";
    counter refreshes "tollgate_refreshes_total" ["dialect", "result", "reason"]
        "Refreshes, by dialect, result and reason.";
    counter tokens_issued "tollgate_tokens_issued_total" ["type"]
        "Tokens issued, by type.";
    counter cache_lookups "tollgate_token_cache_lookups_total" ["result"]
        "Look-ups in the cache of verified tokens, by result.";
    counter cache_evictions "tollgate_token_cache_evictions_total" ["cause"]
        "Entries that left the cache of verified tokens to make room.";
    gauge cache_entries "tollgate_token_cache_entries" []
        "Entries in the cache of verified tokens.";
    counter upstream_requests "tollgate_upstream_requests_total" ["upstream", "code_class"]
        "Answers from upstreams, by class of status.";
    histogram upstream_duration "tollgate_upstream_request_duration_seconds" ["upstream"]
        "Time from sending a request to the head of the upstream's answer, in seconds.";
    counter upstream_refusals "tollgate_upstream_refusals_total" ["upstream"]
        "Answers by which an upstream refused the gate's credentials.";
    counter upstream_errors "tollgate_upstream_errors_total" ["upstream", "kind"]
        "Failures of upstreams, by kind.";
    counter connections "tollgate_connections_total" ["listener"]
        "Connections accepted, by listener.";
    gauge connections_open "tollgate_connections_open" ["listener"]
        "Connections that are open, by listener.";
    counter handshakes "tollgate_tls_handshakes_total" ["listener", "version", "result"]
        "TLS handshakes with clients, by version and result.";
    gauge not_after "tollgate_tls_certificate_not_after_timestamp_seconds" ["listener", "name"]
        "When a certificate expires, in seconds since the epoch.";
    counter config_reloads "tollgate_config_reloads_total" ["result"]
        "Attempts to put a changed config in force, by result.";
    gauge config_last_reload "tollgate_config_last_reload_successful" []
        "Whether the last attempt to put a changed config in force succeeded; 1 before the first.";
    gauge build_info "tollgate_build_info" ["version", "revision"]
        "Which build runs; always 1.";
}

/// From a tenth of a millisecond to ten seconds.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

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

    /// A login succeeded or was refused.
    pub fn login(&self, dialect: &str, refused: Option<Reason>) {
        let [result, reason] = outcome(refused);
        self.logins
            .with_label_values(&[dialect, result, reason])
            .inc();
    }

    /// A refresh succeeded or was refused.
    pub fn refresh(&self, dialect: &str, refused: Option<Reason>) {
        let [result, reason] = outcome(refused);
        self.refreshes
            .with_label_values(&[dialect, result, reason])
            .inc();
    }

    /// An access token and a refresh token were issued.
    pub fn pair_issued(&self) {
        self.tokens_issued.with_label_values(&["access"]).inc();
        self.tokens_issued.with_label_values(&["refresh"]).inc();
    }

    /// A connection was accepted; it is open until the guard is dropped.
    #[must_use]
    pub fn connection(&self, listener: &str) -> Open {
        self.connections.with_label_values(&[listener]).inc();
        Open::new(self.connections_open.with_label_values(&[listener]))
    }

    /// A TLS handshake ended.
    pub fn handshake(&self, listener: &str, version: &str, result: &str) {
        self.handshakes
            .with_label_values(&[listener, version, result])
            .inc();
    }

    /// A certificate is served until then.
    pub fn certificate(&self, listener: &str, name: &str, not_after: i64) {
        self.not_after
            .with_label_values(&[listener, name])
            .set(not_after);
    }

    /// So many entries are in the cache of verified tokens.
    pub fn set_cache_entries(&self, entries: usize) {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.cache_entries
            .with_label_values::<&str>(&[])
            .set(entries);
    }

    /// A changed config was put in force, or refused.
    pub fn reloaded(&self, is_success: bool) {
        let result = if is_success { "ok" } else { "refused" };
        self.config_reloads.with_label_values(&[result]).inc();
        self.config_last_reload
            .with_label_values::<&str>(&[])
            .set(i64::from(is_success));
    }

    /// This build runs, with the config that it started with.
    pub fn set_build_info(&self) {
        self.config_last_reload
            .with_label_values::<&str>(&[])
            .set(1);
        let revision = option_env!("TOLLGATE_REVISION").unwrap_or("unknown");
        self.build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), revision])
            .set(1);
    }
}

fn outcome(refused: Option<Reason>) -> [&'static str; 2] {
    refused.map_or(["ok", "none"], |reason| ["refused", reason.label()])
}

/// Counted up as long as it lives.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
    fn new(gauge: IntGauge) -> Self {
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
    authenticated: [OnceCell<IntCounter>; 3],
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

/// All registries of a process, summed when scraped.
#[derive(Debug, Default)]
pub struct Registries(Mutex<Vec<Registry>>);

impl Registries {
    /// Adds a worker's metrics.
    pub fn add(&self, metrics: &Metrics) {
        if let Ok(mut all) = self.0.lock() {
            all.push(metrics.registry.clone());
        }
    }

    /// The sums, in Prometheus' text format.
    ///
    /// # Errors
    /// If the text cannot be made.
    pub fn scrape(&self) -> Result<String, prometheus::Error> {
        let registries = self.0.lock().map(|all| all.clone()).unwrap_or_default();
        let mut sums = BTreeMap::<String, Sum>::new();
        for family in registries.iter().flat_map(Registry::gather) {
            sums.entry(family.name().to_owned())
                .or_insert_with(|| Sum::new(&family))
                .add(&family);
        }
        let families: Vec<_> = sums.into_values().map(Sum::into_family).collect();
        TextEncoder::new().encode_to_string(&families)
    }
}

/// One metric's sum over all workers, by labels.
struct Sum {
    family: MetricFamily,
    metrics: BTreeMap<Vec<(String, String)>, Metric>,
}

impl Sum {
    fn new(family: &MetricFamily) -> Self {
        let mut empty = family.clone();
        empty.mut_metric().clear();
        Self {
            family: empty,
            metrics: BTreeMap::new(),
        }
    }

    fn add(&mut self, family: &MetricFamily) {
        let kind = family.get_field_type();
        for metric in family.get_metric() {
            let labels = metric.get_label().iter();
            let key = labels.map(|label| (label.name().to_owned(), label.value().to_owned()));
            match self.metrics.entry(key.collect()) {
                Entry::Vacant(place) => {
                    place.insert(metric.clone());
                }
                Entry::Occupied(mut place) => add(place.get_mut(), metric, kind),
            }
        }
    }

    fn into_family(mut self) -> MetricFamily {
        self.family.set_metric(self.metrics.into_values().collect());
        self.family
    }
}

fn add(sum: &mut Metric, metric: &Metric, kind: MetricType) {
    match kind {
        MetricType::COUNTER => {
            let value = sum.get_counter().get_value() + metric.get_counter().get_value();
            let mut counter = metric.get_counter().clone();
            counter.set_value(value);
            sum.set_counter(counter);
        }
        MetricType::GAUGE => {
            let value = sum.get_gauge().get_value() + metric.get_gauge().get_value();
            let mut gauge = metric.get_gauge().clone();
            gauge.set_value(value);
            sum.set_gauge(gauge);
        }
        _ => {
            let (ours, theirs) = (sum.get_histogram(), metric.get_histogram());
            let mut histogram = ours.clone();
            histogram.set_sample_count(ours.get_sample_count() + theirs.get_sample_count());
            histogram.set_sample_sum(ours.get_sample_sum() + theirs.get_sample_sum());
            let buckets = ours.get_bucket().iter().zip(theirs.get_bucket());
            let buckets = buckets.map(|(ours, theirs)| {
                let mut bucket = ours.clone();
                bucket.set_cumulative_count(ours.cumulative_count() + theirs.cumulative_count());
                bucket
            });
            histogram.set_bucket(buckets.collect());
            sum.set_histogram(histogram);
        }
    }
}
