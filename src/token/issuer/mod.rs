//! Whose tokens are good here besides the gate's own, and as whom do their subjects count?

pub mod config;
pub mod fetch;
pub mod flow;
pub mod judge;
pub(crate) mod jwks;
pub mod source;
mod url;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::claimed::{find, texts};
use super::compact::{issuer_of, key_id_of};
use crate::config::files::Files;
use crate::config::problem::Problems;
use config::{OidcConfig, ScopesConfig};
use flow::CodeFlow;
use source::KeySource;

/// The external issuers, in the config's order.
#[derive(Debug, Default)]
pub struct Issuers(Vec<Issuer>);

/// One external issuer's rules.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    host: String,
    audiences: Option<Vec<String>>,
    prefix: String,
    allowed_subjects: Option<BTreeSet<String>>,
    scopes: ScopeRules,
    groups_claim: String,
    is_bearer: bool,
    client_id: Option<String>,
    login: Option<CodeFlow>,
    callback: String,
    source: Arc<KeySource>,
}

#[derive(Debug)]
struct ScopeRules(ScopesConfig);

impl Issuer {
    /// `iss`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its host, with the port if it has one of its own.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The first name of which a token's `aud` must have one; nothing if any will do.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        self.audiences.as_ref()?.first().map(String::as_str)
    }

    /// The client that users' own programs log in with there.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// What tells the path that it sends browsers back to from those of the issuers before it:
    /// nothing for the first at which people log in, else `/` and its name in plain letters.
    #[must_use]
    pub fn callback(&self) -> &str {
        &self.callback
    }

    /// Whether somebody who counts as `subject` here may still come from it.
    #[must_use]
    pub fn allows(&self, subject: &str) -> bool {
        let external = subject.strip_prefix(&*self.prefix);
        external.is_some_and(|external| self.allows_external(external))
    }

    fn allows_external(&self, subject: &str) -> bool {
        let allowed = self.allowed_subjects.as_ref();
        allowed.is_none_or(|allowed| allowed.contains(subject))
    }
}

impl ScopeRules {
    /// The scopes that a token with these claims has here, space-separated.
    fn of(&self, claims: &Map<String, Value>) -> String {
        let Self(rules) = self;
        let values = find(claims, &rules.claim).map(texts).unwrap_or_default();
        let is_text = find(claims, &rules.claim).is_some_and(Value::is_string);
        let names = values.iter().flat_map(|value| match is_text {
            true => value.split_ascii_whitespace().collect(),
            false => vec![&**value],
        });
        let mut scopes: Vec<&str> = rules.grant.iter().map(String::as_str).collect();
        for name in names {
            match &rules.map {
                Some(map) => {
                    scopes.extend(map.get(name).into_iter().flatten().map(String::as_str));
                }
                // One with a space in it would pass for several.
                None if name.is_empty() || name.contains(char::is_whitespace) => {}
                None => scopes.push(name),
            }
        }
        let mut seen = BTreeSet::new();
        scopes.retain(|scope| seen.insert(*scope));
        scopes.join(" ")
    }
}

impl Issuers {
    /// Builds all issuers, each with the place of its config; notes every problem. `others` is
    /// how many identity providers of other kinds there are.
    #[must_use]
    pub fn build(
        configs: &[(String, &OidcConfig)],
        own_issuer: &str,
        others: usize,
        files: &Files,
        problems: &mut Problems,
    ) -> Self {
        let mut issuers = Vec::<Issuer>::with_capacity(configs.len());
        for (at, config) in configs {
            let name = config.issuer.0.as_str();
            let at_issuer = format!("{at}.issuer");
            if name == own_issuer {
                problems.add(&at_issuer, "is the gate's own issuer, `tokens.issuer`");
            }
            if configs
                .iter()
                .filter(|(_, other)| other.issuer.0 == name)
                .count()
                > 1
            {
                problems.add(&at_issuer, "is listed more than once");
            }
            if configs.len() + others > 1 {
                check_subjects(at, config, configs, problems);
            }
            let Some(mut issuer) = config.build(at, files, problems) else {
                continue;
            };
            let mut others = issuers.iter().filter(|other| other.login.is_some());
            if issuer.login.is_some() && others.next().is_some() {
                issuer.callback = format!("/{}", plain(name));
                if let Some(other) = others.find(|other| other.callback == issuer.callback) {
                    let text = format_args!(
                        "would send browsers back to the same path as {}, by which the two could not be told apart",
                        other.name
                    );
                    problems.add(&at_issuer, text);
                }
            }
            issuers.push(issuer);
        }
        Self(issuers)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether people can log in at any of them.
    #[must_use]
    pub fn can_log_in(&self) -> bool {
        self.0.iter().any(|issuer| issuer.login_name().is_some())
    }

    /// Every one of them.
    pub fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.0.iter()
    }

    /// Where their keys come from.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.0.iter().map(|issuer| &issuer.source)
    }

    /// The issuer of exactly this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Issuer> {
        self.0.iter().find(|issuer| issuer.name == name)
    }

    /// The issuer that a token says it is from; nothing is proved by that.
    #[must_use]
    pub fn claimed_by(&self, token: &str) -> Option<&Issuer> {
        if self.0.is_empty() {
            return None;
        }
        self.find(&issuer_of(token)?)
    }

    /// Where the keys come from of the issuer that a token says it is from.
    #[must_use]
    pub fn source_of(&self, token: &str) -> Option<&Arc<KeySource>> {
        self.claimed_by(token).map(|issuer| &issuer.source)
    }

    /// Waits until the keys of a token's issuer have been fetched, where that may help.
    pub async fn refreshed(&self, token: &str) {
        if let Some(issuer) = self.claimed_by(token) {
            let id = key_id_of(token);
            issuer.source.refreshed(id.as_deref()).await;
        }
    }

    /// Takes over what the old rules know of the same issuers' keys.
    pub fn adopt(&mut self, old: &Self) {
        for issuer in &mut self.0 {
            let mut known = old.sources();
            if let Some(source) = known.find(|known| known.spec() == issuer.source.spec()) {
                issuer.source = Arc::clone(source);
            }
        }
    }
}

/// An issuer's name without its scheme, in letters that stand in a path as they are.
fn plain(name: &str) -> String {
    let rest = name.split_once("://").map_or(name, |(_, rest)| rest);
    let letters = rest
        .trim_end_matches('/')
        .chars()
        .map(|letter| match letter {
            '.' => letter,
            _ if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
            _ => '-',
        });
    letters.collect()
}

/// Where several providers know users, nobody of one may pass for somebody of another: credentials
/// by user and revocations go by the subject's name alone.
fn check_subjects(
    at: &str,
    config: &OidcConfig,
    all: &[(String, &OidcConfig)],
    problems: &mut Problems,
) {
    let prefix = config.subject_prefix.as_str();
    if prefix.is_empty() {
        if config.allowed_subjects.is_none() {
            problems.add(
                format_args!("{at}.subject_prefix"),
                "is needed next to another identity provider, or allowed_subjects: an external subject could be taken for another provider's account of the same name",
            );
        }
        return;
    }
    let is_confusable = |other: &OidcConfig| {
        !std::ptr::eq(other, config)
            && !other.subject_prefix.is_empty()
            && other.subject_prefix.starts_with(prefix)
    };
    if let Some((other, _)) = all.iter().find(|(_, other)| is_confusable(other)) {
        problems.add(
            format_args!("{at}.subject_prefix"),
            format_args!(
                "the one at {other} begins with it too: a subject of one could be taken for one of the other"
            ),
        );
    }
}
