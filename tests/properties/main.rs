//! What holds for every input? Parsing, routing, the seal and tokens, against naive models.
//!
//! `PROPTEST_CASES=10000 cargo test --test properties` looks longer. A case that fails is printed
//! whole and small; it becomes a test of its own beside the code, named for the bug, so nothing
//! is kept between runs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod config;
mod naive;
mod path;
mod query;
mod routes;
mod rules;
mod seal;
mod support;
mod tokens;
