//! Which store was configured? Whoever asks need not know.

use std::sync::Arc;
use std::time::Duration;

use super::application::{ApplicationChange, ApplicationToken};
use super::family::{Family, Presented, Rotation};
use super::file::{FileStore, OpenError};
use super::health::Health;
use super::memory::MemoryStore;
use super::redis::RedisStore;
use super::search::{Found, Search, Session};
use super::throttle::{Counters, Rates};
use super::{Record, Store, StoreError, StoreSpec};
use crate::clock::UnixTime;
use crate::token::revocation::{Revocation, Revocations};

/// The registry of stores.
#[derive(Debug)]
pub enum AnyStore {
    /// In a file of this machine.
    File(FileStore),
    /// In this process.
    Memory(MemoryStore),
    /// In a Redis or Valkey that replicas share.
    Redis(RedisStore),
}

/// Asks whichever store it is.
macro_rules! ask {
    ($any:ident, $store:ident => $asked:expr) => {
        match $any {
            Self::File($store) => $asked.await,
            Self::Memory($store) => $asked.await,
            Self::Redis($store) => $asked.await,
        }
    };
}

impl AnyStore {
    /// Whether what it had before is lost, so that nobody knows what was revoked.
    #[must_use]
    pub fn is_amnesic(&self) -> bool {
        match self {
            Self::File(store) => store.set_aside().is_some(),
            Self::Memory(_) | Self::Redis(_) => false,
        }
    }

    /// Opens a store. One that replicas share is then reached for: its [health](Self::health)
    /// tells when it has been read.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn open(spec: StoreSpec) -> Result<Self, OpenError> {
        match spec {
            StoreSpec::File(path, most) => FileStore::open(&path, most).map(Self::File),
            StoreSpec::Memory => Ok(Self::Memory(MemoryStore::default())),
            StoreSpec::Redis(spec) => {
                let store = RedisStore::open(*spec).map_err(OpenError::Thread)?;
                Ok(Self::Redis(store))
            }
        }
    }

    /// How this replica stands to the store.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        match self {
            Self::File(_) | Self::Memory(_) => Arc::new(Health::steady()),
            Self::Redis(store) => Arc::clone(store.health()),
        }
    }

    /// What was revoked, as far as the store itself keeps it in step with replicas.
    #[must_use]
    pub fn view(&self) -> Arc<Revocations> {
        match self {
            Self::File(_) | Self::Memory(_) => Arc::default(),
            Self::Redis(store) => Arc::clone(store.view()),
        }
    }

    /// Whether replicas share it.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// Begins a family with generation 0.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn begin(&self, family: Family, now: UnixTime) -> Result<(), StoreError> {
        ask!(self, store => store.begin(family, now))
    }

    /// Takes a refresh token: it can be taken once, and again within `grace`.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn take(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
        grace: Duration,
    ) -> Result<Rotation, StoreError> {
        ask!(self, store => store.take(presented, now, grace))
    }

    /// Whether a refresh token is the newest of its family; takes nothing.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn is_newest(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        ask!(self, store => store.is_newest(presented, now))
    }

    /// Ends what a revocation names, and remembers it until its end.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError> {
        ask!(self, store => store.revoke(revocation))
    }

    /// Every revocation that can still hit a token.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn revocations(&self, now: UnixTime) -> Result<Vec<Revocation>, StoreError> {
        ask!(self, store => store.revocations(now))
    }

    /// Remembers until when tokens may live that were issued so far; the latest that it was told
    /// before.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn outlive(&self, until: UnixTime, now: UnixTime) -> Result<UnixTime, StoreError> {
        ask!(self, store => store.outlive(until, now))
    }

    /// Keeps a new application token; its number.
    ///
    /// # Errors
    /// If the store cannot take it, also for its creator having too many.
    pub async fn add_application(&self, token: ApplicationToken) -> Result<u64, StoreError> {
        ask!(self, store => store.add_application(token))
    }

    /// The application token with this hash.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn find_application(
        &self,
        hash: &str,
    ) -> Result<Option<ApplicationToken>, StoreError> {
        ask!(self, store => store.find_application(hash))
    }

    /// All application tokens of a creator, the oldest first.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn list_applications(
        &self,
        creator: &str,
    ) -> Result<Vec<ApplicationToken>, StoreError> {
        ask!(self, store => store.list_applications(creator))
    }

    /// Changes an application token, of this creator or of anyone; what it is then.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn change_application(
        &self,
        id: u64,
        creator: Option<&str>,
        change: ApplicationChange,
    ) -> Result<Option<ApplicationToken>, StoreError> {
        ask!(self, store => store.change_application(id, creator, change))
    }

    /// Some of the families that have not ended.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn search_families(
        &self,
        search: &Search,
        now: UnixTime,
    ) -> Result<Found<Session>, StoreError> {
        ask!(self, store => store.search_families(search, now))
    }

    /// Some of the application tokens, those that are no longer good included.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn search_applications(
        &self,
        search: &Search,
    ) -> Result<Found<ApplicationToken>, StoreError> {
        ask!(self, store => store.search_applications(search))
    }

    /// Keeps a value under a name until `until`.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn put(
        &self,
        name: String,
        value: Vec<u8>,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        ask!(self, store => store.put(name, value, until, now))
    }

    /// Takes the value under a name: of several who try, one gets it.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn take_once(
        &self,
        name: String,
        now: UnixTime,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        ask!(self, store => store.take_once(name, now))
    }

    /// Everything but values, for another store.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn export(&self, now: UnixTime) -> Result<Vec<Record>, StoreError> {
        ask!(self, store => store.export(now))
    }

    /// Takes what another store had; what is there already under the same name is replaced.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn import(&self, records: Vec<Record>) -> Result<(), StoreError> {
        ask!(self, store => store.import(records))
    }

    /// Forgets what has expired.
    ///
    /// # Errors
    /// If the store cannot.
    pub async fn sweep(&self, now: UnixTime) -> Result<(), StoreError> {
        ask!(self, store => store.sweep(now))
    }

    /// How long an attempt has to wait for failures at any replica.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn wait(&self, counters: &Counters) -> Result<Duration, StoreError> {
        ask!(self, store => store.wait(counters))
    }

    /// Counts a failure for all replicas; whether it is the first that delays.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn failed(&self, counters: &Counters, rates: Rates) -> Result<bool, StoreError> {
        ask!(self, store => store.failed(counters, rates))
    }

    /// Forgets an account's failures at all replicas.
    ///
    /// # Errors
    /// If the store cannot.
    pub async fn succeeded(&self, counters: &Counters) -> Result<(), StoreError> {
        ask!(self, store => store.succeeded(counters))
    }
}
