//! In whatever order threads get on: does the cache keep its bounds, and is nobody admitted after
//! a revocation or a reload was acknowledged?
//!
//! `src/token/cache.rs` and `src/token/revocation.rs` are compiled here once more, with a
//! scheduler's types in place of those of `src/token/sync.rs`. The rest is the library's own.
//! Each test tries some thousands of schedules; one that fails is printed, to be played again by
//! `shuttle::replay`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod clock {
    pub(crate) use tollgate::clock::UnixTime;
}

mod config {
    pub(crate) use tollgate::config::value;
}

mod bounds;
mod reload;
mod revocation;
mod support;
mod token;
