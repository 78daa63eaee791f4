//! How do an upstream's endpoints do? Each is asked again and again.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cluster::Member;
use super::config::HealthCheckConfig;
use super::{Protocol, UpstreamSpec, open};
use crate::telemetry::metrics::Metrics;

/// Why an endpoint is not well.
#[derive(Debug, thiserror::Error)]
enum Ill {
    #[error(transparent)]
    Closed(#[from] open::OpenError),
    #[error("the exchange failed")]
    Broken(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it did not answer within health_check.timeout")]
    Late,
    #[error("the question could not be made")]
    Question(#[from] http::Error),
}

/// How often in a row the checks of each member said the opposite of what holds.
type Streaks = Vec<(Arc<Member>, u32)>;

/// Checks all members, for ever.
pub(super) async fn follow(spec: &UpstreamSpec, config: &HealthCheckConfig, metrics: &Metrics) {
    let mut ticks = interval(config.interval.0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streaks = Streaks::new();
    loop {
        ticks.tick().await;
        let members = spec.cluster.members();
        let checks = members.iter().map(|member| async move {
            let checked = timeout(config.timeout.0, check(spec, config, member)).await;
            checked.unwrap_or(Err(Ill::Late))
        });
        let outcomes = join_all(checks).await;
        let streak = |member: &Arc<Member>| {
            let known = streaks.iter().find(|(known, _)| Arc::ptr_eq(known, member));
            (Arc::clone(member), known.map_or(0, |(_, streak)| *streak))
        };
        streaks = members.iter().map(streak).collect();
        for ((member, streak), outcome) in streaks.iter_mut().zip(outcomes) {
            metrics.health_checked(&spec.name, outcome.is_ok());
            judge(spec, config, member, outcome, streak);
        }
    }
}

fn judge(
    spec: &UpstreamSpec,
    config: &HealthCheckConfig,
    member: &Member,
    outcome: Result<(), Ill>,
    streak: &mut u32,
) {
    if outcome.is_ok() == member.is_up() {
        *streak = 0;
        return;
    }
    *streak = streak.saturating_add(1);
    let needed = match outcome {
        Ok(()) => config.healthy_after,
        Err(_) => config.unhealthy_after,
    };
    if *streak < needed || !member.set_up(outcome.is_ok()) {
        return;
    }
    *streak = 0;
    let upstream = &*spec.name;
    match outcome {
        Ok(()) => tracing::info!(upstream, endpoint = %member, "an endpoint is well again"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(upstream, endpoint = %member, error, "an endpoint is not well and is not asked");
        }
    }
}

/// Asks one member.
async fn check(
    spec: &UpstreamSpec,
    config: &HealthCheckConfig,
    member: &Member,
) -> Result<(), Ill> {
    let stream = TokioIo::new(open::stream(spec, member).await?);
    let Some(path) = &config.path else {
        return Ok(());
    };
    let host = config.host.as_deref().unwrap_or(&spec.authority);
    let status = match spec.config.protocol {
        Protocol::Http1 | Protocol::Mqtt => {
            let request = request(path.parse().map_err(http::Error::from)?, Some(host))?;
            let (mut sender, connection) = http1::handshake(stream).await?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await;
            connection.abort();
            response?.status()
        }
        Protocol::Http2 => {
            let scheme = match member.endpoint.tls_name.is_some() {
                true => "https",
                false => "http",
            };
            let uri = Uri::builder()
                .scheme(scheme)
                .authority(host)
                .path_and_query(path.as_str())
                .build()?;
            let request = request(uri, None)?;
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await;
            connection.abort();
            response?.status()
        }
    };
    match config.is_good(status) {
        true => Ok(()),
        false => Err(Ill::Status(status)),
    }
}

fn request(uri: Uri, host: Option<&str>) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static("tollgate-health-check"),
    );
    match host {
        Some(host) => {
            headers.insert(HOST, HeaderValue::from_str(host)?);
        }
        None => *request.version_mut() = Version::HTTP_2,
    }
    Ok(request)
}
