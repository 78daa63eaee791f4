//! What becomes of a refresh token that is presented? A family is the refresh tokens that came from
//! one login, one after the other; of the tokens themselves nothing is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;

/// A family, as it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The family's id, which its tokens carry.
    pub id: String,
    /// Whose it is.
    pub subject: String,
    /// When its newest refresh token expires.
    pub expires: UnixTime,
}

/// What became of a presented refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It was the newest: the next generation begins now.
    Next,
    /// It was the newest until this time, a short while ago: an honest client tries again, and
    /// gets the same generation again.
    Again(UnixTime),
    /// It was used before: somebody else has it. The family has ended.
    Reused,
    /// The family is not known, or has ended.
    Unknown,
}

/// A refresh token as presented.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its family.
    pub family: &'a str,
    /// Its place in the family, from 0.
    pub generation: u64,
    /// When its successor expires.
    pub next_expires: UnixTime,
}

/// A family, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyRecord {
    /// Whose it is.
    pub subject: String,
    /// When its newest refresh token expires.
    pub expires: UnixTime,
    /// The newest place, from 0.
    pub generation: u64,
    /// When that began.
    pub rotated: UnixTime,
}

impl FamilyRecord {
    /// A family that begins.
    #[must_use]
    pub fn new(family: &Family, now: UnixTime) -> Self {
        Self {
            subject: family.subject.clone(),
            expires: family.expires,
            generation: 0,
            rotated: now,
        }
    }

    /// Takes a refresh token: once, and again within `grace`. After [`Rotation::Reused`] the family
    /// has to be removed.
    pub fn take(&mut self, presented: Presented<'_>, now: UnixTime, grace: Duration) -> Rotation {
        if now >= self.expires {
            return Rotation::Unknown;
        }
        if presented.generation == self.generation {
            self.generation += 1;
            self.rotated = now;
            self.expires = presented.next_expires;
            return Rotation::Next;
        }
        let is_previous = presented.generation.checked_add(1) == Some(self.generation);
        match is_previous && now <= self.rotated.plus(grace) {
            true => Rotation::Again(self.rotated),
            false => Rotation::Reused,
        }
    }

    /// Whether this is the newest refresh token of the family.
    #[must_use]
    pub fn is_newest(&self, presented: Presented<'_>, now: UnixTime) -> bool {
        now < self.expires && self.generation == presented.generation
    }
}
