//! The store in this process. Bounded: at most a million families, a hundred thousand application
//! tokens, and a hundred thousand values that are taken once; further ones are refused until some
//! expire.
//!
//! Weakness: a restart forgets everything. Forgotten families are refused, so everybody logs in
//! again; access tokens that were revoked are good again until they expire.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use super::application::{ApplicationChange, ApplicationToken, MAX_PER_CREATOR};
use super::family::{Family, FamilyRecord, Presented, Rotation};
use super::search::{Found, Gathering, MOST_LOOKS, Search, Session};
use super::{Record, Store, StoreError};
use crate::clock::UnixTime;
use crate::token::revocation::{Revocation, Revoked};

/// The store in this process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    families: DashMap<String, FamilyRecord>,
    revocations: DashMap<Revoked, Revocation>,
    values: DashMap<String, (Vec<u8>, UnixTime)>,
    applications: Mutex<Applications>,
}

/// By number. Few, and seldom asked: a login by application token is no hot path.
#[derive(Debug, Default)]
struct Applications {
    last: u64,
    by_id: BTreeMap<u64, ApplicationToken>,
    by_hash: HashMap<String, u64>,
}

impl MemoryStore {
    /// A thread that panicked in the middle of a change left nothing half done.
    fn applications(&self) -> MutexGuard<'_, Applications> {
        let applications = self.applications.lock();
        applications.unwrap_or_else(PoisonError::into_inner)
    }

    fn revoke_applications(&self, is_meant: impl Fn(&ApplicationToken) -> bool) {
        let mut applications = self.applications();
        let meant = applications.by_id.values_mut();
        meant
            .filter(|token| is_meant(token))
            .for_each(|token| token.is_revoked = true);
    }
}

/// The most families at a time, about 200 bytes each.
const MAX_FAMILIES: usize = 1_000_000;
/// The most application tokens, about 500 bytes each.
const MAX_APPLICATIONS: usize = 100_000;
/// The most values at a time, of up to a few kilobytes.
const MAX_VALUES: usize = 100_000;

impl Store for MemoryStore {
    async fn begin(&self, family: Family, now: UnixTime) -> Result<(), StoreError> {
        if self.families.len() >= MAX_FAMILIES {
            return Err(StoreError::Full);
        }
        let record = FamilyRecord::new(&family, now);
        self.families.insert(family.id, record);
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
        let rotation = record.take(presented, now, grace);
        // The lock must be gone before the entry can be.
        drop(record);
        if rotation == Rotation::Reused {
            self.families.remove(presented.family);
        }
        Ok(rotation)
    }

