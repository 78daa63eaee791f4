//! The gate's own endpoints: a grant becomes an identity, the identity becomes tokens.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::clock;
use crate::config::secret::Secret;
use crate::dialect::{AskedLifetimes, Endpoint, Grant, Mount, RefreshMode};
use crate::identity::{Attempt, Means, Principal};
use crate::refusal::{Detail, Reason, Refusal};
use crate::snapshot::{Shared, Snapshot};
use crate::store::{Family, Presented, Rotation, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::token::TokenType;
use crate::token::issue::{Grantee, Lineage, Order, TokenPair, issue_pair};
use crate::token::revocation::Revoked;
use crate::token::verify::{VerifiedToken, verify};
use crate::upstream::body::RequestBody;

/// What the endpoints work with.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The rules.
    pub snapshot: &'a Snapshot,
    /// What all workers share.
    pub shared: &'a Shared,
    /// What identity providers work with.
    pub means: Means<'a>,
    /// Where logins are counted.
    pub metrics: &'a Metrics,
}

/// Answers a request for an endpoint of a dialect.
///
/// # Errors
/// The refusal, which the dialect then puts into its own form.
pub async fn answer(
    around: &Surroundings<'_>,
    mount: &Mount,
    endpoint: Endpoint,
    head: &request::Parts,
    body: RequestBody,
) -> Result<Response<Bytes>, Refusal> {
    if endpoint == Endpoint::About {
        return Ok(mount.dialect.about());
    }
    if endpoint == Endpoint::WrongMethod {
        let allow = Detail::Allow("POST, OPTIONS".to_owned());
        return Err(Refusal::with_detail(Reason::MethodNotAllowed, allow));
    }
    let outcome = grant(around, mount, endpoint, head, body).await;
    let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
    match endpoint {
        Endpoint::Refresh => around.metrics.refresh(mount.dialect.name(), refused),
        Endpoint::About | Endpoint::Login | Endpoint::WrongMethod => {
            around.metrics.login(mount.dialect.name(), refused);
        }
    }
    let pair = outcome?;
    around.metrics.issued(pair.refresh.is_some());
    Ok(mount.dialect.granted(endpoint, &pair))
}

async fn grant(
    around: &Surroundings<'_>,
    mount: &Mount,
    endpoint: Endpoint,
    head: &request::Parts,
    body: RequestBody,
) -> Result<TokenPair, Refusal> {
    let limits = &around.snapshot.limits;
    let body = collect(body, limits.login_body.bytes(), limits.login_timeout.0).await?;
    match mount.dialect.parse(endpoint, head, body.expose())? {
        Grant::Login(attempt, asked) => login(around, mount, attempt, asked).await,
        Grant::Refresh(token, asked) => refresh(around, mount, &token, asked).await,
    }
}

async fn login(
    around: &Surroundings<'_>,
    mount: &Mount,
    attempt: Attempt,
    asked: AskedLifetimes,
) -> Result<TokenPair, Refusal> {
    let principal = around
        .snapshot
        .providers
        .authenticate(&attempt, &around.means)
        .await?;
    let now = clock::unix_now();
    let at = around
        .shared
        .revocations
        .first_free_second(&principal.subject, now);
    let lineage = Lineage::begin(at)?;
    let has_refresh = mount.dialect.refresh_mode() != RefreshMode::Absent;
    let pair = issue(
        around.snapshot,
        mount,
        &principal,
        &lineage,
        (has_refresh, asked),
    )?;
    if has_refresh {
        let subject = principal.subject;
        let family = Family {
            id: lineage.family,
            subject,
            expires: at.plus(pair.refresh_ttl),
        };
        around
            .shared
            .store
            .begin(family, now)
            .await
            .map_err(unavailable)?;
    }
    Ok(pair)
}

