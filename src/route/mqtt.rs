//! Does what a route says of MQTT go together?

use std::sync::Arc;

use http::Method;

use super::path::CanonicalPath;
use super::table::RouteTable;
use super::{Route, RouteConfig, Surroundings};
use crate::config::problem::Problems;
use crate::mqtt::config::Spoken;
use crate::mqtt::rules::Rules;
use crate::upstream::Protocol;
use crate::upstream::credential::CredentialConfig;

impl RouteConfig {
    /// The rules for sessions, if MQTT is spoken; notes every problem.
    pub(super) fn mqtt(
        &self,
        at: &str,
        around: &Surroundings<'_>,
        problems: &mut Problems,
    ) -> Option<Rules> {
        let upstream = self.upstream.as_ref();
        let upstream = upstream.and_then(|name| around.upstreams.get(name));
        let spoken = upstream.map(|upstream| upstream.protocol);
        if self.protocol == Spoken::Http {
            if self.mqtt.is_some() {
                let text = "is of use only with `protocol: mqtt`";
                problems.add(format_args!("{at}.mqtt"), text);
            }
            if spoken == Some(Protocol::Mqtt) {
                let text = "speaks MQTT, and the route does not: say `protocol: mqtt` on it";
                problems.add(format_args!("{at}.upstream"), text);
            }
            return None;
        }
        if spoken == Some(Protocol::Http2) {
            let text = "speaks HTTP/2, over which there is no WebSocket: its `protocol` must be `mqtt` or `http1`";
            problems.add(format_args!("{at}.upstream"), text);
        }
        if self.public {
            let text = "a session of MQTT is let in by its token; without one there is nothing for the gate to do";
            problems.add(format_args!("{at}.public"), text);
        }
        if !self.methods.is_empty() {
            let text = "MQTT has no methods";
            problems.add(format_args!("{at}.methods"), text);
        }
        if matches!(self.credential, CredentialConfig::Header { .. }) {
            let text = "CONNECT has a place for a name and a password alone";
            problems.add(format_args!("{at}.credential.header"), text);
        }
        let mqtt = self.mqtt.clone().unwrap_or_default();
        Some(mqtt.build(&format!("{at}.mqtt"), problems))
    }
}

impl RouteTable {
    /// The routes that sessions of MQTT take whose listener stands for this path, on any host.
    pub(crate) fn for_sessions(&self, path: &str) -> Vec<&Arc<Route>> {
        let Ok(path) = CanonicalPath::parse(path) else {
            return Vec::new();
        };
        let is_found = |route: &&Arc<Route>| {
            let host = route
                .host
                .as_deref()
                .unwrap_or_default()
                .replace('*', "any");
            let found = self.find(&host, &path, &Method::GET);
            route.mqtt.is_some() && found.is_ok_and(|found| Arc::ptr_eq(found, route))
        };
        self.all().iter().filter(is_found).collect()
    }
}