    async fn is_newest(&self, presented: Presented<'_>, now: UnixTime) -> Result<bool, StoreError> {
        let record = self.families.get(presented.family);
        Ok(record.is_some_and(|record| record.is_newest(presented, now)))
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError> {
        match &revocation.what {
            Revoked::All => {
                self.families.clear();
                self.revoke_applications(|_| true);
            }
            Revoked::Family(family) => {
                self.families.remove(family);
                self.revoke_applications(|token| token.family == *family);
            }
            Revoked::Subject(subject) => {
                self.families.retain(|_, record| record.subject != *subject);
                self.revoke_applications(|token| token.creator == *subject);
            }
            Revoked::Token(_) => {}
        }
        self.revocations
            .insert(revocation.what.clone(), revocation.clone());
        Ok(())
    }

    async fn revocations(&self, now: UnixTime) -> Result<Vec<Revocation>, StoreError> {
        let all = self.revocations.iter().map(|entry| entry.value().clone());
        Ok(all.filter(|revocation| now < revocation.until).collect())
    }

    async fn outlive(&self, _: UnixTime, _: UnixTime) -> Result<UnixTime, StoreError> {
        // A restart forgets what was revoked, too.
        Ok(UnixTime(0))
    }

    async fn add_application(&self, mut token: ApplicationToken) -> Result<u64, StoreError> {
        let mut applications = self.applications();
        let is_own = |held: &&ApplicationToken| held.creator == token.creator;
        if applications.by_id.values().filter(is_own).count() >= MAX_PER_CREATOR {
            return Err(StoreError::TooMany);
        }
        if applications.by_id.len() >= MAX_APPLICATIONS {
            return Err(StoreError::Full);
        }
        applications.last += 1;
        token.id = applications.last;
        applications.by_hash.insert(token.hash.clone(), token.id);
        let id = token.id;
        applications.by_id.insert(id, token);
        Ok(id)
    }

    async fn find_application(&self, hash: &str) -> Result<Option<ApplicationToken>, StoreError> {
        let applications = self.applications();
        let id = applications.by_hash.get(hash);
        Ok(id.and_then(|id| applications.by_id.get(id)).cloned())
    }

    async fn list_applications(&self, creator: &str) -> Result<Vec<ApplicationToken>, StoreError> {
        let applications = self.applications();
        let all = applications.by_id.values();
        Ok(all
            .filter(|token| token.creator == creator)
            .cloned()
            .collect())
    }

    async fn change_application(
        &self,
        id: u64,
        creator: Option<&str>,
        change: ApplicationChange,
    ) -> Result<Option<ApplicationToken>, StoreError> {
        let mut applications = self.applications();
        let token = applications.by_id.get_mut(&id);
        let token = token.filter(|token| creator.is_none_or(|creator| token.creator == creator));
        let Some(token) = token else { return Ok(None) };
        token.apply(change);
        Ok(Some(token.clone()))
    }

    async fn search_families(
        &self,
        search: &Search,
        now: UnixTime,
    ) -> Result<Found<Session>, StoreError> {
        let mut gathering = Gathering::new(search);
        if let Some(record) = self.families.get(&search.text) {
            gathering.session(&search.text, record.clone(), now);
        }
        for (count, entry) in self.families.iter().enumerate() {
            if count >= MOST_LOOKS {
                gathering.cut();
                break;
            }
            if gathering.is_full() {
                break;
            }
            if search.fits(&entry.subject, entry.key()) {
                gathering.session(entry.key(), entry.value().clone(), now);
            }
        }
        Ok(gathering.sessions())
    }

    async fn search_applications(
        &self,
        search: &Search,
    ) -> Result<Found<ApplicationToken>, StoreError> {
        let mut gathering = Gathering::new(search);
        // All of them: there are few.
        for token in self.applications().by_id.values().rev() {
            if gathering.is_full() {
                break;
            }
            if search.fits(&token.creator, &token.id.to_string()) {
                gathering.application(token.clone());
            }
        }
        Ok(gathering.applications())
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

    async fn export(&self, now: UnixTime) -> Result<Vec<Record>, StoreError> {
        let revocations = self.revocations(now).await?;
        let mut records: Vec<_> = revocations.into_iter().map(Record::Revocation).collect();
        let families = self.families.iter();
        records.extend(
            families.map(|entry| Record::Family(entry.key().clone(), entry.value().clone())),
        );
        let applications = self.applications();
        records.extend(
            applications
                .by_id
                .values()
                .cloned()
                .map(Record::Application),
        );
        Ok(records)
    }

    async fn import(&self, records: Vec<Record>) -> Result<(), StoreError> {
        for record in records {
            match record {
                Record::Family(id, record) => {
                    self.families.insert(id, record);
                }
                Record::Application(token) => {
                    let mut applications = self.applications();
                    applications.last = applications.last.max(token.id);
                    applications.by_hash.insert(token.hash.clone(), token.id);
                    applications.by_id.insert(token.id, token);
                }
                Record::Revocation(revocation) => {
                    self.revocations.insert(revocation.what.clone(), revocation);
                }
            }
        }
        Ok(())
    }

    async fn sweep(&self, now: UnixTime) -> Result<(), StoreError> {
        self.values.retain(|_, (_, until)| now < *until);
        self.families.retain(|_, record| now < record.expires);
        self.revocations
            .retain(|_, revocation| now < revocation.until);
        Ok(())
    }
}
