//! Who writes the state file? One thread, so that no request ever waits for a disk on a worker.
//! What waits together is committed together, and answered when it is on the disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use std::{fs, thread};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, StorageBackend as _, StorageError,
};
use tokio::sync::oneshot;

use super::disk::Bounded;
use super::layout::{self, Failure, Layout, VERSION};
use crate::clock;
use crate::store::StoreError;
use crate::token::revocation::Revocation;

/// Where the state file is, and how large it may become.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// In bytes.
    pub(super) most: u64,
}

/// Something to be done with the state.
pub(super) trait Job: Send {
    /// Does it.
    fn run(&mut self, layout: &Layout<'_>) -> Result<(), Failure>;
    /// Tells who waits how it went; with a text if nothing of the transaction could be kept.
    fn end(self: Box<Self>, failed: Option<&str>);
}

/// A job that gives something back.
pub(super) struct Task<T, F> {
    pub(super) work: Option<F>,
    pub(super) outcome: Option<Result<T, StoreError>>,
    pub(super) answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Layout<'_>) -> Result<T, Failure> + Send,
{
    fn run(&mut self, layout: &Layout<'_>) -> Result<(), Failure> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        match work(layout) {
            Ok(value) => self.outcome = Some(Ok(value)),
            Err(Failure::Refused(error)) => self.outcome = Some(Err(error)),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn end(self: Box<Self>, failed: Option<&str>) {
        let unavailable = |text: &str| Err(StoreError::Unavailable(text.to_owned()));
        let outcome = match (failed, self.outcome) {
            (None, Some(outcome)) => outcome,
            (Some(text), _) => unavailable(text),
            (None, None) => unavailable("it was not done"),
        };
        // Who left needs no answer.
        let _ = self.answer.send(outcome);
    }
}

/// Why a state file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process has the state file {} open", .0.display())]
    Busy(PathBuf),
    /// It is of another version of the gate.
    #[error(
        "the state file {} has layout {found}, and this gate knows {VERSION}: move it with `tollgate state export` and `import` of the gate that wrote it",
        path.display()
    )]
    OtherLayout {
        /// The state file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// It is broken, and could not be moved out of the way either.
    #[error("the state file {} is broken ({why}) and cannot be set aside: {source}", path.display())]
    Stuck {
        /// The state file.
        path: PathBuf,
        /// What is broken.
        why: String,
        /// Why it stays where it is.
        source: std::io::Error,
    },
    /// A store that replicas share got no thread.
    #[error("the store's thread could not be started: {0}")]
    Thread(std::io::Error),
    /// It could not be read or written.
    #[error(
        "the state file {} cannot be used: {why}; `store` says where it is, `store: memory` does without",
        path.display()
    )]
    Unusable {
        /// The state file.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
}

/// A state file that was opened.
pub(super) struct Opened {
    pub(super) database: Database,
    /// Where the one is that was found broken.
    pub(super) set_aside: Option<PathBuf>,
}

impl Place {
    /// Keeps every other process from the file as long as the lock lives. Waits a while for one
    /// that has it, so long as at a restart. Nothing is judged broken, or moved, without this lock: what
    /// another process is writing looks broken, too.
    pub(super) fn lock(&self, patience: Duration) -> Result<File, OpenError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let lock = options.mode(0o600).open(PathBuf::from(name));
        let lock = lock.map_err(|error| self.unusable(error.to_string()))?;
        let begun = clock::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                    thread::park_timeout(RETRY);
                }
                Err(TryLockError::WouldBlock) => return Err(OpenError::Busy(self.path.clone())),
                Err(TryLockError::Error(error)) => return Err(self.unusable(error.to_string())),
            }
        }
    }

    /// Opens the file, or makes it. A broken one is set aside, never emptied.
    pub(super) fn open(&self, _lock: &File) -> Result<Opened, OpenError> {
        let broken = match self.open_as_it_is() {
            Ok(database) => {
                return Ok(Opened {
                    database,
                    set_aside: None,
                });
            }
            Err(Broken::Error(error)) => return Err(error),
            Err(Broken::File(why)) => why,
        };
        let aside = self.set_aside(broken)?;
        match self.open_as_it_is() {
            Ok(database) => Ok(Opened {
                database,
                set_aside: Some(aside),
            }),
            Err(Broken::Error(error)) => Err(error),
            Err(Broken::File(why)) => Err(self.unusable(why)),
        }
    }

    /// The revocations of a file that cannot be written. Nothing if it cannot be read either, or is
    /// not there yet: that is no accident, but a wrong config.
    pub(super) fn remember(&self) -> Option<Vec<Revocation>> {
        let bytes = File::open(&self.path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(CHECKED).read_to_end(&mut bytes).map(|_| bytes)
        });
        // A crash leaves a file that has to be repaired, here in memory.
        let bytes = bytes.ok()?;
        let memory = InMemoryBackend::new();
        memory.set_len(bytes.len() as u64).ok()?;
        memory.write(0, &bytes).ok()?;
        let read = || {
            let database = Builder::new().create_with_backend(memory).ok()?;
            layout::read_revocations(&database.begin_read().ok()?).ok()
        };
        catch_unwind(AssertUnwindSafe(read)).ok()?
    }

    fn open_as_it_is(&self) -> Result<Database, Broken> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path);
        let file = file.map_err(|error| self.unusable(error.to_string()))?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let file = FileBackend::new(file).map_err(|error| self.unusable(error.to_string()))?;
        let backend = Bounded {
            file,
            most: self.most,
        };
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Builder::new()
                .set_cache_size(CACHE)
                .set_check_integrity_on_open(length <= CHECKED)
                .create_with_backend(backend)
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                return Err(OpenError::Busy(self.path.clone()).into());
            }
            Ok(Err(error)) if is_broken(&error) => return Err(Broken::File(error.to_string())),
            Ok(Err(error)) => return Err(self.unusable(error.to_string()).into()),
            Err(_) => return Err(Broken::File("reading it failed".to_owned())),
        };
        match self.version(&database) {
            Ok(VERSION) => Ok(database),
            Ok(found) => Err(OpenError::OtherLayout {
                path: self.path.clone(),
                found,
            }
            .into()),
            Err(Failure::Unreadable(error)) => Err(Broken::File(error.to_string())),
            Err(failure) => Err(self.unusable(failure.to_string()).into()),
        }
    }

    fn version(&self, database: &Database) -> Result<u64, Failure> {
        let transaction = database.begin_write()?;
        let layout = Layout::new(&transaction);
        let version = layout.version()?;
        if layout.is_changed() {
            transaction.commit()?;
        }
        Ok(version)
    }

    fn set_aside(&self, why: String) -> Result<PathBuf, OpenError> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".broken-{}", clock::unix_now().0));
        let aside = PathBuf::from(name);
        match fs::rename(&self.path, &aside) {
            Ok(()) => {
                let (file, aside_shown) = (self.path.display(), aside.display());
                tracing::error!(
                    %file, set_aside = %aside_shown, why,
                    "the state file is broken and was set aside; a new one begins, and everybody has to log in again"
                );
                Ok(aside)
            }
            Err(source) => Err(OpenError::Stuck {
                path: self.path.clone(),
                why,
                source,
            }),
        }
    }

    fn unusable(&self, why: String) -> OpenError {
        OpenError::Unusable {
            path: self.path.clone(),
            why,
        }
    }
}

