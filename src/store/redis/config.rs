//! Where is the Redis, how is it spoken to, and is that safe?

use std::path::PathBuf;
use std::time::Duration;

use http::uri::Authority;
use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::config::value::{Expanded, Span};

/// A Redis or Valkey, from 6.2 on, that replicas share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// `redis://host:port` or, with TLS, `rediss://host:port`. One; in a cluster some of the
    /// nodes; with Sentinel the sentinels. User and password have keys of their own.
    pub urls: Vec<Expanded>,
    /// What stands at the urls.
    pub mode: RedisMode,
    /// With Sentinel: the name of the master there.
    pub master_name: Option<String>,
    /// The ACL user. Default: Redis' `default`.
    pub username: Option<Expanded>,
    /// The user's password.
    pub password_file: Option<PathBuf>,
    /// With Sentinel: the sentinels' own password.
    pub sentinel_password_file: Option<PathBuf>,
    /// The database's number. Not in a cluster.
    pub database: u32,
    /// Which authorities vouch for the server, in PEM. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// What the gate shows of itself to the server, in PEM; with `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// The private key of `client_certificate`, in PEM.
    pub client_key: Option<PathBuf>,
    /// What the names of all keys begin with. Gates with the same are replicas of each other.
    pub prefix: String,
    /// How long one operation may take before it is given up.
    pub timeout: Span,
    /// How long connecting may take.
    pub connect_timeout: Span,
    /// How often the log of revocations is read, in case that a message about one was missed.
    pub catch_up_interval: Span,
    /// For how long tokens are accepted while the store cannot be asked what was revoked; then
    /// they are refused with 503.
    pub max_staleness: Span,
    /// Danger: accepts tokens however long the store cannot be asked. What was revoked at another
    /// replica in the meantime stays good here.
    pub danger_unbounded_staleness: bool,
    /// Danger: speaks plaintext with a server on another machine. Who reads along has the
    /// password and all names of accounts; who changes it makes sessions.
    pub danger_plaintext: bool,
}

/// What stands at the urls of a Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    /// One server.
    #[default]
    Single,
    /// A Redis Cluster.
    Cluster,
    /// Sentinels, which know the server.
    Sentinel,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            mode: RedisMode::Single,
            master_name: None,
            username: None,
            password_file: None,
            sentinel_password_file: None,
            database: 0,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            prefix: "tollgate:".to_owned(),
            timeout: Span::seconds(1),
            connect_timeout: Span::seconds(2),
            catch_up_interval: Span(Duration::from_millis(500)),
            max_staleness: Span::seconds(5 * 60),
            danger_unbounded_staleness: false,
            danger_plaintext: false,
        }
    }
}

/// A Redis, ready to be connected to.
#[derive(Clone, Debug)]
pub struct RedisSpec {
    pub(super) nodes: Vec<ConnectionAddr>,
    pub(super) mode: RedisMode,
    pub(super) master_name: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret<String>>,
    pub(super) sentinel_password: Option<Secret<String>>,
    pub(super) database: u32,
    pub(super) tls: Option<TlsCertificates>,
    pub(super) keys: Keys,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) catch_up_interval: Duration,
    pub(super) max_staleness: Option<Duration>,
}

impl RedisConfig {
    /// Checks it and reads what it names; notes every problem.
    #[must_use]
    pub fn build(&self, files: &Files, problems: &mut Problems) -> Option<RedisSpec> {
        let nodes = self.nodes(problems);
        self.check_mode(problems);
        self.check_times(problems);
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ".:_-".contains(letter);
        if self.prefix.len() > MAX_PREFIX || !self.prefix.chars().all(is_plain) {
            let text = "may have up to 64 letters, digits and any of . : _ -";
            problems.add("store.redis.prefix", text);
        }
        let mut secret = |key: &str, file: &Option<PathBuf>| {
            let read = files.read_secret_text(file.as_ref()?);
            problems.take(format_args!("store.redis.{key}"), read)
        };
        let password = secret("password_file", &self.password_file);
        let sentinel_password = secret("sentinel_password_file", &self.sentinel_password_file);
        if self.username.is_some() && self.password_file.is_none() {
            let text = "needs `password_file`: Redis knows no user without a password";
            problems.add("store.redis.username", text);
        }
        let tls = self.tls(&nodes, files, problems);
        Some(RedisSpec {
            nodes,
            mode: self.mode,
            master_name: self.master_name.clone().unwrap_or_default(),
            username: self.username.as_ref().map(|name| name.0.clone()),
            password,
            sentinel_password,
            database: self.database,
            tls,
            keys: Keys::new(&self.prefix),
            timeout: self.timeout.0,
            connect_timeout: self.connect_timeout.0,
            catch_up_interval: self.catch_up_interval.0,
            max_staleness: (!self.danger_unbounded_staleness).then_some(self.max_staleness.0),
        })
    }

