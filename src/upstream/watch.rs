//! Who keeps what is known of an upstream's endpoints fresh? One task for each upstream, on the
//! main thread.

use futures_util::future::{join, join_all};

use super::{UpstreamSpec, dns, health};
use crate::telemetry::metrics::Metrics;

/// Asks the DNS for the names among the endpoints, and the endpoints how they do, for ever.
pub(crate) async fn watch(spec: &UpstreamSpec, metrics: &Metrics) {
    let names = spec.cluster.names();
    let names = names
        .iter()
        .map(|(at, host, port)| dns::follow(spec, *at, host, *port));
    let checks = async {
        if let Some(config) = &spec.config.health_check {
            health::follow(spec, config, metrics).await;
        }
    };
    join(join_all(names), checks).await;
}

/// Waits until each name was asked for once, but no longer than connecting may take.
pub(crate) async fn first_answers(spec: &UpstreamSpec) {
    let limit = spec.config.connect_timeout.0;
    let _ = tokio::time::timeout(limit, spec.cluster.known()).await;
}
