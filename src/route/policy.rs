//! May this principal do this? The only maker of a [`Permit`].

use std::collections::BTreeMap;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::path::CanonicalPath;
use crate::config::problem::Problems;
use crate::refusal::{Detail, Reason, Refusal};
use crate::token::verify::VerifiedToken;

/// What a route demands of a token, beyond being valid. Everything that is named must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequireConfig {
    /// Scopes that the token must all have.
    pub scopes: Vec<String>,
    /// Groups, of which the subject must belong to at least one.
    pub groups: Vec<String>,
    /// Claims of the token by name, or by the path to them through objects
    /// (`realm_access.roles`), and what they must be. Of a claim that is a list, one value must
    /// fit.
    pub claims: BTreeMap<String, ClaimMatch>,
}

/// What a claim must be. Texts compare byte by byte; numbers and truth values as JSON writes them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimMatch {
    /// This text.
    Equals(String),
    /// One of these texts.
    OneOf(Vec<String>),
    /// A text that begins so.
    Prefix(String),
}

impl ClaimMatch {
    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Equals(text) => text == value,
            Self::OneOf(texts) => texts.iter().any(|text| text == value),
            Self::Prefix(start) => value.starts_with(start),
        }
    }

    fn is_pointless(&self) -> bool {
        match self {
            Self::Equals(text) | Self::Prefix(text) => text.is_empty(),
            Self::OneOf(texts) => texts.is_empty(),
        }
    }
}

impl RequireConfig {
    /// Whether nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty() && self.groups.is_empty() && self.claims.is_empty()
    }

    /// Notes what cannot be meant.
    pub(super) fn check(&self, at: &str, problems: &mut Problems) {
        for (name, wanted) in &self.claims {
            if wanted.is_pointless() {
                let text = "must not be empty: no claim, or every one, would fit";
                problems.add(format_args!("{at}.claims.{name}"), text);
            }
        }
    }
}

/// A segment of the path that must be the principal's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The segment's place in the path, from 0.
    pub place: usize,
    /// The claim of which it must be a value; `sub` for the subject.
    pub claim: String,
}

/// What a route demands of a principal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Beyond being valid.
    pub require: RequireConfig,
    /// Segments that must be its own.
    pub captures: Vec<Capture>,
}

/// What a route demands.
#[derive(Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anyone may pass.
    Public,
    /// A valid token that meets these demands.
    Token(Demands),
}

/// Proof that a route's policy was met.
#[derive(Debug)]
pub struct Permit(Option<Rc<VerifiedToken>>);

impl Permit {
    /// Who was authenticated; nobody on a public route.
    #[must_use]
    pub fn principal(&self) -> Option<&Rc<VerifiedToken>> {
        self.0.as_ref()
    }
}

/// Judges the policy; asked for every request, whether its token was cached or not.
///
/// # Errors
/// [`Reason::MissingCredential`] without a principal; [`Reason::InsufficientScope`],
/// [`Reason::WrongGroup`], [`Reason::WrongClaim`] or [`Reason::NotOwnPath`] for the first demand
/// that is not met.
pub fn authorize(
    policy: &Policy,
    principal: Option<Rc<VerifiedToken>>,
    path: &CanonicalPath<'_>,
) -> Result<Permit, Refusal> {
    let Policy::Token(demands) = policy else {
        return Ok(Permit(None));
    };
    let Some(principal) = principal else {
        return Err(Reason::MissingCredential.into());
    };
    demands.judge(&principal, path)?;
    Ok(Permit(Some(principal)))
}

impl Demands {
    /// The claims that are asked for.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &String> {
        let captured = self.captures.iter().map(|capture| &capture.claim);
        self.require.claims.keys().chain(captured)
    }

    fn judge(&self, principal: &VerifiedToken, path: &CanonicalPath<'_>) -> Result<(), Refusal> {
        let RequireConfig {
            scopes,
            groups,
            claims,
        } = &self.require;
        if !scopes
            .iter()
            .all(|scope| principal.scopes().any(|held| held == scope))
        {
            let detail = Detail::Scope(scopes.join(" "));
            return Err(Refusal::with_detail(Reason::InsufficientScope, detail));
        }
        let is_wanted = |held: &str| groups.iter().any(|group| group == held);
        if !groups.is_empty() && !principal.groups().any(is_wanted) {
            return Err(Reason::WrongGroup.into());
        }
        let has = |(name, wanted): (&String, &ClaimMatch)| {
            principal.claim(name).any(|value| wanted.fits(value))
        };
        if !claims.iter().all(has) {
            return Err(Reason::WrongClaim.into());
        }
        let is_own = |capture: &Capture| {
            let segment = path.segments().nth(capture.place);
            let segment = segment.filter(|segment| !segment.is_empty());
            segment.is_some_and(|segment| {
                principal
                    .claim(&capture.claim)
                    .any(|value| value == segment)
            })
        };
        match self.captures.iter().all(is_own) {
            true => Ok(()),
            false => Err(Reason::NotOwnPath.into()),
        }
    }
}
