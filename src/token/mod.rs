//! What is in a token, and how long may it live?

pub mod cache;
pub mod claimed;
pub mod compact;
pub mod hash;
pub mod issue;
pub mod issuer;
pub mod keys;
pub mod listing;
pub mod revocation;
pub mod seal;
mod signature;
mod sync;
pub mod verify;

use std::ops::Not;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::value::{Expanded, Span};
use cache::CacheConfig;
use claimed::Wanted;
use issuer::Issuers;
use keys::{KeyConfig, KeyRing};
use seal::Sealer;

/// What tokens look like, how long they live, which keys sign and verify them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokensConfig {
    /// `iss` of the tokens that the gate issues, and the only one that it accepts.
    pub issuer: Expanded,
    /// `aud` of the tokens that the gate issues; an accepted token must name it.
    /// Default: the issuer.
    #[serde(default)]
    pub audience: Option<Expanded>,
    /// How long an access token lives if the client does not ask for less or more.
    #[serde(default = "default_access_ttl")]
    pub access_ttl: Span,
    /// How long a refresh token lives if the client does not ask for less or more.
    #[serde(default = "default_refresh_ttl")]
    pub refresh_ttl: Span,
    /// The longest life of an access token; a client that asks for more gets this. A leaked token
    /// is good for so long.
    #[serde(default = "default_max_access_ttl")]
    pub max_access_ttl: Span,
    /// The longest life of a refresh token; a client that asks for more gets this.
    #[serde(default = "default_max_refresh_ttl")]
    pub max_refresh_ttl: Span,
    /// How far clocks may be apart when `exp` and `nbf` are judged. It lengthens every token's
    /// life; at most 5m.
    #[serde(default = "default_leeway")]
    pub leeway: Span,
    /// How long after a refresh the old refresh token is still answered, with the same new pair:
    /// for clients whose answer was lost, or that refresh twice at once. After that, its use means
    /// that somebody else has it, and ends all that came from its login. At most 5m.
    #[serde(default = "default_refresh_grace")]
    pub refresh_grace: Span,
    /// The keys. The first one signs, so it needs its private half; the others go on verifying,
    /// so that keys rotate without a log-out.
    pub keys: Vec<KeyConfig>,
    /// A file with at least 32 random bytes: the key under which users' own upstream credentials
    /// are sealed into their tokens. Needed where a route says `credential: login`.
    #[serde(default)]
    pub seal_key_file: Option<PathBuf>,
    /// The cache of verified tokens.
    #[serde(default)]
    pub cache: CacheConfig,
}

const fn default_access_ttl() -> Span {
    Span::seconds(15 * 60)
}

const fn default_refresh_ttl() -> Span {
    Span::seconds(5 * 3600)
}

const fn default_max_access_ttl() -> Span {
    Span::seconds(24 * 3600)
}

const fn default_max_refresh_ttl() -> Span {
    Span::seconds(30 * 24 * 3600)
}

const fn default_refresh_grace() -> Span {
    Span::seconds(10)
}

const fn default_leeway() -> Span {
    Span::seconds(0)
}

/// Which kind of token: none can stand in for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// Opens routes. `typ` is `at+jwt` (RFC 9068 section 2.1).
    Access,
    /// Buys a new pair at the login endpoint, and nothing else. `typ` is `rt+jwt`.
    Refresh,
    /// Stands in a browser's cookie for a login, and nowhere else. `typ` is `session+jwt`.
    Session,
}

impl TokenType {
    /// The `typ` of the token's header (RFC 8725 section 3.11: explicit typing).
    #[must_use]
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Refresh => "rt+jwt",
            Self::Session => "session+jwt",
        }
    }
}

/// The claims of a token (RFC 7519 section 4.1, RFC 9068 section 2.2). Ill-typed and repeated
/// ones do not parse.
#[derive(Debug, Deserialize, Serialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom it is meant.
    pub aud: Audience,
    /// Who was authenticated.
    pub sub: String,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Not before this time.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub nbf: Option<u64>,
    /// Not at or after this time. Required.
    pub exp: u64,
    /// The token's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Scopes, space-separated (RFC 8693 section 4.2).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The groups that the subject belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The user's own upstream credential, sealed for the gate alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// What the subject asked to work with at its login, and may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The family: all tokens that came from one login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fam: Option<String>,
    /// In refresh tokens: the place in the family, from 0.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub r#gen: Option<u64>,
    /// Which kind of identity provider knows the account; in refresh tokens with the state of the
    /// account that it was issued for. A changed password changes that, and so ends the chain of
    /// refreshes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acct: Option<String>,
    /// The client that it was issued to (RFC 8693 section 4.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// In refresh tokens: whether the client proved that it is this one, and so has to again.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub client_proved: bool,
    /// Every other claim: those of the subject, and those that a dialect's clients read.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

