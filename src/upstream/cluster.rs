//! Which addresses does an upstream have, and which of them are to be asked? Known to all
//! workers, told by the tasks on the main thread and by what the workers meet.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::config::EjectionConfig;
use super::endpoint::{Endpoint, Place};
use crate::clock;

/// One address of an upstream, and how it does.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Its address; without one, the endpoint is a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// What the health checks say; good until they say otherwise.
    is_up: AtomicBool,
    /// Failures in a row that requests met.
    failures: AtomicU32,
    /// How often it was ejected of late.
    ejections: AtomicU32,
    /// Until when it is passed over, in milliseconds since the cluster began; 0: it is not.
    ejected_until: AtomicU64,
}

impl Member {
    fn new(endpoint: &Arc<Endpoint>, address: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            endpoint: Arc::clone(endpoint),
            address,
            is_up: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        })
    }

    /// The path of its Unix socket, if that is what it is.
    pub(super) fn socket(&self) -> Option<&Path> {
        match &self.endpoint.place {
            Place::Socket(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// What the health checks say from now on; whether that is news.
    pub(super) fn set_up(&self, is_up: bool) -> bool {
        self.is_up.swap(is_up, Ordering::Relaxed) != is_up
    }

    /// It answered as it should.
    pub(super) fn succeeded(&self) {
        // Read first: usually there is nothing to write, and all workers read it.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

/// The endpoint as configured, and the address where that is a name's.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint.url)?;
        match (&self.endpoint.place, self.address) {
            (Place::Name(..), Some(address)) => write!(f, " ({address})"),
            _ => Ok(()),
        }
    }
}

/// How many members are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Are asked.
    pub(crate) up: usize,
    /// Health checks fail.
    pub(crate) down: usize,
    /// Are passed over for a while, since requests to them failed.
    pub(crate) ejected: usize,
}

/// Each endpoint's members, in the config's order.
type ByEndpoint = Vec<(Arc<Endpoint>, Vec<Arc<Member>>)>;

/// All members of an upstream.
#[derive(Debug)]
pub(crate) struct Cluster {
    begun: Instant,
    members: ArcSwap<Vec<Arc<Member>>>,
    /// Counts up with every change of `members`.
    version: AtomicU64,
    by_endpoint: Mutex<ByEndpoint>,
    /// How many names were not asked for yet.
    unknown: watch::Sender<usize>,
}

impl Cluster {
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        let by_endpoint = endpoints.into_iter().map(|endpoint| {
            let endpoint = Arc::new(endpoint);
            let members = match &endpoint.place {
                Place::Address(address) => vec![Member::new(&endpoint, Some(*address))],
                Place::Socket(_) => vec![Member::new(&endpoint, None)],
                Place::Name(..) => Vec::new(),
            };
            (endpoint, members)
        });
        let by_endpoint: Vec<_> = by_endpoint.collect();
        let unknown = by_endpoint.iter().filter(|(_, members)| members.is_empty());
        let (unknown, _) = watch::channel(unknown.count());
        Self {
            begun: clock::now(),
            members: ArcSwap::from_pointee(flat(&by_endpoint)),
            version: AtomicU64::new(1),
            by_endpoint: Mutex::new(by_endpoint),
            unknown,
        }
    }

    /// Changes whenever the members do; cheap enough to ask for every request.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn members(&self) -> Arc<Vec<Arc<Member>>> {
        self.members.load_full()
    }

    /// Every endpoint whose addresses the DNS tells, by its place: `(place, host, port)`.
    pub(super) fn names(&self) -> Vec<(usize, String, u16)> {
        let all = self.by_endpoint.lock();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let names = all.iter().enumerate().filter_map(|(at, (endpoint, _))| {
            let Place::Name(host, port) = &endpoint.place else {
                return None;
            };
            Some((at, host.clone(), *port))
        });
        names.collect()
    }

    /// Puts a name's addresses in force. Those that it had before go on as they were. Whether
    /// anything changed.
    pub(super) fn resolved(&self, at: usize, addresses: &[SocketAddr]) -> bool {
        let mut all = self
            .by_endpoint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some((endpoint, members)) = all.get_mut(at) else {
            return false;
        };
        let known = |address: &SocketAddr| {
            let mut members = members.iter();
            let known = members.find(|member| member.address == Some(*address));
            known.map_or_else(|| Member::new(endpoint, Some(*address)), Arc::clone)
        };
        let new: Vec<_> = addresses.iter().map(known).collect();
        let is_same = new.len() == members.len()
            && new
                .iter()
                .all(|new| members.iter().any(|member| Arc::ptr_eq(member, new)));
        if !is_same {
            *members = new;
            self.members.store(Arc::new(flat(&all)));
            self.version.fetch_add(1, Ordering::Release);
        }
        !is_same
    }

    /// A name was asked for the first time, with or without an answer.
    pub(super) fn was_asked(&self) {
        self.unknown
            .send_modify(|count| *count = count.saturating_sub(1));
    }

    /// Waits until each name was asked for once. For as many as wait.
    pub(super) async fn known(&self) {
        // The sender lives as long as this: it cannot fail.
        let _ = self.unknown.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Whether a member is to be asked at `now`.
    pub(super) fn is_asked(&self, member: &Member, now: Instant) -> bool {
        member.is_up() && !self.is_ejected(member, now)
    }

    fn is_ejected(&self, member: &Member, now: Instant) -> bool {
        let until = member.ejected_until.load(Ordering::Relaxed);
        until != 0 && self.milliseconds(now) < until
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.begun);
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }

    /// A request to the member failed. For how long it is passed over from now on, if that was
    /// the last straw; the last that is asked never is.
    pub(super) fn failed(
        &self,
        member: &Member,
        now: Instant,
        config: &EjectionConfig,
    ) -> Option<Duration> {
        let failures = member.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if config.failures == 0 || failures < config.failures || self.is_ejected(member, now) {
            return None;
        }
        let members = self.members.load();
        let mut others = members
            .iter()
            .filter(|other| !std::ptr::eq(&***other, member));
        if !others.any(|other| self.is_asked(other, now)) {
            return None;
        }
        member.failures.store(0, Ordering::Relaxed);
        let longest = config.time.0.saturating_mul(LONGEST);
        let last = member.ejected_until.load(Ordering::Relaxed);
        let at = self.milliseconds(now);
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        if at > last.saturating_add(longest_ms) {
            member.ejections.store(0, Ordering::Relaxed);
        }
        let count = member.ejections.fetch_add(1, Ordering::Relaxed) + 1;
        let time = config.time.0.saturating_mul(count).min(longest);
        let until = at.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        member.ejected_until.store(until.max(1), Ordering::Relaxed);
        Some(time)
    }

    /// Every member, and in which state it is.
    pub(crate) fn standing(&self, now: Instant) -> impl Iterator<Item = (String, &'static str)> {
        let members = Vec::clone(&self.members.load());
        members.into_iter().map(move |member| {
            let state = match (member.is_up(), self.is_ejected(&member, now)) {
                (false, _) => "down",
                (true, true) => "ejected",
                (true, false) => "up",
            };
            (member.to_string(), state)
        })
    }

    pub(crate) fn census(&self, now: Instant) -> Census {
        let mut census = Census::default();
        for member in self.members.load().iter() {
            let count = match (member.is_up(), self.is_ejected(member, now)) {
                (false, _) => &mut census.down,
                (true, true) => &mut census.ejected,
                (true, false) => &mut census.up,
            };
            *count += 1;
        }
        census
    }
}

/// How many times `ejection.time` a member is passed over at most.
const LONGEST: u32 = 10;

fn flat(by_endpoint: &[(Arc<Endpoint>, Vec<Arc<Member>>)]) -> Vec<Arc<Member>> {
    let members = by_endpoint.iter().flat_map(|(_, members)| members);
    members.cloned().collect()
}
