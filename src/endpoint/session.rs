//! Who is this browser? The cookie of its session is judged like a refresh token, and what comes of
//! it is good for as long as an access token would be; then it is judged anew.

use http::request;

use super::held::knows_revocations;
use super::{Surroundings, grantee, renew, unavailable};
use crate::clock;
use crate::config::secret::Secret;
use crate::cookie;
use crate::dialect::Mount;
use crate::identity::Principal;
use crate::refusal::{Reason, Refusal};
use crate::store::family::{Family, Presented};
use crate::token::issue::{Lineage, issue_session};
use crate::token::revocation::Revoked;
use crate::token::verify::{LoggedIn, VerifiedToken, verify_session};

/// Begins a session for who was authenticated.
///
/// # Errors
/// What keeps the gate from issuing it; [`Reason::SessionTooLarge`] if no browser would keep it;
/// [`Reason::StoreUnavailable`].
pub(super) async fn begin(
    around: &Surroundings<'_>,
    mount: &Mount,
    principal: Principal,
) -> Result<Secret<String>, Refusal> {
    let now = clock::unix_now();
    let revocations = &around.shared.revocations;
    let at = revocations.first_free_second(&principal.subject, now);
    let lineage = Lineage::begin(at)?;
    let lifetime = mount.lifetimes.refresh(None);
    let scope = principal.scopes.join(" ");
    let grantee = grantee(around.snapshot, &principal, scope)?;
    let session = issue_session(&around.snapshot.tokens, &grantee, &lineage, lifetime)?;
    let length = cookie::SESSION.len() + session.expose().len();
    if length > cookie::MAX {
        let most = cookie::MAX;
        let cause = format!("the session takes {length} bytes, and a browser keeps {most}");
        return Err(Refusal::with_cause(Reason::SessionTooLarge, cause));
    }
    let family = Family {
        id: lineage.family,
        subject: principal.subject,
        expires: at.plus(lifetime),
    };
    let begun = around.shared.store.begin(family, now).await;
    begun.map_err(unavailable)?;
    Ok(session)
}

/// Judges the cookie of a session, and asks whether its account is still as it was.
///
/// # Errors
/// The first [`Reason`] that makes it unfit; what kept the gate from judging.
pub(crate) async fn verify(
    around: &Surroundings<'_>,
    cookie: &str,
) -> Result<VerifiedToken, Refusal> {
    let outcome = judge(around, cookie).await;
    if let Some(mount) = around.sessions {
        let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
        around.metrics.refresh(mount.dialect.name(), refused);
    }
    outcome
}

async fn judge(around: &Surroundings<'_>, cookie: &str) -> Result<VerifiedToken, Refusal> {
    let (snapshot, shared) = (around.snapshot, around.shared);
    let now = clock::unix_now();
    let (session, claims) = verify_session(cookie, &snapshot.tokens, now)?;
    if shared.revocations.hit(&session) {
        return Err(Reason::Revoked.into());
    }
    let (family, generation) = session
        .family()
        .zip(session.place())
        .ok_or(Reason::Revoked)?;
    let presented = Presented {
        family,
        generation,
        next_expires: session.expires(),
    };
    let is_there = shared.store.is_newest(presented, now).await;
    if !is_there.map_err(unavailable)? {
        return Err(Reason::Revoked.into());
    }
    let principal = renew(around, &session, claims).await?;
    let lifetimes = around
        .sessions
        .map_or(&snapshot.tokens.lifetimes, |mount| &mount.lifetimes);
    let login = LoggedIn {
        subject: principal.subject,
        scopes: principal.scopes,
        groups: principal.groups,
        claims: principal.claims,
    };
    Ok(VerifiedToken::of_session(
        &session,
        login,
        &snapshot.tokens.wanted,
        now.plus(lifetimes.access(None)),
    ))
}

/// The session of a browser, if it is good on routes.
pub(super) async fn known(
    around: &Surroundings<'_>,
    head: &request::Parts,
) -> Option<VerifiedToken> {
    knows_revocations(around).ok()?;
    let cookie = cookie::only(&head.headers, cookie::SESSION)?;
    judge(around, cookie).await.ok()
}

/// Ends the sessions of a browser, with all that came from them. Whose they were, as providers have
/// it.
///
/// # Errors
/// [`Reason::StoreUnavailable`].
pub(super) async fn end(
    around: &Surroundings<'_>,
    head: &request::Parts,
) -> Result<Option<String>, Refusal> {
    let tokens = &around.snapshot.tokens;
    let mut account = None;
    for cookie in cookie::values(&head.headers, cookie::SESSION) {
        let Ok((session, _)) = verify_session(cookie, tokens, clock::unix_now()) else {
            continue;
        };
        let Some(family) = session.family() else {
            continue;
        };
        tracing::info!(
            subject = session.subject(),
            family,
            "a session was ended in its browser"
        );
        let revoked = Revoked::Family(family.to_owned());
        around.shared.revoke(revoked).await.map_err(unavailable)?;
        account = session.account().map(str::to_owned);
    }
    Ok(account)
}
