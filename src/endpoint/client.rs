//! Which client do tokens go to, and did it prove to be it?

use super::{Surroundings, authenticate};
use crate::dialect::Client;
use crate::refusal::{Reason, Refusal};
use crate::token::issue::Holder;
use crate::token::verify::VerifiedToken;

/// The client behind a grant, after it was judged.
#[derive(Debug)]
pub(super) enum Judged {
    /// The account counts as the client.
    Account,
    /// It named or proved itself.
    Named(Holder),
    /// The dialect knows no clients.
    Unknown,
}

/// Judges what a client says about itself.
pub(super) async fn judge(
    around: &Surroundings<'_>,
    client: Option<Client>,
) -> Result<Judged, Refusal> {
    match client {
        None => Ok(Judged::Unknown),
        Some(Client::Account | Client::Unnamed) => Ok(Judged::Account),
        Some(Client::Public(id)) => Ok(Judged::Named(Holder {
            id,
            is_proved: false,
        })),
        Some(Client::Confidential(attempt)) => {
            let principal = authenticate(around, &attempt).await.map_err(blame)?;
            Ok(Judged::Named(Holder {
                id: principal.subject,
                is_proved: true,
            }))
        }
    }
}

/// Wrong credentials, when they were a client's.
pub(super) fn blame(mut refusal: Refusal) -> Refusal {
    if refusal.reason == Reason::BadCredentials {
        refusal.reason = Reason::BadClientCredentials;
    }
    refusal
}

impl Judged {
    /// Whom new tokens of this account go to.
    pub(super) fn holder(self, subject: &str) -> Option<Holder> {
        match self {
            Self::Account => Some(Holder {
                id: subject.to_owned(),
                is_proved: false,
            }),
            Self::Named(holder) => Some(holder),
            Self::Unknown => None,
        }
    }

    /// Whom the tokens go to that a refresh token buys: the client that it was issued to, which
    /// proves itself again if it did at first, and nobody else (RFC 6749 section 6).
    pub(super) fn for_refresh(self, token: &VerifiedToken) -> Result<Option<Holder>, Reason> {
        let Some(id) = token.client() else {
            return Ok(self.holder(token.subject()));
        };
        let (own, is_proved) = match &self {
            Self::Account | Self::Unknown => (token.subject(), false),
            Self::Named(holder) => (holder.id.as_str(), holder.is_proved),
        };
        if token.is_client_proved() && !is_proved {
            return Err(Reason::MissingCredential);
        }
        if own != id {
            return Err(Reason::BadCredentials);
        }
        Ok(Some(Holder {
            id: id.to_owned(),
            is_proved: token.is_client_proved(),
        }))
    }
}
