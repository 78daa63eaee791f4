//! What time is it? The one place that asks the operating system.

use std::cell::Cell;
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
    let now = Instant::now();
    LAST.set(Some(now));
    now
}

/// The monotonic clock as it was when this thread last asked for it; costs nothing. A worker asks
/// at each request, and otherwise every few seconds.
#[must_use]
pub fn recently() -> Instant {
    LAST.get().unwrap_or_else(now)
}

/// The wall clock at `now`, which is not long ago. A step of the clock is seen after
/// [`WALL_AGE`] at the latest; the change from second to second is exact.
#[must_use]
pub fn unix_at(now: Instant) -> UnixTime {
    let known = WALL.get();
    if let Some(wall) = known.filter(|wall| (wall.since..wall.until).contains(&now)) {
        return wall.time;
    }
    let (since, epoch) = (self::now(), since_epoch());
    let subsecond = Duration::from_nanos(u64::from(epoch.subsec_nanos()));
    let left = Duration::from_secs(1).saturating_sub(subsecond);
    let time = UnixTime(epoch.as_secs());
    WALL.set(Some(Wall {
        since,
        until: since + left.min(WALL_AGE),
        time,
    }));
    time
}

/// How long a reading of the wall clock serves.
pub const WALL_AGE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
struct Wall {
    since: Instant,
    until: Instant,
    time: UnixTime,
}

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    static WALL: Cell<Option<Wall>> = const { Cell::new(None) };
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

/// The wall clock in nanoseconds since the Unix epoch, for spans.
#[must_use]
pub fn unix_nanos() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
