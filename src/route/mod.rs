//! Which requests may pass, to where, and what do they need for it?

mod danger;
mod headers;
mod login;
mod mqtt;
pub mod path;
mod places;
pub mod policy;
pub mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::files::Files;
use crate::config::problem::{Problems, nearest};
use crate::config::value::Size;
use crate::cors::{Cors, CorsConfig};
use crate::dialect::Dialect;
use crate::dialect::DialectName;
use crate::mqtt::config::{MqttConfig, Spoken};
use crate::mqtt::rules::Rules as MqttRules;
use crate::upstream::config::UpstreamConfig;
use crate::upstream::credential::{CredentialConfig, UpstreamCredential};
use crate::upstream::respond::{RefusalSigns, RefusalSignsConfig};
use crate::upstream::retry::{Retry, RetryConfig};
pub(crate) use headers::OwnHeaders;
pub(crate) use headers::is_framing;
pub use login::LoginPage;
use path::{PathForm, PathForms};
pub use places::{BasicConfig, Given, TokenPlaces, TokenPlacesConfig};
use policy::{Capture, Demands, Policy, RequireConfig};
use table::{RouteTable, captures};

/// One kind of request that may pass.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The name in metrics and logs, unique. Default: methods, host and path.
    #[serde(default)]
    pub name: Option<String>,
    /// The host asked for, without port: `broker.example`, or `*.example` for every host below
    /// it. Default: any.
    #[serde(default)]
    pub host: Option<String>,
    /// The methods. Default: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The path: literal segments, `*` for exactly one segment, `**` at the end for any rest
    /// (also none). `{sub}` is one segment that must be the token's subject, `{claim:NAME}` one
    /// that must be a value of this claim; with another segment there the answer is 403.
    pub path: String,
    /// The upstream's name. It may be left out where every listener is for `forward_auth`.
    #[serde(default)]
    pub upstream: Option<String>,
    /// What is spoken: `http`, or `mqtt` over WebSockets and on the listeners of MQTT that have the
    /// path. The gate then reads CONNECT: its password is the token, unless the WebSocket's request
    /// has it, and is replaced by the route's credential. The upstream speaks MQTT, or for
    /// WebSockets alone HTTP/1.1.
    #[serde(default)]
    pub protocol: Spoken,
    /// What sessions of MQTT may do. Default: everything.
    #[serde(default)]
    pub mqtt: Option<MqttConfig>,
    /// Danger: lets everyone pass without a token.
    #[serde(default)]
    pub public: bool,
    /// Danger: a public route may begin with `*` or `**`, so that what the upstream learns to
    /// serve later is public too.
    #[serde(default)]
    pub danger_unanchored: bool,
    /// What a token must have.
    #[serde(default)]
    pub require: RequireConfig,
    /// What the upstream gets instead of the token. Default: nothing.
    #[serde(default)]
    pub credential: CredentialConfig,
    /// The dialect whose form the gate's own errors take here. Default: that of the only login
    /// entry, if there is exactly one.
    #[serde(default)]
    pub dialect: Option<DialectName>,
    /// Where a token may stand.
    #[serde(default)]
    pub token: TokenPlacesConfig,
    /// Takes a name and password by Basic, too, on every request.
    #[serde(default)]
    pub basic: Option<BasicConfig>,
    /// Where a browser that asks for a page without a good credential is sent, with 302, instead
    /// of the 401 that every other client gets. If it is the path of a `browser` login, such as
    /// `/login`, the browser comes back to what it asked for. Default: nowhere.
    #[serde(default)]
    pub login_page: Option<String>,
    /// Forms of path that back ends may read differently, allowed here one by one.
    #[serde(default)]
    pub allow_in_path: Vec<PathForm>,
    /// The largest body of a request. Default: any.
    #[serde(default)]
    pub body_size: Option<Size>,
    /// Instead of `limits.min_upload_rate`; `0B` where bodies pause on purpose, as gRPC's streams
    /// do.
    #[serde(default)]
    pub min_upload_rate: Option<Size>,
    /// Which requests may be sent again after they failed. Default: none.
    #[serde(default)]
    pub retry: Option<RetryConfig>,
    /// How this upstream says that it refuses the gate's credentials.
    #[serde(default)]
    pub upstream_refusal: RefusalSignsConfig,
    /// Headers that are set on the way to the upstream, whatever the client sent.
    #[serde(default)]
    pub set_headers: BTreeMap<String, String>,
    /// Headers that are dropped on the way to the upstream.
    #[serde(default)]
    pub remove_headers: Vec<String>,
    /// Whether the upstream also gets `Forwarded` (RFC 7239), next to `X-Forwarded-*`.
    #[serde(default)]
    pub forwarded: bool,
    /// Which other sites' pages may call. Default: anybody's without cookies where the route's
    /// dialect has its clients hold their tokens themselves, else nobody's.
    #[serde(default)]
    pub cors: Option<CorsConfig>,
}

