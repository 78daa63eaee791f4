//! Who is this? The providers that know users, asked in the config's order.

pub mod hashing;
mod oidc;
pub mod operators;
pub mod throttle;
pub mod upstream_probe;
pub mod users_file;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};
use crate::token::Tokens;
use crate::token::issuer::Issuers;
use crate::token::issuer::config::OidcConfig;
use crate::token::revocation::Revocations;
use crate::token::seal::UpstreamLogin;
use crate::token::verify::VerifiedToken;
use crate::upstream::config::UpstreamConfig;
use crate::upstream::connect::Upstream;
use hashing::HashingPool;
use oidc::Oidc;
pub use oidc::issuer_of;
use upstream_probe::{UpstreamProbe, UpstreamProbeConfig};
use users_file::UsersFile;

/// One provider that knows users.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum IdentityConfig {
    /// An external issuer of tokens, such as Auth0 or Keycloak.
    Oidc(Box<OidcConfig>),
    /// The upstream itself is asked with the given credentials.
    UpstreamProbe(UpstreamProbeConfig),
    /// A YAML file with users and the hashes of their passwords.
    UsersFile(PathBuf),
}

/// Someone who claims to be someone.
#[derive(Debug)]
pub struct Attempt {
    /// A user's name or e-mail address.
    pub identifier: String,
    /// What is to prove it.
    pub secret: Secret<String>,
    /// Which of the user's secrets it is.
    pub kind: SecretKind,
    /// What the user wants to work with, where the dialect's clients name it; the user must be
    /// allowed to.
    pub resource: Option<String>,
}

impl Attempt {
    /// The name and password of a pair as Basic has it (RFC 7617 section 2).
    pub(crate) fn of_basic(pair: &str) -> Option<Self> {
        let bytes = Secret::new(STANDARD.decode(pair).ok()?);
        let (name, password) = str::from_utf8(bytes.expose()).ok()?.split_once(':')?;
        Some(Self {
            identifier: name.to_owned(),
            secret: Secret::new(password.to_owned()),
            kind: SecretKind::Password,
            resource: None,
        })
    }
}

/// Which of a user's secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// A token that an account gave to a program; it names its account itself.
    ApplicationToken,
    /// A token that brokers' clients use in place of a password.
    ConnectionToken,
    /// A token of an external issuer, which names its subject itself.
    ExternalToken,
    /// The password.
    Password,
    /// The SHA-1 of the password in hexadecimal digits, or the password itself.
    Sha1Password,
}

/// Who was authenticated.
#[derive(Debug)]
pub struct Principal {
    /// The one name of the account, whichever of its names was given.
    pub subject: String,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Further claims for its tokens.
    pub claims: Map<String, Value>,
    /// The resource that was asked for, and may be used.
    pub resource: Option<String>,
    /// Which provider knows the account, and in which state; see [`Providers::renew`].
    pub account: String,
    /// The family that its tokens belong to, if the login has one already.
    pub family: Option<String>,
    /// What the user logged in with; nothing if an upstream could do nothing with it.
    pub login: Option<UpstreamLogin>,
}

/// What providers work with.
#[derive(Debug)]
pub struct Means<'a> {
    /// This worker's upstreams, in the config's order.
    pub upstreams: &'a [Rc<Upstream>],
    /// Where passwords are hashed.
    pub hashing: &'a HashingPool,
    /// What tokens have to be, and whose are good.
    pub tokens: &'a Tokens,
    /// What was taken back.
    pub revocations: &'a Revocations,
    /// Who asks.
    pub client: IpAddr,
}

/// What a refresh token says of its account.
#[derive(Debug)]
pub struct Renewal<'a> {
    /// The state of the account that it was issued for, without the provider's mark.
    pub state: &'a str,
    /// The refresh token.
    pub token: &'a VerifiedToken,
    /// Its further claims.
    pub claims: Map<String, Value>,
    /// What the user logged in with, if it was sealed into the token.
    pub login: Option<UpstreamLogin>,
}

