//! Who may ask the admin listener? The users of a file of its own, by Basic (RFC 7617).
//!
//! A page asks every few seconds: a pair that was good is known by a keyed hash for five minutes, or
//! until the file changes. Bounded: sixteen pairs.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Attempt;
use super::hashing::HashingPool;
use super::throttle::{Throttle, ThrottleConfig};
use super::users_file::UsersFile;
use crate::clock;
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::refusal::{Reason, Refusal};
use crate::token::hash::{KeyedHash, TokenHash};

/// The operators, and who of them was here of late.
#[derive(Debug)]
pub struct Operators {
    users: UsersFile,
    hash: KeyedHash,
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    pair: TokenHash,
    name: String,
    since: Instant,
}

/// How long a pair is known.
const REMEMBERED: Duration = Duration::from_secs(300);
/// The most pairs that are known.
const MOST_KNOWN: usize = 16;

/// What operators are judged with.
#[derive(Debug)]
pub struct Judges<'a> {
    /// Where passwords are hashed.
    pub hashing: &'a HashingPool,
    /// The logins that failed of late.
    pub throttle: &'a Throttle,
    /// How they slow further ones down.
    pub config: &'a ThrottleConfig,
}

impl Operators {
    /// Reads the file; notes every problem.
    #[must_use]
    pub fn read(at: &str, path: &Path, files: &Files, problems: &mut Problems) -> Option<Self> {
        let users = UsersFile::read(at, path, files, problems)?;
        if !users.know_passwords() {
            let at = format!("{at}.users_file");
            problems.add(at, "has no user with a `password_hash`: nobody could ask");
        }
        let hash = KeyedHash::random().map_err(|_| "the system's random generator failed");
        Some(Self {
            users,
            hash: problems.take(at, hash)?,
            known: Mutex::default(),
        })
    }

    /// The name of the operator whose Basic credentials these are, as they stand behind the scheme.
    ///
    /// # Errors
    /// [`Reason::BadCredentials`], [`Reason::Throttled`], or what kept the gate from judging.
    pub async fn admit(
        &self,
        pair: &str,
        client: IpAddr,
        judges: Judges<'_>,
    ) -> Result<String, Refusal> {
        let hash = self.hash.hash([pair.as_bytes()]);
        if let Some(name) = self.recall(hash) {
            return Ok(name);
        }
        let attempt = Attempt::of_basic(pair).ok_or(Reason::BadCredentials)?;
        // No name of a users file holds a `:`, so that these count apart from clients' logins.
        let account = format!("admin:{}", attempt.identifier);
        let (throttle, config) = (judges.throttle, judges.config);
        let admitted = throttle.admit(config, Some(&account), client, clock::now())?;
        match self.users.judge(&attempt, judges.hashing).await? {
            Some(principal) => {
                admitted.succeeded();
                self.remember(hash, principal.subject.clone());
                Ok(principal.subject)
            }
            None => {
                admitted.failed(clock::now());
                Err(Reason::BadCredentials.into())
            }
        }
    }

    fn recall(&self, pair: TokenHash) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        known.retain(|known| now.saturating_duration_since(known.since) < REMEMBERED);
        let found = known.iter().find(|known| known.pair == pair)?;
        Some(found.name.clone())
    }

    fn remember(&self, pair: TokenHash, name: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.remove(0);
        }
        let since = clock::now();
        known.push(Known { pair, name, since });
    }
}
