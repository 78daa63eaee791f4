//! Where are passwords hashed? On a few threads of their own behind a bounded queue, so that a
//! storm of logins cannot slow the requests that pass.
//!
//! Each thread keeps the memory of its last argon2 hash for the next one, as much as the
//! costliest stored hash takes (19 MiB at the default cost), and gives it back once it has had
//! nothing to do for a second.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
#[cfg(target_os = "linux")]
use rustix::{process::setpriority_process, thread::gettid};
use tokio::sync::oneshot;
use zeroize::Zeroize;

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

    fn verify(&self, secret: &str, memory: &mut Memory) -> bool {
        match self {
            Self::Argon2(text) => PasswordHash::new(text)
                .is_ok_and(|hash| memory.verify(&hash, secret).unwrap_or(false)),
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

/// What argon2 works in, kept from one hash to the next. It is made of passwords, and wiped when
/// dropped.
#[derive(Default)]
struct Memory(Vec<Block>);

impl Memory {
    /// Whether `secret` is what `hash` was made of; none if the hash cannot be computed.
    fn verify(&mut self, hash: &PasswordHash, secret: &str) -> Option<bool> {
        let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = match hash.version {
            Some(version) => Version::try_from(version).ok()?,
            None => Version::default(),
        };
        let params = Params::try_from(hash).ok()?;
        let blocks = params.block_count();
        if self.0.len() < blocks {
            self.0.try_reserve_exact(blocks - self.0.len()).ok()?;
            self.0.resize(blocks, Block::default());
        }
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..expected.len())?;
        Argon2::new(algorithm, version, params)
            .hash_password_into_with_memory(secret.as_bytes(), salt, output, &mut self.0)
            .ok()?;
        // Compared in constant time.
        Some(Output::new(output).is_ok_and(|output| output == *expected))
    }

    const fn is_held(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

struct Job {
    hash: StoredHash,
    secret: Secret<String>,
    answer: oneshot::Sender<bool>,
}

/// The threads that hash. The queue holds `waiting` jobs; what does not fit is refused.
#[derive(Debug)]
pub struct HashingPool(Sender<Job>);

impl HashingPool {
    /// Starts the threads; they end when the pool is dropped.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(threads: usize, waiting: usize) -> io::Result<Self> {
        let (sender, receiver) = bounded(waiting);
        for index in 0..threads.max(1) {
            let receiver = receiver.clone();
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

fn work(receiver: &Receiver<Job>) {
    step_back();
    let mut memory = Memory::default();
    while let Some(job) = next(receiver, &mut memory) {
        // A client that left needs no verdict.
        if !job.answer.is_closed() {
            let verdict = job.hash.verify(job.secret.expose(), &mut memory);
            let _ = job.answer.send(verdict);
        }
    }
}

/// Waits for a job, at length without memory.
fn next(receiver: &Receiver<Job>, memory: &mut Memory) -> Option<Job> {
    if memory.is_held() {
        match receiver.recv_timeout(IDLE) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => *memory = Memory::default(),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    receiver.recv().ok()
}

/// How long a thread waits for the next job before it gives its memory back.
const IDLE: Duration = Duration::from_secs(1);

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

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher;
    use argon2::{Algorithm, Argon2, Params, Version};

    use super::{Memory, StoredHash};

    fn stored(algorithm: Algorithm, version: Version, costs: (u32, u32, u32)) -> StoredHash {
        let (memory, passes, lanes) = costs;
        let params = Params::new(memory, passes, lanes, None).unwrap();
        let argon2 = Argon2::new(algorithm, version, params);
        let hash = argon2.hash_password_with_salt(b"right", b"salt of a hash");
        StoredHash::parse(&hash.unwrap().to_string()).unwrap()
    }

    #[test]
    fn memory_that_served_one_hash_serves_any_other() {
        let mut memory = Memory::default();
        for costs in [(64, 2, 1), (8, 1, 1), (32, 3, 4), (256, 1, 2), (64, 2, 1)] {
            for algorithm in [Algorithm::Argon2i, Algorithm::Argon2d, Algorithm::Argon2id] {
                for version in [Version::V0x10, Version::V0x13] {
                    let hash = stored(algorithm, version, costs);
                    let row = hash.text().to_owned();
                    assert!(!hash.verify("wrong", &mut memory), "{row}");
                    assert!(hash.verify("right", &mut memory), "{row}");
                    assert!(!hash.verify("", &mut memory), "{row}");
                }
            }
        }
    }

    #[test]
    fn memory_is_that_of_the_costliest_hash() {
        let mut memory = Memory::default();
        for (costs, blocks) in [((64, 1, 1), 64), ((128, 1, 1), 128), ((8, 1, 1), 128)] {
            let hash = stored(Algorithm::Argon2id, Version::V0x13, costs);
            assert!(hash.verify("right", &mut memory));
            assert_eq!(memory.0.len(), blocks, "{costs:?}");
        }
    }

    #[test]
    fn a_hash_without_salt_or_output_lets_nobody_in() {
        for text in [
            "$argon2id$v=19$m=64,t=1,p=1",
            "$argon2id$v=19$m=64,t=1,p=1$c2FsdCBvZiBhIGhhc2g",
        ] {
            if let Ok(hash) = StoredHash::parse(text) {
                assert!(!hash.verify("", &mut Memory::default()), "{text}");
            }
        }
    }
}