enum Broken {
    Error(OpenError),
    File(String),
}

impl From<OpenError> for Broken {
    fn from(error: OpenError) -> Self {
        Self::Error(error)
    }
}

/// Whether an error tells of what stands in the file, and not of the disk or of another process.
fn is_broken(error: &DatabaseError) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(error.kind(), InvalidData | UnexpectedEof)
        }
        _ => false,
    }
}

/// The thread that writes.
pub(super) struct Writer {
    pub(super) place: Place,
    pub(super) database: Option<Database>,
    /// Nothing while the disk cannot be written.
    pub(super) lock: Option<File>,
    pub(super) retry_at: Instant,
}

impl Writer {
    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = jobs.recv() {
            let more = jobs.try_iter().take(TOGETHER - 1);
            let mut batch: Vec<_> = std::iter::once(first).chain(more).collect();
            let failed = self.work(&mut batch).err();
            for job in batch {
                job.end(failed.as_deref());
            }
        }
    }

    /// Does all of a batch in one transaction, or nothing.
    fn work(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), String> {
        self.reopen()?;
        let Some(database) = &self.database else {
            return Err("it is not open".to_owned());
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| commit(database, batch)));
        let why = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "the database failed".to_owned(),
        };
        // After a failure redb wants the file to be opened again.
        self.database = None;
        self.retry_at = clock::now() + RETRY_OPEN;
        tracing::error!(
            file = %self.place.path.display(), why,
            "the state cannot be written; logins and refreshes get 503, good tokens go on"
        );
        Err(why)
    }

    fn open_again(&mut self) -> Result<(), OpenError> {
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => self.place.lock(Duration::ZERO)?,
        };
        let opened = self.place.open(&lock);
        self.lock = Some(lock);
        self.database = Some(opened?.database);
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), String> {
        if self.database.is_some() {
            return Ok(());
        }
        if clock::now() < self.retry_at {
            return Err("it failed a moment ago".to_owned());
        }
        self.retry_at = clock::now() + RETRY_OPEN;
        self.open_again().map_err(|error| error.to_string())?;
        tracing::info!(file = %self.place.path.display(), "the state can be used again");
        Ok(())
    }
}

fn commit(database: &Database, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    // A crash then needs no repair that reads the whole file.
    transaction.set_quick_repair(true);
    let layout = Layout::new(&transaction);
    for job in batch {
        job.run(&layout)?;
    }
    match layout.is_changed() {
        true => transaction.commit()?,
        false => transaction.abort()?,
    }
    Ok(())
}

/// The longest file that is read as a whole before it is used, in bytes: a start must not take
/// long. Of a longer one a broken part is found when it is met.
const CHECKED: u64 = 512 * 1024 * 1024;
/// Of the file, in memory, in bytes.
const CACHE: usize = 16 * 1024 * 1024;
/// How many jobs are done in one transaction.
const TOGETHER: usize = 512;
/// How long another process may take to let go of the file.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(50);
const RETRY_OPEN: Duration = Duration::from_secs(1);
