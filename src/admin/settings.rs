//! Where is the admin listener, and whom does it let in?

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::door::Door;
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::value::Expanded;
use crate::identity::operators::Operators;
use crate::mqtt::config::Spoken;
use crate::server::tls::TlsConfig;

/// Where operators and probes connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port. Port 0 picks a free one. On loopback whoever is on this machine may ask;
    /// elsewhere `users_file` says who may.
    #[serde(default = "default_address")]
    pub address: Expanded,
    /// Operators: a users file, of which the names and `password_hash` count. They prove themselves
    /// by Basic for everything but `/livez` and `/readyz`, and `/metrics` where that is open: on
    /// loopback, or by `danger_public`. Default: none, which only a loopback address may have.
    #[serde(default)]
    pub users_file: Option<PathBuf>,
    /// Certificates and versions. Without it the listener speaks plain HTTP.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Danger: lets other machines read the metrics without any credential. Without a `users_file`
    /// probes and metrics are then all that is told there. Probes
    /// (`tollgate healthcheck`) do not need it, nor does Prometheus (docs/deploy.md).
    #[serde(default)]
    pub danger_public: bool,
    /// Danger: takes operators' passwords over plain HTTP from other machines. They can then be
    /// read on the way, unless something in front terminates TLS.
    #[serde(default)]
    pub danger_plaintext: bool,
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
            users_file: None,
            tls: None,
            danger_public: false,
            danger_plaintext: false,
            ready_needs_store: false,
        }
    }
}

/// An admin listener that is checked but not bound yet.
#[derive(Debug)]
pub struct AdminSpec {
    /// Where it will listen.
    pub address: SocketAddr,
    /// Whom it lets in.
    pub door: Door,
}

impl AdminConfig {
    /// Checks it and reads what it names; notes every problem.
    #[must_use]
    pub fn build(&self, files: &Files, problems: &mut Problems) -> Option<AdminSpec> {
        let text = &self.address.0;
        let address = text.parse::<SocketAddr>();
        let address = address
            .map_err(|_| format!("`{text}` is not an address and port, such as 127.0.0.1:9901"));
        let address = problems.take("admin.address", address);
        let operators = self.users_file.as_ref();
        let operators = operators.and_then(|path| Operators::read("admin", path, files, problems));
        let tls = self.tls.as_ref();
        let tls = tls.and_then(|tls| tls.build(("admin.tls", Spoken::Http), files, problems));
        let address = address?;
        let is_loopback = address.ip().is_loopback();
        if !is_loopback {
            self.check_reachable(problems);
        }
        let door = Door::new(is_loopback, self.danger_public, operators, tls.as_ref());
        Some(AdminSpec { address, door })
    }

    /// Notes what must not be so where other machines can ask.
    fn check_reachable(&self, problems: &mut Problems) {
        match (&self.users_file, &self.tls) {
            (None, _) if !self.danger_public => problems.add(
                "admin.address",
                "other machines could ask whatever they like: use a loopback address, or say with `users_file` who may; `danger_public: true` opens probes and metrics, and nothing else",
            ),
            (Some(_), None) if !self.danger_plaintext => problems.add(
                "admin.users_file",
                "operators' passwords would come over plain HTTP from other machines: give it `tls`, a loopback address, or `danger_plaintext: true`",
            ),
            _ => {}
        }
    }
}
