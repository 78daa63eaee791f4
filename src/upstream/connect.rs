//! Which address gets a request, and over which connection? Each worker keeps its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use super::breaker::Breaker;
use super::cluster::Member;
use super::lane::{Lane, Link, Multiplexed, STREAMS, Turn};
use super::open::OpenError;
use super::retry::Budget;
use super::{Protocol, UpstreamSpec};
use crate::clock;
use crate::refusal::{Reason, Refusal};
use crate::telemetry::handles::{UpstreamFault, UpstreamMetrics};

/// One worker's connections to one upstream.
#[derive(Debug)]
pub struct Upstream {
    pub(crate) spec: Arc<UpstreamSpec>,
    label: Rc<str>,
    pub(crate) metrics: UpstreamMetrics,
    lanes: RefCell<Vec<Rc<Lane>>>,
    /// The cluster's when `lanes` were made.
    version: Cell<u64>,
    pub(super) breaker: Breaker,
    pub(super) budget: Budget,
}

/// The most addresses that are tried for one request.
pub(super) const MOST_TRIES: usize = 5;

/// What a request is sent with.
pub(super) struct Way {
    pub(super) link: Link,
    pub(super) turn: Turn,
    /// Whether the connection was used before, and so may have died meanwhile.
    pub(super) is_kept: bool,
}

