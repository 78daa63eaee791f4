//! Which keys does an external issuer have right now, and how fresh is that knowledge?
//!
//! Whoever judges tokens reads the keys without a lock. One task of the process fetches them (see
//! [`KeySource::fetch`]): ahead, again before they are old, and when somebody meets a key id that
//! is not known. Who meets one waits for that; at most one such fetch is made in an interval, so
//! that made-up key ids do no harm.
//!
//! Weakness: made-up key ids can use up the interval just before an issuer changes its keys. Its
//! new tokens are then refused until the interval is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::Uri;
use http::uri::PathAndQuery;
use tokio::sync::watch;
use tokio::time::timeout;

use super::config::KeysConfig;
use super::fetch::{Client, FetchError};
use super::jwks::KeySet;
use crate::clock;
use crate::refusal::Reason;
use crate::token::keys::KeyAlgorithm;
use crate::token::listing::{IssuerListing, KeyState, PublicKeyListing, SkippedListing};

/// Where keys come from and how long they are good. Two sources with the same are the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SourceSpec {
    /// `iss`, as configured.
    pub(super) issuer: String,
    pub(super) issuer_uri: Uri,
    pub(super) jwks: Option<Uri>,
    /// PEM.
    pub(super) certificates: Option<Vec<u8>>,
    pub(super) is_plaintext_fine: bool,
    pub(super) algorithms: Vec<KeyAlgorithm>,
    pub(super) keys: KeysConfig,
}

impl SourceSpec {
    pub(super) fn is_tls(&self) -> bool {
        self.issuer_uri.scheme_str() == Some("https")
    }

    /// Host and port, if any.
    pub(super) fn issuer_host(&self) -> &str {
        self.issuer_uri
            .authority()
            .map_or("", http::uri::Authority::as_str)
    }

    /// Where the discovery document is (Discovery section 4).
    pub(super) fn discovery(&self) -> Uri {
        let path = self.issuer_uri.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let path = format!("{path}/.well-known/openid-configuration");
        let mut parts = self.issuer_uri.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(path).ok();
        Uri::from_parts(parts).unwrap_or_else(|_| self.issuer_uri.clone())
    }
}

/// The keys of one external issuer.
#[derive(Debug)]
pub struct KeySource {
    spec: SourceSpec,
    client: Client,
    known: ArcSwap<Known>,
    turn: Mutex<Turn>,
    /// Counts those who want the keys to be fetched.
    wishes: watch::Sender<u64>,
    /// Counts fetches that ended, well or not.
    ended: watch::Sender<u64>,
    has_loaded: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    set: KeySet,
    /// When they were fetched; nothing if they never were.
    at: Option<Instant>,
    /// Counts up when the keys change: one that is new can matter, too, to tokens without a key id.
    epoch: u64,
}

#[derive(Debug, Default)]
struct Turn {
    is_running: bool,
    /// How many wishes there were when the last fetch began.
    answered: u64,
    /// When an unknown key last had them fetched.
    for_unknown: Option<Instant>,
    last_error: Option<String>,
}

/// Proof that a token's issuer had its key; see [`KeyStand::holds`].
#[derive(Clone, Debug)]
pub(in crate::token) struct KeyStand {
    source: Arc<KeySource>,
    epoch: u64,
}

impl KeyStand {
    /// Whether the issuer still has the key, as far as is known, and that knowledge is not too
    /// old. Cheap: asked for every request with a token that was verified before.
    pub(in crate::token) fn holds(&self) -> bool {
        let known = self.source.known.load();
        known.epoch == self.epoch && self.source.is_usable(&known)
    }
}

/// What a fetch changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// How many usable keys there are.
    pub keys: usize,
    /// How many of them were not known.
    pub added: usize,
    /// How many that were known are gone, or have become others.
    pub removed: usize,
    /// Whether they were fetched for the first time.
    pub is_first: bool,
}

impl KeySource {
    pub(super) fn new(spec: SourceSpec, client: Client) -> Self {
        Self {
            spec,
            client,
            known: ArcSwap::default(),
            turn: Mutex::default(),
            wishes: watch::Sender::new(0),
            ended: watch::Sender::new(0),
            has_loaded: AtomicU64::new(0),
        }
    }

    pub(super) const fn spec(&self) -> &SourceSpec {
        &self.spec
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.spec.issuer
    }

    /// Before they are as old as this, keys are to be fetched again.
    #[must_use]
    pub const fn soft_ttl(&self) -> Duration {
        self.spec.keys.soft_ttl.0
    }

