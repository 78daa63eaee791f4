//! What outlives a request? Families of refresh tokens, application tokens, tickets, and what was
//! revoked.

mod any;
pub mod application;
pub mod family;
pub mod file;
pub mod health;
pub mod memory;
pub mod outlive;
pub mod redis;
pub mod search;
pub mod throttle;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::config::files::Files;
use crate::config::guard::Guard;
use crate::config::problem::Problems;
use crate::token::revocation::Revocation;
pub use any::AnyStore;
use application::{ApplicationChange, ApplicationToken};
use family::{Family, FamilyRecord, Presented, Rotation};
use redis::{RedisConfig, RedisSpec};
use search::{Found, Search, Session};
use throttle::{Counters, Rates};

/// Where the gate keeps what outlives a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreConfig {
    /// In this file, for one gate alone: safe against crashes, and there again after a restart.
    File(PathBuf),
    /// In this process: a restart ends all refresh tokens and forgets what was revoked, and
    /// replicas do not know each other's.
    Memory,
    /// In a Redis or Valkey that replicas share.
    Redis(Box<RedisConfig>),
}

impl StoreConfig {
    /// Checks it and reads what it names; notes every problem. A file has at most so many
    /// bytes.
    #[must_use]
    pub fn build(&self, files: &Files, most: u64, problems: &mut Problems) -> Option<StoreSpec> {
        match self {
            Self::File(path) => {
                problems.take("store.file", files.judge(Guard::State, path))?;
                Some(StoreSpec::File(files.resolve(path), most))
            }
            Self::Memory => Some(StoreSpec::Memory),
            Self::Redis(config) => {
                let spec = config.build(files, problems)?;
                Some(StoreSpec::Redis(Box::new(spec)))
            }
        }
    }
}

/// A store, ready to be opened.
#[derive(Clone, Debug)]
pub enum StoreSpec {
    /// In a file, of at most so many bytes.
    File(PathBuf, u64),
    /// In this process.
    Memory,
    /// In a Redis or Valkey.
    Redis(Box<RedisSpec>),
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::File(PathBuf::from("state.redb"))
    }
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
    /// It cannot be asked now.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
}

/// One entry, as it moves from one store to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// An application token.
    Application(ApplicationToken),
    /// A family, by its id.
    Family(String, FamilyRecord),
    /// A revocation.
    Revocation(Revocation),
}

/// One kind of store. Every operation is atomic, also among replicas that share it; what was
/// answered is kept.
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

    /// Ends what a revocation names, and remembers it until its end.
    async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError>;

    /// Every revocation that can still hit a token.
    async fn revocations(&self, now: UnixTime) -> Result<Vec<Revocation>, StoreError>;

    /// Remembers until when tokens may live that were issued so far; the latest that it was told
    /// before.
    async fn outlive(&self, until: UnixTime, now: UnixTime) -> Result<UnixTime, StoreError>;

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

    /// Some of the families that have not ended.
    async fn search_families(
        &self,
        search: &Search,
        now: UnixTime,
    ) -> Result<Found<Session>, StoreError>;

    /// Some of the application tokens, those that are no longer good included.
    async fn search_applications(
        &self,
        search: &Search,
    ) -> Result<Found<ApplicationToken>, StoreError>;

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

    /// Everything but values, for another store.
    async fn export(&self, now: UnixTime) -> Result<Vec<Record>, StoreError>;

    /// Takes what another store had; what is there already under the same name is replaced.
    async fn import(&self, records: Vec<Record>) -> Result<(), StoreError>;

    /// Forgets what has expired.
    async fn sweep(&self, now: UnixTime) -> Result<(), StoreError>;

    /// How long an attempt has to wait for failures at any replica. A store that is not shared
    /// counts none: each process counts its own.
    async fn wait(&self, _: &Counters) -> Result<Duration, StoreError> {
        Ok(Duration::ZERO)
    }

    /// Counts a failure; whether it is the first that delays.
    async fn failed(&self, _: &Counters, _: Rates) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Forgets an account's failures.
    async fn succeeded(&self, _: &Counters) -> Result<(), StoreError> {
        Ok(())
    }
}
