//! What is to be served? The root of the config; each section's type lives with its module.

pub mod files;
pub mod guard;
pub mod load;
pub mod place;
pub mod problem;
pub mod secret;
pub mod shown;
pub mod value;

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::admin::AdminConfig;
use crate::cli::reload::ReloadConfig;
use crate::dialect::LoginConfig;
use crate::identity::IdentityConfig;
use crate::identity::throttle::ThrottleConfig;
use crate::route::RouteConfig;
use crate::server::{DrainConfig, LimitsConfig, ListenerConfig};
use crate::store::StoreConfig;
use crate::telemetry::LogConfig;
use crate::telemetry::trace::TracingConfig;
use crate::token::TokensConfig;
use crate::upstream::config::UpstreamConfig;
use crate::upstream::dns::DnsConfig;

/// The whole config of a gate. Unknown keys are errors; relative paths start at the config
/// file's folder.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect. At least one.
    pub listeners: Vec<ListenerConfig>,
    /// Where operators and probes connect: `/livez`, `/readyz`, `/metrics`, and a page in a browser.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Threads that serve, each with its own listener and upstream connections.
    /// Default: the number of cores.
    #[serde(default)]
    pub workers: Option<usize>,
    /// What tokens look like, how long they live, which keys sign and verify them.
    pub tokens: TokensConfig,
    /// Who knows users; asked in this order.
    #[serde(default)]
    pub identity: Vec<IdentityConfig>,
    /// Where the gate keeps what outlives a request. Default: the file `state.redb` beside the
    /// config.
    #[serde(default)]
    pub store: StoreConfig,
    /// The services behind the gate, by name.
    #[serde(default)]
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Whom to ask for the addresses of upstreams.
    #[serde(default)]
    pub dns: DnsConfig,
    /// The login dialects that the gate answers itself. A dialect that is not listed leaves its
    /// paths to the routes.
    #[serde(default)]
    pub login: Vec<LoginConfig>,
    /// Which requests may pass, to where, and what they need for it.
    pub routes: Vec<RouteConfig>,
    /// Bounds on what clients may take.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How failed logins slow further ones down.
    #[serde(default)]
    pub throttle: ThrottleConfig,
    /// What is logged.
    #[serde(default)]
    pub log: LogConfig,
    /// Traces of exchanges. Default: none.
    #[serde(default)]
    pub tracing: Option<TracingConfig>,
    /// How changes are noticed while the gate serves.
    #[serde(default)]
    pub reload: ReloadConfig,
    /// How the gate goes down.
    #[serde(default)]
    pub drain: DrainConfig,
    /// Danger: takes files with keys, passwords or users that others on this machine can read or
    /// change, and a config and certificates that others can change.
    #[serde(default)]
    pub danger_loose_files: bool,
    /// Danger: lets the system write a core dump if the process crashes, as large as its hard limit
    /// allows, and debuggers attach. A dump holds every secret that the process has.
    #[serde(default)]
    pub danger_core_dumps: bool,
}

impl Config {
    /// Whether requests go on to upstreams, and are not only judged for another proxy.
    #[must_use]
    pub fn forwards(&self) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|listener| listener.forward_auth.is_none())
    }

    /// How many workers serve.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers
            .or_else(|| available_parallelism().ok().map(usize::from))
            .unwrap_or(1)
    }
}
