//! The store in a file of this machine: an embedded database (redb), safe against crashes.
//!
//! Every answer is given once it is on the disk. While the disk is full or fails, logins and
//! refreshes are refused; tokens go on. A file that is broken is set aside and a new one begins:
//! then every token issued before is refused, since nobody knows any more which were revoked.
//!
//! Bounded by `limits.state_size`. Weakness: one process at a time has the file; replicas need a
//! store that they share.

mod applications;
mod disk;
mod layout;
mod search;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use self::layout::{Failure, Layout};
pub use self::writer::OpenError;
use self::writer::{Job, PATIENCE, Place, Task, Writer};
use super::application::{ApplicationChange, ApplicationToken};
use super::family::{Family, Presented, Rotation};
use super::search::{Found, Search, Session};
use super::{Record, Store, StoreError};
use crate::clock::{self, UnixTime};
use crate::token::revocation::Revocation;

/// The store in a file.
#[derive(Debug)]
pub struct FileStore {
    jobs: SyncSender<Box<dyn Job>>,
    set_aside: Option<PathBuf>,
    /// What could be read of a file that cannot be written.
    remembered: Option<Vec<Revocation>>,
}

impl FileStore {
    /// Opens the file, or makes it, with at most so many bytes.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn open(path: &Path, most: u64) -> Result<Self, OpenError> {
        let place = Place {
            path: path.to_owned(),
            most,
        };
        let opening = || -> Result<_, OpenError> {
            let lock = place.lock(PATIENCE)?;
            let opened = place.open(&lock)?;
            Ok((opened, lock))
        };
        let (opened, remembered) = match opening() {
            Ok(opened) => (Some(opened), None),
            Err(error @ OpenError::Unusable { .. }) => {
                let Some(remembered) = place.remember() else {
                    return Err(error);
                };
                tracing::error!(
                    %error,
                    "the state cannot be written; logins and refreshes get 503, good tokens go on"
                );
                (None, Some(remembered))
            }
            Err(error) => return Err(error),
        };
        let (opened, lock) = opened.unzip();
        let (database, set_aside) = match opened {
            Some(opened) => (Some(opened.database), opened.set_aside),
            None => (None, None),
        };
        let (jobs, waiting) = sync_channel(QUEUE);
        let writer = Writer {
            place: place.clone(),
            database,
            lock,
            retry_at: clock::now(),
        };
        let thread = thread::Builder::new().name("state".to_owned());
        let started = thread.spawn(move || writer.run(&waiting));
        started.map_err(|error| OpenError::Unusable {
            path: place.path,
            why: error.to_string(),
        })?;
        Ok(Self {
            jobs,
            set_aside,
            remembered,
        })
    }

    /// Where the file is that was found broken when this one was opened.
    #[must_use]
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    async fn ask<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Layout<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let task = Task {
            work: Some(work),
            outcome: None,
            answer,
        };
        let unavailable = |why: &str| StoreError::Unavailable(why.to_owned());
        self.jobs
            .try_send(Box::new(task))
            .map_err(|error| match error {
                TrySendError::Full(_) => unavailable("too much waits for the disk"),
                TrySendError::Disconnected(_) => unavailable("its thread is gone"),
            })?;
        answered
            .await
            .map_err(|_| unavailable("its thread is gone"))?
    }
}

/// How many jobs may wait.
const QUEUE: usize = 4096;

/// A refresh token as presented, for another thread.
struct Taken {
    family: String,
    generation: u64,
    next_expires: UnixTime,
}

impl Taken {
    fn new(presented: Presented<'_>) -> Self {
        Self {
            family: presented.family.to_owned(),
            generation: presented.generation,
            next_expires: presented.next_expires,
        }
    }

    fn presented(&self) -> Presented<'_> {
        Presented {
            family: &self.family,
            generation: self.generation,
            next_expires: self.next_expires,
        }
    }
}

impl Store for FileStore {
    async fn begin(&self, family: Family, now: UnixTime) -> Result<(), StoreError> {
        self.ask(move |layout| layout.begin(&family, now)).await
    }

    async fn take(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
        grace: Duration,
    ) -> Result<Rotation, StoreError> {
        let taken = Taken::new(presented);
        self.ask(move |layout| layout.take(taken.presented(), now, grace))
            .await
    }

    async fn is_newest(&self, presented: Presented<'_>, now: UnixTime) -> Result<bool, StoreError> {
        let taken = Taken::new(presented);
        self.ask(move |layout| layout.is_newest(taken.presented(), now))
            .await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let revocation = revocation.clone();
        self.ask(move |layout| layout.revoke(&revocation)).await
    }

    async fn revocations(&self, now: UnixTime) -> Result<Vec<Revocation>, StoreError> {
        match self.ask(move |layout| layout.revocations(now)).await {
            Err(StoreError::Unavailable(_)) if self.remembered.is_some() => {
                Ok(self.remembered.clone().unwrap_or_default())
            }
            told => told,
        }
    }

    async fn outlive(&self, until: UnixTime, _: UnixTime) -> Result<UnixTime, StoreError> {
        self.ask(move |layout| layout.outlive(until)).await
    }

    async fn add_application(&self, token: ApplicationToken) -> Result<u64, StoreError> {
        self.ask(move |layout| layout.add_application(token)).await
    }

    async fn find_application(&self, hash: &str) -> Result<Option<ApplicationToken>, StoreError> {
        let hash = hash.to_owned();
        self.ask(move |layout| layout.find_application(&hash)).await
    }

    async fn list_applications(&self, creator: &str) -> Result<Vec<ApplicationToken>, StoreError> {
        let creator = creator.to_owned();
        self.ask(move |layout| layout.list_applications(&creator))
            .await
    }

    async fn change_application(
        &self,
        id: u64,
        creator: Option<&str>,
        change: ApplicationChange,
    ) -> Result<Option<ApplicationToken>, StoreError> {
        let creator = creator.map(str::to_owned);
        self.ask(move |layout| layout.change_application(id, creator.as_deref(), change))
            .await
    }

    async fn search_families(
        &self,
        search: &Search,
        now: UnixTime,
    ) -> Result<Found<Session>, StoreError> {
        let search = search.clone();
        self.ask(move |layout| layout.search_families(&search, now))
            .await
    }

    async fn search_applications(
        &self,
        search: &Search,
    ) -> Result<Found<ApplicationToken>, StoreError> {
        let search = search.clone();
        self.ask(move |layout| layout.search_applications(&search))
            .await
    }

    async fn put(
        &self,
        name: String,
        value: Vec<u8>,
        until: UnixTime,
        _: UnixTime,
    ) -> Result<(), StoreError> {
        self.ask(move |layout| layout.put(&name, &value, until))
            .await
    }

    async fn take_once(&self, name: String, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(move |layout| layout.take_once(&name, now)).await
    }

    async fn export(&self, now: UnixTime) -> Result<Vec<Record>, StoreError> {
        self.ask(move |layout| layout.export(now)).await
    }

    async fn import(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.ask(move |layout| layout.import(records)).await
    }

    async fn sweep(&self, now: UnixTime) -> Result<(), StoreError> {
        self.ask(move |layout| layout.sweep(now)).await
    }
}