    fn nodes(&self, problems: &mut Problems) -> Vec<ConnectionAddr> {
        if self.urls.is_empty() {
            problems.add("store.redis.urls", "at least one is needed");
        }
        let mut nodes = Vec::with_capacity(self.urls.len());
        for (index, url) in self.urls.iter().enumerate() {
            let at = format!("store.redis.urls[{index}]");
            // The text is not repeated: people write passwords there.
            let Some((is_tls, host, port)) = parse(&url.0) else {
                let text = "must be redis://host:port or rediss://host:port; user, password and \
                            database have keys of their own, and a password stands in a file";
                problems.add(&at, text);
                continue;
            };
            let is_local = host == "localhost"
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback());
            if !is_tls && !is_local && !self.danger_plaintext {
                let text = "sessions and passwords would cross the network in plaintext: use \
                            rediss:// or say `danger_plaintext: true`";
                problems.add(&at, text);
            }
            nodes.push(match is_tls {
                true => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: false,
                    tls_params: None,
                },
                false => ConnectionAddr::Tcp(host, port),
            });
        }
        let is_tls = |node: &ConnectionAddr| matches!(node, ConnectionAddr::TcpTls { .. });
        if nodes.iter().any(is_tls) && !nodes.iter().all(is_tls) {
            problems.add("store.redis.urls", "must be all redis:// or all rediss://");
        }
        nodes
    }

    fn check_mode(&self, problems: &mut Problems) {
        if self.mode == RedisMode::Single && self.urls.len() > 1 {
            let text = "several need `mode: cluster` or `mode: sentinel`";
            problems.add("store.redis.urls", text);
        }
        if (self.mode == RedisMode::Sentinel) != self.master_name.is_some() {
            let text = "belongs to `mode: sentinel`, which needs it";
            problems.add("store.redis.master_name", text);
        }
        if self.mode == RedisMode::Cluster && self.database != 0 {
            problems.add("store.redis.database", "a cluster has only 0");
        }
    }

    fn check_times(&self, problems: &mut Problems) {
        for (key, span) in [
            ("timeout", self.timeout),
            ("connect_timeout", self.connect_timeout),
            ("catch_up_interval", self.catch_up_interval),
        ] {
            if span < SHORTEST || span > LONGEST {
                let text = "must be from 10ms to 30s";
                problems.add(format_args!("store.redis.{key}"), text);
            }
        }
        if self.max_staleness < Span::seconds(2)
            || self.max_staleness.0 < self.catch_up_interval.0.saturating_mul(2)
        {
            let text = "must be at least 2s and twice `catch_up_interval`; no bound at all is \
                        `danger_unbounded_staleness: true`";
            problems.add("store.redis.max_staleness", text);
        }
    }

    fn tls(
        &self,
        nodes: &[ConnectionAddr],
        files: &Files,
        problems: &mut Problems,
    ) -> Option<TlsCertificates> {
        let mut read = |key: &str, file: &Option<PathBuf>| {
            let read = files.read(file.as_ref()?);
            problems.take(format_args!("store.redis.{key}"), read)
        };
        let root_cert = read("ca_file", &self.ca_file);
        let certificate = read("client_certificate", &self.client_certificate);
        let key = self.client_key.as_ref().and_then(|file| {
            let key = problems.take("store.redis.client_key", files.read_secret(file))?;
            // The library holds it as it is.
            Some(key.expose().clone())
        });
        if self.client_certificate.is_some() != self.client_key.is_some() {
            let text = "needs `client_key`, and the other way round";
            problems.add("store.redis.client_certificate", text);
        }
        let client_tls = certificate
            .zip(key)
            .map(|(client_cert, client_key)| ClientTlsConfig {
                client_cert,
                client_key,
            });
        let is_asked = root_cert.is_some() || client_tls.is_some();
        let certificates = TlsCertificates {
            client_tls,
            root_cert,
        };
        let tls_node = nodes
            .iter()
            .find(|node| matches!(node, ConnectionAddr::TcpTls { .. }));
        let Some(ConnectionAddr::TcpTls { host, port, .. }) = tls_node else {
            if is_asked {
                let text = "belongs to rediss:// urls; these are plaintext";
                problems.add("store.redis.ca_file", text);
            }
            return None;
        };
        let tried = Client::build_with_tls(format!("rediss://{host}:{port}"), certificates.clone());
        let tried = tried.map_err(|_| "holds no usable certificate or key in PEM");
        problems.take("store.redis.ca_file", tried)?;
        is_asked.then_some(certificates)
    }
}

/// Whether TLS is spoken, the host and the port.
fn parse(url: &str) -> Option<(bool, String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let is_tls = match scheme {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['@', '/', '?', '#']) {
        return None;
    }
    let authority: Authority = rest.parse().ok()?;
    let port = match rest.strip_prefix(authority.host())? {
        "" => DEFAULT_PORT,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    (!host.is_empty()).then_some((is_tls, host, port))
}

const DEFAULT_PORT: u16 = 6379;
const MAX_PREFIX: usize = 64;
const SHORTEST: Span = Span(Duration::from_millis(10));
const LONGEST: Span = Span::seconds(30);

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_url_has_a_host_and_a_port_and_nothing_secret() {
        let host = |tls, host: &str, port| Some((tls, host.to_owned(), port));
        for (url, parsed) in [
            ("redis://a.example", host(false, "a.example", 6379)),
            ("rediss://a.example:7000/", host(true, "a.example", 7000)),
            ("redis://[::1]:7000", host(false, "::1", 7000)),
            ("redis://user:secret@a.example", None),
            ("redis://a.example/0", None),
            ("redis://a.example?x=1", None),
            ("redis://a.example:70000", None),
            ("redis://", None),
            ("http://a.example", None),
            ("a.example:6379", None),
        ] {
            assert_eq!(parse(url), parsed, "{url}");
        }
    }
}
