//! Which programs may act for an account, and with what? Application tokens are made, listed and
//! revoked by who holds the account's access token, and buy access tokens in their turn.
//!
//! The access tokens that one buys are a family of their own, so that its end is theirs. They
//! manage no application tokens: a leaked one must not be able to make its own successor.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Surroundings, held, unavailable};
use crate::clock;
use crate::config::secret::Secret;
use crate::dialect::{ApplicationAnswer, ApplicationCommand};
use crate::identity::Principal;
use crate::refusal::{Detail, Reason, Refusal};
use crate::store::StoreError;
use crate::store::application::ApplicationToken;
use crate::token::TokenType;
use crate::token::revocation::Revoked;
use crate::token::seal::UpstreamLogin;
use crate::token::verify::VerifiedToken;

/// Does what the holder of an access token wants done with the application tokens of its account.
///
/// # Errors
/// What makes the access token unfit; [`Reason::NoApplicationTokens`] for an account that no
/// provider could be asked about later; [`Reason::UnknownApplicationToken`];
/// [`Reason::UnprocessableRequest`]; [`Reason::StoreUnavailable`].
pub(super) async fn manage(
    around: &Surroundings<'_>,
    token: &Secret<String>,
    command: ApplicationCommand,
) -> Result<ApplicationAnswer, Refusal> {
    let holder = held::good(around, token, TokenType::Access)?;
    let provider = holder.account().ok_or(Reason::NoApplicationTokens)?;
    if provider == KIND {
        return Err(Reason::NoApplicationTokens.into());
    }
    let creator = holder.subject();
    let store = &around.shared.store;
    match command {
        ApplicationCommand::List => {
            let listed = store.list_applications(creator).await;
            Ok(ApplicationAnswer::Listed(listed.map_err(unavailable)?))
        }
        ApplicationCommand::Change(id, change) => {
            let is_end = change.revoke;
            let changed = store.change_application(id, Some(creator), change).await;
            let changed = changed.map_err(unavailable)?;
            let changed = changed.ok_or(Reason::UnknownApplicationToken)?;
            if is_end {
                tracing::info!(subject = creator, id, "an application token was revoked");
                let revoked = around.shared.revoke(Revoked::Family(changed.family)).await;
                revoked.map_err(unavailable)?;
            }
            Ok(ApplicationAnswer::Changed)
        }
        ApplicationCommand::Create {
            description,
            expires,
            network,
        } => {
            let now = clock::unix_now();
            if expires.is_some_and(|expires| expires <= now) {
                return Err(unprocessable("the expiry date has passed"));
            }
            // Judged now, so that nobody gets a token that could never be used.
            let recalled = recall(around, creator, provider, holder.sealed()).await;
            recalled.map_err(|_| Reason::NoApplicationTokens)?;
            let token = Secret::new(format!("{PREFIX}{}", random()?));
            let application = ApplicationToken {
                id: 0,
                hash: hash(token.expose()),
                family: random()?,
                creator: creator.to_owned(),
                provider: provider.to_owned(),
                description,
                created: now,
                expires,
                network,
                is_revoked: false,
                scope: holder.scope().to_owned(),
                sealed: holder.sealed().map(str::to_owned),
            };
            let id = store.add_application(application).await;
            let id = id.map_err(|error| match error {
                StoreError::TooMany => unprocessable("there are too many application tokens"),
                error => unavailable(error),
            })?;
            tracing::info!(subject = creator, id, "an application token was made");
            Ok(ApplicationAnswer::Created(token))
        }
    }
}

/// Judges a login by application token.
///
/// # Errors
/// [`Reason::BadCredentials`] if it is not good, or not from there, or its creator is gone;
/// what kept the gate from judging otherwise.
pub(super) async fn authenticate(
    around: &Surroundings<'_>,
    token: &Secret<String>,
) -> Result<Principal, Refusal> {
    let hash = hash(token.expose());
    let found = around.shared.store.find_application(&hash).await;
    let found = found.map_err(unavailable)?.ok_or(Reason::BadCredentials)?;
    let client = around.means.client;
    let is_from_there = |network: ipnet::IpNet| network.contains(&client);
    if !found.is_alive(clock::unix_now()) || !found.network.is_none_or(is_from_there) {
        return Err(Reason::BadCredentials.into());
    }
    let (creator, sealed) = (&found.creator, found.sealed.as_deref());
    let mut principal = recall(around, creator, &found.provider, sealed).await?;
    let is_granted = |scope: &String| found.scope.split(' ').any(|granted| granted == scope);
    principal.scopes.retain(is_granted);
    principal.account = format!("{KIND}:{}", found.id);
    principal.family = Some(found.family);
    Ok(principal)
}

/// Marks the access tokens that an application token bought.
const KIND: &str = "application_token";

/// The creator's account as it is now.
async fn recall(
    around: &Surroundings<'_>,
    creator: &str,
    provider: &str,
    sealed: Option<&str>,
) -> Result<Principal, Refusal> {
    let login = open(around, creator, sealed)?;
    let providers = &around.snapshot.providers;
    let recalled = providers.recall(creator, provider, login, &around.means);
    recalled.await
}

fn open(
    around: &Surroundings<'_>,
    subject: &str,
    sealed: Option<&str>,
) -> Result<Option<UpstreamLogin>, Refusal> {
    let (Some(sealed), Some(sealer)) = (sealed, &around.snapshot.tokens.sealer) else {
        return Ok(None);
    };
    let opened = sealer.open(sealed, subject);
    let refuse = |error| Refusal::with_cause(Reason::BadCredentials, error);
    opened.map(Some).map_err(refuse)
}

/// The account that a token of the holder's would be asked about.
pub(super) fn open_sealed(
    around: &Surroundings<'_>,
    token: &VerifiedToken,
) -> Result<Option<UpstreamLogin>, Refusal> {
    open(around, token.subject(), token.sealed())
}

fn unprocessable(text: &'static str) -> Refusal {
    Refusal::with_detail(Reason::UnprocessableRequest, Detail::Text(text))
}

/// Random bits that nobody guesses, so that a plain hash of them tells nothing.
fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

/// 256 random bits.
fn random() -> Result<String, Refusal> {
    let mut bits = [0; 32];
    let broken = |_| Refusal::with_cause(Reason::Internal, "the random generator failed");
    rand::fill(&mut bits).map_err(broken)?;
    Ok(URL_SAFE_NO_PAD.encode(bits))
}

/// Tells scanners for leaked secrets what they found.
const PREFIX: &str = "tollgate_app_";
