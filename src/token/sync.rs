//! By which types do threads share the cache and the revocations?
//!
//! The files that use them are compiled once more, with types of a scheduler in place of these,
//! by `tests/interleavings`, which tries the orders in which threads can get on.

pub(super) use std::sync::Mutex;
pub(super) use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use dashmap::DashMap;
pub(super) use dashmap::mapref::entry::Entry as Slot;
