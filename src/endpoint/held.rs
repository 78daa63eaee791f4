//! What may be done with a token that somebody holds: end it, or ask what is in it.

use super::{Surroundings, authenticate, unavailable};
use crate::clock::{self, UnixTime};
use crate::config::secret::Secret;
use crate::dialect::Asker;
use crate::refusal::{Reason, Refusal};
use crate::store::StoreError;
use crate::token::revocation::{Revocation, Revoked};
use crate::token::verify::{VerifiedToken, verify, verify_bearer};
use crate::token::{MAX_LEEWAY, TokenType};

/// Ends a refresh token with all that came from its login, or an access token alone. A token that
/// is not good needs no end: the client has what it asked for (RFC 7009 section 2.2).
///
/// # Errors
/// [`Reason::WrongType`] for a good token without an id, which nothing can end;
/// [`Reason::StoreUnavailable`].
pub(super) async fn revoke(
    around: &Surroundings<'_>,
    token: &Secret<String>,
) -> Result<(), Refusal> {
    let found = good(around, token, TokenType::Refresh);
    let Ok(verified) = found.or_else(|_| good(around, token, TokenType::Access)) else {
        return Ok(());
    };
    let subject = verified.subject();
    let (family, id) = (verified.family(), verified.id());
    let revoked = match (verified.place(), family, id) {
        (Some(_), Some(family), _) => Revoked::Family(family.to_owned()),
        (_, _, Some(id)) => Revoked::Token(id.to_owned()),
        _ => return Err(Reason::WrongType.into()),
    };
    tracing::info!(
        subject,
        family,
        token_id = id,
        "a token was revoked by its holder"
    );
    let outcome = match &revoked {
        Revoked::Token(_) => revoke_alone(around, revoked, verified.expires()).await,
        _ => around.shared.revoke(revoked).await,
    };
    outcome.map_err(unavailable)
}

/// Takes one token back, which is remembered for no longer than it would live: a holder can have any
/// number of them.
async fn revoke_alone(
    around: &Surroundings<'_>,
    what: Revoked,
    expires: UnixTime,
) -> Result<(), StoreError> {
    let (at, until) = (clock::unix_now(), expires.plus(MAX_LEEWAY));
    let revocation = Revocation { what, at, until };
    around.shared.revocations.add(revocation.clone());
    around.shared.store.revoke(&revocation).await
}

/// What is in an access token; nothing if it is not good. A refresh token opens nothing, so it is
/// never good here (RFC 7662 section 2.2 leaves that to the server).
///
/// # Errors
/// If who asks does not prove to be somebody; [`Reason::StoreUnavailable`] if a revocation may have
/// been missed.
pub(super) async fn introspect(
    around: &Surroundings<'_>,
    token: &Secret<String>,
    asker: Asker,
) -> Result<Option<VerifiedToken>, Refusal> {
    match asker {
        Asker::Account(attempt) => {
            authenticate(around, &attempt).await?;
        }
        Asker::Bearer(own) => {
            good_bearer(around, &own).await?;
        }
    }
    knows_revocations(around)?;
    Ok(good(around, token, TokenType::Access).ok())
}

/// Whether what was revoked is known well enough to call a token good.
pub(super) fn knows_revocations(around: &Surroundings<'_>) -> Result<(), Reason> {
    match around.shared.health.is_too_stale(clock::unix_now()) {
        true => Err(Reason::StoreUnavailable),
        false => Ok(()),
    }
}

/// The access token of somebody who asks for something: the gate's own, or an external issuer's.
pub(super) async fn good_bearer(
    around: &Surroundings<'_>,
    token: &Secret<String>,
) -> Result<VerifiedToken, Reason> {
    knows_revocations(around)?;
    let tokens = &around.snapshot.tokens;
    let judge = || verify_bearer(token.expose(), tokens, clock::unix_now());
    let verified = match judge() {
        Err(Reason::KeysUnavailable | Reason::UnknownKey) => {
            tokens.issuers.refreshed(token.expose()).await;
            judge()?
        }
        verified => verified?,
    };
    match around.shared.revocations.hit(&verified) {
        true => Err(Reason::Revoked),
        false => Ok(verified),
    }
}

/// A token of the gate's own.
pub(super) fn good(
    around: &Surroundings<'_>,
    token: &Secret<String>,
    kind: TokenType,
) -> Result<VerifiedToken, Reason> {
    let tokens = &around.snapshot.tokens;
    let verified = verify(token.expose(), kind, tokens, clock::unix_now())?;
    match around.shared.revocations.hit(&verified) {
        true => Err(Reason::Revoked),
        false => Ok(verified),
    }
}
