//! Does a peer get on as fast as it has to? A rate, and how far one may fall behind it.
//!
//! Only time in which the peer was waited for counts: whoever has nothing to wait for says nothing.

use std::time::Duration;

/// A least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second; with none, every pace will do.
    pub bytes: u64,
    /// How far a peer may fall behind, and how far ahead it may get.
    pub grace: Duration,
}

impl Rate {
    /// Every pace will do.
    pub const NONE: Self = Self {
        bytes: 0,
        grace: Duration::ZERO,
    };

    /// Whether there is one.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.bytes > 0
    }
}

/// How a peer stands to its [`Rate`]: a bucket of time, full at first, that waiting empties and
/// bytes fill.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Rate,
    slack: Duration,
}

impl Pace {
    /// Nobody was waited for yet.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self {
            slack: rate.grace,
            rate,
        }
    }

    /// The rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// For how long the peer may still be waited for, if no byte comes; without a rate, for ever.
    #[must_use]
    pub fn slack(&self) -> Option<Duration> {
        self.rate.is_some().then_some(self.slack)
    }

    /// The peer was waited for; whether that was not too long.
    #[must_use]
    pub fn waited(&mut self, span: Duration) -> bool {
        let left = self.slack.checked_sub(span);
        self.slack = left.unwrap_or_default();
        left.is_some() || !self.rate.is_some()
    }

    /// So many bytes came, or were taken.
    pub fn got_on(&mut self, bytes: u64) {
        if self.slack == self.rate.grace {
            return;
        }
        let nanoseconds = bytes
            .saturating_mul(1_000_000_000)
            .checked_div(self.rate.bytes);
        let earned = Duration::from_nanos(nanoseconds.unwrap_or_default());
        self.slack = self.slack.saturating_add(earned).min(self.rate.grace);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pace, Rate};

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(bytes: u64) -> Pace {
        let grace = 10 * SECOND;
        Pace::new(Rate { bytes, grace })
    }

    #[test]
    fn whoever_keeps_the_rate_is_never_behind_and_whoever_does_not_is_in_the_end() {
        for (bytes, is_fine) in [(1000, true), (5000, true), (990, false), (0, false)] {
            let mut pace = pace(1000);
            let outcome = (0..1000).all(|_| {
                let is_fine = pace.waited(4 * SECOND);
                pace.got_on(4 * bytes);
                is_fine
            });
            assert_eq!(outcome, is_fine, "{bytes}");
        }
    }

    #[test]
    fn what_was_sent_long_ago_excuses_no_more_than_the_grace() {
        let mut pace = pace(10);
        pace.got_on(1_000_000);
        assert_eq!(pace.slack(), Some(10 * SECOND));
        assert!(pace.waited(10 * SECOND));
        assert!(!pace.waited(SECOND));
        pace.got_on(20);
        assert_eq!(pace.slack(), Some(2 * SECOND));
    }

    #[test]
    fn without_a_rate_every_pace_will_do() {
        let mut pace = Pace::new(Rate::NONE);
        assert_eq!(pace.slack(), None);
        assert!(pace.waited(1000 * SECOND));
        pace.got_on(u64::MAX);
    }
}
