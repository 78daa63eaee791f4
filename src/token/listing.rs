//! Which keys does the gate have, as told to operators? Never the keys themselves.

use serde::{Deserialize, Serialize};

use super::Tokens;

/// All keys that tokens are judged with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeyListing {
    /// The gate's own, the signing one first.
    pub own: Vec<OwnKeyListing>,
    /// Those of external issuers, in the config's order.
    pub issuers: Vec<IssuerListing>,
}

/// A key of the gate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OwnKeyListing {
    /// `kid`.
    pub id: String,
    /// `alg`.
    pub algorithm: String,
    /// Whether new tokens are signed with it; it verifies in any case.
    pub signs: bool,
}

/// What is known of an external issuer's keys.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IssuerListing {
    /// `iss`.
    pub issuer: String,
    /// Whether its tokens can be judged.
    pub state: KeyState,
    /// How long ago they were fetched; nothing if they never were.
    pub age_seconds: Option<u64>,
    /// They are fetched again before they are as old as this.
    pub soft_ttl_seconds: u64,
    /// From this age on they are good no more.
    pub hard_ttl_seconds: u64,
    /// Why the last fetch failed; nothing if it did not.
    pub last_error: Option<String>,
    /// Those that can be used.
    pub keys: Vec<PublicKeyListing>,
    /// Those that cannot.
    pub skipped: Vec<SkippedListing>,
}

/// How old an issuer's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Younger than `soft_ttl`.
    Fresh,
    /// Older, but they go on.
    Stale,
    /// Older than `hard_ttl`, or never fetched.
    Unavailable,
}

/// A key that an external issuer publishes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PublicKeyListing {
    /// `kid`; empty if it has none.
    pub id: String,
    /// `alg`.
    pub algorithm: String,
}

/// A key that an external issuer publishes and that is not used.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SkippedListing {
    /// `kid`, if it has one.
    pub id: Option<String>,
    /// Why it is not used.
    pub why: String,
}

impl KeyListing {
    /// What these rules judge tokens with, right now.
    #[must_use]
    pub fn of(tokens: &Tokens) -> Self {
        let keys = tokens.keys.all().iter().enumerate();
        let own = keys.map(|(index, key)| OwnKeyListing {
            id: key.id.clone(),
            algorithm: key.algorithm.name().to_owned(),
            signs: index == 0 && key.can_sign(),
        });
        let sources = tokens.issuers.sources();
        Self {
            own: own.collect(),
            issuers: sources.map(|source| source.listing()).collect(),
        }
    }
}
