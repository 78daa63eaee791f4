//! How does a client that can only use URLs get through? With a ticket for its access token, good
//! once and for a moment.
//!
//! The store has but the ticket's hash, and the token sealed under a key that is drawn from the
//! ticket itself: neither the store nor the process keeps a token that could be used. When the
//! ticket is redeemed its token is judged as if it had been presented.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Surroundings, held, unavailable};
use crate::clock;
use crate::config::secret::Secret;
use crate::dialect::Mount;
use crate::refusal::{Reason, Refusal};

/// Gives a ticket for an access token that is good now.
///
/// # Errors
/// What makes the token unfit; [`Reason::StoreUnavailable`].
pub(super) async fn give(
    around: &Surroundings<'_>,
    mount: &Mount,
    token: &Secret<String>,
) -> Result<Secret<String>, Refusal> {
    held::good_bearer(around, token).await?;
    let mut bits = [0; TICKET];
    rand::fill(&mut bits).map_err(|_| broken())?;
    let ticket = Secret::new(URL_SAFE_NO_PAD.encode(bits));
    let mut bytes = token.expose().as_bytes().to_vec();
    let key = key(ticket.expose())?;
    key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut bytes)
        .map_err(|_| broken())?;
    let now = clock::unix_now();
    let until = now.plus(mount.lifetimes.access(None));
    let store = &around.shared.store;
    let kept = store.put(name(ticket.expose()), bytes, until, now).await;
    kept.map_err(unavailable)?;
    Ok(ticket)
}

/// The token that a ticket was given for; the ticket is used up.
///
/// # Errors
/// [`Reason::BadTicket`], [`Reason::StoreUnavailable`].
pub(crate) async fn redeem(
    around: &Surroundings<'_>,
    ticket: &str,
) -> Result<Secret<String>, Refusal> {
    if ticket.len() > MAX_TICKET {
        return Err(Reason::BadTicket.into());
    }
    let taken = around
        .shared
        .store
        .take_once(name(ticket), clock::unix_now());
    let mut bytes = taken.await.map_err(unavailable)?.ok_or(Reason::BadTicket)?;
    let opened = key(ticket)?.open_in_place(nonce(), Aad::empty(), &mut bytes);
    let opened = opened.map_err(|_| Reason::BadTicket)?;
    let token = str::from_utf8(opened).map_err(|_| Reason::BadTicket)?;
    Ok(Secret::new(token.to_owned()))
}

/// Under which name the store has it.
fn name(ticket: &str) -> String {
    let digest = digest::digest(&digest::SHA256, ticket.as_bytes());
    format!("ticket.{}", URL_SAFE_NO_PAD.encode(digest))
}

fn key(ticket: &str) -> Result<LessSafeKey, Refusal> {
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate")
        .extract(ticket.as_bytes())
        .expand(&[b"ticket, version 1"], hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut key))
        .map_err(|_| broken())?;
    let key = UnboundKey::new(&AES_256_GCM_SIV, &key).map_err(|_| broken())?;
    Ok(LessSafeKey::new(key))
}

/// Each key seals one token, so the nonce may be the same.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn broken() -> Refusal {
    Refusal::with_cause(Reason::Internal, "the cryptographic library failed")
}

/// The random bytes of a ticket.
const TICKET: usize = 32;
/// The longest text that is looked at as one.
const MAX_TICKET: usize = 64;
