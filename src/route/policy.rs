//! May this principal do this? The only maker of a [`Permit`].

use std::rc::Rc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::refusal::{Detail, Reason, Refusal};
use crate::token::verify::VerifiedToken;

/// What a route demands of a token, beyond being valid.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequireConfig {
    /// Scopes that the token must all have.
    pub scopes: Vec<String>,
}

/// What a route demands.
#[derive(Debug)]
pub enum Policy {
    /// Anyone may pass.
    Public,
    /// A valid token with all these scopes.
    Token(Vec<String>),
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
/// [`Reason::MissingCredential`] without a principal, [`Reason::InsufficientScope`] if a scope is
/// missing.
pub fn authorize(policy: &Policy, principal: Option<Rc<VerifiedToken>>) -> Result<Permit, Refusal> {
    let Policy::Token(required) = policy else {
        return Ok(Permit(None));
    };
    let Some(principal) = principal else {
        return Err(Reason::MissingCredential.into());
    };
    let has = |scope: &String| principal.scopes().any(|held| held == scope);
    if !required.iter().all(has) {
        let detail = Detail::Scope(required.join(" "));
        return Err(Refusal::with_detail(Reason::InsufficientScope, detail));
    }
    Ok(Permit(Some(principal)))
}
