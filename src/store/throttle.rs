//! Which failed logins count for all replicas, and how fast do they add up?

use std::time::Duration;

/// Whose failures are counted: by hashes, never by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The network that attempts come from.
    pub source: String,
    /// The account that they name, from that network.
    pub account: Option<String>,
}

/// How failures become a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// How many of an account's are free.
    pub free_account: u32,
    /// How many of a network's are free.
    pub free_source: u32,
    /// The delay after the first that is not; each further one doubles it.
    pub base: Duration,
    /// The longest delay.
    pub max: Duration,
    /// How long after the last one an account's are forgotten.
    pub forget: Duration,
    /// How long it takes until one of a network's is taken back.
    pub each: Duration,
}
