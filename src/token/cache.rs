//! Was this token verified before? A bounded memory that holds no token.
//!
//! Two layers. The shared one is a dashmap behind all workers. In front of it each worker has a
//! small table of its own, so that the tokens in use cost neither a lock nor a shared cache line.
//! Both are keyed by a [`KeyedHash`]: neither holds a token, and nobody outside can make two
//! tokens meet.
//!
//! Only verified tokens are ever remembered, so that refused ones push nothing out. Expiry is
//! judged at every look-up, as is the generation of the rules that a token was verified under;
//! a reload that changes keys or claims makes all older entries dead at once, as a key that is gone
//! at its external issuer does with that issuer's. What is dead is swept out within [`SWEEP_INTERVAL`].
//!
//! Weakness: when full, the oldest entry goes, however much it is used; its next request pays for
//! one verification.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::hash::{KeyedHash, TokenHash};
use super::revocation::Revocations;
use super::sync::{DashMap, Mutex};
use super::verify::VerifiedToken;
use crate::clock::UnixTime;
use crate::config::value::Size;

/// How often what is dead is swept out.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A sweep locks one shard after the other: of a million tokens, 4,000 at a time.
const SHARDS: usize = 256;

/// The bounds of the cache of verified tokens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The most tokens that are remembered.
    pub entries: usize,
    /// About the most memory that they take.
    pub bytes: Size,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            entries: 100_000,
            bytes: Size(64 * 1024 * 1024),
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    token: VerifiedToken,
    generation: u64,
}

impl Entry {
    fn is_alive(&self, generation: u64, now: UnixTime, leeway: Duration) -> bool {
        self.generation == generation
            && self.token.judge_time(now, leeway).is_ok()
            && self.token.has_its_key()
    }

    fn weight(&self) -> usize {
        // Twice the hash (map and queue) and the map's own overhead.
        self.token.weight() + 64
    }
}

/// The layer that all workers share.
#[derive(Debug)]
pub struct TokenCache {
    map: DashMap<TokenHash, Arc<Entry>, BuildHasherDefault<Direct>>,
    arrivals: Mutex<Arrivals>,
    hash: KeyedHash,
    max_entries: usize,
    max_bytes: usize,
}

/// Written at every miss: on cache lines of its own, away from the key that every request reads.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Arrivals {
    queue: VecDeque<TokenHash>,
    bytes: usize,
}

/// What made room in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted(pub u64);

impl TokenCache {
    /// An empty cache under a fresh secret.
    ///
    /// # Errors
    /// If the system's random generator fails.
    pub fn new(config: &CacheConfig) -> Result<Self, aws_lc_rs::error::Unspecified> {
        Ok(Self {
            map: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS),
            arrivals: Mutex::default(),
            hash: KeyedHash::random()?,
            max_entries: config.entries,
            max_bytes: config.bytes.bytes(),
        })
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.map.len()
    }

    /// Sweeps out what is dead.
    pub fn sweep(&self, generation: u64, now: UnixTime, leeway: Duration) {
        let Ok(mut arrivals) = self.arrivals.lock() else {
            return;
        };
        self.map
            .retain(|_, entry| entry.is_alive(generation, now, leeway));
        let mut bytes = 0;
        arrivals.queue.retain(|hash| match self.map.get(hash) {
            Some(entry) => {
                bytes += entry.weight();
                true
            }
            None => false,
        });
        arrivals.bytes = bytes;
    }

    fn find(&self, hash: TokenHash) -> Option<Arc<Entry>> {
        self.map.get(&hash).map(|entry| Arc::clone(entry.value()))
    }

    /// Remembers, and makes room. While a sweep or another worker holds the queue nothing is
    /// remembered: a worker never waits here.
    fn insert(&self, hash: TokenHash, entry: Entry) -> Evicted {
        let Ok(mut arrivals) = self.arrivals.try_lock() else {
            return Evicted(0);
        };
        let weight = entry.weight();
        match self.map.insert(hash, Arc::new(entry)) {
            Some(old) => arrivals.bytes = arrivals.bytes.saturating_sub(old.weight()),
            None => arrivals.queue.push_back(hash),
        }
        arrivals.bytes = arrivals.bytes.saturating_add(weight);
        let mut evicted = 0;
        while arrivals.queue.len() > self.max_entries || arrivals.bytes > self.max_bytes {
            let Some(oldest) = arrivals.queue.pop_front() else {
                break;
            };
            if let Some((_, gone)) = self.map.remove(&oldest) {
                arrivals.bytes = arrivals.bytes.saturating_sub(gone.weight());
                evicted += 1;
            }
        }
        Evicted(evicted)
    }
}

