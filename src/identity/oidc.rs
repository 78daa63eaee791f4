//! An external issuer says who it is: its token is exchanged for the gate's own.

use super::{Attempt, IdentityProvider, Means, Principal, Renewal, SecretKind};
use crate::clock;
use crate::refusal::{Reason, Refusal};
use crate::token::RESERVED_CLAIMS;
use crate::token::claimed::Wanted;
use crate::token::issuer::Issuer;
use crate::token::issuer::judge::Judged;
use crate::token::seal::UpstreamLogin;
use crate::token::verify::VerifiedToken;

/// The external issuers, all in one: a token itself says whose it is.
#[derive(Debug)]
pub(crate) struct Oidc;

impl IdentityProvider for Oidc {
    const KIND: &'static str = "oidc";

    async fn authenticate(
        &self,
        attempt: &Attempt,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        if attempt.kind != SecretKind::ExternalToken {
            return Ok(None);
        }
        let token = attempt.secret.expose();
        let Some(issuer) = means.tokens.issuers.claimed_by(token) else {
            return Ok(None);
        };
        let now = clock::unix_now();
        let judged = issuer.judge_patiently(token, means.tokens, now).await;
        let judged = judged.map_err(|reason| match reason {
            Reason::SubjectNotAllowed => Refusal::with_cause(
                Reason::BadCredentials,
                "the external token is genuine, but its subject is not in allowed_subjects",
            ),
            reason => reason.into(),
        })?;
        // What was taken back buys nothing new.
        if means.revocations.hit(&judged.token) {
            return Err(Reason::Revoked.into());
        }
        Ok(Some(Principal::of_issuer(
            issuer,
            &judged,
            &means.tokens.wanted,
        )))
    }

    /// The issuer is not asked again: a login lasts as long as its refresh tokens, unless the
    /// issuer or the subject is no longer allowed.
    async fn renew(
        &self,
        renewal: Renewal<'_>,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        let Some(issuer) = means.tokens.issuers.find(renewal.state) else {
            return Ok(None);
        };
        if !issuer.allows(renewal.token.subject()) {
            return Ok(None);
        }
        let mut claims = renewal.claims;
        claims.retain(|name, _| !RESERVED_CLAIMS.contains(&name.as_str()));
        let account = format!("{}:{}", Self::KIND, issuer.name());
        Ok(Some(principal(renewal.token, claims, account)))
    }

    /// What an issuer says of a subject stands in its tokens alone.
    async fn recall(
        &self,
        _: &str,
        _: Option<UpstreamLogin>,
        _: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        Ok(None)
    }
}

/// The issuer by which this account is known, if it is by one.
#[must_use]
pub fn issuer_of(account: &str) -> Option<&str> {
    account.strip_prefix(Oidc::KIND)?.strip_prefix(':')
}

impl Principal {
    /// Who an external issuer's genuine token says it is.
    #[must_use]
    pub fn of_issuer(issuer: &Issuer, judged: &Judged, wanted: &Wanted) -> Self {
        let mut claims = wanted.pick(&judged.claims);
        claims.retain(|name, _| !RESERVED_CLAIMS.contains(&name.as_str()));
        let account = format!("{}:{}", Oidc::KIND, issuer.name());
        principal(&judged.token, claims, account)
    }
}

fn principal(
    token: &VerifiedToken,
    claims: serde_json::Map<String, serde_json::Value>,
    account: String,
) -> Principal {
    Principal {
        subject: token.subject().to_owned(),
        scopes: token.scopes().map(str::to_owned).collect(),
        groups: token.groups().map(str::to_owned).collect(),
        claims,
        resource: None,
        account,
        family: None,
        login: None,
    }
}
