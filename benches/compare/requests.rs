//! What is sent: requests in rotation, in one piece of memory.
//!
//! A million requests with a token each are 400 MiB, read from front to back. Minting or signing
//! while the load runs would cost its core more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests that are all answered with the same status.
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    status: &'static str,
    /// How many were sent; the next run goes on from here.
    sent: AtomicUsize,
}

impl Requests {
    pub(crate) fn one(request: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            bytes: request.to_vec(),
            ends: vec![request.len()],
            status: "200",
            sent: AtomicUsize::new(0),
        })
    }

    /// `status` is what all of them are to be answered with.
    pub(crate) fn many(
        status: &'static str,
        count: usize,
        requests: impl IntoIterator<Item = anyhow::Result<Vec<u8>>>,
    ) -> anyhow::Result<Arc<Self>> {
        let mut all = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(count),
            status,
            sent: AtomicUsize::new(0),
        };
        for request in requests {
            let request = request?;
            // The others are as long, or nearly: the memory is not moved again and again.
            if all.bytes.is_empty() {
                all.bytes.reserve((request.len() + SLACK) * count);
            }
            all.bytes.extend_from_slice(&request);
            all.ends.push(all.bytes.len());
        }
        anyhow::ensure!(!all.ends.is_empty(), "no requests");
        Ok(Arc::new(all))
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn status(&self) -> &'static str {
        self.status
    }

    /// The request after the one before.
    pub(crate) fn next(&self) -> &[u8] {
        let place = self.sent.fetch_add(1, Ordering::Relaxed) % self.len();
        let end = self.ends.get(place).copied().unwrap_or_default();
        let before = place.checked_sub(1).and_then(|place| self.ends.get(place));
        self.bytes
            .get(before.copied().unwrap_or_default()..end)
            .unwrap_or_default()
    }
}

/// By how much a request may be longer than the first.
const SLACK: usize = 16;
