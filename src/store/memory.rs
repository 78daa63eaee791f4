//! The store in this process. Bounded: at most a million families, and a hundred thousand values
//! that are taken once; further ones are refused until some expire.
//!
//! Weakness: a restart forgets everything. Forgotten families are refused, so everybody logs in
//! again; access tokens that were revoked are good again until they expire.

use std::time::Duration;

use dashmap::DashMap;

use super::{Family, Presented, Rotation, Store, StoreError};
use crate::clock::UnixTime;
use crate::token::revocation::Revoked;

/// The store in this process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    families: DashMap<String, Record>,
    values: DashMap<String, (Vec<u8>, UnixTime)>,
}

#[derive(Debug)]
struct Record {
    subject: String,
    expires: UnixTime,
    generation: u64,
    rotated: UnixTime,
}

/// The most families at a time, about 200 bytes each.
const MAX_FAMILIES: usize = 1_000_000;
/// The most values at a time, of up to a few kilobytes.
const MAX_VALUES: usize = 100_000;

impl Store for MemoryStore {
    async fn begin(&self, family: Family, now: UnixTime) -> Result<(), StoreError> {
        if self.families.len() >= MAX_FAMILIES {
            return Err(StoreError::Full);
        }
        let Family {
            id,
            subject,
            expires,
        } = family;
        self.families.insert(
            id,
            Record {
                subject,
                expires,
                generation: 0,
                rotated: now,
            },
        );
        Ok(())
    }

    async fn take(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
        grace: Duration,
    ) -> Result<Rotation, StoreError> {
        let Some(mut record) = self.families.get_mut(presented.family) else {
            return Ok(Rotation::Unknown);
        };
        if now >= record.expires {
            return Ok(Rotation::Unknown);
        }
        if presented.generation == record.generation {
            record.generation += 1;
            record.rotated = now;
            record.expires = presented.next_expires;
            return Ok(Rotation::Next);
        }
        let is_previous = presented.generation.checked_add(1) == Some(record.generation);
        if is_previous && now <= record.rotated.plus(grace) {
            return Ok(Rotation::Again(record.rotated));
        }
        // The lock must be gone before the entry can be.
        drop(record);
        self.families.remove(presented.family);
        Ok(Rotation::Reused)
    }

    async fn is_newest(&self, presented: Presented<'_>, now: UnixTime) -> Result<bool, StoreError> {
        let record = self.families.get(presented.family);
        Ok(record.is_some_and(|record| {
            now < record.expires && record.generation == presented.generation
        }))
    }

    async fn revoke(&self, revoked: &Revoked, _: UnixTime) -> Result<(), StoreError> {
        match revoked {
            Revoked::Family(family) => {
                self.families.remove(family);
            }
            Revoked::Subject(subject) => {
                self.families.retain(|_, record| record.subject != *subject);
            }
            Revoked::Token(_) => {}
        }
        Ok(())
    }

    async fn put(
        &self,
        name: String,
        value: Vec<u8>,
        until: UnixTime,
        _: UnixTime,
    ) -> Result<(), StoreError> {
        if self.values.len() >= MAX_VALUES {
            return Err(StoreError::Full);
        }
        self.values.insert(name, (value, until));
        Ok(())
    }

    async fn take_once(&self, name: String, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        let taken = self.values.remove(&name);
        Ok(taken.and_then(|(_, (value, until))| (now < until).then_some(value)))
    }

    fn sweep(&self, now: UnixTime) {
        self.values.retain(|_, (_, until)| now < *until);
        self.families.retain(|_, record| now < record.expires);
    }
}