/// A route, ready for use.
#[derive(Debug)]
pub struct Route {
    /// The name in metrics and logs.
    pub name: Arc<str>,
    /// The route's place among those in force.
    pub index: usize,
    pub(crate) host: Option<String>,
    pub(crate) methods: Vec<Method>,
    pub(crate) pattern: String,
    pub(crate) allowed_forms: PathForms,
    /// The largest body, in bytes.
    pub body_size: u64,
    /// The least rate of a body, in bytes per second, where it is the route's own.
    pub min_upload_rate: Option<u64>,
    /// The upstream's place in the config's order; none where routes are only judged.
    pub upstream: Option<usize>,
    /// What is demanded.
    pub policy: Policy,
    /// What the upstream gets.
    pub credential: UpstreamCredential,
    /// The form of the gate's own errors.
    pub dialect: Option<&'static dyn Dialect>,
    /// Where a credential may stand.
    pub token: TokenPlaces,
    /// How long a pair by Basic is remembered, where one is taken.
    pub basic: Option<Duration>,
    /// Where browsers are sent that have no good credential.
    pub login_page: Option<LoginPage>,
    /// Which requests may be sent again.
    pub retry: Option<Retry>,
    /// How the upstream refuses.
    pub refusal_signs: RefusalSigns,
    /// Set on the way to the upstream.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Dropped on the way to the upstream.
    pub remove_headers: Vec<HeaderName>,
    /// All of these, and the credential.
    pub(crate) own_headers: Arc<OwnHeaders>,
    /// Whether to write `Forwarded`.
    pub forwarded: bool,
    /// Which other sites' pages may call, where the dialect does not decide.
    pub cors: Option<Arc<Cors>>,
    /// The rules for sessions, if MQTT is spoken.
    pub(crate) mqtt: Option<MqttRules>,
}

impl Route {
    /// Whether the route takes this method.
    #[must_use]
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

/// What routes refer to.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The upstreams by name; a route holds the place in this order.
    pub upstreams: &'a BTreeMap<String, UpstreamConfig>,
    /// The dialect of routes that name none.
    pub default_dialect: Option<DialectName>,
    /// Whether credentials can be sealed into tokens.
    pub can_seal: bool,
    /// Which credentials there are besides tokens.
    pub given: Given,
    /// The paths of the gate's own pages to log in.
    pub login_pages: Vec<String>,
    /// The Basic credentials that users files have for their users, by name, if there is such a
    /// file.
    pub users: Option<HashMap<String, HeaderValue>>,
    /// Whether requests go on to upstreams.
    pub forwards: bool,
    /// Where files are.
    pub files: &'a Files,
}

impl Surroundings<'_> {
    /// The place of the upstream of this name.
    fn place(&self, name: &str) -> Result<usize, String> {
        let mut names = self.upstreams.keys().map(String::as_str);
        names.clone().position(|held| held == name).ok_or_else(|| {
            match nearest(name, names.clone()) {
                Some(near) => format!("there is no upstream `{name}`; did you mean `{near}`?"),
                None => {
                    let known = Vec::from_iter(names.by_ref()).join(", ");
                    format!("there is no upstream `{name}`; there are: {known}")
                }
            }
        })
    }
}

