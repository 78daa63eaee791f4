//! Which addresses does a name stand for? Asked again when the answer's time to live is over.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::sleep;

use super::UpstreamSpec;
use crate::clock;
use crate::config::problem::Problems;
use crate::config::value::Expanded;

/// Whom to ask for the addresses of upstreams. Names in `/etc/hosts` are taken from there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Name servers, as `address` or `address:port`. Default: those of `/etc/resolv.conf`.
    pub servers: Vec<Expanded>,
}

impl DnsConfig {
    /// Notes what is no address.
    pub fn check(&self, problems: &mut Problems) {
        for (index, server) in self.servers.iter().enumerate() {
            problems.take(format_args!("dns.servers[{index}]"), parse(&server.0));
        }
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self
                .servers
                .iter()
                .filter_map(|server| parse(&server.0).ok());
            let servers = servers.map(|server| {
                let mut config = NameServerConfig::udp_and_tcp(server.ip());
                for connection in &mut config.connections {
                    connection.port = server.port();
                }
                config
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // What is asked for is due: it must not come from a memory.
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        builder.build()
    }
}

fn parse(server: &str) -> Result<SocketAddr, String> {
    let address = server.parse::<SocketAddr>();
    let plain = |_| {
        server
            .parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT))
    };
    address
        .or_else(plain)
        .map_err(|_| format!("`{server}` is not an address, such as 10.0.0.10 or 127.0.0.1:5353"))
}

const DNS_PORT: u16 = 53;
/// The shortest and the longest pause between two questions for a name.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Keeps the addresses of one endpoint's name fresh, for ever. While the DNS has no answer, the
/// last one holds.
pub(super) async fn follow(spec: &UpstreamSpec, at: usize, host: &str, port: u16) {
    let upstream = &*spec.name;
    let mut resolver = None;
    let mut is_first = true;
    let mut failures = 0_u32;
    loop {
        let asked = match &resolver {
            Some(resolver) => ask(resolver, host, port).await,
            None => match spec.dns.resolver() {
                Ok(new) => ask(resolver.insert(new), host, port).await,
                Err(error) => Err(error),
            },
        };
        let pause = match asked {
            Ok((addresses, ttl)) => {
                failures = 0;
                if spec.cluster.resolved(at, &addresses) {
                    tracing::info!(upstream, host, ?addresses, "a name's addresses changed");
                }
                ttl.clamp(PAUSES.0, PAUSES.1)
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(upstream, host, %error, "the DNS does not tell a name's addresses");
                let factor = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
                PAUSES.0.saturating_mul(factor).min(LONGEST_RETRY)
            }
        };
        if is_first {
            spec.cluster.was_asked();
            is_first = false;
        }
        sleep(pause).await;
    }
}

/// The longest pause after failures, each of which doubles it.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

async fn ask(
    resolver: &TokioResolver,
    host: &str,
    port: u16,
) -> Result<(Vec<SocketAddr>, Duration), NetError> {
    let found = resolver.lookup_ip(host).await?;
    let mut addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let ttl = found.valid_until().saturating_duration_since(clock::now());
    Ok((addresses, ttl))
}
