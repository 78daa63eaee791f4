//! How do a system's clients say "log me in", "refresh", and what do they expect back?
//!
//! A dialect is a pure mapping between wire and meaning, without I/O, clock or store.

pub mod datarhei;
pub mod emnify;
pub mod jmvstream;
pub mod memphis;
pub mod oauth2;
mod wire;

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, request};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::config::value::Span;
use crate::identity::Attempt;
use crate::refusal::Refusal;
use crate::token::issue::TokenPair;
use crate::token::verify::VerifiedToken;
use crate::token::{Lifetimes, TokenType};

/// One login that the gate answers itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
    /// Which system's clients are spoken to.
    pub dialect: DialectName,
    /// The host asked for, without port. Default: any.
    #[serde(default)]
    pub host: Option<String>,
    /// What stands in front of the dialect's paths, such as `/broker`. Default: nothing.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Instead of `tokens.access_ttl`.
    #[serde(default)]
    pub access_ttl: Option<Span>,
    /// Instead of `tokens.refresh_ttl`.
    #[serde(default)]
    pub refresh_ttl: Option<Span>,
    /// Instead of `tokens.max_access_ttl`.
    #[serde(default)]
    pub max_access_ttl: Option<Span>,
    /// Instead of `tokens.max_refresh_ttl`.
    #[serde(default)]
    pub max_refresh_ttl: Option<Span>,
}

/// The registry of dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DialectName {
    /// datarhei Core.
    Datarhei,
    /// EMnify's API: login by password, and refresh.
    Emnify,
    /// Jmvstream's API.
    Jmvstream,
    /// The Memphis REST gateway.
    Memphis,
    /// OAuth 2, as standard libraries speak it.
    Oauth2,
}

impl DialectName {
    /// The dialect of this name.
    #[must_use]
    pub fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::Datarhei => &datarhei::Datarhei,
            Self::Emnify => &emnify::Emnify,
            Self::Jmvstream => &jmvstream::Jmvstream,
            Self::Memphis => &memphis::Memphis,
            Self::Oauth2 => &oauth2::Oauth2,
        }
    }
}

/// What a dialect's path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// What the service is, told to whoever asks; see [`Dialect::about`].
    About,
    /// What is in a token, told to who proves to be somebody.
    Introspect,
    /// The public keys, told to whoever asks.
    Keys,
    /// Credentials for tokens; where a dialect has one path for both, a refresh too.
    Login,
    /// What a client has to know, told to whoever asks.
    Metadata,
    /// A refresh token for tokens.
    Refresh,
    /// The end of a token.
    Revoke,
    /// The dialect's path, but not a method of it; those are these, as in `Allow`.
    WrongMethod(&'static str),
}

/// What a client asks for.
#[derive(Debug)]
pub enum Grant {
    /// Tokens for credentials.
    Login(Attempt, Asked),
    /// Tokens for a refresh token.
    Refresh(Secret<String>, Asked),
    /// The end of this token, and of all that came from its login if it is a refresh token.
    Revoke(Secret<String>),
    /// What is in this token.
    Introspect(Secret<String>, Asker),
}

/// Who asks what is in a token.
#[derive(Debug)]
pub enum Asker {
    /// An account.
    Account(Attempt),
    /// The holder of an access token.
    Bearer(Secret<String>),
}

/// How tokens are asked for, beyond whose they are.
#[derive(Debug, Default)]
pub struct Asked {
    /// How long they are to live.
    pub lifetimes: AskedLifetimes,
    /// Fewer scopes than the account has, space-separated.
    pub scope: Option<String>,
    /// The client, where the dialect knows clients apart from accounts; tokens then name it.
    pub client: Option<Client>,
}

/// The client that asks on an account's behalf (RFC 6749 section 2.1).
#[derive(Debug)]
pub enum Client {
    /// The account itself is the client: it gets no refresh token, since it has its credentials
    /// at hand (RFC 6749 section 4.4.3).
    Account,
    /// It proves to be this account.
    Confidential(Attempt),
    /// It gives a name and proves nothing.
    Public(String),
    /// It says nothing about itself: the account counts as the client.
    Unnamed,
}

impl From<AskedLifetimes> for Asked {
    fn from(lifetimes: AskedLifetimes) -> Self {
        Self {
            lifetimes,
            scope: None,
            client: None,
        }
    }
}

/// The lifetimes that a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLifetimes {
    /// The access token's.
    pub access: Option<Duration>,
    /// The refresh token's.
    pub refresh: Option<Duration>,
}

/// What a refresh does to the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshMode {
    /// There are no refresh tokens.
    Absent,
    /// It stays good until it expires; only the access token is new.
    Keep,
    /// It is used up, and a new one comes with the new access token.
    Rotate,
}

/// How long a dialect's tokens live where the config does not say, because its clients count on
/// it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsualLifetimes {
    /// An access token's.
    pub access: Option<Duration>,
    /// A refresh token's.
    pub refresh: Option<Duration>,
}

/// Which other sites' pages may call (Fetch standard, CORS protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossOrigin {
    /// Any: the dialect's clients hold their tokens themselves, so no cookie can be abused.
    Any,
    /// None.
    None,
}

