//! What may operators and probes ask? On an address of its own, never on a public listener:
//!
//! - `GET /livez`: 200 while the process runs.
//! - `GET /readyz`: 200 while it serves, 503 once it is told to end or before the store was first read; it
//!   says whether the store cannot be asked.
//! - `GET /metrics`: Prometheus' text format.
//! - `GET /keys`: which keys tokens are judged with, in JSON; never the keys themselves.
//! - `POST /revoke`: takes tokens back; a JSON object with one of `subject`, `family`,
//!   `token_id`, `application_token` (its number), or `everything`.
//! - `GET /`: this list.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::{Duration, sleep};

use crate::clock;
use crate::config::problem::Problems;
use crate::config::value::Expanded;
use crate::server::drain::Drain;
use crate::snapshot::Shared;
use crate::store::StoreError;
use crate::store::application::ApplicationChange;
use crate::store::health::Phase;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::scrape::Registries;
use crate::token::listing::KeyListing;
use crate::token::revocation::Revoked;

/// Where operators and probes connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port. Port 0 picks a free one.
    #[serde(default = "default_address")]
    pub address: Expanded,
    /// Danger: lets the address be one that other machines reach. Whoever reaches it can read
    /// metrics and the names of keys, without any credential. Probes
    /// (`tollgate healthcheck`) do not need it, nor does Prometheus (docs/deploy.md).
    #[serde(default)]
    pub danger_public: bool,
    /// Whether `/readyz` fails while the store cannot be asked. Default: it says `degraded`, with
    /// 200, since tokens are still judged.
    #[serde(default)]
    pub ready_needs_store: bool,
}

fn default_address() -> Expanded {
    Expanded("127.0.0.1:9901".to_owned())
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            address: default_address(),
            danger_public: false,
            ready_needs_store: false,
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
    /// Whether only this machine reaches the listener.
    pub is_loopback: bool,
    /// Whether the gate counts as ready only while its store can be asked.
    pub ready_needs_store: bool,
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
                    let admin = Arc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.answer(request).await) }
                });
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let method = request.method().clone();
        match (&method, request.uri().path()) {
            (&Method::POST, "/revoke") => self.revoke(request).await,
            (&Method::GET | &Method::HEAD, path) => self.show(path),
            _ => text(StatusCode::METHOD_NOT_ALLOWED, INDEX),
        }
    }

    fn show(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/" => text(StatusCode::OK, INDEX),
            "/metrics" => self.scrape(),
            "/keys" => self.keys(),
            "/readyz" => self.ready(),
            "/livez" => text(StatusCode::OK, "ok\n"),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let unready = |why| text(StatusCode::SERVICE_UNAVAILABLE, why);
        if self.drain.is_announced() {
            return unready("draining\n");
        }
        match self.shared.health.phase() {
            Phase::InStep => text(StatusCode::OK, "ok\n"),
            Phase::Behind if !self.ready_needs_store => text(StatusCode::OK, DEGRADED),
            Phase::Behind => unready(DEGRADED),
            Phase::Starting | Phase::Wrong(_) => {
                unready("not ready: the store has not been read yet\n")
            }
        }
    }

    /// Takes tokens back. Only on loopback, and never for a web page: those cannot send JSON
    /// without being allowed to, and a rebound name is not a loopback host.
    async fn revoke(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.is_loopback || !is_local(request.headers()) {
            let why = "revoking is for callers on this machine, over the loopback address\n";
            return text(StatusCode::FORBIDDEN, why);
        }
        let body = Limited::new(request.into_body(), MAX_REVOKE)
            .collect()
            .await;
        let asked: Option<RevokeRequest> = body
            .ok()
            .and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
        let Some(asked) = asked else {
            let why = "expected a JSON object with one of subject, family, token_id, application_token, everything\n";
            return text(StatusCode::BAD_REQUEST, why);
        };
        match self.take_back(asked).await {
            Ok(true) => text(StatusCode::OK, "revoked\n"),
            Ok(false) => text(StatusCode::NOT_FOUND, "there is nothing to revoke\n"),
            Err(error) => {
                tracing::error!(%error, "a revocation could not be stored");
                text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "in force here, but not stored\n",
                )
            }
        }
    }

    /// Whether there was something to take back.
    async fn take_back(&self, asked: RevokeRequest) -> Result<bool, StoreError> {
        let revoked = match asked {
            RevokeRequest::Family(family) => Revoked::Family(family),
            RevokeRequest::Subject(subject) => Revoked::Subject(subject),
            RevokeRequest::TokenId(id) => Revoked::Token(id),
            RevokeRequest::Everything(true) => Revoked::All,
            RevokeRequest::Everything(false) => return Ok(false),
            RevokeRequest::ApplicationToken(id) => {
                let change = ApplicationChange {
                    description: None,
                    revoke: true,
                };
                let store = &self.shared.store;
                match store.change_application(id, None, change).await? {
                    Some(token) => Revoked::Family(token.family),
                    None => return Ok(false),
                }
            }
        };
        self.shared.revoke(revoked).await.map(|()| true)
    }

    fn keys(&self) -> Response<Full<Bytes>> {
        let listing = KeyListing::of(&self.shared.current().tokens);
        match serde_json::to_vec(&listing) {
            Ok(json) => {
                let mut response = text(StatusCode::OK, json);
                let kind = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => {
                tracing::error!(%error, "the keys could not be listed");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the keys could not be listed\n",
                )
            }
        }
    }

    fn scrape(&self) -> Response<Full<Bytes>> {
        self.metrics.set_cache_entries(self.shared.cache.entries());
        for upstream in &self.shared.current().upstreams {
            let census = upstream.cluster.census(clock::now());
            let states = [
                ("up", census.up),
                ("down", census.down),
                ("ejected", census.ejected),
            ];
            self.metrics.upstream_endpoints(&upstream.name, states);
        }
        let health = &self.shared.health;
        let is_in_step = health.phase() == Phase::InStep;
        let staleness = health.staleness(clock::unix_now());
        self.metrics.store(is_in_step, staleness.as_secs());
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

const INDEX: &str = "tollgate admin: GET /livez /readyz /metrics /keys, POST /revoke\n";
const DEGRADED: &str = "degraded: store cannot be asked; tokens are judged from memory\n";
/// The longest body of a revocation, in bytes.
const MAX_REVOKE: usize = 4096;

/// What a caller wants to take back.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RevokeRequest {
    /// An application token, by its number, with all that it bought.
    ApplicationToken(u64),
    /// Every token that was issued up to now, and every application token.
    Everything(bool),
    /// Every token of one login.
    Family(String),
    /// Every token of a subject.
    Subject(String),
    /// One token.
    TokenId(String),
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let host = text(HOST).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    is_json && matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
