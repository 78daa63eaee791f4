//! How do a system's clients say "log me in", "refresh", and what do they expect back?
//!
//! A dialect is a pure mapping between wire and meaning, without I/O, clock or store.

pub mod basic;
pub mod browser;
pub mod datarhei;
pub mod emnify;
mod grant;
pub mod jmvstream;
pub mod memphis;
mod mount;
pub mod oauth2;
pub mod ticket;
pub(crate) mod wire;

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, request};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::secret::Secret;
use crate::config::value::Span;
use crate::cors::CorsConfig;
use crate::refusal::Refusal;
use crate::token::TokenType;
use crate::token::issue::TokenPair;
use crate::token::verify::VerifiedToken;
pub use grant::{
    ApplicationAnswer, ApplicationCommand, Asked, AskedLifetimes, Asker, Client, Grant,
};
pub use mount::{Mount, Mounts};

/// One login that the gate answers itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
    /// Which system's clients are spoken to.
    pub dialect: DialectName,
    /// The name of the only listener that it is on. Default: any.
    #[serde(default)]
    pub listener: Option<String>,
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
    /// Which other sites' pages may call. Default: anybody's without cookies where the dialect has
    /// its clients hold their tokens themselves, else nobody's.
    #[serde(default)]
    pub cors: Option<CorsConfig>,
}

/// The registry of dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DialectName {
    /// Basic on every request, as STS-MQTT's clients send it. It has no login: a route's `basic`
    /// takes the credentials, and this is the form of its refusals.
    Basic,
    /// People in a browser: a login page, and a cookie that stands for the login.
    Browser,
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
    /// A ticket, good once and for a moment, for an access token: for clients that can only use
    /// URLs.
    Ticket,
}

impl DialectName {
    /// The dialect of this name.
    #[must_use]
    pub fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::Basic => &basic::Basic,
            Self::Browser => &browser::Browser,
            Self::Datarhei => &datarhei::Datarhei,
            Self::Emnify => &emnify::Emnify,
            Self::Jmvstream => &jmvstream::Jmvstream,
            Self::Memphis => &memphis::Memphis,
            Self::Oauth2 => &oauth2::Oauth2,
            Self::Ticket => &ticket::Ticket,
        }
    }

    /// Whether its endpoint gives tickets.
    #[must_use]
    pub const fn gives_tickets(self) -> bool {
        matches!(self, Self::Ticket)
    }
}

/// What a dialect's path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The application tokens of who asks: their list, and new ones.
    Applications,
    /// One application token, by its number.
    Application(u64),
    /// A page for people, or what its form sends.
    Browser(browser::Step),
    /// What the service is, told to who presents no good token; who does is on the way to a
    /// route. See [`Dialect::about`].
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
    /// An access token for a ticket.
    Ticket,
    /// The dialect's path, but not a method of it; those are these, as in `Allow`.
    WrongMethod(&'static str),
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
    /// Whether anybody can log in with a password.
    pub knows_passwords: bool,
    /// The external issuers whose tokens can be exchanged.
    pub issuers: Vec<ExternalIssuer<'a>>,
}

/// What a user's own program has to know to log in at an external issuer. Empty where that is not
/// configured.
#[derive(Clone, Copy, Debug)]
pub struct ExternalIssuer<'a> {
    /// Its host.
    pub host: &'a str,
    /// The audience to ask a token for.
    pub audience: &'a str,
    /// The program's `client_id` there.
    pub client_id: &'a str,
}

/// One system's way of speaking login.
pub trait Dialect: Debug + Sync {
    /// The name in metrics and logs.
    fn name(&self) -> &'static str;

    /// Every path of [`Dialect::endpoint`], below the mount's prefix; `/*` at the end is for any
    /// one segment. None if the dialect lives on routes alone.
    fn paths(&self) -> &'static [&'static str];

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

    /// What happened with application tokens to wire.
    fn applications(&self, _answer: &ApplicationAnswer) -> Response<Bytes> {
        Response::default()
    }

    /// A ticket to wire, good for so long.
    fn ticket(&self, _ticket: &Secret<String>, _lifetime: Duration) -> Response<Bytes> {
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

    /// The path of its page where people log in, if it has one. Its logins are held in cookies.
    fn login_page(&self) -> Option<&'static str> {
        None
    }

    /// Claims that its clients read from their tokens, beyond those that every token has.
    fn claims(&self, _kind: TokenType, _lifetime: Duration) -> Map<String, Value> {
        Map::new()
    }
}