    /// How long fetching may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.spec.keys.timeout.0
    }

    fn is_usable(&self, known: &Known) -> bool {
        let age = |at: Instant| clock::now().saturating_duration_since(at);
        known
            .at
            .is_some_and(|at| age(at) < self.spec.keys.hard_ttl.0)
    }

    /// Judges with the key of this id.
    ///
    /// # Errors
    /// [`Reason::KeysUnavailable`], [`Reason::UnknownKey`], or what `judge` says.
    pub(super) fn with_key<T>(
        self: &Arc<Self>,
        id: Option<&str>,
        judge: impl FnOnce(&crate::token::keys::Key) -> Result<T, Reason>,
    ) -> Result<(T, KeyStand), Reason> {
        let known = self.known.load();
        if !self.is_usable(&known) {
            return Err(Reason::KeysUnavailable);
        }
        let key = known.set.find(id).ok_or(Reason::UnknownKey)?;
        let judged = judge(key)?;
        let stand = KeyStand {
            source: Arc::clone(self),
            epoch: known.epoch,
        };
        Ok((judged, stand))
    }

    /// Waits until the keys have been fetched because this id is not known, unless that was done
    /// a short while ago. At most as long as a fetch may take, twice if one is under way.
    pub(super) async fn refreshed(&self, id: Option<&str>) {
        for _ in 0..2 {
            let is_known = {
                let known = self.known.load();
                self.is_usable(&known) && (id.is_none() || known.set.find(id).is_some())
            };
            if is_known {
                return;
            }
            let Some(mut ended) = self.ask() else { return };
            let _ = timeout(self.timeout(), ended.changed()).await;
        }
    }

    /// Asks for a fetch, unless it is too early. Tells when the one that is under way has ended.
    fn ask(&self) -> Option<watch::Receiver<u64>> {
        let mut turn = self.turn();
        let ended = self.ended.subscribe();
        if turn.is_running {
            return Some(ended);
        }
        let now = clock::now();
        let interval = self.spec.keys.unknown_key_interval.0;
        let is_early = |at: Instant| now.saturating_duration_since(at) < interval;
        if turn.for_unknown.is_some_and(is_early) {
            return None;
        }
        turn.for_unknown = Some(now);
        turn.is_running = true;
        self.wishes
            .send_modify(|count| *count = count.wrapping_add(1));
        Some(ended)
    }

    /// Waits until somebody wants a fetch who wanted it after the last one began.
    pub async fn wished(&self) {
        let answered = self.turn().answered;
        let mut wishes = self.wishes.subscribe();
        // Its sender lives as long as this source.
        let _ = wishes.wait_for(|count| *count != answered).await;
    }

    /// Counts fetches that ended, well or not.
    #[must_use]
    pub fn attempts(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Fetches the keys and puts them in force. Keys that cannot be fetched change nothing.
    ///
    /// # Errors
    /// Why they could not be fetched.
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        {
            // Nobody wishes for what is under way.
            let mut turn = self.turn();
            turn.is_running = true;
            turn.answered = *self.wishes.borrow();
        }
        let running = Running(self);
        let fetched = timeout(self.timeout(), self.client.fetch(&self.spec)).await;
        let outcome = fetched
            .map_err(|_| FetchError::Timeout)
            .and_then(|set| set)
            .map(|set| self.put(set));
        self.turn().last_error = outcome.as_ref().err().map(ToString::to_string);
        drop(running);
        outcome
    }

    fn put(&self, set: KeySet) -> Fetched {
        let old = self.known.load();
        let lacks = |set: &KeySet, key| !set.keys.iter().any(|held| held.is(key));
        let removed = old.set.keys.iter().filter(|key| lacks(&set, key)).count();
        let added = set.keys.iter().filter(|key| lacks(&old.set, key)).count();
        let fetched = Fetched {
            keys: set.keys.len(),
            added,
            removed,
            is_first: old.at.is_none(),
        };
        let known = Known {
            set,
            at: Some(clock::now()),
            epoch: old.epoch.wrapping_add(u64::from(added + removed > 0)),
        };
        self.known.store(Arc::new(known));
        self.has_loaded
            .store(clock::unix_now().0, Ordering::Relaxed);
        fetched
    }

    /// When they were last fetched, in seconds since the epoch; 0 if they never were.
    #[must_use]
    pub fn loaded(&self) -> u64 {
        self.has_loaded.load(Ordering::Relaxed)
    }

    /// What is known, for operators.
    #[must_use]
    pub fn listing(&self) -> IssuerListing {
        let known = self.known.load();
        let keys = &self.spec.keys;
        let age = known
            .at
            .map(|at| clock::now().saturating_duration_since(at));
        let state = match age {
            Some(age) if age < keys.soft_ttl.0 => KeyState::Fresh,
            Some(age) if age < keys.hard_ttl.0 => KeyState::Stale,
            _ => KeyState::Unavailable,
        };
        let public = known.set.keys.iter().map(|public| PublicKeyListing {
            id: public.key.id.clone(),
            algorithm: public.key.algorithm.name().to_owned(),
        });
        let skipped = known.set.skipped.iter().map(|skipped| SkippedListing {
            id: skipped.id.clone(),
            why: skipped.why.clone(),
        });
        IssuerListing {
            issuer: self.spec.issuer.clone(),
            state,
            age_seconds: age.map(|age| age.as_secs()),
            soft_ttl_seconds: keys.soft_ttl.0.as_secs(),
            hard_ttl_seconds: keys.hard_ttl.0.as_secs(),
            last_error: self.turn().last_error.clone(),
            keys: public.collect(),
            skipped: skipped.collect(),
        }
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, Turn> {
        // Nothing is left half-done under this lock.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch that is under way; whoever waits for it is told when this is dropped.
struct Running<'a>(&'a KeySource);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.turn().is_running = false;
        self.0
            .ended
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}
