//! Until when may any token live that was issued so far? What is revoked is remembered for so long,
//! also where lifetimes were shortened since then, by a reload or before a restart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::AnyStore;
use crate::clock::{self, UnixTime};

/// The end of the last token that was issued so far, by this gate or another of the same store.
#[derive(Debug, Default)]
pub struct Outlive {
    until: AtomicU64,
    /// What the store was told: somewhat ahead, so that it is seldom told.
    noted: AtomicU64,
}

impl Outlive {
    /// Up to now tokens were issued that live so long at most.
    pub fn issued(&self, life: Duration) {
        let end = clock::unix_now().plus(life);
        self.until.fetch_max(end.0, Ordering::Relaxed);
    }

    /// Tokens are issued that live so long at most: has the store remember it, and learns what that
    /// was told before. Gives the end of the last token that was issued so far. Until the store can
    /// be told, this process knows.
    pub async fn note(&self, store: &AnyStore, life: Duration, now: UnixTime) -> UnixTime {
        let end = now.plus(life);
        if self.noted.load(Ordering::Relaxed) <= end.0 {
            let ahead = end.plus(AHEAD);
            match store.outlive(ahead, now).await {
                Ok(before) => {
                    self.noted.store(ahead.0, Ordering::Relaxed);
                    self.until.fetch_max(before.0, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::debug!(%error, "the store was not told how long tokens live");
                }
            }
        }
        UnixTime(self.until.load(Ordering::Relaxed)).max(end)
    }
}

const AHEAD: Duration = Duration::from_secs(3600);
