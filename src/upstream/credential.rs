//! What does the upstream get instead of the token?

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::load::parse;
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};
use crate::route::{Surroundings, is_framing};
use crate::token::seal::Sealer;
use crate::token::verify::VerifiedToken;

/// What the upstream gets instead of the token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum CredentialConfig {
    /// Basic credentials, the same for everyone.
    Basic {
        /// The name.
        username: String,
        /// A file with the password; without it the password is empty, as VerneMQ's API keys
        /// want it.
        #[serde(default)]
        password_file: Option<PathBuf>,
    },
    /// A named header, the same for everyone, as `X-Api-Key`.
    Header {
        /// The header's name.
        name: String,
        /// A file with the header's value.
        value_file: PathBuf,
    },
    /// The user's own credentials from the login, sealed into the token.
    Login,
    /// Nothing.
    #[default]
    None,
    /// Basic credentials by subject. A subject that is not listed is refused with 403.
    PerUser {
        /// A YAML file: `subject: { username: …, password: … }`.
        file: PathBuf,
    },
    /// The Basic credentials that a users file has for the subject, as its `upstream`. A subject
    /// that has none there is refused with 403.
    UsersFile,
}

/// Basic credentials of one user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerUserEntry {
    username: String,
    #[serde(default)]
    password: String,
}

impl PerUserEntry {
    /// The header that the upstream gets; notes a name that cannot be sent.
    pub(crate) fn build(self, at: &str, problems: &mut Problems) -> HeaderValue {
        check_username(at, &self.username, problems);
        let password = Zeroizing::new(self.password);
        basic(&self.username, &password)
    }
}

/// A credential source, ready for use.
#[derive(Debug)]
pub enum UpstreamCredential {
    /// The same for everyone.
    Fixed(HeaderName, HeaderValue),
    /// The user's own, sealed.
    Login,
    /// Nothing.
    None,
    /// By subject.
    PerUser(HashMap<String, HeaderValue>),
}

impl UpstreamCredential {
    /// Whether it is a user's own.
    #[must_use]
    pub const fn needs_principal(&self) -> bool {
        matches!(self, Self::Login | Self::PerUser(_))
    }

    /// Whether it is the user's own from the login, sealed.
    #[must_use]
    pub const fn is_login(&self) -> bool {
        matches!(self, Self::Login)
    }

    /// The header that it is, where that is the same for everyone.
    pub(crate) const fn fixed_name(&self) -> Option<&HeaderName> {
        match self {
            Self::Fixed(name, _) => Some(name),
            Self::Login | Self::None | Self::PerUser(_) => None,
        }
    }

    /// The header that the upstream gets for this principal.
    ///
    /// # Errors
    /// [`Reason::NoUpstreamCredential`] if none is mapped to it.
    pub fn header(
        &self,
        principal: Option<&VerifiedToken>,
        sealer: Option<&Sealer>,
    ) -> Result<Option<(HeaderName, HeaderValue)>, Refusal> {
        let missing = || Refusal::from(Reason::NoUpstreamCredential);
        match self {
            Self::Fixed(name, value) => Ok(Some((name.clone(), own_copy(value)))),
            Self::None => Ok(None),
            Self::PerUser(values) => {
                let subject = principal.ok_or_else(missing)?.subject();
                let value = values.get(subject).ok_or_else(missing)?;
                Ok(Some((AUTHORIZATION, own_copy(value))))
            }
            Self::Login => {
                let principal = principal.ok_or_else(missing)?;
                let sealed = principal.sealed().ok_or_else(missing)?;
                let login = sealer
                    .ok_or_else(missing)?
                    .open(sealed, principal.subject())
                    .map_err(|error| Refusal::with_cause(Reason::NoUpstreamCredential, error))?;
                Ok(Some((
                    AUTHORIZATION,
                    basic(&login.username, login.password.expose()),
                )))
            }
        }
    }
}

/// The value of `Authorization` for Basic (RFC 7617), marked as sensitive.
#[must_use]
pub fn basic(username: &str, password: &str) -> HeaderValue {
    let pair = Zeroizing::new(format!("{username}:{password}"));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    // Base64 is always a valid header value; an empty one is refused by every upstream.
    let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The name and password of such a value; nothing for another header's.
#[must_use]
pub fn pair(value: &HeaderValue) -> Option<(String, Zeroizing<String>)> {
    let encoded = value.as_bytes().strip_prefix(b"Basic ")?;
    let pair = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (username, password) = str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((username.to_owned(), Zeroizing::new(password.to_owned())))
}

/// A copy with bytes of its own: a clone would count references in a place that all workers write.
pub(super) fn own_copy(value: &HeaderValue) -> HeaderValue {
    let copy = HeaderValue::from_bytes(value.as_bytes());
    // The bytes of a header value are one.
    let mut copy = copy.unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}

impl CredentialConfig {
    /// Reads what it needs; notes every problem.
    pub(crate) fn build(
        &self,
        at: &str,
        around: &Surroundings<'_>,
        problems: &mut Problems,
    ) -> Option<UpstreamCredential> {
        match self {
            Self::None => Some(UpstreamCredential::None),
            Self::UsersFile => {
                let users = around.users.clone();
                let users = users.ok_or("there is no users_file in `identity`");
                Some(UpstreamCredential::PerUser(problems.take(at, users)?))
            }
            Self::Login => {
                if !around.can_seal {
                    problems.add(
                        at,
                        "`login` seals credentials into tokens, so it needs tokens.seal_key_file",
                    );
                }
                Some(UpstreamCredential::Login)
            }
            Self::Basic {
                username,
                password_file,
            } => {
                check_username(at, username, problems);
                let password = match password_file {
                    None => Secret::default(),
                    Some(path) => {
                        let at = format!("{at}.basic.password_file");
                        problems.take(&at, around.files.read_secret_text(path))?
                    }
                };
                Some(UpstreamCredential::Fixed(
                    AUTHORIZATION,
                    basic(username, password.expose()),
                ))
            }
            Self::Header { name, value_file } => {
                let name = name.parse::<HeaderName>();
                let name = problems.take(format_args!("{at}.header.name"), name)?;
                if is_framing(&name) {
                    let text =
                        format_args!("`{name}` says where a message ends, or of the connection");
                    problems.add(format_args!("{at}.header.name"), text);
                }
                let at = format!("{at}.header.value_file");
                let text = problems.take(&at, around.files.read_secret_text(value_file))?;
                let mut value = problems.take(&at, HeaderValue::from_str(text.expose()))?;
                value.set_sensitive(true);
                Some(UpstreamCredential::Fixed(name, value))
            }
            Self::PerUser { file } => {
                let at = format!("{at}.per_user.file");
                let text = problems.take(&at, around.files.read_secret_text(file))?;
                let entries = parse::<BTreeMap<String, PerUserEntry>>(text.expose(), file);
                let entries = problems.take(&at, entries)?;
                let mut values = HashMap::with_capacity(entries.len());
                for (subject, entry) in entries {
                    let value = entry.build(&format!("{at}: {subject}"), problems);
                    values.insert(subject, value);
                }
                Some(UpstreamCredential::PerUser(values))
            }
        }
    }
}

fn check_username(at: &str, username: &str, problems: &mut Problems) {
    if username.contains(':') {
        problems.add(
            at,
            "a Basic username cannot contain `:` (RFC 7617 section 2)",
        );
    }
}