async fn refresh(
    around: &Surroundings<'_>,
    mount: &Mount,
    token: &Secret<String>,
    asked: AskedLifetimes,
) -> Result<TokenPair, Refusal> {
    let (snapshot, shared) = (around.snapshot, around.shared);
    let now = clock::unix_now();
    let verified = verify(token.expose(), TokenType::Refresh, &snapshot.tokens, now)?;
    if shared.revocations.hit(&verified) {
        return Err(Reason::Revoked.into());
    }
    let (family, place) = verified
        .family()
        .zip(verified.place())
        .ok_or(Reason::Revoked)?;
    // Asked before the token is taken: a provider that fails must not cost the client its token.
    let mut principal = renew(around, &verified).await?;
    principal.resource = verified.resource().map(str::to_owned);
    let next_expires = now.plus(mount.lifetimes.refresh(asked.refresh));
    let presented = Presented {
        family,
        generation: place,
        next_expires,
    };
    if mount.dialect.refresh_mode() == RefreshMode::Keep {
        let is_newest = shared
            .store
            .is_newest(presented, now)
            .await
            .map_err(unavailable)?;
        let lineage = Lineage {
            family: family.to_owned(),
            place,
            at: now,
        };
        return match is_newest {
            true => issue(snapshot, mount, &principal, &lineage, (false, asked)),
            false => Err(Reason::Revoked.into()),
        };
    }
    let taken = shared
        .store
        .take(presented, now, snapshot.tokens.refresh_grace)
        .await;
    let at = match taken.map_err(unavailable)? {
        Rotation::Next => now,
        Rotation::Again(at) => at,
        Rotation::Unknown => return Err(Reason::Revoked.into()),
        Rotation::Reused => return Err(end_reused(around, &verified, family).await),
    };
    let lineage = Lineage {
        family: family.to_owned(),
        place: place.saturating_add(1),
        at,
    };
    issue(snapshot, mount, &principal, &lineage, (true, asked))
}

/// Asks the identity provider whether the account is still as it was.
async fn renew(around: &Surroundings<'_>, verified: &VerifiedToken) -> Result<Principal, Refusal> {
    let login = match (verified.sealed(), &around.snapshot.tokens.sealer) {
        (Some(sealed), Some(sealer)) => {
            let opened = sealer.open(sealed, verified.subject());
            Some(opened.map_err(|error| Refusal::with_cause(Reason::BadCredentials, error))?)
        }
        _ => None,
    };
    let account = verified.account().ok_or(Reason::BadCredentials)?;
    let providers = &around.snapshot.providers;
    providers
        .renew(verified.subject(), account, login, &around.means)
        .await
}

/// A refresh token was used twice: one of the two who have it stole it, so all that came from its
/// login ends (RFC 9700 section 4.14.2).
async fn end_reused(around: &Surroundings<'_>, verified: &VerifiedToken, family: &str) -> Refusal {
    around.metrics.refresh_reused();
    tracing::warn!(
        subject = verified.subject(),
        family,
        "security: a refresh token was used again; all tokens of its login are revoked"
    );
    match around
        .shared
        .revoke(Revoked::Family(family.to_owned()))
        .await
    {
        Ok(()) => Reason::RefreshTokenReused.into(),
        Err(error) => unavailable(error),
    }
}

fn issue(
    snapshot: &Snapshot,
    mount: &Mount,
    principal: &Principal,
    lineage: &Lineage,
    (has_refresh, asked): (bool, AskedLifetimes),
) -> Result<TokenPair, Refusal> {
    let sealed = match &snapshot.tokens.sealer {
        Some(sealer) if snapshot.seals_logins => {
            let sealed = sealer.seal(&principal.login, &principal.subject);
            Some(sealed.map_err(|error| Refusal::with_cause(Reason::BadCredentials, error))?)
        }
        _ => None,
    };
    let grantee = Grantee {
        subject: principal.subject.clone(),
        scope: principal.scopes.join(" "),
        sealed,
        resource: principal.resource.clone(),
        account: Some(principal.account.clone()),
    };
    let access_ttl = mount.lifetimes.access(asked.access);
    let refresh_ttl = mount.lifetimes.refresh(asked.refresh);
    let order = Order {
        access_ttl,
        refresh_ttl,
        has_refresh,
        access_claims: mount.dialect.claims(TokenType::Access, access_ttl),
        refresh_claims: mount.dialect.claims(TokenType::Refresh, refresh_ttl),
    };
    issue_pair(&snapshot.tokens, &grantee, lineage, order)
}

fn unavailable(error: StoreError) -> Refusal {
    Refusal::with_cause(Reason::StoreUnavailable, error)
}

/// Collects the short body of a login, which holds a secret.
async fn collect(
    body: RequestBody,
    limit: usize,
    within: Duration,
) -> Result<Secret<Vec<u8>>, Refusal> {
    let collected = timeout(within, Limited::new(body, limit).collect()).await;
    let collected = collected.map_err(|_| Reason::RequestTimeout)?;
    let body = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Refusal::from(Reason::BodyTooLarge);
        }
        Refusal::with_cause(Reason::MalformedRequest, error)
    })?;
    Ok(Secret::new(body.to_bytes().to_vec()))
}
