//! The store that replicas share: a Redis or Valkey, alone, in a Cluster or behind Sentinel.
//!
//! Every operation is one script or command on the server, so that replicas cannot come between.
//! Every key but the layout's and the application tokens' has an expiry; of application tokens
//! there are at most a hundred thousand.
//!
//! Weakness: replication is asynchronous. What was acknowledged in the moment before a primary
//! dies can be lost with it: a new session has to log in again, and a refresh token that was
//! taken in that moment ends its login as if it had been used twice. Revocations are written
//! again by the replicas that know them.

mod applications;
mod config;
mod families;
mod follow;
mod keys;
mod link;
mod log;
mod scripts;
mod search;

pub use config::{RedisConfig, RedisMode, RedisSpec};

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use futures_util::future::{join, try_join};
use redis::cmd;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::application::{ApplicationChange, ApplicationToken};
use super::family::{Family, FamilyRecord, Presented, Rotation};
use super::health::Health;
use super::search::{Found, Search, Session};
use super::throttle::{Counters, Rates};
use super::{Record, Store, StoreError};
use crate::clock::{self, UnixTime};
use crate::token::revocation::{Revocation, Revocations, Revoked};
use applications::Ending;
use follow::Core;
use link::{Call, Link};

/// The store that replicas share.
#[derive(Debug)]
pub struct RedisStore {
    core: Arc<Core>,
    /// Its end is the thread's.
    _stop: oneshot::Sender<()>,
}

impl RedisStore {
    /// Starts to connect, on a thread of its own.
    ///
    /// # Errors
    /// If a thread or runtime cannot be had.
    pub fn open(spec: RedisSpec) -> Result<Self, io::Error> {
        let core = Arc::new(Core::new(Link::new(spec)));
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let own = Arc::clone(&core);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        _ = join(own.follow(), own.listen()) => {}
                    }
                });
            })?;
        Ok(Self { core, _stop: stop })
    }

    /// How this replica stands to it.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.core.health
    }

    /// What was revoked, kept in step with all replicas.
    #[must_use]
    pub fn view(&self) -> &Arc<Revocations> {
        &self.core.view
    }

    fn link(&self) -> &Link {
        &self.core.link
    }

    /// Ends what a revocation names, once it is in the log: from there on it holds everywhere,
    /// whatever becomes of the rest.
    async fn end(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let link = self.link();
        match &revocation.what {
            Revoked::All => {
                applications::end(link, Ending::All).await?;
                families::end_all(link, revocation.at).await
            }
            Revoked::Family(family) => {
                let applications = applications::end(link, Ending::Family(family));
                let ended = try_join(families::end(link, family), applications).await;
                ended.map(|_| ())
            }
            Revoked::Subject(subject) => {
                let applications = applications::end(link, Ending::Creator(subject));
                let ended = try_join(families::end_subject(link, subject), applications).await;
                ended.map(|_| ())
            }
            Revoked::Token(_) => Ok(()),
        }
    }
}

impl Store for RedisStore {
    async fn begin(&self, family: Family, now: UnixTime) -> Result<(), StoreError> {
        let record = FamilyRecord::new(&family, now);
        families::begin(self.link(), &family.id, &record, now).await
    }

    async fn take(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
        grace: Duration,
    ) -> Result<Rotation, StoreError> {
        families::take(self.link(), presented, now, grace).await
    }

    async fn is_newest(&self, presented: Presented<'_>, now: UnixTime) -> Result<bool, StoreError> {
        let record = families::find(self.link(), presented.family).await?;
        Ok(record.is_some_and(|record| record.is_newest(presented, now)))
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let appended = log::append(self.link(), revocation, revocation.at).await;
        // What the view knows goes into the log as soon as it can.
        appended.inspect_err(|_| self.core.owes.store(true, Ordering::Release))?;
        self.end(revocation).await
    }

    async fn revocations(&self, now: UnixTime) -> Result<Vec<Revocation>, StoreError> {
        log::all(self.link(), now).await
    }

    async fn outlive(&self, until: UnixTime, now: UnixTime) -> Result<UnixTime, StoreError> {
        let call = Call::new(&scripts::OUTLIVE)
            .key(self.link().spec.keys.outlive())
            .arg(log::number(until.0))
            .arg(families::ttl(until, now));
        let told: String = self.link().run(call).await?;
        told.parse()
            .map(UnixTime)
            .map_err(|_| families::unreadable())
    }

