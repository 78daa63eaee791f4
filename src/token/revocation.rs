//! Which tokens were taken back before their time?
//!
//! A view in memory, asked at every request without a lock on the usual path: each cached token
//! remembers the count of revocations at which it was last judged, and is judged again only when
//! that count has changed. Bounded by the revocations of the longest token lifetime: what can only
//! hit expired tokens is forgotten.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch as channel};
use tokio::task::spawn_local;

use super::sync::{AtomicU64, DashMap, Ordering, Slot};
use super::verify::VerifiedToken;
use crate::clock::UnixTime;

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// Every token that was issued up to now.
    All,
    /// Every token that came from one login.
    Family(String),
    /// Every token of a subject that was issued up to now.
    Subject(String),
    /// One token, by its `jti`.
    Token(String),
}

/// A revocation, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What is taken back.
    pub what: Revoked,
    /// Tokens issued up to this time are hit.
    pub at: UnixTime,
    /// When the last token that could be hit has expired.
    pub until: UnixTime,
}

impl Revocation {
    /// Of two of the same, what both say together.
    #[must_use]
    pub fn or_later(self, other: &Self) -> Self {
        Self {
            what: self.what,
            at: self.at.max(other.at),
            until: self.until.max(other.until),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Tokens issued up to this time are hit.
    at: UnixTime,
    /// When the last token that could be hit has expired.
    until: UnixTime,
}

/// All revocations that can still hit a token.
#[derive(Debug)]
pub struct Revocations {
    count: AtomicU64,
    entries: DashMap<Revoked, Entry>,
    changed: channel::Sender<u64>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            entries: DashMap::new(),
            changed: channel::channel(0).0,
        }
    }
}

impl Revocations {
    /// Counts up with every revocation.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Puts a revocation in force, from the very next request on. Of two of the same, the later
    /// counts; what is known already changes nothing.
    pub fn add(&self, revocation: Revocation) {
        let Revocation { what, at, until } = revocation;
        let held = match self.entries.entry(what) {
            Slot::Vacant(slot) => slot.insert(Entry { at, until }),
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                if entry.at >= at && entry.until >= until {
                    return;
                }
                entry.at = entry.at.max(at);
                entry.until = entry.until.max(until);
                slot.into_ref()
            }
        };
        // Before the lock is given back: whoever finds the same known relies on the count, too.
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        drop(held);
        self.changed.send_replace(count);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Revocation> {
        let entries = self.entries.iter();
        let revocations = entries.map(|entry| Revocation {
            what: entry.key().clone(),
            at: entry.at,
            until: entry.until,
        });
        revocations.collect()
    }

    /// Whether a token was taken back.
    #[must_use]
    pub fn hit(&self, token: &VerifiedToken) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let hits = |revoked: Revoked| self.entries.get(&revoked).map(|entry| entry.at);
        token
            .id()
            .is_some_and(|id| hits(Revoked::Token(id.to_owned())).is_some())
            || token
                .family()
                .is_some_and(|id| hits(Revoked::Family(id.to_owned())).is_some())
            || [Revoked::All, Revoked::Subject(token.subject().to_owned())]
                .into_iter()
                .filter_map(hits)
                .any(|at| token.issued().is_none_or(|issued| issued <= at))
    }

    /// The first second, from `now` on, in which a token of this subject can be issued that no
    /// revocation hits: a login right after a log-out must work.
    #[must_use]
    pub fn first_free_second(&self, subject: &str, now: UnixTime) -> UnixTime {
        let revoked = [Revoked::All, Revoked::Subject(subject.to_owned())];
        let entries = revoked
            .iter()
            .filter_map(|revoked| self.entries.get(revoked));
        match entries.map(|entry| entry.at).max() {
            Some(at) if at >= now => UnixTime(at.0.saturating_add(1)),
            _ => now,
        }
    }

    /// Until when a revocation reaches that is made at `now`: to the last token that was issued
    /// before it, which may lie ahead of the clock by [`Revocations::first_free_second`].
    #[must_use]
    pub fn reach(&self, what: &Revoked, now: UnixTime) -> UnixTime {
        match what {
            Revoked::Family(_) | Revoked::Token(_) => now,
            Revoked::Subject(subject) => self.first_free_second(subject, now),
            Revoked::All => {
                let entries = self.entries.iter().filter(|entry| {
                    matches!(entry.key(), Revoked::All | Revoked::Subject(_)) && entry.at >= now
                });
                let ahead = entries.map(|entry| entry.at.0.saturating_add(1)).max();
                ahead.map_or(now, UnixTime)
            }
        }
    }

    /// Forgets what can only hit expired tokens.
    pub fn sweep(&self, now: UnixTime) {
        self.entries.retain(|_, entry| now < entry.until);
    }
}

/// Tells once if the token is taken back, for whoever holds something open because of it. Asking
/// the receiver costs no lock; without a token it never tells.
#[must_use]
pub fn watch(
    revocations: Arc<Revocations>,
    token: Option<Rc<VerifiedToken>>,
) -> oneshot::Receiver<()> {
    let (mut tell, told) = oneshot::channel();
    let Some(token) = token else { return told };
    let mut changes = revocations.changed.subscribe();
    spawn_local(async move {
        while !revocations.hit(&token) {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tell.closed() => return,
            }
        }
        let _ = tell.send(());
    });
    told
}
