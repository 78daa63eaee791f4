//! Which services stand behind the gate, and how are they reached?

pub mod body;
pub mod connect;
pub mod credential;
pub mod forward;
mod found;
pub mod respond;
pub mod translate;
pub mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::value::{Expanded, Span};

/// A service behind the gate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Where it listens: `http://host:port` or `https://host:port`. New connections go to each in
    /// turn; one that cannot be reached is passed over.
    pub endpoints: Vec<Expanded>,
    /// A PEM file with the certificates that sign the endpoints' certificates. Default: the
    /// public ones that Mozilla trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Danger: credentials may go over plain `http://` to another machine, where everyone on the
    /// way can read them.
    #[serde(default)]
    pub danger_plaintext: bool,
    /// How long connecting may take, TLS included.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// How long the upstream may keep silent before it answers, counted from the last byte that
    /// it took. It does not bound the answer's body.
    #[serde(default = "default_response_timeout")]
    pub response_timeout: Span,
    /// How long an unused connection is kept. Best shorter than the upstream's own keep-alive
    /// time.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Span,
    /// How many unused connections each worker keeps.
    #[serde(default = "default_max_idle")]
    pub max_idle: usize,
}

const fn default_connect_timeout() -> Span {
    Span::seconds(3)
}

const fn default_response_timeout() -> Span {
    Span::seconds(60)
}

const fn default_idle_timeout() -> Span {
    Span::seconds(30)
}

const fn default_max_idle() -> usize {
    256
}

/// An upstream, ready for use by any worker.
#[derive(Debug)]
pub struct UpstreamSpec {
    /// The name in config, metrics and logs.
    pub name: Arc<str>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
}

/// One address of an upstream.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As configured, for logs.
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The address, where the host is one.
    pub(crate) address: Option<SocketAddr>,
    /// The name that its certificate must have, for `https`.
    pub(crate) tls_name: Option<ServerName<'static>>,
}

impl UpstreamConfig {
    /// The first endpoint to which credentials would go readable for other machines, unless that
    /// is meant.
    #[must_use]
    pub fn exposed_endpoint(&self) -> Option<&str> {
        let is_exposed = |url: &&str| {
            Endpoint::parse(url)
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

    /// Reads what it needs; notes every problem.
    #[must_use]
    pub fn build(
        &self,
        name: &str,
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
            let endpoint = Endpoint::parse(&url.0);
            endpoints.extend(problems.take(format_args!("{at}.endpoints[{index}]"), endpoint));
        }
        let has_tls = endpoints.iter().any(|endpoint| endpoint.tls_name.is_some());
        if self.ca_file.is_some() && !has_tls {
            problems.add(
                format_args!("{at}.ca_file"),
                "is of no use: no endpoint is https",
            );
        }
        let tls = if has_tls {
            Some(self.tls(&at, files, problems)?)
        } else {
            None
        };
        Some(UpstreamSpec {
            name: name.into(),
            endpoints,
            tls,
            connect_timeout: self.connect_timeout.0,
            response_timeout: self.response_timeout.0,
            idle_timeout: self.idle_timeout.0,
            max_idle: self.max_idle,
        })
    }

    fn tls(&self, at: &str, files: &Files, problems: &mut Problems) -> Option<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let at = format!("{at}.ca_file");
                let pem = problems.take(&at, files.read(path))?;
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
        let builder = problems.take(at, builder)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Arc::new(config))
    }
}

impl Endpoint {
    /// Whether only this machine is asked; of names, only `localhost` is known to mean that.
    fn is_loopback(&self) -> bool {
        match self.address {
            Some(address) => address.ip().to_canonical().is_loopback(),
            None => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Host and port, as in a `Host` header.
    fn authority(&self) -> String {
        match self.address {
            Some(address) => address.to_string(),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    fn parse(url: &str) -> Result<Self, String> {
        // Never repeats what may hold a password.
        let shown = if url.contains('@') {
            "(not shown)"
        } else {
            url
        };
        let wrong =
            |what: &str| format!("`{shown}` {what}; write http://host:port or https://host:port");
        let uri = url.parse::<Uri>().map_err(|_| wrong("is not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("has no scheme that is known")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path, but paths go upstream as they come"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong(
                "has credentials in it; they belong into a route's `credential`",
            ));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority
            .port_u16()
            .unwrap_or(if is_tls { 443 } else { 80 });
        let tls_name = if is_tls {
            Some(ServerName::try_from(host.clone()).map_err(|_| wrong("has no valid host"))?)
        } else {
            None
        };
        let address = host
            .parse()
            .ok()
            .map(|address| SocketAddr::new(address, port));
        Ok(Self {
            url: url.to_owned(),
            host,
            port,
            address,
            tls_name,
        })
    }
}
