//! How does the gate do, right now? Sums since its start, from which the page makes rates, and the
//! state of what it stands on.

use std::collections::BTreeMap;

use http::StatusCode;
use prometheus::proto::{Metric, MetricFamily};
use serde::Serialize;

use super::{Admin, NAME};
use crate::clock;
use crate::store::AnyStore;
use crate::store::health::Phase;
use crate::telemetry::metrics::{REVISION, VERSION};
use crate::token::listing::KeyListing;

/// All that the page shows of the gate's health.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    revision: &'static str,
    /// Milliseconds since the epoch.
    now: u64,
    is_ready: bool,
    /// `/readyz` in words.
    readiness: &'static str,
    totals: Totals,
    upstreams: Vec<UpstreamStatus>,
    certificates: Vec<CertificateStatus>,
    keys: KeyListing,
    store: StoreStatus,
    config: ConfigStatus,
}

/// Sums over all workers, since the start.
#[derive(Serialize)]
struct Totals {
    /// Exchanges that ended, by class of status.
    requests: BTreeMap<String, f64>,
    /// Requests that the gate itself refused, by reason.
    refusals: BTreeMap<String, f64>,
    request_seconds: Spent,
    /// What the gate itself took of it.
    gate_seconds: Spent,
    /// What the upstreams took until their answers' heads.
    upstream_seconds: Spent,
    cache_hits: f64,
    cache_misses: f64,
    cache_entries: f64,
    in_flight: f64,
    tunnels: f64,
    connections: f64,
    memory_bytes: f64,
    /// 0 for none.
    memory_limit_bytes: f64,
}

