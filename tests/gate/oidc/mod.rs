//! External issuers: whose tokens are good, while which keys are known, and what they buy.

mod config;
mod exchange;
mod fetched;
mod judged;
mod lifetimes;

use crate::support::gate::Gate;
use crate::support::issuer::{Issuer, IssuerKey};
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";

/// The answer to a good token.
fn good() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// A gate that knows an issuer with one key, and nobody else.
fn start(more: &str) -> (Upstream, Issuer, IssuerKey, Gate) {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    let gate = issuer.gate(&upstream, ROUTES, more).start();
    (upstream, issuer, key, gate)
}
