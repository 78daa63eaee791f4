//! Where are passwords hashed? On a few threads of their own behind a bounded queue, so that a
//! storm of logins cannot slow the requests that pass.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::{io, thread};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
#[cfg(target_os = "linux")]
use rustix::{process::setpriority_process, thread::gettid};
use tokio::sync::oneshot;

use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};

/// A stored hash of a password, known to be one that can be verified.
#[derive(Clone, Debug)]
pub enum StoredHash {
    /// In PHC string format.
    Argon2(Arc<str>),
    /// In modular crypt format.
    Bcrypt(Arc<str>),
}

/// The algorithms that `hash-password` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HashAlgorithm {
    /// Argon2id at OWASP's first choice: 19 MiB, two passes.
    Argon2id,
    /// bcrypt with cost 12; at most 72 bytes of password.
    Bcrypt,
}

/// In which form clients send a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PasswordForm {
    /// As it is.
    Plain,
    /// Its SHA-1 in hexadecimal digits.
    Sha1,
}

impl StoredHash {
    /// Takes a hash from a config.
    ///
    /// # Errors
    /// If it is of no kind that can be verified.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("$argon2") {
            PasswordHash::new(text).map_err(|_| "is not a valid argon2 hash")?;
            return Ok(Self::Argon2(text.into()));
        }
        if text.starts_with("$2") {
            text.parse::<bcrypt::HashParts>()
                .map_err(|_| "is not a valid bcrypt hash")?;
            return Ok(Self::Bcrypt(text.into()));
        }
        Err("is neither an argon2 nor a bcrypt hash; write one with `tollgate hash-password`")
    }

    /// The hash as stored.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Argon2(text) | Self::Bcrypt(text) => text,
        }
    }

    fn verify(&self, secret: &str) -> bool {
        match self {
            Self::Argon2(text) => PasswordHash::new(text).is_ok_and(|hash| {
                Argon2::default()
                    .verify_password(secret.as_bytes(), &hash)
                    .is_ok()
            }),
            Self::Bcrypt(text) => bcrypt::non_truncating_verify(secret, text).unwrap_or(false),
        }
    }
}

/// Hashes a password for a users file.
///
/// # Errors
/// A text that says why it cannot be hashed.
pub fn hash(password: &str, algorithm: HashAlgorithm) -> Result<String, String> {
    match algorithm {
        HashAlgorithm::Argon2id => Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|error| error.to_string()),
        HashAlgorithm::Bcrypt => {
            bcrypt::non_truncating_hash(password, BCRYPT_COST).map_err(|error| error.to_string())
        }
    }
}

const BCRYPT_COST: u32 = 12;

struct Job {
    hash: StoredHash,
    secret: Secret<String>,
    answer: oneshot::Sender<bool>,
}

/// The threads that hash. The queue holds `waiting` jobs; what does not fit is refused.
#[derive(Debug)]
pub struct HashingPool(SyncSender<Job>);

impl HashingPool {
    /// Starts the threads; they end when the pool is dropped.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(threads: usize, waiting: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(waiting);
        let receiver = Arc::new(Mutex::new(receiver));
        for index in 0..threads.max(1) {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name(format!("hashing-{index}"))
                .spawn(move || work(&receiver))?;
        }
        Ok(Self(sender))
    }

    /// Whether `secret` is what `hash` was made of.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] if the queue is full.
    pub async fn verify(&self, hash: StoredHash, secret: Secret<String>) -> Result<bool, Refusal> {
        let (answer, verdict) = oneshot::channel();
        match self.0.try_send(Job {
            hash,
            secret,
            answer,
        }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Reason::Overloaded.into()),
            Err(TrySendError::Disconnected(_)) => {
                return Err(Refusal::with_cause(
                    Reason::Internal,
                    "the hashing threads are gone",
                ));
            }
        }
        verdict
            .await
            .map_err(|error| Refusal::with_cause(Reason::Internal, error))
    }
}

fn work(receiver: &Mutex<Receiver<Job>>) {
    step_back();
    loop {
        let Ok(job) = receiver.lock().map(|receiver| receiver.recv()) else {
            return;
        };
        let Ok(job) = job else { return };
        // A client that left needs no verdict.
        if !job.answer.is_closed() {
            let verdict = job.hash.verify(job.secret.expose());
            let _ = job.answer.send(verdict);
        }
    }
}

/// From now on this thread gets a core only as far as others leave it: requests that pass come
/// first. On Linux the priority is the thread's own; elsewhere it would be the process's.
#[cfg(target_os = "linux")]
fn step_back() {
    if let Err(error) = setpriority_process(Some(gettid()), LOWEST) {
        tracing::warn!(
            %error,
            "a hashing thread's priority cannot be lowered; logins may slow other requests"
        );
    }
}

#[cfg(not(target_os = "linux"))]
const fn step_back() {}

/// The lowest priority of `setpriority(2)`. Not `SCHED_IDLE`, under which a busy neighbour on the
/// same core would keep everybody from logging in.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;
