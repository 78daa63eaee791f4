//! How does a request reach the upstream, and its answer come back?

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant as Deadline;

use super::body::{Flow, RequestBody, ResponseBody, Upload};
use super::connect::{Link, Upstream};
use crate::refusal::{Reason, Refusal};
use crate::telemetry::handles::UpstreamFault;

/// How a try failed.
enum Failure {
    Broken(hyper::Error),
    TimedOut,
    /// No byte of the request was sent.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
}

impl Upstream {
    /// Sends a request and waits for the head of the answer.
    ///
    /// A kept connection that died before a byte of the request was sent is replaced by another;
    /// nothing else is ever tried again, since some admin APIs run destructive commands as GET.
    ///
    /// # Errors
    /// [`Reason::UpstreamUnreachable`], [`Reason::UpstreamTimeout`], [`Reason::UpstreamBroken`];
    /// [`Reason::RequestTimeout`] or [`Reason::MalformedRequest`] if it was the client that
    /// stalled or broke off; [`Reason::BodyTooLarge`] if it sent more than the route takes.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        upload: &Upload,
        now: Instant,
    ) -> Result<Response<ResponseBody>, Refusal> {
        loop {
            let kept = self.take_idle(now);
            let is_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => self.connect().await?,
            };
            match self.exchange(&mut link, request, upload).await {
                Ok(response) => {
                    let upstream = Rc::clone(self);
                    return Ok(response.map(|body| ResponseBody::new(body, link, upstream)));
                }
                Err(Failure::Unsent(unsent, _)) if is_kept => request = *unsent,
                Err(Failure::Unsent(_, error) | Failure::Broken(error)) => {
                    return Err(self.broken(error, upload));
                }
                Err(Failure::TimedOut) => return Err(self.timed_out(upload)),
            }
        }
    }

    /// One try on one connection.
    async fn exchange(
        &self,
        link: &mut Link,
        request: Request<RequestBody>,
        upload: &Upload,
    ) -> Result<Response<Incoming>, Failure> {
        let mut answer = pin!(link.sender.try_send_request(request));
        let limit = self.spec.response_timeout;
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

    fn broken(&self, error: hyper::Error, upload: &Upload) -> Refusal {
        match upload.flow() {
            Flow::Broken => return Refusal::with_cause(Reason::MalformedRequest, error),
            Flow::Excessive => return Reason::BodyTooLarge.into(),
            Flow::Downstream | Flow::Upstream => {}
        }
        self.metrics.fault(UpstreamFault::Broken);
        Refusal::with_cause(Reason::UpstreamBroken, error)
    }

    fn timed_out(&self, upload: &Upload) -> Refusal {
        if upload.flow() == Flow::Downstream {
            return Reason::RequestTimeout.into();
        }
        self.metrics.fault(UpstreamFault::ResponseTimeout);
        let limit = humantime::format_duration(self.spec.response_timeout);
        let cause = format!("no answer within response_timeout, {limit}");
        Refusal::with_cause(Reason::UpstreamTimeout, cause)
    }
}
