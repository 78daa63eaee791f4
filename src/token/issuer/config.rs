//! How is an external issuer configured, and what is wrong with its configuration?

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fetch::Client;
use super::flow::CodeFlow;
use super::source::{KeySource, SourceSpec};
use super::url;
use super::{Issuer, ScopeRules};
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::value::{Expanded, Span};
use crate::token::keys::KeyAlgorithm;

/// An external issuer of tokens, such as Auth0 or Keycloak, found by `OpenID` Connect Discovery.
/// Its tokens are taken as they are, and exchanged at logins that know how to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// `iss` of its tokens, letter by letter. Unless `jwks_uri` says where its keys are, they are
    /// found through `.well-known/openid-configuration` below it.
    pub issuer: Expanded,
    /// One name or a list, of which a token's `aud` must name at least one.
    #[serde(default)]
    pub audience: Option<Names>,
    /// Danger: takes tokens that the issuer gave for any other service, too.
    #[serde(default)]
    pub danger_any_audience: bool,
    /// Where its keys are (RFC 7517 section 5). Default: where its discovery document says.
    #[serde(default)]
    pub jwks_uri: Option<Expanded>,
    /// A PEM file with the certificates that sign the issuer's TLS certificate. Default: the
    /// public ones that Mozilla trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Danger: lets keys be fetched without TLS from another machine. Whoever is on the way can
    /// then make tokens.
    #[serde(default)]
    pub danger_plaintext: bool,
    /// The only values of `sub` that may come from it. Default: all.
    #[serde(default)]
    pub allowed_subjects: Option<BTreeSet<String>>,
    /// What is put before `sub`, such as `auth0:`, so that nobody there can pass for somebody of
    /// another provider.
    #[serde(default)]
    pub subject_prefix: String,
    /// Which scopes its tokens have here.
    #[serde(default)]
    pub scopes: ScopesConfig,
    /// The claim that holds groups, by name or by the path to it.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Whether its tokens are good on routes as they are. Otherwise they only buy the gate's own
    /// at a login.
    #[serde(default = "yes")]
    pub bearer: bool,
    /// The algorithms that its keys may be for; never HMAC. Default: RS256, PS256, ES256, ES384,
    /// `EdDSA`.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<KeyAlgorithm>,
    /// How its keys are kept.
    #[serde(default)]
    pub keys: KeysConfig,
    /// The client that users' own programs log in with at the issuer, where a dialect tells it to
    /// them.
    #[serde(default)]
    pub client_id: Option<String>,
    /// People may log in at the issuer from the gate's login page, as `client_id`. The issuer must
    /// know `/login/callback` of the gate, below the login's `prefix`, as a redirect URI. Of several
    /// such issuers only the first; the others have paths of their own, so that none is shown
    /// another's code: `/login/callback/` and the issuer without its scheme, in small letters, with
    /// `-` for whatever is no letter, digit or dot (`login.example-realms-a`).
    #[serde(default)]
    pub browser: Option<BrowserConfig>,
}

/// How people log in at an issuer in a browser: by code, with PKCE (RFC 7636).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrowserConfig {
    /// What the issuer is called on the login page. Default: its host.
    pub name: Option<String>,
    /// The file with the secret by which the gate proves to be the client. Default: none; the
    /// client is a public one.
    pub client_secret_file: Option<PathBuf>,
    /// The scopes that are asked for; `openid` must be one.
    pub scopes: Vec<String>,
}

impl Default for BrowserConfig {
    fn default() -> Self {
        Self {
            name: None,
            client_secret_file: None,
            scopes: vec!["openid".to_owned()],
        }
    }
}

/// One name or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Names {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// Which scopes an external token has here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScopesConfig {
    /// The claim that holds them, by name or by the path to it: a text with spaces between, or a
    /// list.
    pub claim: String,
    /// External names, and the scopes that each stands for. Once given, others count for nothing.
    /// Default: taken as they are.
    pub map: Option<BTreeMap<String, Vec<String>>>,
    /// Scopes that every token of the issuer has.
    pub grant: Vec<String>,
}

impl Default for ScopesConfig {
    fn default() -> Self {
        Self {
            claim: "scope".to_owned(),
            map: None,
            grant: Vec::new(),
        }
    }
}

/// How an external issuer's keys are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// They are fetched again before they are older than this. If that fails they go on, and it
    /// is tried again and again.
    pub soft_ttl: Span,
    /// Once they are older than this they are good no more: tokens are answered with 503.
    pub hard_ttl: Span,
    /// How often at most a key id that is not known has them fetched.
    pub unknown_key_interval: Span,
    /// How long fetching them may take; requests that need it wait so long.
    pub timeout: Span,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self {
            soft_ttl: Span::seconds(10 * 60),
            hard_ttl: Span::seconds(24 * 3600),
            unknown_key_interval: Span::seconds(10),
            timeout: Span::seconds(5),
        }
    }
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}

const fn yes() -> bool {
    true
}

fn default_algorithms() -> Vec<KeyAlgorithm> {
    vec![
        KeyAlgorithm::RS256,
        KeyAlgorithm::PS256,
        KeyAlgorithm::ES256,
        KeyAlgorithm::ES384,
        KeyAlgorithm::EdDSA,
    ]
}

