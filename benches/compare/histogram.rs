//! How are latencies distributed?

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts of latencies in logarithmic buckets: 64 per power of two, so a quantile is at most 1.6 %
/// too high. Fixed size, shared by all connections.
pub(crate) struct Histogram {
    buckets: Vec<AtomicU64>,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: (0..=bucket(u64::MAX)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// All that these hold.
    pub(crate) fn pooled<'a>(histograms: impl IntoIterator<Item = &'a Self>) -> Self {
        let pool = Self::new();
        for histogram in histograms {
            for (all, some) in pool.buckets.iter().zip(&histogram.buckets) {
                all.fetch_add(some.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        pool
    }

    pub(crate) fn record(&self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.buckets.get(bucket(nanoseconds)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// The latency that `per_mille` of the exchanges did not exceed.
    pub(crate) fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (self.count() * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen >= rank
        });
        Duration::from_nanos(upper_bound(found.unwrap_or(0)))
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let shift = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let index = (u64::from(shift) << SUB_BITS) + (nanoseconds >> shift);
    usize::try_from(index).unwrap_or(0)
}

fn upper_bound(bucket: usize) -> u64 {
    let index = u64::try_from(bucket).unwrap_or(0);
    let shift = (index >> SUB_BITS).saturating_sub(1);
    let lower = index - (shift << SUB_BITS);
    ((lower + 1) << shift).wrapping_sub(1)
}

const SUB_BITS: u32 = 6;
