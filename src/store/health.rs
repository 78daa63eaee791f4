//! Is what this replica knows of the store new enough to be relied upon?
//!
//! A store that other replicas share is followed: what they revoke must be known here. How long
//! ago that was last so is kept in one number, asked at every request: a hung thread cannot keep
//! it good.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{self, UnixTime};

/// How a replica stands to its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not read the store yet.
    Starting,
    /// It knows all that the store does, but for the last moment.
    InStep,
    /// It was in step once, and cannot ask now.
    Behind,
    /// The store answers, but not to this config: waiting does not help.
    Wrong(String),
}

/// How a replica stands to its store, and since when.
#[derive(Debug)]
pub struct Health {
    /// How long what is known may be relied upon without an answer; nothing: for ever.
    max_staleness: Option<Duration>,
    /// Unix seconds.
    good_until: AtomicU64,
    /// Unix seconds.
    last_in_step: AtomicU64,
    phase: watch::Sender<Phase>,
}

impl Health {
    /// A store that nobody shares: always in step.
    #[must_use]
    pub fn steady() -> Self {
        Self {
            max_staleness: None,
            good_until: AtomicU64::new(u64::MAX),
            last_in_step: AtomicU64::new(u64::MAX),
            phase: watch::channel(Phase::InStep).0,
        }
    }

    /// A store that is to be followed: nothing is good before it was read.
    #[must_use]
    pub fn following(max_staleness: Option<Duration>) -> Self {
        Self {
            max_staleness,
            good_until: AtomicU64::new(0),
            last_in_step: AtomicU64::new(clock::unix_now().0),
            phase: watch::channel(Phase::Starting).0,
        }
    }

    /// Whether tokens have to be refused because a revocation may have been missed.
    #[must_use]
    pub fn is_too_stale(&self, now: UnixTime) -> bool {
        now.0 > self.good_until.load(Ordering::Relaxed)
    }

    /// Seconds since all was known that the store knows; since the start, if that never was.
    #[must_use]
    pub fn staleness(&self, now: UnixTime) -> Duration {
        now.since(UnixTime(self.last_in_step.load(Ordering::Relaxed)))
    }

    /// How things stand.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Waits until the store was read.
    ///
    /// # Errors
    /// If it cannot be with this config.
    pub async fn begun(&self) -> Result<(), String> {
        let mut phases = self.phase.subscribe();
        let phase = phases.wait_for(|phase| *phase != Phase::Starting).await;
        match phase.as_deref() {
            Ok(Phase::Wrong(text)) => Err(text.clone()),
            Ok(Phase::Behind | Phase::InStep | Phase::Starting) | Err(_) => Ok(()),
        }
    }

    /// All that the store knew at `now` is known. Whether that is news.
    pub(crate) fn in_step(&self, now: UnixTime) -> bool {
        let good_until = match self.max_staleness {
            Some(bound) => now.plus(bound).0,
            None => u64::MAX,
        };
        self.good_until.store(good_until, Ordering::Relaxed);
        self.last_in_step.store(now.0, Ordering::Relaxed);
        self.turn(Phase::InStep)
    }

    /// The store cannot be asked. Whether that is news.
    pub(crate) fn behind(&self) -> bool {
        let is_starting = *self.phase.borrow() == Phase::Starting;
        !is_starting && self.turn(Phase::Behind)
    }

    /// The store refuses this config; only told before it was read for the first time.
    pub(crate) fn wrong(&self, text: String) {
        if *self.phase.borrow() == Phase::Starting {
            self.turn(Phase::Wrong(text));
        }
    }

    fn turn(&self, next: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let is_news = *phase != next;
            *phase = next;
            is_news
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Health, Phase};
    use crate::clock::UnixTime;

    #[test]
    fn nothing_is_good_before_the_store_was_read_nor_past_the_bound() {
        let health = Health::following(Some(Duration::from_secs(10)));
        assert!(health.is_too_stale(UnixTime(100)));
        assert!(!health.behind());
        assert_eq!(health.phase(), Phase::Starting);
        assert!(health.in_step(UnixTime(100)));
        assert!(!health.in_step(UnixTime(101)));
        assert!(health.behind());
        assert!(!health.is_too_stale(UnixTime(111)));
        assert!(health.is_too_stale(UnixTime(112)));
        assert_eq!(health.staleness(UnixTime(112)), Duration::from_secs(11));
    }

    #[test]
    fn without_a_bound_only_the_start_is_waited_for() {
        let health = Health::following(None);
        assert!(health.is_too_stale(UnixTime(100)));
        health.in_step(UnixTime(100));
        assert!(!health.is_too_stale(UnixTime(u64::MAX)));
    }
}
