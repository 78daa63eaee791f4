//! What does the config say about an upstream?

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{Context as Digest, SHA256};
use http::StatusCode;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;

use super::cluster::Cluster;
use super::dns::DnsConfig;
use super::endpoint::Endpoint;
use super::{Protocol, UpstreamSpec};
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::value::{Expanded, Span};

/// A service behind the gate.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Where it listens: `http://host:port`, `https://host:port` or `unix:/path`; with
    /// `protocol: mqtt`, `mqtt://host:port` or `mqtts://host:port`. A name stands for
    /// all addresses that the DNS has for it, asked again when their time to live is over. Of two
    /// addresses picked by chance, the one with fewer requests under way gets a request; one that
    /// cannot be reached is passed over.
    pub endpoints: Vec<Expanded>,
    /// What is spoken: HTTP/1.1, or HTTP/2 (over `http://` and Unix sockets without TLS, "h2c" by
    /// prior knowledge), which gRPC needs. WebSockets need HTTP/1.1. Or MQTT over plain
    /// connections, for routes with `protocol: mqtt`.
    #[serde(default)]
    pub protocol: Protocol,
    /// A PEM file with the certificates that sign the endpoints' certificates. Default: the
    /// public ones that Mozilla trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate, and those that sign it, by which the gate says who it is.
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// The PEM file with the key of `client_certificate`.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
    /// The name that the endpoints' certificates must have. Default: each endpoint's host.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Danger: credentials may go over plain `http://` to another machine, where everyone on the
    /// way can read them.
    #[serde(default)]
    pub danger_plaintext: bool,
    /// How long connecting may take, TLS included, and how long a request may wait for a
    /// connection where no more may be opened.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// How long the upstream may keep silent before it answers, counted from the last byte that
    /// it took. It does not bound the answer's body.
    #[serde(default = "default_response_timeout")]
    pub response_timeout: Span,
    /// How long the upstream may keep silent within its answer's body; `0s`: for ever.
    #[serde(default = "default_body_timeout")]
    pub body_timeout: Span,
    /// How long an unused connection is kept. Best shorter than the upstream's own keep-alive
    /// time.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Span,
    /// How many unused connections each worker keeps to each address.
    #[serde(default = "default_max_idle")]
    pub max_idle: usize,
    /// The most connections to it, tunnels included, shared out among the workers: at least one
    /// each, and rounded up.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// The most requests that wait for a connection, over all workers; further ones get 503 at
    /// once.
    #[serde(default = "default_pending")]
    pub pending: usize,
    /// Whether endpoints are asked how they do. Default: they are not.
    #[serde(default)]
    pub health_check: Option<HealthCheckConfig>,
    /// When an endpoint is passed over for a while since requests to it fail.
    #[serde(default)]
    pub ejection: EjectionConfig,
    /// How many requests may be tried again, as a share of those that could be; ten more are in
    /// reserve on each worker. Routes say by `retry` which requests could be.
    #[serde(default = "default_retry_budget")]
    pub retry_budget: f64,
}

/// How endpoints are asked how they do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckConfig {
    /// The path that is asked for with GET, without credentials. Default: none; a connection, TLS
    /// included, is enough.
    #[serde(default)]
    pub path: Option<String>,
    /// The host asked for. Default: the endpoint's.
    #[serde(default)]
    pub host: Option<String>,
    /// The statuses that mean health. Default: 200 to 299.
    #[serde(default)]
    pub statuses: Vec<u16>,
    /// How long after one answer the next question comes.
    #[serde(default = "default_check_interval")]
    pub interval: Span,
    /// How long an answer may take.
    #[serde(default = "default_check_timeout")]
    pub timeout: Span,
    /// How many failures in a row end an endpoint's service.
    #[serde(default = "default_unhealthy_after")]
    pub unhealthy_after: u32,
    /// How many good answers in a row bring it back.
    #[serde(default = "default_healthy_after")]
    pub healthy_after: u32,
}

