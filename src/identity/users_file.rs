//! Users in a YAML file, with the hashes of their passwords.

use std::collections::HashMap;
use std::hash::Hasher;
use std::path::Path;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Map, Value};
use siphasher::sip::SipHasher13;

use super::hashing::{HashAlgorithm, HashingPool, StoredHash, hash};
use super::{Attempt, IdentityProvider, Means, Principal, Renewal, SecretKind};
use crate::config::files::Files;
use crate::config::load::parse;
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};
use crate::token::RESERVED_CLAIMS;
use crate::token::seal::UpstreamLogin;
use crate::upstream::credential::PerUserEntry;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersConfig {
    users: Vec<UserConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserConfig {
    name: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    password_hash: Option<String>,
    #[serde(default)]
    connection_token_hash: Option<String>,
    /// Over the SHA-1 of the password; written by `hash-password --form sha1`.
    #[serde(default)]
    sha1_hash: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    /// Further claims of the user's tokens, which routes may ask for.
    #[serde(default)]
    claims: Map<String, Value>,
    /// What upstreams get for the user, where a route says `credential: users_file`.
    #[serde(default)]
    upstream: Option<PerUserEntry>,
}

/// The users of one file.
#[derive(Debug)]
pub(crate) struct UsersFile {
    users: Vec<User>,
    /// By name and by e-mail address in lower case.
    by_identifier: HashMap<String, usize>,
    /// What is hashed for who is not known, so that an answer takes as long as for who is.
    decoys: Vec<StoredHash>,
}

#[derive(Debug)]
struct User {
    name: String,
    password: Option<StoredHash>,
    connection_token: Option<StoredHash>,
    sha1: Option<StoredHash>,
    resources: Vec<String>,
    scopes: Vec<String>,
    groups: Vec<String>,
    claims: Map<String, Value>,
    upstream: Option<HeaderValue>,
}

impl UsersFile {
    /// The Basic credentials for upstreams that it has, by name.
    pub(super) fn upstream_credentials(&self) -> impl Iterator<Item = (String, HeaderValue)> {
        let users = self.users.iter();
        users.filter_map(|user| Some((user.name.clone(), user.upstream.clone()?)))
    }

    /// A name of one of the users that another file has, too.
    pub(super) fn shared_with(&self, other: &Self) -> Option<&str> {
        let mut names = self.by_identifier.keys();
        let shared = names.find(|name| other.find(name).is_some());
        shared.map(String::as_str)
    }

    /// Reads the file; notes every problem.
    pub(super) fn read(
        at: &str,
        path: &Path,
        files: &Files,
        problems: &mut Problems,
    ) -> Option<Self> {
        let at = format!("{at}.users_file");
        let text = problems.take(&at, files.read_secret_text(path))?;
        let config = problems.take(&at, parse::<UsersConfig>(text.expose(), path))?;
        let mut file = Self {
            users: Vec::with_capacity(config.users.len()),
            by_identifier: HashMap::new(),
            decoys: Vec::new(),
        };
        for (index, user) in config.users.into_iter().enumerate() {
            file.add(&format!("{at}: users[{index}]"), user, problems);
        }
        if file.decoys.is_empty() {
            let decoy = hash("", HashAlgorithm::Argon2id);
            let decoy = problems.take(&at, decoy)?;
            file.decoys.extend(StoredHash::parse(&decoy));
        }
        Some(file)
    }

    fn add(&mut self, at: &str, config: UserConfig, problems: &mut Problems) {
        let mut parse_hash = |key: &str, text: Option<String>| {
            let parsed = StoredHash::parse(&text?);
            problems.take(format_args!("{at}.{key}"), parsed)
        };
        let password = parse_hash("password_hash", config.password_hash);
        let connection_token = parse_hash("connection_token_hash", config.connection_token_hash);
        let sha1 = parse_hash("sha1_hash", config.sha1_hash);
        self.decoys.extend(
            password
                .iter()
                .chain(&connection_token)
                .chain(&sha1)
                .cloned(),
        );
        if config.name.is_empty() || config.name.contains(':') {
            let text =
                "must not be empty, nor contain `:`, where Basic splits (RFC 7617 section 2)";
            problems.add(format_args!("{at}.name"), text);
        }
        let upstream = config.upstream;
        let upstream = upstream.map(|entry| entry.build(&format!("{at}.upstream"), problems));
        let email = config.email.map(|email| email.to_lowercase());
        for identifier in [Some(config.name.clone()), email].into_iter().flatten() {
            let held = self
                .by_identifier
                .insert(identifier.clone(), self.users.len());
            if held.is_some_and(|index| index != self.users.len()) {
                problems.add(
                    at,
                    format_args!("`{identifier}` names another user already"),
                );
            }
        }
        for name in config.claims.keys() {
            if RESERVED_CLAIMS.contains(&name.as_str()) {
                let text = format_args!("`{name}` is a claim of the gate's own");
                problems.add(format_args!("{at}.claims"), text);
            }
        }
        self.users.push(User {
            name: config.name,
            password,
            connection_token,
            sha1,
            resources: config.resources,
            scopes: config.scopes,
            groups: config.groups,
            claims: config.claims,
            upstream,
        });
    }

    fn find(&self, identifier: &str) -> Option<&User> {
        let by_name = self.by_identifier.get(identifier);
        let index = by_name.or_else(|| self.by_identifier.get(&identifier.to_lowercase()))?;
        self.users.get(*index)
    }

    /// A decoy for an identifier: always the same one for the same identifier.
    fn decoy(&self, identifier: &str) -> Option<StoredHash> {
        let mut hasher = SipHasher13::new();
        hasher.write(identifier.as_bytes());
        let count = u64::try_from(self.decoys.len())
            .ok()
            .filter(|count| *count > 0)?;
        let index = usize::try_from(hasher.finish() % count).ok()?;
        self.decoys.get(index).cloned()
    }

    /// Who proves with this attempt to be one of the users; nobody if it does not, which takes as
    /// long for a name that nobody has.
    pub(super) async fn judge(
        &self,
        attempt: &Attempt,
        hashing: &HashingPool,
    ) -> Result<Option<Principal>, Refusal> {
        let user = self.find(&attempt.identifier);
        let (stored, secret) = match attempt.kind {
            SecretKind::ApplicationToken | SecretKind::ExternalToken => return Ok(None),
            SecretKind::ConnectionToken => (
                user.and_then(|user| user.connection_token.clone()),
                attempt.secret.clone(),
            ),
            SecretKind::Password => (
                user.and_then(|user| user.password.clone()),
                attempt.secret.clone(),
            ),
            SecretKind::Sha1Password => match user.and_then(|user| user.sha1.clone()) {
                Some(stored) => (Some(stored), sha1_form(&attempt.secret)),
                None => (
                    user.and_then(|user| user.password.clone()),
                    attempt.secret.clone(),
                ),
            },
        };
        let is_real = stored.is_some();
        let hash = stored
            .or_else(|| self.decoy(&attempt.identifier))
            .ok_or_else(|| Refusal::with_cause(Reason::Internal, "no hash to compare with"))?;
        let verdict = hashing.verify(hash, secret).await?;
        let proved =
            user.filter(|user| is_real && verdict && user.may_use(attempt.resource.as_deref()));
        // No upstream could do anything with the SHA-1 of a password.
        let is_hashed = attempt.kind == SecretKind::Sha1Password
            && user.is_some_and(|user| user.sha1.is_some())
            && is_sha1(&attempt.secret);
        let password = (!is_hashed).then(|| attempt.secret.clone());
        Ok(proved.map(|user| user.principal(password, attempt.resource.clone())))
    }

    /// Whether anybody could log in with a password.
    pub(super) fn know_passwords(&self) -> bool {
        self.users.iter().any(|user| user.password.is_some())
    }
}

impl IdentityProvider for UsersFile {
    const KIND: &'static str = "users_file";

    async fn authenticate(
        &self,
        attempt: &Attempt,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        if let SecretKind::ApplicationToken | SecretKind::ExternalToken = attempt.kind {
            return Ok(None);
        }
        match self.judge(attempt, means.hashing).await? {
            None if self.find(&attempt.identifier).is_some() => Err(Reason::BadCredentials.into()),
            judged => Ok(judged),
        }
    }

    async fn renew(
        &self,
        renewal: Renewal<'_>,
        _: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        let subject = renewal.token.subject();
        let user = self.find(subject);
        let user = user.filter(|user| user.name == subject && user.state() == renewal.state);
        let password = renewal.login.map(|login| login.password);
        Ok(user.map(|user| user.principal(password, None)))
    }

    async fn recall(
        &self,
        subject: &str,
        login: Option<UpstreamLogin>,
        _: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        let user = self.find(subject).filter(|user| user.name == subject);
        let password = login.map(|login| login.password);
        Ok(user.map(|user| user.principal(password, None)))
    }
}

/// The SHA-1 of a password in hexadecimal digits, unless it is that already.
fn sha1_form(secret: &Secret<String>) -> Secret<String> {
    let text = secret.expose();
    match is_sha1(secret) {
        true => Secret::new(text.to_ascii_lowercase()),
        false => Secret::new(sha1_hex(text)),
    }
}

/// Whether a text could be a SHA-1 in hexadecimal digits.
fn is_sha1(secret: &Secret<String>) -> bool {
    let text = secret.expose();
    text.len() == 40 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// The SHA-1 of a text in hexadecimal digits, as some clients send their password. Whoever has it
/// can log in with it: it is a password, only one that nobody chose.
#[must_use]
pub fn sha1_hex(text: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl User {
    fn may_use(&self, resource: Option<&str>) -> bool {
        let is = |resource: &str| {
            self.resources
                .iter()
                .any(|own| own.eq_ignore_ascii_case(resource))
        };
        resource.is_none_or(is)
    }

    fn principal(&self, password: Option<Secret<String>>, resource: Option<String>) -> Principal {
        Principal {
            subject: self.name.clone(),
            scopes: self.scopes.clone(),
            groups: self.groups.clone(),
            claims: self.claims.clone(),
            resource,
            account: format!("{}:{}", UsersFile::KIND, self.state()),
            family: None,
            login: password.map(|password| UpstreamLogin {
                username: self.name.clone(),
                password,
            }),
        }
    }

    /// Changes when a secret of the user changes; tells nothing about the hashes.
    fn state(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for stored in [&self.password, &self.connection_token, &self.sha1] {
            context.update(stored.as_ref().map_or("", StoredHash::text).as_bytes());
            context.update(&[0]);
        }
        let digest = context.finish();
        URL_SAFE_NO_PAD.encode(digest.as_ref().get(..16).unwrap_or_default())
    }
}
