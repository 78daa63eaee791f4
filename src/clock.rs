//! What time is it? The one place that asks the operating system.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch, as in RFC 7519's `NumericDate`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This time plus `span`, in whole seconds; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()))
    }

    /// How long from `now` until this time; zero if it has passed.
    #[must_use]
    pub const fn since(self, now: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(now.0))
    }
}

/// The monotonic clock, for durations.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for tokens. A clock before 1970 reads as 1970: every token is then refused.
#[must_use]
pub fn unix_now() -> UnixTime {
    UnixTime(since_epoch().as_secs())
}

/// The wall clock's fraction of a second that has passed.
#[must_use]
pub fn subsecond() -> Duration {
    Duration::from_nanos(u64::from(since_epoch().subsec_nanos()))
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
