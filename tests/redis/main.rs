//! Do several gates on one real Redis behave as one, and each of them well when it is gone?

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops here; it has its own clock and files"
)]

mod access;
mod cluster;
mod moving;
mod outage;
mod replicas;
mod sentinel;
mod server;
#[expect(dead_code, reason = "the other services' tests need more of it")]
#[path = "../support/services.rs"]
mod services;
#[expect(
    dead_code,
    unused_imports,
    reason = "the gate's own tests need more of it"
)]
#[path = "../gate/support/mod.rs"]
mod support;