/// One kind of provider.
pub(crate) trait IdentityProvider {
    /// Marks the provider's accounts in refresh tokens.
    const KIND: &'static str;

    /// Judges a login. Nothing if the account is not this provider's.
    async fn authenticate(
        &self,
        attempt: &Attempt,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal>;

    /// Judges whether an account of this provider is still as it was. Nothing if it is not this
    /// provider's.
    async fn renew(
        &self,
        renewal: Renewal<'_>,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal>;

    /// The account of this subject as it is now, whatever its state was. Nothing if it is not
    /// this provider's, or if the provider has nothing to judge it by.
    async fn recall(
        &self,
        subject: &str,
        login: Option<UpstreamLogin>,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal>;
}

/// The registry of provider kinds.
#[derive(Debug)]
enum Provider {
    Oidc(Oidc),
    UpstreamProbe(UpstreamProbe),
    UsersFile(UsersFile),
}

impl Provider {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Oidc(_) => Oidc::KIND,
            Self::UpstreamProbe(_) => UpstreamProbe::KIND,
            Self::UsersFile(_) => UsersFile::KIND,
        }
    }
}

/// The external issuers among the providers; notes every problem.
#[must_use]
pub fn issuers(
    configs: &[IdentityConfig],
    own_issuer: &str,
    files: &Files,
    problems: &mut Problems,
) -> Issuers {
    let external = configs.iter().enumerate().filter_map(|(index, config)| {
        let at = format!("identity[{index}].oidc");
        match config {
            IdentityConfig::Oidc(config) => Some((at, &**config)),
            _ => None,
        }
    });
    let external: Vec<_> = external.collect();
    let others = configs.len() - external.len();
    let is_loose = |prefix: &str| !prefix.is_empty() && !prefix.contains(':');
    for (at, config) in &external {
        if others > 0 && is_loose(&config.subject_prefix) {
            problems.add(
                format_args!("{at}.subject_prefix"),
                "must hold a `:` next to a users_file or an upstream_probe: no name there has one",
            );
        }
    }
    Issuers::build(&external, own_issuer, others, files, problems)
}

/// Notes a user of this file whom one before it has already: nobody would ever be asked for this one,
/// whose credentials for upstreams would go to the other all the same.
fn check_apart(at: &str, file: &UsersFile, before: &[Provider], problems: &mut Problems) {
    for provider in before {
        if let Provider::UsersFile(other) = provider
            && let Some(name) = file.shared_with(other)
        {
            let text = format_args!("`{name}` is a user of another users_file, too");
            problems.add(format_args!("{at}.users_file"), text);
        }
    }
}

/// The providers, in the config's order.
#[derive(Debug)]
pub struct Providers(Vec<Provider>);

impl Providers {
    /// Reads what they need; notes every problem.
    #[must_use]
    pub fn build(
        configs: &[IdentityConfig],
        upstreams: &BTreeMap<String, UpstreamConfig>,
        can_seal: bool,
        files: &Files,
        problems: &mut Problems,
    ) -> Self {
        let mut providers = Vec::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            let at = format!("identity[{index}]");
            providers.extend(match config {
                IdentityConfig::Oidc(_) => Some(Provider::Oidc(Oidc)),
                IdentityConfig::UpstreamProbe(config) => {
                    if !can_seal {
                        problems.add(
                            format_args!("{at}.upstream_probe"),
                            "asks again at every refresh, with the credentials sealed into the token, so it needs tokens.seal_key_file",
                        );
                    }
                    config.build(&at, upstreams, problems).map(Provider::UpstreamProbe)
                }
                IdentityConfig::UsersFile(path) => {
                    let file = UsersFile::read(&at, path, files, problems);
                    if let Some(file) = &file {
                        check_apart(&at, file, &providers, problems);
                    }
                    file.map(Provider::UsersFile)
                }
            });
        }
        Self(providers)
    }

