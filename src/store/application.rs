//! What is known of an application token? Everything but the token itself, of which only a hash
//! is kept.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;

/// An application token, as it is kept: a credential that an account gave to a program. It buys
/// access tokens until it expires or is revoked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationToken {
    /// Its number; 0 until the store has given it one.
    pub id: u64,
    /// The SHA-256 of the token, in base64url.
    pub hash: String,
    /// The family that all access tokens belong to that it buys.
    pub family: String,
    /// Whose it is.
    pub creator: String,
    /// Which kind of identity provider knows the creator.
    pub provider: String,
    /// What its creator says of it.
    pub description: Option<String>,
    /// When it was made.
    pub created: UnixTime,
    /// From when on it is no longer good, if ever.
    pub expires: Option<UnixTime>,
    /// From where alone it is good.
    pub network: Option<IpNet>,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Scopes, space-separated, that its access tokens have at most.
    pub scope: String,
    /// The creator's own upstream credential, sealed.
    pub sealed: Option<String>,
}

impl ApplicationToken {
    /// Whether it is still good at `now`.
    #[must_use]
    pub fn is_alive(&self, now: UnixTime) -> bool {
        !self.is_revoked && self.expires.is_none_or(|expires| now < expires)
    }
}

impl fmt::Debug for ApplicationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ApplicationToken");
        debug.field("id", &self.id).field("creator", &self.creator);
        debug.finish_non_exhaustive()
    }
}

impl ApplicationToken {
    /// Changes what is to change.
    pub fn apply(&mut self, change: ApplicationChange) {
        self.is_revoked |= change.revoke;
        if let Some(description) = change.description {
            self.description = Some(description);
        }
    }
}

/// What changes about an application token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationChange {
    /// A new description.
    pub description: Option<String>,
    /// Whether it ends. There is no way back.
    pub revoke: bool,
}

/// The most application tokens of one creator, those that are no longer good included.
pub const MAX_PER_CREATOR: usize = 1000;