/// A histogram's count, and its sum in seconds.
#[derive(Default, Serialize)]
struct Spent {
    count: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct UpstreamStatus {
    name: String,
    endpoints: Vec<EndpointStatus>,
    /// Answers, by class of status.
    answers: BTreeMap<String, f64>,
    /// Failures, by kind.
    errors: BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct EndpointStatus {
    address: String,
    /// `up`, `down` by its health checks, or `ejected` for a while since requests failed.
    state: &'static str,
}

#[derive(Serialize)]
struct CertificateStatus {
    listener: String,
    name: String,
    /// Seconds since the epoch.
    expires: i64,
}

#[derive(Serialize)]
struct StoreStatus {
    kind: &'static str,
    /// `starting`, `in_step`, `behind` or `wrong`.
    state: &'static str,
    staleness_seconds: u64,
}

#[derive(Serialize)]
struct ConfigStatus {
    /// Whether the last reload, if there was one, was taken.
    is_last_reload_good: bool,
    needs_restart: bool,
}

/// How this gate does.
pub(super) fn of(admin: &Admin) -> Status {
    admin.look_around();
    let sums = Sums(admin.registries.sums());
    let (status, readiness) = admin.readiness();
    let snapshot = admin.shared.current();
    let now = clock::now();
    let upstreams = snapshot.upstreams.iter().map(|upstream| UpstreamStatus {
        name: upstream.name.to_string(),
        endpoints: Vec::from_iter(
            upstream
                .cluster
                .standing(now)
                .map(|(address, state)| EndpointStatus { address, state }),
        ),
        answers: sums.of("tollgate_upstream_requests_total", &upstream.name),
        errors: sums.of("tollgate_upstream_errors_total", &upstream.name),
    });
    Status {
        version: VERSION,
        revision: REVISION,
        now: clock::unix_nanos() / 1_000_000,
        is_ready: status == StatusCode::OK,
        readiness: readiness.trim_end(),
        totals: totals(&sums),
        upstreams: upstreams.collect(),
        certificates: certificates(admin),
        keys: KeyListing::of(&snapshot.tokens),
        store: store(admin),
        config: ConfigStatus {
            is_last_reload_good: sums.all("tollgate_config_last_reload_successful") > 0.0,
            needs_restart: sums.all("tollgate_config_restart_needed") > 0.0,
        },
    }
}

fn totals(sums: &Sums) -> Totals {
    let mut refusals = sums.by("tollgate_authentication_total", "reason");
    for (reason, count) in sums.by("tollgate_authorization_total", "reason") {
        *refusals.entry(reason).or_default() += count;
    }
    refusals.remove("none");
    let mut lookups = sums.by("tollgate_token_cache_lookups_total", "result");
    let mut lookups = |result| lookups.remove(result).unwrap_or_default();
    Totals {
        requests: sums.by("tollgate_requests_total", "code"),
        refusals,
        request_seconds: sums.spent("tollgate_request_duration_seconds"),
        gate_seconds: sums.spent("tollgate_gate_duration_seconds"),
        upstream_seconds: sums.spent("tollgate_upstream_request_duration_seconds"),
        cache_hits: lookups("hit"),
        cache_misses: lookups("miss"),
        cache_entries: sums.all("tollgate_token_cache_entries"),
        in_flight: sums.all("tollgate_requests_in_flight"),
        tunnels: sums.all("tollgate_tunnels_open"),
        connections: sums.all("tollgate_connections_open"),
        memory_bytes: sums.all("tollgate_memory_bytes"),
        memory_limit_bytes: sums.all("tollgate_memory_limit_bytes"),
    }
}

fn certificates(admin: &Admin) -> Vec<CertificateStatus> {
    let listeners = admin.listeners.iter().filter_map(|listener| {
        let tls = listener.tls.as_ref()?.load_full();
        let of = tls.expiries().map(|(name, expires)| CertificateStatus {
            listener: listener.name.clone(),
            name: name.to_owned(),
            expires,
        });
        Some(Vec::from_iter(of))
    });
    let own = admin.door.load_full();
    let own = own
        .expiries
        .iter()
        .map(|(name, expires)| CertificateStatus {
            listener: NAME.to_owned(),
            name: name.clone(),
            expires: *expires,
        });
    listeners.flatten().chain(own).collect()
}

fn store(admin: &Admin) -> StoreStatus {
    let health = &admin.shared.health;
    StoreStatus {
        kind: match admin.shared.store {
            AnyStore::File(_) => "file",
            AnyStore::Memory(_) => "memory",
            AnyStore::Redis(_) => "redis",
        },
        state: match health.phase() {
            Phase::Starting => "starting",
            Phase::InStep => "in_step",
            Phase::Behind => "behind",
            Phase::Wrong(_) => "wrong",
        },
        staleness_seconds: health.staleness(clock::unix_now()).as_secs(),
    }
}

/// All metrics, summed over the workers.
struct Sums(Vec<MetricFamily>);

impl Sums {
    fn metrics<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Metric> {
        let families = self.0.iter().filter(move |family| family.name() == name);
        families.flat_map(MetricFamily::get_metric)
    }

    /// Over all labels.
    fn all(&self, name: &str) -> f64 {
        self.metrics(name)
            .fold(0.0, |sum, metric| sum + value(metric))
    }

    /// For each value of a label.
    fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for metric in self.metrics(name) {
            let labels = metric.get_label();
            if let Some(held) = labels.iter().find(|held| held.name() == label) {
                *sums.entry(held.value().to_owned()).or_default() += value(metric);
            }
        }
        sums
    }

    /// Of one upstream, by the label that it has besides.
    fn of(&self, name: &str, upstream: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for metric in self.metrics(name) {
            let labels = metric.get_label();
            let is_its = |held: &prometheus::proto::LabelPair| held.name() == "upstream";
            let (its, others): (Vec<_>, Vec<_>) = labels.iter().partition(|held| is_its(held));
            if its.iter().any(|held| held.value() == upstream)
                && let Some(held) = others.first()
            {
                *sums.entry(held.value().to_owned()).or_default() += value(metric);
            }
        }
        sums
    }

    fn spent(&self, name: &str) -> Spent {
        self.metrics(name).fold(Spent::default(), |spent, metric| {
            let histogram = metric.get_histogram();
            Spent {
                count: spent.count.saturating_add(histogram.get_sample_count()),
                seconds: spent.seconds + histogram.get_sample_sum(),
            }
        })
    }
}

/// Of a counter or a gauge, the one that it is.
fn value(metric: &Metric) -> f64 {
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}