/// Builds all routes; notes every problem.
#[must_use]
pub fn build(
    configs: &[RouteConfig],
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> RouteTable {
    let mut table = RouteTable::default();
    let mut names = std::collections::BTreeSet::new();
    for (index, config) in configs.iter().enumerate() {
        let at = format!("routes[{index}]");
        let place = table.all().len();
        let Some(route) = config.build(place, &at, around, problems) else {
            continue;
        };
        if !names.insert(Arc::clone(&route.name)) {
            let text = format_args!(
                "another route is called `{}` too; give this one a name",
                route.name
            );
            problems.add(format_args!("{at}.name"), text);
        }
        problems.take(&at, table.add(Arc::new(route)));
    }
    table
}

impl RouteConfig {
    fn build(
        &self,
        index: usize,
        at: &str,
        around: &Surroundings<'_>,
        problems: &mut Problems,
    ) -> Option<Route> {
        let upstream = self.upstream.as_deref();
        let upstream = upstream.map(|name| around.place(name)).transpose();
        let upstream = problems.take(format_args!("{at}.upstream"), upstream);
        if self.upstream.is_none() && around.forwards {
            let text = "is missing; only where every listener is for `forward_auth` do requests go nowhere";
            problems.add(format_args!("{at}.upstream"), text);
        }
        let captures = captures(&self.path);
        let token = self.token.build(around.given, self.basic.is_some());
        self.check(at, &captures, &token, problems);
        let methods = self.methods(at, problems);
        let set_headers = self.parse_set_headers(at, problems);
        let remove_headers = self.parse_remove_headers(at, problems);
        let host = self.host.as_ref().map(|host| host.to_ascii_lowercase());
        let bare = host
            .as_deref()
            .map(|host| host.strip_prefix("*.").unwrap_or(host));
        if bare.is_some_and(|host| host.is_empty() || host.contains(['*', '/', ':'])) {
            problems.add(
                format_args!("{at}.host"),
                "must be a name without port, or `*.` and a name",
            );
        }
        self.check_dangers(at, around.upstreams, problems);
        let mqtt = self.mqtt(at, around, problems);
        let credential = self
            .credential
            .build(&format!("{at}.credential"), around, problems)?;
        if self.public && credential.needs_principal() {
            problems.add(
                format_args!("{at}.credential"),
                "is a user's own, but a public route knows no user",
            );
        }
        let cors = self.cors.as_ref();
        let cors = cors.map(|cors| cors.build(&format!("{at}.cors"), &methods, problems));
        let login_page = self.login_page(at, &around.login_pages, &token, problems);
        let retry = self.retry.as_ref();
        let retry = retry.map(|retry| retry.build(&format!("{at}.retry"), problems));
        let set = set_headers.iter().map(|(name, _)| name);
        let own = set.chain(&remove_headers).chain(credential.fixed_name());
        let own_headers = Arc::new(OwnHeaders::new(own));
        Some(Route {
            name: self
                .name
                .as_ref()
                .map_or_else(|| self.default_name(), Clone::clone)
                .into(),
            index,
            host,
            methods,
            pattern: self.path.clone(),
            allowed_forms: self.allow_in_path.iter().copied().collect(),
            body_size: self.body_size.map_or(u64::MAX, |size| size.0),
            min_upload_rate: self.min_upload_rate.map(|rate| rate.0),
            upstream: upstream?,
            policy: if self.public {
                Policy::Public
            } else {
                let require = self.require.clone();
                Policy::Token(Demands { require, captures })
            },
            credential,
            dialect: self
                .dialect
                .or_else(|| self.basic.as_ref().map(|_| DialectName::Basic))
                .or(around.default_dialect)
                .map(DialectName::dialect),
            token,
            basic: self.basic.as_ref().map(|basic| basic.remember.0),
            login_page,
            retry,
            refusal_signs: self.upstream_refusal.build(),
            set_headers,
            remove_headers,
            own_headers,
            forwarded: self.forwarded,
            cors,
            mqtt,
        })
    }

    /// Notes what does not go together.
    fn check(&self, at: &str, captures: &[Capture], token: &TokenPlaces, problems: &mut Problems) {
        self.require.check(&format!("{at}.require"), problems);
        if self.public && !(self.require.is_empty() && captures.is_empty()) {
            problems.add(
                format_args!("{at}.require"),
                "a public route asks for no token, so it cannot require anything of it",
            );
        }
        let in_url = !token.query.is_empty() || token.tickets;
        if !self.public && !token.header && !in_url && !token.subprotocol && !token.cookie {
            problems.add(
                format_args!("{at}.token"),
                "leaves no place for a token; every request would be refused",
            );
        }
        if self.public && self.basic.is_some() {
            problems.add(
                format_args!("{at}.basic"),
                "a public route asks for no credential",
            );
        }
    }

    /// Methods, host and path.
    #[must_use]
    pub fn default_name(&self) -> String {
        let mut name = self.methods.join(",");
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(self.host.as_deref().unwrap_or_default());
        name + &self.path
    }

    fn methods(&self, at: &str, problems: &mut Problems) -> Vec<Method> {
        let parse = |method: &String| {
            let parsed = Method::from_bytes(method.to_ascii_uppercase().as_bytes());
            problems.take(
                format_args!("{at}.methods"),
                parsed.map_err(|_| format!("`{method}` is not a method")),
            )
        };
        self.methods.iter().filter_map(parse).collect()
    }
}