    /// The Basic credentials that users files have for their users, by name, if there is such a
    /// file.
    #[must_use]
    pub fn upstream_credentials(&self) -> Option<HashMap<String, HeaderValue>> {
        let files = self.0.iter().filter_map(|provider| match provider {
            Provider::UsersFile(file) => Some(file),
            Provider::Oidc(_) | Provider::UpstreamProbe(_) => None,
        });
        let mut files = files.peekable();
        files.peek()?;
        Some(files.flat_map(UsersFile::upstream_credentials).collect())
    }

    /// Whether any provider has to see the login again at a refresh.
    #[must_use]
    pub fn need_login(&self) -> bool {
        self.0
            .iter()
            .any(|provider| matches!(provider, Provider::UpstreamProbe(_)))
    }

    /// Whether any of them knows passwords.
    #[must_use]
    pub fn know_passwords(&self) -> bool {
        let mut providers = self.0.iter();
        providers.any(|provider| !matches!(provider, Provider::Oidc(_)))
    }

    /// Judges a login.
    ///
    /// # Errors
    /// [`Reason::BadCredentials`], also if nobody knows the account; what is wrong with an external
    /// token; what kept the gate from
    /// judging otherwise.
    pub async fn authenticate(
        &self,
        attempt: &Attempt,
        means: &Means<'_>,
    ) -> Result<Principal, Refusal> {
        for provider in &self.0 {
            let principal = match provider {
                Provider::Oidc(oidc) => oidc.authenticate(attempt, means).await?,
                Provider::UpstreamProbe(probe) => probe.authenticate(attempt, means).await?,
                Provider::UsersFile(file) => file.authenticate(attempt, means).await?,
            };
            if let Some(principal) = principal {
                return Ok(principal);
            }
        }
        match attempt.kind {
            SecretKind::ExternalToken => Err(Reason::WrongIssuer.into()),
            _ => Err(Reason::BadCredentials.into()),
        }
    }

    /// Judges whether the account of a refresh token is still as it was.
    ///
    /// # Errors
    /// [`Reason::BadCredentials`] if it changed or is gone; what kept the gate from judging
    /// otherwise.
    pub async fn renew(
        &self,
        token: &VerifiedToken,
        claims: Map<String, Value>,
        login: Option<UpstreamLogin>,
        means: &Means<'_>,
    ) -> Result<Principal, Refusal> {
        let account = token.account().ok_or(Reason::BadCredentials)?;
        let (kind, state) = account.split_once(':').ok_or(Reason::BadCredentials)?;
        for provider in self.0.iter().filter(|provider| provider.kind() == kind) {
            let renewal = Renewal {
                state,
                token,
                claims: claims.clone(),
                login: login.clone(),
            };
            let principal = match provider {
                Provider::Oidc(oidc) => oidc.renew(renewal, means).await?,
                Provider::UpstreamProbe(probe) => probe.renew(renewal, means).await?,
                Provider::UsersFile(file) => file.renew(renewal, means).await?,
            };
            if let Some(principal) = principal {
                return Ok(principal);
            }
        }
        Err(Reason::BadCredentials.into())
    }

    /// The account of a subject as it is now, by the provider of this kind.
    ///
    /// # Errors
    /// [`Reason::BadCredentials`] if it is gone; what kept the gate from judging otherwise.
    pub async fn recall(
        &self,
        subject: &str,
        kind: &str,
        login: Option<UpstreamLogin>,
        means: &Means<'_>,
    ) -> Result<Principal, Refusal> {
        for provider in self.0.iter().filter(|provider| provider.kind() == kind) {
            let login = login.clone();
            let principal = match provider {
                Provider::Oidc(oidc) => oidc.recall(subject, login, means).await?,
                Provider::UpstreamProbe(probe) => probe.recall(subject, login, means).await?,
                Provider::UsersFile(file) => file.recall(subject, login, means).await?,
            };
            if let Some(principal) = principal {
                return Ok(principal);
            }
        }
        Err(Reason::BadCredentials.into())
    }
}
