//! What does an operator take back, and is it in force?

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::door::Caller;
use super::reply::{Reply, text};
use crate::snapshot::Shared;
use crate::store::StoreError;
use crate::store::application::ApplicationChange;
use crate::token::revocation::Revoked;

/// What a caller wants to take back.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RevokeRequest {
    /// An application token, by its number, with all that it bought.
    ApplicationToken(u64),
    /// Every token that was issued up to now, and every application token.
    Everything(bool),
    /// Every token of one login.
    Family(String),
    /// Every token of a subject.
    Subject(String),
    /// One token.
    TokenId(String),
}

impl RevokeRequest {
    const fn kind(&self) -> &'static str {
        match self {
            Self::ApplicationToken(_) => "application_token",
            Self::Everything(_) => "everything",
            Self::Family(_) => "family",
            Self::Subject(_) => "subject",
            Self::TokenId(_) => "token_id",
        }
    }
}

/// Takes tokens back.
pub(super) async fn revoke(shared: &Shared, caller: &Caller, body: &Bytes) -> Reply {
    let Ok(asked) = serde_json::from_slice::<RevokeRequest>(body) else {
        let why = "expected a JSON object with one of subject, family, token_id, application_token, everything\n";
        return text(StatusCode::BAD_REQUEST, why);
    };
    let what = asked.kind();
    match take_back(shared, asked).await {
        Ok(true) => {
            let operator = caller.0.as_deref();
            tracing::info!(
                what,
                operator,
                "tokens were taken back by the admin listener"
            );
            text(StatusCode::OK, "revoked\n")
        }
        Ok(false) => text(StatusCode::NOT_FOUND, "there is nothing to revoke\n"),
        Err(error) => {
            tracing::error!(%error, "a revocation could not be stored");
            text(
                StatusCode::SERVICE_UNAVAILABLE,
                "in force here, but not stored\n",
            )
        }
    }
}

/// Whether there was something to take back.
async fn take_back(shared: &Shared, asked: RevokeRequest) -> Result<bool, StoreError> {
    let revoked = match asked {
        RevokeRequest::Family(family) => Revoked::Family(family),
        RevokeRequest::Subject(subject) => Revoked::Subject(subject),
        RevokeRequest::TokenId(id) => Revoked::Token(id),
        RevokeRequest::Everything(true) => Revoked::All,
        RevokeRequest::Everything(false) => return Ok(false),
        RevokeRequest::ApplicationToken(id) => {
            let change = ApplicationChange {
                description: None,
                revoke: true,
            };
            match shared.store.change_application(id, None, change).await? {
                Some(token) => Revoked::Family(token.family),
                None => return Ok(false),
            }
        }
    };
    shared.revoke(revoked).await.map(|()| true)
}
