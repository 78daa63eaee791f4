//! Which services stand behind the gate, and how are they reached?

pub mod body;
mod breaker;
pub(crate) mod cluster;
pub mod config;
pub mod connect;
pub mod credential;
pub mod dns;
mod endpoint;
pub mod forward;
mod found;
mod health;
mod lane;
pub mod leftover;
pub(crate) mod line;
mod open;
pub mod respond;
pub mod retry;
pub mod translate;
pub mod tunnel;
pub(crate) mod watch;
mod way;
mod websocket;

use std::sync::Arc;

use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use cluster::Cluster;
use config::UpstreamConfig;
use dns::DnsConfig;

/// What is spoken with an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// MQTT over connections of its own, one for each session.
    Mqtt,
}

/// An upstream, ready for use by any worker.
#[derive(Debug)]
pub struct UpstreamSpec {
    /// The name in config, metrics and logs.
    pub name: Arc<str>,
    /// The host and port of its first endpoint, for requests of the gate's own.
    pub(crate) authority: String,
    pub(crate) cluster: Cluster,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The most connections of one worker.
    pub(crate) connections: usize,
    /// The most requests of one worker that wait for a connection.
    pub(crate) pending: usize,
    pub(crate) config: UpstreamConfig,
    pub(crate) dns: DnsConfig,
    /// A hash over the files that it was built from.
    files: Box<[u8]>,
}

impl UpstreamSpec {
    /// Whether it is the same service, asked in the same way: then what is known of it, and its
    /// connections, go on.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.config == other.config
            && self.dns == other.dns
            && self.files == other.files
            && (self.connections, self.pending) == (other.connections, other.pending)
    }
}
