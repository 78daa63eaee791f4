//! Who is this name and password that came by Basic? Judged like a login, and not answered with
//! tokens but let through.

use std::time::Duration;

use super::{Surroundings, authenticate};
use crate::clock;
use crate::identity::Attempt;
use crate::refusal::{Reason, Refusal};
use crate::token::verify::{LoggedIn, VerifiedToken};

/// Judges a pair (RFC 7617 section 2); what comes of it is good for so long.
///
/// # Errors
/// As any login's.
pub(crate) async fn verify(
    around: &Surroundings<'_>,
    pair: &str,
    remember: Duration,
) -> Result<VerifiedToken, Refusal> {
    let outcome = judge(around, pair, remember).await;
    let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
    around.metrics.login("basic", refused);
    outcome
}

async fn judge(
    around: &Surroundings<'_>,
    pair: &str,
    remember: Duration,
) -> Result<VerifiedToken, Refusal> {
    let attempt = Attempt::of_basic(pair).ok_or(Reason::BadCredentials)?;
    let principal = authenticate(around, &attempt).await?;
    let sealed = around.snapshot.seal(&principal)?;
    let revocations = &around.shared.revocations;
    let now = revocations.first_free_second(&principal.subject, clock::unix_now());
    let wanted = &around.snapshot.tokens.wanted;
    let login = LoggedIn {
        subject: principal.subject,
        scopes: principal.scopes,
        groups: principal.groups,
        claims: principal.claims,
    };
    Ok(VerifiedToken::of_login(
        login,
        sealed,
        wanted,
        now,
        now.plus(remember),
    ))
}
