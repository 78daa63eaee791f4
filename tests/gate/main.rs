//! The real binary over real sockets, against a recording upstream.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops here; it has its own clock and files"
)]

mod path;
mod streaming;
mod support;
mod tls;
