//! What is counted? One table of metrics, and typed handles named for the event.
//!
//! Each worker counts in a registry of its own, so that no cache line is written by two cores;
//! a scrape sums them. Label values are closed sets or names from the config, never what a client
//! sent.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::handles::{Open, outcome};
use crate::refusal::Reason;

macro_rules! metrics {
    ($($kind:ident $field:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// Every metric: its name, its kind, its labels, and what it says.
        pub const TABLE: &[(&str, &str, &[&str], &str)] = &[
            $(($name, stringify!($kind), &[$($label),*], $help),)*
        ];

        /// One worker's metrics.
        #[derive(Debug)]
        pub struct Metrics {
            pub(super) registry: Registry,
            $(pub(super) $field: metrics!(@type $kind),)*
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
        "WebSocket tunnels and sessions of MQTT that are open.";
    counter mqtt_connects "tollgate_mqtt_connects_total" ["route", "version", "result", "reason"]
        "Judgements of MQTT's CONNECT, its upstream's answer included, by version, result and reason.";
    counter mqtt_denied "tollgate_mqtt_denied_total" ["route", "action"]
        "Packets of MQTT that were refused for their topics, by what was asked for: publish or subscribe.";
    counter authentication "tollgate_authentication_total" ["route", "location", "result", "reason"]
        "Judgements of presented credentials, by where they stood, result and reason.";
    counter authorization "tollgate_authorization_total" ["route", "result", "reason"]
        "Judgements of route policies, by result and reason.";
    counter logins "tollgate_logins_total" ["dialect", "result", "reason"]
        "Logins, by dialect, result and reason.";
    counter refreshes "tollgate_refreshes_total" ["dialect", "result", "reason"]
        "Refreshes, by dialect, result and reason.";
    counter refresh_reuse "tollgate_refresh_reuse_detected_total" []
        "Refresh tokens that were used again after their grace window; each ended its login.";
    counter tokens_issued "tollgate_tokens_issued_total" ["type"]
        "Tokens issued, by type.";
    counter cache_lookups "tollgate_token_cache_lookups_total" ["result"]
        "Look-ups in the cache of verified tokens, by result.";
    counter cache_evictions "tollgate_token_cache_evictions_total" ["cause"]
        "Entries that left the cache of verified tokens to make room.";
    gauge cache_entries "tollgate_token_cache_entries" []
        "Entries in the cache of verified tokens.";
    gauge store_in_step "tollgate_store_in_step" []
        "Whether all is known here that was revoked at any replica; 1 for a store that is not shared.";
    gauge store_staleness "tollgate_store_staleness_seconds" []
        "How long ago all was known here that was revoked at any replica, in seconds.";
    counter jwks_fetches "tollgate_jwks_fetches_total" ["issuer", "result"]
        "Fetches of external issuers' keys, by result.";
    gauge jwks_keys "tollgate_jwks_keys" ["issuer"]
        "Usable keys of an external issuer.";
    gauge jwks_last_success "tollgate_jwks_last_success_timestamp_seconds" ["issuer"]
        "When an external issuer's keys were last fetched, in seconds since the epoch; 0 before the first time.";
    counter upstream_requests "tollgate_upstream_requests_total" ["upstream", "code_class"]
        "Answers from upstreams, by class of status.";
    histogram upstream_duration "tollgate_upstream_request_duration_seconds" ["upstream"]
        "Time from sending a request to the head of the upstream's answer, in seconds.";
    counter upstream_refusals "tollgate_upstream_refusals_total" ["upstream"]
        "Answers by which an upstream refused the gate's credentials.";
    counter upstream_errors "tollgate_upstream_errors_total" ["upstream", "kind"]
        "Failures of upstreams, by kind.";
    gauge upstream_connections "tollgate_upstream_connections_open" ["upstream"]
        "Connections to upstreams that are open.";
    gauge upstream_endpoints "tollgate_upstream_endpoints" ["upstream", "state"]
        "Addresses of upstreams: up, down by their health checks, or ejected for a while since requests failed.";
    counter upstream_health_checks "tollgate_upstream_health_checks_total" ["upstream", "result"]
        "Health checks of upstreams' addresses, by result.";
    counter upstream_ejections "tollgate_upstream_ejections_total" ["upstream"]
        "Addresses that were passed over for a while since requests to them failed.";
    counter upstream_retries "tollgate_upstream_retries_total" ["upstream", "result"]
        "Requests that were sent again, or could have been but for the budget (denied).";
    counter connections "tollgate_connections_total" ["listener"]
        "Connections accepted, by listener.";
    gauge connections_open "tollgate_connections_open" ["listener"]
        "Connections that are open, by listener.";
    counter connections_cut "tollgate_connections_cut_total" ["listener", "cause"]
        "Connections that the gate refused or cut off, by cause.";
    gauge memory "tollgate_memory_bytes" []
        "Memory that the gate takes, apart from what is mapped from files, in bytes.";
    gauge memory_limit "tollgate_memory_limit_bytes" []
        "Memory beyond which nothing more is taken on, in bytes; 0 for none.";
    counter streams_cut "tollgate_http2_streams_cut_total" ["listener", "cause"]
        "HTTP/2 streams that the gate refused or cut off while their connection went on, by cause.";
    counter handshakes "tollgate_tls_handshakes_total" ["listener", "version", "result"]
        "TLS handshakes with clients, by version and result.";
    gauge not_after "tollgate_tls_certificate_not_after_timestamp_seconds" ["listener", "name"]
        "When a certificate expires, in seconds since the epoch.";
    counter spans_exported "tollgate_spans_exported_total" ["result"]
        "Spans handed to the collector, by result: taken by it (ok), rejected by it, or lost since it could not be reached (failed).";
    counter spans_dropped "tollgate_spans_dropped_total" []
        "Spans dropped since too many were waiting for the collector.";
    counter config_reloads "tollgate_config_reloads_total" ["result"]
        "Attempts to put a changed config in force, by result.";
    gauge config_last_reload "tollgate_config_last_reload_successful" []
        "Whether the last attempt to put a changed config in force succeeded; 1 before the first.";
    gauge restart_needed "tollgate_config_restart_needed" []
        "Whether parts of the config wait for a restart; the log says which.";
    gauge build_info "tollgate_build_info" ["version", "revision"]
        "Which build runs; always 1.";
}

/// From a tenth of a millisecond to ten seconds.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

/// Which version runs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// From which commit it was built, where that was told.
pub const REVISION: &str = match option_env!("TOLLGATE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

impl Metrics {
    /// A login succeeded or was refused.
    pub fn login(&self, dialect: &str, refused: Option<Reason>) {
        let [result, reason] = outcome(refused);
        self.logins
            .with_label_values(&[dialect, result, reason])
            .inc();
    }

    /// A CONNECT was judged.
    pub fn mqtt_connect(&self, route: &str, version: &str, refused: Option<Reason>) {
        let [result, reason] = outcome(refused);
        let labels = [route, version, result, reason];
        self.mqtt_connects.with_label_values(&labels).inc();
    }

    /// A packet was refused for its topics.
    pub fn mqtt_denied(&self, route: &str, action: &str) {
        self.mqtt_denied.with_label_values(&[route, action]).inc();
    }

    /// A refresh succeeded or was refused.
    pub fn refresh(&self, dialect: &str, refused: Option<Reason>) {
        let [result, reason] = outcome(refused);
        self.refreshes
            .with_label_values(&[dialect, result, reason])
            .inc();
    }

    /// A refresh token was used again.
    pub fn refresh_reused(&self) {
        self.refresh_reuse.with_label_values::<&str>(&[]).inc();
    }

    /// An access token was issued, with or without a refresh token.
    pub fn issued(&self, has_refresh: bool) {
        self.tokens_issued.with_label_values(&["access"]).inc();
        if has_refresh {
            self.tokens_issued.with_label_values(&["refresh"]).inc();
        }
    }

    /// A connection was accepted; it is open until the guard is dropped.
    #[must_use]
    pub fn connection(&self, listener: &str) -> Open {
        self.connections.with_label_values(&[listener]).inc();
        Open::new(self.connections_open.with_label_values(&[listener]))
    }

    /// A connection was refused or cut off.
    pub fn cut(&self, listener: &str, cause: &'static str) {
        let cut = self.connections_cut.with_label_values(&[listener, cause]);
        cut.inc();
    }

    /// So many bytes of memory are taken, of so many.
    pub fn memory(&self, taken: u64, most: Option<u64>) {
        for (gauge, bytes) in [
            (&self.memory, taken),
            (&self.memory_limit, most.unwrap_or(0)),
        ] {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            gauge.with_label_values::<&str>(&[]).set(bytes);
        }
    }

    /// So many HTTP/2 streams were refused or cut off.
    pub fn streams_cut(&self, listener: &str, cause: &'static str, count: u64) {
        let cut = self.streams_cut.with_label_values(&[listener, cause]);
        cut.inc_by(count);
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

    /// A certificate is served no more.
    pub fn no_certificate(&self, listener: &str, name: &str) {
        // One that was never there is as good as removed.
        let _ = self.not_after.remove_label_values(&[listener, name]);
    }

    /// So many entries are in the cache of verified tokens.
    pub fn set_cache_entries(&self, entries: usize) {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.cache_entries
            .with_label_values::<&str>(&[])
            .set(entries);
    }

    /// How this replica stands to the store, and since how many seconds.
    pub fn store(&self, is_in_step: bool, staleness: u64) {
        let in_step = self.store_in_step.with_label_values::<&str>(&[]);
        in_step.set(is_in_step.into());
        let staleness = i64::try_from(staleness).unwrap_or(i64::MAX);
        let gauge = self.store_staleness.with_label_values::<&str>(&[]);
        gauge.set(staleness);
    }

    /// An address of an upstream was asked how it does.
    pub fn health_checked(&self, upstream: &str, is_good: bool) {
        let result = if is_good { "ok" } else { "failed" };
        self.upstream_health_checks
            .with_label_values(&[upstream, result])
            .inc();
    }

    /// How many addresses of an upstream are in which state.
    pub fn upstream_endpoints(&self, upstream: &str, states: [(&str, usize); 3]) {
        for (state, count) in states {
            let gauge = self
                .upstream_endpoints
                .with_label_values(&[upstream, state]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// An external issuer's keys were fetched, so many; or, without a number, they were not.
    pub fn keys_fetched(&self, issuer: &str, keys: Option<usize>, last_success: u64) {
        let result = if keys.is_some() { "ok" } else { "failed" };
        self.jwks_fetches.with_label_values(&[issuer, result]).inc();
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        if let Some(keys) = keys.and_then(|keys| i64::try_from(keys).ok()) {
            self.jwks_keys.with_label_values(&[issuer]).set(keys);
        }
        self.jwks_last_success
            .with_label_values(&[issuer])
            .set(gauge(last_success));
    }

    /// So many spans were handed to the collector, or not.
    pub fn spans_exported(&self, result: &'static str, count: u64) {
        self.spans_exported
            .with_label_values(&[result])
            .inc_by(count);
    }

    /// Where spans are counted that nobody waits for.
    #[must_use]
    pub fn spans_dropped(&self) -> IntCounter {
        self.spans_dropped.with_label_values::<&str>(&[])
    }

    /// A changed config was put in force, or refused.
    pub fn reloaded(&self, is_success: bool) {
        let result = if is_success { "ok" } else { "refused" };
        self.config_reloads.with_label_values(&[result]).inc();
        self.config_last_reload
            .with_label_values::<&str>(&[])
            .set(i64::from(is_success));
    }

    /// Whether the config in force has parts that only a restart puts in force.
    pub fn waits_for_restart(&self, does_wait: bool) {
        self.restart_needed
            .with_label_values::<&str>(&[])
            .set(i64::from(does_wait));
    }

    /// This build runs, with the config that it started with.
    pub fn set_build_info(&self) {
        self.config_last_reload
            .with_label_values::<&str>(&[])
            .set(1);
        self.waits_for_restart(false);
        // There from the first scrape on, so that an alert can tell zero from nothing.
        self.refresh_reuse.with_label_values::<&str>(&[]).inc_by(0);
        self.build_info
            .with_label_values(&[VERSION, REVISION])
            .set(1);
    }
}