/// When an endpoint is passed over for a while. The last one that is left never is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EjectionConfig {
    /// After how many failures in a row: connections that fail or break, answers that do not
    /// come, 502, 503 and 504. `0`: never.
    pub failures: u32,
    /// For how long, times the number of times that it happened of late, up to ten.
    pub time: Span,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            time: Span::seconds(30),
        }
    }
}

const fn default_connect_timeout() -> Span {
    Span::seconds(3)
}

const fn default_response_timeout() -> Span {
    Span::seconds(60)
}

const fn default_body_timeout() -> Span {
    Span::seconds(300)
}

const fn default_idle_timeout() -> Span {
    Span::seconds(30)
}

const fn default_max_idle() -> usize {
    256
}

const fn default_connections() -> usize {
    16_384
}

const fn default_pending() -> usize {
    1024
}

const fn default_retry_budget() -> f64 {
    0.2
}

const fn default_check_interval() -> Span {
    Span::seconds(5)
}

const fn default_check_timeout() -> Span {
    Span::seconds(2)
}

const fn default_unhealthy_after() -> u32 {
    3
}

const fn default_healthy_after() -> u32 {
    2
}

impl HealthCheckConfig {
    /// Whether an endpoint that answers with this status is well.
    pub(super) fn is_good(&self, status: StatusCode) -> bool {
        match self.statuses.is_empty() {
            true => status.is_success(),
            false => self.statuses.contains(&status.as_u16()),
        }
    }

    fn check(&self, at: &str, problems: &mut Problems) {
        let is_path = |path: &String| path.starts_with('/') && path.parse::<http::Uri>().is_ok();
        if !self.path.as_ref().is_none_or(is_path) {
            problems.add(
                format_args!("{at}.path"),
                "must be a path, such as /healthz",
            );
        }
        let is_host = |host: &String| http::uri::Authority::try_from(host.as_str()).is_ok();
        if !self.host.as_ref().is_none_or(is_host) {
            problems.add(format_args!("{at}.host"), "is not a host");
        }
        let is_nothing = [
            ("interval", self.interval.0.is_zero()),
            ("timeout", self.timeout.0.is_zero()),
            ("unhealthy_after", self.unhealthy_after == 0),
            ("healthy_after", self.healthy_after == 0),
        ];
        for (key, _) in is_nothing.into_iter().filter(|(_, is_nothing)| *is_nothing) {
            problems.add(format_args!("{at}.{key}"), "must be more than nothing");
        }
    }
}

impl UpstreamConfig {
    /// The first endpoint to which credentials would go readable for other machines, unless that
    /// is meant.
    #[must_use]
    pub fn exposed_endpoint(&self) -> Option<&str> {
        let is_exposed = |url: &&str| {
            Endpoint::parse(url, None)
                .is_ok_and(|endpoint| endpoint.tls_name.is_none() && !endpoint.is_loopback())
        };
        let mut endpoints = self.endpoints.iter().map(|url| url.0.as_str());
        endpoints
            .find(is_exposed)
            .filter(|_| !self.danger_plaintext)
    }

    /// Says what is wrong with credentials for an [exposed endpoint](Self::exposed_endpoint).
    #[must_use]
    pub fn exposure(name: &str, endpoint: &str) -> String {
        format!(
            "would go to {endpoint} in clear, for everyone on the way to read: use an https:// endpoint or one on loopback, or say `danger_plaintext: true` on the upstream `{name}`"
        )
    }

