//! How often may a login fail before the next one has to wait?
//!
//! Failures are counted for each account together with the network that they come from, and for
//! each such network alone. After the free ones every further failure doubles the time in which
//! the next attempt is refused unjudged. Whoever guesses from elsewhere does not slow the
//! account's owner down, and whether an account exists changes nothing.
//!
//! Weakness: guesses at one account from very many networks are each counted alone. The first
//! guesses of a burst are judged side by side, as many as the hashing queue holds.
//!
//! Bounded: at most 200,000 counters. When they are used up those that delay nobody yet
//! are dropped; if that is not enough, further ones are not counted until some are forgotten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::problem::Problems;
use crate::config::value::Span;
use crate::refusal::{Detail, Reason, Refusal};
use crate::token::hash::{KeyedHash, TokenHash};

/// How failed logins slow further ones down.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleConfig {
    /// How many failures in a row of one account, from one network, delay nothing.
    pub free_failures: u32,
    /// How many failures from one network, over all accounts, delay nothing, if they come within
    /// `forget_after`. A success does not take them back; time does, one by one, so that clients
    /// which share an address and a stale password do not add up forever.
    pub free_failures_per_source: u32,
    /// The delay after the first failure that is not free; each further one doubles it.
    pub base_delay: Span,
    /// The longest delay.
    pub max_delay: Span,
    /// How long after its last failure an account's are forgotten.
    pub forget_after: Span,
    /// How many bits of an IPv4 address name a network: 32 counts each address alone.
    pub ipv4_prefix: u8,
    /// How many bits of an IPv6 address name a network.
    pub ipv6_prefix: u8,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            free_failures: 10,
            free_failures_per_source: 300,
            base_delay: Span::seconds(1),
            max_delay: Span::seconds(5 * 60),
            forget_after: Span::seconds(15 * 60),
            ipv4_prefix: 24,
            ipv6_prefix: 56,
        }
    }
}

impl ThrottleConfig {
    /// Notes what cannot be meant.
    pub fn check(&self, problems: &mut Problems) {
        if self.base_delay.0.is_zero() || self.base_delay > self.max_delay {
            problems.add(
                "throttle.base_delay",
                "must be more than nothing and at most max_delay",
            );
        }
        if self.forget_after < self.max_delay {
            problems.add(
                "throttle.forget_after",
                "must be at least max_delay: a delay would be forgotten before its end",
            );
        }
        for (key, bits, most) in [
            ("ipv4_prefix", self.ipv4_prefix, 32),
            ("ipv6_prefix", self.ipv6_prefix, 128),
        ] {
            if bits == 0 || bits > most {
                problems.add(
                    format_args!("throttle.{key}"),
                    format_args!("must be from 1 to {most}"),
                );
            }
        }
    }

    /// The delay after so many failures; nothing if they are free.
    fn delay(&self, failures: u32, free: u32) -> Option<Duration> {
        let further = failures.checked_sub(free)?.checked_sub(1)?;
        let factor = 1_u32.checked_shl(further).unwrap_or(u32::MAX);
        Some(
            self.base_delay
                .0
                .saturating_mul(factor)
                .min(self.max_delay.0),
        )
    }

    /// How many of a network's failures so much time takes back, and how much of it that uses.
    fn taken_back(&self, elapsed: Duration) -> (u32, Duration) {
        let each = self.each();
        let count = elapsed.as_millis() / each.as_millis();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        (count, each.saturating_mul(count))
    }

    /// How long it takes until one of a network's failures is taken back.
    pub(crate) fn each(&self) -> Duration {
        let free = self.free_failures_per_source.max(1);
        (self.forget_after.0 / free).max(Duration::from_millis(1))
    }

    /// The network that an address belongs to.
    pub(crate) fn network(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let rest = 32_u32.saturating_sub(self.ipv4_prefix.into());
                let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let rest = 128_u32.saturating_sub(self.ipv6_prefix.into());
                let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }
}

/// The failures of late.
#[derive(Debug)]
pub struct Throttle {
    records: DashMap<TokenHash, Record>,
    hash: KeyedHash,
}

/// The most counters at a time, about 100 bytes each.
const MAX_RECORDS: usize = 200_000;

#[derive(Debug)]
struct Record {
    failures: u32,
    in_flight: u32,
    last: Instant,
    blocked_until: Option<Instant>,
}

