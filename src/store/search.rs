//! Which sessions and application tokens are there? Some of them, for people who look for one.
//!
//! Bounded: so many rows, of so many entries that are looked at. Who or what is named exactly is
//! found by an index first, where the store has one.

use std::collections::BTreeMap;

use super::application::ApplicationToken;
use super::family::FamilyRecord;
use crate::clock::UnixTime;

/// What is looked for: a part of an account's name, in any case; or the id of a session or the
/// number of an application token, from its first letter on. Nothing: anything.
#[derive(Clone, Debug)]
pub struct Search {
    /// As it was asked.
    pub(super) text: String,
    folded: String,
    limit: usize,
}

/// The most rows that are given.
pub const MOST_ROWS: usize = 200;
/// How many entries are looked at.
pub(super) const MOST_LOOKS: usize = 100_000;

/// A session: the id of its family, and what is kept of that.
pub type Session = (String, FamilyRecord);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The newest first.
    pub rows: Vec<T>,
    /// Whether these are all that there are.
    pub is_whole: bool,
}

impl Search {
    /// Looks for `text`, and gives so many rows, but not more than [`MOST_ROWS`].
    #[must_use]
    pub fn new(text: &str, limit: usize) -> Self {
        let text = text.trim();
        Self {
            text: text.to_owned(),
            folded: text.to_lowercase(),
            limit: limit.clamp(1, MOST_ROWS),
        }
    }

    /// Whether anything is meant.
    pub(super) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn fits(&self, account: &str, id: &str) -> bool {
        self.is_empty()
            || id.starts_with(&self.text)
            || account.to_lowercase().contains(&self.folded)
    }

    /// The number of an application token, if that is what is looked for.
    pub(super) fn number(&self) -> Option<u64> {
        self.text.parse().ok()
    }
}

/// What was found up to now, each once.
pub(super) struct Gathering<'a, K, T> {
    search: &'a Search,
    found: BTreeMap<K, T>,
    is_cut: bool,
}

impl<'a, K: Ord, T> Gathering<'a, K, T> {
    pub(super) const fn new(search: &'a Search) -> Self {
        Self {
            search,
            found: BTreeMap::new(),
            is_cut: false,
        }
    }

    /// Whether there is one more than will be given.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() > self.search.limit
    }

    /// Not everything was looked at.
    pub(super) const fn cut(&mut self) {
        self.is_cut = true;
    }

    fn finish<R>(
        self,
        order: impl FnOnce(&mut Vec<(K, T)>),
        row: impl Fn((K, T)) -> R,
    ) -> Found<R> {
        let is_whole = !self.is_cut && !self.is_full();
        let mut rows = Vec::from_iter(self.found);
        order(&mut rows);
        rows.truncate(self.search.limit);
        Found {
            rows: rows.into_iter().map(row).collect(),
            is_whole,
        }
    }
}

/// Of sessions.
pub(super) type Sessions<'a> = Gathering<'a, String, FamilyRecord>;

impl Sessions<'_> {
    /// A family that is there, taken if it is looked for and has not expired.
    pub(super) fn session(&mut self, id: &str, record: FamilyRecord, now: UnixTime) {
        if now < record.expires && self.search.fits(&record.subject, id) {
            self.found.insert(id.to_owned(), record);
        }
    }

    pub(super) fn sessions(self) -> Found<Session> {
        let newest = |rows: &mut Vec<Session>| {
            rows.sort_by_key(|(_, record)| std::cmp::Reverse(record.rotated));
        };
        self.finish(newest, |row| row)
    }
}

impl Gathering<'_, u64, ApplicationToken> {
    /// An application token that is there, taken if it is looked for.
    pub(super) fn application(&mut self, token: ApplicationToken) {
        if self.search.fits(&token.creator, &token.id.to_string()) {
            self.found.insert(token.id, token);
        }
    }

    pub(super) fn applications(self) -> Found<ApplicationToken> {
        self.finish(|rows| rows.reverse(), |(_, token)| token)
    }
}
