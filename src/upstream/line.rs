//! How does a session get a connection to an upstream for itself alone?

use std::rc::Rc;
use std::time::Instant;

use tokio::time::timeout;

use super::connect::{MOST_TRIES, Upstream};
use super::lane::{Lane, Turn};
use super::open::{self, OpenError};
use crate::clock;
use crate::refusal::{Reason, Refusal};
use crate::stream::Stream;
use crate::telemetry::handles::{Open, UpstreamFault};

/// What lives as long as such a connection.
#[derive(Debug)]
pub(crate) struct Held {
    turn: Turn,
    _open: Open,
}

impl Upstream {
    /// A connection that nobody else uses, within the bounds of all others; the addresses are
    /// tried as for a request. How its address does is known once [`Upstream::judge_line`] is told.
    ///
    /// # Errors
    /// [`Reason::UpstreamUnreachable`], [`Reason::UpstreamUnavailable`],
    /// [`Reason::UpstreamTimeout`].
    pub(crate) async fn line(&self, now: Instant) -> Result<(Stream, Held), Refusal> {
        let config = &self.spec.config;
        let permit = self.breaker.turn(config.connect_timeout.0).await;
        let permit = permit.map_err(|busy| {
            self.metrics.fault(UpstreamFault::Busy);
            Refusal::with_cause(Reason::UpstreamUnavailable, busy)
        })?;
        self.know_lanes().await;
        let (mut tried, mut last) = (Vec::new(), None);
        let mut next = self.pick(now, &tried);
        while let Some(lane) = next {
            match self.reach(&lane).await {
                Ok(stream) => {
                    let held = Held {
                        turn: Turn::new(lane, permit),
                        _open: self.metrics.connection(),
                    };
                    return Ok((stream, held));
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

    /// Takes note of whether such a connection's address did what it was asked.
    pub(crate) fn judge_line(&self, held: &Held, is_well: bool) {
        let member = &held.turn.lane.member;
        match is_well {
            true => member.succeeded(),
            false => self.failed(member, clock::now()),
        }
    }

    async fn reach(&self, lane: &Rc<Lane>) -> Result<Stream, OpenError> {
        let opening = open::stream(&self.spec, &lane.member);
        let opened = timeout(self.spec.config.connect_timeout.0, opening).await;
        opened.map_err(|_| OpenError::Timeout {
            member: lane.member.to_string(),
        })?
    }
}