impl Upstream {
    /// No connection yet.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>, metrics: UpstreamMetrics) -> Rc<Self> {
        let turns = match spec.config.protocol {
            Protocol::Http1 | Protocol::Mqtt => spec.connections,
            Protocol::Http2 => spec.connections.saturating_mul(STREAMS),
        };
        Rc::new(Self {
            label: Rc::from(&*spec.name),
            breaker: Breaker::new(turns, spec.pending),
            budget: Budget::new(spec.config.retry_budget),
            spec,
            metrics,
            lanes: RefCell::default(),
            version: Cell::new(0),
        })
    }

    /// The name in config, metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.label
    }

    /// The name, to be kept by whoever logs it: counted on this worker alone.
    #[must_use]
    pub const fn label(&self) -> &Rc<str> {
        &self.label
    }

    /// The host and port of its first endpoint, for requests of the gate's own.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.spec.authority
    }

    /// A turn and a kept connection, if both can be had at once.
    pub(super) fn way_at_once(&self, now: Instant) -> Option<Way> {
        self.catch_up();
        let lane = self.pick(now, &[])?;
        let permit = self.breaker.try_turn()?;
        let link = lane.take(&self.spec, now)?;
        Some(Way {
            link,
            turn: Turn::new(lane, permit),
            is_kept: true,
        })
    }

    /// A turn and a connection, kept or new; on another address than `avoided` if there is one.
    pub(super) async fn way(
        &self,
        now: Instant,
        avoided: Option<&Rc<Lane>>,
    ) -> Result<Way, Refusal> {
        let config = &self.spec.config;
        let permit = self.breaker.turn(config.connect_timeout.0).await;
        let permit = permit.map_err(|busy| {
            self.metrics.fault(UpstreamFault::Busy);
            Refusal::with_cause(Reason::UpstreamUnavailable, busy)
        })?;
        self.know_lanes().await;
        let mut tried: Vec<_> = avoided.cloned().into_iter().collect();
        let mut last = None;
        let first = self.pick(now, &tried).or_else(|| self.pick(now, &[]));
        let mut next = first;
        while let Some(lane) = next {
            let link = match lane.take(&self.spec, now) {
                Some(link) => Ok((link, true)),
                None => self.connect(&lane, now).await,
            };
            match link {
                Ok((link, is_kept)) => {
                    let turn = Turn::new(lane, permit);
                    return Ok(Way {
                        link,
                        turn,
                        is_kept,
                    });
                }
                Err(error) => {
                    self.metrics.fault(error.fault());
                    self.failed(&lane.member, now);
                    last = Some(error);
                    tried.push(lane);
                }
            }
            next = match tried.len() < MOST_TRIES {
                true => self.pick(now, &tried),
                false => None,
            };
        }
        Err(self.no_way(last))
    }

    /// Takes over what the cluster's members are, once its names are known.
    pub(super) async fn know_lanes(&self) {
        self.catch_up();
        if self.lanes.borrow().is_empty() {
            let limit = self.spec.config.connect_timeout.0;
            let _ = timeout(limit, self.spec.cluster.known()).await;
            self.catch_up();
        }
    }

    pub(super) fn no_way(&self, last: Option<OpenError>) -> Refusal {
        match last {
            Some(error) if error.fault() == UpstreamFault::ConnectTimeout => {
                Refusal::with_cause(Reason::UpstreamTimeout, error)
            }
            Some(error) => Refusal::with_cause(Reason::UpstreamUnreachable, error),
            None if self.lanes.borrow().is_empty() => {
                self.metrics.fault(UpstreamFault::Unresolved);
                let cause = "no address of it is known: the DNS has not told any";
                Refusal::with_cause(Reason::UpstreamUnreachable, cause)
            }
            None => {
                self.metrics.fault(UpstreamFault::Unhealthy);
                let cause = "all its endpoints fail their health checks";
                Refusal::with_cause(Reason::UpstreamUnavailable, cause)
            }
        }
    }

    /// Takes over what the cluster's members are by now. What is left of a lane that went ends
    /// with its last exchange.
    fn catch_up(&self) {
        let version = self.spec.cluster.version();
        if self.version.get() == version {
            return;
        }
        self.version.set(version);
        let mut lanes = self.lanes.borrow_mut();
        let members = self.spec.cluster.members();
        let lane = |member: &Arc<Member>| {
            let known = lanes.iter().find(|lane| Arc::ptr_eq(&lane.member, member));
            known.map_or_else(|| Lane::new(Arc::clone(member)), Rc::clone)
        };
        *lanes = members.iter().map(lane).collect();
    }

    /// Of two members picked by chance, the one with fewer requests of this worker under way
    /// ("power of two choices"); none that was tried. One that is passed over gets its chance
    /// where no other is left; one that fails its health checks does not.
    pub(super) fn pick(&self, now: Instant, tried: &[Rc<Lane>]) -> Option<Rc<Lane>> {
        let lanes = self.lanes.borrow();
        let cluster = &self.spec.cluster;
        if let [only] = lanes.as_slice() {
            let may = tried.is_empty() && only.member.is_up();
            return may.then(|| Rc::clone(only));
        }
        let is_new = |lane: &&Rc<Lane>| !tried.iter().any(|tried| Rc::ptr_eq(tried, lane));
        let is_asked = |lane: &&Rc<Lane>| is_new(lane) && cluster.is_asked(&lane.member, now);
        let is_left = |lane: &&Rc<Lane>| is_new(lane) && lane.member.is_up();
        let asked = lanes.iter().filter(is_asked).count();
        if asked > 0 {
            return of_two(|at| lanes.iter().filter(is_asked).nth(at), asked);
        }
        let left = lanes.iter().filter(is_left).count();
        of_two(|at| lanes.iter().filter(is_left).nth(at), left)
    }

    async fn connect(&self, lane: &Rc<Lane>, now: Instant) -> Result<(Link, bool), OpenError> {
        self.make_room();
        let limit = self.spec.config.connect_timeout.0;
        let late = |_| OpenError::Timeout {
            member: lane.member.to_string(),
        };
        match self.spec.config.protocol {
            // No request goes to an upstream of MQTT: the config is refused.
            Protocol::Http1 | Protocol::Mqtt => {
                let opening = Link::open(&self.spec, &self.metrics, &lane.member);
                let opened = timeout(limit, opening).await.map_err(late)?;
                Ok((opened?, false))
            }
            Protocol::Http2 => {
                let failures = lane.failures.get();
                // Whoever comes meanwhile waits for this one, and then uses it, too.
                let _opening = lane.opening.acquire().await;
                if let Some(link) = lane.take(&self.spec, now) {
                    return Ok((link, true));
                }
                // Nor does it begin anew behind everyone who waited longer.
                if lane.failures.get() != failures {
                    return Err(OpenError::Shared {
                        member: lane.member.to_string(),
                        fault: lane.last_fault.get(),
                    });
                }
                let opening = Multiplexed::open(&self.spec, &self.metrics, &lane.member);
                let opened = timeout(limit, opening).await.map_err(late);
                let opened = opened.and_then(|opened| opened);
                let opened = opened.inspect_err(|error| lane.failed(error.fault()))?;
                lane.multiplexed.borrow_mut().push(opened);
                let link = lane.take(&self.spec, clock::now());
                let link = link.ok_or_else(|| OpenError::NoHttp2 {
                    member: lane.member.to_string(),
                })?;
                Ok((link, false))
            }
        }
    }

    /// Closes an unused connection where all that there may be are open: those under way and those
    /// unused are never more than the bound.
    fn make_room(&self) {
        let lanes = self.lanes.borrow();
        let idle: usize = lanes.iter().map(|lane| lane.unused()).sum();
        let is_full = self.breaker.taken().saturating_add(idle) > self.spec.connections;
        if self.spec.config.protocol == Protocol::Http1 && is_full {
            let fullest = lanes.iter().max_by_key(|lane| lane.unused());
            fullest.into_iter().for_each(|lane| lane.give_one_up());
        }
    }

    /// A request to the member failed.
    pub(super) fn failed(&self, member: &Member, now: Instant) {
        let cluster = &self.spec.cluster;
        if let Some(time) = cluster.failed(member, now, &self.spec.config.ejection) {
            self.metrics.ejected();
            let time = humantime::format_duration(time);
            tracing::warn!(
                upstream = &*self.label,
                endpoint = %member,
                "an endpoint is passed over for {time}, since requests to it failed"
            );
        }
    }

    /// Drops connections that were unused for too long.
    pub fn sweep(&self, now: Instant) {
        let lanes = self.lanes.borrow();
        lanes.iter().for_each(|lane| lane.sweep(&self.spec, now));
    }
}

/// Of two picked by chance among `count`, the one with fewer requests under way.
fn of_two<'a>(nth: impl Fn(usize) -> Option<&'a Rc<Lane>>, count: usize) -> Option<Rc<Lane>> {
    if count < 2 {
        return nth(0).cloned();
    }
    let at = fastrand::usize(..count);
    let other = (at + fastrand::usize(1..count)) % count;
    let (first, second) = (nth(at)?, nth(other)?);
    let fewer = match second.in_flight.get() < first.in_flight.get() {
        true => second,
        false => first,
    };
    Some(Rc::clone(fewer))
}
