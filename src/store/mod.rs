//! What outlives a request? Families of refresh tokens, application tokens, tickets, and what was
//! revoked.

pub mod application;
pub mod memory;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::UnixTime;
use crate::token::revocation::Revoked;
use application::{ApplicationChange, ApplicationToken};
use memory::MemoryStore;

/// Where the gate keeps what outlives a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreConfig {
    /// In this process: a restart ends all refresh tokens and forgets what was revoked, and
    /// replicas do not know each other's.
    #[default]
    Memory,
}

/// A family: the refresh tokens that came from one login, one after the other.
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

/// The store failed or is full.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room for another entry.
    #[error("the store is full")]
    Full,
    /// One account has as many as it may.
    #[error("the account has too many already")]
    TooMany,
}

/// One kind of store. Every operation is atomic, also among replicas that share it.
pub(crate) trait Store {
    /// Begins a family with generation 0.
    async fn begin(&self, family: Family, now: UnixTime) -> Result<(), StoreError>;

    /// Takes a refresh token: it can be taken once, and again within `grace`.
    async fn take(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
        grace: Duration,
    ) -> Result<Rotation, StoreError>;

    /// Whether a refresh token is the newest of its family; takes nothing.
    async fn is_newest(&self, presented: Presented<'_>, now: UnixTime) -> Result<bool, StoreError>;

    /// Ends what a revocation names, and remembers it until `until`.
    async fn revoke(&self, revoked: &Revoked, until: UnixTime) -> Result<(), StoreError>;

    /// Keeps a new application token; its number.
    async fn add_application(&self, token: ApplicationToken) -> Result<u64, StoreError>;

    /// The application token with this hash.
    async fn find_application(&self, hash: &str) -> Result<Option<ApplicationToken>, StoreError>;

    /// All application tokens of a creator, the oldest first.
    async fn list_applications(&self, creator: &str) -> Result<Vec<ApplicationToken>, StoreError>;

    /// Changes an application token, of this creator or of anyone; what it is then.
    async fn change_application(
        &self,
        id: u64,
        creator: Option<&str>,
        change: ApplicationChange,
    ) -> Result<Option<ApplicationToken>, StoreError>;

    /// Keeps a value under a name until `until`.
    async fn put(
        &self,
        name: String,
        value: Vec<u8>,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<(), StoreError>;

    /// Takes the value under a name: of several who try, one gets it.
    async fn take_once(&self, name: String, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError>;

    /// Forgets what has expired.
    fn sweep(&self, now: UnixTime);
}

/// The registry of stores.
#[derive(Debug)]
pub enum AnyStore {
    /// In this process.
    Memory(MemoryStore),
}

impl AnyStore {
    /// Opens the configured store.
    #[must_use]
    pub fn open(config: StoreConfig) -> Self {
        match config {
            StoreConfig::Memory => Self::Memory(MemoryStore::default()),
        }
    }

    /// Begins a family with generation 0.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn begin(&self, family: Family, now: UnixTime) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.begin(family, now).await,
        }
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
        match self {
            Self::Memory(store) => store.take(presented, now, grace).await,
        }
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
        match self {
            Self::Memory(store) => store.is_newest(presented, now).await,
        }
    }

    /// Ends what a revocation names, and remembers it until `until`.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub async fn revoke(&self, revoked: &Revoked, until: UnixTime) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.revoke(revoked, until).await,
        }
    }

    /// Keeps a new application token; its number.
    ///
    /// # Errors
    /// If the store cannot take it, also for its creator having too many.
    pub async fn add_application(&self, token: ApplicationToken) -> Result<u64, StoreError> {
        match self {
            Self::Memory(store) => store.add_application(token).await,
        }
    }

    /// The application token with this hash.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn find_application(
        &self,
        hash: &str,
    ) -> Result<Option<ApplicationToken>, StoreError> {
        match self {
            Self::Memory(store) => store.find_application(hash).await,
        }
    }

    /// All application tokens of a creator, the oldest first.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn list_applications(
        &self,
        creator: &str,
    ) -> Result<Vec<ApplicationToken>, StoreError> {
        match self {
            Self::Memory(store) => store.list_applications(creator).await,
        }
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
        match self {
            Self::Memory(store) => store.change_application(id, creator, change).await,
        }
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
        match self {
            Self::Memory(store) => store.put(name, value, until, now).await,
        }
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
        match self {
            Self::Memory(store) => store.take_once(name, now).await,
        }
    }

    /// Forgets what has expired.
    pub fn sweep(&self, now: UnixTime) {
        match self {
            Self::Memory(store) => store.sweep(now),
        }
    }
}