impl Throttle {
    /// Nothing has failed yet.
    ///
    /// # Errors
    /// If the system's random generator fails.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        Ok(Self {
            records: DashMap::new(),
            hash: KeyedHash::random()?,
        })
    }

    /// Lets an attempt be judged, or not yet. `account` is the name that it gives, if any.
    ///
    /// # Errors
    /// [`Reason::Throttled`], with the time to wait.
    pub fn admit<'a>(
        &'a self,
        config: &'a ThrottleConfig,
        account: Option<&str>,
        client: IpAddr,
        now: Instant,
    ) -> Result<Attempted<'a>, Refusal> {
        let network = config.network(client);
        let source = self.hash.hash([network.to_string().as_bytes()]);
        let account = account.map(|name| {
            let name = name.to_lowercase();
            self.hash
                .hash([network.to_string().as_bytes(), name.as_bytes()])
        });
        let wait = |key: TokenHash| {
            let record = self.records.get(&key)?;
            let left = record.blocked_until?.saturating_duration_since(now);
            (!left.is_zero()).then_some(left)
        };
        if let Some(left) = wait(source).max(account.and_then(wait)) {
            return Err(too_soon(left));
        }
        let is_counted = match account {
            Some(key) => self.begin(config, key, now)?,
            None => false,
        };
        let throttle = self;
        Ok(Attempted {
            throttle,
            config,
            account,
            is_counted,
            source,
            client,
        })
    }

    /// Counts an attempt that is under way. Once an account has failed, no more are judged side
    /// by side than could fail for free.
    fn begin(
        &self,
        config: &ThrottleConfig,
        key: TokenHash,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let Some(mut record) = self.records.get_mut(&key) else {
            return Ok(false);
        };
        if now.saturating_duration_since(record.last) > config.forget_after.0 {
            record.failures = 0;
        }
        let is_crowded = record.in_flight > 0
            && record.failures > 0
            && record.failures.saturating_add(record.in_flight) > config.free_failures;
        if is_crowded {
            return Err(too_soon(config.base_delay.0));
        }
        record.in_flight = record.in_flight.saturating_add(1);
        Ok(true)
    }

    fn fail(&self, config: &ThrottleConfig, counted: Counted, now: Instant) -> Failed {
        let (key, free) = match counted {
            Counted::Account(key) => (key, config.free_failures),
            Counted::Source(key) => (key, config.free_failures_per_source),
        };
        self.make_room(config, now);
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(&key) {
            return Failed::Free;
        }
        let mut record = self.records.entry(key).or_insert_with(|| Record {
            failures: 0,
            in_flight: 0,
            last: now,
            blocked_until: None,
        });
        let elapsed = now.saturating_duration_since(record.last);
        match counted {
            Counted::Account(_) => {
                if elapsed > config.forget_after.0 {
                    record.failures = 0;
                }
                record.last = now;
            }
            Counted::Source(_) => {
                let (count, used) = config.taken_back(elapsed);
                record.failures = record.failures.saturating_sub(count);
                record.last = match record.failures {
                    0 => now,
                    _ => record.last.checked_add(used).unwrap_or(now),
                };
            }
        }
        record.failures = record.failures.saturating_add(1);
        let delay = config.delay(record.failures, free);
        record.blocked_until = delay.and_then(|delay| now.checked_add(delay));
        match record.failures.checked_sub(free) {
            Some(1) => Failed::FirstDelayed,
            _ => Failed::Free,
        }
    }

    fn make_room(&self, config: &ThrottleConfig, now: Instant) {
        if self.records.len() < MAX_RECORDS {
            return;
        }
        self.sweep(config, now);
        if self.records.len() >= MAX_RECORDS {
            self.records
                .retain(|_, record| record.blocked_until.is_some() || record.in_flight > 0);
        }
    }

    /// Forgets what is long past.
    pub fn sweep(&self, config: &ThrottleConfig, now: Instant) {
        self.records.retain(|_, record| {
            let since = now.saturating_duration_since(record.last);
            record.in_flight > 0 || since <= config.forget_after.0
        });
    }
}

/// Whose failures are counted.
#[derive(Clone, Copy)]
enum Counted {
    Account(TokenHash),
    Source(TokenHash),
}

enum Failed {
    Free,
    FirstDelayed,
}

/// Refuses an attempt that comes so much too soon.
pub(crate) fn too_soon(left: Duration) -> Refusal {
    let seconds = left
        .as_secs()
        .saturating_add(u64::from(left.subsec_nanos() > 0));
    Refusal::with_detail(Reason::Throttled, Detail::RetryAfter(seconds.max(1)))
}

/// Tells that logins from there are delayed from now on.
pub(crate) fn tell_delayed(client: IpAddr) {
    // Not the account's name: people type passwords there.
    tracing::warn!(
        client.address = %client,
        "security: logins are delayed after repeated failures"
    );
}

/// An attempt that is being judged; counted as under way until it is dropped.
#[derive(Debug)]
pub struct Attempted<'a> {
    throttle: &'a Throttle,
    config: &'a ThrottleConfig,
    account: Option<TokenHash>,
    is_counted: bool,
    source: TokenHash,
    client: IpAddr,
}

impl Attempted<'_> {
    /// It failed.
    pub fn failed(self, now: Instant) {
        let (throttle, config) = (self.throttle, self.config);
        let account = self.account.map(Counted::Account);
        let counted = [Some(Counted::Source(self.source)), account];
        let mut is_first = false;
        for counted in counted.into_iter().flatten() {
            let outcome = throttle.fail(config, counted, now);
            is_first |= matches!(outcome, Failed::FirstDelayed);
        }
        if is_first {
            tell_delayed(self.client);
        }
    }

    /// It succeeded: the account's failures from there are forgotten.
    pub fn succeeded(self) {
        if let Some(mut record) = self
            .account
            .and_then(|key| self.throttle.records.get_mut(&key))
        {
            record.failures = 0;
            record.blocked_until = None;
        }
    }
}

impl Drop for Attempted<'_> {
    fn drop(&mut self) {
        let account = self.account.filter(|_| self.is_counted);
        if let Some(mut record) = account.and_then(|key| self.throttle.records.get_mut(&key)) {
            record.in_flight = record.in_flight.saturating_sub(1);
        }
    }
}
