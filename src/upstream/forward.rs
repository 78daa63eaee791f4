//! How does a request reach the upstream, and its answer come back?

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use futures_util::future::Either;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use tokio::time::{Instant as Deadline, sleep};

use super::body::{Flow, RequestBody, ResponseBody, Upload};
use super::connect::{Upstream, Way};
use super::lane::{Lane, Link, Sender};
use super::retry::{Copy, Retry, pause};
use crate::refusal::{Reason, Refusal};
use crate::telemetry::handles::UpstreamFault;

/// How a try failed.
enum Failure {
    Broken(hyper::Error),
    TimedOut,
    /// No byte of the request was sent.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
}

/// What is left of the right to try a request again.
struct Tries<'a> {
    retry: &'a Retry,
    copy: Copy,
    made: u32,
}

impl Upstream {
    /// Sends a request and waits for the head of the answer.
    ///
    /// A kept connection that died before a byte of the request was sent is replaced by another;
    /// nothing else is tried again unless `retry` allows it, since some admin APIs run destructive
    /// commands as GET.
    ///
    /// # Errors
    /// [`Reason::UpstreamUnreachable`], [`Reason::UpstreamUnavailable`],
    /// [`Reason::UpstreamTimeout`], [`Reason::UpstreamBroken`]; [`Reason::RequestTimeout`] or
    /// [`Reason::MalformedRequest`] if it was the client that stalled or broke off;
    /// [`Reason::BodyTooLarge`] if it sent more than the route takes, [`Reason::UploadTooSlow`] if
    /// it did so too slowly.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        upload: &Rc<Upload>,
        now: Instant,
        retry: Option<&Retry>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut tries = retry.and_then(|retry| {
            let copy = retry.copy(&request)?;
            self.budget.earn();
            let made = 0;
            Some(Tries { retry, copy, made })
        });
        let mut avoided: Option<Rc<Lane>> = None;
        let mut unsent = 0;
        loop {
            let at_once = match avoided {
                None => self.way_at_once(now),
                Some(_) => None,
            };
            let mut way = match at_once {
                Some(way) => way,
                None => Box::pin(self.way(now, avoided.as_ref())).await?,
            };
            if let Sender::Http2 { .. } = way.link.sender {
                as_http2(
                    &mut request,
                    way.turn.lane.member.endpoint.tls_name.is_some(),
                )?;
            }
            let error = match self.exchange(&mut way.link, request, upload).await {
                Ok(response) => {
                    let status = response.status();
                    let is_ill = matches!(status.as_u16(), 502..=504);
                    match is_ill {
                        true => self.failed(&way.turn.lane.member, now),
                        false => way.turn.lane.member.succeeded(),
                    }
                    let is_failure = |tries: &Tries<'_>| tries.retry.is_failure(status);
                    if !tries.as_ref().is_some_and(is_failure) || !self.may_again(&mut tries) {
                        return Ok(self.lease(response, way));
                    }
                    None
                }
                Err(Failure::Unsent(again, _)) if way.is_kept && unsent < MOST_UNSENT => {
                    unsent += 1;
                    request = *again;
                    continue;
                }
                Err(failure) => {
                    let (refusal, is_upstreams) = self.tell(failure, upload);
                    if is_upstreams {
                        self.failed(&way.turn.lane.member, now);
                    }
                    Some((refusal, is_upstreams))
                }
            };
            if let Some((refusal, is_upstreams)) = error
                && (!is_upstreams
                    || refusal.reason != Reason::UpstreamBroken
                    || !self.may_again(&mut tries))
            {
                return Err(refusal);
            }
            let Some(Tries { copy, made, .. }) = &tries else {
                return Err(Reason::Internal.into());
            };
            request = copy.request(RequestBody(Rc::clone(upload)));
            let made = *made;
            avoided = Some(Rc::clone(&way.turn.lane));
            drop(way);
            sleep(pause(made)).await;
        }
    }

    fn may_again(&self, tries: &mut Option<Tries<'_>>) -> bool {
        let Some(tries) = tries
            .as_mut()
            .filter(|tries| tries.made < tries.retry.tries)
        else {
            return false;
        };
        let may = self.budget.pay();
        if may {
            tries.made += 1;
        }
        self.metrics.retried(may);
        may
    }

    fn lease(self: &Rc<Self>, response: Response<Incoming>, way: Way) -> Response<ResponseBody> {
        let status = response.status();
        let upstream = Rc::clone(self);
        response.map(|body| ResponseBody::new(body, status, (way.link, way.turn, upstream)))
    }

    /// One try on one connection.
    async fn exchange(
        &self,
        link: &mut Link,
        request: Request<RequestBody>,
        upload: &Upload,
    ) -> Result<Response<Incoming>, Failure> {
        let answer = match &mut link.sender {
            Sender::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Sender::Http2 { sender, .. } => Either::Right(sender.try_send_request(request)),
        };
        let mut answer = pin!(answer);
        let limit = self.spec.config.response_timeout.0;
        // The body of an earlier answer may have put it off.
        let due = Deadline::from_std(upload.last() + limit);
        if link.alarm.deadline() > due {
            link.alarm.as_mut().reset(due);
        }
        poll_fn(|context| {
            if let Poll::Ready(outcome) = answer.as_mut().poll(context) {
                return Poll::Ready(outcome.map_err(|mut error| match error.take_message() {
                    Some(unsent) => Failure::Unsent(Box::new(unsent), error.into_error()),
                    None => Failure::Broken(error.into_error()),
                }));
            }
            loop {
                ready!(link.alarm.as_mut().poll(context));
                let due = Deadline::from_std(upload.last() + limit);
                if due <= Deadline::now() {
                    return Poll::Ready(Err(Failure::TimedOut));
                }
                link.alarm.as_mut().reset(due);
            }
        })
        .await
    }

    /// What a failure means, and whether it is the upstream's.
    fn tell(&self, failure: Failure, upload: &Upload) -> (Refusal, bool) {
        match (failure, upload.flow()) {
            (Failure::TimedOut, Flow::Downstream) => (Reason::RequestTimeout.into(), false),
            (Failure::TimedOut, _) => {
                self.metrics.fault(UpstreamFault::ResponseTimeout);
                let limit = humantime::format_duration(self.spec.config.response_timeout.0);
                let cause = format!("no answer within response_timeout, {limit}");
                (Refusal::with_cause(Reason::UpstreamTimeout, cause), true)
            }
            (Failure::Broken(error) | Failure::Unsent(_, error), Flow::Broken) => {
                (Refusal::with_cause(Reason::MalformedRequest, error), false)
            }
            (_, Flow::Excessive) => (Reason::BodyTooLarge.into(), false),
            (_, Flow::TooSlow) => (Reason::UploadTooSlow.into(), false),
            (Failure::Broken(error) | Failure::Unsent(_, error), _) => {
                self.metrics.fault(UpstreamFault::Broken);
                (Refusal::with_cause(Reason::UpstreamBroken, error), true)
            }
        }
    }
}

/// How many kept connections may turn out to be dead, one after the other.
const MOST_UNSENT: u32 = 256;

/// Gives a request the form that it has over HTTP/2 (RFC 9113 sections 8.2.2 and 8.3.1): the host
/// is part of the target, and nothing in it belongs to one connection.
fn as_http2(request: &mut Request<RequestBody>, is_tls: bool) -> Result<(), Refusal> {
    let headers = request.headers_mut();
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    headers.remove(TRANSFER_ENCODING);
    // One that was not sent has its form already.
    let Some(host) = headers.remove(HOST) else {
        return Ok(());
    };
    let malformed = |_| Refusal::from(Reason::MalformedRequest);
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(match is_tls {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    });
    parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(malformed)?);
    let uri = Uri::from_parts(parts);
    *request.uri_mut() = uri.map_err(|_| Refusal::from(Reason::MalformedRequest))?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}