/// The names of claims that have a meaning here: nobody's further claims may take them.
pub const RESERVED_CLAIMS: [&str; 20] = [
    "acct",
    "aud",
    "client_id",
    "client_proved",
    "cnf",
    "exi",
    "exp",
    "fam",
    "gen",
    "groups",
    "iat",
    "iss",
    "jti",
    "nbf",
    "resource",
    "scope",
    "scp",
    "sealed",
    "sub",
    "usefor",
];

/// A claim that is there has a value: `null` is ill-typed, not absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

/// `aud`: one name or several (RFC 7519 section 4.1.3).
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Audience {
    /// One name.
    One(String),
    /// Several names.
    Several(Vec<String>),
}

impl Audience {
    /// Whether `name` is among them.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|each| each == name),
        }
    }
}

/// The tokens' rules, ready for use.
#[derive(Debug)]
pub struct Tokens {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// How long an old refresh token is answered again.
    pub refresh_grace: Duration,
    /// The keys.
    pub keys: KeyRing,
    /// What seals upstream credentials, if configured.
    pub sealer: Option<Sealer>,
    /// Lifetimes where a login entry has none of its own.
    pub lifetimes: Lifetimes,
    /// The further claims that the rules ask for.
    pub wanted: Wanted,
    /// Whose tokens are good besides.
    pub issuers: Issuers,
}

/// How long tokens live, by default and at most.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// An access token's, unless asked otherwise.
    pub access: Duration,
    /// A refresh token's, unless asked otherwise.
    pub refresh: Duration,
    /// An access token's, at most.
    pub max_access: Duration,
    /// A refresh token's, at most.
    pub max_refresh: Duration,
}

impl Lifetimes {
    /// The access token's lifetime for a client that asked for `asked`.
    #[must_use]
    pub fn access(&self, asked: Option<Duration>) -> Duration {
        asked.unwrap_or(self.access).min(self.max_access)
    }

    /// The refresh token's lifetime for a client that asked for `asked`.
    #[must_use]
    pub fn refresh(&self, asked: Option<Duration>) -> Duration {
        asked.unwrap_or(self.refresh).min(self.max_refresh)
    }

    /// Notes what cannot be meant.
    pub fn check(&self, key: &str, problems: &mut Problems) {
        for (name, span) in [("access_ttl", self.access), ("refresh_ttl", self.refresh)] {
            if span < Duration::from_secs(1) {
                problems.add(format_args!("{key}.{name}"), "must be at least 1s");
            }
        }
        for (name, max_name, span, max) in [
            ("access_ttl", "max_access_ttl", self.access, self.max_access),
            (
                "refresh_ttl",
                "max_refresh_ttl",
                self.refresh,
                self.max_refresh,
            ),
        ] {
            if span > max {
                problems.add(
                    format_args!("{key}.{name}"),
                    format_args!(
                        "{} is more than {max_name}, {}",
                        humantime::format_duration(span),
                        humantime::format_duration(max)
                    ),
                );
            }
        }
    }
}

/// The longest leeway: more would make `exp` meaningless.
pub(crate) const MAX_LEEWAY: Duration = Duration::from_secs(300);

impl TokensConfig {
    /// How long tokens live where a login entry does not say otherwise.
    #[must_use]
    pub const fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            access: self.access_ttl.0,
            refresh: self.refresh_ttl.0,
            max_access: self.max_access_ttl.0,
            max_refresh: self.max_refresh_ttl.0,
        }
    }

    /// Reads keys and checks the rules; notes every problem.
    #[must_use]
    pub fn build(&self, files: &Files, problems: &mut Problems) -> Option<Tokens> {
        let keys = KeyRing::build(&self.keys, files, problems);
        let sealer = self.seal_key_file.as_ref().and_then(|path| {
            let key = problems.take("tokens.seal_key_file", files.read_secret(path))?;
            problems.take("tokens.seal_key_file", Sealer::from_secret(key.expose()))
        });
        let lifetimes = self.lifetimes();
        lifetimes.check("tokens", problems);
        for (key, span) in [
            ("leeway", self.leeway),
            ("refresh_grace", self.refresh_grace),
        ] {
            if span.0 > MAX_LEEWAY {
                problems.add(format_args!("tokens.{key}"), "must be at most 5m");
            }
        }
        if self.issuer.0.is_empty() {
            problems.add("tokens.issuer", "must not be empty");
        }
        if self
            .audience
            .as_ref()
            .is_some_and(|audience| audience.0.is_empty())
        {
            problems.add("tokens.audience", "must not be empty");
        }
        Some(Tokens {
            issuer: self.issuer.0.clone(),
            audience: self.audience.as_ref().unwrap_or(&self.issuer).0.clone(),
            leeway: self.leeway.0,
            refresh_grace: self.refresh_grace.0,
            keys: keys?,
            sealer,
            lifetimes,
            wanted: Wanted::default(),
            issuers: Issuers::default(),
        })
    }
}
