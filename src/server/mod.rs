//! Who listens, with how many threads, and how does it all begin and end?
//!
//! Each worker is a thread with a current-thread runtime, listeners of its own on the same
//! addresses (`SO_REUSEPORT`) and connections of its own to the upstreams.

pub mod connection;
pub mod drain;
pub(crate) mod frames;
pub mod guard;
pub mod listener;
mod mqtt;
pub mod peer;
pub(crate) mod shed;
mod streams;
pub mod tls;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::problem::Problems;
use crate::config::value::{Size, Span};
use crate::forward_auth::ForwardAuthConfig;
use crate::gate::Gate;
use crate::mqtt::config::{MqttLimits, Spoken};
use crate::pace::Rate;
use crate::snapshot::Shared;
use crate::telemetry::batch::{batch_lines, end_batches};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::scrape::Registries;
use crate::token::cache::SWEEP_INTERVAL;
use drain::{Drain, WorkerDrain};
use listener::{Listener, accept};
use shed::{Addresses, Admission};
use tls::TlsConfig;

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Address and port, such as `0.0.0.0:8443`. Port 0 picks a free one.
    pub address: crate::config::value::Expanded,
    /// The name in metrics. Default: the address.
    #[serde(default)]
    pub name: Option<String>,
    /// What is spoken: `http`, or `mqtt` (over TLS by ALPN `mqtt`, or without ALPN).
    #[serde(default)]
    pub protocol: Spoken,
    /// The path that a connection of MQTT stands for, since it names none: by it and the host that
    /// is asked for by SNI its route is found, one with `protocol: mqtt`.
    #[serde(default)]
    pub path: Option<String>,
    /// Certificates and versions. Without it the listener speaks plain HTTP/1.1 or MQTT, for
    /// clients on the same machine.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Danger: speaks without TLS on an address that other machines reach. Tokens and passwords
    /// can then be read on the way, unless something in front terminates TLS.
    #[serde(default)]
    pub danger_plaintext: bool,
    /// Networks of proxies in front, such as `10.1.0.0/16`. Only if one of them is connected are
    /// `X-Forwarded-For` and `X-Forwarded-Proto` believed; the client is then the last address
    /// that is not one of theirs. Default: none.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// Danger: `trusted_proxies` may hold nearly every address, so that whoever connects can
    /// pass for any client.
    #[serde(default)]
    pub danger_trust_everyone: bool,
    /// Nothing is served here: one of `trusted_proxies` asks at `/verify` whether a request that
    /// came to it may pass, and with which credentials. Default: requests are served.
    #[serde(default)]
    pub forward_auth: Option<ForwardAuthConfig>,
}

impl ListenerConfig {
    /// Whether nothing differs but what a running listener can take on: its certificates and the
    /// versions of TLS.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        let without = |config: &Self| Self {
            tls: None,
            ..config.clone()
        };
        self.tls.is_some() == other.tls.is_some() && without(self) == without(other)
    }
}

/// Bounds on what clients may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The most open connections, over all listeners. Further ones get 503, or over TLS are
    /// closed.
    pub connections: usize,
    /// The most open connections of one address (of IPv6, of one /64). Further ones get 429, or
    /// over TLS are closed. Addresses in `trusted_proxies` may have any number.
    pub connections_per_address: usize,
    /// How much memory the gate may take, apart from what is mapped from files, before it takes on
    /// nothing more: further connections and requests get 503, connections over TLS are closed,
    /// until it takes less again. `0B`: any amount. Default: nine tenths of the cgroup's limit
    /// (that of the container), if there is one.
    pub memory: Option<Size>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Span,
    /// How long a request's head may take, and how long a connection may wait for one.
    pub header_timeout: Span,
    /// The largest head of a request.
    pub header_size: Size,
    /// The most fields in a request's head.
    pub header_count: usize,
    /// How long a client may take nothing of what it is sent before its connection is closed, or
    /// over HTTP/2 its stream; `0s`: for ever.
    pub send_timeout: Span,
    /// The least rate at which a client has to send a body, in bytes per second, else it gets 408;
    /// `0B`: any. Only time in which the gate waits for the client counts; so does that of a body
    /// which pauses on purpose.
    pub min_upload_rate: Size,
    /// The least rate at which a client has to take what waits for it, in bytes per second, else
    /// its connection is closed, or over HTTP/2 its stream; `0B`: any. Answers and tunnels that
    /// have nothing to send wait for nobody.
    pub min_download_rate: Size,
    /// How far a client may fall behind the two least rates.
    pub rate_grace: Span,
    /// How long a connection that is closed while its client is still sending reads on, so that
    /// the client sees the answer; `0s`: not at all.
    pub linger_time: Span,
    /// How long an exchange may take as a whole, from its head to its answer's last byte; tunnels
    /// are left out. Default: `0s`, for ever.
    pub request_time: Span,
    /// The largest body of a login or refresh.
    pub login_body: Size,
    /// How long the body of a login or refresh may take.
    pub login_timeout: Span,
    /// How many threads hash passwords.
    pub hashing_threads: usize,
    /// How many logins may wait for a hashing thread; further ones get 503.
    pub hashing_queue: usize,
    /// The largest state file; beyond it logins and refreshes are refused.
    pub state_size: Size,
    /// The most requests under way on one HTTP/2 connection.
    pub http2_streams: u32,
    /// The most streams that an HTTP/2 client may reset within ten seconds.
    pub http2_resets: u32,
    /// Bounds on what clients of MQTT may take.
    pub mqtt: MqttLimits,
    /// The most frames that carry nothing (pings, settings, priorities, continuations, empty
    /// data) that an HTTP/2 client may send within ten seconds.
    pub http2_control_frames: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 4096,
            memory: None,
            handshake_timeout: Span::seconds(10),
            header_timeout: Span::seconds(60),
            header_size: Size(64 * 1024),
            header_count: 100,
            send_timeout: Span::seconds(60),
            min_upload_rate: Size(240),
            min_download_rate: Size(240),
            rate_grace: Span::seconds(60),
            linger_time: Span::seconds(30),
            request_time: Span::seconds(0),
            login_body: Size(64 * 1024),
            login_timeout: Span::seconds(10),
            hashing_threads: 1,
            hashing_queue: 64,
            state_size: Size(4 * 1024 * 1024 * 1024),
            http2_streams: 128,
            http2_resets: 500,
            http2_control_frames: 2000,
            mqtt: MqttLimits::default(),
        }
    }
}

