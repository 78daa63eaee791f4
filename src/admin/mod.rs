//! What may operators and probes ask? On an address of its own, never on a public listener:
//!
//! - `GET /livez`: 200 while the process runs.
//! - `GET /readyz`: 200 while it serves, 503 once it is told to end or before the store was first read; it
//!   says whether the store cannot be asked.
//! - `GET /metrics`: Prometheus' text format.
//! - `GET /`: a page for people, or for other clients this list.
//! - `GET /status`: what the page's plots and tables show, in JSON.
//! - `GET /keys`: which keys tokens are judged with, in JSON; never the keys themselves.
//! - `GET /config`: the config in force, without secrets.
//! - `GET /sessions`, `GET /application-tokens`: some of them; `search` and `limit` say which.
//! - `POST /inspect`: what the gate would do with a request and a token, and why.
//! - `POST /revoke`: takes tokens back; a JSON object with one of `subject`, `family`,
//!   `token_id`, `application_token` (its number), or `everything`.
//!
//! Who may ask is told in `door`.

mod connection;
mod door;
mod inspect;
mod page;
mod reply;
mod revoke;
mod session;
mod sessions;
mod settings;
mod status;
mod told;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, StatusCode, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Duration, timeout};

use crate::clock;
use crate::server::drain::Drain;
use crate::server::listener::Listener;
use crate::snapshot::Shared;
use crate::store::health::Phase;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::scrape::Registries;
use crate::token::listing::KeyListing;
pub use door::Door;
use door::{Caller, is_json};
use reply::{Reply, json, text};
pub use revoke::RevokeRequest;
pub use settings::{AdminConfig, AdminSpec};
pub(crate) use told::wants;

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
    /// Where clients connect.
    pub listeners: Vec<Arc<Listener>>,
    /// Who may ask.
    pub door: ArcSwap<Door>,
    /// The config in force, as it may be shown.
    pub shown: ArcSwap<Value>,
    /// Whether the gate counts as ready only while its store can be asked.
    pub ready_needs_store: bool,
}

/// What the admin listener is called among those of the config.
const NAME: &str = "(admin)";
/// The longest body, in bytes: a token and some words.
const MAX_BODY: usize = 32 * 1024;
/// How long it may take to come.
const BODY: Duration = Duration::from_secs(5);

impl Admin {
    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        match (&head.method, head.uri.path()) {
            (&Method::GET | &Method::HEAD, "/livez") => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready(),
            (&Method::GET | &Method::HEAD, "/metrics") if self.door.load().opens_metrics() => {
                self.scrape()
            }
            (&Method::GET | &Method::HEAD, _) => match self.admit(peer, &head).await {
                Ok(_) => self.show(&head).await,
                Err(reply) => reply,
            },
            (&Method::POST, "/inspect" | "/revoke") => match self.admit(peer, &head).await {
                Ok(caller) => self.act(&caller, &head, body).await,
                Err(reply) => reply,
            },
            _ => text(StatusCode::METHOD_NOT_ALLOWED, INDEX),
        }
    }

    async fn admit(&self, peer: SocketAddr, head: &request::Parts) -> Result<Caller, Reply> {
        let door = self.door.load_full();
        let client = peer.ip().to_canonical();
        door.admit(&self.shared, client, head).await
    }

    async fn show(&self, head: &request::Parts) -> Reply {
        let shared = &self.shared;
        match head.uri.path() {
            "/" if !page::is_wanted(&head.headers) => text(StatusCode::OK, INDEX),
            "/metrics" => self.scrape(),
            "/status" => json(&status::of(self)),
            "/keys" => json(&KeyListing::of(&shared.current().tokens)),
            "/config" => json(&**self.shown.load()),
            "/sessions" => sessions::sessions(shared, &head.uri).await,
            "/application-tokens" => sessions::application_tokens(shared, &head.uri).await,
            path => page::file(path).unwrap_or_else(|| text(StatusCode::NOT_FOUND, INDEX)),
        }
    }

    /// What a body asks for. JSON alone: a page of another site cannot send that without being
    /// allowed to.
    async fn act(&self, caller: &Caller, head: &request::Parts, body: Incoming) -> Reply {
        if !is_json(&head.headers) {
            return text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send application/json\n",
            );
        }
        let body = timeout(BODY, Limited::new(body, MAX_BODY).collect()).await;
        let Ok(Ok(body)) = body else {
            let why = "the body is too long, takes too long, or broke off\n";
            return text(StatusCode::BAD_REQUEST, why);
        };
        let body = body.to_bytes();
        match head.uri.path() {
            "/inspect" => inspect::inspect(self, &body).await,
            _ => revoke::revoke(&self.shared, caller, &body).await,
        }
    }

    /// Lets in other operators from now on, and shows another certificate.
    pub fn renew(&self, door: Door) {
        for (name, _) in &self.door.swap(Arc::new(door)).expiries {
            self.metrics.no_certificate(NAME, name);
        }
        self.tell_expiries();
    }

    /// Puts in the metrics when its certificates expire.
    pub fn tell_expiries(&self) {
        for (name, expires) in &self.door.load().expiries {
            self.metrics.certificate(NAME, name, *expires);
        }
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.door.load().tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    fn readiness(&self) -> (StatusCode, &'static str) {
        if self.drain.is_announced() {
            return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        match self.shared.health.phase() {
            Phase::InStep => (StatusCode::OK, "ok\n"),
            Phase::Behind if !self.ready_needs_store => (StatusCode::OK, DEGRADED),
            Phase::Behind => (StatusCode::SERVICE_UNAVAILABLE, DEGRADED),
            Phase::Starting | Phase::Wrong(_) => {
                let why = "not ready: the store has not been read yet\n";
                (StatusCode::SERVICE_UNAVAILABLE, why)
            }
        }
    }

    fn ready(&self) -> Reply {
        let (status, why) = self.readiness();
        text(status, Bytes::from_static(why.as_bytes()))
    }

    /// Brings the metrics up to now that are not counted as things happen.
    fn look_around(&self) {
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
    }

    fn scrape(&self) -> Reply {
        self.look_around();
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

const INDEX: &str = "tollgate admin: GET / (a page, for browsers) /livez /readyz /metrics /status /keys /config /sessions /application-tokens, POST /inspect /revoke\n";
const DEGRADED: &str = "degraded: store cannot be asked; tokens are judged from memory\n";