impl OidcConfig {
    /// Reads what it needs; notes every problem.
    pub(super) fn build(&self, at: &str, files: &Files, problems: &mut Problems) -> Option<Issuer> {
        let audiences = self.audiences(at, problems);
        if self
            .allowed_subjects
            .as_ref()
            .is_some_and(BTreeSet::is_empty)
        {
            let text = "allows nobody; leave it out to allow everybody";
            problems.add(format_args!("{at}.allowed_subjects"), text);
        }
        self.scopes.check(&format!("{at}.scopes"), problems);
        let login = self.code_flow(at, files, problems);
        let source = self.source(at, files, problems)?;
        Some(Issuer {
            name: self.issuer.0.clone(),
            host: source.spec().issuer_host().to_owned(),
            audiences,
            prefix: self.subject_prefix.clone(),
            allowed_subjects: self.allowed_subjects.clone(),
            scopes: ScopeRules(self.scopes.clone()),
            groups_claim: self.groups_claim.clone(),
            is_bearer: self.bearer,
            client_id: self.client_id.clone(),
            login,
            callback: String::new(),
            source: source.into(),
        })
    }

    fn code_flow(&self, at: &str, files: &Files, problems: &mut Problems) -> Option<CodeFlow> {
        let config = self.browser.as_ref()?;
        let at = format!("{at}.browser");
        if !config.scopes.iter().any(|scope| scope == "openid") {
            problems.add(
                format_args!("{at}.scopes"),
                "must hold `openid`: without it the issuer does not say who logged in",
            );
        }
        let client_id = self.client_id.clone().ok_or("needs `client_id` beside it");
        let client_id = problems.take(&at, client_id);
        let secret = config.client_secret_file.as_ref().map(|path| {
            let read = files.read_secret_text(path);
            problems.take(format_args!("{at}.client_secret_file"), read)
        });
        let secret = secret.map_or(Some(None), |secret| secret.map(Some))?;
        // As in `source`, which tells what is wrong with it.
        let certificates = self.ca_file.as_ref().and_then(|path| files.read(path).ok());
        let client = Client::new(certificates.as_deref()).ok()?;
        Some(CodeFlow::new(config, client_id?, secret, client))
    }

    /// The names of which a token must have one; nothing if any will do.
    fn audiences(&self, at: &str, problems: &mut Problems) -> Option<Vec<String>> {
        let names = match &self.audience {
            None => Vec::new(),
            Some(Names::One(name)) => vec![name.clone()],
            Some(Names::Several(names)) => names.clone(),
        };
        let at = format!("{at}.audience");
        if names.iter().any(String::is_empty) {
            problems.add(&at, "must not be empty");
        }
        if self.danger_any_audience {
            if !names.is_empty() {
                problems.add(&at, "is of no use with `danger_any_audience`");
            }
            return None;
        }
        if names.is_empty() {
            problems.add(
                &at,
                "is missing: tokens that the issuer gave for other services would be good here; name this one or say `danger_any_audience: true`",
            );
        }
        Some(names)
    }

    fn source(&self, at: &str, files: &Files, problems: &mut Problems) -> Option<KeySource> {
        self.check_algorithms(at, problems);
        self.keys.check(&format!("{at}.keys"), problems);
        let check = |text: &str| url::parse(text, self.danger_plaintext);
        let issuer = problems.take(format_args!("{at}.issuer"), check(&self.issuer.0));
        let jwks = self.jwks_uri.as_ref().map(|text| {
            let uri = check(&text.0);
            problems.take(format_args!("{at}.jwks_uri"), uri)
        });
        let certificates = self.ca_file.as_ref().map(|path| {
            let pem = files.read(path);
            problems.take(format_args!("{at}.ca_file"), pem)
        });
        let certificates = certificates.map_or(Some(None), |pem| pem.map(Some))?;
        let client = Client::new(certificates.as_deref());
        let client = problems.take(format_args!("{at}.ca_file"), client)?;
        let (issuer, jwks): (Uri, _) = (issuer?, jwks.map_or(Some(None), |uri| uri.map(Some))?);
        let spec = SourceSpec {
            issuer: self.issuer.0.clone(),
            issuer_uri: issuer,
            jwks,
            certificates,
            is_plaintext_fine: self.danger_plaintext,
            algorithms: self.algorithms.clone(),
            keys: self.keys.clone(),
        };
        Some(KeySource::new(spec, client))
    }

    fn check_algorithms(&self, at: &str, problems: &mut Problems) {
        let at = format!("{at}.algorithms");
        if self.algorithms.is_empty() {
            problems.add(&at, "at least one is needed: every token would be refused");
        }
        for algorithm in self.algorithms.iter().filter(|it| it.is_symmetric()) {
            let name = algorithm.name();
            problems.add(
                &at,
                format_args!("{name} is for shared secrets; a published key is none"),
            );
        }
    }
}

impl ScopesConfig {
    fn check(&self, at: &str, problems: &mut Problems) {
        let is_scope = |scope: &&String| scope.is_empty() || scope.contains(char::is_whitespace);
        let local = self.map.iter().flatten().flat_map(|(_, scopes)| scopes);
        for scope in local.chain(&self.grant).filter(is_scope) {
            problems.add(
                at,
                format_args!("`{scope}` is no scope: it is empty or has a space"),
            );
        }
        if self.claim.is_empty() {
            problems.add(format_args!("{at}.claim"), "must not be empty");
        }
    }
}

impl KeysConfig {
    fn check(&self, at: &str, problems: &mut Problems) {
        for (key, span) in [
            ("soft_ttl", self.soft_ttl),
            ("unknown_key_interval", self.unknown_key_interval),
            ("timeout", self.timeout),
        ] {
            if span.0.is_zero() {
                problems.add(format_args!("{at}.{key}"), "must be more than nothing");
            }
        }
        if self.hard_ttl <= self.soft_ttl {
            problems.add(
                format_args!("{at}.hard_ttl"),
                "must be more than soft_ttl: it is how long keys go on when they cannot be fetched",
            );
        }
        if self.timeout.0 > MAX_TIMEOUT {
            problems.add(format_args!("{at}.timeout"), "must be at most 1m");
        }
    }
}

/// The longest that a request may have to wait for keys.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