    /// Reads what it needs, for so many workers; notes every problem.
    #[must_use]
    pub fn build(
        &self,
        name: &str,
        (workers, dns): (usize, &DnsConfig),
        files: &Files,
        problems: &mut Problems,
    ) -> Option<UpstreamSpec> {
        let at = format!("upstreams.{name}");
        if self.endpoints.is_empty() {
            problems.add(
                format_args!("{at}.endpoints"),
                "at least one endpoint is needed",
            );
        }
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for (index, url) in self.endpoints.iter().enumerate() {
            let endpoint = Endpoint::parse(&url.0, self.server_name.as_deref());
            endpoints.extend(problems.take(format_args!("{at}.endpoints[{index}]"), endpoint));
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            if !endpoint.is_of(self.protocol) {
                problems.add(
                    format_args!("{at}.endpoints[{index}]"),
                    "does not go with the upstream's `protocol`: mqtt:// and mqtts:// are for `mqtt`, http:// and https:// for the others",
                );
            }
        }
        self.check(&at, problems);
        let has_tls = endpoints.iter().any(|endpoint| endpoint.tls_name.is_some());
        let useless = [
            ("ca_file", self.ca_file.is_some()),
            ("client_certificate", self.client_certificate.is_some()),
            ("server_name", self.server_name.is_some()),
        ];
        for (key, _) in useless
            .into_iter()
            .filter(|(_, is_set)| *is_set && !has_tls)
        {
            problems.add(
                format_args!("{at}.{key}"),
                "is of no use: no endpoint is https",
            );
        }
        let mut digest = Digest::new(&SHA256);
        let tls = match has_tls {
            true => Some(self.tls(&at, &mut digest, files, problems)?),
            false => None,
        };
        let share = |all: usize| all.div_ceil(workers.max(1)).max(1);
        Some(UpstreamSpec {
            name: name.into(),
            authority: endpoints
                .first()
                .map_or_else(String::new, Endpoint::authority),
            cluster: Cluster::new(endpoints),
            tls,
            connections: share(self.connections),
            pending: match self.pending {
                0 => 0,
                all => share(all),
            },
            config: self.clone(),
            dns: dns.clone(),
            files: digest.finish().as_ref().into(),
        })
    }

    fn check(&self, at: &str, problems: &mut Problems) {
        let is_zero = [
            ("connections", self.connections == 0),
            ("connect_timeout", self.connect_timeout.0.is_zero()),
            ("response_timeout", self.response_timeout.0.is_zero()),
        ];
        for (key, _) in is_zero.into_iter().filter(|(_, is_zero)| *is_zero) {
            problems.add(
                format_args!("{at}.{key}"),
                "must be more than nothing: with none, nobody could be served",
            );
        }
        if !(0.0..=1.0).contains(&self.retry_budget) {
            problems.add(format_args!("{at}.retry_budget"), "must be between 0 and 1");
        }
        if self.client_certificate.is_some() != self.client_key.is_some() {
            problems.add(
                format_args!("{at}.client_certificate"),
                "client_certificate and client_key belong together",
            );
        }
        let asks_path = self
            .health_check
            .as_ref()
            .is_some_and(|check| check.path.is_some());
        if asks_path && self.protocol == Protocol::Mqtt {
            problems.add(
                format_args!("{at}.health_check.path"),
                "an upstream of MQTT has no paths; without one, a connection is enough",
            );
        }
        if let Some(check) = &self.health_check {
            check.check(&format!("{at}.health_check"), problems);
        }
    }

    fn tls(
        &self,
        at: &str,
        digest: &mut Digest,
        files: &Files,
        problems: &mut Problems,
    ) -> Option<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let at = format!("{at}.ca_file");
                let pem = problems.take(&at, files.read(path))?;
                digest.update(&pem);
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate = problems.take(&at, certificate)?;
                    problems.take(&at, roots.add(certificate))?;
                }
                if roots.is_empty() {
                    problems.add(&at, "holds no certificate in PEM");
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = problems.take(at, builder)?.with_root_certificates(roots);
        let mut config = match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => {
                let at_chain = format!("{at}.client_certificate");
                let pem = problems.take(&at_chain, files.read(certificate))?;
                digest.update(&pem);
                let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
                let chain = problems.take(&at_chain, chain)?;
                let at_key = format!("{at}.client_key");
                let pem = problems.take(&at_key, files.read_secret(key))?;
                digest.update(pem.expose());
                let key = PrivateKeyDer::from_pem_slice(pem.expose());
                let key = key.map_err(|_| "holds no private key in PEM");
                let key = problems.take(&at_key, key)?;
                problems.take(&at_chain, builder.with_client_auth_cert(chain, key))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = match self.protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
            // Few brokers know it, and some refuse what they do not know.
            Protocol::Mqtt => Vec::new(),
        };
        Some(Arc::new(config))
    }
}
