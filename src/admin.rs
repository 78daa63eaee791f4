//! What may operators and probes ask? On an address of its own, never on a public listener:
//!
//! - `GET /livez`: 200 while the process runs.
//! - `GET /readyz`: 200 while it serves, 503 once it drains.
//! - `GET /metrics`: Prometheus' text format.
//! - `GET /`: this list.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::{Duration, sleep};

use crate::config::problem::Problems;
use crate::config::value::Expanded;
use crate::server::drain::Drain;
use crate::snapshot::Shared;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::scrape::Registries;

/// Where operators and probes connect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port. Port 0 picks a free one.
    #[serde(default = "default_address")]
    pub address: Expanded,
    /// Danger: lets the address be one that other machines reach. Whoever reaches it can read
    /// metrics, without any credential. In a pod, probes and Prometheus need this.
    #[serde(default)]
    pub danger_public: bool,
}

fn default_address() -> Expanded {
    Expanded("127.0.0.1:9901".to_owned())
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            address: default_address(),
            danger_public: false,
        }
    }
}

impl AdminConfig {
    /// Checks the address; notes every problem.
    #[must_use]
    pub fn build(&self, problems: &mut Problems) -> Option<SocketAddr> {
        let text = &self.address.0;
        let address = text.parse::<SocketAddr>();
        let address = address
            .map_err(|_| format!("`{text}` is not an address and port, such as 127.0.0.1:9901"));
        let address = problems.take("admin.address", address)?;
        if !address.ip().is_loopback() && !self.danger_public {
            problems.add(
                "admin.address",
                "other machines could read the metrics: use a loopback address or say `danger_public: true`",
            );
        }
        Some(address)
    }
}

/// What the admin listener tells of.
#[derive(Debug)]
pub struct Admin {
    /// Everything that is counted.
    pub registries: Registries,
    /// What is counted outside the workers.
    pub metrics: Metrics,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Whether the gate is going down.
    pub drain: Drain,
}

impl Admin {
    /// Serves until the task is dropped.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub async fn serve(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let admin = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = admin.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        }
        match request.uri().path() {
            "/" => text(StatusCode::OK, INDEX),
            "/metrics" => self.scrape(),
            "/readyz" if self.drain.has_begun() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
            "/livez" | "/readyz" => text(StatusCode::OK, "ok\n"),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn scrape(&self) -> Response<Full<Bytes>> {
        self.metrics.set_cache_entries(self.shared.cache.entries());
        match self.registries.scrape() {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(error) => {
                tracing::error!(%error, "the metrics could not be written");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the metrics could not be written\n",
                )
            }
        }
    }
}

const INDEX: &str = "tollgate admin: /livez /readyz /metrics\n";

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