    async fn add_application(&self, token: ApplicationToken) -> Result<u64, StoreError> {
        applications::add(self.link(), &token).await
    }

    async fn find_application(&self, hash: &str) -> Result<Option<ApplicationToken>, StoreError> {
        applications::find(self.link(), hash).await
    }

    async fn list_applications(&self, creator: &str) -> Result<Vec<ApplicationToken>, StoreError> {
        applications::list(self.link(), creator).await
    }

    async fn change_application(
        &self,
        id: u64,
        creator: Option<&str>,
        change: ApplicationChange,
    ) -> Result<Option<ApplicationToken>, StoreError> {
        applications::change(self.link(), id, creator, change).await
    }

    async fn search_families(
        &self,
        search: &Search,
        now: UnixTime,
    ) -> Result<Found<Session>, StoreError> {
        search::sessions(self.link(), search, now).await
    }

    async fn search_applications(
        &self,
        search: &Search,
    ) -> Result<Found<ApplicationToken>, StoreError> {
        search::application_tokens(self.link(), search).await
    }

    async fn put(
        &self,
        name: String,
        value: Vec<u8>,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut kept = until.0.to_be_bytes().to_vec();
        kept.extend(value);
        let mut command = cmd("SET");
        command.arg(self.link().spec.keys.value(&name)).arg(kept);
        command.arg("EX").arg(families::ttl(until, now));
        self.link().ask(&command).await
    }

    async fn take_once(&self, name: String, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = cmd("GETDEL");
        command.arg(self.link().spec.keys.value(&name));
        let kept: Option<Vec<u8>> = self.link().ask(&command).await?;
        let Some((until, value)) = kept.as_deref().and_then(|kept| kept.split_first_chunk()) else {
            return Ok(None);
        };
        Ok((now.0 < u64::from_be_bytes(*until)).then(|| value.to_vec()))
    }

    async fn export(&self, now: UnixTime) -> Result<Vec<Record>, StoreError> {
        let link = self.link();
        let revocations = self.revocations(now).await?;
        let mut records: Vec<_> = revocations.into_iter().map(Record::Revocation).collect();
        for id in families::ids(link).await? {
            let found = families::find(link, &id).await?;
            records.extend(found.map(|record| Record::Family(id, record)));
        }
        let applications = applications::all(link).await?;
        records.extend(applications.into_iter().map(Record::Application));
        Ok(records)
    }

    async fn import(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let (link, now) = (self.link(), clock::unix_now());
        for record in records {
            match record {
                Record::Family(id, record) => families::import(link, &id, &record, now).await?,
                Record::Application(token) => applications::import(link, &token).await?,
                Record::Revocation(revocation) => log::append(link, &revocation, now).await?,
            }
        }
        Ok(())
    }

    async fn sweep(&self, now: UnixTime) -> Result<(), StoreError> {
        let keys = self.link().spec.keys.revoked();
        let call = Call::new(&scripts::TRIM).keys(keys).arg(log::number(now.0));
        self.link().run(call).await
    }

    async fn wait(&self, counters: &Counters) -> Result<Duration, StoreError> {
        let keys = self.link().spec.keys.counters(counters);
        let left: u64 = self
            .link()
            .run(Call::new(&scripts::WAIT).keys(keys))
            .await?;
        Ok(Duration::from_millis(left))
    }

    async fn failed(&self, counters: &Counters, rates: Rates) -> Result<bool, StoreError> {
        let millis = |span: Duration| span.as_millis().clamp(1, LONGEST_MILLIS).to_string();
        let call = Call::new(&scripts::FAIL)
            .keys(self.link().spec.keys.counters(counters))
            .arg(rates.free_source)
            .arg(rates.free_account)
            .arg(millis(rates.base))
            .arg(millis(rates.max))
            .arg(millis(rates.forget))
            .arg(millis(rates.each));
        self.link().run(call).await
    }

    async fn succeeded(&self, counters: &Counters) -> Result<(), StoreError> {
        let mut command = cmd("DEL");
        let keys = self.link().spec.keys.counters(counters);
        let Some(account) = keys.get(1) else {
            return Ok(());
        };
        command.arg(account);
        self.link().ask(&command).await
    }
}

/// A hundred years.
const LONGEST_MILLIS: u128 = 100 * 366 * 24 * 3600 * 1000;