/// What a dialect may tell about the gate.
#[derive(Debug)]
pub struct Facts<'a> {
    /// `iss` of the tokens.
    pub issuer: &'a str,
    /// `aud` of the tokens.
    pub audience: &'a str,
    /// The scheme and host that were asked for with the mount's prefix.
    pub base: String,
    /// The public keys, as JWK.
    pub keys: Vec<&'a Value>,
}

/// One system's way of speaking login.
pub trait Dialect: Debug + Sync {
    /// The name in metrics and logs.
    fn name(&self) -> &'static str;

    /// Whether this path, below the mount's prefix, is the dialect's.
    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint>;

    /// Wire to meaning.
    ///
    /// # Errors
    /// The refusal of what does not fit.
    fn parse(
        &self,
        endpoint: Endpoint,
        head: &request::Parts,
        body: &[u8],
    ) -> Result<Grant, Refusal>;

    /// Tokens to wire.
    fn granted(&self, endpoint: Endpoint, tokens: &TokenPair) -> Response<Bytes>;

    /// What is told to whoever asks, for [`Endpoint::About`], [`Endpoint::Keys`] and
    /// [`Endpoint::Metadata`].
    fn about(&self, _endpoint: Endpoint, _facts: &Facts<'_>) -> Response<Bytes> {
        Response::default()
    }

    /// A token is no longer good, or never was.
    fn revoked(&self) -> Response<Bytes> {
        Response::default()
    }

    /// What is in a token; nothing if it is not good.
    fn introspected(&self, _token: Option<&VerifiedToken>, _facts: &Facts<'_>) -> Response<Bytes> {
        Response::default()
    }

    /// Refusal to wire, on an endpoint of the dialect or on a route of its clients.
    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes>;

    /// Which other sites' pages may call.
    fn cross_origin(&self) -> CrossOrigin;

    /// What a refresh does to the refresh token.
    fn refresh_mode(&self) -> RefreshMode {
        RefreshMode::Rotate
    }

    /// How long its tokens live where the config does not say.
    fn usual_lifetimes(&self) -> UsualLifetimes {
        UsualLifetimes::default()
    }

    /// Claims that its clients read from their tokens, beyond those that every token has.
    fn claims(&self, _kind: TokenType, _lifetime: Duration) -> Map<String, Value> {
        Map::new()
    }
}

/// A dialect where it is mounted.
#[derive(Debug)]
pub struct Mount {
    /// The dialect.
    pub dialect: &'static dyn Dialect,
    /// How long its tokens live.
    pub lifetimes: Lifetimes,
    /// What stands in front of the dialect's paths.
    pub prefix: String,
    host: Option<String>,
}

/// All mounts.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Builds all mounts; notes every problem.
    #[must_use]
    pub fn build(configs: &[LoginConfig], defaults: &Lifetimes, problems: &mut Problems) -> Self {
        let mut mounts = Vec::<Mount>::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            let at = format!("login[{index}]");
            let mount = config.build(&at, defaults, problems);
            let clash = mounts.iter().any(|other| {
                other.dialect.name() == mount.dialect.name()
                    && (&other.host, &other.prefix) == (&mount.host, &mount.prefix)
            });
            if clash {
                problems.add(
                    &at,
                    "the same dialect is mounted on this host and prefix already",
                );
            }
            mounts.push(mount);
        }
        Self(mounts)
    }

    /// How long tokens live at each mount.
    pub fn lifetimes(&self) -> impl Iterator<Item = &Lifetimes> {
        self.0.iter().map(|mount| &mount.lifetimes)
    }

    /// The mount and endpoint that a request is for, if any.
    #[must_use]
    pub fn find(&self, host: &str, head: &request::Parts) -> Option<(&Mount, Endpoint)> {
        let path = head.uri.path();
        self.0.iter().find_map(|mount| {
            if mount.host.as_deref().is_some_and(|wanted| wanted != host) {
                return None;
            }
            let endpoint = mount
                .dialect
                .endpoint(head, path.strip_prefix(&mount.prefix)?)?;
            Some((mount, endpoint))
        })
    }
}

impl LoginConfig {
    fn build(&self, at: &str, defaults: &Lifetimes, problems: &mut Problems) -> Mount {
        let or = |own: Option<Span>, default: Duration| own.map_or(default, |span| span.0);
        let usual = self.dialect.dialect().usual_lifetimes();
        let max_access = or(self.max_access_ttl, defaults.max_access);
        let max_refresh = or(self.max_refresh_ttl, defaults.max_refresh);
        let lifetimes = Lifetimes {
            access: or(
                self.access_ttl,
                usual
                    .access
                    .map_or(defaults.access, |usual| usual.min(max_access)),
            ),
            refresh: or(
                self.refresh_ttl,
                usual
                    .refresh
                    .map_or(defaults.refresh, |usual| usual.min(max_refresh)),
            ),
            max_access,
            max_refresh,
        };
        lifetimes.check(at, problems);
        let prefix = self.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.ends_with('/')) {
            problems.add(
                format_args!("{at}.prefix"),
                "must start with `/` and not end with it",
            );
        }
        Mount {
            dialect: self.dialect.dialect(),
            lifetimes,
            host: self.host.as_ref().map(|host| host.to_ascii_lowercase()),
            prefix,
        }
    }
}