/// A token in a worker's own table.
#[derive(Debug)]
struct Slot {
    hash: TokenHash,
    token: Rc<VerifiedToken>,
    generation: u64,
    /// The count of revocations at which it was last judged.
    judged: u64,
}

/// What must still hold for a token that was verified before.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The generation of the rules in force.
    pub generation: u64,
    /// The time.
    pub now: UnixTime,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// What was taken back.
    pub revocations: &'a Revocations,
}

/// One worker's own table in front of the shared layer: 4096 tokens, each in the one
/// slot that its hash names.
#[derive(Debug)]
pub struct Front {
    shared: Arc<TokenCache>,
    slots: Box<[Option<Slot>]>,
}

impl Front {
    /// An empty table.
    #[must_use]
    pub fn new(shared: Arc<TokenCache>) -> Self {
        let slots = std::iter::repeat_with(|| None).take(FRONT_SLOTS).collect();
        Self { shared, slots }
    }

    /// The hash that stands for a credential of these parts in this process.
    #[must_use]
    pub fn hash<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> TokenHash {
        self.shared.hash.hash(parts)
    }

    /// The verified token, if it was verified under the rules in force, its time still holds and
    /// it was not taken back.
    pub fn find(
        &mut self,
        hash: TokenHash,
        around: &Circumstances<'_>,
    ) -> Option<Rc<VerifiedToken>> {
        let Circumstances {
            generation,
            now,
            leeway,
            revocations,
        } = *around;
        let count = revocations.count();
        let place = self.slots.get_mut(slot(hash))?;
        if let Some(held) = place
            && held.hash == hash
            && held.generation == generation
        {
            if held.judged != count {
                if revocations.hit(&held.token) {
                    *place = None;
                    return None;
                }
                held.judged = count;
            }
            let is_alive = held.token.judge_time(now, leeway).is_ok() && held.token.has_its_key();
            return is_alive.then(|| Rc::clone(&held.token));
        }
        let entry = self.shared.find(hash)?;
        if !entry.is_alive(generation, now, leeway) || revocations.hit(&entry.token) {
            return None;
        }
        // A copy, so that no reference count is shared between cores.
        let token = Rc::new(entry.token.clone());
        *place = Some(Slot {
            hash,
            token: Rc::clone(&token),
            generation,
            judged: count,
        });
        Some(token)
    }

    /// Remembers a token that was just verified.
    pub fn remember(
        &mut self,
        hash: TokenHash,
        token: VerifiedToken,
        generation: u64,
    ) -> (Rc<VerifiedToken>, Evicted) {
        let own = Rc::new(token.clone());
        let evicted = self.shared.insert(hash, Entry { token, generation });
        if let Some(place) = self.slots.get_mut(slot(hash)) {
            // A count that never is: the first hit judges.
            *place = Some(Slot {
                hash,
                token: Rc::clone(&own),
                generation,
                judged: u64::MAX,
            });
        }
        (own, evicted)
    }

    /// Drops what is dead.
    pub fn sweep(&mut self, generation: u64, now: UnixTime, leeway: Duration) {
        for place in &mut self.slots {
            let is_dead = place.as_ref().is_some_and(|held| {
                held.generation != generation
                    || held.token.judge_time(now, leeway).is_err()
                    || !held.token.has_its_key()
            });
            if is_dead {
                *place = None;
            }
        }
    }
}

const fn slot(hash: TokenHash) -> usize {
    hash.0 as usize % FRONT_SLOTS
}

/// A power of two.
const FRONT_SLOTS: usize = 4096;

/// Hands a hash on as it is: it is uniform already.
#[derive(Debug, Default)]
struct Direct(u64);

impl Hasher for Direct {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = (hash >> 64) as u64;
    }
}