impl LimitsConfig {
    /// At which rate bodies have to come.
    #[must_use]
    pub const fn upload_rate(&self) -> Rate {
        Rate {
            bytes: self.min_upload_rate.0,
            grace: self.rate_grace.0,
        }
    }

    /// At which rate answers have to be taken.
    #[must_use]
    pub const fn download_rate(&self) -> Rate {
        Rate {
            bytes: self.min_download_rate.0,
            grace: self.rate_grace.0,
        }
    }

    /// Notes every bound that would keep everybody out.
    pub fn check(&self, problems: &mut Problems) {
        let is_zero = [
            ("connections", self.connections == 0),
            ("connections_per_address", self.connections_per_address == 0),
            ("handshake_timeout", self.handshake_timeout.0.is_zero()),
            ("header_timeout", self.header_timeout.0.is_zero()),
            ("header_size", self.header_size.0 == 0),
            ("header_count", self.header_count == 0),
            ("rate_grace", self.rate_grace.0.is_zero()),
            ("login_body", self.login_body.0 == 0),
            ("login_timeout", self.login_timeout.0.is_zero()),
            ("hashing_threads", self.hashing_threads == 0),
            ("http2_streams", self.http2_streams == 0),
            ("http2_control_frames", self.http2_control_frames == 0),
        ];
        let is_zero = is_zero.into_iter().chain(self.mqtt.is_zero());
        for (key, _) in is_zero.filter(|(_, is_zero)| *is_zero) {
            problems.add(
                format_args!("limits.{key}"),
                "must be more than nothing: with none, nobody could be served",
            );
        }
    }
}

/// How the gate goes down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// How long the gate goes on accepting after the signal, while `/readyz` fails already:
    /// whoever sends it connections needs time to notice. In Kubernetes some seconds, and together
    /// with `grace` less than the pod's `terminationGracePeriodSeconds`. Default: `0s`, for a gate
    /// to which nothing but its address leads.
    pub delay: Span,
    /// How long requests under way may take to end after the signal.
    pub grace: Span,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            delay: Span::seconds(0),
            grace: Span::seconds(30),
        }
    }
}

/// Workers that serve.
#[derive(Debug)]
pub struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    /// Starts `count` workers on these listeners.
    ///
    /// # Errors
    /// If a socket, thread or runtime cannot be had.
    pub fn start(
        count: usize,
        listeners: &[Arc<Listener>],
        shared: &Arc<Shared>,
        registries: &Registries,
        drain: &Drain,
    ) -> Result<Self, io::Error> {
        let mut workers = Vec::with_capacity(count);
        let addresses = Arc::new(Addresses::default());
        for index in 0..count {
            let sockets = listeners.iter().map(|listener| listener.socket());
            let work = Work {
                listeners: listeners
                    .iter()
                    .cloned()
                    .zip(sockets.collect::<Result<Vec<_>, _>>()?)
                    .collect(),
                shared: Arc::clone(shared),
                metrics: Metrics::new().map_err(io::Error::other)?,
                drain: drain.clone(),
                connections: (shared.current().limits.connections / count).max(1),
                addresses: Arc::clone(&addresses),
            };
            registries.add(&work.metrics);
            let worker = thread::Builder::new().name(format!("worker-{index}"));
            workers.push(worker.spawn(move || work.run())?);
        }
        Ok(Self(workers))
    }

    /// Waits until every worker has ended.
    pub fn join(self) {
        for worker in self.0 {
            if worker.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
    }
}

/// What one worker needs.
struct Work {
    listeners: Vec<(Arc<Listener>, std::net::TcpListener)>,
    shared: Arc<Shared>,
    metrics: Metrics,
    drain: Drain,
    connections: usize,
    addresses: Arc<Addresses>,
}

impl Work {
    fn run(self) {
        let options = LocalOptions::default();
        let runtime = match Builder::new_current_thread()
            .enable_all()
            .build_local(options)
        {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "a worker's runtime could not be started");
                return;
            }
        };
        runtime.block_on(self.serve());
        end_batches();
    }

    async fn serve(self) {
        let gate = Gate::new(self.shared, self.metrics);
        let admission = Admission::new(self.connections, self.addresses);
        let drain = WorkerDrain::default();
        let mut listening = Vec::with_capacity(self.listeners.len());
        for (listener, socket) in self.listeners {
            let accepting = accept(
                listener,
                socket,
                Rc::clone(&gate),
                admission.clone(),
                drain.clone(),
            );
            listening.push(spawn_local(accepting));
        }
        spawn_local(batch_lines());
        spawn_local(sweep(gate));
        self.drain.clone().begun().await;
        drain.begin();
        for task in listening {
            let _ = task.await;
        }
        // All accepting has ended: wait for the connections that are left.
        let all = u32::try_from(self.connections).unwrap_or(u32::MAX);
        self.drain
            .give_up_after(admission.permits.acquire_many(all))
            .await;
    }
}

async fn sweep(gate: Rc<Gate>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        gate.sweep();
    }
}
