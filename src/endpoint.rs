//! The gate's own endpoints: a grant becomes an identity, the identity becomes tokens.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::clock;
use crate::config::secret::Secret;
use crate::dialect::{AskedLifetimes, Endpoint, Grant, Mount};
use crate::identity::{Attempt, Means, Principal};
use crate::refusal::{Detail, Reason, Refusal};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use crate::token::TokenType;
use crate::token::issue::{Grantee, TokenPair, issue_pair};
use crate::token::verify::verify;
use crate::upstream::body::RequestBody;

/// What the endpoints work with.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The rules.
    pub snapshot: &'a Snapshot,
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
    if endpoint == Endpoint::WrongMethod {
        let allow = Detail::Allow("POST, OPTIONS".to_owned());
        return Err(Refusal::with_detail(Reason::MethodNotAllowed, allow));
    }
    let outcome = grant(around, mount, endpoint, head, body).await;
    let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
    match endpoint {
        Endpoint::Refresh => around.metrics.refresh(mount.dialect.name(), refused),
        Endpoint::Login | Endpoint::WrongMethod => {
            around.metrics.login(mount.dialect.name(), refused);
        }
    }
    let pair = outcome?;
    around.metrics.pair_issued();
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
    issue(around.snapshot, mount, &principal, asked)
}

async fn refresh(
    around: &Surroundings<'_>,
    mount: &Mount,
    token: &Secret<String>,
    asked: AskedLifetimes,
) -> Result<TokenPair, Refusal> {
    let snapshot = around.snapshot;
    let verified = verify(
        token.expose(),
        TokenType::Refresh,
        &snapshot.tokens,
        clock::unix_now(),
    )?;
    let login = match (verified.sealed(), &snapshot.tokens.sealer) {
        (Some(sealed), Some(sealer)) => {
            let opened = sealer.open(sealed, verified.subject());
            Some(opened.map_err(|error| Refusal::with_cause(Reason::BadCredentials, error))?)
        }
        _ => None,
    };
    let account = verified.account().ok_or(Reason::BadCredentials)?;
    let principal = snapshot
        .providers
        .renew(verified.subject(), account, login, &around.means)
        .await?;
    issue(snapshot, mount, &principal, asked)
}

fn issue(
    snapshot: &Snapshot,
    mount: &Mount,
    principal: &Principal,
    asked: AskedLifetimes,
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
        account: Some(principal.account.clone()),
    };
    let access_ttl = mount.lifetimes.access(asked.access);
    let refresh_ttl = mount.lifetimes.refresh(asked.refresh);
    issue_pair(
        &snapshot.tokens,
        &grantee,
        access_ttl,
        refresh_ttl,
        clock::unix_now(),
    )
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
